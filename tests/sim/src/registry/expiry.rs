//! Values that the registry deletes after their retention time: records of ended tasks, and leases of
//! ended sessions. No process is told of that. A client may use the id of a deleted task again, and some
//! do.

use crate::world::{Nanos, SimEvent, World};
use muster_protocol::{Revision, SessionId, TaskId, WorkerId, lease::LeaseState};

use super::MasterKey;

/// A value whose retention time is over. The value may have been replaced.
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
    /// A record was written. If `keeps` is set, the record expires.
    pub(super) fn record_kept(&mut self, task: TaskId, revision: Revision, keeps: bool) {
        let Some(keep) = self.setting.records_keep.filter(|_| keeps) else { return };
        self.will_expire(keep, Expired::Task(task, revision));
        if !self.healing && self.rng.once_in(3) {
            let at = self.now + self.rng.below(2 * keep);
            self.will_submit_again(at, task);
        }
    }

    /// A lease in this lease state was written.
    pub(super) fn lease_kept(&mut self, standing: LeaseState, what: Expired) {
        if let Some(keep) = self.setting.leases_keep.filter(|_| standing.keep().is_some()) {
            self.will_expire(keep, what);
        }
    }

    fn will_expire(&mut self, keep: Nanos, what: Expired) {
        let losses = self.losses();
        self.later(keep, SimEvent::Expire { what, losses });
    }

    /// The number of losses after which revisions may have been assigned again.
    fn losses(&self) -> u64 {
        self.counters.rollbacks + self.counters.made_anew
    }

    /// Deletes an expired value. After a loss nothing is deleted: the revision may belong to another
    /// value.
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
