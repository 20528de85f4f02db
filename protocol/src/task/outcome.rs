//! How a run or a task ended, and what is known of it. Never what follows from that.

use super::{Data, LimitWord, StateName};
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
        /// The guest's message.
        message: String,
    },
    /// The guest did what Wasm forbids.
    Trapped {
        /// The trap, and where it occurred.
        message: String,
    },
    /// The time limit was reached and the run was killed.
    TimedOut {
        /// The limit.
        limit_ms: u64,
    },
    /// The guest exceeded a limit and was stopped.
    OverLimit {
        /// The limit's name.
        limit: LimitWord,
        /// The value of the limit.
        max: u64,
    },
    /// The module could not be made ready to run; another attempt would not help.
    Rejected {
        /// Why it was rejected, as a sentence for people.
        message: String,
    },
    /// An operator or client cancelled it.
    Cancelled,
    /// The worker returned the attempt unrun; another attempt follows. Never the end of a task.
    Returned {
        /// Why it was returned, as a sentence for people.
        reason: String,
    },
    /// Its workers were lost, and it may not be tried again.
    Lost {
        /// How many workers it lost.
        workers: u32,
    },
}

impl Verdict {
    /// The verdict as one word, as records, events and tables show it.
    pub fn word(&self) -> &'static str {
        self.name().word()
    }

    /// The state of a task that ended so.
    pub fn name(&self) -> StateName {
        match self {
            Verdict::Completed => StateName::Completed,
            Verdict::Failed { .. } => StateName::Failed,
            Verdict::Trapped { .. } => StateName::Trapped,
            Verdict::TimedOut { .. } => StateName::TimedOut,
            Verdict::OverLimit { .. } => StateName::OverLimit,
            Verdict::Rejected { .. } => StateName::Rejected,
            Verdict::Cancelled => StateName::Cancelled,
            Verdict::Returned { .. } => StateName::Returned,
            Verdict::Lost { .. } => StateName::Lost,
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
    /// What the guest returned, or wrote to standard output.
    pub output: Data,
    /// The end of what it wrote to standard error.
    pub stderr: String,
    /// From the run's start to its end on the worker's clock, in microseconds.
    pub run_us: u64,
    /// Processor time, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// How many bytes of its log were dropped, beyond the rate or size that it may have.
    #[serde(default)]
    pub log_dropped: u64,
}

impl Outcome {
    /// Whether a guest ran and ended by itself or at a limit. An attempt that was returned counts as none.
    pub fn is_of_run(&self) -> bool {
        self.run_us > 0 && !matches!(self.verdict, Verdict::Returned { .. })
    }

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
