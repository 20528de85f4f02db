//! The frames that masters and workers send each other over QUIC. Types only; no decisions.

mod bounds;
mod in_frames;
mod join;

pub use crate::subject::LogSource;
pub use bounds::OverBound;
pub use join::{JOIN_ALPN, JOIN_SIZE_MAX, Join, JoinReply, Joined};

use crate::{
    AttemptId, Digest, Nonce, Revision, SessionId, TaskId,
    frame_range::FrameRange,
    grant::{Grants, SecretName, SecretTerms},
    lease::{CasAnswer, Home, Lease, LeaseState},
    occupancy::Share,
    registry::{Mark, StreamId},
    signature::Signature,
    task::{Data, Limits, Outcome},
    trace::TraceContext,
    upgrade::Upgrade,
};
use alloc::{string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An attempt by its task and its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The task.
    pub task: TaskId,
    /// The attempt's id.
    pub attempt: AttemptId,
}

/// An attempt that a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAttempt {
    /// The attempt.
    pub key: AttemptKey,
    /// The revision of the record that dispatched it. A reader of an older record cannot know the
    /// attempt.
    pub revision: Revision,
}

/// What a worker tells a master when a link comes up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session of the master that this answers, from the latest [`ToWorker::Welcome`].
    pub to: SessionId,
    /// The session of the worker.
    pub session: SessionId,
    /// Attempts that wait, run, or have ended without an acknowledgement.
    pub attempts: Vec<HeldAttempt>,
    /// The latest revision of the tasks' stream under which this session was given an attempt.
    pub holds: Mark,
    /// The version of the worker's program.
    pub version: String,
    /// The frames that it speaks.
    #[serde(default)]
    pub frames: FrameRange,
}

/// From a worker, on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToMaster {
    /// The first frame: what the worker still has. Its name is in the certificate.
    Hello(Hello),
    /// Renew the worker's lease by compare-and-set. Answered by [`ToWorker::Renewed`].
    Renew {
        /// The revision that the key must have.
        expect: Revision,
        /// The new value.
        #[serde(with = "in_frames")]
        lease: Lease,
    },
    /// The registry does not answer: extend the worker's lease, as its home. Answered by
    /// [`ToWorker::Extended`], or not at all.
    Extend {
        /// The session of the worker.
        session: SessionId,
        /// The number of the renewal that this was sent with.
        renewal: u64,
    },
    /// An attempt has ended. Sent again after a reconnect until it is acknowledged.
    Finished {
        /// The attempt.
        key: AttemptKey,
        /// The revision of the record that dispatched it. A reader of an older record cannot know the
        /// attempt.
        revision: Revision,
        /// How it ended.
        outcome: Outcome,
    },
    /// The progress of a run, as its guest reports it.
    Progress {
        /// The attempt whose guest reports progress.
        key: AttemptKey,
        /// Steps done.
        done: u64,
        /// Steps in all; 0 if not known.
        total: u64,
    },
}

/// From a master, on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first frame; sent again when the master begins a new session after it lost the registry.
    /// Answered by [`ToMaster::Hello`] and every unacknowledged outcome.
    Welcome {
        /// The master and its session.
        master: Home,
        /// The master's machine, by a number that is valid until the machine's next boot.
        machine: Nonce,
        /// The version of the master's program.
        version: String,
        /// The frames that it speaks.
        #[serde(default)]
        frames: FrameRange,
    },
    /// Run this attempt. A second copy changes nothing.
    Dispatch(Dispatch),
    /// Stop this attempt and confirm with [`ToMaster::Finished`].
    Revoke {
        /// The attempt.
        key: AttemptKey,
        /// The revision of the task's record that decides it, or one that is not older than the
        /// attempt. A worker that has never heard of the attempt refuses it up to this revision.
        revision: Revision,
    },
    /// As `Revoke`, to make room for a task of higher priority: the attempt's task is queued again.
    Preempt {
        /// The attempt.
        key: AttemptKey,
        /// The revision of the record that names the attempt.
        revision: Revision,
    },
    /// The registry's answer to [`ToMaster::Renew`].
    Renewed {
        /// The session that asked: renewals are counted per session.
        session: SessionId,
        /// The number of the renewal.
        renewal: u64,
        /// The registry's answer.
        #[serde(with = "in_frames::answer")]
        answer: CasAnswer<Lease>,
    },
    /// The home has extended the lease, and waits from now on.
    Extended {
        /// The session of the worker.
        session: SessionId,
        /// The session of the master.
        home: SessionId,
        /// The number of the renewal that asked for it.
        renewal: u64,
    },
    /// The worker need not keep the outcome any longer.
    Ack {
        /// The attempt whose outcome is acknowledged.
        key: AttemptKey,
        /// Whether it was committed; if not, the attempt was no longer current.
        committed: bool,
    },
    /// An operator's command. The worker's lease shows when it has obeyed.
    Command(WorkerCommand),
}

/// What operators can tell a worker to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCommand {
    /// Take no new attempts; run on with the present ones.
    Cordon,
    /// Take no new attempts; return those that have not started, and at the deadline those that still
    /// run.
    Drain {
        /// How long the worker waits for its runs, in milliseconds from the receipt of the command.
        deadline_ms: u64,
    },
    /// Take new attempts again.
    Uncordon,
}

impl WorkerCommand {
    /// The lease state of a worker that has obeyed.
    pub fn lease_state(self) -> LeaseState {
        match self {
            WorkerCommand::Cordon => LeaseState::Cordoned,
            WorkerCommand::Drain { .. } => LeaseState::Draining,
            WorkerCommand::Uncordon => LeaseState::Live,
        }
    }
}

/// An attempt as it is sent to its worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// The attempt that the worker shall run.
    pub key: AttemptKey,
    /// The session of the worker that it is dispatched to; any other session refuses it.
    pub session: SessionId,
    /// The revision of the record that names the attempt, in the tasks' stream.
    pub revision: Revision,
    /// The tasks' stream.
    pub stream: StreamId,
    /// How many attempts the worker may hold, this one included: another master may have dispatched
    /// some at the same time. The worker returns the surplus.
    pub held_max: u32,
    /// Whether nothing else may run beside it.
    #[serde(default)]
    pub alone: bool,
    /// The number of the attempt within its task, from 1.
    pub number: u32,
    /// The module to run.
    pub module: Digest,
    /// The signature of the module, which the worker verifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The input of the task.
    pub input: Data,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// What the attempt may use.
    pub limits: Limits,
    /// What the attempt is granted besides.
    pub grants: Arc<Grants>,
    /// The trace of its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl Dispatch {
    /// What the attempt takes of its worker.
    pub(crate) fn share(&self) -> Share {
        Share { memory_bytes: self.limits.memory_bytes, alone: self.alone }
    }
}

/// The two object stores of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectStore {
    /// Modules: kept until removed.
    Modules,
    /// Inputs, outputs and checkpoints: they expire, but not while an open task needs them.
    Data,
}

/// The first frame of a stream that a worker opens beside the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamRequest {
    /// This is the control stream.
    Control,
    /// Send an object: [`StreamReply::Size`], then the bytes.
    Fetch {
        /// The store that has the object.
        store: ObjectStore,
        /// The SHA-256 of the object's bytes.
        digest: Digest,
    },
    /// Store an object in the data store: its bytes follow, then [`StreamReply::Stored`] comes back.
    Put {
        /// The SHA-256 of the object's bytes; the receiver checks it.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// Save a checkpoint: [`StreamReply::Stored`], or [`StreamReply::Stale`].
    Checkpoint {
        /// The attempt that saves.
        attempt: HeldAttempt,
        /// The number of the checkpoint within the attempt, from 1.
        save: u64,
        /// The state to keep: inline, or a reference to an object that was stored before.
        state: Data,
    },
    /// Send the state that earlier attempts saved, and let none of them save anything more:
    /// [`StreamReply::State`], [`StreamReply::Missing`] or [`StreamReply::Stale`].
    Resume {
        /// The attempt that resumes.
        attempt: HeldAttempt,
    },
    /// Say which secrets the registry keeps for this worker: [`StreamReply::SecretTerms`]. Since
    /// [`FrameRange::WITH_SECRETS`].
    SecretTerms,
    /// Send a secret that the task of an attempt asks for, as it is encrypted to this worker:
    /// [`StreamReply::Sealed`], [`StreamReply::Refused`] or [`StreamReply::Stale`]. Since
    /// [`FrameRange::WITH_SECRETS`].
    Secret {
        /// The attempt that runs.
        attempt: HeldAttempt,
        /// The secret.
        name: SecretName,
    },
    /// Say which program this worker shall run: [`StreamReply::Upgrade`], or [`StreamReply::Missing`] if nobody has
    /// said. Since [`FrameRange::WITH_UPGRADES`].
    Upgrade,
}

/// The first frame of the answer to a [`StreamRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamReply {
    /// This many bytes follow.
    Size(u64),
    /// It is stored.
    Stored,
    /// The state that an attempt saved.
    State(Data),
    /// The attempt is not the task's current one any more.
    Stale,
    /// There is no such object or checkpoint.
    Missing,
    /// It could not be done now; ask again later.
    Failed(String),
    /// The registry shows a record that is older than the attempt; ask again.
    Behind,
    /// The secrets that the registry keeps for this worker.
    SecretTerms(Vec<SecretTerms>),
    /// A secret: an age file.
    Sealed(Bytes),
    /// It may not have that, for this reason. Asking again does not help.
    Refused(String),
    /// What this worker shall run.
    Upgrade(#[serde(with = "in_frames")] Upgrade),
}

/// A frame of the one-way stream on which a worker sends what its guests log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogChunk {
    /// The attempt whose guest wrote it.
    pub key: AttemptKey,
    /// Whether it was written to standard error or by the SDK's `log`.
    pub source: LogSource,
    /// The text: whole lines, or the part of a line that is too long for one frame. It need not be
    /// UTF-8.
    pub text: Bytes,
}
