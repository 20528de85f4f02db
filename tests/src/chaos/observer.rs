//! What is written to the registry, seen from the outside as it comes. It never writes.

use super::now_ns;
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
    time::Duration,
};

/// How long to wait before a watch that broke is made anew.
const AGAIN: Duration = Duration::from_millis(100);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// The revisions of the finished records, by task: more than one is a second commit.
    pub ends: BTreeMap<String, BTreeSet<u64>>,
    /// Who was given a task and when that was seen, by task and attempt.
    pub dispatches: BTreeMap<(String, String), (String, u64)>,
    /// When the newest renewal of a lease was seen, by worker.
    pub renewals: BTreeMap<String, u64>,
    /// When a lease was last seen declared lost, by worker.
    pub losses: BTreeMap<String, u64>,
}

/// Watches until it is dropped with the runtime.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
}

impl Observer {
    /// Begins to watch what is stored already and what comes.
    ///
    /// # Errors
    ///
    /// When NATS does not answer, or a bucket is not there.
    pub async fn start(url: &str, names: &Names) -> anyhow::Result<Self> {
        let observer = Observer::default();
        let client = async_nats::ConnectOptions::new()
            .ping_interval(Duration::from_secs(1))
            .reconnect_delay_callback(|_| AGAIN)
            .connect(url)
            .await?;
        for bucket in [Bucket::Tasks, Bucket::Workers] {
            let context = jetstream::new(client.clone());
            context.get_stream(names.stream(bucket)).await.context("a bucket")?;
            tokio::spawn(observer.clone().watch(client.clone(), names.clone(), bucket));
        }
        Ok(observer)
    }

    /// What was seen until now.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }

    async fn watch(self, client: async_nats::Client, names: Names, bucket: Bucket) {
        let mut next = 1;
        loop {
            // It ends with an error when NATS was away for too long; what was missed comes then.
            let _ = self.follow(&client, &names, bucket, &mut next).await;
            tokio::time::sleep(AGAIN).await;
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
        while let Some(message) = messages.next().await {
            let message = message?;
            let at_ns = now_ns();
            let revision = message.info().map_err(anyhow::Error::msg)?.stream_sequence;
            *next = (*next).max(revision + 1);
            let key = message.subject.rsplit('.').next().unwrap_or_default();
            match bucket {
                Bucket::Tasks => {
                    let state = message.headers.as_ref().and_then(|all| all.get(STATE_HEADER));
                    let done = state.is_some_and(|state| state.as_str() == STATE_DONE);
                    self.task(key, &message.payload, done, revision, at_ns);
                }
                _ => self.lease(key, &message.payload, at_ns),
            }
        }
        anyhow::bail!("the watch ended")
    }

    fn task(&self, key: &str, payload: &[u8], done: bool, revision: u64, at_ns: u64) {
        if done {
            self.seen().ends.entry(key.into()).or_default().insert(revision);
            return;
        }
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
        match lease["standing"].as_str() {
            Some("lost") => seen.losses.insert(key.into(), at_ns),
            _ => seen.renewals.insert(key.into(), at_ns),
        };
    }
}
