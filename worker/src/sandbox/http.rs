//! Outgoing HTTP requests of guests: only to hosts that were granted, and only while the lease holds.
//! Each request names the task and the attempt, so that the server can recognize a repeated one. Never
//! sends a byte after the lease's end.

mod connection;
mod socket;
mod unsent;

use super::watch::{UnderWay, Watch};
use connection::{Gated, Stream};
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, Response,
    header::{HeaderName, HeaderValue},
    http::uri::Scheme,
};
use muster_protocol::{
    grant::{self, Grants, HttpRule},
    lease::Permit,
    message::AttemptKey,
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use socket::Socket;
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, io::TokioIo};

/// The header that names the task. It is the same for each attempt of the task, so it can serve as an
/// idempotency key.
pub const TASK_HEADER: &str = "muster-task";

/// The header that names the attempt.
pub const ATTEMPT_HEADER: &str = "muster-attempt";

/// Bytes of headers that a request or a response may have; servers allow 8 to 32 KiB.
pub const HEADERS_SIZE_MAX: usize = 32 * 1024;

/// How long each step may take unless the guest asks for less: connecting, the first byte of the
/// response, and the time between two parts of it. Proxies wait from half a minute to a minute.
pub const STEP_MAX: Duration = Duration::from_secs(30);

/// Requests of one run at the same time; further ones wait. A browser allows six for each host.
pub const REQUESTS_MAX: usize = 16;

/// Name lookups of one run at the same time; further ones wait.
pub(super) const LOOKUPS_MAX: usize = 4;

/// Sends the requests of one run, within its grants.
pub(super) struct Hooks {
    pub(super) places: Arc<Semaphore>,
    pub(super) lookups: Arc<Semaphore>,
    pub(super) allowed: Arc<Grants>,
    pub(super) key: AttemptKey,
    pub(super) watch: Arc<Watch>,
}

type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_the_workers(name)
    }

    fn forbidden_header_filter(&mut self) -> wasmtime_wasi_http::ForbiddenHeaderFilter {
        Arc::new(is_the_workers)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        64 * 1024
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        name(request.headers_mut(), self.key);
        // Created here, so that the end of the run waits for everything that follows.
        let (allowed, run) = (self.allowed.clone(), UnderWay::of(&self.watch));
        let (places, lookups) = (self.places.clone(), self.lookups.clone());
        Box::new(async move {
            let place = places.acquire_owned().await.map_err(|_| Error::ConnectionLimitReached)?;
            let (response, carrying) =
                send(allowed, run, lookups, request, options.unwrap_or_default()).await?;
            let carrying = Box::into_pin(carrying);
            let held: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async move {
                let carried = carrying.await;
                drop(place);
                carried
            });
            Ok((response, held))
        })
    }
}

/// Whether a guest may not set a header, because the worker or the runtime does.
fn is_the_workers(name: &HeaderName) -> bool {
    name == TASK_HEADER
        || name == ATTEMPT_HEADER
        || wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

fn name(headers: &mut HeaderMap, key: AttemptKey) {
    let named = [(TASK_HEADER, key.task.to_string()), (ATTEMPT_HEADER, key.attempt.to_string())];
    for (header, id) in named {
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(HeaderName::from_static(header), id);
        }
    }
}

async fn send(
    allowed: Arc<Grants>,
    run: UnderWay,
    lookups: Arc<Semaphore>,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent, Error> {
    let uri = request.uri().clone();
    let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?.to_string();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let allowed = &allowed.http;
    if !grant::may_ask(allowed, &host, port) {
        return Err(Error::HttpRequestDenied);
    }
    let within = |asked: Option<Duration>| asked.map_or(STEP_MAX, |asked| asked.min(STEP_MAX));
    let connecting = connect(allowed, &run, lookups, &host, port);
    let stream = timeout(within(options.connect_timeout), connecting)
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    let stream =
        if is_tls { Stream::Tls(secure(stream, &host).await?) } else { Stream::Plain(stream) };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEADERS_SIZE_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    // The request line has only the path; the host is in the header `Host`.
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    // Checked before the first byte; the connection checks again at every write.
    if !run.watch().is_permitted() {
        return Err(Error::ConnectionTerminated);
    }
    let carrying =
        wasmtime_wasi::runtime::spawn(async move { connection.await.map_err(Error::from) });
    let response = timeout(within(options.first_byte_timeout), sender.send_request(request))
        .await
        .map_err(|_| Error::HttpResponseTimeout)??;
    let between = within(options.between_bytes_timeout);
    let response = response.map(|body| Paced { body, between, wait: None }.boxed_unsync());
    Ok((response, Box::new(carrying)))
}

/// Connects to the first address of a host that the grants allow and that answers.
async fn connect(
    allowed: &BTreeSet<HttpRule>,
    run: &UnderWay,
    lookups: Arc<Semaphore>,
    host: &str,
    port: u16,
) -> Result<Gated, Error> {
    let bare = bare(host);
    let literal = bare.parse::<IpAddr>().ok();
    let addresses: Vec<SocketAddr> = match literal {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => look_up(run.watch(), lookups, bare.into(), port).await?,
    };
    // The address is resolved once and then used, so nobody can change it between the check and the
    // connection.
    let reachable =
        |address: &&SocketAddr| grant::may_reach(allowed, address.ip(), port, literal.is_some());
    let mut last = Error::DestinationIpProhibited;
    for address in addresses.iter().filter(reachable) {
        let dialled = run.watch().permit().map(|permit| Socket::connect(permit, *address));
        match dialled.ok_or(Error::ConnectionTerminated)?.await {
            Ok(socket) => return Ok(Gated::new(socket, run.clone())),
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

/// The addresses of a name. The system's resolver cannot be cancelled, so its permit is held until it
/// returns, even if nothing waits for it any more. It is not started for a run that has ended.
async fn look_up(
    watch: &Arc<Watch>,
    lookups: Arc<Semaphore>,
    name: String,
    port: u16,
) -> Result<Vec<SocketAddr>, Error> {
    let failed = || Error::DnsError { rcode: None, info_code: None };
    let place = lookups.acquire_owned().await.map_err(|_| failed())?;
    let watch = watch.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let _place = place;
        let permit = watch.pass(crate::clock::boottime()).map_err(|_| failed())?;
        resolve(permit, &name, port).map_err(|_| failed())
    });
    looking.await.map_err(|_| failed())?
}

/// Asks the system, which asks servers of names.
fn resolve(_: Permit<'_>, name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    (name, port).to_socket_addrs().map(Iterator::collect)
}

/// A host without the brackets around an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

async fn secure(
    stream: Gated,
    host: &str,
) -> Result<Box<tokio_rustls::client::TlsStream<Gated>>, Error> {
    let name = ServerName::try_from(bare(host).to_string()).map_err(|_| Error::TlsProtocolError)?;
    let connector = tokio_rustls::TlsConnector::from(authorities()?);
    let secured = timeout(STEP_MAX, connector.connect(name, stream)).await;
    secured.map_err(|_| Error::ConnectionTimeout)?.map(Box::new).map_err(Error::Tls)
}

/// The TLS configuration with the certificate authorities that the host trusts; read once.
fn authorities() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    // A failure is not cached: a later request may find the certificates.
    let config = (|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::error!(
                "this host has no certificate authorities: guests cannot use https; \
                install its package ca-certificates"
            );
            return None;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Some(Arc::new(builder.ok()?.with_root_certificates(roots).with_no_client_auth()))
    })();
    config.map(|config| CONFIG.get_or_init(|| config).clone()).ok_or(Error::TlsCertificateError)
}

/// The body of a response; it fails if its next part takes longer than `between`.
struct Paced {
    body: hyper::body::Incoming,
    between: Duration,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl hyper::body::Body for Paced {
    type Data = bytes::Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.wait = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let between = self.between;
        let wait = self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(between)));
        ready!(wait.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
