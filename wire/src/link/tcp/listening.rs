//! Notices that a peer is silent: nothing of it arrives, not even its keep-alives. Never looks at what arrives.

use crate::link::IDLE_MAX;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// When the peer was heard last.
pub(super) struct Heard(Arc<Mutex<Instant>>);

impl Heard {
    pub(super) fn of<T>(stream: T) -> (Listening<T>, Heard) {
        let last = Arc::new(Mutex::new(Instant::now()));
        (Listening { stream, last: last.clone() }, Heard(last))
    }

    /// Waits until nothing was heard for [`IDLE_MAX`].
    pub(super) async fn silence(self) {
        loop {
            let until = *self.0.lock().expect("no holder of this lock panics") + IDLE_MAX;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Notes when something is read from a stream.
pub(super) struct Listening<T> {
    stream: T,
    last: Arc<Mutex<Instant>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Listening<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            *self.last.lock().expect("no holder of this lock panics") = Instant::now();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Listening<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
