//! NATS as the master uses it: buckets, object stores, events, logs. Only this room talks to NATS,
//! but for the client API; it decides nothing and never puts a value without comparing.

mod layout;
mod objects;
mod watch;

use crate::Input;
use async_nats::{Client, Event as NatsEvent, HeaderMap, jetstream::Context};
use bytes::Bytes;
use muster_protocol::{
    Revision, SessionId, TaskId,
    advisory::Advisory,
    api::{Ended, ModuleEntry},
    fleet::Event,
    lease::{CasAnswer, Lease, Standing},
    message::LogChunk,
    subject::{Bucket, Names, STATE_DONE, STATE_HEADER, WRITER_HEADER},
    task::TaskRecord,
};
use muster_wire::{cas, clock, nats};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

pub use objects::ObjectError;

/// How long a lease that is over is kept, for people to see.
const OVER_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why the registry cannot be used at the start. Nothing was written but, maybe, empty streams.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no server.
    #[error(
        "no nats-server answers at {url}: {cause}; start one with JetStream on (`nats-server -js`)"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the client says.
        cause: String,
    },
    /// The server cannot keep the fleet's state.
    #[error("JetStream cannot keep {what}: {cause}")]
    Layout {
        /// Which stream.
        what: String,
        /// What the server says.
        cause: String,
    },
}

/// A handle to the fleet's state; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    context: Context,
    names: Arc<Names>,
    session: SessionId,
}

impl Registry {
    /// Connects, and makes the streams that are not there yet.
    pub async fn open(
        url: &str,
        names: Arc<Names>,
        session: SessionId,
        replicas: usize,
        inbox: mpsc::Sender<Input>,
    ) -> Result<Self, RegistryError> {
        let client = nats::options(format!("muster-master {}", names.fleet()), url)
            .event_callback(move |event| {
                let inbox = inbox.clone();
                async move {
                    let event = match event {
                        NatsEvent::Connected => Event::RegistryUp,
                        NatsEvent::Disconnected | NatsEvent::Closed => Event::RegistryDown,
                        _ => return,
                    };
                    tracing::info!(?event, "the registry's connection has changed");
                    // The loop outlives the connection; if it is gone, so is the need to tell it.
                    let _ = inbox.send(Input::Fleet(event)).await;
                }
            })
            .connect(url)
            .await
            .map_err(|error| RegistryError::Unreachable {
                url: nats::shown(url),
                cause: error.to_string(),
            })?;
        let context = cas::context(client.clone());
        layout::ensure(&context, &names, replicas).await?;
        Ok(Registry { client, context, names, session })
    }

    /// The connection, for the client API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Follows the buckets for ever, from what is in them now.
    pub fn follow(&self, inbox: mpsc::Sender<Input>) {
        for bucket in Bucket::ALL {
            tokio::spawn(watch::follow(self.clone(), bucket, inbox.clone()));
        }
    }

    fn key(&self, bucket: Bucket, key: impl std::fmt::Display) -> cas::Key {
        cas::Key { stream: self.names.stream(bucket), subject: self.names.key(bucket, key) }
    }

    /// Writes a task record by compare-and-set.
    pub async fn write_task(
        &self,
        expect: Revision,
        record: &TaskRecord,
        keep: Option<Duration>,
    ) -> CasAnswer<Box<TaskRecord>> {
        let mut headers = HeaderMap::new();
        headers.insert(WRITER_HEADER, self.session.to_string());
        if record.is_done() {
            headers.insert(STATE_HEADER, STATE_DONE);
        }
        let Ok(value) = serde_json::to_vec(record) else { return CasAnswer::Unknown };
        let key = self.key(Bucket::Tasks, record.id);
        let sent = cas::send(&self.context, key, expect, value.into(), keep, headers).await;
        let answer: CasAnswer<Box<TaskRecord>> = sent.answer(&self.context).await;
        match answer {
            // One's own write, whose first acknowledgement was lost.
            CasAnswer::Conflict(Some((found, revision))) if found.write == record.write => {
                CasAnswer::Written(revision)
            }
            answer => answer,
        }
    }

    /// Reads a task record from the stream's leader; `Err` where nobody knows.
    pub async fn read_task(
        &self,
        task: TaskId,
    ) -> Result<Option<(Box<TaskRecord>, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.key(Bucket::Tasks, task)).await
    }

    /// Writes a lease by compare-and-set.
    pub async fn write_lease(&self, expect: Revision, lease: &Lease) -> CasAnswer<Lease> {
        let over = matches!(lease.standing, Standing::Lost | Standing::Released);
        let Ok(value) = serde_json::to_vec(lease) else { return CasAnswer::Unknown };
        let key = self.key(Bucket::Workers, &lease.worker);
        let keep = over.then_some(OVER_KEEP);
        let sent =
            cas::send(&self.context, key, expect, value.into(), keep, HeaderMap::new()).await;
        sent.answer(&self.context).await
    }

    /// Reads the versions of a module name.
    pub async fn read_module(
        &self,
        name: &str,
    ) -> Result<Option<(ModuleEntry, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.key(Bucket::Modules, name)).await
    }

    /// Writes the versions of a module name by compare-and-set.
    pub async fn write_module(
        &self,
        expect: Revision,
        entry: &ModuleEntry,
    ) -> CasAnswer<ModuleEntry> {
        let Ok(value) = serde_json::to_vec(entry) else { return CasAnswer::Unknown };
        let key = self.key(Bucket::Modules, &entry.name);
        let sent =
            cas::send(&self.context, key, expect, value.into(), None, HeaderMap::new()).await;
        sent.answer(&self.context).await
    }

    /// Tells the world what happened. Lost if NATS is away: the records have the truth.
    pub async fn publish(&self, advisory: &Advisory) {
        let (group, about, what, id) = advisory.tokens();
        let subject = self.names.event(group, about, what, &id);
        let body = Envelope {
            kind: advisory.kind(),
            id: muster_protocol::Nonce(muster_wire::process::random().unwrap_or_default())
                .to_string(),
            timestamp: timestamp(),
            event: advisory,
        };
        if let Ok(body) = serde_json::to_vec(&body) {
            let _ = self.client.publish(subject, body.into()).await;
        }
    }

    /// Tells those who wait for it that tasks have ended.
    pub async fn tell(&self, audience: muster_protocol::BatchId, ended: &[Ended]) {
        if let Ok(body) = serde_json::to_vec(ended) {
            let _ = self.client.publish(self.names.done(audience), body.into()).await;
        }
    }

    /// Passes on what a guest wrote for people.
    pub async fn log(&self, chunk: LogChunk) {
        let subject = self.names.log(chunk.key.task, chunk.key.attempt, chunk.source);
        let _ = self.client.publish(subject, chunk.text).await;
    }

    /// Passes on how far a run is.
    pub async fn progress(&self, task: TaskId, done: u64, total: u64) {
        let body = format!("{{\"done\":{done},\"total\":{total}}}");
        let _ = self.client.publish(self.names.progress(task), Bytes::from(body)).await;
    }

    /// Sends what is still queued.
    pub async fn flush(&self) {
        let _ = tokio::time::timeout(nats::PING_EVERY, self.client.flush()).await;
    }
}

#[derive(serde::Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    timestamp: String,
    #[serde(flatten)]
    event: &'a Advisory,
}

/// The wall clock as RFC 3339, for people.
fn timestamp() -> String {
    let millis = i64::try_from(clock::wall().0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|stamp| stamp.to_string()).unwrap_or_default()
}
