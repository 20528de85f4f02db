//! The frames on the streams of a link. Never reads a longer frame than the limits allow.

use crate::link::{Connection, ConnectionEnd, NO_COMMON_FRAMES, RecvStream, SendStream};
use bytes::{Bytes, BytesMut};
use muster_protocol::{
    frame::{self, Encoding, FrameError, Message},
    limit::FRAME_SIZE_MAX,
    message::JOIN_ALPN,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// The timeout for the transfer of one object: 64 MiB at 1 MiB/s. A slower peer must ask again.
pub const OBJECT_WITHIN: Duration = Duration::from_secs(64);

/// How long a frame may take from its first byte to its last: the largest one at 26 KiB/s.
pub const FRAME_WITHIN: Duration = Duration::from_secs(10);

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
