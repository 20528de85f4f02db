//! Follows a bucket: all present values, then every change. Creates consumers and reads the stream's
//! end. Never interprets them; [`Watch`] decides what they mean.

use super::{
    Fact, FactInput, Registry, SessionFact, layout,
    ready::{is_in_step, mark_of},
};
use async_nats::jetstream::{
    Message,
    consumer::{Consumer, DeliverPolicy, Info, push::OrderedConfig},
    stream::Stream,
};
use futures::{FutureExt as _, StreamExt as _};
use muster_protocol::{
    SessionId, WorkerId,
    api::ModuleEntry,
    enrolment::{MEMBER, Member},
    fleet::Event,
    group::{GROUP, Group},
    lease::{Lease, MasterLease},
    record,
    registry::{GUARD_KEY, Mark},
    role::{USER, User},
    sealed::{SEALED, SealedSecret},
    subject::{Bucket, STATE_DONE, STATE_HEADER, WRITER_HEADER},
    task::TaskRecord,
    upgrade::UPGRADE,
    watch::{COMPARE_EVERY, COMPARE_LAGGING_EVERY, Compared, Shown, Start, Watch},
};
use muster_wire::clock;
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Backoff before a broken watch is made again: the first, and the longest.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// How long the first try to begin a watch may take; each further one twice as long, up to the longest.
/// A leader that is gone answers nothing, and a new one may be there long before a request's timeout.
const BEGIN_WITHIN_MIN: Duration = Duration::from_millis(500);
const BEGIN_WITHIN_MAX: Duration = Duration::from_secs(8);

/// Follows `bucket` until the inbox is closed. `company` says whether other masters may write to it.
pub(super) async fn follow(
    registry: Registry,
    bucket: Bucket,
    company: watch::Receiver<bool>,
    inbox: mpsc::Sender<impl FactInput>,
) {
    let watch = match bucket {
        Bucket::Tasks => registry.tasks.clone(),
        _ => {
            let stream = registry.ends.of(bucket).stream;
            let is_cluster = registry.server.is_none();
            Arc::new(Mutex::new(Watch::new(bucket, registry.session, stream, is_cluster)))
        }
    };
    let mut follower = Follower { registry, bucket, company, inbox, watch, lags: false };
    let (mut wait, mut within) = (AGAIN_MIN, BEGIN_WITHIN_MIN);
    while !follower.inbox.is_closed() {
        let began = Instant::now();
        match follower.run(within).await {
            Ok(WatchEnd::Rested) => continue,
            Ok(WatchEnd::Behind) => (wait, within) = (AGAIN_MIN, BEGIN_WITHIN_MIN),
            Err(cause) => {
                tracing::warn!(bucket = bucket.word(), %cause, "a watch broke; it is created anew");
                if began.elapsed() > COMPARE_EVERY {
                    (wait, within) = (AGAIN_MIN, BEGIN_WITHIN_MIN);
                }
            }
        }
        tokio::time::sleep(wait).await;
        (wait, within) = ((wait * 2).min(AGAIN_MAX), (within * 2).min(BEGIN_WITHIN_MAX));
    }
}

struct Follower<H> {
    registry: Registry,
    bucket: Bucket,
    company: watch::Receiver<bool>,
    inbox: mpsc::Sender<H>,
    watch: Arc<Mutex<Watch>>,
    /// Whether the last comparison found that the stream lacks a known revision.
    lags: bool,
}

/// Why a consumer was dropped.
enum WatchEnd {
    /// The stream's end shows that the consumer missed something, or the consumer has ended.
    Behind,
    /// The consumer was not needed for a while.
    Rested,
}

impl<H: FactInput> Follower<H> {
    /// Follows with one consumer, until it is dropped. It has to begin `within` a time.
    async fn run(&mut self, within: Duration) -> Result<WatchEnd, async_nats::Error> {
        let (stream, consumer, end) = tokio::time::timeout(within, self.begin()).await??;
        let consumer_name = consumer.cached_info().name.clone();
        let has_more = consumer.cached_info().num_pending > 0;
        let loaded = self.watch().began(end.revision, has_more);
        self.loaded(loaded).await;
        let mut messages = consumer.messages().await?;
        let mut compare = Instant::now() + self.compare_after();
        loop {
            if self.may_rest() {
                drop(messages);
                // Delete the consumer now: the server would keep it for another half a minute.
                let _ = stream.delete_consumer(&consumer_name).await;
                self.rest().await?;
                return Ok(WatchEnd::Rested);
            }
            tokio::select! {
                message = messages.next() => match message {
                    None => return Ok(WatchEnd::Behind),
                    Some(message) => {
                        let message = message?;
                        // The client library has replaced the consumer, maybe at a server that lacks
                        // something.
                        if message.info()?.consumer != consumer_name {
                            return Ok(WatchEnd::Behind);
                        }
                        self.take(message).await?;
                    }
                },
                Ok(()) = self.company.changed() => {}
                () = tokio::time::sleep_until(compare) => {
                    match self.compare().await {
                        Ok((.., Compared::Behind)) => return Ok(WatchEnd::Behind),
                        Ok(_) => {}
                        // A cluster that is electing does not answer. The consumer may go on all the
                        // same, and the next comparison shows whether it has.
                        Err(cause) => tracing::debug!(%cause, "the end of a stream is unknown"),
                    }
                    compare = Instant::now() + self.compare_after();
                }
            }
        }
    }

    /// Creates a consumer. Returns it with its stream, and where the stream ended before.
    async fn begin(
        &mut self,
    ) -> Result<(Stream, Consumer<OrderedConfig>, Mark), async_nats::Error> {
        let (stream, end, _) = self.compare().await?;
        let deliver_policy = match self.watch().begin() {
            Start::Newest => DeliverPolicy::LastPerSubject,
            Start::After(upto) => DeliverPolicy::ByStartSequence { start_sequence: upto + 1 },
        };
        let config = OrderedConfig {
            deliver_subject: self.registry.client.new_inbox(),
            deliver_policy,
            filter_subject: self.registry.names.key(self.bucket, ">"),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await?;
        self.demand_in_step(&stream, consumer.cached_info()).await?;
        Ok((stream, consumer, end))
    }

    /// Deletes a consumer and fails, unless it is at a server that has everything that the stream has.
    async fn demand_in_step(
        &self,
        stream: &Stream,
        consumer: &Info,
    ) -> Result<(), async_nats::Error> {
        let at = consumer.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref());
        let Some(at) = at.filter(|_| self.registry.server.is_none()) else { return Ok(()) };
        if is_in_step(&stream.get_info().await?, at) {
            return Ok(());
        }
        let _ = stream.delete_consumer(&consumer.name).await;
        Err(format!("its server {at} has not caught up with the stream").into())
    }

    fn may_rest(&self) -> bool {
        let company = *self.company.borrow();
        let mut watch = self.watch();
        watch.meet(company);
        watch.may_rest()
    }

    /// Waits until another master may write, or the stream's end shows a write of somebody else.
    async fn rest(&mut self) -> Result<(), async_nats::Error> {
        let mut company = self.company.clone();
        loop {
            tokio::select! {
                found = company.wait_for(|company| *company).map(|found| found.is_ok()) => {
                    if found {
                        return Ok(());
                    }
                    // The session is over; this loop will be aborted.
                    std::future::pending().await
                }
                () = tokio::time::sleep(self.compare_after()) => {
                    if let Ok((.., Compared::Behind)) = self.compare().await {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn compare_after(&self) -> Duration {
        if self.lags { COMPARE_LAGGING_EVERY } else { COMPARE_EVERY }
    }

    /// Compares the end of the stream with the watermark. If the stream went back or was deleted, ends the
    /// session and does not return.
    async fn compare(&mut self) -> Result<(Stream, Mark, Compared), async_nats::Error> {
        let question = self.watch().question(clock::boottime());
        let found = self.registry.context.get_stream(self.registry.names.stream(self.bucket)).await;
        if found.as_ref().is_err_and(layout::is_missing) {
            return self.end_session().await;
        }
        let found = found?;
        let end = mark_of(found.cached_info());
        let compared = self.watch().compared(question, end);
        let lags = compared == Compared::Lagging;
        if self.lags != lags {
            let stream = self.registry.names.stream(self.bucket);
            let (known, end) = (question.upto, end.revision);
            tracing::info!(stream, known, end, lags, "whether a server lacks known writes");
            self.tell(Fact::Fleet(Event::StreamLags { bucket: self.bucket, lags })).await;
            // Only now: this may be dropped while it waits.
            self.lags = lags;
        }
        if compared == Compared::WentBack {
            let stream = self.registry.names.stream(self.bucket);
            tracing::warn!(
                stream,
                known = question.upto,
                end = end.revision,
                "the registry has lost writes; another session begins from what there is"
            );
            return self.end_session().await;
        }
        Ok((found, end, compared))
    }

    /// Asks for another session, and waits until this loop is aborted.
    async fn end_session<T>(&self) -> T {
        self.tell(Fact::Down).await;
        std::future::pending().await
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().expect("no holder of this lock panics")
    }

    async fn loaded(&self, loaded: bool) {
        if loaded {
            self.tell(Fact::Loaded(self.bucket)).await;
        }
    }

    async fn tell(&self, fact: Fact) {
        let _ = self.inbox.send(SessionFact(self.registry.session, fact).into()).await;
    }

    async fn take(&self, message: Message) -> Result<(), async_nats::Error> {
        let header = |name| message.headers.as_ref()?.get(name).map(|value| value.as_str());
        let info = message.info()?;
        let shown = Shown {
            revision: info.stream_sequence,
            has_more: info.pending > 0,
            writer: header(WRITER_HEADER).and_then(|writer| writer.parse().ok()),
            is_done: header(STATE_HEADER) == Some(STATE_DONE),
        };
        let is_news = self.watch().is_news(&shown);
        if is_news && let Some(fact) = self.read(&message, shown.revision) {
            self.tell(fact).await;
        }
        let loaded = self.watch().showed(&shown);
        self.loaded(loaded).await;
        Ok(())
    }

    fn read(&self, message: &Message, sequence: u64) -> Option<Fact> {
        let broken = |error: serde_json::Error| {
            if !message.payload.is_empty() {
                tracing::warn!(subject = %message.subject, %error, "a value cannot be read");
            }
        };
        match self.bucket {
            Bucket::Tasks => {
                let record: TaskRecord = record::read(&message.payload).map_err(broken).ok()?;
                Some(Fact::Fleet(Event::TaskSeen(Box::new(record), sequence)))
            }
            Bucket::Checkpoints => None,
            Bucket::Workers => match record::read::<Lease>(&message.payload).map_err(broken) {
                Ok(lease) => Some(Fact::Fleet(Event::LeaseSeen(lease, sequence))),
                // A tombstone, or a value that nobody can read.
                Err(()) => {
                    let worker: WorkerId = message.subject.rsplit('.').next()?.parse().ok()?;
                    Some(Fact::Fleet(Event::LeaseGone(worker, sequence)))
                }
            },
            Bucket::Masters if message.subject.rsplit('.').next() == Some(GUARD_KEY) => {
                let guard = record::read(&message.payload).map_err(broken).ok()?;
                Some(Fact::Fleet(Event::GuardSeen(guard, sequence)))
            }
            Bucket::Masters => {
                match record::read::<MasterLease>(&message.payload).map_err(broken) {
                    Ok(lease) => Some(Fact::Fleet(Event::MasterSeen(lease, sequence))),
                    Err(()) => {
                        let session: SessionId =
                            message.subject.rsplit('.').next()?.parse().ok()?;
                        Some(Fact::Fleet(Event::MasterGone(session)))
                    }
                }
            }
            Bucket::Modules if message.payload.is_empty() => {
                Some(Fact::ModuleGone(message.subject.rsplit('.').next()?.into()))
            }
            Bucket::Modules => {
                let entry: ModuleEntry = record::read(&message.payload).map_err(broken).ok()?;
                Some(Fact::ModuleSeen(entry))
            }
            Bucket::Access => {
                let bucket = self.registry.names.key(Bucket::Access, "");
                let key = message.subject.strip_prefix(&bucket)?;
                match key.split('.').next()? {
                    MEMBER => {
                        let member: Member = record::read(&message.payload).map_err(broken).ok()?;
                        Some(Fact::MemberSeen(member))
                    }
                    USER => {
                        let user: User = record::read(&message.payload).map_err(broken).ok()?;
                        Some(Fact::UserSeen(user))
                    }
                    SEALED if message.payload.is_empty() => Some(Fact::SecretGone(key.into())),
                    SEALED => {
                        let secret = record::read(&message.payload).map_err(broken).ok()?;
                        Some(Fact::SecretSeen(SealedSecret::without_file(secret)))
                    }
                    GROUP => {
                        let group: Group = record::read(&message.payload).map_err(broken).ok()?;
                        Some(Fact::GroupSeen(group))
                    }
                    UPGRADE => {
                        let upgrade = record::read(&message.payload).map_err(broken).ok()?;
                        Some(Fact::UpgradeSeen(upgrade))
                    }
                    // Invitations are read when somebody uses them.
                    _ => None,
                }
            }
        }
    }
}
