//! A guest's connection, plain or secured. It must never carry a byte out once its run has to end,
//! and never leave one to the kernel that could follow then.

use super::{super::watch::UnderWay, socket::Socket};
use muster_protocol::lease::Permit;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long a connection that closes waits for the other side to acknowledge what was sent last: a
/// few times as long as a packet takes around the world.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How often it looks meanwhile. The kernel tells nobody when the last byte was acknowledged.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// A connection that carries nothing out once its run has to end.
///
/// The kernel resets it when it is closed, also where the whole process is killed: what the kernel
/// has taken and not sent yet must not follow after the run's end, whenever the other side gets
/// round to reading it. Only one of which nothing is left to send is closed in good order.
pub(super) struct Gated {
    socket: Socket,
    closing: Option<Closing>,
    /// After the socket, so that the run's end waits until that is closed.
    run: UnderWay,
}

struct Closing {
    began: Instant,
    look: Pin<Box<Sleep>>,
}

impl Gated {
    /// Takes a connection over before the first byte.
    pub(super) fn new(socket: Socket, run: UnderWay) -> Self {
        Gated { socket, closing: None, run }
    }
}

fn pass(run: &UnderWay) -> io::Result<Permit<'_>> {
    let permit = run.watch().pass(crate::clock::boottime());
    permit.map_err(|_| io::Error::new(io::ErrorKind::ConnectionAborted, "the run has ended"))
}

impl Drop for Gated {
    /// Lets the kernel close the connection in good order where it holds nothing unsent and the run
    /// goes on; otherwise the kernel resets it.
    fn drop(&mut self) {
        if let Ok(permit) = pass(&self.run)
            && self.socket.is_sent()
        {
            self.socket.close_in_order(permit);
        }
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.poll_read(cx, buf)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Gated { socket, run, .. } = self.get_mut();
        let permit = pass(run)?;
        socket.poll_write(permit, cx, buf)
    }

    /// A socket has no buffer of its own.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Waits until the other side has all that was written, a secured connection's goodbye included.
    /// The socket itself is closed when this is dropped: its end would count as unsent until then.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            drop(pass(&self.run)?);
            if self.socket.is_sent() {
                return Poll::Ready(Ok(()));
            }
            let closing = self.closing.get_or_insert_with(|| Closing {
                began: Instant::now(),
                look: Box::pin(sleep(CLOSE_LOOK)),
            });
            if closing.began.elapsed() >= CLOSE_WITHIN {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            ready!(closing.look.as_mut().poll(cx));
            closing.look.as_mut().reset(Instant::now() + CLOSE_LOOK);
        }
    }
}

/// A connection, secured or not.
pub(super) enum Stream {
    Plain(Gated),
    Tls(Box<tokio_rustls::client::TlsStream<Gated>>),
}

macro_rules! either {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(cx))
    }
}
