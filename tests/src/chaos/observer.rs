//! An observer of the registry: it watches all writes from the outside. Never writes to the registry.

use super::{now_ns, pause};
use anyhow::Context as _;
use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, push::OrderedConfig},
};
use futures::StreamExt;
use muster_protocol::subject::{Bucket, Names, STATE_DONE, STATE_HEADER};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// How long the observer waits before it replaces a broken watch.
const AGAIN: Duration = Duration::from_millis(100);

/// The commit of a task's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit {
    /// When nats-server stored it, on the boot clock.
    pub at_ns: u64,
    /// Its revision. The registry assigns the revision of a lost commit again.
    pub revision: u64,
}

/// The observations.
#[derive(Debug, Default)]
pub struct Seen {
    /// The commits of ends, by task. A message that is delivered again is the same commit.
    pub ends: BTreeMap<String, BTreeSet<Commit>>,
    /// For each task that the registry has now, whether it has ended.
    pub over: BTreeMap<String, bool>,
    /// The worker to which an attempt was dispatched, and when that was observed, by task and attempt.
    pub dispatches: BTreeMap<(String, String), (String, u64)>,
    /// When each renewal of a lease was observed, by worker, in order.
    pub renewals: BTreeMap<String, Vec<u64>>,
    /// When each `lost` of a lease was observed, by worker, in order.
    pub losses: BTreeMap<String, Vec<u64>>,
}

impl Seen {
    /// Whether the registry has the task and the task has ended.
    pub fn is_over(&self, task: &str) -> bool {
        self.over.get(task).is_some_and(|over| *over)
    }

    /// Whether the registry has a task.
    pub fn is_known(&self, task: &str) -> bool {
        self.over.contains_key(task)
    }
}

/// Watches until the runtime is dropped.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    /// The number of times that the registry has lost writes.
    rewinds: Arc<watch::Sender<u64>>,
    /// How far the wall clock is ahead of the boot clock: nats-server stamps by the wall clock, journals
    /// by the boot clock. It is measured once, so that a message that is delivered again gets the same
    /// stamp.
    ahead_ns: i128,
}

impl Observer {
    /// Starts to watch. The observer receives what is stored already, and then every write.
    ///
    /// # Errors
    ///
    /// When NATS does not answer, or a bucket is missing.
    pub async fn start(urls: &[String], names: &Names) -> anyhow::Result<Self> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ahead_ns = wall.as_nanos() as i128 - i128::from(now_ns());
        let observer = Observer { ahead_ns, ..Observer::default() };
        let client = async_nats::ConnectOptions::new()
            .ping_interval(Duration::from_secs(1))
            .reconnect_delay_callback(|_| AGAIN)
            .connect(urls)
            .await?;
        for bucket in [Bucket::Tasks, Bucket::Workers] {
            let context = jetstream::new(client.clone());
            context.get_stream(names.stream(bucket)).await.context("a bucket")?;
            tokio::spawn(observer.clone().watch(client.clone(), names.clone(), bucket));
        }
        Ok(observer)
    }

    /// The observations so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }

    /// Forgets which tasks the registry has, and reads all of them again. Call this when the registry's
    /// disk has lost something, before the registry is started again.
    pub fn rewind(&self) {
        self.seen().over.clear();
        self.rewinds.send_modify(|rewinds| *rewinds += 1);
    }

    async fn watch(self, client: async_nats::Client, names: Names, bucket: Bucket) {
        let mut rewinds = self.rewinds.subscribe();
        let mut next = 1;
        loop {
            tokio::select! {
                // It ends with an error when NATS was down for too long. The next watch delivers what
                // was missed.
                _ = self.follow(&client, &names, bucket, &mut next) => {
                    tokio::time::sleep(AGAIN).await;
                }
                // The registry assigns the lost revisions again.
                _ = rewinds.changed() => next = 1,
            }
        }
    }

    async fn follow(
        &self,
        client: &async_nats::Client,
        names: &Names,
        bucket: Bucket,
        next: &mut u64,
    ) -> anyhow::Result<()> {
        let stream = jetstream::new(client.clone()).get_stream(names.stream(bucket)).await?;
        let config = OrderedConfig {
            deliver_subject: client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: *next },
            filter_subject: names.key(bucket, ">"),
            ..OrderedConfig::default()
        };
        let mut messages = stream.create_consumer(config).await?.messages().await?;
        // No task of the fleet.
        let plain_task = pause::TASK.to_string();
        while let Some(message) = messages.next().await {
            let message = message?;
            let at_ns = now_ns();
            let info = message.info().map_err(anyhow::Error::msg)?;
            let revision = info.stream_sequence;
            let stored_ns = info.published.unix_timestamp_nanos() - self.ahead_ns;
            *next = (*next).max(revision + 1);
            let key = message.subject.rsplit('.').next().unwrap_or_default();
            if key == plain_task {
                continue;
            }
            match bucket {
                Bucket::Tasks => {
                    let state = message.headers.as_ref().and_then(|all| all.get(STATE_HEADER));
                    let done = state.is_some_and(|state| state.as_str() == STATE_DONE);
                    self.seen().over.insert(key.into(), done);
                    if done {
                        let commit = Commit { at_ns: stored_ns.max(0) as u64, revision };
                        self.seen().ends.entry(key.into()).or_default().insert(commit);
                    } else {
                        self.task(key, &message.payload, at_ns);
                    }
                }
                _ => self.lease(key, &message.payload, at_ns),
            }
        }
        anyhow::bail!("the watch ended")
    }

    fn task(&self, key: &str, payload: &[u8], at_ns: u64) {
        let Ok(record) = serde_json::from_slice::<Value>(payload) else { return };
        let attempt = &record["state"]["dispatched"];
        if let (Some(id), Some(worker)) = (attempt["id"].as_str(), attempt["worker"].as_str()) {
            let mut seen = self.seen();
            seen.dispatches.entry((key.into(), id.into())).or_insert((worker.into(), at_ns));
        }
    }

    fn lease(&self, key: &str, payload: &[u8], at_ns: u64) {
        let Ok(lease) = serde_json::from_slice::<Value>(payload) else { return };
        let mut seen = self.seen();
        let Seen { renewals, losses, .. } = &mut *seen;
        let stamps = if lease["standing"] == "lost" { losses } else { renewals };
        stamps.entry(key.into()).or_default().push(at_ns);
    }
}
