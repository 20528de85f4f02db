//! The gate of a run, as those wait for it that do something for the run. When it opens and closes is
//! decided by [`lease::Gate`].

use crate::clock::boottime;
use muster_protocol::{
    Time,
    lease::{self, KillReason, LeaseEnd, Permit},
};
use std::sync::Arc;
use tokio::sync::Notify;

/// The handle by which lease and master stop one run. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    gate: lease::Gate,
    changed: Arc<Notify>,
}

impl Gate {
    /// A gate for one run.
    pub fn new(end: LeaseEnd) -> Self {
        Gate { gate: lease::Gate::new(end), changed: Arc::default() }
    }

    /// Kills the run, or keeps it from starting. The first reason counts; the run is dropped at
    /// its next tick, or at once where it waits in a host call.
    pub fn kill(&self, reason: KillReason) {
        self.gate.kill(reason);
        self.changed.notify_one();
    }

    /// The lease's end as it is known now.
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

    /// Waits until the gate is found closed, for work that is done for a run before it begins.
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

    /// Makes [`Gate::changed`] return, for who waits on other things besides the gate.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits for [`Gate::kill`] or [`Gate::wake`]; one waiter at a time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
