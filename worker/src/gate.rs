//! The gate of a run, with a way to wait for it. [`lease::Gate`] decides when it opens and closes; this
//! module never does.

use crate::clock::boottime;
use muster_protocol::{
    Time,
    lease::{self, KillReason, LeaseEnd, Permit},
};
use std::sync::Arc;
use tokio::sync::Notify;

/// The handle by which the lease and a master stop one run. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct RunGate {
    gate: lease::Gate,
    changed: Arc<Notify>,
    recalled: Arc<Notify>,
}

impl RunGate {
    /// A gate for one run; it closes at `end`.
    pub fn new(end: LeaseEnd) -> Self {
        RunGate { gate: lease::Gate::new(end), changed: Arc::default(), recalled: Arc::default() }
    }

    /// Kills the run, or keeps it from starting. The first reason counts. The run is dropped at its
    /// next tick, or at once where it waits in a host call.
    pub fn kill(&self, reason: KillReason) {
        self.gate.kill(reason);
        self.changed.notify_one();
    }

    /// The end of the lease as it is known now.
    pub fn until(&self) -> Time {
        self.gate.until()
    }

    /// See [`lease::Gate::pass`].
    pub fn pass(&self, now: Time) -> Result<Permit<'_>, KillReason> {
        let found = self.gate.pass(now);
        if found.is_err() {
            self.changed.notify_one();
        }
        found
    }

    /// Waits until the gate is closed, and returns why. For work that is done before a run begins.
    pub(crate) async fn closed(&self) -> KillReason {
        loop {
            let now = boottime();
            if let Err(reason) = self.gate.pass(now) {
                return reason;
            }
            tokio::select! {
                () = self.changed() => {}
                () = tokio::time::sleep(self.until().since(now)) => {}
            }
        }
    }

    /// Recalls the run: it ends if it still waits for a slot.
    pub(crate) fn recall(&self) {
        self.recalled.notify_one();
    }

    /// Waits for [`RunGate::recall`].
    pub(crate) async fn recalled(&self) {
        self.recalled.notified().await;
    }

    /// Makes [`RunGate::changed`] return, for a waiter that waits for other things besides the gate.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits for [`RunGate::kill`] or [`RunGate::wake`]. Only one task may wait at a time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
