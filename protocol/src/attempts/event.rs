//! The events that a worker's state machine observes, and the effects that it returns. Types only; no
//! decisions.

use crate::{
    SessionId, Time,
    lease::{KillReason, LeaseState},
    message::{AttemptKey, Dispatch, ToMaster, ToWorker},
    registry::Holds,
    task::Outcome,
};
use alloc::{string::String, sync::Arc};

pub use crate::LinkId;

/// Something that happened, for [`Attempts::observe`](super::Attempts::observe).
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "frames, the largest, are most of them")]
pub enum Event {
    /// This session holds the lease until `until`.
    LeaseHeld {
        /// The session of the worker that holds the lease.
        session: SessionId,
        /// The present end of the worker's right to run guests.
        until: Time,
    },
    /// The session is over: its lease lapsed, or another session took it. Answered by
    /// [`Effect::Quiet`].
    SessionOver,
    /// A link to a master is up; the master is in this session.
    Linked(LinkId, SessionId),
    /// A link is down.
    Unlinked(LinkId),
    /// A master has sent a frame.
    Received(LinkId, ToWorker),
    /// The module and the input of an attempt are ready.
    Prepared(AttemptKey),
    /// The module or the input of an attempt could not be made ready.
    NotPrepared {
        /// The attempt that cannot be run yet, or not at all.
        key: AttemptKey,
        /// Whether trying again cannot help.
        for_good: bool,
        /// Why it could not be prepared, as a sentence for people.
        reason: String,
    },
    /// A run has ended by itself, or at one of its limits.
    Ended {
        /// The attempt whose run has ended.
        key: AttemptKey,
        /// How the run ended.
        outcome: Outcome,
    },
    /// A run that was killed has stopped. For each run comes either this or [`Event::Ended`].
    Stopped(AttemptKey),
    /// The process is about to stop: finish the runs until the deadline, and take no new attempts.
    StopAsked {
        /// When runs that are not over are killed.
        deadline: Time,
    },
}

/// Something that the executor has to do.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "what is sent, the largest, is most of them")]
pub enum Effect {
    /// Make the module (compiled) and the input of an attempt ready.
    Prepare {
        /// The attempt.
        dispatch: Arc<Dispatch>,
        /// A link over which to fetch them.
        link: LinkId,
    },
    /// Run an attempt. Its module and input are ready.
    Start(Arc<Dispatch>),
    /// Kill a run. [`Event::Stopped`] follows when it has stopped.
    Kill {
        /// The attempt whose run is killed.
        key: AttemptKey,
        /// Why the run is killed. It decides whether the attempt gets an outcome.
        why: Kill,
    },
    /// End a run with [`waited`](super::waited) if it still waits for a slot. One that has a slot goes on.
    Recall(AttemptKey),
    /// Drop what was made ready for an attempt.
    Drop(AttemptKey),
    /// Put this state into the lease.
    SetLeaseState(LeaseState),
    /// Put into every renewal of this session from now on up to where attempts were dispatched to it.
    /// To be executed before any effect that follows it.
    SetHolds(Holds),
    /// Send a frame to a master.
    Send {
        /// The link to the master. Nothing is sent if it is down by then.
        link: LinkId,
        /// The frame for the master.
        message: ToMaster,
    },
    /// No run of the finished session is left; or, after [`Event::StopAsked`], nothing runs at all and
    /// the lease can be given back.
    Quiet,
}

/// Why a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The lease is over.
    Fenced,
    /// Its master revoked it.
    Revoked,
    /// It makes room for a more urgent task: its task is queued again.
    Preempted,
    /// Its worker drains, and the deadline is over: its task is queued again.
    Drained,
    /// The worker stops.
    Stopping,
}

impl Kill {
    /// Why, in a few words.
    pub fn why(self) -> &'static str {
        match self {
            Kill::Fenced => "the lease is over",
            Kill::Revoked => "its master revoked it",
            Kill::Preempted => "a more urgent task needs its place",
            Kill::Drained => "its worker drains",
            Kill::Stopping => "its worker stops",
        }
    }
}

impl From<Kill> for KillReason {
    fn from(kill: Kill) -> Self {
        match kill {
            Kill::Fenced => KillReason::Fenced,
            Kill::Revoked | Kill::Preempted | Kill::Drained | Kill::Stopping => KillReason::Revoked,
        }
    }
}
