//! NATS as the master uses it: buckets, object stores, events, logs. Only this module talks to NATS,
//! apart from the client API. Never decides, and never writes a record or a lease without
//! compare-and-set.

mod access;
mod audit;
mod change;
mod checkpoints;
mod copies;
mod history;
mod layout;
mod objects;
mod ready;
mod recent;
mod room;
mod site;
mod watch;
mod writes;

use async_nats::{Client, ConnectError, HeaderMap, connection::State};
use bytes::Bytes;
use muster_protocol::{
    Revision, SessionId, TaskId,
    advisory::Advisory,
    api::{ModuleEntry, TaskEnded},
    enrolment::Member,
    fleet::Event,
    group::Group,
    lease::{CasAnswer, Lease, MasterLease},
    limit,
    message::LogChunk,
    record::{self, Record},
    registry::{FailoverGuard, GUARD_KEY, Mark, Marks, ServerId},
    role::User,
    sealed::SealedSecret,
    subject::{Bucket, Names},
    task::TaskRecord,
    upgrade::Upgrade,
    watch::Watch,
};
use muster_wire::{
    cas, clock,
    nats::{self, JetStream, Unconnected},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};

pub(crate) use audit::Newest;
pub use change::ChangeError;
pub use history::PageError;
use layout::Existing;
pub use layout::Keep;
pub(crate) use layout::UPKEEP_EVERY;
pub use objects::ObjectError;
pub use site::Site;
pub(crate) use writes::Writes;

/// A fact from the registry.
#[expect(clippy::large_enum_variant, reason = "nearly every one is a fact for the fleet")]
pub(crate) enum Fact {
    /// A fact for the fleet.
    Fleet(Event),
    /// The watch has read everything that the bucket held.
    Loaded(Bucket),
    /// A module name has these versions.
    ModuleSeen(ModuleEntry),
    /// A worker has joined, or is revoked.
    MemberSeen(Member),
    /// A user has these roles.
    UserSeen(User),
    /// The registry keeps this secret, or has forgotten it.
    SecretSeen(SealedSecret),
    /// The key of a secret is gone.
    SecretGone(String),
    /// A worker shall run this.
    UpgradeSeen(Upgrade),
    /// A group has these settings.
    GroupSeen(Group),
    /// A module name is gone.
    ModuleGone(String),
    /// The registry does not answer any more, or this session cannot go on with it.
    Down,
}

/// A fact from the registry, and the session in which it was learned. The loop drops facts of any other
/// session.
pub(crate) struct SessionFact(pub SessionId, pub Fact);

/// An inbox input that a fact from the registry can be turned into.
pub(crate) trait FactInput: From<SessionFact> + Send + 'static {}

impl<T: From<SessionFact> + Send + 'static> FactInput for T {}

/// Why the registry cannot be used at the start. At most empty streams were created.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No server takes the connection.
    #[error("{}: {cause}; {}", .why.at(url), .why.advice())]
    Unconnected {
        /// The kind of failure.
        why: Unconnected,
        /// The addresses.
        url: String,
        /// The client's error.
        cause: String,
    },
    /// The server refuses the master's user an operation that every master needs.
    #[error("{0}: {advice}", advice = .0.advice())]
    Refused(nats::NatsRefusal),
    /// Nothing answers requests of JetStream.
    #[error(transparent)]
    NoJetStream(#[from] nats::NoJetStream),
    /// JetStream does not have a stream yet: the cluster has no leader, or too few servers so far.
    #[error(
        "JetStream is not ready to keep {what}: {cause}; waiting for the leaders of the cluster and \
             for as many servers as --replicas says"
    )]
    NotReady {
        /// The name of the stream.
        what: String,
        /// The server's error.
        cause: String,
    },
    /// Another master is connected to this server, and others have not been tried.
    #[error("another master is connected to this server")]
    Shared,
    /// JetStream will not keep the fleet's state as it is configured.
    #[error("JetStream cannot keep {what}: {cause}")]
    Layout {
        /// The name of the stream.
        what: String,
        /// The server's error.
        cause: String,
    },
}

impl RegistryError {
    /// Whether the error may pass without a change to this master's options.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            RegistryError::NotReady { .. }
                | RegistryError::Unconnected { why: Unconnected::Unreachable, .. }
        )
    }

    fn of(error: &ConnectError, address: &nats::Address) -> Self {
        let (why, url, cause) = (Unconnected::of(error), address.to_string(), error.to_string());
        RegistryError::Unconnected { why, url, cause }
    }
}

/// A handle to the fleet's state in one session of a master; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    context: JetStream,
    names: Arc<Names>,
    session: SessionId,
    keep: Keep,
    /// The end of each followed stream when this session began.
    ends: Marks,
    /// The id of the server's process, if the registry is a single server.
    server: Option<ServerId>,
    /// The id of the process to which this session is connected.
    connected_to: ServerId,
    /// The number of events that this session has published. Session and number make an event's id.
    events: Arc<AtomicU64>,
    /// The state of the watch of the tasks' bucket. It is shared with the writes, whose acknowledgements
    /// move its watermark.
    tasks: Arc<Mutex<Watch>>,
    stores: Arc<objects::OpenStores>,
}

impl Registry {
    /// Connects, but not to a server that is to be avoided. The first connection of a process also brings all
    /// streams up to date. When the connection breaks, it is not made again: the next connection belongs to
    /// another session.
    pub async fn open(
        access: &nats::Access,
        names: Arc<Names>,
        session: SessionId,
        keep: Keep,
        is_first: bool,
        avoid: &BTreeSet<ServerId>,
        on_break: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, RegistryError> {
        let name = format!("muster-master {}", names.fleet());
        let refusals = nats::Refusals::default();
        let client = access.connect_once(name, &refusals, on_break).await;
        let client = client.map_err(|error| RegistryError::of(&error, access.address()))?;
        let context = cas::context(client.clone(), access.domain());
        let (events, stores) = Default::default();
        let info = client.server_info();
        let connected_to = ServerId(info.server_id.clone());
        if avoid.contains(&connected_to) {
            return Err(RegistryError::Shared);
        }
        if !context.is_local() {
            tracing::warn!(
                "the registry is behind a leaf node; let masters connect to the server that keeps it, so that \
                 no write of theirs waits on the way"
            );
        }
        if info.max_payload < limit::API_SIZE_MAX {
            let (max_payload, advice) = (info.max_payload, nats::NatsRefusal::Payload.advice());
            tracing::warn!(
                max_payload,
                advice,
                "NATS does not accept the largest messages of Muster"
            );
        }
        let may_be_alone = keep.replicas == 1 && info.cluster.is_none();
        let ends = ready::ready(&client, &context, &names, &keep, is_first);
        // NATS does not answer a refused request: the request times out, and the refusal comes on the
        // connection.
        let ends = tokio::select! {
            ends = ends => ends?,
            refusal = refusals.any() => return Err(RegistryError::Refused(refusal)),
        };
        // In a cluster, and behind a leaf node, another server may lose writes than the connected one, whose
        // id then proves nothing.
        let is_alone = may_be_alone && ready::keeps(&context, &names, &info.server_name).await;
        let server = is_alone.then_some(ServerId(info.server_id));
        let stream = ends.of(Bucket::Tasks).stream;
        let tasks = Watch::new(Bucket::Tasks, session, stream, server.is_none());
        let tasks = Arc::new(Mutex::new(tasks));
        Ok(Registry {
            client,
            context,
            names,
            session,
            keep,
            ends,
            server,
            connected_to,
            events,
            tasks,
            stores,
        })
    }

    /// Creates the streams that have vanished. Returns their names.
    pub async fn restore_streams(&self) -> Result<Vec<String>, RegistryError> {
        ready::ensure(&self.context, &self.names, &self.keep, Existing::Leave).await
    }

    /// The end of each followed stream when this session began.
    pub fn ends(&self) -> Marks {
        self.ends
    }

    /// The id of the server's process, if the registry is a single server.
    pub fn server(&self) -> Option<ServerId> {
        self.server.clone()
    }

    /// The id of the process to which this session is connected.
    pub fn connected_to(&self) -> ServerId {
        self.connected_to.clone()
    }

    /// Reads from the stream's leader where a bucket's stream ends.
    pub async fn read_end(&self, bucket: Bucket) -> Result<Mark, cas::ReadError> {
        let end = ready::read_end(&self.context, &self.names.stream(bucket)).await;
        end.map_err(|error| cas::ReadError::Unavailable(error.to_string()))
    }

    /// Writes the failover guard by compare-and-set.
    pub async fn write_guard(
        &self,
        expect: Revision,
        guard: &FailoverGuard,
    ) -> CasAnswer<FailoverGuard> {
        self.write(self.key(Bucket::Masters, GUARD_KEY), expect, guard, None).await
    }

    /// The id of this session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether the connection of this session is up. It does not come back.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The connection, for the client API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Follows the buckets from their present content, until the returned set is dropped. `company` says
    /// whether other masters may write to them.
    pub fn follow(
        &self,
        company: &tokio::sync::watch::Receiver<bool>,
        inbox: &mpsc::Sender<impl FactInput>,
    ) -> JoinSet<()> {
        let follow = |bucket| watch::follow(self.clone(), bucket, company.clone(), inbox.clone());
        Bucket::FOLLOWED.map(follow).into_iter().collect()
    }

    fn key(&self, bucket: Bucket, key: impl std::fmt::Display) -> cas::Key {
        cas::Key { stream: self.names.stream(bucket), subject: self.names.key(bucket, key) }
    }

    /// Writes a record by compare-and-set. The registry keeps it so long, or for ever.
    async fn write<T: Record>(
        &self,
        key: cas::Key,
        expect: Revision,
        record: &T,
        keep: Option<Duration>,
    ) -> CasAnswer<T> {
        let Ok(value) = record::write(record) else { return CasAnswer::Unknown };
        let sent =
            cas::send(&self.context, key, expect, value.into(), keep, HeaderMap::new()).await;
        sent.answer(&self.context).await
    }

    /// Reads a task record from the stream's leader. An error means that the record is unknown, not that
    /// it is missing.
    pub async fn read_task(
        &self,
        task: TaskId,
    ) -> Result<Option<(Box<TaskRecord>, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.key(Bucket::Tasks, task)).await
    }

    /// Writes a lease by compare-and-set.
    pub async fn write_lease(&self, expect: Revision, lease: &Lease) -> CasAnswer<Lease> {
        let key = self.key(Bucket::Workers, &lease.worker);
        self.write(key, expect, lease, lease.state.keep()).await
    }

    /// Writes a master's lease by compare-and-set.
    pub async fn write_master(
        &self,
        expect: Revision,
        lease: &MasterLease,
    ) -> CasAnswer<MasterLease> {
        let key = self.key(Bucket::Masters, lease.key());
        self.write(key, expect, lease, lease.state.keep()).await
    }

    /// Reads the versions of a module name.
    pub async fn read_module(
        &self,
        name: &str,
    ) -> Result<Option<(ModuleEntry, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.key(Bucket::Modules, name)).await
    }

    /// Changes the versions of a module name.
    pub async fn change_module<E: From<ChangeError>>(
        &self,
        name: &str,
        change: impl FnMut(Option<&ModuleEntry>) -> Result<ModuleEntry, E>,
    ) -> Result<ModuleEntry, E> {
        self.change(self.key(Bucket::Modules, name), |_| None, change).await
    }

    /// Publishes an event. It is lost while NATS is away: the records are the truth.
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

    /// Publishes a message that may be lost.
    async fn spread(&self, subject: String, body: Bytes) {
        if let Err(error) = self.client.publish(subject, body).await {
            tracing::warn!(%error, "an event or a log was not sent");
        }
    }

    /// Tells the subscribers of a batch that tasks have ended.
    pub async fn tell(&self, audience: muster_protocol::BatchId, ended: &[TaskEnded]) {
        if let Ok(body) = serde_json::to_vec(ended) {
            self.spread(self.names.done(audience), body.into()).await;
        }
    }

    /// Publishes text that a guest wrote to its log or to standard error.
    pub async fn log(&self, chunk: LogChunk) {
        let subject = self.names.log(chunk.key.task, chunk.key.attempt, chunk.source);
        self.spread(subject, chunk.text).await;
    }

    /// Publishes the progress of a run.
    pub async fn progress(&self, task: TaskId, done: u64, total: u64) {
        let body = format!("{{\"done\":{done},\"total\":{total}}}");
        self.spread(self.names.progress(task), Bytes::from(body)).await;
    }

    /// Sends the messages that are still queued. Waits at most [`nats::PING_EVERY`].
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
