//! The registry of the walk: compare-and-set on two maps, and a watch that lags.

use super::{Asker, Coming, World, worker};
use muster_protocol::{
    ABSENT, Revision, fleet,
    lease::{CasAnswer, Lease, Standing},
    task::TaskRecord,
};
use std::sync::Arc;

impl World {
    /// Whether the answer to a write will arrive. If not, this is said after a timeout.
    pub fn arrives(&mut self, timed_out: Coming) -> bool {
        let arrives = self.registry_up && (self.healing || !self.chance.once_in(8));
        if !arrives {
            self.tally.unknown += 1;
            self.later(300, timed_out);
        }
        arrives
    }

    /// A write whose answer will not arrive may land at once, long after, or never.
    pub fn write_later(&mut self, known: bool, write: Coming) {
        let wait = match (known, self.chance.below(3)) {
            (true, _) | (_, 0) => self.soon(),
            (_, 1) => {
                self.tally.late += 1;
                self.chance.below(3_000)
            }
            _ => return,
        };
        self.later(wait, write);
    }

    pub fn write_task(&mut self, expect: Revision, record: Arc<TaskRecord>, asker: Option<u64>) {
        let id = record.id;
        let found = self.tasks.get(&id).cloned();
        let answer = if found.as_ref().map_or(ABSENT, |(_, at)| *at) == expect {
            let old = found.as_ref().map(|(record, _)| record);
            assert!(old.is_none_or(|old| !old.is_done()), "an end was changed: {old:?}");
            self.tally.ends += u64::from(record.is_done());
            self.revision += 1;
            self.tasks.insert(id, (record.clone(), self.revision));
            self.watch(fleet::Event::TaskSeen(Box::new((*record).clone()), self.revision));
            CasAnswer::Written(self.revision)
        } else {
            self.tally.conflicts += 1;
            CasAnswer::Conflict(found.map(|(record, at)| (Box::new((*record).clone()), at)))
        };
        if let Some(life) = asker {
            let wait = self.soon();
            self.later(wait, Coming::Master(life, fleet::Event::TaskWritten { task: id, answer }));
        }
    }

    pub fn write_lease(&mut self, expect: Revision, lease: Lease, asker: Asker) {
        let found = self.leases.get(&lease.worker).cloned();
        let answer = if found.as_ref().map_or(ABSENT, |(_, at)| *at) == expect {
            self.tally.lost += u64::from(lease.standing == Standing::Lost);
            self.revision += 1;
            self.leases.insert(lease.worker.clone(), (lease.clone(), self.revision));
            self.watch(fleet::Event::LeaseSeen(lease.clone(), self.revision));
            CasAnswer::Written(self.revision)
        } else {
            CasAnswer::Conflict(found)
        };
        let wait = self.soon();
        match asker {
            Asker::Master(life, asked_by) => {
                let event = fleet::Event::LeaseWritten { lease, asked_by, answer };
                self.later(wait, Coming::Master(life, event));
            }
            Asker::Worker(worker, life) => {
                let what = worker::Coming::Renewed(life, lease.session, lease.renewal, answer);
                self.later(wait, Coming::Worker(worker, what));
            }
            Asker::Nobody => {}
        }
    }

    pub fn watch(&mut self, event: fleet::Event) {
        let wait = self.soon();
        self.watch_at = self.watch_at.max(self.now + wait);
        let wait = self.watch_at - self.now;
        self.later(wait, Coming::Master(self.master_life, event));
    }
}
