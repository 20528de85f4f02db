//! The ends of leases, of sessions, and of the worker: when nothing runs any more. How each attempt ends
//! then is in `ending`.

use super::{Attempt, Attempts, Kill, Phase};
use crate::{ABSENT, SessionId, Time, registry::Mark};
use alloc::vec::Vec;

impl Attempts {
    pub(super) fn is_quiet(&self, now: Time) -> bool {
        match self.stopping {
            // A stopping worker still runs its queued attempts and delivers every outcome, unless the
            // deadline is over.
            Some(deadline) => {
                self.attempts.is_empty() || (now >= deadline && self.running.count() == 0)
            }
            None => self.running.count() == 0,
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
}
