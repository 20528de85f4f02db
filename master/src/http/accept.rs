//! Connections: how many, how long, and how large their requests may be. Never what they ask for.

use super::{Parts, Shared, feed::Feed, host::Hosts, token::Token};
use crate::config::Config;
use anyhow::Context as _;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    net::TcpListener as Listener,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Connections at once. Further ones wait in the kernel until one of these ends.
const CONNECTIONS_MAX: usize = 128;

/// How long a connection without an event stream may last after its last request. Prometheus gives up after 10 s by
/// default.
const CONNECTION_MAX: Duration = Duration::from_secs(15);

/// How long a request may take to arrive, and how long a connection may be without one.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// The largest head of a request in bytes, and the most headers. Bodies are not read.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// After this time without reading what it is sent, an event stream is cut off. Something is sent every 1.5 s.
const STALLED_MAX: Duration = Duration::from_secs(20);

/// The wait before another connection is accepted, when the process has no file left.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A listener for HTTP.
pub(crate) struct Server {
    listener: Listener,
    hosts: Hosts,
    token: Option<Token>,
}

impl Server {
    /// Listens, so that a wrong option is an error at the start. `None` if HTTP is not asked for.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(address) = config.http else { return Ok(None) };
        anyhow::ensure!(
            address.ip().is_loopback() || config.http_public,
            "--http {address} would be reached from other hosts, and HTTP has no encryption: use 127.0.0.1, or say \
             --http-public"
        );
        let token = config.http_token_file.as_deref().map(Token::read).transpose()?;
        let listener = Listener::bind(address)
            .with_context(|| format!("cannot listen for HTTP at {address} (--http)"))?;
        listener.set_nonblocking(true).context("cannot listen for HTTP")?;
        let address = listener.local_addr().context("the address of HTTP is unknown")?;
        tracing::info!(%address, changes = token.is_some(), "HTTP is served");
        Ok(Some(Server { listener, hosts: Hosts::new(&config.http_hosts), token }))
    }

    /// Serves until the process ends.
    pub(crate) fn serve(self, parts: Parts) -> anyhow::Result<()> {
        let Server { listener, hosts, token } = self;
        let listener = TcpListener::from_std(listener).context("cannot listen for HTTP")?;
        let Parts { metrics, changes, present, inbox, identity } = parts;
        let logs = Arc::new(Semaphore::new(super::LOGS_MAX));
        let feed = Feed::default();
        let shared =
            Shared { metrics, changes, present, inbox, identity, hosts, token, feed, logs };
        tokio::spawn(accept_all(listener, Arc::new(shared)));
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
                    serve_one(stream, shared).await;
                    drop(place);
                });
            }
            // The process has no file left, for example. The connections that end free some.
            Err(error) => {
                tracing::warn!(%error, "no HTTP connection is accepted for a moment");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, shared: Arc<Shared>) {
    // An event is small, and a reader waits for it.
    let _ = stream.set_nodelay(true);
    let watched = Arc::new(Watched::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, watched) = (shared.clone(), watched.clone());
        watched.asked();
        async move { Ok::<_, Infallible>(shared.answer(&request, &watched).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let connection = pin!(connection);
    tokio::select! {
        // How it ended matters to nobody.
        _ = connection => {}
        () = watched.is_over() => {}
    }
}

/// Whether a connection may go on.
pub(super) struct Watched {
    began: Instant,
    /// Event streams that it has: at most one, since requests follow each other.
    streams: AtomicUsize,
    /// When it last had a request, or room for more of the answer, in milliseconds since it began.
    asked_ms: AtomicU64,
}

/// An event stream of a connection.
pub(super) struct WatchedStream(Arc<Watched>);

impl Watched {
    fn new() -> Self {
        Watched { began: Instant::now(), streams: AtomicUsize::new(0), asked_ms: AtomicU64::new(0) }
    }

    /// The answer goes on from now on.
    pub(super) fn begin(self: &Arc<Self>) -> WatchedStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        WatchedStream(self.clone())
    }

    /// It has a request, or room for more of the answer.
    fn asked(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.asked_ms.store(now, Ordering::Relaxed);
    }

    /// Returns when the connection has to end.
    async fn is_over(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let asked = Duration::from_millis(self.asked_ms.load(Ordering::Relaxed));
            let has_stream = self.streams.load(Ordering::Relaxed) > 0;
            let most = if has_stream { STALLED_MAX } else { CONNECTION_MAX };
            if self.began.elapsed().saturating_sub(asked) > most {
                return;
            }
        }
    }
}

impl WatchedStream {
    /// The connection has room for more.
    pub(super) fn asked(&self) {
        self.0.asked();
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
