//! A worker's probes of its host, and what the worker's lease is told of them. Never decides when a
//! worker is well.

use super::LeaseIn;
use crate::world::{MS, Nanos, SimEvent, World};
use muster_protocol::lease::LeaseEvent;

/// The shortage that a worker reports.
const WANT: &str = "a disk is full";

impl World {
    /// Whether the worker's host has a shortage that the worker knows about.
    fn meets_a_want(&self, at: usize) -> bool {
        let worker = &self.workers[at];
        self.now < worker.unwell_until && worker.says_so
    }

    /// A preparation has failed.
    pub fn host_failed(&mut self, at: usize, incarnation: u64) {
        if self.meets_a_want(at) {
            let now = self.worker_clock(at);
            self.workers[at].health.failed(now, WANT.into());
            self.tell_health(at, incarnation);
        }
    }

    /// Probes the host, unless the probe was rescheduled since.
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

    /// Tells the lease about a change, and schedules the next probe.
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
