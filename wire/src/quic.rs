//! QUIC for both ends of a link, and the frames on the streams of every link. Never reads a longer frame, and
//! never accepts more streams, than the limits allow.

use crate::link::{
    Connection, ConnectionEnd, IDLE_MAX, KEEP_ALIVE, LINK_WINDOW, LOG_STREAMS_MAX, RecvStream,
    STREAM_WINDOW, STREAMS_MAX, SendStream,
};
use bytes::{Bytes, BytesMut};
use muster_protocol::{
    frame::{self, Encoding, FrameError, Message},
    limit::FRAME_SIZE_MAX,
    message::JOIN_ALPN,
};
use quinn::{
    AckFrequencyConfig, ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// The timeout for the transfer of one object: 64 MiB at 1 MiB/s. A slower peer must ask again.
pub const OBJECT_WITHIN: Duration = Duration::from_secs(64);

/// How long a frame may take from its first byte to its last: the largest one at 26 KiB/s.
pub const FRAME_WITHIN: Duration = Duration::from_secs(10);

/// Handshakes under way at once, and the bytes buffered for each, before the peer has proven its
/// identity.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES: u64 = 16 * 1024;

/// Why a stream is broken. The link must be opened again.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer sent a malformed frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its link is down.
    #[error("the link is down: {0}")]
    Down(String),
}

impl From<ConnectionEnd> for StreamError {
    fn from(end: ConnectionEnd) -> Self {
        StreamError::Down(end.to_string())
    }
}

/// Packets that may arrive before an acknowledgement is due at once; QUIC's default is one. Frames are
/// answered by frames, which carry the acknowledgement. Ten packets are the initial window of slow
/// start. Losses are noticed as before: by packets out of order, and by time.
const PACKETS_PER_ACK: u32 = 9;

fn transport(accepts: u32, accepts_logs: u32) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(PACKETS_PER_ACK));
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acks))
        .max_concurrent_bidi_streams(VarInt::from_u32(accepts))
        .max_concurrent_uni_streams(VarInt::from_u32(accepts_logs))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(LINK_WINDOW))
        .send_window(u64::from(LINK_WINDOW))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok());
    transport
}

/// QUIC for a master: it accepts streams, and workers may change their address.
pub fn server(tls: rustls::ServerConfig) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport(STREAMS_MAX, LOG_STREAMS_MAX)))
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
    Ok(config)
}

/// QUIC for a worker: it opens every stream, and sends the keep-alives. One side is enough, because the
/// other acknowledges them.
pub fn client(tls: rustls::ClientConfig) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = transport(0, 0);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Whether the peer of a connection wants to join, and so has shown no certificate.
pub fn joins(connection: &Connection) -> bool {
    connection.protocol().as_deref() == Some(JOIN_ALPN)
}

/// The encoding that the two ends of a link agreed on.
pub fn encoding(connection: &Connection) -> Encoding {
    let name = connection.protocol();
    if name.as_deref() == Some(JOIN_ALPN) {
        return Encoding::Named;
    }
    let is_named = |encoding: &Encoding| Some(encoding.alpn()) == name.as_deref();
    // TLS lets nobody in who speaks none of them.
    Encoding::ALL.into_iter().find(is_named).unwrap_or(Encoding::Positional)
}

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

/// Why the two ends of a link do not understand each other, in words that say what to do; `None` where a
/// connection ended for another reason.
pub fn misunderstanding(end: &ConnectionEnd) -> Option<String> {
    match end {
        ConnectionEnd::Closed { code: NO_COMMON_FRAMES, reason } => {
            Some(format!("the other side says: {reason}"))
        }
        ConnectionEnd::NothingInCommon => {
            let names = Encoding::ALL.map(|encoding| String::from_utf8_lossy(encoding.alpn()));
            Some(format!(
                "the other side speaks no frames that this one speaks ({}): upgrade the older of the two",
                names.join(", ")
            ))
        }
        _ => None,
    }
}

/// Reads frames from a stream.
pub struct FrameReader {
    stream: RecvStream,
    encoding: Encoding,
    buffer: BytesMut,
}

impl FrameReader {
    /// Reads frames of this encoding from `stream`.
    pub fn new(stream: impl Into<RecvStream>, encoding: Encoding) -> Self {
        FrameReader { stream: stream.into(), encoding, buffer: BytesMut::new() }
    }

    /// The next message; `None` if the peer has ended the stream between two frames. A frame that is begun
    /// must be complete within [`FRAME_WITHIN`].
    pub async fn next<T: Message>(&mut self) -> Result<Option<T>, StreamError> {
        self.next_within(FRAME_SIZE_MAX).await
    }

    /// The same for a message of at most `size_max` bytes.
    pub async fn next_within<T: Message>(
        &mut self,
        size_max: usize,
    ) -> Result<Option<T>, StreamError> {
        if let Some(message) = self.ready(size_max)? {
            return Ok(Some(message));
        }
        if self.buffer.is_empty() && !self.read().await? {
            return Ok(None);
        }
        let rest = async {
            loop {
                if let Some(message) = self.ready(size_max)? {
                    return Ok(Some(message));
                }
                if !self.read().await? {
                    return Err(FrameError::Malformed.into());
                }
            }
        };
        let late =
            |_| Err(StreamError::Down(format!("a frame was not complete within {FRAME_WITHIN:?}")));
        tokio::time::timeout(FRAME_WITHIN, rest).await.unwrap_or_else(late)
    }

    /// Reads what has arrived. Returns false at the end of the stream.
    async fn read(&mut self) -> Result<bool, StreamError> {
        let read = self.stream.read().await?;
        if let Some(bytes) = &read {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(read.is_some())
    }

    /// The next message, if it has arrived already.
    fn ready<T: Message>(&mut self, size_max: usize) -> Result<Option<T>, StreamError> {
        match frame::split(&mut self.buffer, size_max)? {
            Some(body) => Ok(Some(frame::decode(self.encoding, &body)?)),
            None => Ok(None),
        }
    }

    /// The next raw bytes after the frames; `None` at the end of the stream.
    pub async fn bytes(&mut self) -> Result<Option<Bytes>, StreamError> {
        if !self.buffer.is_empty() {
            return Ok(Some(self.buffer.split().freeze()));
        }
        Ok(self.stream.read().await?)
    }
}

/// Bytes to gather before sending them.
const GATHER_BYTES: usize = 64 * 1024;

/// Sends messages as they come, all that wait in one write, until the channel is closed.
pub async fn speak<T: Message>(
    mut writer: FrameWriter,
    mut waiting: mpsc::Receiver<T>,
) -> Result<(), StreamError> {
    while let Some(message) = waiting.recv().await {
        writer.push_if_it_fits(&message)?;
        while writer.buffer.len() < GATHER_BYTES {
            let Ok(message) = waiting.try_recv() else { break };
            writer.push_if_it_fits(&message)?;
        }
        writer.flush().await?;
    }
    Ok(())
}

/// Writes frames to a stream. Sends nothing before [`FrameWriter::flush`].
pub struct FrameWriter {
    stream: SendStream,
    encoding: Encoding,
    buffer: Vec<u8>,
}

impl FrameWriter {
    /// Writes frames of this encoding to `stream`.
    pub fn new(stream: impl Into<SendStream>, encoding: Encoding) -> Self {
        FrameWriter { stream: stream.into(), encoding, buffer: Vec::new() }
    }

    /// Adds a message.
    pub fn push<T: Message>(&mut self, message: &T) -> Result<(), StreamError> {
        Ok(frame::encode(self.encoding, message, &mut self.buffer)?)
    }

    /// Adds a message. Drops a message that is too long for a frame: a retry would fail as well, and the
    /// link must survive.
    fn push_if_it_fits<T: Message>(&mut self, message: &T) -> Result<(), StreamError> {
        match self.push(message) {
            Err(StreamError::Frame(FrameError::TooLong(size))) => {
                tracing::error!(size, "a message is too long for a frame and was not sent");
                Ok(())
            }
            result => result,
        }
    }

    /// Sends the added messages.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        let bytes = std::mem::take(&mut self.buffer);
        Ok(self.stream.write(bytes.into()).await?)
    }

    /// Sends raw bytes after the frames.
    pub async fn bytes(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        Ok(self.stream.write(bytes).await?)
    }

    /// Ends the stream.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        Ok(self.stream.finish()?)
    }

    /// Adds a message and sends all that was added.
    pub async fn send<T: Message>(&mut self, message: &T) -> Result<(), StreamError> {
        self.push(message)?;
        self.flush().await
    }
}
