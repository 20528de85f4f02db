//! What a master does with the streams that a worker opens over TCP, and how it tells the worker why it closes the
//! link. Never lets more streams wait than a worker may have.

use super::{
    BOTH, CLOSED, CODE, Farewell, Inner, ONE_WAY, REASON, RecvStream, SendStream, at_its_end,
    closed_here, listening::Heard, of_h2, report,
};
use crate::link::{ConnectionEnd, LOG_STREAMS_MAX};
use bytes::Bytes;
use h2::{Reason, server};
use http::{HeaderValue, Request, Response};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, mpsc, watch},
};

/// The longest reason, in bytes.
const REASON_MAX: usize = 1024;

/// How long the peer may take to read why the connection is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Opening {
    inner: Weak<Inner>,
    farewell: Farewell,
    both: mpsc::Sender<(SendStream, RecvStream)>,
    one_way: mpsc::Sender<RecvStream>,
    one_way_permits: Arc<Semaphore>,
    /// The request that is answered when the link is closed.
    closed: Option<server::SendResponse<Bytes>>,
}

impl Opening {
    pub(super) fn new(
        inner: &Arc<Inner>,
        both: mpsc::Sender<(SendStream, RecvStream)>,
        one_way: mpsc::Sender<RecvStream>,
    ) -> Self {
        let one_way_permits = Arc::new(Semaphore::new(LOG_STREAMS_MAX as usize));
        let (farewell, inner) = (inner.farewell.clone(), Arc::downgrade(inner));
        Opening { inner, farewell, both, one_way, one_way_permits, closed: None }
    }

    /// Carries the connection until it ends.
    pub(super) async fn serve<T: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut h2: server::Connection<T, Bytes>,
        end: watch::Receiver<Option<ConnectionEnd>>,
        heard: Heard,
    ) {
        let ended = {
            let opened = async {
                loop {
                    match h2.accept().await {
                        Some(Ok((request, respond))) => self.opened(request, respond),
                        Some(Err(error)) => return of_h2(error),
                        None => return at_its_end(),
                    }
                }
            };
            tokio::select! {
                biased;
                () = closed_here(end) => None,
                ended = opened => Some(ended),
                () = heard.silence() => Some(ConnectionEnd::Silent),
            }
        };
        let was_closed_here = ended.is_none();
        report(&self.inner, ended);
        if was_closed_here {
            let farewell = self.farewell.get().cloned().unwrap_or_default();
            if let Some(closed) = self.closed.take() {
                say_farewell(closed, &farewell);
            }
            // The worker ends the connection when it has read the farewell. Its new streams are dropped.
            let read = async {
                while let Some(Ok((request, respond))) = h2.accept().await {
                    // A link may be closed before its first request has arrived.
                    if request.uri().path() == CLOSED {
                        say_farewell(respond, &farewell);
                    }
                }
            };
            let _ = tokio::time::timeout(CLOSE_WITHIN, read).await;
        }
    }

    fn opened(
        &mut self,
        request: Request<h2::RecvStream>,
        mut respond: server::SendResponse<Bytes>,
    ) {
        let Some(inner) = self.inner.upgrade() else { return };
        let (head, body) = request.into_parts();
        let refused = match head.uri.path() {
            CLOSED if self.closed.is_none() => {
                self.closed = Some(respond);
                return;
            }
            BOTH => {
                let Ok(send) = respond.send_response(Response::new(()), false) else { return };
                let streams = (SendStream::new(send, inner.clone()), RecvStream::new(body, inner));
                self.both.try_send(streams).is_err()
            }
            ONE_WAY => match self.one_way_permits.clone().try_acquire_owned() {
                Ok(permit) => {
                    let stream = RecvStream::new(body, inner).with(permit);
                    self.one_way.try_send(stream).is_err()
                }
                Err(_) => true,
            },
            _ => true,
        };
        if refused {
            respond.send_reset(Reason::REFUSED_STREAM);
        }
    }
}

fn say_farewell(mut respond: server::SendResponse<Bytes>, (code, reason): &(u32, Vec<u8>)) {
    let mut answer = Response::new(());
    answer.headers_mut().insert(CODE, (*code).into());
    if let Ok(reason) = HeaderValue::from_bytes(&reason[..reason.len().min(REASON_MAX)]) {
        answer.headers_mut().insert(REASON, reason);
    }
    // Fails only if the worker is gone.
    let _ = respond.send_response(answer, true);
}
