//! What scripts ask of a world: who runs a task, and what the registry contains. Never changes anything.

use crate::world::World;
use muster_protocol::{
    TaskId,
    lease::LeaseState,
    task::{TaskRecord, TaskState, Verdict},
};

impl World {
    /// The record of a task.
    pub fn record(&self, task: u128) -> Option<&TaskRecord> {
        self.registry.tasks.values.get(&TaskId(task)).map(|(record, _)| record.as_ref())
    }

    /// The index of the worker that a task's record names.
    pub fn given_to(&self, task: u128) -> Option<usize> {
        let attempt = self.record(task)?.attempt()?;
        self.workers.iter().position(|worker| worker.name == attempt.worker)
    }

    /// How many attempts of a task run.
    pub fn running(&self, task: u128) -> usize {
        let runs = self.workers.iter().flat_map(|worker| worker.runs.keys());
        runs.filter(|key| key.task == TaskId(task)).count()
    }

    /// Whether a task has completed.
    pub fn completed(&self, task: u128) -> bool {
        self.record(task).is_some_and(|record| {
            matches!(&record.state, TaskState::Done { outcome, .. } if outcome.verdict == Verdict::Completed)
        })
    }

    /// The state of a worker's lease in the registry.
    pub fn standing(&self, worker: usize) -> Option<LeaseState> {
        let lease = self.registry.workers.values.get(&self.workers[worker].name);
        lease.map(|(lease, _)| lease.state)
    }
}
