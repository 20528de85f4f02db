//! Carrying out what the fleet decided. Every effect is handed off here, and its outcome comes
//! back as an event; nothing here waits, retries or decides.

use crate::{
    Fact, Input,
    publisher::{Batch, Publisher},
    registry::{ObjectError, Registry, Writes},
};
use muster_protocol::{
    Digest, TaskId, checkpoint,
    fleet::{ClientReply, Effect, Event, LinkId, RequestId},
    message::{ObjectStore, StreamReply, ToWorker},
    subject::Bucket,
};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};

/// What the loop does things with.
pub(crate) struct Executor {
    registry: Registry,
    inbox: mpsc::Sender<Input>,
    links: BTreeMap<LinkId, mpsc::Sender<ToWorker>>,
    requests: BTreeMap<RequestId, oneshot::Sender<ClientReply>>,
    request: RequestId,
    writing: usize,
    released: bool,
    writes: Writes,
    publisher: Publisher,
}

impl Executor {
    pub(crate) fn new(registry: Registry, inbox: mpsc::Sender<Input>) -> Self {
        let (publisher, writes) = (Publisher::begin(&registry), Writes::begin(&registry, &inbox));
        Executor {
            registry,
            inbox,
            released: false,
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            request: 0,
            writing: 0,
            writes,
            publisher: publisher,
        }
    }

    /// Another session: what was under way in the last one is of no interest any more, and clients who
    /// wait hear that their answer will not come.
    pub(crate) fn begin_session(&mut self, registry: Registry) {
        self.publisher = Publisher::begin(&registry);
        self.writes = Writes::begin(&registry, &self.inbox);
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
            Event::TaskWritten { .. }
                | Event::LeaseWritten { .. }
                | Event::MasterWritten { .. }
                | Event::GuardWritten { .. }
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

    /// Says so on every link, because another session has begun.
    pub(crate) fn welcome_all(&mut self, welcome: &ToWorker) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.send(link, welcome.clone());
        }
    }

    /// Numbers a request whose answer goes to `reply`.
    pub(crate) fn ask(&mut self, reply: oneshot::Sender<ClientReply>) -> RequestId {
        self.request += 1;
        self.requests.insert(self.request, reply);
        self.request
    }

    /// Where logs and progress of guests go.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    pub(crate) fn fetch(
        &self,
        store: ObjectStore,
        digest: Digest,
        reply: oneshot::Sender<Result<Option<bytes::Bytes>, ObjectError>>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.fetch(store, digest).await);
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
        request: checkpoint::Request,
        reply: oneshot::Sender<StreamReply>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.checkpoint(request).await);
        });
    }

    /// Returns whether this session is over.
    pub(crate) fn execute(&mut self, effects: Vec<Effect>) -> bool {
        let mut is_over = false;
        let mut batch = Batch::default();
        for effect in effects {
            match effect {
                Effect::WriteTask { expect, record, keep } => {
                    self.writing += 1;
                    self.writes.write(expect, record, keep);
                }
                Effect::ReadTask { task, read } => self.read_task(task, read),
                Effect::ReadEnd { bucket, read } => self.read_end(bucket, read),
                Effect::WriteGuard { expect, guard } => {
                    tracing::warn!(lifted = guard.lifted, reason = guard.reason, "failover guard");
                    self.writing += 1;
                    self.spawn(|registry| async move {
                        let answer = registry.write_guard(expect, &guard).await;
                        Event::GuardWritten { guard, answer }
                    });
                }
                Effect::WriteLease { expect, lease, asked_by } => {
                    tracing::debug!(worker = %lease.worker, standing = ?lease.state, expect, "lease");
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
                Effect::Tell { audience, ended } => batch.ended(audience, ended),
                Effect::Publish(advisory) => {
                    tracing::debug!(?advisory, "event");
                    batch.event(advisory);
                }
            }
        }
        self.publisher.publish(batch);
        is_over
    }

    /// Does something with the registry and brings what came of it to the inbox.
    fn spawn<R>(&self, work: impl FnOnce(Registry) -> R)
    where
        R: Future<Output = Event> + Send + 'static,
    {
        let (session, inbox) = (self.registry.session(), self.inbox.clone());
        let work = work(self.registry.clone());
        tokio::spawn(async move {
            let event = work.await;
            let _ = inbox.send(Input::Registry(session, Fact::Fleet(event))).await;
        });
    }

    fn read_end(&self, bucket: Bucket, read: u64) {
        let (registry, inbox) = (self.registry.clone(), self.inbox.clone());
        tokio::spawn(async move {
            match registry.read_end(bucket).await {
                Ok(end) => {
                    let event = Event::EndRead { bucket, read, end };
                    let event = Input::Registry(registry.session(), Fact::Fleet(event));
                    let _ = inbox.send(event).await;
                }
                // The fleet hears nothing, and asks again.
                Err(error) => {
                    tracing::warn!(bucket = bucket.word(), %error, "where it ends is not known");
                }
            }
        });
    }

    fn read_task(&self, task: TaskId, read: u64) {
        let (registry, inbox) = (self.registry.clone(), self.inbox.clone());
        tokio::spawn(async move {
            match registry.read_task(task).await {
                Ok(found) => {
                    let event = Event::TaskRead { task, read, found };
                    let event = Input::Registry(registry.session(), Fact::Fleet(event));
                    let _ = inbox.send(event).await;
                }
                // The fleet hears nothing, and asks again.
                Err(error) => tracing::warn!(%error, "a record cannot be read"),
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
