//! A steady load: long and short tasks of the guest that beats, and a note of each submission that was
//! acknowledged. Never submits a task a second time, even if the submission was not answered.

use super::{Rng, between, now_ns, observer::Observer};
use anyhow::Context as _;
use async_nats::jetstream;
use muster_protocol::{
    Digest, TaskId,
    api::{Endpoint, NewTask, Submit, Submitted},
    grant::Grants,
    limit::PREEMPT_GAP,
    subject::{Bucket, Names},
    task::{Data, ModuleRef, TaskSpec},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long the client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How often the client checks the number of tasks in progress.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long after its acknowledgement a task may take to appear in the registry's watch, unless the
/// registry has lost it.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// How long a record may be unreadable.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How long the client waits after a submission that was not acknowledged.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// The longest duration of a task of the backlog.
const BACKLOG_TIME: Duration = Duration::from_millis(200);

/// The guest that beats, by its name in the fleet.
pub const GUEST: &str = "heart";

/// The guest that sends a request, by its name in the fleet.
pub const CALLER: &str = "fetch";

/// The number of tasks in progress at once.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Tasks that last longer than most faults.
    pub long: usize,
    /// Tasks that last a few hundredths of a second.
    pub short: usize,
    /// Tasks that send a request. Each lasts until the server has read the request.
    pub calls: usize,
    /// Short tasks that wait behind the others, so that results do not depend on this client. They are
    /// not preempted.
    pub backlog: usize,
    /// The longest duration of a long task.
    pub longest: Duration,
}

/// When a task was submitted, by the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Before the submission was sent.
    pub sent_ns: u64,
    /// After the acknowledgement arrived.
    pub acknowledged_ns: u64,
}

/// All submissions.
#[derive(Clone, Debug, Default)]
pub struct Submissions {
    /// Tasks whose submission was acknowledged.
    pub acknowledged: BTreeMap<String, Submission>,
    /// Tasks whose submission was not answered; they may be stored.
    pub unanswered: BTreeSet<String>,
}

/// A client that submits tasks.
pub struct Client {
    nats: async_nats::Client,
    names: Names,
    module: ModuleRef,
    caller: Option<Caller>,
    rng: Rng,
}

/// How a task sends its request.
#[derive(Clone, Debug)]
pub struct Caller {
    module: ModuleRef,
    grants: Arc<Grants>,
    input: String,
}

impl Caller {
    /// Sends to this address, with the guest under the digest `digest`.
    ///
    /// # Errors
    ///
    /// When the digest is malformed.
    pub fn new(digest: &str, to: SocketAddr, body: u64) -> anyhow::Result<Self> {
        let module = ModuleRef { name: Some(CALLER.into()), digest: digest.parse::<Digest>()? };
        let http = BTreeSet::from([to.to_string().parse()?]);
        let input = format!("http://{to}/\nbody {body}\n");
        Ok(Caller { module, grants: Arc::new(Grants { http, ..Grants::default() }), input })
    }
}

impl Client {
    /// Connects to NATS. The guest must have been pushed, under the digest `digest`.
    ///
    /// # Errors
    ///
    /// When NATS does not answer.
    pub async fn connect(
        urls: &[String],
        names: Names,
        digest: &str,
        rng: Rng,
    ) -> anyhow::Result<Self> {
        let nats = async_nats::ConnectOptions::new()
            .ping_interval(Duration::from_secs(1))
            .reconnect_delay_callback(|_| Duration::from_millis(100))
            .connect(urls)
            .await?;
        let module = ModuleRef { name: Some(GUEST.into()), digest: digest.parse::<Digest>()? };
        Ok(Client { nats, names, module, caller: None, rng })
    }

    /// Returns this client, changed so that some of its tasks send requests.
    pub fn with_caller(mut self, caller: Caller) -> Self {
        self.caller = Some(caller);
        self
    }

    /// Submits one task that beats. Returns its id, and whether the submission was acknowledged.
    pub async fn submit(&mut self, pace: Value) -> (TaskId, bool) {
        let input = Data::Inline(pace.to_string().into_bytes().into());
        self.submit_spec(TaskSpec::new(self.module.clone(), input)).await
    }

    async fn submit_spec(&mut self, spec: TaskSpec) -> (TaskId, bool) {
        let id = self.mint();
        let submit = Submit { tasks: vec![NewTask { id, spec: Arc::new(spec) }] };
        let body = serde_json::to_vec(&submit).expect("words are JSON");
        let asked = self.nats.request(self.names.api(Endpoint::TaskSubmit), body.into());
        let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        let stored = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|answer| serde_json::from_slice::<Submitted>(&answer.payload).ok());
        (id, stored.is_some_and(|answer| answer.stored == 1))
    }

    /// Keeps `amount` tasks in progress until it is told to stop.
    pub async fn keep_busy(
        mut self,
        amount: Amount,
        observer: Observer,
        submissions: Arc<Mutex<Submissions>>,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let [mut long, mut short, mut calls, mut backlog] =
            [const { BTreeMap::<String, u64>::new() }; 4];
        while !*stop.borrow_and_update() {
            {
                let seen = observer.seen();
                // A task that the registry has lost never ends.
                let is_open = |task: &String, acknowledged_ns: &mut u64| {
                    let is_new = between(*acknowledged_ns, now_ns()) < KNOWN_WITHIN;
                    !seen.is_over(task) && (is_new || seen.is_known(task))
                };
                for open in [&mut long, &mut short, &mut calls, &mut backlog] {
                    open.retain(is_open);
                }
            }
            let caller = self.caller.clone().filter(|_| calls.len() < amount.calls);
            let (open, spec) = if let Some(Caller { module, grants, input }) = caller {
                let mut spec = TaskSpec::new(module, Data::Inline(input.into_bytes().into()));
                spec.grants = grants;
                (&mut calls, spec)
            } else if long.len() < amount.long {
                let least = amount.longest / 4;
                let spec = self.beats(least, amount.longest);
                (&mut long, spec)
            } else if short.len() < amount.short {
                let (least, most) = (Duration::from_millis(5), Duration::from_millis(300));
                let spec = self.beats(least, most);
                (&mut short, spec)
            } else if backlog.len() < amount.backlog {
                let spec = self.beats(BACKLOG_TIME / 2, BACKLOG_TIME);
                let priority = spec.priority - (PREEMPT_GAP - 1);
                (&mut backlog, TaskSpec { priority, ..spec })
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            let sent_ns = now_ns();
            let (id, acknowledged) = self.submit_spec(spec).await;
            let note = || submissions.lock().expect("no holder of this lock panics");
            if acknowledged {
                let acknowledged_ns = now_ns();
                open.insert(id.to_string(), acknowledged_ns);
                let submission = Submission { sent_ns, acknowledged_ns };
                note().acknowledged.insert(id.to_string(), submission);
            } else {
                note().unanswered.insert(id.to_string());
                // No master answers; a shorter pause would not change that.
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }

    /// A task that beats for a random time between two limits.
    fn beats(&mut self, least: Duration, most: Duration) -> TaskSpec {
        let time = self.rng.time(least, most);
        // Few of them compute: two processors must be enough for all of them and for the fleet.
        let rest = !self.rng.percent(20);
        let pace = json!({"for_ms": time.as_millis() as u64, "every_us": 1_000, "rest": rest});
        let input = Data::Inline(pace.to_string().into_bytes().into());
        TaskSpec::new(self.module.clone(), input)
    }

    /// The record of a task, read from the leader of the stream; `None` if the registry has no such
    /// record.
    ///
    /// # Errors
    ///
    /// When NATS does not answer.
    pub async fn record(&self, task: &str) -> anyhow::Result<Option<Value>> {
        let began = now_ns();
        loop {
            // A cluster that has just lost a node may still be electing.
            match self.try_record(task).await {
                Err(_) if between(began, now_ns()) < READ_WITHIN => {
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn try_record(&self, task: &str) -> anyhow::Result<Option<Value>> {
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

    /// Declares a worker lost without any wait, as no master may: another worker then starts the same
    /// tasks at the same time. This shows that the checker notices a violation.
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
        let random = u128::from(self.rng.within(0, u64::MAX));
        TaskId((now.as_millis() << 80) | random)
    }
}
