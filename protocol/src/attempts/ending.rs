//! How an attempt ends: by itself, by a frame of a master, or with the lease or the worker; and how
//! long its outcome is kept. Never forgets an outcome before a master has acknowledged it, and never
//! keeps an outcome of a run that was stopped because the lease was over.

use super::{Attempt, Attempts, Effect, Kill, LinkId, Phase};
use crate::{
    Revision, Time, limit,
    message::AttemptKey,
    task::{Outcome, Verdict},
};
use alloc::{sync::Arc, vec::Vec};
use core::ops::Bound;

/// The reason of a run that was preempted.
pub(crate) const PREEMPTED: &str = "something more urgent needed its place";

/// The reason of a run that was not over at the deadline of a drain.
pub(crate) const DRAINED: &str = "its worker drains, and the deadline of that was over";

/// The reason of an attempt that has waited too long for room.
pub(crate) const WAITED: &str = "the runs of its worker take longer than expected";

/// The outcome of an attempt that has waited too long for room. The wait counts as the time of a run, so that its master
/// expects longer runs there and gives the worker hardly more attempts than it has slots.
pub fn waited() -> Outcome {
    let run_us = limit::ROOM_WAIT_MAX.as_micros() as u64;
    Outcome { run_us, ..returned(WAITED) }
}

/// The outcome of an attempt that the worker returns.
pub(super) fn returned(reason: &str) -> Outcome {
    Outcome::bare(Verdict::Returned { reason: reason.into() })
}

impl Attempts {
    pub(super) fn ended(&mut self, now: Time, key: AttemptKey, outcome: Outcome) {
        let Some(attempt) = self.attempts.get(&key) else { return };
        self.waits_since = self.waits_since.map(|_| now);
        match attempt.phase {
            Phase::Running
            | Phase::Killed(Kill::Revoked | Kill::Preempted | Kill::Drained | Kill::Stopping) => {
                self.running.remove(attempt.share());
                self.run_estimate.count(outcome.run_us);
                self.set_outcome(key, outcome);
            }
            // The run ended before the kill reached it; but after the end of the lease no outcome
            // counts.
            Phase::Killed(_) => self.stopped(now, key),
            _ => {}
        }
    }

    pub(super) fn stopped(&mut self, now: Time, key: AttemptKey) {
        let Some(attempt) = self.attempts.get(&key) else { return };
        self.waits_since = self.waits_since.map(|_| now);
        let why = match attempt.phase {
            Phase::Killed(why) => why,
            // The gate closed before this state machine saw the end of the lease: only that stops a run
            // without a kill. If the session continues nevertheless, the masters must be told.
            Phase::Running => {
                self.lapsed = true;
                self.holding.remove(attempt.share());
                Kill::Fenced
            }
            _ => return,
        };
        self.running.remove(attempt.share());
        match why {
            Kill::Revoked => self.set_outcome(key, Outcome::bare(Verdict::Cancelled)),
            Kill::Preempted => self.set_outcome(key, returned(PREEMPTED)),
            Kill::Drained => self.set_outcome(key, returned(DRAINED)),
            Kill::Fenced | Kill::Stopping => {
                self.attempts.remove(&key);
            }
        }
    }

    /// A master takes an attempt back, for good or to be run again later.
    pub(super) fn taken(&mut self, link: LinkId, key: AttemptKey, revision: Revision, why: Kill) {
        let outcome = match why {
            Kill::Preempted => returned(PREEMPTED),
            _ => Outcome::bare(Verdict::Cancelled),
        };
        let Some(attempt) = self.attempts.get_mut(&key) else {
            // The attempt never arrived here, so it does not run; the master waits for this answer.
            let phase = Phase::Ended { outcome: Arc::new(outcome), sent: None };
            let (dispatch, arrival) = (None, 0);
            self.attempts.insert(key, Attempt { dispatch, revision, arrival, link, phase });
            self.dirty.insert(key);
            return;
        };
        match &mut attempt.phase {
            Phase::Running => {
                attempt.phase = Phase::Killed(why);
                self.holding.remove(attempt.share());
                self.outbox.push(Effect::Kill { key, why });
            }
            Phase::Lacking { .. } | Phase::Preparing { .. } | Phase::Ready => {
                self.outbox.push(Effect::Drop(key));
                self.set_outcome(key, outcome);
            }
            // Revoked for good after it was to be run again later.
            Phase::Killed(killed @ (Kill::Preempted | Kill::Drained)) => *killed = why,
            Phase::Killed(_) => {}
            Phase::Ended { sent, .. } => {
                *sent = None;
                self.dirty.insert(key);
            }
        }
    }

    /// Returns every attempt that has not started.
    pub(super) fn give_back_waiting(&mut self, reason: &str) {
        let waits = |attempt: &Attempt| {
            matches!(attempt.phase, Phase::Lacking { .. } | Phase::Preparing { .. } | Phase::Ready)
        };
        let waiting: Vec<AttemptKey> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| waits(attempt))
            .map(|(key, _)| *key)
            .collect();
        for key in waiting {
            self.outbox.push(Effect::Drop(key));
            self.set_outcome(key, returned(reason));
        }
    }

    /// If attempts have waited for room for too long, and no run has ended meanwhile, returns those that are not started
    /// and recalls the runs, of which those without a slot end.
    pub(super) fn give_back_stuck(&mut self, now: Time) {
        let waits = !self.ready.is_empty() || self.running.count() > self.slots as usize;
        let since = match self.waits_since.filter(|_| waits) {
            None => {
                self.waits_since = waits.then_some(now);
                return;
            }
            Some(since) => since,
        };
        if now < since + limit::ROOM_WAIT_MAX {
            return;
        }
        self.waits_since = Some(now);
        self.run_estimate.count(limit::ROOM_WAIT_MAX.as_micros() as u64);
        let waiting = self.ready.iter().map(|&(_, key)| key);
        // One that waits for an earlier attempt of its task stays: that attempt is about to stop.
        let waiting: Vec<AttemptKey> = waiting.filter(|key| !self.runs_another(*key)).collect();
        for key in waiting {
            self.outbox.push(Effect::Drop(key));
            self.set_outcome(key, waited());
        }
        if self.running.count() > self.slots as usize {
            let runs = self.attempts.iter().filter(|(_, run)| matches!(run.phase, Phase::Running));
            self.outbox.extend(runs.map(|(key, _)| Effect::Recall(*key)));
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
                    self.holding.remove(attempt.share());
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
                self.holding.remove(attempt.share());
                self.ready.remove(&(attempt.arrival, key));
                self.outbox.push(Effect::Drop(key));
            }
        }
    }

    /// Keeps an outcome until it is acknowledged.
    pub(super) fn set_outcome(&mut self, key: AttemptKey, outcome: Outcome) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        if attempt.holds_work() {
            self.holding.remove(attempt.share());
        }
        self.ready.remove(&(attempt.arrival, key));
        attempt.dispatch = None;
        attempt.phase = Phase::Ended { outcome: Arc::new(outcome), sent: None };
        self.dirty.insert(key);
    }

    /// Reports outcomes that were not acknowledged for the takeover delay on another link, if there is
    /// one: the master on the first may not reach the registry.
    pub(super) fn report_again(&mut self, now: Time) {
        let mut earliest = Time::NEVER;
        for (key, attempt) in &mut self.attempts {
            let Phase::Ended { sent, .. } = &mut attempt.phase else { continue };
            let Some((link, at)) = sent else { continue };
            let mut later = self.links.range((Bound::Excluded(*link), Bound::Unbounded));
            let next = later.next().or_else(|| self.links.first_key_value());
            match next {
                Some((&next, _)) if now >= *at + limit::PATIENCE && next != *link => {
                    *sent = None;
                    attempt.link = next;
                    self.dirty.insert(*key);
                }
                // The link itself loses nothing.
                _ if now >= *at + limit::PATIENCE => *at = now,
                _ => {}
            }
            if let Some((_, at)) = sent {
                earliest = earliest.min(*at + limit::PATIENCE);
            }
        }
        self.report_again = (earliest < Time::NEVER).then_some(earliest);
    }

    /// A master knows the outcome: forget it.
    pub(super) fn acknowledged(&mut self, key: AttemptKey) {
        if let Some(attempt) = self.attempts.get(&key)
            && matches!(attempt.phase, Phase::Ended { .. })
        {
            let revision = attempt.revision;
            self.attempts.remove(&key);
            self.remember(key, revision);
        }
    }

    pub(super) fn remember(&mut self, key: AttemptKey, revision: Revision) {
        if self.over.insert(key) {
            self.over_order.push_back((key, revision));
        }
        if self.over_order.len() > self.over_max
            && let Some((oldest, revision)) = self.over_order.pop_front()
        {
            self.over.remove(&oldest);
            self.floor = self.floor.max(revision);
        }
    }
}
