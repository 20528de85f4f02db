//! Following a bucket: everything in it, then everything that changes. A watch is a hint that may
//! be late or die unnoticed, so the stream's end is compared with what was seen every few seconds.
//!
//! A master without company rests from following the tasks: all that it would hear is the echo of its
//! own writes, and that is a tenth of what the registry does for a task. It rests only while its
//! acknowledgements follow each other without a gap; a gap is somebody else's write.

use super::{Registry, horizon::Horizon, layout};
use crate::{Fact, Input};
use async_nats::jetstream::{
    Message,
    consumer::{DeliverPolicy, push::OrderedConfig},
    stream::Stream,
};
use futures::{FutureExt as _, StreamExt as _};
use muster_protocol::{
    Revision, SessionId, WorkerId,
    api::ModuleEntry,
    fleet::Event,
    lease::{Lease, MasterLease},
    registry::GUARD_KEY,
    subject::{Bucket, STATE_DONE, STATE_HEADER, WRITER_HEADER},
    task::TaskRecord,
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// How often the end of the stream is compared with what was seen.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// How long to wait before a broken watch is made anew.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Follows `bucket` until the inbox is gone. `company` says whether others may write to it.
pub(super) async fn follow(
    registry: Registry,
    bucket: Bucket,
    company: watch::Receiver<bool>,
    inbox: mpsc::Sender<Input>,
) {
    let horizon = match bucket {
        Bucket::Tasks => registry.tasks.clone(),
        _ => Arc::default(),
    };
    let mut watch =
        Watch { registry, bucket, company, inbox, horizon, loaded: false, clear: false };
    while !watch.inbox.is_closed() {
        match watch.run().await {
            Ok(Ended::Rested) => continue,
            Ok(Ended::Behind) => {}
            Err(cause) => {
                tracing::warn!(bucket = bucket.word(), %cause, "a watch broke; it is made anew");
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

struct Watch {
    registry: Registry,
    bucket: Bucket,
    company: watch::Receiver<bool>,
    inbox: mpsc::Sender<Input>,
    horizon: Arc<Mutex<Horizon>>,
    loaded: bool,
    /// Whether the consumer has shown all there was.
    clear: bool,
}

/// Why a consumer is not used any more.
enum Ended {
    /// The stream's end shows that it missed something.
    Behind,
    /// It was not needed for a while.
    Rested,
}

impl Watch {
    /// Follows by one consumer until it is not used any more.
    async fn run(&mut self) -> Result<Ended, async_nats::Error> {
        let name = self.registry.names.stream(self.bucket);
        let found = self.registry.context.get_stream(&name).await;
        if found.as_ref().is_err_and(layout::is_missing) {
            tracing::warn!(stream = name, "somebody has deleted a stream; it is made anew");
            self.tell(Fact::Down).await;
            return std::future::pending().await;
        }
        let mut stream = found?;
        let last = self.last(&mut stream).await?;
        let deliver_policy = match self.horizon().begin() {
            0 => DeliverPolicy::LastPerSubject,
            upto => DeliverPolicy::ByStartSequence { start_sequence: upto + 1 },
        };
        let config = OrderedConfig {
            deliver_subject: self.registry.client.new_inbox(),
            deliver_policy,
            filter_subject: self.registry.names.key(self.bucket, ">"),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let consumer_name = consumer.cached_info().name.clone();
        self.clear = consumer.cached_info().num_pending == 0;
        if self.clear {
            // What had been written up to then is gone again.
            self.horizon().saw(last);
            self.loaded().await;
        }
        let mut messages = consumer.messages().await?;
        let mut compare = Instant::now() + COMPARE_EVERY;
        let mut behind_at = None;
        loop {
            if self.may_rest() {
                drop(messages);
                // It would go by itself, in half a minute.
                let _ = stream.delete_consumer(&consumer_name).await;
                self.rest(&mut stream).await?;
                return Ok(Ended::Rested);
            }
            tokio::select! {
                message = messages.next() => match message {
                    None => return Ok(Ended::Behind),
                    Some(message) => self.take(message?).await?,
                },
                Ok(()) = self.company.changed() => {}
                () = tokio::time::sleep_until(compare) => {
                    compare = Instant::now() + COMPARE_EVERY;
                    if self.is_stuck(&mut stream, &mut behind_at).await? {
                        return Ok(Ended::Behind);
                    }
                }
            }
        }
    }

    /// Whether nobody but this session writes to the bucket, and all of others is known.
    fn may_rest(&self) -> bool {
        let alone = self.bucket == Bucket::Tasks && !*self.company.borrow();
        alone && self.loaded && (self.clear || self.horizon().is_ahead())
    }

    /// Until there is company, or a write that is not this session's.
    async fn rest(&self, stream: &mut Stream) -> Result<(), async_nats::Error> {
        let (mut company, mut behind_at) = (self.company.clone(), None);
        loop {
            tokio::select! {
                found = company.wait_for(|company| *company).map(|found| found.is_ok()) => {
                    if found {
                        return Ok(());
                    }
                    // Nobody decides anything any more.
                    std::future::pending().await
                }
                () = tokio::time::sleep(COMPARE_EVERY) => {
                    if self.is_stuck(stream, &mut behind_at).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether what is known ends before the stream, and did so at the same place the last time: it is
    /// not late, it misses something.
    async fn is_stuck(
        &self,
        stream: &mut Stream,
        behind_at: &mut Option<Revision>,
    ) -> Result<bool, async_nats::Error> {
        let last = self.last(stream).await?;
        let upto = self.horizon().upto();
        let behind = (last > upto).then_some(upto);
        Ok(behind.is_some() && std::mem::replace(behind_at, behind) == behind)
    }

    /// The end of the stream. If that is before what was seen, nothing that was seen is certain any
    /// more: another session begins from what there is.
    async fn last(&self, stream: &mut Stream) -> Result<Revision, async_nats::Error> {
        // Before the question: what is written meanwhile is no proof of anything.
        let upto = self.horizon().upto();
        let last = stream.info().await?.state.last_sequence;
        if last < upto {
            let stream = self.registry.names.stream(self.bucket);
            tracing::warn!(stream, upto, last, "the registry went back in time");
            self.tell(Fact::Down).await;
            return std::future::pending().await;
        }
        Ok(last)
    }

    fn horizon(&self) -> MutexGuard<'_, Horizon> {
        self.horizon.lock().expect("no holder of this lock panics")
    }

    async fn loaded(&mut self) {
        if !self.loaded {
            self.loaded = true;
            self.tell(Fact::Loaded(self.bucket)).await;
        }
    }

    async fn tell(&self, fact: Fact) {
        let _ = self.inbox.send(Input::Registry(self.registry.session, fact)).await;
    }

    async fn take(&mut self, message: Message) -> Result<(), async_nats::Error> {
        let (sequence, pending) = {
            let info = message.info()?;
            (info.stream_sequence, info.pending)
        };
        if let Some(fact) = self.read(&message, sequence) {
            self.tell(fact).await;
        }
        self.horizon().saw(sequence);
        self.clear = pending == 0;
        if self.clear {
            self.loaded().await;
        }
        Ok(())
    }

    fn read(&self, message: &Message, sequence: u64) -> Option<Fact> {
        let header = |name| message.headers.as_ref()?.get(name).map(|value| value.as_str());
        let broken = |error: serde_json::Error| {
            tracing::warn!(subject = %message.subject, %error, "a value cannot be read; passed over");
        };
        match self.bucket {
            Bucket::Tasks => {
                let done = header(STATE_HEADER) == Some(STATE_DONE);
                let own = header(WRITER_HEADER)
                    .is_some_and(|writer| writer.parse() == Ok(self.registry.session));
                // What was over before this master began, it need not know.
                if own || (done && !self.loaded) {
                    return None;
                }
                let record: TaskRecord =
                    serde_json::from_slice(&message.payload).map_err(broken).ok()?;
                Some(Fact::Fleet(Event::TaskSeen(Box::new(record), sequence)))
            }
            Bucket::Checkpoints => None,
            Bucket::Workers if message.payload.is_empty() => {
                let worker: WorkerId = message.subject.rsplit('.').next()?.parse().ok()?;
                Some(Fact::Fleet(Event::LeaseGone(worker, sequence)))
            }
            Bucket::Masters if message.subject.rsplit('.').next() == Some(GUARD_KEY) => {
                let guard = serde_json::from_slice(&message.payload).map_err(broken).ok()?;
                Some(Fact::Fleet(Event::GuardSeen(guard, sequence)))
            }
            Bucket::Masters if message.payload.is_empty() => {
                let session: SessionId = message.subject.rsplit('.').next()?.parse().ok()?;
                Some(Fact::Fleet(Event::MasterGone(session)))
            }
            Bucket::Masters => {
                let lease: MasterLease =
                    serde_json::from_slice(&message.payload).map_err(broken).ok()?;
                Some(Fact::Fleet(Event::MasterSeen(lease, sequence)))
            }
            Bucket::Workers => {
                let lease: Lease = serde_json::from_slice(&message.payload).map_err(broken).ok()?;
                Some(Fact::Fleet(Event::LeaseSeen(lease, sequence)))
            }
            Bucket::Modules if message.payload.is_empty() => {
                Some(Fact::ModuleGone(message.subject.rsplit('.').next()?.into()))
            }
            Bucket::Modules => {
                let entry: ModuleEntry =
                    serde_json::from_slice(&message.payload).map_err(broken).ok()?;
                Some(Fact::ModuleSeen(entry))
            }
        }
    }
}
