//! A task as it is submitted, stored and ended. Never decides how it is run.

mod data;
mod difference;
mod name;
mod outcome;

pub use data::Data;
pub use name::{LimitName, LimitWord, StateName, state_table};
pub use outcome::{Outcome, Verdict};

use crate::{
    AttemptId, BatchId, Digest, GroupName, Nonce, Revision, SessionId, TaskId, WorkerId,
    grant::Grants,
    limit,
    record::{Record, Unknown},
    registry::StreamId,
    time::WallMillis,
};
use alloc::{collections::BTreeMap, format, string::String, string::ToString, sync::Arc, vec::Vec};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What an attempt may use. Every field has a default; a worker enforces each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Time from the start of the run until it is killed, in milliseconds.
    pub timeout_ms: u64,
    /// Linear memory, in bytes.
    pub memory_bytes: u64,
    /// Output (or standard output), in bytes.
    pub output_bytes: u64,
    /// Time on a processor, in milliseconds.
    pub cpu_ms: u64,
    /// Time in the queue, in milliseconds, as counted by the master that places the task.
    pub queue_ms: u64,
    /// Standard error and log, in bytes. Further bytes are dropped, and counted in the outcome.
    pub log_bytes: u64,
    /// The state in a checkpoint, in bytes.
    pub checkpoint_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            timeout_ms: limit::TIMEOUT_DEFAULT.as_millis() as u64,
            memory_bytes: limit::MEMORY_DEFAULT,
            output_bytes: limit::PAYLOAD_SIZE_MAX,
            cpu_ms: limit::TIMEOUT_MAX.as_millis() as u64,
            queue_ms: limit::QUEUE_MAX.as_millis() as u64,
            log_bytes: limit::LOG_BYTES_DEFAULT,
            checkpoint_bytes: limit::CHECKPOINT_DEFAULT,
        }
    }
}

/// What to do when a run fails, traps or times out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// How many attempts may fail before the task has failed; at least 1.
    pub attempts_max: u32,
    /// The wait before the second attempt, in milliseconds; doubled for each further one.
    pub backoff_ms: u64,
    /// The longest wait, in milliseconds.
    pub backoff_max_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts_max: 1, backoff_ms: 1_000, backoff_max_ms: 60_000 }
    }
}

/// What to do when the worker that runs a task is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnWorkerLost {
    /// Dispatch it again on another worker of its group.
    #[default]
    Redispatch,
    /// End it as lost.
    Fail,
}

/// The module of a task: pinned by digest, with the name under which it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRef {
    /// `name:version`, for people; absent for a module given by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The SHA-256 of the module.
    pub digest: Digest,
}

/// What a client submitted. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The module to run.
    pub module: ModuleRef,
    /// The input of the task.
    #[serde(default)]
    pub input: Data,
    /// Arguments after the program's name, for modules that read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The group of workers that may run it.
    #[serde(default)]
    pub group: GroupName,
    /// Labels that the worker must have, each with this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Tasks of higher priority run first. From 0 to 100, 50 by default.
    #[serde(default = "priority_default")]
    pub priority: u8,
    /// What an attempt may use.
    #[serde(default)]
    pub limits: Limits,
    /// What it is granted besides its input.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub grants: Arc<Grants>,
    /// What to do when it fails.
    #[serde(default)]
    pub retry: Retry,
    /// What to do when its worker is lost.
    #[serde(default)]
    pub on_worker_lost: OnWorkerLost,
    /// The batch that is notified of the task's end; the task itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
}

fn is_nothing(grants: &Grants) -> bool {
    grants.is_none()
}

/// The highest priority.
pub const PRIORITY_MAX: u8 = 100;

fn priority_default() -> u8 {
    50
}

/// Why a specification was refused. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(String);

impl TaskSpec {
    /// A specification with a default for every field but these two.
    pub fn new(module: ModuleRef, input: Data) -> Self {
        TaskSpec {
            module,
            input,
            args: Vec::new(),
            group: GroupName::default(),
            selector: BTreeMap::new(),
            priority: priority_default(),
            limits: Limits::default(),
            grants: Arc::default(),
            retry: Retry::default(),
            on_worker_lost: OnWorkerLost::default(),
            batch: None,
        }
    }

    /// Whether every value is within its limit. The error says which is not, and what to do.
    pub fn check(&self) -> Result<(), SpecError> {
        let refuse = |text: String| Err(SpecError(text));
        if let Data::Inline(bytes) = &self.input
            && bytes.len() > limit::INLINE_SIZE_MAX
        {
            return refuse(format!(
                "an inline input may have at most {} bytes, this one has {}: store it as an object",
                limit::INLINE_SIZE_MAX,
                bytes.len()
            ));
        }
        if self.input.size() > limit::PAYLOAD_SIZE_MAX {
            return refuse(format!(
                "the input has {} bytes, the limit is {}: split it into several tasks",
                self.input.size(),
                limit::PAYLOAD_SIZE_MAX
            ));
        }
        if self.priority > PRIORITY_MAX {
            return refuse(format!("priority {} is over {PRIORITY_MAX}", self.priority));
        }
        let timeout_max = limit::TIMEOUT_MAX.as_millis() as u64;
        if self.limits.timeout_ms == 0 || self.limits.timeout_ms > timeout_max {
            return refuse(format!("the time limit must be from 1 ms to {timeout_max} ms"));
        }
        if self.limits.memory_bytes == 0 || self.limits.memory_bytes > limit::MEMORY_MAX {
            return refuse(format!(
                "the memory limit must be from 1 to {} bytes",
                limit::MEMORY_MAX
            ));
        }
        for (what, bytes, max) in [
            ("output", self.limits.output_bytes, limit::PAYLOAD_SIZE_MAX),
            ("log", self.limits.log_bytes, limit::LOG_BYTES_MAX),
            ("checkpoint", self.limits.checkpoint_bytes, limit::PAYLOAD_SIZE_MAX),
        ] {
            if bytes > max {
                return refuse(format!("the {what} limit may be at most {max} bytes"));
            }
        }
        let queue_max = limit::QUEUE_MAX.as_millis() as u64;
        for (what, ms, max) in [
            ("processor time", self.limits.cpu_ms, timeout_max),
            ("time in line", self.limits.queue_ms, queue_max),
        ] {
            if ms == 0 || ms > max {
                return refuse(format!("the {what} must be from 1 ms to {max} ms"));
            }
        }
        self.grants.check().map_err(SpecError)?;
        if self.retry.attempts_max == 0 {
            return refuse("a task needs at least one attempt".to_string());
        }
        let args: usize = self.args.iter().map(|arg| arg.len() + 1).sum();
        if args > limit::INLINE_SIZE_MAX {
            return refuse(format!(
                "the arguments may have at most {} bytes together: give more as the input",
                limit::INLINE_SIZE_MAX
            ));
        }
        let labels: usize = self.selector.iter().map(|(key, value)| key.len() + value.len()).sum();
        if labels > limit::INLINE_SIZE_MAX {
            return refuse(format!("a selector may have at most {} bytes", limit::INLINE_SIZE_MAX));
        }
        if self.selector.len() > limit::LABELS_MAX {
            return refuse(format!("a selector may have at most {} labels", limit::LABELS_MAX));
        }
        Ok(())
    }
}

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
    /// How many of them were lost with their worker.
    #[serde(default)]
    pub losses: u32,
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

impl Record for TaskRecord {
    fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    fn unknown_mut(&mut self) -> &mut Unknown {
        &mut self.unknown
    }
}

fn nobody() -> SessionId {
    SessionId(0)
}

impl TaskRecord {
    /// A record of a task that is not placed yet.
    pub fn queued(id: TaskId, spec: Arc<TaskSpec>, submitted_at: WallMillis) -> Self {
        TaskRecord {
            id,
            state: TaskState::Queued { wait_ms: 0 },
            cancel: false,
            attempts: 0,
            failures: 0,
            losses: 0,
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

    /// When its present attempt should have ended, if the run started at the dispatch. For people.
    pub fn due(&self) -> Option<WallMillis> {
        let given = self.attempt()?.dispatched_at.0;
        Some(WallMillis(given.saturating_add(self.spec.limits.timeout_ms)))
    }

    /// Whether the task is over, so that nothing may change the record any more.
    pub fn is_done(&self) -> bool {
        matches!(self.state, TaskState::Done { .. })
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
