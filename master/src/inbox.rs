//! What others report to the master's loop. Never what the loop does about it.

use crate::registry::{ObjectError, Registry, Said};
use async_nats::service::Service;
use muster_protocol::{
    Digest, WorkerId,
    api::{ModuleEntry, NewTask},
    checkpoint,
    fleet::{self, ClientReply, Event, Fleet},
    message::{AttemptKey, LogChunk, ObjectStore, StreamReply, ToWorker, WorkerCommand},
};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};

/// What may wait for the loop. Beyond it senders wait, and with them whoever sends to them.
pub(crate) const INBOX_MAX: usize = 16 * 1024;

/// The named modules.
pub(crate) type Modules = BTreeMap<String, ModuleEntry>;

/// A look at what the loop knows.
pub(crate) type Look = Box<dyn FnOnce(&Fleet, &Modules) + Send + Sync>;

/// Something that the loop must know or do.
pub(crate) enum Input {
    /// Something that the registry said.
    Registry(Said),
    /// A connection to the registry is up: another session can begin.
    Connected(Registry),
    /// Clients are answered.
    Served(Service),
    /// A fact for the fleet, from a worker.
    Fleet(Event),
    /// A link is up; frames for its worker go to this sender.
    LinkOpened { worker: WorkerId, link: fleet::LinkId, frames: mpsc::Sender<ToWorker> },
    /// A link is down.
    LinkClosed { worker: WorkerId, link: fleet::LinkId },
    /// What a guest wrote for people.
    Log(LogChunk),
    /// How far a run is.
    Progress { key: AttemptKey, done: u64, total: u64 },
    /// A worker wants an object.
    Fetch {
        shelf: ObjectStore,
        digest: Digest,
        reply: oneshot::Sender<Result<Option<bytes::Bytes>, ObjectError>>,
    },
    /// A worker brings an object.
    Keep { digest: Digest, bytes: bytes::Bytes, reply: oneshot::Sender<Result<(), ObjectError>> },
    /// An attempt keeps its state, or asks for what earlier ones left.
    Checkpoint { request: checkpoint::Request, reply: oneshot::Sender<StreamReply> },
    /// A client submits tasks that have been checked.
    Submit { tasks: Vec<NewTask>, reply: oneshot::Sender<ClientReply> },
    /// A client wants a task cancelled.
    Cancel { task: muster_protocol::TaskId, reply: oneshot::Sender<ClientReply> },
    /// Somebody wants something of a worker.
    Order { worker: WorkerId, order: WorkerCommand, reply: oneshot::Sender<ClientReply> },
    /// A client wants to see something.
    Look(Look),
}

impl From<Said> for Input {
    fn from(said: Said) -> Self {
        Input::Registry(said)
    }
}
