//! Connections: how many, how long, and how large their requests may be. Never what they ask for.

use super::{
    answer::Answer,
    host::{self, Hosts},
};
use anyhow::Context as _;
use clap::Args;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener as StdListener},
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

/// What is served.
pub trait HttpService: Send + Sync + 'static {
    /// Answers a request that names this server. `watched` is told of an answer that goes on.
    fn answer(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        watched: &Arc<Watched>,
    ) -> impl Future<Output = Answer> + Send;
}

/// Who may reach what is served at `--http`.
#[derive(Args, Clone, Debug, Default)]
pub struct HttpArgs {
    /// Let other hosts reach the address of --http. It has no encryption
    #[arg(long, requires = "http")]
    http_public: bool,
    /// A name by which HTTP requests may call this host, besides addresses and localhost (repeatable)
    #[arg(long = "http-host", value_name = "NAME", requires = "http")]
    http_hosts: Vec<String>,
}

/// A socket that listens for HTTP.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    hosts: Hosts,
}

impl Listener {
    /// Listens at an address, which has to be one of this host alone unless the options say otherwise.
    pub fn open(address: SocketAddr, options: &HttpArgs) -> anyhow::Result<Self> {
        anyhow::ensure!(
            address.ip().is_loopback() || options.http_public,
            "--http {address} would be reached from other hosts, and HTTP has no encryption: use 127.0.0.1, or say \
             --http-public"
        );
        let socket = StdListener::bind(address)
            .with_context(|| format!("cannot listen for HTTP at {address} (--http)"))?;
        socket.set_nonblocking(true).context("cannot listen for HTTP")?;
        Ok(Listener { socket, hosts: Hosts::new(&options.http_hosts) })
    }

    /// Where it listens.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.socket.local_addr().context("the address of HTTP is unknown")
    }

    /// Serves until the process ends.
    pub fn serve(self, service: Arc<impl HttpService>) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(self.socket).context("cannot listen for HTTP")?;
        tokio::spawn(accept_all(listener, Arc::new(self.hosts), service));
        Ok(())
    }
}

async fn accept_all(listener: TcpListener, hosts: Arc<Hosts>, service: Arc<impl HttpService>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (hosts, service) = (hosts.clone(), service.clone());
                tokio::spawn(async move {
                    serve_one(stream, &hosts, &service).await;
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

async fn serve_one(stream: TcpStream, hosts: &Hosts, service: &Arc<impl HttpService>) {
    // An event is small, and a reader waits for it.
    let _ = stream.set_nodelay(true);
    let watched = Arc::new(Watched::new());
    let service = service_fn(|request: Request<Incoming>| {
        let watched = watched.clone();
        watched.asked();
        async move {
            Ok::<_, Infallible>(match hosts.allow(request.headers()) {
                true => service.answer(&request, &watched).await,
                false => host::misdirected(),
            })
        }
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
pub struct Watched {
    began: Instant,
    /// Event streams that it has: at most one, since requests follow each other.
    streams: AtomicUsize,
    /// When it last had a request, or room for more of the answer, in milliseconds since it began.
    asked_ms: AtomicU64,
}

/// An event stream of a connection.
pub struct WatchedStream(Arc<Watched>);

impl Watched {
    fn new() -> Self {
        Watched { began: Instant::now(), streams: AtomicUsize::new(0), asked_ms: AtomicU64::new(0) }
    }

    /// The answer goes on from now on.
    pub fn begin(self: &Arc<Self>) -> WatchedStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        WatchedStream(self.clone())
    }

    /// It has a request, or room for more of the answer.
    pub fn asked(&self) {
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
    pub fn asked(&self) {
        self.0.asked();
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
