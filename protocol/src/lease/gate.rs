//! The gate that every effect of a run passes: the end of the lease, which all runs of a worker share,
//! and a kill switch for each run. A run that has found its gate closed never finds it open again.

use crate::Time;
use alloc::sync::Arc;
use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

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

    /// The permit for one effect at `now`, or why the run was killed. A gate that was found closed stays
    /// closed: a renewal that is acknowledged after the lease's end must not revive a run that may have
    /// a successor.
    pub fn pass(&self, now: Time) -> Result<Permit<'_>, KillReason> {
        if now >= self.until() {
            self.kill(KillReason::Fenced);
        }
        self.killed().map_or(Ok(Permit { at: now, gate: PhantomData }), Err)
    }
}

/// The proof that a run's gate was open. Each function that has an effect for a guest takes one, so that
/// code that forgets to pass the gate does not compile. Only [`Gate::pass`] makes one:
///
/// ```compile_fail,E0451
/// # use core::marker::PhantomData;
/// # use muster_protocol::{Time, lease::Permit};
/// let permit = Permit { at: Time::ZERO, gate: PhantomData };
/// ```
///
/// A permit is for one effect, so it is neither `Clone` nor `Copy`:
///
/// ```compile_fail,E0382
/// # use muster_protocol::{Time, lease::{Gate, LeaseEnd, Permit}};
/// fn effect(_: Permit<'_>) {}
/// let gate = Gate::new(LeaseEnd::never());
/// let permit = gate.pass(Time::ZERO).unwrap();
/// effect(permit);
/// effect(permit);
/// ```
///
/// It is for an effect that follows at once. It does not outlive its gate:
///
/// ```compile_fail,E0597
/// # use muster_protocol::{Time, lease::{Gate, LeaseEnd}};
/// let kept = {
///     let gate = Gate::new(LeaseEnd::never());
///     gate.pass(Time::ZERO)
/// };
/// drop(kept);
/// ```
///
/// Nor does it outlive an `await`, because it is not `Send` and the futures of runs have to be:
///
/// ```compile_fail
/// # use muster_protocol::{Time, lease::{Gate, LeaseEnd, Permit}};
/// fn effect(_: Permit<'_>) {}
/// fn spawn(_: impl Future + Send) {}
/// spawn(async {
///     let gate = Gate::new(LeaseEnd::never());
///     let permit = gate.pass(Time::ZERO).unwrap();
///     core::future::ready(()).await;
///     effect(permit);
/// });
/// ```
///
/// A future that passes the gate after it has waited is fine:
///
/// ```
/// # use muster_protocol::{Time, lease::{Gate, LeaseEnd, Permit}};
/// fn effect(_: Permit<'_>) {}
/// fn spawn(_: impl Future + Send) {}
/// spawn(async {
///     let gate = Gate::new(LeaseEnd::never());
///     core::future::ready(()).await;
///     let permit = gate.pass(Time::ZERO).unwrap();
///     effect(permit);
/// });
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit<'gate> {
    at: Time,
    /// The pointer keeps it from being `Send` and `Sync`.
    gate: PhantomData<(&'gate Gate, *const ())>,
}

impl Permit<'_> {
    /// When the gate was open.
    pub fn at(&self) -> Time {
        self.at
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
        assert_eq!(gate.pass(at(9)).map(|permit| permit.at()), Ok(at(9)));
        assert_eq!(gate.pass(at(10)), Err(KillReason::Fenced), "the end itself is outside");
        end.set(at(20));
        assert_eq!(gate.pass(at(11)), Err(KillReason::Fenced), "renewed too late");
        assert!(other.pass(at(11)).is_ok(), "it had not looked");
    }

    #[test]
    fn the_first_reason_counts() {
        let gate = Gate::new(LeaseEnd::never());
        gate.clone().kill(KillReason::Revoked);
        gate.kill(KillReason::Fenced);
        assert_eq!(gate.killed(), Some(KillReason::Revoked));
        assert_eq!(gate.pass(Time::ZERO), Err(KillReason::Revoked));
    }
}
