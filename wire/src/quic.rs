//! QUIC as both ends of a link speak it: its limits, and streams of frames. Never reads a frame
//! longer than the limit, nor more streams than were agreed.

use bytes::{Bytes, BytesMut};
use muster_protocol::{
    frame::{self, FrameError},
    limit::FRAME_SIZE_MAX,
};
use quinn::{
    AckFrequencyConfig, ClientConfig, IdleTimeout, RecvStream, SendStream, ServerConfig,
    TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How often an idle link says that it lives. A hint for reconnecting, never the judge of a worker.
pub const KEEP_ALIVE: Duration = Duration::from_millis(300);

/// After this long without a word a link is given up: six keep-alives.
pub const IDLE_MAX: Duration = Duration::from_secs(2);

/// How long an object may take to come or go, in all: 64 MiB at 1 MiB/s. Who is slower asks again.
pub const OBJECT_WITHIN: Duration = Duration::from_secs(64);

/// Streams that a worker may have open beside the control stream: fetches, stores and logs.
pub const STREAMS_MAX: u32 = 64;

/// Bytes in flight on one stream. Enough for 1 Gbit/s at 2 ms, small enough that a master can
/// afford it for 1,000 workers.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes in flight on one link.
const LINK_WINDOW: u32 = 4 * 1024 * 1024;

/// Handshakes under way at once, and what is kept of each, before anyone has proven who he is.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES: u64 = 16 * 1024;

/// Why nothing more comes or goes on a stream. The link has to be opened anew.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer sent what is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its link is down.
    #[error("the link is down: {0}")]
    Down(String),
}

/// Packets that may come before an acknowledgement is due at once, where QUIC's default is one: frames are
/// answered by frames, which carry it along, and ten packets are what a window of slow start begins with.
/// Losses are noticed as before, by what comes out of order and by time.
const PACKETS_PER_ACK: u32 = 9;

fn transport(accepts: u32) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(PACKETS_PER_ACK));
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acks))
        .max_concurrent_bidi_streams(VarInt::from_u32(accepts))
        .max_concurrent_uni_streams(VarInt::from_u32(accepts))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(LINK_WINDOW))
        .send_window(u64::from(LINK_WINDOW))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok());
    transport
}

/// QUIC for a master: it accepts streams and workers whose address changes.
pub fn server(tls: rustls::ServerConfig) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport(STREAMS_MAX)))
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
    Ok(config)
}

/// QUIC for a worker: it opens every stream itself, and keeps the link alive. One side is enough, as the
/// other answers.
pub fn client(tls: rustls::ClientConfig) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = transport(0);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Frames from a stream.
pub struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    /// Reads frames from `stream`.
    pub fn new(stream: RecvStream) -> Self {
        FrameReader { stream, buffer: BytesMut::new() }
    }

    /// The next message, or `None` when the peer has ended the stream between two frames.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.ready()? {
                return Ok(Some(message));
            }
            match self.stream.read_chunk(FRAME_SIZE_MAX, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) if self.buffer.is_empty() => return Ok(None),
                Ok(None) => return Err(FrameError::Malformed.into()),
                Err(error) => return Err(StreamError::Down(error.to_string())),
            }
        }
    }

    /// A message that has already arrived.
    pub fn ready<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        match frame::split(&mut self.buffer)? {
            Some(body) => Ok(Some(frame::decode(&body)?)),
            None => Ok(None),
        }
    }

    /// The next raw bytes that follow the frames, or `None` at the stream's end.
    pub async fn bytes(&mut self) -> Result<Option<Bytes>, StreamError> {
        if !self.buffer.is_empty() {
            return Ok(Some(self.buffer.split().freeze()));
        }
        match self.stream.read_chunk(FRAME_SIZE_MAX, true).await {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
            Err(error) => Err(StreamError::Down(error.to_string())),
        }
    }
}

/// Bytes that are gathered before they are sent.
const GATHER_BYTES: usize = 64 * 1024;

/// Sends messages as they come, and all that wait in one go, until nobody sends any more.
pub async fn speak<T: Serialize>(
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

/// Frames to a stream. Nothing is sent before [`FrameWriter::flush`].
pub struct FrameWriter {
    stream: SendStream,
    buffer: Vec<u8>,
}

impl FrameWriter {
    /// Writes frames to `stream`.
    pub fn new(stream: SendStream) -> Self {
        FrameWriter { stream, buffer: Vec::new() }
    }

    /// Adds a message.
    pub fn push<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        Ok(frame::encode(message, &mut self.buffer)?)
    }

    /// Adds a message; one that is too long is left out, since it would be too long the next time
    /// as well and must not take the link down with it.
    fn push_if_it_fits<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        match self.push(message) {
            Err(StreamError::Frame(FrameError::TooLong(size))) => {
                tracing::error!(size, "a message is too long for a frame and was not sent");
                Ok(())
            }
            result => result,
        }
    }

    /// Sends what was added.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        let sent = self.stream.write_all(&self.buffer).await;
        self.buffer.clear();
        sent.map_err(|error| StreamError::Down(error.to_string()))
    }

    /// Sends raw bytes after the frames.
    pub async fn bytes(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let sent = self.stream.write_chunk(bytes).await;
        sent.map_err(|error| StreamError::Down(error.to_string()))
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.stream.finish().map_err(|error| StreamError::Down(error.to_string()))
    }

    /// Sends one message and what was added before it.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        self.push(message)?;
        self.flush().await
    }
}
