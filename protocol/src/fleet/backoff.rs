//! Backoff for workers that return several attempts in a row: they get no attempts for a while. So
//! tasks go to workers that can run them, and a fleet without another worker does not write records
//! endlessly.

use super::{Fleet, Timer};
use crate::{
    Time, WorkerId,
    attempts::{DRAINED, PREEMPTED, WAITED},
    task::Verdict,
};
use core::time::Duration;

/// How many attempts a worker has to return in a row before its backoff begins. One or two are normal:
/// a drain that its lease does not show yet causes them, or two masters that filled it at the same
/// time.
const RETURNS_MAX: u32 = 3;

/// The first backoff; each further one without a run in between is twice as long.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest backoff: a worker that can run again is used again after that.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The attempts that a worker has returned.
#[derive(Debug, Default)]
pub(super) struct WorkerBackoff {
    in_a_row: u32,
    until: Option<Time>,
}

impl WorkerBackoff {
    /// Whether the worker is given no attempts now.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }
}

impl Fleet {
    /// A worker has reported the outcome of an attempt.
    pub(super) fn count_returns(&mut self, now: Time, id: &WorkerId, verdict: &Verdict) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let rest = &mut worker.backoff;
        match verdict {
            // Its master expects longer runs there now, and gives it fewer.
            Verdict::Returned { reason }
                if [PREEMPTED, DRAINED, WAITED].contains(&reason.as_str()) => {}
            Verdict::Returned { .. } => {
                rest.in_a_row = rest.in_a_row.saturating_add(1);
                if rest.in_a_row >= RETURNS_MAX && rest.until.is_none() {
                    let doubled = BACKOFF_MIN * (1 << (rest.in_a_row - RETURNS_MAX).min(8));
                    let until = now + doubled.min(BACKOFF_MAX);
                    rest.until = Some(until);
                    self.timers.set(until, Timer::Backoff(id.clone()));
                    self.reindex(id);
                }
            }
            _ => rest.in_a_row = 0,
        }
    }

    /// A backoff is over.
    pub(super) fn backoff_due(&mut self, now: Time, id: &WorkerId) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.backoff.until.take_if(|until| *until <= now).is_some()
        {
            self.reindex(id);
        }
    }
}
