//! The socket of a guest's connection. Never connects, writes, or closes in good order without a
//! permit.

use super::unsent::unsent;
use muster_protocol::lease::Permit;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};

/// A socket that the kernel resets when it is closed, unless [`Socket::close_in_order`] was called.
pub(super) struct Socket(TcpStream);

impl Socket {
    /// Begins to connect.
    pub(super) fn connect(
        _: Permit<'_>,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self>> + use<> {
        async move {
            let stream = TcpStream::connect(address).await?;
            let _ = stream.set_nodelay(true);
            stream.set_zero_linger()?;
            Ok(Socket(stream))
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }

    pub(super) fn poll_write(
        &mut self,
        _: Permit<'_>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    /// Whether the other side has acknowledged every byte.
    pub(super) fn is_sent(&self) -> bool {
        unsent(&self.0).is_ok_and(|bytes| bytes == 0)
    }

    /// Lets the kernel close the connection in good order when this is dropped.
    #[expect(deprecated, reason = "it may block where it sets a time; this takes one away")]
    pub(super) fn close_in_order(&self, _: Permit<'_>) {
        let _ = self.0.set_linger(None);
    }
}
