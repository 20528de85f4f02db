//! What master and worker say to each other over QUIC. Words only; no decisions.

use crate::{
    AttemptId, Digest, MasterId, Revision, SessionId, TaskId,
    lease::{CasAnswer, Lease},
    task::{Data, Limits, Outcome},
};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a QUIC connection of this protocol is called in the TLS handshake.
pub const ALPN: &[u8] = b"muster/1";

/// An attempt by its task and its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The task.
    pub task: TaskId,
    /// The try at it.
    pub attempt: AttemptId,
}

/// From a worker, on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToMaster {
    /// The first frame: who is calling (the certificate has the name) and what it still has.
    Hello {
        /// This life of the worker.
        session: SessionId,
        /// Attempts that wait, run, or have ended without an acknowledgement.
        attempts: Vec<AttemptKey>,
        /// The version of its program.
        version: String,
    },
    /// Renew the worker's lease by compare-and-set. Answered by [`ToWorker::Renewed`].
    Renew {
        /// The revision the key must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
    },
    /// An attempt has ended. Said again after a reconnect until acknowledged.
    Finished {
        /// Which.
        key: AttemptKey,
        /// How.
        outcome: Outcome,
    },
    /// How far a run is, as its guest says.
    Progress {
        /// Which.
        key: AttemptKey,
        /// Steps done.
        done: u64,
        /// Of so many; 0 where unknown.
        total: u64,
    },
}

/// From a master, on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first frame.
    Welcome {
        /// Who answers.
        master: MasterId,
        /// The version of its program.
        version: String,
    },
    /// Run this. Saying it twice changes nothing.
    Dispatch(Dispatch),
    /// Kill this attempt and confirm with [`ToMaster::Finished`].
    Revoke(AttemptKey),
    /// The registry's answer to [`ToMaster::Renew`].
    Renewed {
        /// The session that asked: renewals are counted anew in each.
        session: SessionId,
        /// The renewal it is about.
        renewal: u64,
        /// What became of it.
        answer: CasAnswer<Lease>,
    },
    /// The outcome needs to be kept no longer.
    Ack {
        /// Whose.
        key: AttemptKey,
        /// Whether it was committed; if not, the attempt was no longer current.
        committed: bool,
    },
    /// Take no new attempts; those that wait go back, those that run may go on until the deadline.
    Drain {
        /// Milliseconds from now until what still runs is killed.
        deadline_ms: u64,
    },
}

/// An attempt as its worker is told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Which.
    pub key: AttemptKey,
    /// The life of the worker that it was given to; any other refuses it.
    pub session: SessionId,
    /// 1 for a task's first.
    pub number: u32,
    /// What to run.
    pub module: Digest,
    /// What to give it.
    pub input: Data,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// What it may use.
    pub limits: Limits,
}

/// The two object stores of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shelf {
    /// Modules: kept until removed.
    Modules,
    /// Inputs and outputs: kept as long as records are.
    Data,
}

/// The first frame of a stream that a worker opens beside the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ask {
    /// This is the control stream.
    Control,
    /// Send an object: [`Told::Size`], then the bytes.
    Fetch {
        /// From where.
        shelf: Shelf,
        /// Which.
        digest: Digest,
    },
    /// Store an object in the data shelf: its bytes follow, then [`Told::Stored`] comes back.
    Put {
        /// Its digest, checked by whoever stores it.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
}

/// The first frame of the answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Told {
    /// So many bytes follow.
    Size(u64),
    /// The object is stored.
    Stored,
    /// There is no such object.
    Missing,
    /// It could not be done now; ask again later.
    Failed(String),
}

/// A frame of the one-way stream on which a worker sends what its guests write for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogChunk {
    /// Whose.
    pub key: AttemptKey,
    /// Where from.
    pub source: LogSource,
    /// What.
    pub text: Bytes,
}

/// Where a line of a log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSource {
    /// Standard error.
    Stderr,
    /// The SDK's `log`.
    Log,
}

impl LogSource {
    /// The last token of the subject that carries it.
    pub fn word(self) -> &'static str {
        match self {
            LogSource::Stderr => "stderr",
            LogSource::Log => "log",
        }
    }
}
