//! The names of states and limits, as they stand in records, tables and `--help`. Never what follows
//! from one.

use crate::words::{rows, words};
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

words!(
    /// The state of a task, or how an attempt ended.
    pub enum StateName {
        /// It waits for a worker.
        Queued = "queued",
        /// It was given to a worker, and its outcome is not known yet.
        Dispatched = "dispatched",
        /// The guest returned, with exit code 0 or `Ok`.
        Completed = "completed",
        /// The guest returned another exit code, or `Err`.
        Failed = "failed",
        /// The guest did what Wasm forbids.
        Trapped = "trapped",
        /// The time limit was reached and the run was killed.
        TimedOut = "timed_out",
        /// The guest exceeded another limit and was stopped.
        OverLimit = "over_limit",
        /// The module could not be made ready to run.
        Rejected = "rejected",
        /// An operator or client cancelled it.
        Cancelled = "cancelled",
        /// The worker returned the attempt unrun, and another attempt follows. Only of attempts.
        Returned = "returned",
        /// Its workers were lost, and it may not be tried again.
        Lost = "lost",
    }
);

impl StateName {
    /// The states that a task may have.
    pub fn of_tasks() -> impl Iterator<Item = StateName> {
        Self::ALL.into_iter().filter(|name| *name != StateName::Returned)
    }

    /// Whether a task in this state is not over.
    pub fn is_open(self) -> bool {
        matches!(self, StateName::Queued | StateName::Dispatched)
    }
}

/// What each state means: the table in docs/FLEET.md.
pub fn state_table() -> String {
    let names = StateName::ALL.iter().map(|name| (name.word(), name.meaning()));
    String::from("| state | meaning |\n|---|---|\n") + &rows(names)
}

words!(
    /// The name of the limit at which a run was stopped. A task's own limits have the names of the
    /// fields of [`Limits`](super::Limits) and [`Grants`](crate::grant::Grants).
    pub enum LimitName {
        /// Time in the queue.
        QueueMs = "queue_ms",
        /// Processor time.
        CpuMs = "cpu_ms",
        /// Linear memory.
        MemoryBytes = "memory_bytes",
        /// The size of the output.
        OutputBytes = "output_bytes",
        /// The size of one checkpoint.
        CheckpointBytes = "checkpoint_bytes",
        /// The size of the scratch directory.
        DirBytes = "dir_bytes",
        /// Files in the scratch directory.
        DirEntries = "dir_entries",
        /// The depth of directories in the scratch directory.
        DirDepth = "dir_depth",
        /// The stack of the guest.
        StackBytes = "stack_bytes",
        /// The elements of one table.
        TableElements = "table_elements",
        /// The number of tables.
        Tables = "tables",
        /// The number of memories.
        Memories = "memories",
        /// The number of core instances.
        CoreInstances = "core_instances",
        /// Handles: files, streams and timers.
        Handles = "handles",
        /// The bytes that one host call copies.
        HostCopyBytes = "host_copy_bytes",
    }
);

/// The name of a limit in a verdict: known to this version, or as it was read. A string in records and
/// frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitWord {
    /// A limit of this version.
    Known(LimitName),
    /// A limit of another version.
    Other(String),
}

impl LimitWord {
    /// The name.
    pub fn word(&self) -> &str {
        match self {
            LimitWord::Known(name) => name.word(),
            LimitWord::Other(word) => word,
        }
    }
}

impl From<LimitName> for LimitWord {
    fn from(name: LimitName) -> Self {
        LimitWord::Known(name)
    }
}

impl fmt::Display for LimitWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Serialize for LimitWord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for LimitWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let known = LimitName::ALL.into_iter().find(|name| name.word() == word);
        Ok(known.map_or(LimitWord::Other(word), LimitWord::Known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Limits, Verdict};

    #[test]
    fn a_limit_is_a_string_in_records_and_frames_also_one_that_is_not_known() {
        for (limit, word) in LimitName::ALL
            .map(|name| (LimitWord::Known(name), name.word()))
            .into_iter()
            .chain([(LimitWord::Other("of_tomorrow".into()), "of_tomorrow")])
        {
            let verdict = Verdict::OverLimit { limit, max: 7 };
            let json = alloc::format!(r#"{{"over_limit":{{"limit":"{word}","max":7}}}}"#);
            assert_eq!(serde_json::to_string(&verdict).expect("JSON"), json);
            assert_eq!(serde_json::from_str::<Verdict>(&json).expect("JSON"), verdict);
            let frame = postcard::to_allocvec(&verdict).expect("bytes");
            let string = postcard::to_allocvec(&(4u8, word, 7u64)).expect("bytes");
            assert_eq!(frame, string, "{word}");
            assert_eq!(postcard::from_bytes::<Verdict>(&frame).expect("bytes"), verdict);
        }
    }

    #[test]
    fn limits_of_tasks_are_named_as_tasks_name_them() {
        let limits = serde_json::to_value(Limits::default()).expect("JSON");
        let grants =
            serde_json::to_value(crate::grant::Grants { dir_bytes: 1, ..Default::default() });
        let grants = grants.expect("JSON");
        for name in [
            LimitName::QueueMs,
            LimitName::CpuMs,
            LimitName::MemoryBytes,
            LimitName::OutputBytes,
            LimitName::CheckpointBytes,
            LimitName::DirBytes,
        ] {
            let word = name.word();
            assert!(limits.get(word).or(grants.get(word)).is_some(), "{word}");
        }
    }
}
