//! A worker's probes of its host, and what its lease is told of that. Never decides when it is well.

use super::LeaseIn;
use crate::world::{MS, Nanos, SimEvent, World};
use muster_protocol::lease::LeaseEvent;

/// What the host lacks.
const WANT: &str = "a disk is full";

impl World {
    /// A worker's host lacks something, and the worker knows it for that.
    fn meets_a_want(&self, at: usize) -> bool {
        let worker = &self.workers[at];
        self.now < worker.unwell_until && worker.says_so
    }

    /// Something could not be got ready.
    pub fn host_failed(&mut self, at: usize, incarnation: u64) {
        if self.meets_a_want(at) {
            let now = self.worker_clock(at);
            self.workers[at].health.failed(now, WANT.into());
            self.tell_health(at, incarnation);
        }
    }

    /// It is time for a probe, unless another time was set since.
    pub fn probe(&mut self, at: usize, incarnation: u64, due: Nanos) {
        let worker = &self.workers[at];
        if worker.process.incarnation != incarnation || worker.probe_due != due {
            return;
        }
        if self.is_still(&worker.process) {
            return self.probe_at(at, incarnation, self.still_until(&worker.process));
        }
        let (now, found) = (self.worker_clock(at), self.meets_a_want(at));
        self.workers[at].health.probed(now, found.then(|| WANT.into()));
        self.tell_health(at, incarnation);
    }

    /// Tells the lease what has changed, and sees to the next probe.
    pub fn tell_health(&mut self, at: usize, incarnation: u64) {
        let worker = &mut self.workers[at];
        let unwell = worker.health.unwell().cloned();
        let due = self.machines[worker.process.machine].when(worker.health.probe_at());
        if worker.unwell != unwell {
            worker.unwell = unwell.clone();
            self.counters.told_unwell += u64::from(unwell.is_some());
            self.counters.told_well += u64::from(unwell.is_none());
            let lack = LeaseIn::Event(Box::new(LeaseEvent::Lack(unwell)));
            self.later(0, SimEvent::LeaseThread(at, incarnation, lack));
        }
        self.probe_at(at, incarnation, due.max(self.now + MS / 10));
    }

    fn probe_at(&mut self, worker: usize, incarnation: u64, due: Nanos) {
        self.workers[worker].probe_due = due;
        self.at(due, SimEvent::Probe { worker, incarnation, due });
    }
}
