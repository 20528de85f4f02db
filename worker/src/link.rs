//! The worker's links: the worker dials every master, retries for ever, and carries frames and objects. It
//! never decides what is sent.

use crate::{
    dial::{DIAL_MAX, DialTls, Dialler, is_silent},
    identity::PresentTls,
    inbox::Input,
    journal::Journal,
    links::{LinkHandle, LinkId, Links},
};
use bytes::{Bytes, BytesMut};
use muster_protocol::{
    Digest, Nonce,
    api::Transport,
    attempts::Event,
    frame::{FrameRange, NoCommonFrames, Speaker},
    lease::{Home, LeaseEvent, Permit},
    message::{LogChunk, ObjectStore, StreamReply, StreamRequest, ToWorker},
    subject::Names,
};
use muster_wire::{
    frames::{self, FrameReader, FrameWriter, OBJECT_WITHIN, StreamError, speak},
    link::{self, Connection},
    process,
};
use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::sync::mpsc;

/// Frames that may wait for a master. If the queue is full, the executor closes the link, and the
/// worker dials again.
const FRAMES_MAX: usize = 4 * 1024;

/// Pieces of logs that may wait. Further ones are dropped, since logs must not delay results.
const LOGS_MAX: usize = 1_024;

/// The first and the longest backoff before a master is dialled again.
const DIAL_AGAIN_MIN: Duration = Duration::from_millis(50);
const DIAL_AGAIN_MAX: Duration = Duration::from_secs(2);

/// How long to wait before a master is dialled again that speaks no frames that this worker speaks: one of them
/// has to be upgraded first.
const DIAL_AFTER_UPGRADE: Duration = Duration::from_secs(10);

/// How long a link over TCP lasts at least before QUIC is tried again. A try is a few packets in two seconds.
const QUIC_AGAIN: Duration = Duration::from_secs(15);

/// How long a master may take to answer with one frame.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

static LINKS: AtomicU64 = AtomicU64::new(1);

/// Why an object was not fetched or stored. The attempt that needs it waits or is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// A master says that the store does not have it. [`crate::object`] asks again before that counts.
    #[error("{}", missing(*store, *digest))]
    Missing {
        /// The store.
        store: ObjectStore,
        /// The object that was asked for.
        digest: Digest,
    },
    /// The transfer failed; a retry may help.
    #[error("an object could not be transferred: {0}")]
    Carried(String),
}

/// What an operator can do about an object that is gone.
fn missing(store: ObjectStore, digest: Digest) -> String {
    match store {
        ObjectStore::Modules => format!(
            "the fleet does not have the module {digest} any more; push it again, and submit the task \
             again"
        ),
        ObjectStore::Data => format!(
            "the fleet does not have the input {digest} any more: it has expired or was removed; submit \
             the task again"
        ),
    }
}

impl From<StreamError> for ObjectError {
    fn from(error: StreamError) -> Self {
        ObjectError::Carried(error.to_string())
    }
}

/// Everything to which links report.
#[derive(Clone)]
pub(crate) struct LinkDeps {
    pub links: Links,
    pub lease: mpsc::UnboundedSender<LeaseEvent>,
    pub inbox: mpsc::Sender<Input>,
    pub journal: Journal,
}

/// The state that all dialling loops share.
#[derive(Clone)]
struct Linker {
    dialler: Dialler,
    tls: PresentTls,
    machine: Nonce,
    deps: LinkDeps,
}

/// Dials every master until the process ends, each time with the present certificate.
pub(crate) fn dial_all(
    masters: &[String],
    tls: PresentTls,
    names: &Names,
    machine: Nonce,
    deps: &LinkDeps,
) -> std::io::Result<()> {
    let linker = Linker { dialler: Dialler::new(names)?, tls, machine, deps: deps.clone() };
    for master in masters {
        tokio::spawn(linker.clone().dial_for_ever(master.clone()));
    }
    Ok(())
}

impl Linker {
    async fn dial_for_ever(self, master: String) {
        let (mut wait, mut quic_in_doubt) = (DIAL_AGAIN_MIN, false);
        loop {
            let mut welcomed = false;
            let began = tokio::time::Instant::now();
            let ended = match self.dialler.dial(&self.present(), &master, quic_in_doubt).await {
                Ok(connection) => {
                    let mut last = connection.transport();
                    let linked = self.keep_linked(&master, connection, &mut last, &mut welcomed);
                    let ended = linked.await;
                    // UDP may be blocked from now on: a link that is refused or closed ends otherwise.
                    quic_in_doubt = last == Transport::Tcp || ended.as_ref().is_err_and(is_silent);
                    ended
                }
                Err(cause) => Err(cause),
            };
            if let Some(cause) = ended.as_ref().err().and_then(misunderstanding) {
                tracing::warn!(master, cause, "this master is not understood; dialling on later");
                tokio::time::sleep(spread(DIAL_AFTER_UPGRADE)).await;
                continue;
            }
            let cause = ended.err().map(|cause| cause.to_string());
            if welcomed {
                // A link that ends soon after its welcome does not reset the backoff.
                if began.elapsed() > DIAL_AGAIN_MAX {
                    wait = DIAL_AGAIN_MIN;
                }
                tracing::info!(master, cause, "unlinked");
            } else if let Some(cause) = cause {
                tracing::warn!(master, cause, "no link to this master; dialling again");
            }
            tokio::time::sleep(spread(wait)).await;
            wait = (wait * 2).min(DIAL_AGAIN_MAX);
        }
    }

    /// The present certificate.
    fn present(&self) -> DialTls {
        self.tls.lock().expect("no holder of this lock panics").clone()
    }

    /// Serves a link until it ends. One over TCP ends when one over QUIC has taken its place, which is then
    /// served; `last` becomes what carries the link. Sets `welcomed` once the master lets this worker in.
    async fn keep_linked(
        &self,
        master: &str,
        connection: Connection,
        last: &mut Transport,
        welcomed: &mut bool,
    ) -> anyhow::Result<()> {
        let mut link = pin!(self.link(connection.clone(), None, welcomed));
        while *last == Transport::Tcp {
            let quic = tokio::select! {
                ended = &mut link => return ended,
                quic = self.quic_again(master) => quic,
            };
            let mut moved = false;
            let mut next = Box::pin(self.link(quic, Some(connection.clone()), &mut moved));
            tokio::select! {
                _ = &mut link => {
                    *last = Transport::Quic;
                    return next.await;
                }
                // It has not taken its place.
                _ = &mut next => {}
            }
        }
        link.await
    }

    /// A connection to a master over QUIC, as soon as there can be one.
    async fn quic_again(&self, master: &str) -> Connection {
        loop {
            tokio::time::sleep(spread(QUIC_AGAIN)).await;
            if let Ok(connection) = self.dialler.dial_quic(&self.present(), master).await {
                return connection;
            }
        }
    }

    /// Serves one connection until it ends. Sets `welcomed` once the master lets this worker in; then the
    /// connection whose place it takes is closed.
    async fn link(
        &self,
        connection: Connection,
        replaces: Option<Connection>,
        welcomed: &mut bool,
    ) -> anyhow::Result<()> {
        let ended = self.serve(&connection, replaces, welcomed).await;
        // The connection knows better than the stream why the stream broke.
        ended.map_err(|error| match error.is::<NoCommonFrames>() {
            true => error,
            false => connection.close_reason().map_or(error, Into::into),
        })
    }

    async fn serve(
        &self,
        connection: &Connection,
        replaces: Option<Connection>,
        welcomed: &mut bool,
    ) -> anyhow::Result<()> {
        let (send, receive) = connection.open_bi().await?;
        let encoding = frames::encoding(connection);
        let mut reader = FrameReader::new(receive, encoding);
        let mut writer = FrameWriter::new(send, encoding);
        writer.send(&StreamRequest::Control).await?;
        let welcome = tokio::time::timeout(DIAL_MAX, reader.next::<ToWorker>()).await??;
        let Some(ToWorker::Welcome { master, machine, version, frames }) = welcome else {
            anyhow::bail!("it did not send Welcome");
        };
        let spoken = understood(&master, &version, frames, connection)?;
        *welcomed = true;
        let address = connection.remote_address();
        let transport = connection.transport().word();
        tracing::info!(master = %master.master, version, %address, transport, "linked");
        let link = LINKS.fetch_add(1, Ordering::Relaxed);
        let (frames, waiting) = mpsc::channel(FRAMES_MAX);
        let (logs, written) = mpsc::channel(LOGS_MAX);
        let road = LinkHandle { frames, logs, connection: connection.clone(), version: spoken };
        self.deps.links.lock().expect("no holder of this lock panics").insert(link, road);
        let session = master.session;
        self.met(link, master, machine);
        let _ = self.deps.inbox.send(Input::Attempts(Event::Linked(link, session))).await;
        if let Some(replaced) = replaces {
            replaced.close(0, b"there is another link");
        }
        let result = tokio::select! {
            result = speak(writer, waiting) => result,
            result = self.listen(&mut reader, link) => result,
            result = write_logs(connection, written) => result,
        };
        self.deps.links.lock().expect("no holder of this lock panics").remove(&link);
        let _ = self.deps.lease.send(LeaseEvent::Unlinked(link));
        let _ = self.deps.inbox.send(Input::Attempts(Event::Unlinked(link))).await;
        connection.close(0, b"");
        Ok(result?)
    }

    /// Tells the lease which master is at the other end of a link, and whether it is on the same
    /// machine.
    fn met(&self, link: LinkId, master: Home, machine: Nonce) {
        let near = machine == self.machine;
        let _ = self.deps.lease.send(LeaseEvent::Linked { link, master, near });
    }

    async fn listen(&self, reader: &mut FrameReader, link: LinkId) -> Result<(), StreamError> {
        while let Some(message) = reader.next::<ToWorker>().await? {
            match message {
                ToWorker::Renewed { session, renewal, answer } => {
                    let direct = false;
                    let event = LeaseEvent::Answered { session, renewal, answer, direct };
                    let _ = self.deps.lease.send(event);
                }
                ToWorker::Extended { session, home, renewal } => {
                    let _ = self.deps.lease.send(LeaseEvent::Extended { session, home, renewal });
                }
                message => {
                    match &message {
                        ToWorker::Welcome { master, machine, .. } => {
                            self.met(link, master.clone(), *machine);
                        }
                        ToWorker::Dispatch(dispatch) => self.deps.journal.received(dispatch.key),
                        _ => {}
                    }
                    let _ =
                        self.deps.inbox.send(Input::Attempts(Event::Received(link, message))).await;
                }
            }
        }
        Ok(())
    }
}

/// Adds a jitter of up to a half, so that the workers of a fleet do not all come back at once.
pub(crate) fn spread(wait: Duration) -> Duration {
    let spread = process::random().unwrap_or_default() % (wait.as_millis() as u64 / 2 + 1);
    wait + Duration::from_millis(spread)
}

/// What to do about a link that ended because its two ends do not understand each other.
fn misunderstanding(cause: &anyhow::Error) -> Option<String> {
    let frames = cause.downcast_ref::<NoCommonFrames>().map(ToString::to_string);
    frames.or_else(|| frames::misunderstanding(cause.downcast_ref()?))
}

/// Closes the link to a master with which this worker has no version of frames in common.
fn understood(
    master: &Home,
    version: &str,
    frames: FrameRange,
    connection: &Connection,
) -> Result<u16, NoCommonFrames> {
    let (name, version) = (master.master.to_string(), version.into());
    let there = Speaker { role: "master", name, version, frames };
    let checked = NoCommonFrames::check("worker", FrameRange::SPOKEN, there);
    checked.inspect_err(|cause| {
        connection.close(link::NO_COMMON_FRAMES, cause.to_string().as_bytes());
    })
}

/// Sends logs on a stream of their own, which is opened when there is something to send.
async fn write_logs(
    connection: &Connection,
    mut written: mpsc::Receiver<LogChunk>,
) -> Result<(), StreamError> {
    let mut stream: Option<FrameWriter> = None;
    while let Some(chunk) = written.recv().await {
        let writer = match &mut stream {
            Some(writer) => writer,
            None => {
                let opened = connection.open_uni().await?;
                stream.insert(FrameWriter::new(opened, frames::encoding(connection)))
            }
        };
        writer.send(&chunk).await?;
    }
    std::future::pending().await
}

async fn ask(
    connection: &Connection,
    ask: &StreamRequest,
) -> Result<(FrameReader, FrameWriter), StreamError> {
    let (send, receive) = connection.open_bi().await?;
    let encoding = frames::encoding(connection);
    let mut writer = FrameWriter::new(send, encoding);
    writer.send(ask).await?;
    Ok((FrameReader::new(receive, encoding), writer))
}

/// A link that is up; `None` if none is up.
pub(crate) fn any(links: &Links) -> Option<LinkHandle> {
    links.lock().expect("no holder of this lock panics").values().next().cloned()
}

/// The link whose turn it is, round robin over the links that are up. `None` if none is up.
pub(crate) fn in_turn(links: &Links, turn: usize) -> Option<Connection> {
    let links = links.lock().expect("no holder of this lock panics");
    let turn = turn.checked_rem(links.len())?;
    links.values().nth(turn).map(|road| road.connection.clone())
}

/// The same, only over links on which this version of frames is spoken, or a newer one.
pub(crate) fn in_turn_with(links: &Links, version: u16, turn: usize) -> Option<Connection> {
    let links = links.lock().expect("no holder of this lock panics");
    let speaking = || links.values().filter(|road| road.version >= version);
    let turn = turn.checked_rem(speaking().count())?;
    speaking().nth(turn).map(|road| road.connection.clone())
}

/// Sends a request of a run to a master and waits for its answer of one frame.
pub(crate) fn question<'a>(
    _: Permit<'_>,
    connection: Connection,
    asked: &'a StreamRequest,
) -> impl Future<Output = Result<StreamReply, StreamError>> + use<'a> {
    inquire(connection, asked)
}

/// Sends a question that concerns no run to a master, and waits for its answer of one frame.
pub(crate) async fn inquire(
    connection: Connection,
    asked: &StreamRequest,
) -> Result<StreamReply, StreamError> {
    let (mut reader, mut writer) = ask(&connection, asked).await?;
    writer.finish()?;
    let answer = tokio::time::timeout(ANSWER_WITHIN, reader.next()).await;
    let answer = answer.map_err(|_| StreamError::Down("it took too long".into()))??;
    answer.ok_or_else(|| StreamError::Down("it ended without an answer".into()))
}

/// Fetches an object over a link. The caller checks its digest.
pub(crate) async fn fetch(
    connection: &Connection,
    store: ObjectStore,
    digest: Digest,
    size_max: u64,
) -> Result<Bytes, ObjectError> {
    in_time(receive(connection, store, digest, size_max)).await
}

/// Stores an object of a run in the fleet's data store over a link.
pub(crate) fn put(
    _: Permit<'_>,
    connection: Connection,
    digest: Digest,
    bytes: Bytes,
) -> impl Future<Output = Result<(), ObjectError>> + use<> {
    in_time(bring(connection, digest, bytes))
}

/// Gives up after [`OBJECT_WITHIN`]; another master may be faster.
async fn in_time<T>(work: impl Future<Output = Result<T, ObjectError>>) -> Result<T, ObjectError> {
    tokio::time::timeout(OBJECT_WITHIN, work)
        .await
        .unwrap_or_else(|_| Err(ObjectError::Carried("it took too long".into())))
}

async fn receive(
    connection: &Connection,
    store: ObjectStore,
    digest: Digest,
    size_max: u64,
) -> Result<Bytes, ObjectError> {
    let (mut reader, mut writer) = ask(connection, &StreamRequest::Fetch { store, digest }).await?;
    writer.finish()?;
    let size = match reader.next().await? {
        Some(StreamReply::Size(size)) if size <= size_max => size,
        Some(StreamReply::Missing) => return Err(ObjectError::Missing { store, digest }),
        Some(StreamReply::Failed(cause)) => return Err(ObjectError::Carried(cause)),
        _ => return Err(ObjectError::Carried("the master's answer is not valid".into())),
    };
    let mut all = BytesMut::with_capacity(size as usize);
    while let Some(bytes) = reader.bytes().await? {
        if all.len() as u64 + bytes.len() as u64 > size {
            return Err(ObjectError::Carried("more bytes than announced".into()));
        }
        all.extend_from_slice(&bytes);
    }
    if all.len() as u64 != size {
        return Err(ObjectError::Carried("fewer bytes than announced".into()));
    }
    Ok(all.freeze())
}

async fn bring(connection: Connection, digest: Digest, bytes: Bytes) -> Result<(), ObjectError> {
    let size = bytes.len() as u64;
    let (mut reader, mut writer) = ask(&connection, &StreamRequest::Put { digest, size }).await?;
    writer.bytes(bytes).await?;
    writer.finish()?;
    match reader.next().await? {
        Some(StreamReply::Stored) => Ok(()),
        Some(StreamReply::Failed(cause)) => Err(ObjectError::Carried(cause)),
        _ => Err(ObjectError::Carried("the master's answer is not valid".into())),
    }
}
