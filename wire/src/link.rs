//! A link of a worker and a master: an encrypted connection with streams of bytes, over QUIC, or over TCP
//! where UDP is blocked. What is above does not know which one it is, and has the same bounds. Never looks
//! into the bytes of a stream.

pub mod quic;
pub mod tcp;

use bytes::Bytes;
use muster_protocol::{api::Transport, limit::FRAME_SIZE_MAX};
use quinn::{TransportErrorCode, VarInt, crypto::rustls::HandshakeData};
use rustls_pki_types::CertificateDer;
use std::{net::SocketAddr, time::Duration};

/// How often a worker sends a keep-alive on an idle link. The link's state is only a hint to reconnect;
/// leases decide whether a worker is lost.
pub const KEEP_ALIVE: Duration = Duration::from_millis(300);

/// The idle timeout of a link: more than six keep-alives.
pub const IDLE_MAX: Duration = Duration::from_secs(2);

/// Streams that a worker may have open at once, for requests with an answer: the control stream, fetches,
/// puts and checkpoints.
pub const STREAMS_MAX: u32 = 64;

/// The same for one-way streams: one for logs, and one more while the old one closes.
pub(crate) const LOG_STREAMS_MAX: u32 = 2;

/// Bytes in flight on one stream. Enough for 1 Gbit/s at a round trip of 2 ms, small enough for a master
/// with 1,000 workers.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes in flight on one link.
pub(crate) const LINK_WINDOW: u32 = 4 * 1024 * 1024;

/// The code with which a link is closed whose ends speak no common version of frames. The sentence beside it
/// says which of them to upgrade.
pub const NO_COMMON_FRAMES: u32 = 2;
/// The code with which a connection is closed whose certificate is not that of a worker of the fleet.
pub const NOT_A_WORKER: u32 = 1;
/// The code with which a worker's oldest link is closed when it opens too many.
pub const TOO_MANY_LINKS: u32 = 3;
/// The code with which a link is closed whose worker is over a bound.
pub const OVER_BOUND: u32 = 4;
/// The code with which a link is closed whose worker offers more than its certificate permits.
pub const NOT_PERMITTED: u32 = 5;
/// The code with which a link is closed when the worker's certificate ends.
pub const EXPIRED: u32 = 6;
/// The code with which the links of a revoked worker are closed.
pub const REVOKED: u32 = 7;

/// The code with which TLS says that it has no protocol in common with the peer (RFC 7301, alert 120).
const NO_COMMON_PROTOCOL: u8 = 120;

/// Why a connection has ended, or did not come up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionEnd {
    /// The peer has closed it, and said why.
    #[error("closed by peer: {reason} (code {code})")]
    Closed {
        /// What kind of reason.
        code: u32,
        /// The reason in words.
        reason: String,
    },
    /// The peer speaks no encoding of frames that this process speaks.
    #[error("the peer speaks no protocol that is offered")]
    NothingInCommon,
    /// Nothing came from the peer for a while.
    #[error("timed out")]
    Silent,
    /// This process has closed it.
    #[error("closed")]
    Here,
    /// It broke, or the peer refused it.
    #[error("{0}")]
    Broken(String),
}

impl From<quinn::ConnectionError> for ConnectionEnd {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as Quic;
        let no_protocol = TransportErrorCode::crypto(NO_COMMON_PROTOCOL);
        match error {
            Quic::ApplicationClosed(close) => ConnectionEnd::Closed {
                code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            Quic::TransportError(error) if error.code == no_protocol => {
                ConnectionEnd::NothingInCommon
            }
            Quic::ConnectionClosed(close) if close.error_code == no_protocol => {
                ConnectionEnd::NothingInCommon
            }
            Quic::TimedOut => ConnectionEnd::Silent,
            Quic::LocallyClosed => ConnectionEnd::Here,
            other => ConnectionEnd::Broken(other.to_string()),
        }
    }
}

/// A connection; clones are the same one.
#[derive(Clone, Debug)]
pub enum Connection {
    /// Over QUIC.
    Quic(quinn::Connection),
    /// Over TCP.
    Tcp(tcp::Connection),
}

impl From<quinn::Connection> for Connection {
    fn from(connection: quinn::Connection) -> Self {
        Connection::Quic(connection)
    }
}

impl Connection {
    /// What carries it.
    pub fn transport(&self) -> Transport {
        match self {
            Connection::Quic(_) => Transport::Quic,
            Connection::Tcp(_) => Transport::Tcp,
        }
    }

    /// Opens a stream for a request and its answer. Waits while [`STREAMS_MAX`] are open.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionEnd> {
        match self {
            Connection::Quic(quic) => {
                let (send, receive) = quic.open_bi().await?;
                Ok((send.into(), receive.into()))
            }
            Connection::Tcp(tcp) => {
                let (send, receive) = tcp.open_bi().await?;
                Ok((SendStream::Tcp(send), RecvStream::Tcp(receive)))
            }
        }
    }

    /// Opens a stream on which only this end writes.
    pub async fn open_uni(&self) -> Result<SendStream, ConnectionEnd> {
        match self {
            Connection::Quic(quic) => Ok(quic.open_uni().await?.into()),
            Connection::Tcp(tcp) => Ok(SendStream::Tcp(tcp.open_uni().await?)),
        }
    }

    /// The next stream that the peer has opened for a request and its answer.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionEnd> {
        match self {
            Connection::Quic(quic) => {
                let (send, receive) = quic.accept_bi().await?;
                Ok((send.into(), receive.into()))
            }
            Connection::Tcp(tcp) => {
                let (send, receive) = tcp.accept_bi().await?;
                Ok((SendStream::Tcp(send), RecvStream::Tcp(receive)))
            }
        }
    }

    /// The next stream on which only the peer writes.
    pub async fn accept_uni(&self) -> Result<RecvStream, ConnectionEnd> {
        match self {
            Connection::Quic(quic) => Ok(quic.accept_uni().await?.into()),
            Connection::Tcp(tcp) => Ok(RecvStream::Tcp(tcp.accept_uni().await?)),
        }
    }

    /// Closes it. All streams end, and the peer is told the code and the reason. Has no effect on a
    /// connection that has ended.
    pub fn close(&self, code: u32, reason: &[u8]) {
        match self {
            Connection::Quic(quic) => quic.close(VarInt::from_u32(code), reason),
            Connection::Tcp(tcp) => tcp.close(code, reason),
        }
    }

    /// Waits until it has ended.
    pub async fn closed(&self) -> ConnectionEnd {
        match self {
            Connection::Quic(quic) => quic.closed().await.into(),
            Connection::Tcp(tcp) => tcp.closed().await,
        }
    }

    /// Why it has ended; `None` while it is up.
    pub fn close_reason(&self) -> Option<ConnectionEnd> {
        match self {
            Connection::Quic(quic) => quic.close_reason().map(ConnectionEnd::from),
            Connection::Tcp(tcp) => tcp.close_reason(),
        }
    }

    /// The address of the peer, which may change while the connection is up over QUIC.
    pub fn remote_address(&self) -> SocketAddr {
        match self {
            Connection::Quic(quic) => quic.remote_address(),
            Connection::Tcp(tcp) => tcp.remote_address(),
        }
    }

    /// The name of the protocol that both ends agreed on (ALPN).
    pub fn protocol(&self) -> Option<Vec<u8>> {
        match self {
            Connection::Quic(quic) => {
                let agreed = quic.handshake_data()?.downcast::<HandshakeData>().ok()?;
                agreed.protocol
            }
            Connection::Tcp(tcp) => Some(tcp.protocol().to_vec()),
        }
    }

    /// The certificate that the peer has shown, if it has shown one. It was verified.
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        match self {
            Connection::Quic(quic) => {
                let chain = quic.peer_identity()?;
                let chain = chain.downcast::<Vec<CertificateDer<'static>>>().ok()?;
                chain.first().cloned()
            }
            Connection::Tcp(tcp) => tcp.peer_certificate().cloned(),
        }
    }

    /// Lets the peer have one stream only, with one frame of at most `size_max` bytes under way. Over TCP,
    /// this is so from the beginning for a peer that wants to join.
    pub fn narrow(&self, size_max: u32) {
        if let Connection::Quic(quic) = self {
            quic.set_max_concurrent_bi_streams(VarInt::from_u32(1));
            quic.set_max_concurrent_uni_streams(VarInt::from_u32(0));
            quic.set_receive_window(VarInt::from_u32(size_max));
        }
    }
}

/// The sending end of a stream. If it is dropped, the stream is ended.
#[derive(Debug)]
pub enum SendStream {
    /// Over QUIC.
    Quic(quinn::SendStream),
    /// Over TCP.
    Tcp(tcp::SendStream),
}

impl From<quinn::SendStream> for SendStream {
    fn from(stream: quinn::SendStream) -> Self {
        SendStream::Quic(stream)
    }
}

impl SendStream {
    /// Sends bytes. Waits while too many are under way.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ConnectionEnd> {
        match self {
            SendStream::Quic(quic) => quic.write_chunk(bytes).await.map_err(broken),
            SendStream::Tcp(tcp) => tcp.write(bytes).await,
        }
    }

    /// Says that no more bytes follow.
    pub fn finish(&mut self) -> Result<(), ConnectionEnd> {
        match self {
            SendStream::Quic(quic) => quic.finish().map_err(broken),
            SendStream::Tcp(tcp) => tcp.finish(),
        }
    }
}

/// The receiving end of a stream. If it is dropped, the peer need not send more.
#[derive(Debug)]
pub enum RecvStream {
    /// Over QUIC.
    Quic(quinn::RecvStream),
    /// Over TCP.
    Tcp(tcp::RecvStream),
}

impl From<quinn::RecvStream> for RecvStream {
    fn from(stream: quinn::RecvStream) -> Self {
        RecvStream::Quic(stream)
    }
}

impl RecvStream {
    /// The next bytes; `None` at the end of the stream.
    pub async fn read(&mut self) -> Result<Option<Bytes>, ConnectionEnd> {
        match self {
            RecvStream::Quic(quic) => {
                let chunk = quic.read_chunk(FRAME_SIZE_MAX, true).await.map_err(broken)?;
                Ok(chunk.map(|chunk| chunk.bytes))
            }
            RecvStream::Tcp(tcp) => tcp.read().await,
        }
    }
}

fn broken(error: impl ToString) -> ConnectionEnd {
    ConnectionEnd::Broken(error.to_string())
}
