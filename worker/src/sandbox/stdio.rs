//! The standard streams of a guest. Never the worker's own, and never without a limit.

use super::watch::Watch;
use bytes::{Bytes, BytesMut};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

/// Bytes that one write may pass: each write is an allocation on the guest's behalf, and work that
/// cannot be interrupted.
const WRITE_MAX: usize = 64 * 1024;

fn permitted(bytes: &Bytes) -> StreamResult<()> {
    match bytes.len() > WRITE_MAX {
        true => Err(StreamError::trap("a write of more than `check-write` allows")),
        false => Ok(()),
    }
}

/// Standard output, kept in memory up to a limit.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Kept>>);

struct Kept {
    bytes: BytesMut,
    max: u64,
    over: bool,
}

impl Output {
    pub fn new(max: u64) -> Self {
        Output(Arc::new(Mutex::new(Kept { bytes: BytesMut::new(), max, over: false })))
    }

    /// The bytes written so far, and whether the guest tried to write more than its limit.
    pub fn take(&self) -> (Bytes, bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.bytes.split().freeze(), kept.over)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        permitted(&bytes)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if (kept.bytes.len() + bytes.len()) as u64 > kept.max {
            kept.over = true;
            return Err(StreamError::trap("the output is over its limit"));
        }
        kept.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    // The same value even if no space is left: the write that exceeds the limit ends the run.
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

/// Standard error, which goes to the log.
#[derive(Clone)]
pub(crate) struct ErrorStream(pub Arc<Watch>);

#[async_trait]
impl Pollable for ErrorStream {
    async fn ready(&mut self) {}
}

impl OutputStream for ErrorStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        permitted(&bytes)?;
        let Some((permit, mut outbox)) = self.0.permit_with_outbox() else {
            return Err(StreamError::trap("the run has ended"));
        };
        outbox.stderr(permit, &bytes);
        if outbox.due().is_some() {
            self.0.wake();
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

macro_rules! standard_stream {
    ($name:ident) => {
        impl IsTerminal for $name {
            fn is_terminal(&self) -> bool {
                false
            }
        }

        impl StdoutStream for $name {
            // Needed for WASI 0.3 only, which is not linked.
            fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
                Box::new(tokio::io::sink())
            }

            fn p2_stream(&self) -> Box<dyn OutputStream> {
                Box::new(self.clone())
            }
        }
    };
}

standard_stream!(Output);
standard_stream!(ErrorStream);
