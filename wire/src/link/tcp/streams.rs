//! The streams of a link over TCP. Never sends more than the peer has room for.

use super::{Inner, of_h2};
use crate::link::{ConnectionEnd, STREAM_WINDOW};
use bytes::Bytes;
use h2::client::ResponseFuture;
use std::{future::poll_fn, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;

/// The sending end of a stream. If it is dropped, the stream is ended.
#[derive(Debug)]
pub struct SendStream {
    stream: h2::SendStream<Bytes>,
    finished: bool,
    inner: Arc<Inner>,
}

impl SendStream {
    pub(super) fn new(stream: h2::SendStream<Bytes>, inner: Arc<Inner>) -> Self {
        SendStream { stream, finished: false, inner }
    }

    /// See [`super::super::SendStream::write`].
    pub(in crate::link) async fn write(&mut self, mut bytes: Bytes) -> Result<(), ConnectionEnd> {
        let inner = self.inner.clone();
        let written = async {
            while !bytes.is_empty() {
                self.stream.reserve_capacity(bytes.len().min(STREAM_WINDOW as usize));
                while self.stream.capacity() == 0 {
                    match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                        Some(room) => room.map_err(of_h2)?,
                        None => return Err(ConnectionEnd::Broken("the stream has ended".into())),
                    };
                }
                let piece = bytes.split_to(self.stream.capacity().min(bytes.len()));
                self.stream.send_data(piece, false).map_err(of_h2)?;
            }
            Ok(())
        };
        inner.unless_ended(written).await
    }

    /// See [`super::super::SendStream::finish`].
    pub(in crate::link) fn finish(&mut self) -> Result<(), ConnectionEnd> {
        self.finished = true;
        self.stream.send_data(Bytes::new(), true).map_err(of_h2)
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.finish();
        }
    }
}

/// The receiving end of a stream.
#[derive(Debug)]
pub struct RecvStream {
    body: Body,
    inner: Arc<Inner>,
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Body {
    /// The master has not answered yet.
    Awaited(Box<ResponseFuture>),
    Open(h2::RecvStream),
}

impl RecvStream {
    pub(super) fn new(body: h2::RecvStream, inner: Arc<Inner>) -> Self {
        RecvStream { body: Body::Open(body), inner, _permit: None }
    }

    pub(super) fn awaited(answer: ResponseFuture, inner: Arc<Inner>) -> Self {
        RecvStream { body: Body::Awaited(Box::new(answer)), inner, _permit: None }
    }

    /// Keeps a permit as long as the stream.
    pub(super) fn with(self, permit: OwnedSemaphorePermit) -> Self {
        RecvStream { _permit: Some(permit), ..self }
    }

    /// See [`super::super::RecvStream::read`].
    pub(in crate::link) async fn read(&mut self) -> Result<Option<Bytes>, ConnectionEnd> {
        let inner = self.inner.clone();
        inner.unless_ended(self.next()).await
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ConnectionEnd> {
        if let Body::Awaited(answer) = &mut self.body {
            let answer = answer.await.map_err(of_h2)?;
            self.body = Body::Open(answer.into_body());
        }
        let Body::Open(body) = &mut self.body else { return Ok(None) };
        while let Some(bytes) = body.data().await {
            let bytes = bytes.map_err(of_h2)?;
            // What is read may be replaced by as many bytes.
            body.flow_control().release_capacity(bytes.len()).map_err(of_h2)?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}
