//! The end of a lease, of a session, and of the worker: which runs must stop then, and when all have.
//! Never keeps an outcome of a run that was stopped because the lease was over.

use super::{Attempt, Attempts, Effect, Kill, Phase};
use crate::{ABSENT, SessionId, Time, registry::Mark};
use alloc::vec::Vec;

impl Attempts {
    pub(super) fn is_quiet(&self, now: Time) -> bool {
        match self.stopping {
            // A stopping worker still runs its queued attempts and delivers every outcome, unless the
            // deadline is over.
            Some(deadline) => self.attempts.is_empty() || (now >= deadline && self.running == 0),
            None => self.running == 0,
        }
    }

    pub(super) fn stop(&mut self, deadline: Time) {
        self.stopping = Some(deadline);
        self.quiet_owed = true;
        self.give_back_waiting("its worker stops");
    }

    pub(super) fn lease_held(&mut self, session: SessionId, until: Time) {
        if self.closed || self.ended_session == Some(session) {
            return;
        }
        self.until = until;
        if self.session != Some(session) {
            self.session = Some(session);
            // Attempts of the previous session are refused by the session they name.
            self.over.clear();
            self.over_order.clear();
            self.floor = ABSENT;
            self.holds = Mark::default();
            self.lapsed = false;
            self.send_hello_all();
        }
    }

    /// Sends `Hello` again after fenced runs have stopped, so that masters drop the lost attempts.
    pub(super) fn resync(&mut self, now: Time) {
        let fenced = |attempt: &Attempt| matches!(attempt.phase, Phase::Killed(Kill::Fenced));
        if self.lapsed
            && self.session.is_some()
            && now < self.until
            && !self.attempts.values().any(fenced)
        {
            self.lapsed = false;
            self.send_hello_all();
        }
    }

    pub(super) fn send_hello_all(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.send_hello(link);
        }
    }

    /// Kills the runs and drops the attempts that wait. Outcomes stay: the record says whether they
    /// count.
    pub(super) fn stop_all(&mut self, why: Kill) {
        let mut gone = Vec::new();
        for (key, attempt) in &mut self.attempts {
            match attempt.phase {
                Phase::Running => {
                    attempt.phase = Phase::Killed(why);
                    self.holding -= 1;
                    self.lapsed |= why == Kill::Fenced;
                    self.outbox.push(Effect::Kill { key: *key, why });
                }
                // A run that was killed after the lease has no outcome, not even `cancelled`.
                Phase::Killed(_) if why == Kill::Fenced => {
                    self.lapsed = true;
                    attempt.phase = Phase::Killed(why);
                }
                Phase::Killed(_) | Phase::Ended { .. } => {}
                Phase::Lacking { .. } | Phase::Preparing { .. } | Phase::Ready => gone.push(*key),
            }
        }
        self.lapsed |= why == Kill::Fenced && !gone.is_empty();
        for key in gone {
            if let Some(attempt) = self.attempts.remove(&key) {
                self.holding -= 1;
                self.ready.remove(&(attempt.arrival, key));
                self.outbox.push(Effect::Drop(key));
            }
        }
    }
}
