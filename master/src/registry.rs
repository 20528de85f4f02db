//! NATS as the master uses it: buckets, object stores, events, logs. Only this room talks to NATS,
//! but for the client API; it decides nothing and never puts a value without comparing.

mod checkpoints;
mod layout;
mod objects;
mod recent;
mod upkeep;
mod watch;
mod writes;

use crate::Input;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, HeaderMap,
    jetstream::{Context, context::GetStreamError, stream::Info},
};
use bytes::Bytes;
use muster_protocol::{
    Revision, SessionId, TaskId,
    advisory::Advisory,
    api::{ModuleEntry, TaskEnded},
    lease::{CasAnswer, Lease, MasterLease},
    limit,
    message::LogChunk,
    registry::{FailoverGuard, GUARD_KEY, Mark, Marks, ServerId, StreamId},
    subject::{Bucket, Names},
    task::TaskRecord,
    watch::Watch,
};
use muster_wire::{cas, clock, nats};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, task::JoinSet};

pub use layout::Keep;
pub use objects::ObjectError;
pub(crate) use writes::Writes;

/// Why the registry cannot be used at the start. Nothing was written but, maybe, empty streams.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no server. One may come.
    #[error(
        "no nats-server answers at {url}: {cause}; start one with JetStream on (`nats-server -js`)"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the client says.
        cause: String,
    },
    /// There is a server, and it wants nothing of who asks.
    #[error(
        "the nats-server at {url} does not let this master in: {cause}; name a user that it knows \
         in the URL of --nats"
    )]
    NotLetIn {
        /// Where it is.
        url: String,
        /// What the client says.
        cause: String,
    },
    /// The server does not let the user of this master do what a master does.
    #[error("{0}: {advice}", advice = .0.advice())]
    Refused(nats::NatsRefusal),
    /// The server cannot keep the fleet's state.
    #[error("JetStream cannot keep {what}: {cause}")]
    Layout {
        /// Which stream.
        what: String,
        /// What the server says.
        cause: String,
    },
}

impl RegistryError {
    /// Whether it may pass without anybody changing what this master was given.
    pub fn is_passing(&self) -> bool {
        matches!(self, RegistryError::Unreachable { .. })
    }

    fn of(error: &ConnectError, address: &nats::Address) -> Self {
        let (url, cause) = (address.to_string(), error.to_string());
        match error.kind() {
            ConnectErrorKind::Authentication
            | ConnectErrorKind::AuthorizationViolation
            | ConnectErrorKind::ServerParse
            | ConnectErrorKind::Tls => RegistryError::NotLetIn { url, cause },
            _ => RegistryError::Unreachable { url, cause },
        }
    }
}

/// A handle to the fleet's state in one session of a master; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    context: Context,
    names: Arc<Names>,
    session: SessionId,
    /// Where the streams ended when this session began.
    ends: Marks,
    /// The life of the server, where the registry is one server.
    server: Option<ServerId>,
    /// Events of this session so far: with the session it makes their ids.
    events: Arc<AtomicU64>,
    /// How the bucket of tasks is followed.
    tasks: Arc<Mutex<Watch>>,
    stores: Arc<objects::OpenStores>,
}

impl Registry {
    /// Connects, and makes the streams that are not there yet. A connection that breaks is not made
    /// again: the next is another session's.
    pub async fn open(
        address: &nats::Address,
        names: Arc<Names>,
        session: SessionId,
        keep: Keep,
        on_break: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, RegistryError> {
        let name = format!("muster-master {}", names.fleet());
        let refusals = nats::Refusals::default();
        let client = nats::connect_once(name, address, &refusals, on_break).await;
        let client = client.map_err(|error| RegistryError::of(&error, address))?;
        let context = cas::context(client.clone());
        // What is refused is not answered: the request only runs out of time.
        let why = |error| refusals.last().map_or(error, RegistryError::Refused);
        layout::ensure(&context, &names, keep).await.map_err(why)?;
        let (events, stores) = Default::default();
        let info = client.server_info();
        if info.max_payload < limit::API_SIZE_MAX {
            let (max_payload, advice) = (info.max_payload, nats::NatsRefusal::Payload.advice());
            tracing::warn!(max_payload, advice, "NATS takes no messages of the largest size");
        }
        // A cluster loses what one of its servers has lost whether that is the one at the other end.
        let server =
            (keep.replicas == 1 && info.cluster.is_none()).then_some(ServerId(info.server_id));
        let mut ends = Marks::default();
        for bucket in Bucket::FOLLOWED {
            let what = names.stream(bucket);
            let end = read_end(&context, &what).await;
            let end =
                end.map_err(|error| why(RegistryError::Layout { what, cause: error.to_string() }))?;
            ends.set(bucket, end);
        }
        let tasks = Watch::new(Bucket::Tasks, session, ends.of(Bucket::Tasks).stream);
        let tasks = Arc::new(Mutex::new(tasks));
        Ok(Registry { client, context, names, session, ends, server, events, tasks, stores })
    }

    /// Where the streams ended when this session began.
    pub fn ends(&self) -> Marks {
        self.ends
    }

    /// The life of the registry's server, where that is one server.
    pub fn server(&self) -> Option<ServerId> {
        self.server.clone()
    }

    /// Where a bucket's stream ends, as its leader knows it.
    pub async fn read_end(&self, bucket: Bucket) -> Result<Mark, cas::ReadError> {
        let end = read_end(&self.context, &self.names.stream(bucket)).await;
        end.map_err(|error| cas::ReadError::Unavailable(error.to_string()))
    }

    /// Writes the failover guard by compare-and-set.
    pub async fn write_guard(
        &self,
        expect: Revision,
        guard: &FailoverGuard,
    ) -> CasAnswer<FailoverGuard> {
        let Ok(value) = serde_json::to_vec(guard) else { return CasAnswer::Unknown };
        let key = self.key(Bucket::Masters, GUARD_KEY);
        let sent =
            cas::send(&self.context, key, expect, value.into(), None, HeaderMap::new()).await;
        sent.answer(&self.context).await
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The connection, for the client API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Follows the buckets from what is in them now, until what this returns is dropped.
    /// `company` says whether other masters may write to them.
    pub fn follow(
        &self,
        company: &tokio::sync::watch::Receiver<bool>,
        inbox: &mpsc::Sender<Input>,
    ) -> JoinSet<()> {
        let follow = |bucket| watch::follow(self.clone(), bucket, company.clone(), inbox.clone());
        Bucket::FOLLOWED.map(follow).into_iter().collect()
    }

    /// Keeps from expiring what open tasks need, until the session is over. The fleet must be loaded.
    pub(crate) fn keep_up(&self, inbox: mpsc::Sender<Input>) -> impl Future<Output = ()> + use<> {
        upkeep::keep_up(self.clone(), inbox)
    }

    fn key(&self, bucket: Bucket, key: impl std::fmt::Display) -> cas::Key {
        cas::Key { stream: self.names.stream(bucket), subject: self.names.key(bucket, key) }
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
        let Ok(value) = serde_json::to_vec(lease) else { return CasAnswer::Unknown };
        let key = self.key(Bucket::Workers, &lease.worker);
        let keep = lease.state.keep();
        let sent =
            cas::send(&self.context, key, expect, value.into(), keep, HeaderMap::new()).await;
        sent.answer(&self.context).await
    }

    /// Writes a master's lease by compare-and-set.
    pub async fn write_master(
        &self,
        expect: Revision,
        lease: &MasterLease,
    ) -> CasAnswer<MasterLease> {
        let Ok(value) = serde_json::to_vec(lease) else { return CasAnswer::Unknown };
        let key = self.key(Bucket::Masters, lease.key());
        let keep = lease.state.keep();
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
            id: format!("{}-{}", self.session, self.events.fetch_add(1, Ordering::Relaxed)),
            timestamp: timestamp(),
            event: advisory,
        };
        if let Ok(body) = serde_json::to_vec(&body) {
            self.spread(subject, body.into()).await;
        }
    }

    /// Publishes what nobody has to hear.
    async fn spread(&self, subject: String, body: Bytes) {
        if let Err(error) = self.client.publish(subject, body).await {
            tracing::warn!(%error, "news for people were not sent");
        }
    }

    /// Tells those who wait for it that tasks have ended.
    pub async fn tell(&self, audience: muster_protocol::BatchId, ended: &[TaskEnded]) {
        if let Ok(body) = serde_json::to_vec(ended) {
            self.spread(self.names.done(audience), body.into()).await;
        }
    }

    /// Passes on what a guest wrote for people.
    pub async fn log(&self, chunk: LogChunk) {
        let subject = self.names.log(chunk.key.task, chunk.key.attempt, chunk.source);
        self.spread(subject, chunk.text).await;
    }

    /// Passes on how far a run is.
    pub async fn progress(&self, task: TaskId, done: u64, total: u64) {
        let body = format!("{{\"done\":{done},\"total\":{total}}}");
        self.spread(self.names.progress(task), Bytes::from(body)).await;
    }

    /// Sends what is still queued.
    pub async fn flush(&self) {
        let _ = tokio::time::timeout(nats::PING_EVERY, self.client.flush()).await;
    }
}

/// Where a stream ends, as its leader knows it.
async fn read_end(context: &Context, stream: &str) -> Result<Mark, GetStreamError> {
    Ok(mark_of(context.get_stream(stream).await?.cached_info()))
}

/// Where a stream ends, and which it is.
fn mark_of(info: &Info) -> Mark {
    let created = SystemTime::from(info.created).duration_since(UNIX_EPOCH);
    let created = created.map(|since| since.as_nanos() as u64).unwrap_or_default();
    Mark { stream: StreamId(created), revision: info.state.last_sequence }
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
