//! Frames: a length in four bytes, little-endian, then a message. Never allocates for a length that is
//! over the limit.
//!
//! There are two encodings. Frames 1 are postcard, where the shape of a message can never change.
//! Frames 2 and later are CBOR (RFC 8949) with named fields: a reader ignores unknown fields and uses
//! the default for absent ones. TLS (ALPN) selects the encoding of a link, and the first messages say
//! which versions each side speaks.

mod first;

pub use crate::frame_range::{FrameRange, NoCommonFrames, Speaker};

use crate::{
    limit::FRAME_SIZE_MAX,
    message::{Join, JoinReply, LogChunk, StreamReply, StreamRequest},
};
use alloc::vec::Vec;
use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// The length of the header, in bytes.
pub const HEADER_SIZE: usize = 4;

/// The encoding of a link's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Frames 2 and later: fields by name.
    Named,
    /// Frames 1: fields by position.
    Positional,
}

impl Encoding {
    /// Every encoding, the preferred one first.
    pub const ALL: [Encoding; 2] = [Encoding::Named, Encoding::Positional];

    /// The name of the encoding in the TLS handshake (ALPN).
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Encoding::Named => b"muster/2",
            Encoding::Positional => b"muster/1",
        }
    }
}

/// A type that can be sent in a frame.
pub trait Message: Serialize + DeserializeOwned {
    /// Appends it in frames 1.
    fn encode_first(&self, out: Vec<u8>) -> postcard::Result<Vec<u8>> {
        postcard::to_extend(self, out)
    }

    /// Reads it from frames 1; also returns the bytes after it.
    fn decode_first(body: &[u8]) -> postcard::Result<(Self, &[u8])> {
        postcard::take_from_bytes(body)
    }
}

impl Message for StreamRequest {}
impl Message for StreamReply {}
impl Message for LogChunk {}
impl Message for Join {}
impl Message for JoinReply {}

/// Why bytes are not a frame. The connection they came on cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length over [`FRAME_SIZE_MAX`]. Nothing was allocated for it.
    #[error("a frame of {0} bytes is over the limit")]
    TooLong(usize),
    /// The message is not of the expected type, or bytes follow it.
    #[error("a frame does not hold the expected message")]
    Malformed,
}

/// Appends `message` to `out` as one frame.
pub fn encode<T: Message>(
    encoding: Encoding,
    message: &T,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_SIZE]);
    let written = match encoding {
        Encoding::Positional => {
            let written = message.encode_first(core::mem::take(out));
            written.map(|written| *out = written).map_err(|_| FrameError::Malformed)
        }
        Encoding::Named => message
            .serialize(&mut minicbor_serde::Serializer::new(&mut *out))
            .map_err(|_| FrameError::Malformed),
    };
    let size = (out.len().saturating_sub(start)).saturating_sub(HEADER_SIZE);
    let fits = if size > FRAME_SIZE_MAX { Err(FrameError::TooLong(size)) } else { Ok(()) };
    if let Err(error) = written.and(fits) {
        out.truncate(start);
        return Err(error);
    }
    out[start..start + HEADER_SIZE].copy_from_slice(&(size as u32).to_le_bytes());
    Ok(())
}

/// The length of the message that follows this header.
pub fn size(header: [u8; HEADER_SIZE]) -> Result<usize, FrameError> {
    let size = u32::from_le_bytes(header) as usize;
    if size > FRAME_SIZE_MAX { Err(FrameError::TooLong(size)) } else { Ok(size) }
}

/// Reads one message, which must fill `body`.
pub fn decode<T: Message>(encoding: Encoding, body: &[u8]) -> Result<T, FrameError> {
    let read = match encoding {
        Encoding::Positional => {
            T::decode_first(body).ok().map(|(message, rest)| (message, rest.len()))
        }
        Encoding::Named => {
            let mut cbor = minicbor_serde::Deserializer::new(body);
            let message = T::deserialize(&mut cbor).ok();
            message.map(|message| (message, body.len() - cbor.decoder().position()))
        }
    };
    match read {
        Some((message, 0)) => Ok(message),
        _ => Err(FrameError::Malformed),
    }
}

/// Takes the message of the next frame out of `buffer`; `None` until the whole frame is there. A frame
/// of more than `size_max` bytes is refused as soon as its length is there.
pub fn split(buffer: &mut BytesMut, size_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_SIZE>() else { return Ok(None) };
    let size = size(*header)?;
    if size > size_max {
        return Err(FrameError::TooLong(size));
    }
    if buffer.len() < HEADER_SIZE + size {
        return Ok(None);
    }
    buffer.advance(HEADER_SIZE);
    Ok(Some(buffer.split_to(size).freeze()))
}

#[cfg(test)]
mod tests;
