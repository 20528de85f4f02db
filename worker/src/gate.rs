//! The gate every effect of a run passes: the lease's end, shared by all runs, and one kill switch
//! for each. Never opens again for a run that has found it closed.

use crate::clock::boottime;
use muster_protocol::Time;
use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};
use tokio::sync::Notify;

/// Why a run was killed by its worker. It has no outcome then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// The worker could not prove its lease any more; the task may be given to another worker.
    Fenced,
    /// A master asked for it: a cancel, a preemption, or the attempt is not current.
    Revoked,
}

/// The handle by which lease and master stop one run. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    until: Arc<AtomicU64>,
    switch: Arc<Switch>,
}

#[derive(Debug, Default)]
struct Switch {
    /// 0, or a reason; the first one stays.
    killed: AtomicU8,
    changed: Notify,
}

impl Gate {
    /// A gate for one run. `until` holds the lease's end in nanoseconds of `CLOCK_BOOTTIME`, is
    /// shared by all runs of a worker and written by its lease thread alone.
    pub fn new(until: Arc<AtomicU64>) -> Self {
        Gate { until, switch: Arc::default() }
    }

    /// Kills the run, or keeps it from starting. The first reason counts; the run is dropped at
    /// its next tick, or at once where it waits in a host call.
    pub fn kill(&self, reason: KillReason) {
        let code = match reason {
            KillReason::Fenced => 1,
            KillReason::Revoked => 2,
        };
        let _ = self.switch.killed.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
        self.switch.changed.notify_one();
    }

    /// Why it was killed, if it was.
    pub fn killed(&self) -> Option<KillReason> {
        match self.switch.killed.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(KillReason::Fenced),
            _ => Some(KillReason::Revoked),
        }
    }

    /// The lease's end as it is known now.
    pub fn until(&self) -> Time {
        Time::from_nanos(self.until.load(Ordering::SeqCst))
    }

    /// Whether an effect may happen at `now`.
    pub fn is_open(&self, now: Time) -> bool {
        self.killed().is_none() && now < self.until()
    }

    /// The same as [`Gate::is_open`], but a gate found closed stays so: a renewal that is
    /// acknowledged after the lease's end must not revive a run that may have a successor.
    pub fn check(&self, now: Time) -> Result<(), KillReason> {
        if now >= self.until() {
            self.kill(KillReason::Fenced);
        }
        self.killed().map_or(Ok(()), Err)
    }

    /// Waits until the gate is found closed, for work that is done for a run before it begins.
    pub(crate) async fn closed(&self) -> KillReason {
        loop {
            let now = boottime();
            if let Err(reason) = self.check(now) {
                return reason;
            }
            tokio::select! {
                () = self.changed() => {}
                () = tokio::time::sleep(self.until().since(now)) => {}
            }
        }
    }

    /// Makes [`Gate::changed`] return, for who waits on other things besides the gate.
    pub(crate) fn wake(&self) {
        self.switch.changed.notify_one();
    }

    /// Waits for [`Gate::kill`] or [`Gate::wake`]; one waiter at a time.
    pub(crate) async fn changed(&self) {
        self.switch.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_was_found_closed_stays_closed() {
        let until = Arc::new(AtomicU64::new(10));
        let (gate, other) = (Gate::new(until.clone()), Gate::new(until.clone()));
        assert_eq!(gate.check(Time::from_nanos(9)), Ok(()));
        assert!(!gate.is_open(Time::from_nanos(10)), "the end itself is outside");
        assert_eq!(gate.check(Time::from_nanos(10)), Err(KillReason::Fenced));
        until.store(20, Ordering::SeqCst);
        assert_eq!(gate.check(Time::from_nanos(11)), Err(KillReason::Fenced), "renewed too late");
        assert_eq!(other.check(Time::from_nanos(11)), Ok(()), "it had not looked");
    }

    #[test]
    fn the_first_reason_counts() {
        let gate = Gate::new(Arc::new(AtomicU64::new(u64::MAX)));
        gate.clone().kill(KillReason::Revoked);
        gate.kill(KillReason::Fenced);
        assert_eq!(gate.killed(), Some(KillReason::Revoked));
        assert!(!gate.is_open(Time::ZERO));
    }
}
