//! Whether this worker works and takes tasks, as its loop sees it: for the ready file, the service manager, and HTTP. Never
//! decides anything about the lease.

use crate::links::Links;
use muster_protocol::{
    Time,
    attempts::{Effect, Event},
    lease::LeaseState,
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// How long the loop may be without a pass before the process counts as not healthy. It passes every
/// [`LOOK_EVERY`](crate::worker_loop::LOOK_EVERY) at least.
const LOOP_WITHIN: Duration = Duration::from_secs(15);

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readiness {
    seen: Arc<Mutex<Seen>>,
    /// The links that are up.
    pub links: Links,
}

/// What the loop has seen.
struct Seen {
    /// When it last passed.
    passed: Time,
    /// When the lease was last renewed, and when it ends. `None` without a lease.
    held: Option<(Time, Time)>,
    /// The state that the lease is to say.
    standing: LeaseState,
}

impl Readiness {
    /// A worker that begins.
    pub(crate) fn new(links: Links) -> Self {
        let seen = Seen { passed: Time::ZERO, held: None, standing: LeaseState::Live };
        Readiness { seen: Arc::new(Mutex::new(seen)), links }
    }

    /// The loop has an event.
    pub(crate) fn heard(&self, now: Time, event: &Event) {
        match event {
            Event::LeaseHeld { until, .. } => self.seen().held = Some((now, *until)),
            Event::SessionOver => self.seen().held = None,
            _ => {}
        }
    }

    /// The loop has decided this.
    pub(crate) fn decided(&self, effect: &Effect) {
        if let Effect::SetLeaseState(standing) = effect {
            self.seen().standing = *standing;
        }
    }

    /// The worker stops.
    pub(crate) fn stopping(&self) {
        self.seen().standing = LeaseState::Draining;
    }

    /// The loop has passed.
    pub(crate) fn passed(&self, now: Time) {
        self.seen().passed = now;
    }

    /// Whether the loop passes.
    pub(crate) fn is_well(&self, now: Time) -> bool {
        now.since(self.seen().passed) < LOOP_WITHIN
    }

    /// Whether the session has had a lease and is not over.
    pub(crate) fn is_in_session(&self) -> bool {
        self.seen().held.is_some()
    }

    /// How long ago the lease was renewed, if the worker holds one.
    pub(crate) fn lease_age(&self, now: Time) -> Option<Duration> {
        let held = self.seen().held.filter(|(_, until)| now < *until);
        held.map(|(renewed, _)| now.since(renewed))
    }

    /// What a worker needs to run a task and does not have: a lease, or a link.
    pub(crate) fn lacks(&self, now: Time) -> Option<&'static str> {
        let is_linked = !self.links.lock().expect("no holder of this lock panics").is_empty();
        match self.lease_age(now) {
            None => Some("it holds no lease"),
            Some(_) if !is_linked => Some("it has no link to a master"),
            Some(_) => None,
        }
    }

    /// Why this worker takes no tasks, if it does not.
    pub(crate) fn refuses(&self, now: Time) -> Option<&'static str> {
        let standing = self.seen().standing;
        self.lacks(now).or(match standing {
            LeaseState::Cordoned => Some("it is cordoned"),
            LeaseState::Draining => Some("it drains"),
            _ => None,
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::SessionId;

    #[test]
    fn a_worker_is_ready_while_it_holds_a_lease_and_has_a_link() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let readiness = Readiness::new(Links::default());
        assert_eq!(readiness.refuses(at(1)), Some("it holds no lease"));
        readiness.heard(at(2), &Event::LeaseHeld { session: SessionId(1), until: at(6) });
        assert_eq!(readiness.lease_age(at(4)), Some(Duration::from_secs(2)));
        assert_eq!(readiness.refuses(at(4)), Some("it has no link to a master"));
        assert_eq!(readiness.refuses(at(6)), Some("it holds no lease"), "it has lapsed");
        assert!(readiness.is_in_session(), "nobody has said that the session is over");
        readiness.heard(at(7), &Event::SessionOver);
        assert!(!readiness.is_in_session());
        readiness.passed(at(1));
        assert!(readiness.is_well(at(15)) && !readiness.is_well(at(16)));
    }
}
