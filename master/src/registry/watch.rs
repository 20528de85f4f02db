//! Following a bucket: everything in it, then everything that changes. A watch is a hint that may
//! be late or die unnoticed, so the stream's end is compared with what was seen every few seconds.

use super::Registry;
use crate::{Fact, Input};
use async_nats::jetstream::{
    Message,
    consumer::{DeliverPolicy, push::OrderedConfig},
};
use futures::StreamExt;
use muster_protocol::{
    SessionId, WorkerId,
    api::ModuleEntry,
    fleet::Event,
    lease::{Lease, MasterLease},
    subject::{Bucket, STATE_DONE, STATE_HEADER, WRITER_HEADER},
    task::TaskRecord,
};
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// How often the end of the stream is compared with what was seen.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// How long to wait before a broken watch is made anew.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Follows `bucket` until the inbox is gone.
pub(super) async fn follow(registry: Registry, bucket: Bucket, inbox: mpsc::Sender<Input>) {
    let mut watch = Watch { registry, bucket, inbox, seen: 0, loaded: false };
    while !watch.inbox.is_closed() {
        if let Err(cause) = watch.run().await {
            tracing::warn!(bucket = bucket.word(), %cause, "a watch broke; it is made anew");
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

struct Watch {
    registry: Registry,
    bucket: Bucket,
    inbox: mpsc::Sender<Input>,
    /// The last sequence seen; 0 before the first.
    seen: u64,
    loaded: bool,
}

impl Watch {
    /// One life of a consumer. `Ok` where the stream's end shows that it missed something.
    async fn run(&mut self) -> Result<(), async_nats::Error> {
        let name = self.registry.names.stream(self.bucket);
        let mut stream = self.registry.context.get_stream(&name).await?;
        if stream.info().await?.state.last_sequence < self.seen {
            // Nothing that was seen is certain any more: another life begins from what there is.
            tracing::warn!(stream = name, seen = self.seen, "the registry went back in time");
            self.tell(Fact::Down).await;
            return std::future::pending().await;
        }
        let deliver_policy = match self.seen {
            0 => DeliverPolicy::LastPerSubject,
            seen => DeliverPolicy::ByStartSequence { start_sequence: seen + 1 },
        };
        let config = OrderedConfig {
            deliver_subject: self.registry.client.new_inbox(),
            deliver_policy,
            filter_subject: self.registry.names.key(self.bucket, ">"),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await?;
        if consumer.cached_info().num_pending == 0 {
            self.loaded().await;
        }
        let mut messages = consumer.messages().await?;
        let mut compare = Instant::now() + COMPARE_EVERY;
        let mut behind_at = 0;
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    None => return Ok(()),
                    Some(message) => self.take(message?).await?,
                },
                () = tokio::time::sleep_until(compare) => {
                    compare = Instant::now() + COMPARE_EVERY;
                    let last = stream.info().await?.state.last_sequence;
                    // Behind twice at the same place: it is not late, it is dead.
                    if last > self.seen && behind_at == self.seen + 1 {
                        return Ok(());
                    }
                    behind_at = if last > self.seen { self.seen + 1 } else { 0 };
                }
            }
        }
    }

    async fn loaded(&mut self) {
        if !self.loaded {
            self.loaded = true;
            self.tell(Fact::Loaded(self.bucket)).await;
        }
    }

    async fn tell(&self, fact: Fact) {
        let _ = self.inbox.send(Input::Registry(self.registry.life, fact)).await;
    }

    async fn take(&mut self, message: Message) -> Result<(), async_nats::Error> {
        let (sequence, pending) = {
            let info = message.info()?;
            (info.stream_sequence, info.pending)
        };
        self.seen = sequence;
        if let Some(fact) = self.read(&message, sequence) {
            self.tell(fact).await;
        }
        if pending == 0 {
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
