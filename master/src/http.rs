//! HTTP for programs that watch a master: its metrics and its health. Never changes the fleet, and never needs more
//! than a few connections.

use crate::{
    inbox::Input,
    metrics::{GROUPS_READ_MAX, Metrics, Seen},
};
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use muster_protocol::fleet::Fleet;
use muster_wire::clock;
use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener as Listener},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
};

/// Connections at once. Further ones wait until one of these ends.
const CONNECTIONS_MAX: usize = 32;

/// How long a connection may take, which has one request. Prometheus gives up after 10 s by default.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// How long the request may take to arrive.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How long the master's loop may take to answer before the master counts as not healthy.
const LOOP_WITHIN: Duration = Duration::from_secs(2);

/// The media type of the text format of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PLAIN: &str = "text/plain; charset=utf-8";

/// A listener for HTTP.
pub(crate) struct Server(Listener);

struct Shared {
    metrics: Metrics,
    inbox: mpsc::Sender<Input>,
}

impl Server {
    /// Listens, so that a port that is taken is an error at the start.
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = Listener::bind(address)
            .with_context(|| format!("cannot listen for HTTP at {address} (--http)"))?;
        listener.set_nonblocking(true).context("cannot listen for HTTP")?;
        Ok(Server(listener))
    }

    /// The address on which it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }

    /// Serves until the process ends.
    pub(crate) fn serve(self, metrics: Metrics, inbox: mpsc::Sender<Input>) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(self.0).context("cannot listen for HTTP")?;
        tokio::spawn(accept_all(listener, Arc::new(Shared { metrics, inbox })));
        Ok(())
    }
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_MAX, serve_one(stream, shared)).await;
                    drop(place);
                });
            }
            // The process has no file left, for example. The connections that end free some.
            Err(error) => {
                tracing::warn!(%error, "no HTTP connection is accepted for a moment");
                tokio::time::sleep(LOOP_WITHIN).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, shared: Arc<Shared>) -> Result<(), hyper::Error> {
    let answer = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.answer(&request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

impl Shared {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/healthz" => self.health().await,
            "/readyz" => self.readiness().await,
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let seen = self.look(|fleet| Seen {
            overview: fleet.overview(clock::boottime(), GROUPS_READ_MAX),
            is_up: fleet.is_up(),
        });
        let Some(seen) = seen.await else { return silent() };
        match self.metrics.text(&seen) {
            Ok(text) => respond(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => {
                let text = format!("the metrics cannot be written: {error}\n");
                respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, text)
            }
        }
    }

    /// Whether the process works. One that does not should be restarted.
    async fn health(&self) -> Response<Full<Bytes>> {
        match self.look(|_| ()).await {
            Some(()) => plain(StatusCode::OK, "it works\n"),
            None => silent(),
        }
    }

    /// Whether the master serves. One that does not should be given time.
    async fn readiness(&self) -> Response<Full<Bytes>> {
        match self.look(Fleet::is_up).await {
            Some(true) => plain(StatusCode::OK, "it serves\n"),
            Some(false) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "it has not loaded the registry\n")
            }
            None => silent(),
        }
    }

    /// Runs `look` on the loop. `None` if the loop does not answer.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fleet) -> T + Send + Sync + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |fleet: &Fleet, _: &_| {
            let _ = reply.send(look(fleet));
        });
        let asked = async {
            self.inbox.send(Input::Look(look)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(LOOP_WITHIN, asked).await.ok().flatten()
    }
}

fn silent() -> Response<Full<Bytes>> {
    plain(StatusCode::SERVICE_UNAVAILABLE, "the master's loop does not answer\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, PLAIN, text)
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
