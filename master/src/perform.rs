//! Carrying out what the fleet decided. Every effect is handed off here, and its outcome comes
//! back as an event; nothing here waits, retries or decides.

use crate::{
    Fact, Input,
    registry::{ObjectError, Registry, Want},
};
use muster_protocol::{
    BatchId, Digest, TaskId, WorkerId,
    api::Ended,
    fleet::{Answer, Effect, Event, LinkId, RequestId},
    message::{AttemptKey, LogChunk, Shelf, ToWorker, Told},
};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};

/// News that may wait for NATS: seconds of the fastest tasks, in some tens of MiB.
const NEWS_MAX: usize = 64 * 1024;

/// Ends of tasks in one message: with small outputs it is well under NATS' limit of 1 MiB.
const ENDED_MAX: usize = 64;
/// And their outputs' bytes.
const ENDED_BYTES_MAX: u64 = 512 * 1024;

/// What the loop does things with.
pub(crate) struct Hands {
    registry: Registry,
    inbox: mpsc::Sender<Input>,
    links: BTreeMap<LinkId, mpsc::Sender<ToWorker>>,
    requests: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    request: RequestId,
    writing: usize,
    released: bool,
    /// What is said to the world goes out in the order in which it was decided.
    news: mpsc::Sender<News>,
}

enum News {
    Event(muster_protocol::advisory::Advisory),
    Ended(BatchId, Vec<Ended>),
    Log(LogChunk),
    Progress(TaskId, u64, u64),
}

impl Hands {
    pub(crate) fn new(registry: Registry, inbox: mpsc::Sender<Input>) -> Self {
        let news = begin_to_spread(&registry);
        Hands {
            registry,
            inbox,
            released: false,
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            request: 0,
            writing: 0,
            news,
        }
    }

    /// Another life: what was under way in the last one is of no interest any more, and clients who
    /// wait hear that their answer will not come.
    pub(crate) fn begin_life(&mut self, registry: Registry) {
        self.news = begin_to_spread(&registry);
        self.registry = registry;
        self.requests.clear();
        self.writing = 0;
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Sends what is still queued.
    pub(crate) async fn flush(&self) {
        self.registry.flush().await;
    }

    /// Whether writes are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.writing > 0
    }

    /// Whether this master's own lease is given back.
    pub(crate) fn is_released(&self) -> bool {
        self.released
    }

    /// Counts the answers that the fleet is about to hear.
    pub(crate) fn heard(&mut self, event: &Event) {
        if matches!(
            event,
            Event::TaskWritten { .. } | Event::LeaseWritten { .. } | Event::MasterWritten { .. }
        ) {
            self.writing -= 1;
        }
    }

    pub(crate) fn opened(&mut self, link: LinkId, frames: mpsc::Sender<ToWorker>) {
        self.links.insert(link, frames);
    }

    pub(crate) fn closed(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// Says who this master is, on a link that has come up.
    pub(crate) fn welcome(&mut self, link: LinkId, welcome: ToWorker) {
        self.send(link, welcome);
    }

    /// Says so on every link, because another life has begun.
    pub(crate) fn welcome_all(&mut self, welcome: &ToWorker) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.send(link, welcome.clone());
        }
    }

    /// Numbers a request whose answer goes to `reply`.
    pub(crate) fn ask(&mut self, reply: oneshot::Sender<Answer>) -> RequestId {
        self.request += 1;
        self.requests.insert(self.request, reply);
        self.request
    }

    pub(crate) fn log(&self, chunk: LogChunk) {
        self.spread(News::Log(chunk));
    }

    pub(crate) fn progress(&self, task: TaskId, done: u64, total: u64) {
        self.spread(News::Progress(task, done, total));
    }

    /// Dropped where NATS does not keep up: the records have the truth.
    fn spread(&self, news: News) {
        if self.news.try_send(news).is_err() {
            tracing::debug!("news for people were dropped: NATS does not keep up with them");
        }
    }

    pub(crate) fn fetch(
        &self,
        shelf: Shelf,
        digest: Digest,
        reply: oneshot::Sender<Result<Option<bytes::Bytes>, ObjectError>>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.fetch(shelf, digest).await);
        });
    }

    pub(crate) fn keep(
        &self,
        digest: Digest,
        bytes: bytes::Bytes,
        reply: oneshot::Sender<Result<(), ObjectError>>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.keep(digest, bytes).await);
        });
    }

    pub(crate) fn checkpoint(
        &self,
        worker: WorkerId,
        key: AttemptKey,
        want: Want,
        reply: oneshot::Sender<Told>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.checkpoint(&worker, key, want).await);
        });
    }

    /// Returns whether this life is over.
    pub(crate) fn perform(&mut self, effects: Vec<Effect>) -> bool {
        let mut is_over = false;
        let mut ended: BTreeMap<BatchId, Vec<Ended>> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::WriteTask { expect, record, keep } => {
                    self.writing += 1;
                    self.spawn(|registry| async move {
                        let answer = registry.write_task(expect, &record, keep).await;
                        Event::TaskWritten { task: record.id, answer }
                    });
                }
                Effect::ReadTask(task) => self.read_task(task),
                Effect::WriteLease { expect, lease, asked_by } => {
                    tracing::debug!(worker = %lease.worker, standing = ?lease.standing, expect, "lease");
                    self.writing += 1;
                    self.spawn(|registry| async move {
                        let answer = registry.write_lease(expect, &lease).await;
                        Event::LeaseWritten { lease, asked_by, answer }
                    });
                }
                Effect::WriteMaster { expect, lease } => {
                    self.writing += 1;
                    self.spawn(|registry| async move {
                        let answer = registry.write_master(expect, &lease).await;
                        Event::MasterWritten { lease, answer }
                    });
                }
                Effect::BeginAnew => is_over = true,
                Effect::Released => self.released = true,
                Effect::Send { link, message } => self.send(link, message),
                Effect::Reply { request, answer } => {
                    if let Some(reply) = self.requests.remove(&request) {
                        let _ = reply.send(answer);
                    }
                }
                Effect::Tell { audience, ended: end } => {
                    ended.entry(audience).or_default().push(end)
                }
                Effect::Publish(advisory) => {
                    tracing::debug!(?advisory, "event");
                    self.spread(News::Event(advisory));
                }
            }
        }
        for (audience, ends) in ended {
            for part in parts(ends) {
                self.spread(News::Ended(audience, part));
            }
        }
        is_over
    }

    /// Does something with the registry and brings what came of it to the inbox.
    fn spawn<R>(&self, work: impl FnOnce(Registry) -> R)
    where
        R: Future<Output = Event> + Send + 'static,
    {
        let (life, inbox) = (self.registry.life(), self.inbox.clone());
        let work = work(self.registry.clone());
        tokio::spawn(async move {
            let event = work.await;
            let _ = inbox.send(Input::Registry(life, Fact::Fleet(event))).await;
        });
    }

    fn read_task(&self, task: TaskId) {
        let (registry, inbox) = (self.registry.clone(), self.inbox.clone());
        tokio::spawn(async move {
            // Where nobody knows, nothing is said: the fleet asks again.
            if let Ok(found) = registry.read_task(task).await {
                let event = Event::TaskRead(task, found);
                let _ = inbox.send(Input::Registry(registry.life(), Fact::Fleet(event))).await;
            }
        });
    }

    fn send(&mut self, link: LinkId, message: ToWorker) {
        let Some(frames) = self.links.get(&link) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = frames.try_send(message) {
            // It does not listen any more. A new link begins with what it should know.
            tracing::warn!(link, "a worker does not take its frames; its link is closed");
            self.links.remove(&link);
        }
    }
}

/// Cuts the ends of tasks into messages that NATS takes.
fn parts(ends: Vec<Ended>) -> Vec<Vec<Ended>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for end in ends {
        let size =
            end.outcome.output.size().min(muster_protocol::limit::INLINE_SIZE_MAX as u64) * 4;
        let full = parts.last().is_some_and(|part: &Vec<Ended>| part.len() >= ENDED_MAX);
        if full || bytes + size > ENDED_BYTES_MAX {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(end);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Tells the world in this life, as long as what this returns is kept.
fn begin_to_spread(registry: &Registry) -> mpsc::Sender<News> {
    let (news, heard) = mpsc::channel(NEWS_MAX);
    tokio::spawn(spread(registry.clone(), heard));
    news
}

/// Tells the world, one thing after the other.
async fn spread(registry: Registry, mut heard: mpsc::Receiver<News>) {
    while let Some(news) = heard.recv().await {
        match news {
            News::Event(advisory) => registry.publish(&advisory).await,
            News::Ended(audience, ended) => registry.tell(audience, &ended).await,
            News::Log(chunk) => registry.log(chunk).await,
            News::Progress(task, done, total) => registry.progress(task, done, total).await,
        }
    }
}
