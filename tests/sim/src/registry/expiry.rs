//! What the registry forgets because its time is over: records of ended tasks, and leases that are over.
//! Nobody is told. An id may be used again afterwards, and somebody does.

use crate::world::{Nanos, SimEvent, World};
use muster_protocol::{Revision, SessionId, TaskId, WorkerId, lease::LeaseState};

use super::MasterKey;

/// A value that has been kept for as long as its writer wanted, if it is still there.
#[derive(Clone, Debug)]
pub enum Expired {
    /// A record.
    Task(TaskId, Revision),
    /// A worker's lease.
    Worker(WorkerId, Revision),
    /// A master's lease.
    Master(SessionId, Revision),
}

impl World {
    /// A record was written that is kept for a time, if `keeps`.
    pub(super) fn record_kept(&mut self, task: TaskId, revision: Revision, keeps: bool) {
        let Some(keep) = self.setting.records_keep.filter(|_| keeps) else { return };
        self.will_expire(keep, Expired::Task(task, revision));
        if !self.healing && self.rng.once_in(3) {
            let at = self.now + self.rng.below(2 * keep);
            self.will_submit_again(at, task);
        }
    }

    /// A lease of this standing was written.
    pub(super) fn lease_kept(&mut self, standing: LeaseState, what: Expired) {
        if let Some(keep) = self.setting.leases_keep.filter(|_| standing.keep().is_some()) {
            self.will_expire(keep, what);
        }
    }

    fn will_expire(&mut self, keep: Nanos, what: Expired) {
        let losses = self.losses();
        self.later(keep, SimEvent::Expire { what, losses });
    }

    /// How often revisions may have been given out again.
    fn losses(&self) -> u64 {
        self.counters.rollbacks + self.counters.made_anew
    }

    /// The time of a value is over. After a loss its revision may be another value's.
    pub fn expire(&mut self, what: Expired, losses: u64) {
        if losses != self.losses() {
            return;
        }
        let gone = match &what {
            Expired::Task(task, revision) => {
                let was_over = self.registry.tasks.get(task).is_some_and(|(old, _)| old.is_done());
                let gone = self.registry.tasks.expire(task, *revision);
                if gone {
                    self.record_expired(*task, was_over);
                }
                gone
            }
            Expired::Worker(worker, revision) => self.registry.workers.expire(worker, *revision),
            Expired::Master(session, revision) => {
                self.registry.masters.expire(&MasterKey::Lease(*session), *revision)
            }
        };
        if gone {
            self.counters.expired += 1;
            self.say(|_| format!("registry: its time is over: {what:?}"));
        }
    }
}
