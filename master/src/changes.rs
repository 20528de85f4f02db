//! What has changed since somebody last looked: which tasks, how many ended, how many workers were lost. Kept by the
//! loop for the pages that a master serves. Never decides anything, and keeps few tasks however many change.

mod throughput;

pub(crate) use throughput::{Ended, Point, Throughput};

use muster_protocol::{
    GroupName, Revision, SessionId, TaskId, WorkerId,
    fleet::Event,
    lease::CasAnswer,
    task::{StateName, TaskRecord, TaskState},
};
use muster_wire::clock;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

/// Tasks that may change between two looks. Beyond that, whoever looks has to begin anew.
const CHANGED_MAX: usize = 10_000;

/// A task as a page shows it in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TaskRow {
    pub id: TaskId,
    /// `queued`, `running` or `done`.
    pub state: &'static str,
    /// How it ended.
    pub verdict: Option<&'static str>,
    pub group: GroupName,
    pub module: String,
    /// The worker of its last attempt, unless it waits for another one.
    pub worker: Option<WorkerId>,
    /// In milliseconds since 1970, as all times here.
    pub submitted_at: u64,
    pub ended_at: Option<u64>,
    pub attempts: u32,
    /// Why it is in its state, as a sentence.
    pub why: String,
}

impl TaskRow {
    pub(crate) fn of(record: &TaskRecord, why: String) -> Self {
        let (state, verdict, attempt, ended_at) = match &record.state {
            TaskState::Queued { .. } => ("queued", None, None, None),
            TaskState::Dispatched(attempt) => ("running", None, Some(attempt), None),
            TaskState::Done { outcome, attempt, ended_at } => {
                ("done", Some(outcome.verdict.word()), attempt.as_ref(), Some(ended_at.0))
            }
        };
        let module = &record.spec.module;
        TaskRow {
            id: record.id,
            state,
            verdict,
            group: record.spec.group.clone(),
            module: module.name.clone().unwrap_or_else(|| module.digest.to_string()),
            worker: attempt.map(|attempt| attempt.worker.clone()),
            submitted_at: record.submitted_at.0,
            ended_at,
            attempts: record.attempts,
            why,
        }
    }

    /// The row of a task that is over.
    fn of_ended(record: &TaskRecord) -> Option<Self> {
        let TaskState::Done { outcome, .. } = &record.state else { return None };
        Some(TaskRow::of(record, outcome.verdict.reason()))
    }
}

/// See the [module](self). Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Changes(Arc<Mutex<Noted>>);

/// What has changed since the last look.
#[derive(Default)]
pub(crate) struct Changed {
    pub tasks: BTreeSet<TaskId>,
    /// Those of them that are over.
    pub ended: BTreeMap<TaskId, TaskRow>,
    /// Whether more tasks have changed than are kept.
    pub is_cut: bool,
}

#[derive(Default)]
struct Noted {
    throughput: Throughput,
    /// Whether somebody looks. Tasks are noted only then.
    is_followed: bool,
    changed: Changed,
    /// The records that this master is writing.
    writing: HashMap<TaskId, Arc<TaskRecord>>,
    session: Option<SessionId>,
    /// The newest records and leases that the watches have delivered. A watch that begins anew delivers older ones
    /// again.
    task: Revision,
    lease: Revision,
}

impl Changes {
    /// A session of this master begins: it loads all records again.
    pub(crate) fn begin_session(&self, session: SessionId) {
        let mut noted = self.noted();
        noted.session = Some(session);
        noted.throughput = Throughput::default();
        noted.writing.clear();
        (noted.task, noted.lease) = (0, 0);
        noted.changed.is_cut = true;
    }

    /// Begins or ends to note tasks.
    pub(crate) fn follow(&self, is_followed: bool) {
        let mut noted = self.noted();
        noted.is_followed = is_followed;
        noted.changed = Changed::default();
        noted.writing.clear();
    }

    /// What has changed since the last look.
    pub(crate) fn take(&self) -> Changed {
        std::mem::take(&mut self.noted().changed)
    }

    /// How many tasks ended, and the points since `since_ms`.
    pub(crate) fn throughput(&self, since_ms: u64) -> (Ended, Vec<Point>) {
        let mut noted = self.noted();
        noted.throughput.points(clock::wall().0, since_ms)
    }

    /// This master writes a record.
    pub(crate) fn writing(&self, record: &Arc<TaskRecord>) {
        let mut noted = self.noted();
        if noted.is_followed {
            noted.writing.insert(record.id, record.clone());
        }
    }

    /// A task has ended by a write of this master.
    pub(crate) fn ended(&self, state: StateName) {
        self.noted().throughput.ended(clock::wall().0, state);
    }

    /// The loop has learned something from the registry.
    pub(crate) fn heard(&self, event: &Event) {
        match event {
            Event::TaskSeen(record, revision) => self.noted().seen(record, *revision),
            Event::TaskRead { found: Some((record, _)), .. } => self.noted().changed(record),
            Event::TaskWritten { task, answer } => {
                let mut noted = self.noted();
                let written = noted.writing.remove(task);
                if let (Some(record), CasAnswer::Written(_)) = (written, answer) {
                    noted.changed(&record);
                }
            }
            Event::LeaseSeen(lease, revision) => {
                let mut noted = self.noted();
                if *revision > noted.lease {
                    noted.lease = *revision;
                    if lease.state.is_lost() {
                        noted.throughput.lost_worker(lease.renewed_at.0, clock::wall().0);
                    }
                }
            }
            _ => {}
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Noted {
    fn seen(&mut self, record: &TaskRecord, revision: Revision) {
        // This master counts its own ends when it writes them.
        if revision > self.task
            && Some(record.writer) != self.session
            && let TaskState::Done { outcome, ended_at, .. } = &record.state
        {
            self.throughput.ended(ended_at.0, outcome.verdict.name());
        }
        self.task = self.task.max(revision);
        self.changed(record);
    }

    fn changed(&mut self, record: &TaskRecord) {
        if !self.is_followed || self.changed.is_cut {
            return;
        }
        if self.changed.tasks.len() >= CHANGED_MAX {
            self.changed = Changed { is_cut: true, ..Changed::default() };
            return;
        }
        self.changed.tasks.insert(record.id);
        if let Some(row) = TaskRow::of_ended(record) {
            self.changed.ended.insert(record.id, row);
        }
    }
}

#[cfg(test)]
mod tests;
