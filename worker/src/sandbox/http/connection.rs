//! A guest's connection, plain or TLS. It must never send a byte once its run has to end, and never
//! leave a byte to the kernel that could be sent then.

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

/// How long a closing connection waits until the other side has acknowledged the last bytes: a few
/// times the round trip around the world.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How often a closing connection checks that: the kernel does not report the last acknowledgement.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// A connection that sends nothing once its run has to end.
///
/// By default the kernel resets the connection when it is closed, even if the whole process is killed:
/// bytes that the kernel holds unsent must not follow after the run's end, however late the other side
/// reads. Only a connection with nothing left to send is closed in good order.
pub(super) struct Gated {
    socket: Socket,
    closing: Option<Closing>,
    /// Dropped after the socket, so that the end of the run waits until the stream is closed.
    run: UnderWay,
}

struct Closing {
    began: Instant,
    look: Pin<Box<Sleep>>,
}

impl Gated {
    /// Takes over a connection before its first byte.
    pub(super) fn new(socket: Socket, run: UnderWay) -> Self {
        Gated { socket, closing: None, run }
    }
}

fn pass(run: &UnderWay) -> io::Result<Permit<'_>> {
    let permit = run.watch().pass(crate::clock::boottime());
    permit.map_err(|_| io::Error::new(io::ErrorKind::ConnectionAborted, "the run has ended"))
}

impl Drop for Gated {
    /// If the kernel holds nothing unsent and the run goes on, the kernel may close the connection in
    /// good order; otherwise it resets it.
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

    /// Waits until the other side has acknowledged everything that was written, including the closing
    /// message of TLS. The socket itself is closed when this is dropped: its FIN would count as unsent
    /// until then.
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

/// A connection, with or without TLS.
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
