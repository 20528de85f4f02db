//! The gate that every effect of a run passes: the end of the lease, which all runs of a worker share,
//! and a kill switch for each run. A run that has found its gate closed never finds it open again.

use crate::Time;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Why a run was killed by its worker. It has no outcome then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// The worker could not prove its lease any more; the task may run on another worker.
    Fenced,
    /// A master asked for it: the task was cancelled or preempted, or the attempt is not current.
    Revoked,
}

/// The end of a worker's lease, as all gates see it. Clones share the end. Only a
/// [`Deadman`](super::Deadman) moves it.
#[derive(Clone, Debug)]
pub struct LeaseEnd(Arc<AtomicU64>);

impl LeaseEnd {
    /// A lease that ends at `end`.
    pub fn at(end: Time) -> Self {
        LeaseEnd(Arc::new(AtomicU64::new(end.as_nanos())))
    }

    /// A lease that never ends: for runs without a master.
    pub fn never() -> Self {
        LeaseEnd::at(Time::NEVER)
    }

    /// The present end of the lease, on the boot clock.
    pub fn get(&self) -> Time {
        Time::from_nanos(self.0.load(Ordering::SeqCst))
    }

    pub(super) fn set(&self, end: Time) {
        self.0.store(end.as_nanos(), Ordering::SeqCst);
    }
}

/// The handle by which the lease and masters stop one run. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    end: LeaseEnd,
    /// 0, or the code of a reason; the first reason stays.
    killed: Arc<AtomicU8>,
}

impl Gate {
    /// A gate for one run.
    pub fn new(end: LeaseEnd) -> Self {
        Gate { end, killed: Arc::default() }
    }

    /// Kills the run, or keeps it from starting. The first reason counts.
    pub fn kill(&self, reason: KillReason) {
        let code = match reason {
            KillReason::Fenced => 1,
            KillReason::Revoked => 2,
        };
        let _ = self.killed.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Why the run was killed, if it was.
    pub fn killed(&self) -> Option<KillReason> {
        match self.killed.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(KillReason::Fenced),
            _ => Some(KillReason::Revoked),
        }
    }

    /// The present end of the lease.
    pub fn until(&self) -> Time {
        self.end.get()
    }

    /// Whether an effect may happen at `now`.
    pub fn is_open(&self, now: Time) -> bool {
        self.killed().is_none() && now < self.until()
    }

    /// The same as [`Gate::is_open`], but a gate that was found closed stays closed: a renewal that is
    /// acknowledged after the lease's end must not revive a run that may have a successor.
    pub fn check(&self, now: Time) -> Result<(), KillReason> {
        if now >= self.until() {
            self.kill(KillReason::Fenced);
        }
        self.killed().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_was_found_closed_stays_closed() {
        let at = Time::from_nanos;
        let end = LeaseEnd::at(at(10));
        let (gate, other) = (Gate::new(end.clone()), Gate::new(end.clone()));
        assert_eq!(gate.check(at(9)), Ok(()));
        assert!(!gate.is_open(at(10)), "the end itself is outside");
        assert_eq!(gate.check(at(10)), Err(KillReason::Fenced));
        end.set(at(20));
        assert_eq!(gate.check(at(11)), Err(KillReason::Fenced), "renewed too late");
        assert_eq!(other.check(at(11)), Ok(()), "it had not looked");
    }

    #[test]
    fn the_first_reason_counts() {
        let gate = Gate::new(LeaseEnd::never());
        gate.clone().kill(KillReason::Revoked);
        gate.kill(KillReason::Fenced);
        assert_eq!(gate.killed(), Some(KillReason::Revoked));
        assert!(!gate.is_open(Time::ZERO));
    }
}
