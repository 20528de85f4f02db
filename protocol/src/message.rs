//! The frames that masters and workers send each other over QUIC. Types only; no decisions.

pub use crate::subject::LogSource;

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

/// The name of this protocol in the TLS handshake (ALPN).
pub const ALPN: &[u8] = b"muster/1";

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
    /// [`ToMaster::Renew`] of a worker whose host lacks something.
    RenewUnwell {
        /// The revision that the key must have.
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
    /// The first frame; sent again when the master begins a new session after it lost the registry.
    /// Answered by [`ToMaster::Hello`] and every unacknowledged outcome.
    Welcome {
        /// The master and its session.
        master: Home,
        /// The master's machine, by a number that is valid until the machine's next boot.
        machine: Nonce,
        /// The version of the master's program.
        version: String,
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
        /// Milliseconds from now.
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
    /// some at the same time. The worker returns what is beyond it.
    pub held_max: u32,
    /// The number of the attempt within its task, from 1.
    pub number: u32,
    /// The module to run.
    pub module: Digest,
    /// The input of the task.
    pub input: Data,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// What the attempt may use.
    pub limits: Limits,
    /// What the attempt is granted besides.
    pub grants: Arc<Grants>,
}

/// The two object stores of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectStore {
    /// Modules: kept until removed.
    Modules,
    /// Inputs and outputs: kept as long as task records.
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
    /// Send what earlier attempts saved, and let none of them save anything more:
    /// [`StreamReply::State`], [`StreamReply::Missing`] or [`StreamReply::Stale`].
    Resume {
        /// The attempt that resumes.
        attempt: HeldAttempt,
    },
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
