//! Links over TCP, where UDP is blocked: TLS as over QUIC, and HTTP/2 (RFC 9113) for streams and their flow
//! control. Never more streams, bytes or silence than over QUIC.
//!
//! The worker opens every stream, as a request. The request's path says whether the master answers on it.
//! HTTP/2 has no reason for closing a connection, so the worker's first request waits for that: the master
//! answers it with a code and a sentence.

mod listening;
mod opening;
mod streams;

pub use streams::{RecvStream, SendStream};

use super::{
    ConnectionEnd, KEEP_ALIVE, LINK_WINDOW, LOG_STREAMS_MAX, NO_COMMON_PROTOCOL, STREAM_WINDOW,
    STREAMS_MAX, broken,
};
use bytes::Bytes;
use futures::FutureExt as _;
use h2::{client, server};
use http::{HeaderValue, Method, Request, Response};
use listening::Heard;
use muster_protocol::message::{JOIN_ALPN, JOIN_SIZE_MAX};
use opening::Opening;
use rustls::{AlertDescription, ClientConfig, CommonState, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Mutex, mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The paths of requests: a stream for a request and its answer, a stream that only the worker writes, and
/// the request that is answered when the master closes the link.
const BOTH: &str = "/both";
const ONE_WAY: &str = "/one-way";
const CLOSED: &str = "/closed";

/// The headers of the answer that closes a link.
const CODE: &str = "muster-code";
const REASON: &str = "muster-reason";

/// The largest headers of a request or of an answer, in bytes.
const HEADERS_MAX: u32 = 4 * 1024;

/// Streams of a link at once, with the one that waits for the end.
const STREAMS: u32 = STREAMS_MAX + LOG_STREAMS_MAX + 1;

/// The same of a program that joins: its request, and the one that waits for the end.
const STREAMS_TO_JOIN: u32 = 2;

/// Bytes that may wait in the kernel to be sent: those of one stream. Frames wait behind all of them.
const KERNEL_BUFFER: u32 = STREAM_WINDOW;

/// How long the end of a link may follow the end of a stream that it has caused.
const END_WITHIN: Duration = Duration::from_millis(100);

/// Connections that the kernel may hold until the master accepts them.
const BACKLOG: u32 = 256;

/// A connection; clones are the same one. When the last clone and the last stream are dropped, it is closed.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: SocketAddr,
    protocol: Vec<u8>,
    certificate: Option<CertificateDer<'static>>,
    role: Role,
    end: watch::Sender<Option<ConnectionEnd>>,
    /// What the peer is told, once this end has closed it.
    farewell: Farewell,
}

/// The code and the reason with which this end closes a connection. They outlive the connection until the peer has
/// been told.
type Farewell = Arc<OnceLock<(u32, Vec<u8>)>>;

#[derive(Debug)]
enum Role {
    Worker(client::SendRequest<Bytes>),
    Master { both: Opened<(SendStream, RecvStream)>, one_way: Opened<RecvStream> },
}

/// The streams that the peer has opened and nobody has accepted yet.
type Opened<T> = Mutex<mpsc::Receiver<T>>;

/// Where a master listens for connections.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
}

impl Listener {
    /// Listens at this address.
    pub fn open(address: SocketAddr, tls: ServerConfig) -> io::Result<Self> {
        let socket = socket(address)?;
        // A master that is started again gets its port at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Listener { listener: socket.listen(BACKLOG)?, tls: Arc::new(tls) })
    }

    /// The next peer. Nothing is known of it but its address, to which the kernel has sent something that
    /// came back.
    pub async fn next(&self) -> io::Result<Incoming> {
        let (tcp, remote) = self.listener.accept().await?;
        Ok(Incoming { tcp, remote, tls: self.tls.clone() })
    }
}

/// A connection whose handshake has not begun. If it is dropped, it is closed.
#[derive(Debug)]
pub struct Incoming {
    tcp: TcpStream,
    remote: SocketAddr,
    tls: Arc<ServerConfig>,
}

/// Connects to a master whose certificate has the name `host`. The caller limits the time.
pub async fn connect(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    host: &str,
) -> Result<super::Connection, ConnectionEnd> {
    let tcp = socket(address).map_err(of_io)?.connect(address).await.map_err(of_io)?;
    tcp.set_nodelay(true).map_err(of_io)?;
    let name = ServerName::try_from(host.to_owned()).map_err(broken)?;
    let tls = TlsConnector::from(tls).connect(name, tcp).await.map_err(of_io)?;
    let (protocol, certificate) = peer(tls.get_ref().1)?;
    let (tls, heard) = Heard::of(tls);
    let shaken = client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(LINK_WINDOW)
        .initial_max_send_streams(STREAMS as usize)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .max_header_list_size(HEADERS_MAX)
        .handshake(tls)
        .await;
    let (mut sender, h2) = shaken.map_err(of_h2)?;
    let (farewell, _) = sender.send_request(request(CLOSED), true).map_err(of_h2)?;
    let (connection, end) = Connection::new(address, protocol, certificate, Role::Worker(sender));
    let inner = Arc::downgrade(&connection.0);
    tokio::spawn(async move { report(&inner, dialled(h2, farewell, end, heard).await) });
    Ok(super::Connection::Tcp(connection))
}

impl Incoming {
    /// The address of the peer.
    pub fn remote_address(&self) -> SocketAddr {
        self.remote
    }

    /// Completes the handshake. The caller limits the time.
    pub async fn shake_hands(self) -> Result<super::Connection, ConnectionEnd> {
        let Incoming { tcp, remote, tls } = self;
        tcp.set_nodelay(true).map_err(of_io)?;
        let tls = TlsAcceptor::from(tls).accept(tcp).await.map_err(of_io)?;
        let (protocol, certificate) = peer(tls.get_ref().1)?;
        let (streams, window, link_window) = match protocol == JOIN_ALPN {
            true => (STREAMS_TO_JOIN, JOIN_SIZE_MAX as u32, STREAMS_TO_JOIN * JOIN_SIZE_MAX as u32),
            false => (STREAMS, STREAM_WINDOW, LINK_WINDOW),
        };
        let (tls, heard) = Heard::of(tls);
        let h2 = server::Builder::new()
            .max_concurrent_streams(streams)
            .initial_window_size(window)
            .initial_connection_window_size(link_window)
            .max_send_buffer_size(STREAM_WINDOW as usize)
            .max_header_list_size(HEADERS_MAX)
            .handshake(tls)
            .await
            .map_err(of_h2)?;
        let (both, both_opened) = mpsc::channel(STREAMS as usize);
        let (one_way, one_way_opened) = mpsc::channel(LOG_STREAMS_MAX as usize);
        let role =
            Role::Master { both: Mutex::new(both_opened), one_way: Mutex::new(one_way_opened) };
        let (connection, end) = Connection::new(remote, protocol, certificate, role);
        let opening = Opening::new(&connection.0, both, one_way);
        tokio::spawn(opening.serve(h2, end, heard));
        Ok(super::Connection::Tcp(connection))
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_send_buffer_size(KERNEL_BUFFER)?;
    Ok(socket)
}

/// What the peer agreed on, and the certificate that it has shown.
fn peer(tls: &CommonState) -> Result<(Vec<u8>, Option<CertificateDer<'static>>), ConnectionEnd> {
    // TLS over TCP also lets in who names no protocol at all.
    let protocol = tls.alpn_protocol().ok_or(ConnectionEnd::NothingInCommon)?.to_vec();
    let chain = tls.peer_certificates().unwrap_or_default();
    Ok((protocol, chain.first().map(|leaf| leaf.clone().into_owned())))
}

fn request(path: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    request
}

/// Carries a connection that this process has opened, until it ends. Returns why, unless this process has
/// closed it.
async fn dialled<T: AsyncRead + AsyncWrite + Unpin>(
    mut h2: client::Connection<T, Bytes>,
    mut farewell: client::ResponseFuture,
    end: watch::Receiver<Option<ConnectionEnd>>,
    heard: Heard,
) -> Option<ConnectionEnd> {
    let pings = h2.ping_pong();
    tokio::select! {
        biased;
        () = closed_here(end) => None,
        told = &mut farewell => Some(told.map_or_else(of_h2, |told| said(&told))),
        ended = &mut h2 => Some(match (&mut farewell).now_or_never() {
            // It was told before the connection ended.
            Some(Ok(told)) => said(&told),
            _ => ended.err().map_or_else(at_its_end, of_h2),
        }),
        () = keep_alive(pings) => None,
        () = heard.silence() => Some(ConnectionEnd::Silent),
    }
}

/// Asks the peer for a sign of life, for ever. It answers by itself.
async fn keep_alive(pings: Option<h2::PingPong>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    while pings.ping(h2::Ping::opaque()).await.is_ok() {
        tokio::time::sleep(KEEP_ALIVE).await;
    }
    // The connection knows why.
    std::future::pending().await
}

/// What the answer says that closes a link.
fn said<T>(answer: &Response<T>) -> ConnectionEnd {
    let header = |name: &str| answer.headers().get(name).map(HeaderValue::as_bytes);
    let code = header(CODE).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    let reason = String::from_utf8_lossy(header(REASON).unwrap_or_default()).into_owned();
    ConnectionEnd::Closed { code: code.unwrap_or_default(), reason }
}

/// Waits until this process has closed the connection, or has dropped all of it.
async fn closed_here(mut end: watch::Receiver<Option<ConnectionEnd>>) {
    let _ = end.wait_for(Option::is_some).await;
}

/// Says why the connection has ended, unless that is known.
fn report(inner: &Weak<Inner>, ended: Option<ConnectionEnd>) {
    if let (Some(inner), Some(ended)) = (inner.upgrade(), ended) {
        inner.end(ended);
    }
}

impl Inner {
    fn end(&self, why: ConnectionEnd) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(why);
            is_first
        });
    }

    async fn ended(&self) -> ConnectionEnd {
        let mut end = self.end.subscribe();
        // The sender is in `self`.
        let end = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or(ConnectionEnd::Here)
    }

    /// Does something with a stream until the connection ends. Then all streams have ended, whatever they
    /// still have.
    async fn unless_ended<T>(
        &self,
        work: impl Future<Output = Result<T, ConnectionEnd>>,
    ) -> Result<T, ConnectionEnd> {
        let done = tokio::select! {
            biased;
            end = self.ended() => Err(end),
            done = work => done,
        };
        match (&done, &self.role) {
            // Why the master closes the link arrives after the end of the link's streams.
            (Err(_), Role::Worker(_)) => {
                tokio::time::timeout(END_WITHIN, self.ended()).await.map_or(done, Err)
            }
            _ => done,
        }
    }
}

impl Connection {
    fn new(
        remote: SocketAddr,
        protocol: Vec<u8>,
        certificate: Option<CertificateDer<'static>>,
        role: Role,
    ) -> (Self, watch::Receiver<Option<ConnectionEnd>>) {
        let (end, ended) = watch::channel(None);
        let farewell = Farewell::default();
        (Connection(Arc::new(Inner { remote, protocol, certificate, role, end, farewell })), ended)
    }

    async fn open(
        &self,
        path: &'static str,
    ) -> Result<(client::ResponseFuture, SendStream), ConnectionEnd> {
        let Role::Worker(sender) = &self.0.role else {
            return Err(ConnectionEnd::Broken("only a worker opens streams".into()));
        };
        let opened = async {
            let mut sender = sender.clone().ready().await.map_err(of_h2)?;
            sender.send_request(request(path), false).map_err(of_h2)
        };
        let (answer, send) = self.0.unless_ended(opened).await?;
        Ok((answer, SendStream::new(send, self.0.clone())))
    }

    /// See [`super::Connection::open_bi`].
    pub(super) async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionEnd> {
        let (answer, send) = self.open(BOTH).await?;
        Ok((send, RecvStream::awaited(answer, self.0.clone())))
    }

    /// See [`super::Connection::open_uni`].
    pub(super) async fn open_uni(&self) -> Result<SendStream, ConnectionEnd> {
        Ok(self.open(ONE_WAY).await?.1)
    }

    /// See [`super::Connection::accept_bi`].
    pub(super) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionEnd> {
        match &self.0.role {
            Role::Master { both, .. } => self.accept(both).await,
            Role::Worker(_) => Err(self.0.ended().await),
        }
    }

    /// See [`super::Connection::accept_uni`].
    pub(super) async fn accept_uni(&self) -> Result<RecvStream, ConnectionEnd> {
        match &self.0.role {
            Role::Master { one_way, .. } => self.accept(one_way).await,
            Role::Worker(_) => Err(self.0.ended().await),
        }
    }

    async fn accept<T>(&self, opened: &Opened<T>) -> Result<T, ConnectionEnd> {
        let next = async {
            match opened.lock().await.recv().await {
                Some(stream) => Ok(stream),
                None => Err(self.0.ended().await),
            }
        };
        self.0.unless_ended(next).await
    }

    /// See [`super::Connection::close`].
    pub(super) fn close(&self, code: u32, reason: &[u8]) {
        let _ = self.0.farewell.set((code, reason.to_vec()));
        self.0.end(ConnectionEnd::Here);
    }

    /// See [`super::Connection::closed`].
    pub(super) async fn closed(&self) -> ConnectionEnd {
        self.0.ended().await
    }

    /// See [`super::Connection::close_reason`].
    pub(super) fn close_reason(&self) -> Option<ConnectionEnd> {
        self.0.end.borrow().clone()
    }

    /// The address of the peer.
    pub(super) fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    /// The protocol that both ends agreed on.
    pub(super) fn protocol(&self) -> &[u8] {
        &self.0.protocol
    }

    /// The certificate that the peer has shown.
    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.0.certificate.as_ref()
    }
}

fn at_its_end() -> ConnectionEnd {
    ConnectionEnd::Broken("the peer has ended the connection".into())
}

fn of_h2(error: h2::Error) -> ConnectionEnd {
    match error.get_io() {
        Some(_) => of_io(error.into_io().expect("it has one")),
        None => broken(error),
    }
}

fn of_io(error: io::Error) -> ConnectionEnd {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        // Who ends a link does not say so in TLS.
        return at_its_end();
    }
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let no_protocol = AlertDescription::from(NO_COMMON_PROTOCOL);
    match tls {
        Some(rustls::Error::NoApplicationProtocol) => ConnectionEnd::NothingInCommon,
        Some(rustls::Error::AlertReceived(alert)) if *alert == no_protocol => {
            ConnectionEnd::NothingInCommon
        }
        _ => broken(error),
    }
}

#[cfg(test)]
mod tests;
