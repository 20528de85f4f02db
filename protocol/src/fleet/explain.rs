//! What a master tells a client: why a task is in its state, and which worker runs what. Never changes
//! anything.

use super::Fleet;
use crate::{
    Time, WorkerId,
    api::{ListPlace, WorkerView},
    lease::Lease,
    message::AttemptKey,
    task::{TaskRecord, TaskState},
};
use alloc::{format, string::String, sync::Arc, vec::Vec};

impl Fleet {
    /// Why the task is in its state, as a sentence.
    pub fn explain(&self, now: Time, record: &TaskRecord) -> String {
        match &record.state {
            TaskState::Done { outcome, .. } => outcome.verdict.reason(),
            TaskState::Dispatched(attempt) => self.explain_dispatched(now, record, &attempt.worker),
            TaskState::Queued { .. } => self.explain_queued(now, record),
        }
    }

    fn explain_dispatched(&self, now: Time, record: &TaskRecord, id: &crate::WorkerId) -> String {
        let Some(worker) = self.workers.get(id) else {
            return format!("given to worker {id}, which this master has not seen");
        };
        if worker.links().is_empty() {
            let left = (worker.seen + worker.wait).since(now).as_secs_f32();
            return format!(
                "given to worker {id}, which is not connected; waiting for the end of its lease, at most another {left:.1} s"
            );
        }
        if record.cancel {
            return format!("being cancelled on worker {id}");
        }
        format!("given to worker {id}")
    }

    fn explain_queued(&self, now: Time, record: &TaskRecord) -> String {
        let spec = &record.spec;
        if let Some(task) = self.tasks.get(&record.id)
            && now < task.not_before()
        {
            let wait = task.not_before().since(now).as_secs_f32();
            return format!("waits {wait:.1} s before its next attempt");
        }
        if self.is_guarded(now) {
            return "nothing is dispatched for now: the registry has lost writes, and earlier runs must end first".into();
        }
        if !self.may_act() {
            if self.lags() {
                return "nothing is dispatched for now: a server of the registry lacks newer writes; waiting until it has them".into();
            }
            let missing = self.next_missing(now);
            let missing = missing.as_deref().unwrap_or("the registry");
            return format!(
                "nothing is dispatched yet: the registry's server has started again; waiting for {missing}"
            );
        }
        if let Some(denied) = self.denied(spec) {
            return denied;
        }
        self.explain_room(record)
    }

    /// Every worker that holds or held a lease and whose name follows this one, in the order of the names.
    pub fn workers(&self, after: Option<&str>) -> Vec<WorkerView> {
        let view = |worker: &super::workers::Worker| {
            Some(WorkerView {
                lease: worker.lease.clone()?,
                revision: worker.revision,
                linked: !worker.links().is_empty(),
                transport: worker.links().transport(),
                denied: worker.denied().map(String::from),
                attempts: worker.tasks().collect(),
                upgrade: None,
            })
        };
        let follows = |id: &WorkerId| after.is_none_or(|after| id.as_str() > after);
        let workers = self.workers.iter().filter(|(id, _)| follows(id));
        workers.filter_map(|(_, worker)| view(worker)).collect()
    }

    /// The last lease of a worker.
    pub fn lease_of(&self, worker: &WorkerId) -> Option<Lease> {
        self.workers.get(worker)?.lease.clone()
    }

    /// The record of every task that is not over.
    pub fn records(&self) -> impl Iterator<Item = &Arc<TaskRecord>> {
        self.tasks.values().map(|task| &task.record)
    }

    /// The newest `max` tasks that are not over and that `wanted` accepts.
    pub fn tasks(&self, max: usize, wanted: impl Fn(&TaskRecord) -> bool) -> Vec<Arc<TaskRecord>> {
        let mut records: Vec<&Arc<TaskRecord>> =
            self.records().filter(|record| wanted(record)).collect();
        let newest = |record: &&Arc<TaskRecord>| core::cmp::Reverse(ListPlace::of(record));
        if records.len() > max {
            records.select_nth_unstable_by_key(max, newest);
            records.truncate(max);
        }
        records.sort_unstable_by_key(newest);
        records.into_iter().cloned().collect()
    }

    /// How many bytes of log the attempt may have. `None` if this master does not know the task, the task is
    /// over, or its record does not say that this worker was given the attempt.
    pub fn log_max(&self, worker: &WorkerId, key: AttemptKey) -> Option<u64> {
        self.tasks.get(&key.task)?.record.log_max(worker, key.attempt)
    }

    /// How many tasks are not over.
    pub fn tasks_open(&self) -> usize {
        self.tasks.len()
    }
}
