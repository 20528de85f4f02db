//! The links of workers, and the streams on them. Only this module accepts connections.
//! Never takes a worker's name from a frame, only from its certificate.

mod accept;
mod admission;
mod join;
mod logs;
mod objects;
mod peers;

pub(crate) use accept::Listeners;

use crate::inbox::{Input, LinkHandle};
use admission::Handshake;
use logs::Logs;
use muster_protocol::{
    WorkerId,
    checkpoint::{Request, Want},
    enrolment::Member,
    entitlement::Entitlement,
    fleet::{Event, LinkId},
    frame::{FrameRange, NoCommonFrames, Speaker},
    limit,
    message::{Hello, OverBound, StreamReply, StreamRequest, ToMaster},
    sealed::Question,
    subject::Names,
};
use muster_wire::{
    clock,
    frames::{self, FrameReader, FrameWriter, StreamError, speak},
    link::{self, Connection, ConnectionEnd},
    tls::Identity,
};
use peers::Peers;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Frames that may wait for one worker. A worker that leaves more unread loses its link.
const FRAMES_MAX: usize = 4 * 1024;

/// How long a peer may take for the handshake, and for the first frame of each stream.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

static LINKS: AtomicU64 = AtomicU64::new(1);

/// What a control stream needs to know of its link.
struct Control {
    link: LinkId,
    connection: Connection,
    /// What the worker may offer.
    entitlement: Arc<Entitlement>,
    /// Whether the link has a control stream already.
    first: Arc<AtomicBool>,
    /// Receives the cause when the control stream has ended; the link then ends too.
    ended: mpsc::Sender<String>,
    /// Permits for objects of this worker.
    objects: Arc<Semaphore>,
}

/// State shared by all links.
struct LinkServer {
    peers: Peers,
    logs: Logs,
    names: Arc<Names>,
    inbox: mpsc::Sender<Input>,
    /// Permits for programs that join.
    joins: Semaphore,
}

/// Where workers dial, until it accepts.
pub(crate) struct Workers {
    listeners: Option<Listeners>,
    server: Arc<LinkServer>,
}

impl Workers {
    pub(crate) fn new(listeners: Listeners, names: Arc<Names>, inbox: mpsc::Sender<Input>) -> Self {
        let (peers, logs) = (Peers::new(), Logs::default());
        let joins = Semaphore::new(join::JOINS_MAX);
        let server = Arc::new(LinkServer { peers, logs, names, inbox, joins });
        Workers { listeners: Some(listeners), server }
    }

    /// Begins to accept links, until the listeners are closed. A second call has no effect.
    pub(crate) fn accept(&mut self) {
        if let Some(listeners) = self.listeners.take() {
            listeners.accept(&self.server);
        }
    }

    /// A worker may be revoked: closes its links that came up with a revoked certificate, and accepts none
    /// from now on.
    pub(crate) fn heard(&self, member: &Member) {
        self.server.peers.heard(member);
    }
}

/// What to do about a link that ended because its two ends do not understand each other.
fn misunderstanding(cause: &anyhow::Error) -> Option<String> {
    frames::misunderstanding(cause.downcast_ref()?)
}

impl LinkServer {
    /// Completes the handshake. Returns the worker that the peer has proven to be, and what it may offer.
    /// Answers a program that wants to join, and returns nothing.
    async fn admit(
        &self,
        connecting: impl Future<Output = Result<Connection, ConnectionEnd>>,
        handshake: Handshake,
    ) -> anyhow::Result<Option<(Connection, WorkerId, Arc<Entitlement>)>> {
        let admitted = async {
            let connection = tokio::time::timeout(HANDSHAKE_MAX, connecting).await??;
            if frames::joins(&connection) {
                return self.join(connection).await.map(|()| None).map_err(anyhow::Error::from);
            }
            let Identity { names, entitlement } =
                Identity::of_peer(&connection).inspect_err(|error| {
                    connection.close(link::NOT_A_WORKER, error.to_string().as_bytes());
                })?;
            let named = names.iter().find_map(|name| self.names.worker_of(name)?.parse().ok());
            let Some(worker) = named else {
                connection.close(link::NOT_A_WORKER, b"not a worker of this fleet");
                anyhow::bail!("its certificate is not that of a worker of this fleet");
            };
            Ok(Some((connection, worker, Arc::new(entitlement))))
        };
        let admitted = admitted.await;
        if admitted.is_err() {
            handshake.failed(Instant::now());
        }
        admitted
    }

    async fn link(
        self: Arc<Self>,
        connection: Connection,
        worker: WorkerId,
        entitlement: Arc<Entitlement>,
    ) -> anyhow::Result<()> {
        let link = LINKS.fetch_add(1, Ordering::Relaxed);
        let issued = entitlement.issued;
        let Some(objects) = self.peers.joined(&worker, link, connection.clone(), issued) else {
            connection.close(link::REVOKED, b"the worker is revoked");
            anyhow::bail!("it is revoked");
        };
        let ends = entitlement.ends;
        let result = tokio::select! {
            result = self.streams(&connection, &worker, link, entitlement, &objects) => result,
            () = until(ends) => {
                connection.close(link::EXPIRED, b"its certificate has ended");
                Err(anyhow::anyhow!("the worker's certificate has ended"))
            }
        };
        self.peers.left(&worker, link);
        // Why a stream broke is known to the connection.
        let result = result.map_err(|error| connection.close_reason().map_or(error, Into::into));
        connection.close(0, b"");
        result
    }

    /// Serves the streams that a worker opens, until its control stream or the link ends.
    async fn streams(
        self: &Arc<Self>,
        connection: &Connection,
        worker: &WorkerId,
        link: LinkId,
        entitlement: Arc<Entitlement>,
        objects: &Arc<Semaphore>,
    ) -> anyhow::Result<()> {
        let (control_ended, mut ended) = mpsc::channel(1);
        let has_control = Arc::new(AtomicBool::new(false));
        let encoding = frames::encoding(connection);
        loop {
            tokio::select! {
                stream = connection.accept_bi() => {
                    let (send, receive) = stream?;
                    let (host, worker) = (self.clone(), worker.clone());
                    let (connection, first) = (connection.clone(), has_control.clone());
                    let (ended, objects) = (control_ended.clone(), objects.clone());
                    let entitlement = entitlement.clone();
                    let control = Control { link, connection, entitlement, first, ended, objects };
                    let reader = FrameReader::new(receive, encoding);
                    let writer = FrameWriter::new(send, encoding);
                    tokio::spawn(async move { host.stream(reader, writer, worker, control).await });
                }
                stream = connection.accept_uni() => {
                    let reader = FrameReader::new(stream?, encoding);
                    let (host, worker) = (self.clone(), worker.clone());
                    tokio::spawn(async move { host.logs(&worker, reader).await });
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
        let asked = reader.next_within::<StreamRequest>(limit::REQUEST_SIZE_MAX);
        let asked = match tokio::time::timeout(HANDSHAKE_MAX, asked).await {
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
                self.fetch(writer, control.objects, worker.clone(), store, digest).await
            }
            StreamRequest::Checkpoint { attempt, save, state } => {
                let want = Want::Save { save, state };
                let request = Request::new(worker.clone(), attempt, want);
                self.ask(writer, |reply| Input::Checkpoint { request, reply }).await
            }
            StreamRequest::Resume { attempt } => {
                let request = Request::new(worker.clone(), attempt, Want::Resume);
                self.ask(writer, |reply| Input::Checkpoint { request, reply }).await
            }
            StreamRequest::Put { digest, size } => {
                self.put(reader, writer, control.objects, worker.clone(), digest, size).await
            }
            StreamRequest::SecretTerms => {
                let worker = worker.clone();
                self.ask(writer, |reply| Input::SecretTerms { worker, reply }).await
            }
            StreamRequest::Upgrade => {
                let worker = worker.clone();
                self.ask(writer, |reply| Input::Upgrade { worker, reply }).await
            }
            StreamRequest::Secret { attempt, name } => {
                let question = Question::new(worker.clone(), attempt, name);
                self.ask(writer, |reply| Input::Secret { question, reply }).await
            }
        };
        if let Err(cause) = result {
            tracing::debug!(%worker, %cause, "a stream ended");
        }
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
        let (close, closed) = oneshot::channel();
        let handle = LinkHandle { frames, close };
        // One loop sends opened, the messages and closed, so that the main loop receives them in this
        // order.
        let _ = self.inbox.send(Input::LinkOpened { worker: worker.clone(), link, handle }).await;
        let result = tokio::select! {
            result = speak(writer, waiting) => result,
            result = self.listen(&mut reader, worker.clone(), control) => result,
            why = closed => {
                let why = why.unwrap_or("the master has dropped it");
                control.connection.close(link::OVER_BOUND, why.as_bytes());
                Err(StreamError::Down(why.into()))
            }
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
            let input = match message.bounded().map_err(|cause| refuse(&worker, control, cause))? {
                ToMaster::Hello(hello) => {
                    understood(&worker, &hello, &control.connection)?;
                    let transport = control.connection.transport();
                    let entitlement = control.entitlement.clone();
                    Input::Fleet(Event::Linked { worker, link, transport, entitlement, hello })
                }
                ToMaster::Renew { expect, lease } => {
                    if let Some(denied) = control.entitlement.denies(&lease) {
                        return Err(deny(&worker, control, &denied));
                    }
                    Input::Fleet(Event::RenewAsked { worker, link, expect, lease })
                }
                ToMaster::Extend { session, renewal } => {
                    Input::Fleet(Event::ExtendAsked { worker, link, session, renewal })
                }
                ToMaster::Finished { key, revision, outcome } => {
                    Input::Fleet(Event::Finished { worker, link, key, revision, outcome })
                }
                ToMaster::Progress { key, done, total } => {
                    Input::Progress { worker, key, done, total }
                }
            };
            if self.inbox.send(input).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Passes a question on that has an answer of one frame.
    async fn ask(
        &self,
        writer: FrameWriter,
        question: impl FnOnce(oneshot::Sender<StreamReply>) -> Input,
    ) -> Result<(), StreamError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.send(question(reply)).await;
        let told = answer.await.unwrap_or_else(|_| StreamReply::Failed("the master stops".into()));
        objects::reply_with(writer, told).await
    }
}

/// Closes the link of a worker whose frame is over a bound.
fn refuse(worker: &WorkerId, control: &Control, cause: OverBound) -> StreamError {
    let cause = cause.to_string();
    tracing::warn!(%worker, cause, "its link is closed");
    control.connection.close(link::OVER_BOUND, cause.as_bytes());
    StreamError::Down(cause)
}

/// Closes the link of a worker that offers more than its certificate permits.
fn deny(worker: &WorkerId, control: &Control, denied: &str) -> StreamError {
    let cause = format!("the worker's certificate {denied}");
    tracing::warn!(%worker, cause, "its link is closed");
    control.connection.close(link::NOT_PERMITTED, cause.as_bytes());
    StreamError::Down(cause)
}

/// Waits until this time, in seconds since 1970; for ever if there is none.
async fn until(end: Option<u64>) {
    match end {
        Some(end) => {
            let left = (end * 1_000).saturating_sub(clock::wall().0);
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
        None => std::future::pending().await,
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
        connection.close(link::NO_COMMON_FRAMES, cause.as_bytes());
        StreamError::Down(cause)
    })
}
