//! Frames: a length in four bytes, little-endian, then a message in postcard. Never allocates for
//! a length that is over the limit.

use crate::limit::FRAME_SIZE_MAX;
use alloc::vec::Vec;
use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes before a message: its length.
pub const HEADER_SIZE: usize = 4;

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
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_SIZE]);
    let written = postcard::to_extend(message, core::mem::take(out));
    *out = written.map_err(|_| FrameError::Malformed)?;
    let size = out.len() - start - HEADER_SIZE;
    if size > FRAME_SIZE_MAX {
        out.truncate(start);
        return Err(FrameError::TooLong(size));
    }
    out[start..start + HEADER_SIZE].copy_from_slice(&(size as u32).to_le_bytes());
    Ok(())
}

/// The length of the message that follows this header.
pub fn size(header: [u8; HEADER_SIZE]) -> Result<usize, FrameError> {
    let size = u32::from_le_bytes(header) as usize;
    if size > FRAME_SIZE_MAX { Err(FrameError::TooLong(size)) } else { Ok(size) }
}

/// Reads one message that fills `body` wholly.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Malformed),
    }
}

/// Takes the next whole frame's message out of `buffer`; `None` until enough bytes are there.
pub fn split(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_SIZE>() else { return Ok(None) };
    let size = size(*header)?;
    if buffer.len() < HEADER_SIZE + size {
        return Ok(None);
    }
    buffer.advance(HEADER_SIZE);
    Ok(Some(buffer.split_to(size).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn frames_come_back_in_order_however_the_bytes_are_cut() {
        let messages = vec!["a".repeat(5), "".into(), "b".repeat(300)];
        let mut bytes = Vec::new();
        for message in &messages {
            encode(message, &mut bytes).expect("fits");
        }
        for cut in 1..bytes.len() {
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(body) = split(&mut buffer).expect("frames") {
                    seen.push(decode::<alloc::string::String>(&body).expect("a string"));
                }
            }
            assert_eq!(seen, messages, "cut every {cut} bytes");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert_eq!(split(&mut buffer), Err(FrameError::TooLong(u32::MAX as usize)));
    }

    #[test]
    fn bytes_behind_a_message_are_refused() {
        assert_eq!(decode::<u8>(&[1, 2]), Err(FrameError::Malformed));
    }
}
