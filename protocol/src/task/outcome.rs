//! How a run or a task ended, and what is known of it; never what follows from that.

use super::Data;
use alloc::{format, string::String};
use serde::{Deserialize, Serialize};

/// How a run or a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The guest returned, with exit code 0 or `Ok`.
    Completed,
    /// The guest returned another exit code, or `Err` (code 1).
    Failed {
        /// From 1 to 255.
        code: u8,
        /// What it said.
        message: String,
    },
    /// The guest did what Wasm forbids.
    Trapped {
        /// Which trap, and where.
        message: String,
    },
    /// Its time was over and it was killed.
    TimedOut {
        /// The limit.
        limit_ms: u64,
    },
    /// It asked for more than it may have and was ended.
    OverLimit {
        /// The limit's name, as [`Limits`] has it, or one of the worker's own.
        limit: String,
        /// Its value.
        max: u64,
    },
    /// The module could not be made ready to run; another attempt would not help.
    Rejected {
        /// Why it was rejected, as a sentence for people.
        message: String,
    },
    /// Someone cancelled it.
    Cancelled,
    /// Its worker gave it back, and another attempt follows: never the end of a task.
    Returned {
        /// Why it was returned, as a sentence for people.
        reason: String,
    },
    /// Its workers were lost, and it may not be tried again.
    Lost {
        /// How many it lost.
        workers: u32,
    },
}

impl Verdict {
    /// The verdict as one word, as records, events and tables show it.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Completed => "completed",
            Verdict::Failed { .. } => "failed",
            Verdict::Trapped { .. } => "trapped",
            Verdict::TimedOut { .. } => "timed_out",
            Verdict::OverLimit { .. } => "over_limit",
            Verdict::Rejected { .. } => "rejected",
            Verdict::Cancelled => "cancelled",
            Verdict::Returned { .. } => "returned",
            Verdict::Lost { .. } => "lost",
        }
    }

    /// Whether the task's retry policy applies: the guest misbehaved and might not the next time.
    pub fn is_retried(&self) -> bool {
        matches!(self, Verdict::Failed { .. } | Verdict::Trapped { .. } | Verdict::TimedOut { .. })
    }

    /// The sentence that history and events carry.
    pub fn reason(&self) -> String {
        match self {
            Verdict::Completed => "completed".into(),
            Verdict::Failed { code, message } if message.is_empty() => format!("exit code {code}"),
            Verdict::Failed { code, message } => format!("exit code {code}: {message}"),
            Verdict::Trapped { message } => format!("trapped: {message}"),
            Verdict::TimedOut { limit_ms } => format!("killed at its time limit of {limit_ms} ms"),
            Verdict::OverLimit { limit, max } => format!("ended over its limit {limit} of {max}"),
            Verdict::Rejected { message } => format!("rejected: {message}"),
            Verdict::Cancelled => "cancelled".into(),
            Verdict::Returned { reason } => format!("given back: {reason}"),
            Verdict::Lost { workers } => format!("lost with its worker, {workers} times"),
        }
    }
}

/// What is known of the end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// What the guest returned or wrote to standard output.
    pub output: Data,
    /// The end of what it wrote to standard error.
    pub stderr: String,
    /// From the run's start to its end on the worker's clock, in microseconds.
    pub run_us: u64,
    /// How much of that it computed, in microseconds of a processor.
    #[serde(default)]
    pub cpu_us: u64,
    /// Bytes of its log that were dropped over the rate or the size that it may have.
    #[serde(default)]
    pub log_dropped: u64,
}

impl Outcome {
    /// An outcome without output.
    pub fn bare(verdict: Verdict) -> Self {
        Outcome {
            verdict,
            output: Data::EMPTY,
            stderr: String::new(),
            run_us: 0,
            cpu_us: 0,
            log_dropped: 0,
        }
    }
}
