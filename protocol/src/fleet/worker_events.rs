//! The events that are published when a worker's lease changes. Never decides anything about the
//! worker.

use crate::{
    advisory::WorkerEvent,
    lease::{Lease, LeaseState},
    limit::UPGRADE_REASON_MAX,
    task::clip,
};
use alloc::{
    format,
    string::{String, ToString},
};

/// The kind of event, and its reason as a sentence.
type Change = (WorkerEvent, String);

/// The reason of a lost worker.
pub(super) const LOST: &str = "its lease was not renewed in time";

/// The event for a change of the lease state, if it changed.
pub(super) fn of_state(old: Option<&Lease>, new: &Lease) -> Option<Change> {
    let changed = old.is_none_or(|old| (old.session, old.state) != (new.session, new.state));
    if !changed {
        return None;
    }
    let new_session = old.is_none_or(|old| old.session != new.session);
    let (what, why) = match new.state {
        LeaseState::Live | LeaseState::Cordoned if new_session && new.fenced => (
            WorkerEvent::Fenced,
            "its lease had lapsed and its runs were killed; it has a new session",
        ),
        LeaseState::Live if new_session && !new.succeeds.is_empty() => {
            (WorkerEvent::Joined, "a new session; the one before it is over")
        }
        LeaseState::Live => (WorkerEvent::Joined, "it has a lease"),
        LeaseState::Cordoned => (WorkerEvent::Cordoned, "it takes no new attempts"),
        LeaseState::Draining => (WorkerEvent::Draining, "it takes no new attempts"),
        LeaseState::Released => (WorkerEvent::Left, "it gave its lease back"),
        LeaseState::Lost => (WorkerEvent::Lost, LOST),
    };
    Some((what, why.into()))
}

/// The event for an upgrade that the worker has carried out or given up.
pub(super) fn of_program(old: Option<&Lease>, new: &Lease) -> Option<Change> {
    let program = new.program.as_ref().filter(|_| new.state.is_held())?;
    let before = old.and_then(|old| old.program.as_ref());
    // A master that has just begun to see this worker does not know when that was.
    if before.is_none_or(|before| before.number >= program.number) {
        return None;
    }
    Some(match (&program.failed, program.digest) {
        (Some(reason), _) => (WorkerEvent::UpgradeFailed, clip(reason, UPGRADE_REASON_MAX).into()),
        (None, Some(digest)) => (WorkerEvent::Upgraded, format!("it runs the program {digest}")),
        (None, None) => {
            (WorkerEvent::Upgraded, String::from("it runs the program that its host has installed"))
        }
    })
}

/// The event for a change of the worker's health: it became unwell, or well again. None for a worker
/// that is lost or has left.
pub(super) fn of_health(old: Option<&Lease>, new: &Lease) -> Option<Change> {
    match (old.and_then(Lease::lacks), new.lacks()) {
        (None, Some(unwell)) => Some((WorkerEvent::Unwell, unwell.to_string())),
        (Some(_), None) if new.state.is_held() => {
            Some((WorkerEvent::Well, String::from("its host lacks nothing any more")))
        }
        _ => None,
    }
}
