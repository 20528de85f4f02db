//! A steady load: long and short tasks of the guest that beats, and a note of each submission that
//! was acknowledged. Never the same task twice: a submission without an answer is left alone.

use super::{Chance, observer::Observer};
use anyhow::Context as _;
use async_nats::jetstream;
use muster_protocol::{
    Digest, TaskId,
    api::{NewTask, Submit, Submitted, endpoint},
    subject::{Bucket, Names},
    task::{Data, ModuleRef, TaskSpec},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How often the number of tasks under way is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long to wait after a submission that nobody acknowledged.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// The guest, by its name in the fleet.
pub const GUEST: &str = "heart";

/// How much is under way at once.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Tasks that outlive most faults.
    pub long: usize,
    /// Tasks of some hundredths of a second.
    pub short: usize,
    /// How long a long one may be.
    pub longest: Duration,
}

/// What was submitted.
#[derive(Clone, Debug, Default)]
pub struct Submissions {
    /// Tasks whose submission was acknowledged.
    pub acknowledged: BTreeSet<String>,
    /// Tasks of whose submission nobody knows; they may be stored.
    pub unanswered: BTreeSet<String>,
}

/// Who submits.
pub struct Client {
    nats: async_nats::Client,
    names: Names,
    module: ModuleRef,
    chance: Chance,
}

impl Client {
    /// Connects; the guest must have been pushed, under the digest `digest`.
    ///
    /// # Errors
    ///
    /// When NATS does not answer.
    pub async fn connect(
        url: &str,
        names: Names,
        digest: &str,
        chance: Chance,
    ) -> anyhow::Result<Self> {
        let nats = async_nats::ConnectOptions::new()
            .ping_interval(Duration::from_secs(1))
            .reconnect_delay_callback(|_| Duration::from_millis(100))
            .connect(url)
            .await?;
        let module = ModuleRef { name: Some(GUEST.into()), digest: digest.parse::<Digest>()? };
        Ok(Client { nats, names, module, chance })
    }

    /// Submits one task; its id, and whether that was acknowledged.
    pub async fn submit(&mut self, pace: Value) -> (TaskId, bool) {
        let id = self.mint();
        let input = Data::Inline(pace.to_string().into_bytes().into());
        let spec = Arc::new(TaskSpec::new(self.module.clone(), input));
        let submit = Submit { tasks: vec![NewTask { id, spec }] };
        let body = serde_json::to_vec(&submit).expect("words are JSON");
        let asked = self.nats.request(self.names.api(endpoint::TASK_SUBMIT), body.into());
        let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        let stored = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|answer| serde_json::from_slice::<Submitted>(&answer.payload).ok());
        (id, stored.is_some_and(|answer| answer.stored == 1))
    }

    /// Keeps `amount` under way until it is told to stop.
    pub async fn keep_busy(
        mut self,
        amount: Amount,
        observer: Observer,
        submissions: Arc<Mutex<Submissions>>,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let (mut long, mut short) = (BTreeSet::new(), BTreeSet::new());
        while !*stop.borrow_and_update() {
            {
                let seen = observer.seen();
                for open in [&mut long, &mut short] {
                    open.retain(|task: &String| !seen.ends.contains_key(task));
                }
            }
            let (open, time) = if long.len() < amount.long {
                let least = amount.longest / 4;
                (&mut long, self.chance.time(least, amount.longest))
            } else if short.len() < amount.short {
                let (least, most) = (Duration::from_millis(5), Duration::from_millis(300));
                (&mut short, self.chance.time(least, most))
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            // Few compute: two processors must be enough for all of them and for the fleet.
            let rest = !self.chance.percent(20);
            let pace = json!({"for_ms": time.as_millis() as u64, "every_us": 1_000, "rest": rest});
            let (id, acknowledged) = self.submit(pace).await;
            let note = || submissions.lock().expect("no holder of this lock panics");
            if acknowledged {
                open.insert(id.to_string());
                note().acknowledged.insert(id.to_string());
            } else {
                note().unanswered.insert(id.to_string());
                // Nobody is there to answer; asking faster would not change that.
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }

    /// The records of tasks that the registry keeps, read from their stream's leader.
    ///
    /// # Errors
    ///
    /// When NATS does not answer.
    pub async fn record(&self, task: &str) -> anyhow::Result<Option<Value>> {
        let context = jetstream::new(self.nats.clone());
        let stream = context.get_stream_no_info(self.names.stream(Bucket::Tasks)).await?;
        let subject = self.names.key(Bucket::Tasks, task);
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some(serde_json::from_slice(&message.payload)?)),
            Err(error)
                if error.kind() == jetstream::stream::LastRawMessageErrorKind::NoMessageFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error).context("a record"),
        }
    }

    /// Declares a worker lost without having waited, as no master may: what it runs is then begun
    /// elsewhere beside it. To see that the judge sees.
    ///
    /// # Errors
    ///
    /// When the lease could not be written, or was renewed in between.
    pub async fn betray(&self, worker: &str) -> anyhow::Result<()> {
        let context = jetstream::new(self.nats.clone());
        let stream = context.get_stream_no_info(self.names.stream(Bucket::Workers)).await?;
        let subject = self.names.key(Bucket::Workers, worker);
        let message = stream.get_last_raw_message_by_subject(&subject).await?;
        let mut lease: Value = serde_json::from_slice(&message.payload)?;
        lease["standing"] = json!("lost");
        let publish = jetstream::message::PublishMessage::build()
            .payload(lease.to_string().into())
            .expected_last_subject_sequence(message.sequence);
        context.send_publish(subject, publish).await?.await?;
        Ok(())
    }

    fn mint(&mut self) -> TaskId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = u128::from(self.chance.within(0, u64::MAX));
        TaskId((now.as_millis() << 80) | random)
    }
}
