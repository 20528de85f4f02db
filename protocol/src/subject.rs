//! Names in NATS: the buckets, subjects and headers of a fleet. The table in ARCHITECTURE.md is
//! generated from here. Never talks to NATS.

use crate::{AttemptId, BatchId, GroupName, TaskId, message::LogSource};
use alloc::{format, string::String};
use core::fmt;

/// The name under which `nats service ls` shows masters.
pub const SERVICE: &str = "muster-master";

/// A header of a task record: its state in one word, so that a reader can skip finished records without
/// parsing them.
pub const STATE_HEADER: &str = "Muster-State";

/// A header of a task record: the session of the master that wrote it, so that the master can skip its
/// own writes.
pub const WRITER_HEADER: &str = "Muster-Writer";

/// The value of [`STATE_HEADER`] on a finished record.
pub const STATE_DONE: &str = "done";

/// A key-value bucket of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Leases by worker id.
    Workers,
    /// Leases of masters by name and session.
    Masters,
    /// Task records by task id.
    Tasks,
    /// Versions and digests by module name.
    Modules,
    /// The newest checkpoint of each task, by task id.
    Checkpoints,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Bucket; 5] =
        [Bucket::Workers, Bucket::Masters, Bucket::Tasks, Bucket::Modules, Bucket::Checkpoints];

    /// The buckets that masters follow; the others are read on demand.
    pub const FOLLOWED: [Bucket; 4] =
        [Bucket::Workers, Bucket::Masters, Bucket::Tasks, Bucket::Modules];

    /// The last part of its name.
    pub fn word(self) -> &'static str {
        match self {
            Bucket::Workers => "workers",
            Bucket::Masters => "masters",
            Bucket::Tasks => "tasks",
            Bucket::Modules => "modules",
            Bucket::Checkpoints => "checkpoints",
        }
    }
}

/// The names that one fleet uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    fleet: GroupName,
}

impl Names {
    /// Names of the fleet called `fleet`.
    pub fn new(fleet: GroupName) -> Self {
        Names { fleet }
    }

    /// The fleet.
    pub fn fleet(&self) -> &str {
        self.fleet.as_str()
    }

    /// A bucket, as `nats kv` has it.
    pub fn bucket(&self, bucket: Bucket) -> String {
        format!("muster_{}_{}", self.fleet, bucket.word())
    }

    /// The stream behind a bucket.
    pub fn stream(&self, bucket: Bucket) -> String {
        format!("KV_{}", self.bucket(bucket))
    }

    /// The subject of a key of a bucket.
    pub fn key(&self, bucket: Bucket, key: impl fmt::Display) -> String {
        format!("$KV.{}.{key}", self.bucket(bucket))
    }

    /// The object store that keeps modules, by the hex of their digest.
    pub fn module_store(&self) -> String {
        format!("muster_{}_modules", self.fleet)
    }

    /// The object store that keeps inputs and outputs, by the hex of their digest.
    pub fn data_store(&self) -> String {
        format!("muster_{}_data", self.fleet)
    }

    /// The subject of a request to masters: `task.submit`, say.
    pub fn api(&self, endpoint: &str) -> String {
        format!("muster.{}.api.{endpoint}", self.fleet)
    }

    /// Where the end of a task is published for the clients that wait for it. A hint: the record
    /// decides.
    pub fn done(&self, audience: BatchId) -> String {
        format!("muster.{}.done.{audience}", self.fleet)
    }

    /// An event; see [`crate::advisory`].
    pub fn event(&self, group: &str, about: &str, what: &str, id: &str) -> String {
        format!("muster.{}.event.{group}.{about}.{what}.{id}", self.fleet)
    }

    /// Every event.
    pub fn events(&self) -> String {
        format!("muster.{}.event.>", self.fleet)
    }

    /// The stream that keeps events.
    pub fn event_stream(&self) -> String {
        format!("muster_{}_events", self.fleet)
    }

    /// The log of a run.
    pub fn log(&self, task: TaskId, attempt: AttemptId, source: LogSource) -> String {
        format!("muster.{}.log.{task}.{attempt}.{}", self.fleet, source.word())
    }

    /// The logs of all runs of a task.
    pub fn logs(&self, task: TaskId) -> String {
        format!("muster.{}.log.{task}.>", self.fleet)
    }

    /// The logs of all runs.
    pub fn all_logs(&self) -> String {
        format!("muster.{}.log.>", self.fleet)
    }

    /// The stream that keeps logs.
    pub fn log_stream(&self) -> String {
        format!("muster_{}_logs", self.fleet)
    }

    /// The progress of a run, as its guest reports it.
    pub fn progress(&self, task: TaskId) -> String {
        format!("muster.{}.progress.{task}", self.fleet)
    }

    /// The name that a master's certificate must have.
    pub fn master_host(&self) -> String {
        format!("master.{}.muster", self.fleet)
    }

    /// The name that a worker's certificate must have.
    pub fn worker_host(&self, worker: &str) -> String {
        format!("{worker}.worker.{}.muster", self.fleet)
    }

    /// The name of the worker in a certificate's name.
    pub fn worker_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        host.strip_suffix(&format!(".worker.{}.muster", self.fleet))
    }
}

/// What each subject carries: the table in ARCHITECTURE.md.
pub fn table() -> String {
    let names = Names::new(GroupName::default());
    let f = &names.fleet;
    let rows = [
        (names.api("…"), "requests of clients, as NATS service `muster-master`"),
        (
            names.event("GROUP", "ABOUT", "WHAT", "ID"),
            "events about tasks, a worker, group or master; `ID` of tasks is their batch, or the task itself",
        ),
        (format!("muster.{f}.done.BATCH"), "the ends of tasks, for who waits for them"),
        (format!("muster.{f}.log.TASK.ATTEMPT.stderr"), "what guests write; `log` for the SDK's"),
        (format!("muster.{f}.progress.TASK"), "how far a run is"),
    ];
    let mut text = String::from("| subject | carries |\n|---|---|\n");
    for (subject, carries) in rows {
        text.push_str(&format!("| `{}` | {carries} |\n", subject.replace(".default.", ".FLEET.")));
    }
    text
}
