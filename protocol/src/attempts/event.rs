//! What a worker's mind is told and what it asks for. Types only; no decisions.

use crate::{
    SessionId, Time,
    lease::{KillReason, LeaseState},
    message::{AttemptKey, Dispatch, ToMaster, ToWorker},
    registry::Holds,
    task::Outcome,
};
use alloc::{string::String, sync::Arc};

/// A link to a master, numbered by the shell: a reconnect has another number.
pub type LinkId = u64;

/// A fact.
#[derive(Clone, Debug)]
pub enum Event {
    /// This session holds the lease until then.
    LeaseHeld {
        /// The session of the worker that holds the lease.
        session: SessionId,
        /// The end of its right to run, for now.
        until: Time,
    },
    /// The session is over: its lease lapsed, or was taken from it. Answered by [`Effect::Quiet`].
    SessionOver,
    /// A link to a master is up, and this is the master's session.
    Linked(LinkId, SessionId),
    /// It is down.
    Unlinked(LinkId),
    /// A master said something.
    Received(LinkId, ToWorker),
    /// What an attempt needs is at hand.
    Prepared(AttemptKey),
    /// It is not.
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
    /// A run that was killed has stopped. Each run says either this or [`Event::Ended`].
    Stopped(AttemptKey),
    /// The worker shall stop: finish what runs until then, and take nothing new.
    StopAsked {
        /// When what still runs is killed.
        deadline: Time,
    },
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "what is sent, the largest, is most of them")]
pub enum Effect {
    /// Get what an attempt needs: its module, compiled, and its input.
    Prepare {
        /// The attempt.
        dispatch: Arc<Dispatch>,
        /// A link to get it through.
        link: LinkId,
    },
    /// Run an attempt. What it needs is at hand.
    Start(Arc<Dispatch>),
    /// Kill a run, and say [`Event::Stopped`] when it has stopped.
    Kill {
        /// The attempt whose run is killed.
        key: AttemptKey,
        /// Why the run is killed. It decides whether the attempt gets an outcome.
        why: Kill,
    },
    /// Forget what was got for an attempt.
    Drop(AttemptKey),
    /// Say this in the lease.
    SetLeaseState(LeaseState),
    /// Say in every renewal of this session from now on that attempts are held up to here. To be carried
    /// out before any effect that follows it.
    SetHolds(Holds),
    /// Say something to a master.
    Send {
        /// The link to the master. Nothing is sent if it is down by then.
        link: LinkId,
        /// The frame for the master.
        message: ToMaster,
    },
    /// Nothing that the finished session ran is running any more; or, after
    /// [`Event::StopAsked`], nothing runs at all and the lease can be given back.
    Quiet,
}

/// Why a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The lease is over.
    Fenced,
    /// Its master said so.
    Revoked,
    /// It makes room: its task goes elsewhere.
    Preempted,
    /// Its worker drains, and the deadline is over: its task goes elsewhere.
    Drained,
    /// The worker stops.
    Stopping,
}

impl From<Kill> for KillReason {
    fn from(kill: Kill) -> Self {
        match kill {
            Kill::Fenced => KillReason::Fenced,
            Kill::Revoked | Kill::Preempted | Kill::Drained | Kill::Stopping => KillReason::Revoked,
        }
    }
}
