//! The inbox of the master's loop. Never what the loop does about an input.

use crate::registry::{ObjectError, Registry, SessionFact};
use async_nats::service::Service;
use muster_protocol::{
    Digest, WorkerId,
    api::{ModuleEntry, NewTask},
    checkpoint,
    enrolment::Member,
    fleet::{self, ClientReply, Event, Fleet},
    grant::SecretTerms,
    message::{
        AttemptKey, Join, JoinReply, LogChunk, ObjectStore, StreamReply, ToWorker, WorkerCommand,
    },
    sealed::{self, Question, SEALED, SealedSecret},
    upgrade::Upgrade,
};
use muster_wire::clock::wall;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{mpsc, oneshot};

/// Inputs that may wait for the loop. When the inbox is full, its senders wait.
pub(crate) const INBOX_MAX: usize = 16 * 1024;

/// How long the program of an upgrade is kept for a worker that does not come, in milliseconds.
const PROGRAM_KEPT_MS: u64 = 30 * 24 * 3600 * 1_000;

/// What the registry has besides what the fleet needs for its decisions.
#[derive(Default)]
pub(crate) struct Known {
    /// The named modules.
    pub modules: BTreeMap<String, ModuleEntry>,
    /// Workers that have joined by an invitation, or are revoked.
    pub members: BTreeMap<WorkerId, Member>,
    /// The secrets of workers by their keys, without the encrypted values. Forgotten ones are not here.
    pub secrets: BTreeMap<String, SealedSecret>,
    /// What workers shall run.
    upgrades: BTreeMap<WorkerId, Upgrade>,
}

impl Known {
    /// The registry has this of a secret.
    pub fn heard_secret(&mut self, secret: SealedSecret) {
        let key = sealed::key(&secret.worker, &secret.name);
        match secret.content {
            Some(_) => self.secrets.insert(key, secret),
            None => self.secrets.remove(&key),
        };
    }

    /// A worker shall run this. Two facts about a worker may come in either order.
    pub fn heard_upgrade(&mut self, upgrade: Upgrade) {
        let known = self.upgrade_of(&upgrade.worker);
        if known.is_none_or(|known| known.number < upgrade.number) {
            self.upgrades.insert(upgrade.worker.clone(), upgrade);
        }
    }

    /// What a worker shall run, if anybody has said so.
    pub fn upgrade_of(&self, worker: &WorkerId) -> Option<&Upgrade> {
        self.upgrades.get(worker)
    }

    /// Whether an object is the program that a worker shall run.
    pub fn is_program_for(&self, worker: &WorkerId, store: ObjectStore, digest: Digest) -> bool {
        let program = self.upgrade_of(worker).and_then(Upgrade::program);
        store == ObjectStore::Data && program.is_some_and(|program| program.digest == digest)
    }

    /// The programs that workers of this fleet have still to fetch.
    pub fn programs_needed(&self, fleet: &Fleet) -> BTreeSet<Digest> {
        let now = wall();
        let is_open = |upgrade: &&Upgrade| {
            if now.0.saturating_sub(upgrade.set_at.0) > PROGRAM_KEPT_MS {
                return false;
            }
            let report = fleet.lease_of(&upgrade.worker).and_then(|lease| lease.program);
            report.is_none_or(|report| !upgrade.is_done(&report))
        };
        let open = self.upgrades.values().filter(is_open);
        open.filter_map(Upgrade::program).map(|program| program.digest).collect()
    }

    /// The secrets that a worker hears of.
    pub fn terms_for(&self, worker: &WorkerId) -> Vec<SecretTerms> {
        sealed::terms_for(self.members.get(worker), self.secrets_of(worker))
    }

    /// The secrets of a worker.
    pub fn secrets_of(&self, worker: &WorkerId) -> impl Iterator<Item = &SealedSecret> {
        let first = format!("{SEALED}.{worker}.");
        let secrets = self.secrets.range(first.clone()..);
        secrets.take_while(move |(key, _)| key.starts_with(&first)).map(|(_, secret)| secret)
    }
}

/// A function that reads the state of the loop, on the loop.
pub(crate) type Look = Box<dyn FnOnce(&Fleet, &Known) + Send + Sync>;

/// The loop's end of a link. The link ends with it.
pub(crate) struct LinkHandle {
    /// Frames for the worker.
    pub frames: mpsc::Sender<ToWorker>,
    /// Closes the link, and tells the worker why.
    pub close: oneshot::Sender<&'static str>,
}

/// An input of the loop.
pub(crate) enum Input {
    /// An event of the registry.
    Registry(SessionFact),
    /// A connection to the registry is up: the next session can begin.
    Connected(Registry),
    /// The client API is served.
    Served(Service),
    /// An event for the fleet, from a worker.
    Fleet(Event),
    /// A link is up.
    LinkOpened { worker: WorkerId, link: fleet::LinkId, handle: LinkHandle },
    /// A link is down.
    LinkClosed { worker: WorkerId, link: fleet::LinkId },
    /// Text that a guest wrote to its log or to standard error; its worker was given the attempt.
    Log(LogChunk),
    /// A worker writes to the log of this attempt: how many bytes may it have? `None` if the worker was not
    /// given the attempt. No answer if the registry does not say.
    LogMax { worker: WorkerId, key: AttemptKey, reply: oneshot::Sender<Option<u64>> },
    /// Progress that a guest reported.
    Progress { worker: WorkerId, key: AttemptKey, done: u64, total: u64 },
    /// A worker asks for an object.
    Fetch {
        worker: WorkerId,
        store: ObjectStore,
        digest: Digest,
        reply: oneshot::Sender<Result<Option<bytes::Bytes>, ObjectError>>,
    },
    /// A worker sends an object to be stored.
    Keep {
        worker: WorkerId,
        digest: Digest,
        bytes: bytes::Bytes,
        reply: oneshot::Sender<Result<(), ObjectError>>,
    },
    /// A program wants to join, or needs another certificate.
    Join { join: Join, reply: oneshot::Sender<JoinReply> },
    /// An attempt saves a checkpoint, or asks for the latest one.
    Checkpoint { request: checkpoint::Request, reply: oneshot::Sender<StreamReply> },
    /// A worker asks which secrets the registry keeps for it.
    SecretTerms { worker: WorkerId, reply: oneshot::Sender<StreamReply> },
    /// A worker asks which program it shall run.
    Upgrade { worker: WorkerId, reply: oneshot::Sender<StreamReply> },
    /// A worker asks for a secret for a run.
    Secret { question: Question, reply: oneshot::Sender<StreamReply> },
    /// A client submits tasks, which the API has checked.
    Submit { tasks: Vec<NewTask>, reply: oneshot::Sender<ClientReply> },
    /// A client cancels a task.
    Cancel { task: muster_protocol::TaskId, reply: oneshot::Sender<ClientReply> },
    /// An operator sends a command to a worker.
    Order { worker: WorkerId, order: WorkerCommand, reply: oneshot::Sender<ClientReply> },
    /// A client reads the state of the loop.
    Look(Look),
}

impl From<SessionFact> for Input {
    fn from(fact: SessionFact) -> Self {
        Input::Registry(fact)
    }
}
