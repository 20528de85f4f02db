//! The executor carries out the fleet's effects. It hands off each effect, and the result comes back as
//! an event. Never waits, retries or decides.

use crate::{
    changes::Changes,
    enrol::Registrar,
    inbox::{Input, LinkHandle},
    metrics::Metrics,
    publisher::{Batch, Publisher},
    registry::{Fact, ObjectError, Registry, SessionFact, Writes},
};
use muster_protocol::{
    Digest, TaskId, WorkerId, checkpoint,
    fleet::{ClientReply, Effect, Event, LinkId, ObjectAccess, RequestId},
    message::{AttemptKey, Join, JoinReply, ObjectStore, StreamReply, ToWorker},
    sealed::Question,
    subject::Bucket,
};
use muster_wire::otlp::Exporter;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// The handles with which the loop carries out effects.
pub(crate) struct Executor {
    registry: Registry,
    inbox: mpsc::Sender<Input>,
    links: BTreeMap<LinkId, LinkHandle>,
    requests: BTreeMap<RequestId, oneshot::Sender<ClientReply>>,
    request: RequestId,
    writing: usize,
    released: bool,
    writes: Writes,
    publisher: Publisher,
    /// Absent if nobody can read them.
    metrics: Option<Metrics>,
    traces: Option<Exporter>,
    changes: Option<Changes>,
}

impl Executor {
    pub(crate) fn new(
        registry: Registry,
        inbox: mpsc::Sender<Input>,
        metrics: Option<Metrics>,
        changes: Option<Changes>,
        traces: Option<Exporter>,
    ) -> Self {
        if let Some(changes) = &changes {
            changes.begin_session(registry.session());
        }
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
            publisher,
            metrics,
            traces,
            changes,
        }
    }

    /// Begins another session. Drops what was under way in the last one; clients that wait get an error.
    pub(crate) fn begin_session(&mut self, registry: Registry) {
        self.publisher = Publisher::begin(&registry);
        self.writes = Writes::begin(&registry, &self.inbox);
        self.registry = registry;
        if let Some(metrics) = &self.metrics {
            metrics.begin_session();
        }
        if let Some(changes) = &self.changes {
            changes.begin_session(self.registry.session());
        }
        self.requests.clear();
        self.writing = 0;
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Sends the messages that are still queued.
    pub(crate) async fn flush(&self) {
        self.registry.flush().await;
    }

    /// Whether writes are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.writing > 0
    }

    /// Whether this master has given its own lease back.
    pub(crate) fn is_released(&self) -> bool {
        self.released
    }

    /// Counts answered writes. Call it before the fleet observes the event.
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
        if let (Some(metrics), Event::TaskWritten { task, .. }) = (&self.metrics, event) {
            metrics.written(*task);
        }
        if let Some(changes) = &self.changes {
            changes.heard(event);
        }
    }

    pub(crate) fn opened(&mut self, link: LinkId, handle: LinkHandle) {
        self.links.insert(link, handle);
    }

    pub(crate) fn closed(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// Introduces this master on a link that has come up.
    pub(crate) fn welcome(&mut self, link: LinkId, welcome: ToWorker) {
        self.send(link, welcome);
    }

    /// Introduces this master again on every link, because another session has begun.
    pub(crate) fn welcome_all(&mut self, welcome: &ToWorker) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.send(link, welcome.clone());
        }
    }

    /// Registers a request whose answer goes to `reply`.
    pub(crate) fn ask(&mut self, reply: oneshot::Sender<ClientReply>) -> RequestId {
        self.request += 1;
        self.requests.insert(self.request, reply);
        self.request
    }

    /// The publisher, for logs and progress of guests.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    pub(crate) fn fetch(
        &self,
        access: ObjectAccess,
        store: ObjectStore,
        digest: Digest,
        reply: oneshot::Sender<Result<Option<bytes::Bytes>, ObjectError>>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.fetch_for_worker(access, store, digest).await);
        });
    }

    pub(crate) fn keep(
        &self,
        worker: WorkerId,
        digest: Digest,
        bytes: bytes::Bytes,
        reply: oneshot::Sender<Result<(), ObjectError>>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.keep(&worker, digest, bytes).await);
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

    pub(crate) fn secret(&self, question: Question, reply: oneshot::Sender<StreamReply>) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registry.answer_question(question).await);
        });
    }

    /// Answers a program that wants to join; all masters listen at `masters`.
    pub(crate) fn join(
        &self,
        registrar: Arc<Registrar>,
        masters: Vec<String>,
        join: Join,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _ = reply.send(registrar.answer(&registry, masters, join).await);
        });
    }

    /// Answers from the registry how many bytes of log an attempt of this worker may have.
    pub(crate) fn log_max(
        &self,
        worker: WorkerId,
        key: AttemptKey,
        reply: oneshot::Sender<Option<u64>>,
    ) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let Ok(found) = registry.read_task(key.task).await else { return };
            let _ = reply.send(found.and_then(|(record, _)| record.log_max(&worker, key.attempt)));
        });
    }

    /// Carries out effects in order. Returns whether this session is over.
    pub(crate) fn execute(&mut self, effects: Vec<Effect>) -> bool {
        let mut is_over = false;
        let mut batch = Batch::default();
        for effect in effects {
            match effect {
                Effect::WriteTask { expect, record, keep } => {
                    self.writing += 1;
                    if let Some(metrics) = &self.metrics {
                        metrics.writing(record.id);
                    }
                    if let Some(changes) = &self.changes {
                        changes.writing(&record);
                    }
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
                Effect::CloseLink { link, worker, why } => {
                    if self.close(link, why) {
                        tracing::warn!(%worker, why, "its link is closed");
                    }
                }
                Effect::Reply { request, answer } => {
                    if let Some(reply) = self.requests.remove(&request) {
                        let _ = reply.send(answer);
                    }
                }
                Effect::Tell { audience, ended, group, times, spans } => {
                    if let Some(traces) = &self.traces {
                        spans.into_iter().for_each(|span| traces.send(span));
                    }
                    if let Some(metrics) = &self.metrics {
                        metrics.ended(group.as_str(), &ended.outcome, &times);
                    }
                    if let Some(changes) = &self.changes {
                        changes.ended(ended.outcome.verdict.name());
                    }
                    batch.ended(audience, ended);
                }
                Effect::Publish(advisory) => {
                    tracing::debug!(?advisory, "event");
                    if let Some(metrics) = &self.metrics {
                        metrics.event(&advisory);
                    }
                    batch.event(advisory);
                }
            }
        }
        self.publisher.publish(batch);
        is_over
    }

    /// Runs a registry call in a loop of its own, and sends the result to the inbox.
    fn spawn<R>(&self, work: impl FnOnce(Registry) -> R)
    where
        R: Future<Output = Event> + Send + 'static,
    {
        let (session, inbox) = (self.registry.session(), self.inbox.clone());
        let work = work(self.registry.clone());
        tokio::spawn(async move {
            let event = work.await;
            let _ = inbox.send(Input::Registry(SessionFact(session, Fact::Fleet(event)))).await;
        });
    }

    fn read_end(&self, bucket: Bucket, read: u64) {
        let (registry, inbox) = (self.registry.clone(), self.inbox.clone());
        tokio::spawn(async move {
            match registry.read_end(bucket).await {
                Ok(end) => {
                    let event = Event::EndRead { bucket, read, end };
                    let event =
                        Input::Registry(SessionFact(registry.session(), Fact::Fleet(event)));
                    let _ = inbox.send(event).await;
                }
                // The fleet gets no event, and asks again.
                Err(error) => {
                    tracing::warn!(bucket = bucket.word(), %error, "the end of a stream cannot be read");
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
                    let event =
                        Input::Registry(SessionFact(registry.session(), Fact::Fleet(event)));
                    let _ = inbox.send(event).await;
                }
                // The fleet gets no event, and asks again.
                Err(error) => tracing::warn!(%error, "a record cannot be read"),
            }
        });
    }

    fn send(&mut self, link: LinkId, message: ToWorker) {
        let Some(LinkHandle { frames, .. }) = self.links.get(&link) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = frames.try_send(message) {
            // A new link begins with all that the worker must know.
            tracing::warn!(link, "a worker does not read its frames; its link is closed");
            self.close(link, "the worker does not read its frames");
        }
    }

    /// Closes a link. Returns whether it was up.
    fn close(&mut self, link: LinkId, why: &'static str) -> bool {
        let Some(handle) = self.links.remove(&link) else { return false };
        let _ = handle.close.send(why);
        true
    }
}
