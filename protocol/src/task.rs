//! A task as it is submitted, stored and ended. Never decides how it is run.

mod data;
mod difference;
mod name;
mod outcome;
#[cfg(test)]
mod sample;
mod spans;
mod spec;
mod timeline;
mod times;

pub use data::Data;
pub use name::{LimitName, LimitWord, StateName, state_table};
pub use outcome::{Outcome, Verdict};
pub use spans::{run_span, span_of_run};
pub use spec::{Limits, ModuleRef, OnWorkerLost, PRIORITY_MAX, Retry, SpecError, TaskSpec};
pub use timeline::TimelineEvent;
pub use times::TaskTimes;

use crate::{
    AttemptId, BatchId, Nonce, Revision, SessionId, TaskId, WorkerId, limit,
    occupancy::Share,
    record::{Unknown, record},
    registry::StreamId,
    time::WallMillis,
};
use alloc::{string::String, sync::Arc, vec::Vec};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// An attempt at a task, on one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The attempt's id.
    pub id: AttemptId,
    /// The number of the attempt within its task, from 1.
    pub number: u32,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// The session of the worker to which the attempt was dispatched.
    pub session: SessionId,
    /// The revision of the lease under which it was dispatched. A lease of another session ends this
    /// one only if it is newer.
    pub lease: Revision,
    /// The stream of that revision.
    #[serde(default)]
    pub lease_stream: StreamId,
    /// When it was dispatched, on that master's wall clock. For people.
    pub dispatched_at: WallMillis,
    /// Whether nothing else may run beside it, because its task is a suspect.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub alone: bool,
    /// Whether its worker was silent already when it was given the attempt. The attempt is not the cause of
    /// that.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub to_silent: bool,
    /// The fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// An attempt that is over without having ended its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    /// The attempt itself.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// When it ended, on that master's wall clock. For people.
    pub ended_at: WallMillis,
    /// Whether it was lost with its worker, rather than reported by it.
    #[serde(default)]
    pub lost: bool,
    /// Why it is over, as a sentence.
    pub reason: String,
}

/// A worker that is given no attempts until a suspect can run there alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWorker {
    /// The worker.
    pub worker: WorkerId,
    /// The session of the worker; none other is kept free.
    pub session: SessionId,
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It is queued.
    Queued {
        /// How long a master waits after it first saw this record before it may place the task, in
        /// milliseconds.
        #[serde(default)]
        wait_ms: u64,
        /// The worker that is kept free for the task, which is a suspect; absent if none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<KeptWorker>,
    },
    /// It is dispatched to a worker.
    Dispatched(Attempt),
    /// It is over; the record never changes again.
    Done {
        /// How the task ended.
        outcome: Arc<Outcome>,
        /// The attempt that ended it; absent if none did, for example if the task was
        /// cancelled while it was queued.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<Attempt>,
        /// When it ended, on the wall clock of the master that wrote the record. For people: no
        /// decision uses it.
        ended_at: WallMillis,
    },
}

impl TaskState {
    /// The state of a task that waits so long before it may be placed.
    pub(crate) fn queued_for(wait: Duration) -> Self {
        TaskState::Queued { wait_ms: wait.as_millis() as u64, kept: None }
    }

    /// The attempt that holds the task, or held it at its end. Those in the history are others.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        match self {
            TaskState::Queued { .. } => None,
            TaskState::Dispatched(attempt) => Some(attempt),
            TaskState::Done { attempt, .. } => attempt.as_ref(),
        }
    }

    /// The state as one word.
    pub fn word(&self) -> &'static str {
        self.name().word()
    }

    /// Which of the states it is.
    pub fn name(&self) -> StateName {
        match self {
            TaskState::Queued { .. } => StateName::Queued,
            TaskState::Dispatched(_) => StateName::Dispatched,
            TaskState::Done { outcome, .. } => outcome.verdict.name(),
        }
    }
}

/// A task as the registry keeps it: the value under its id in the tasks bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task's id, which is the key.
    pub id: TaskId,
    /// The state of the task.
    pub state: TaskState,
    /// Whether its cancellation was requested.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub cancel: bool,
    /// How many attempts were dispatched.
    #[serde(default)]
    pub attempts: u32,
    /// How many of them failed, trapped or timed out.
    #[serde(default)]
    pub failures: u32,
    /// How many of them were lost with their worker, except those whose worker was silent already when it
    /// was given them.
    #[serde(default)]
    pub losses: u32,
    /// How many of these were lost while nothing ran beside them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub losses_alone: u32,
    /// The latest earlier attempts, oldest first; at most [`limit::HISTORY_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastAttempt>,
    /// When it was accepted, on that master's wall clock. For people.
    pub submitted_at: WallMillis,
    /// Identifies this write, so that its writer recognises it.
    pub write: Nonce,
    /// The session of the master that wrote this. The other masters leave the task to it for a while.
    #[serde(default = "nobody")]
    pub writer: SessionId,
    /// What the client submitted.
    pub spec: Arc<TaskSpec>,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

impl TaskRecord {
    /// How many bytes of log this attempt may have; `None` if the record does not say that this worker was
    /// given it.
    pub fn log_max(&self, worker: &WorkerId, attempt: AttemptId) -> Option<u64> {
        let past = self.history.iter().map(|past| &past.attempt);
        let is_this = |known: &Attempt| known.id == attempt && known.worker == *worker;
        self.state
            .last_attempt()
            .into_iter()
            .chain(past)
            .any(is_this)
            .then_some(self.spec.limits.log_bytes)
    }
}

record!(TaskRecord {
    const SIZE_MAX: usize = limit::RECORD_SIZE_MAX;
});

fn nobody() -> SessionId {
    SessionId(0)
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl TaskRecord {
    /// A record of a task that is not placed yet.
    pub fn queued(id: TaskId, spec: Arc<TaskSpec>, submitted_at: WallMillis) -> Self {
        TaskRecord {
            id,
            state: TaskState::queued_for(Duration::ZERO),
            cancel: false,
            attempts: 0,
            failures: 0,
            losses: 0,
            losses_alone: 0,
            history: Vec::new(),
            submitted_at,
            write: Nonce(0),
            writer: nobody(),
            spec,
            unknown: Unknown::default(),
        }
    }

    /// The record in another state.
    pub(crate) fn in_state(&self, state: TaskState) -> Self {
        TaskRecord {
            id: self.id,
            state,
            cancel: self.cancel,
            attempts: self.attempts,
            failures: self.failures,
            losses: self.losses,
            losses_alone: self.losses_alone,
            history: self.history.clone(),
            submitted_at: self.submitted_at,
            write: self.write,
            writer: self.writer,
            spec: self.spec.clone(),
            unknown: self.unknown.outside("state"),
        }
    }

    /// The attempt that holds the task now.
    pub fn attempt(&self) -> Option<&Attempt> {
        match &self.state {
            TaskState::Dispatched(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// Whether the task was lost with its workers so often that it may be the cause. From then on it runs
    /// alone: no other task is lost with it.
    pub fn is_suspect(&self) -> bool {
        self.losses >= limit::SUSPECT_AFTER
    }

    /// The worker that is kept free for it.
    pub(crate) fn kept(&self) -> Option<&KeptWorker> {
        match &self.state {
            TaskState::Queued { kept, .. } => kept.as_ref(),
            _ => None,
        }
    }

    /// What an attempt of it takes of its worker.
    pub(crate) fn share(&self) -> Share {
        Share { memory_bytes: self.spec.limits.memory_bytes, alone: self.is_suspect() }
    }

    /// When its present attempt should have ended, if the run started at the dispatch. For people.
    pub fn due(&self) -> Option<WallMillis> {
        let given = self.attempt()?.dispatched_at.0;
        Some(WallMillis(given.saturating_add(self.spec.limits.timeout_ms)))
    }

    /// Whether the task is over, so that nothing may change the record any more.
    pub fn is_done(&self) -> bool {
        matches!(self.state, TaskState::Done { .. })
    }

    /// When it ended, if it has ended, on the wall clock of the master that stored the end. For people.
    pub fn ended_at(&self) -> Option<WallMillis> {
        match &self.state {
            TaskState::Done { ended_at, .. } => Some(*ended_at),
            TaskState::Queued { .. } | TaskState::Dispatched(_) => None,
        }
    }

    /// Who is notified of the end: its batch, or the task itself.
    pub fn audience(&self) -> BatchId {
        self.spec.batch.unwrap_or(BatchId(self.id.0))
    }

    /// Moves the current attempt to the history.
    pub fn push_history(&mut self, past: PastAttempt) {
        if self.history.len() >= limit::HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(past);
    }
}

/// The wait before a task's next attempt, after `failures` of them: doubled each time up to the
/// policy's longest, and then spread over its upper half by `salt`, so that tasks that failed
/// together do not come back together.
pub fn backoff(retry: &Retry, failures: u32, salt: u64) -> Duration {
    let doubled = retry.backoff_ms.saturating_mul(1u64 << failures.saturating_sub(1).min(32));
    let wait = doubled.min(retry.backoff_max_ms);
    let spread = (wait / 2).max(1);
    Duration::from_millis(wait - wait / 2 + mix(salt) % spread)
}

/// A well-mixed function of its argument (the finaliser of SplitMix64).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The first `max` bytes of `text` at most, cut between characters.
pub fn clip(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
