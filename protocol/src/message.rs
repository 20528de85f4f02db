//! What master and worker say to each other over QUIC. Types only; no decisions.

use crate::{
    AttemptId, Digest, Nonce, Revision, SessionId, TaskId,
    grant::Grants,
    lease::{CasAnswer, Home, Lease, LeaseState, Unwell},
    registry::{Mark, StreamId},
    task::{Data, Limits, Outcome},
};
use alloc::{string::String, sync::Arc, vec::Vec};
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

/// An attempt that a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAttempt {
    /// The attempt.
    pub key: AttemptKey,
    /// The revision of the record that gave it: whoever reads an older one knows nothing of it.
    pub revision: Revision,
}

/// What a worker says of itself on a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session of the master that it answers, by the latest [`ToWorker::Welcome`].
    pub to: SessionId,
    /// The session of the worker.
    pub session: SessionId,
    /// Attempts that wait, run, or have ended without an acknowledgement.
    pub attempts: Vec<HeldAttempt>,
    /// The latest revision of the tasks' stream under which this session was given an attempt.
    pub holds: Mark,
    /// The version of its program.
    pub version: String,
}

/// From a worker, on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToMaster {
    /// The first frame: who is calling (the certificate has the name) and what it still has.
    Hello(Hello),
    /// Renew the worker's lease by compare-and-set. Answered by [`ToWorker::Renewed`].
    Renew {
        /// The revision the key must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
    },
    /// The registry does not answer: extend the worker's lease, as its home. Answered by
    /// [`ToWorker::Extended`], or not at all.
    Extend {
        /// The life of the worker.
        session: SessionId,
        /// The renewal with which this was sent.
        renewal: u64,
    },
    /// An attempt has ended. Said again after a reconnect until acknowledged.
    Finished {
        /// The attempt.
        key: AttemptKey,
        /// The revision of the record that gave it: whoever reads an older one knows nothing of it.
        revision: Revision,
        /// How it ended.
        outcome: Outcome,
    },
    /// How far a run is, as its guest says.
    Progress {
        /// The attempt whose guest reports progress.
        key: AttemptKey,
        /// Steps done.
        done: u64,
        /// Of so many; 0 where unknown.
        total: u64,
    },
    /// [`ToMaster::Renew`] of a worker whose host lacks something.
    RenewUnwell {
        /// The revision the key must have.
        expect: Revision,
        /// The new value, without what frames of a lease leave out.
        lease: Lease,
        /// What the host lacks.
        unwell: Unwell,
    },
}

impl ToMaster {
    /// The frame that asks for a renewal.
    pub fn renew(expect: Revision, lease: Lease) -> Self {
        match lease.unwell.clone() {
            None => ToMaster::Renew { expect, lease },
            Some(unwell) => ToMaster::RenewUnwell { expect, lease, unwell },
        }
    }
}

/// From a master, on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first frame; said again when the master begins a new life, having lost the registry in
    /// between. Answered by [`ToMaster::Hello`] and all that is not acknowledged.
    Welcome {
        /// Who answers, and in which of its lives.
        master: Home,
        /// The machine it runs on, by a number that only its present boot has.
        machine: Nonce,
        /// The version of its program.
        version: String,
    },
    /// Run this. Saying it twice changes nothing.
    Dispatch(Dispatch),
    /// Kill this attempt and confirm with [`ToMaster::Finished`].
    Revoke {
        /// The attempt.
        key: AttemptKey,
        /// The revision of the task's record that decides it, or one that is not older than the
        /// attempt. A worker that has never heard of the attempt refuses it up to this revision.
        revision: Revision,
    },
    /// The same, to make room for a task of a higher priority: it goes back.
    Preempt {
        /// The attempt.
        key: AttemptKey,
        /// The revision of the record that names the attempt.
        revision: Revision,
    },
    /// The registry's answer to [`ToMaster::Renew`].
    Renewed {
        /// The session that asked: renewals are counted anew in each.
        session: SessionId,
        /// The renewal it is about.
        renewal: u64,
        /// The registry's answer.
        answer: CasAnswer<Lease>,
    },
    /// The home has extended the lease, and counts from now.
    Extended {
        /// The life of the worker.
        session: SessionId,
        /// The life of the master that says so.
        home: SessionId,
        /// The renewal that asked for it.
        renewal: u64,
    },
    /// The outcome needs to be kept no longer.
    Ack {
        /// The attempt whose outcome is acknowledged.
        key: AttemptKey,
        /// Whether it was committed; if not, the attempt was no longer current.
        committed: bool,
    },
    /// Someone who operates the fleet wants this. The worker's lease says when it is so.
    Command(WorkerCommand),
}

/// What people can ask of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCommand {
    /// Take no new attempts; what it has goes on.
    Cordon,
    /// Take no new attempts; those that wait go back, those that run may go on until the deadline
    /// and go back then.
    Drain {
        /// Milliseconds from now.
        deadline_ms: u64,
    },
    /// Take attempts again.
    Uncordon,
}

impl WorkerCommand {
    /// What the lease of a worker says that has obeyed.
    pub fn lease_state(self) -> LeaseState {
        match self {
            WorkerCommand::Cordon => LeaseState::Cordoned,
            WorkerCommand::Drain { .. } => LeaseState::Draining,
            WorkerCommand::Uncordon => LeaseState::Live,
        }
    }
}

/// An attempt as its worker is told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// The attempt that the worker shall run.
    pub key: AttemptKey,
    /// The life of the worker that it was given to; any other refuses it.
    pub session: SessionId,
    /// The revision of the record that names the attempt, in the tasks' stream.
    pub revision: Revision,
    /// The tasks' stream.
    pub stream: StreamId,
    /// Attempts that the worker may hold, this one included: another master may have given it some
    /// at the same time. What is too many goes back at once.
    pub held_max: u32,
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
    /// What it is given besides.
    pub grants: Arc<Grants>,
}

/// The two object stores of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectStore {
    /// Modules: kept until removed.
    Modules,
    /// Inputs and outputs: kept as long as records are.
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
        /// Its digest, checked by whoever stores it.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// Keep the state of an attempt: [`StreamReply::Stored`], or [`StreamReply::Stale`].
    Checkpoint {
        /// The attempt that saves.
        attempt: HeldAttempt,
        /// Counts the checkpoints of the attempt, from 1.
        save: u64,
        /// The state to keep: inline, or a reference to an object that was stored before.
        state: Data,
    },
    /// Say what an earlier attempt left, and let none of these leave anything more:
    /// [`StreamReply::State`], [`StreamReply::Missing`] or [`StreamReply::Stale`].
    Resume {
        /// The attempt that resumes.
        attempt: HeldAttempt,
    },
}

/// The first frame of the answer to a [`StreamRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamReply {
    /// So many bytes follow.
    Size(u64),
    /// It is stored.
    Stored,
    /// The state that an attempt left.
    State(Data),
    /// The attempt is not the task's current one any more.
    Stale,
    /// There is nothing of the kind.
    Missing,
    /// It could not be done now; ask again later.
    Failed(String),
    /// The registry shows a record that is older than the attempt; ask again.
    Behind,
}

/// A frame of the one-way stream on which a worker sends what its guests write for people.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        GroupName, WorkerId, frame, grant::Policy, lease::Offer, task::Verdict, time::WallMillis,
    };
    use alloc::collections::BTreeMap;

    fn body(message: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(message, &mut bytes).expect("it fits");
        bytes.split_off(frame::HEADER_SIZE)
    }

    /// Frames have no names of fields: what is left out of one side's value is missing in the other's.
    #[test]
    fn a_lease_with_nothing_in_it_survives_a_frame() {
        let lease = Lease::new("w1".parse().expect("a name"), SessionId(1));
        let answer = CasAnswer::Conflict(Some((lease.clone(), 3)));
        let renewed = ToWorker::Renewed { session: SessionId(1), renewal: 2, answer };
        let renew = ToMaster::Renew { expect: 3, lease };
        let outcome = Outcome::bare(Verdict::Cancelled);
        let attempt = AttemptId(1);
        let key = AttemptKey { task: TaskId(1), attempt };
        let finished = ToMaster::Finished { key, revision: 1, outcome };
        for message in [renew, finished] {
            let mut bytes = Vec::new();
            frame::encode(&message, &mut bytes).expect("it fits");
            assert_eq!(frame::decode(&bytes[frame::HEADER_SIZE..]), Ok(message));
        }
        let mut bytes = Vec::new();
        frame::encode(&renewed, &mut bytes).expect("it fits");
        assert_eq!(frame::decode(&bytes[frame::HEADER_SIZE..]), Ok(renewed));
    }

    /// A lease in frames, before it could say that a worker is unwell; the same since.
    #[derive(Serialize)]
    struct Before {
        worker: WorkerId,
        session: SessionId,
        renewal: u64,
        standing: LeaseState,
        home_dir: Nonce,
        succeeds: Vec<SessionId>,
        fenced: bool,
        holds: Mark,
        home: Option<Home>,
        master_wait_ms: u64,
        offer: (GroupName, BTreeMap<String, String>, u32, u64, String, Arc<Policy>),
        renewed_at: WallMillis,
    }

    #[test]
    fn frames_are_those_of_before_as_long_as_a_worker_is_well() {
        let labels: BTreeMap<String, String> = [("zone".into(), "north".into())].into();
        let version = String::from("0.1.0");
        let offer = Offer { labels, slots: 4, version, ..Offer::default() };
        let lease = Lease {
            succeeds: [SessionId(6)].into(),
            home: Some(Home { master: "m1".parse().expect("a name"), session: SessionId(9) }),
            offer,
            renewed_at: WallMillis(1_700_000_000_000),
            ..Lease::new("w1".parse().expect("a name"), SessionId(1))
        };
        let Lease { worker, session, renewal, state: standing, home_dir, succeeds, fenced, .. } =
            lease.clone();
        let Lease { holds, home, master_wait_ms, offer, renewed_at, .. } = lease.clone();
        let Offer { group, labels, slots, memory_bytes, version, policy } = offer;
        let offer = (group, labels, slots, memory_bytes, version, policy);
        let before = Before {
            worker,
            session,
            renewal,
            standing,
            home_dir,
            succeeds,
            fenced,
            holds,
            home,
            master_wait_ms,
            offer,
            renewed_at,
        };
        assert_eq!(body(&lease), body(&before));
        let unwell = Lease { unwell: Some("a disk is full".into()), ..lease.clone() };
        assert_eq!(body(&unwell), body(&before), "masters of before read their answers");
        // One after which something follows.
        let mut answered = body(&before);
        answered.push(7);
        assert_eq!(frame::decode(&answered), Ok((lease, 7_u64)));
    }

    #[test]
    fn a_renewal_says_that_a_worker_is_unwell() {
        let lease = Lease::new("w1".parse().expect("a name"), SessionId(1));
        for unwell in [None, Some(Unwell::from("a disk is full"))] {
            let lease = Lease { unwell, ..lease.clone() };
            let read = frame::decode(&body(&ToMaster::renew(3, lease.clone())));
            let read = match read.expect("it was encoded here") {
                ToMaster::Renew { lease, .. } => lease,
                ToMaster::RenewUnwell { lease, unwell, .. } => {
                    Lease { unwell: Some(unwell), ..lease }
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(read, lease);
        }
    }
}
