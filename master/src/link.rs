//! QUIC as the master uses it: one link per worker, and the streams on it. Only this module talks QUIC.
//! Never takes a worker's name from a frame, only from its certificate.

use crate::{inbox::Input, registry::ObjectError};
use bytes::{Bytes, BytesMut};
use muster_protocol::{
    Digest, WorkerId,
    checkpoint::{Request, Want},
    fleet::{Event, LinkId},
    frame::{FrameRange, NoCommonFrames, Speaker},
    limit,
    message::{Hello, LogChunk, ObjectStore, StreamReply, StreamRequest, ToMaster},
    subject::Names,
};
use muster_wire::{
    quic::{self, FrameReader, FrameWriter, OBJECT_WITHIN, StreamError, speak},
    tls,
};
use quinn::{Connection, Endpoint, Incoming};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Frames that may wait for one worker. A worker that leaves more unread loses its link.
const FRAMES_MAX: usize = 4 * 1024;

/// Objects in the memory of this process at once, up to 64 MiB each.
const OBJECTS_MAX: usize = 8;

/// How long a peer may take for the handshake, and for the first frame of each stream.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

static LINKS: AtomicU64 = AtomicU64::new(1);

/// What a control stream needs to know of its link.
struct Control {
    link: LinkId,
    connection: Connection,
    /// Whether the link has a control stream already.
    first: Arc<AtomicBool>,
    /// Receives the cause when the control stream has ended; the link then ends too.
    ended: mpsc::Sender<String>,
}

/// State shared by all links.
struct LinkServer {
    /// Permits for objects in the memory of this process.
    objects: Semaphore,
    names: Arc<Names>,
    inbox: mpsc::Sender<Input>,
}

/// The endpoint that workers dial, until it accepts.
pub(crate) struct Workers {
    waiting: Option<(Endpoint, Arc<LinkServer>)>,
}

impl Workers {
    pub(crate) fn new(endpoint: Endpoint, names: Arc<Names>, inbox: mpsc::Sender<Input>) -> Self {
        Workers {
            waiting: Some((
                endpoint,
                Arc::new(LinkServer { objects: Semaphore::new(OBJECTS_MAX), names, inbox }),
            )),
        }
    }

    /// Begins to accept links, until the endpoint is closed. A second call has no effect.
    pub(crate) fn accept(&mut self) {
        if let Some((endpoint, host)) = self.waiting.take() {
            tokio::spawn(accept(endpoint, host));
        }
    }
}

async fn accept(endpoint: Endpoint, host: Arc<LinkServer>) {
    while let Some(incoming) = endpoint.accept().await {
        let host = host.clone();
        tokio::spawn(async move {
            let from = incoming.remote_address();
            match host.admit(incoming).await {
                Ok((connection, worker)) => {
                    // The main loop logs that a link is down. The cause is for debugging only.
                    if let Err(cause) = host.link(connection, worker.clone()).await {
                        match misunderstanding(&cause) {
                            Some(cause) => {
                                tracing::warn!(%worker, cause, "a worker is not understood")
                            }
                            None => tracing::debug!(%from, %cause, "a link ended"),
                        }
                    }
                }
                Err(cause) => {
                    let cause = misunderstanding(&cause).unwrap_or_else(|| cause.to_string());
                    tracing::warn!(%from, cause, "a connection is refused");
                }
            }
        });
    }
}

/// What to do about a link that ended because its two ends do not understand each other.
fn misunderstanding(cause: &anyhow::Error) -> Option<String> {
    quic::misunderstanding(cause.downcast_ref()?)
}

impl LinkServer {
    /// Completes the handshake. Returns the worker that the peer has proven to be.
    async fn admit(&self, incoming: Incoming) -> anyhow::Result<(Connection, WorkerId)> {
        let connection = tokio::time::timeout(HANDSHAKE_MAX, incoming).await??;
        let Some(worker) = self.name(&connection) else {
            connection.close(1u32.into(), b"not a worker of this fleet");
            anyhow::bail!("its certificate is not that of a worker of this fleet");
        };
        Ok((connection, worker))
    }

    async fn link(self: Arc<Self>, connection: Connection, worker: WorkerId) -> anyhow::Result<()> {
        let link = LINKS.fetch_add(1, Ordering::Relaxed);
        let result = self.streams(&connection, &worker, link).await;
        // Why a stream broke is known to the connection.
        let result = result.map_err(|error| connection.close_reason().map_or(error, Into::into));
        connection.close(0u32.into(), b"");
        result
    }

    /// The worker named in the peer's certificate.
    fn name(&self, connection: &Connection) -> Option<WorkerId> {
        let names = tls::peer_names(connection);
        names.iter().find_map(|name| self.names.worker_of(name)?.parse().ok())
    }

    /// Serves the streams that a worker opens, until its control stream or the link ends.
    async fn streams(
        self: &Arc<Self>,
        connection: &Connection,
        worker: &WorkerId,
        link: LinkId,
    ) -> anyhow::Result<()> {
        let (control_ended, mut ended) = mpsc::channel(1);
        let has_control = Arc::new(AtomicBool::new(false));
        let encoding = quic::encoding(connection);
        loop {
            tokio::select! {
                stream = connection.accept_bi() => {
                    let (send, receive) = stream?;
                    let (host, worker) = (self.clone(), worker.clone());
                    let (connection, first) = (connection.clone(), has_control.clone());
                    let control = Control { link, connection, first, ended: control_ended.clone() };
                    let reader = FrameReader::new(receive, encoding);
                    let writer = FrameWriter::new(send, encoding);
                    tokio::spawn(async move { host.stream(reader, writer, worker, control).await });
                }
                stream = connection.accept_uni() => {
                    let (host, stream) = (self.clone(), stream?);
                    tokio::spawn(async move { host.logs(FrameReader::new(stream, encoding)).await });
                }
                cause = ended.recv() => anyhow::bail!(cause.unwrap_or_default()),
            }
        }
    }

    async fn stream(
        self: Arc<Self>,
        mut reader: FrameReader,
        writer: FrameWriter,
        worker: WorkerId,
        control: Control,
    ) {
        let asked = match tokio::time::timeout(HANDSHAKE_MAX, reader.next::<StreamRequest>()).await
        {
            Ok(Ok(Some(asked))) => asked,
            _ => return,
        };
        let result = match asked {
            StreamRequest::Control => {
                let cause = if control.first.swap(true, Ordering::SeqCst) {
                    "a link has one control stream".into()
                } else {
                    let result = self.control(reader, writer, worker, &control).await;
                    result
                        .err()
                        .map_or_else(|| "the worker closed it".into(), |error| error.to_string())
                };
                let _ = control.ended.send(cause).await;
                return;
            }
            StreamRequest::Fetch { store, digest } => {
                self.in_time(self.fetch(writer, store, digest)).await
            }
            StreamRequest::Checkpoint { attempt, save, state } => {
                let want = Want::Save { save, state };
                self.checkpoint(writer, Request::new(worker.clone(), attempt, want)).await
            }
            StreamRequest::Resume { attempt } => {
                let request = Request::new(worker.clone(), attempt, Want::Resume);
                self.checkpoint(writer, request).await
            }
            StreamRequest::Put { digest, size } => {
                self.in_time(self.put(reader, writer, digest, size)).await
            }
        };
        if let Err(cause) = result {
            tracing::debug!(%worker, %cause, "a stream ended");
        }
    }

    /// Transfers an object once there is a permit for its memory, and gives up after [`OBJECT_WITHIN`].
    async fn in_time(
        &self,
        work: impl Future<Output = Result<(), StreamError>>,
    ) -> Result<(), StreamError> {
        let _place = self.objects.acquire().await;
        tokio::time::timeout(OBJECT_WITHIN, work)
            .await
            .unwrap_or_else(|_| Err(StreamError::Down("it took too long".into())))
    }

    async fn control(
        &self,
        mut reader: FrameReader,
        writer: FrameWriter,
        worker: WorkerId,
        control: &Control,
    ) -> Result<(), StreamError> {
        let link = control.link;
        let (frames, waiting) = mpsc::channel(FRAMES_MAX);
        // One loop sends opened, the messages and closed, so that the main loop receives them in this
        // order.
        let _ = self.inbox.send(Input::LinkOpened { worker: worker.clone(), link, frames }).await;
        let result = tokio::select! {
            result = speak(writer, waiting) => result,
            result = self.listen(&mut reader, worker.clone(), control) => result,
        };
        let _ = self.inbox.send(Input::LinkClosed { worker, link }).await;
        result
    }

    async fn listen(
        &self,
        reader: &mut FrameReader,
        worker: WorkerId,
        control: &Control,
    ) -> Result<(), StreamError> {
        let link = control.link;
        while let Some(message) = reader.next::<ToMaster>().await? {
            let worker = worker.clone();
            let input = match message {
                ToMaster::Hello(hello) => {
                    understood(&worker, &hello, &control.connection)?;
                    Input::Fleet(Event::Linked { worker, link, hello })
                }
                ToMaster::Renew { expect, lease } => {
                    Input::Fleet(Event::RenewAsked { worker, link, expect, lease })
                }
                ToMaster::Extend { session, renewal } => {
                    Input::Fleet(Event::ExtendAsked { worker, link, session, renewal })
                }
                ToMaster::Finished { key, revision, outcome } => {
                    Input::Fleet(Event::Finished { worker, link, key, revision, outcome })
                }
                ToMaster::Progress { key, done, total } => Input::Progress { key, done, total },
            };
            if self.inbox.send(input).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn logs(&self, mut reader: FrameReader) {
        while let Ok(Some(chunk)) = reader.next::<LogChunk>().await {
            if self.inbox.send(Input::Log(chunk)).await.is_err() {
                return;
            }
        }
    }

    async fn fetch(
        &self,
        mut writer: FrameWriter,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<(), StreamError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.send(Input::Fetch { store, digest, reply }).await;
        match answer.await {
            Ok(Ok(Some(bytes))) => {
                writer.send(&StreamReply::Size(bytes.len() as u64)).await?;
                writer.bytes(bytes).await?;
            }
            // The stored bytes do not match the digest. A retry would read the same bytes.
            Ok(Ok(None) | Err(ObjectError::Corrupt(_))) => {
                writer.send(&StreamReply::Missing).await?
            }
            Ok(Err(error)) => writer.send(&StreamReply::Failed(error.to_string())).await?,
            Err(_) => writer.send(&StreamReply::Failed("the master stops".into())).await?,
        }
        writer.finish()
    }

    async fn checkpoint(
        &self,
        mut writer: FrameWriter,
        request: Request,
    ) -> Result<(), StreamError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.send(Input::Checkpoint { request, reply }).await;
        let told = answer.await.unwrap_or_else(|_| StreamReply::Failed("the master stops".into()));
        writer.send(&told).await?;
        writer.finish()
    }

    async fn put(
        &self,
        mut reader: FrameReader,
        mut writer: FrameWriter,
        digest: Digest,
        size: u64,
    ) -> Result<(), StreamError> {
        let told = match collect(&mut reader, size).await? {
            None => StreamReply::Failed(format!(
                "it does not have exactly the {size} bytes that were announced"
            )),
            Some(bytes) => {
                let (reply, answer) = oneshot::channel();
                let _ = self.inbox.send(Input::Keep { digest, bytes, reply }).await;
                match answer.await {
                    Ok(Ok(())) => StreamReply::Stored,
                    Ok(Err(error)) => StreamReply::Failed(error.to_string()),
                    Err(_) => StreamReply::Failed("the master stops".into()),
                }
            }
        };
        writer.send(&told).await?;
        writer.finish()
    }
}

/// Closes the link of a worker with which this master has no version of frames in common.
fn understood(
    worker: &WorkerId,
    hello: &Hello,
    connection: &Connection,
) -> Result<(), StreamError> {
    let (name, version, frames) = (worker.to_string(), hello.version.clone(), hello.frames);
    let there = Speaker { role: "worker", name, version, frames };
    let checked = NoCommonFrames::check("master", FrameRange::SPOKEN, there);
    checked.map(drop).map_err(|cause| {
        let cause = cause.to_string();
        tracing::warn!(%worker, cause, "a worker is not understood");
        connection.close(quic::NO_COMMON_FRAMES.into(), cause.as_bytes());
        StreamError::Down(cause)
    })
}

/// Reads exactly `size` bytes. `None` if there are fewer or more, or if `size` is above the limit of a
/// payload.
async fn collect(reader: &mut FrameReader, size: u64) -> Result<Option<Bytes>, StreamError> {
    if size > limit::PAYLOAD_SIZE_MAX {
        return Ok(None);
    }
    let mut all = BytesMut::new();
    while let Some(bytes) = reader.bytes().await? {
        if all.len() as u64 + bytes.len() as u64 > size {
            return Ok(None);
        }
        all.extend_from_slice(&bytes);
    }
    Ok((all.len() as u64 == size).then(|| all.freeze()))
}
