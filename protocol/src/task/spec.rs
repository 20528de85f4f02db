//! What a client submits: the module, its input, and everything that it asks for. Never how a task goes.

use super::Data;
use crate::{
    BatchId, Digest, GroupName,
    grant::{Grants, RequestedGrants},
    limit,
    signature::Signature,
    trace::TraceContext,
};
use alloc::{collections::BTreeMap, format, string::String, string::ToString, sync::Arc, vec::Vec};
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
    /// The signature of the module. If the client gives none, the master adds that of the version that the
    /// module's name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
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
    /// The trace that the task belongs to; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
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
            signature: None,
            input,
            args: Vec::new(),
            group: GroupName::default(),
            selector: BTreeMap::new(),
            priority: priority_default(),
            limits: Limits::default(),
            grants: Arc::default(),
            retry: Retry::default(),
            on_worker_lost: OnWorkerLost::default(),
            trace: None,
            batch: None,
        }
    }

    /// What of it a policy may deny.
    pub fn requested(&self) -> RequestedGrants {
        self.grants.requested(self.module.digest, self.signature.as_ref().map(Signature::key))
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
        let size = self.size();
        if size > limit::SPEC_SIZE_MAX {
            return refuse(format!(
                "the task has {size} bytes as JSON, the limit is {}: give its variables, arguments and \
                 input together as an input in the data store",
                limit::SPEC_SIZE_MAX
            ));
        }
        Ok(())
    }

    /// Its size as JSON, in bytes.
    fn size(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |text| text.len())
    }
}
