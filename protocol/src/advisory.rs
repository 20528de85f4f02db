//! Advisories: events published for operators and tools, about a task, worker, master or group.
//! Each bad event has a subject of its own, so that an alarm can be set on it. Muster decides nothing by
//! them.

use crate::{
    AttemptId, BatchId, GroupName, MasterId, SessionId, TaskId, WorkerId,
    words::{rows, words},
};
use alloc::{format, string::String, string::ToString, vec::Vec};
use serde::Serialize;

/// An event that is published: what happened, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Advisory {
    /// About tasks that report to the same subscriber: the same happened to each of them.
    Tasks {
        /// The group of the tasks.
        group: GroupName,
        /// What happened to these tasks. It is the third token of the subject, and not in the body.
        #[serde(skip)]
        what: TaskEvent,
        /// The batch of the tasks, or the task itself.
        #[serde(skip)]
        audience: BatchId,
        /// The tasks, at least one. At most 64, so that the message stays under NATS' limit of 1
        /// MiB.
        tasks: Vec<TaskChange>,
    },
    /// About a worker.
    Worker {
        /// The worker's name.
        worker: WorkerId,
        /// The worker's group.
        group: GroupName,
        /// What happened to the worker. It is a token of the subject, and not in the body.
        #[serde(skip)]
        what: WorkerEvent,
        /// The session of the worker that the event is about.
        session: SessionId,
        /// Why, as a sentence.
        reason: String,
    },
    /// About a group.
    Group {
        /// The group's name.
        group: GroupName,
        /// What happened to the group. It is a token of the subject, and not in the body.
        #[serde(skip)]
        what: GroupEvent,
        /// Why, as a sentence.
        reason: String,
    },
    /// About a master.
    Master {
        /// The master's name.
        master: MasterId,
        /// What happened to the master. It is a token of the subject, and not in the body.
        #[serde(skip)]
        what: MasterEvent,
        /// Why, as a sentence.
        reason: String,
    },
    /// About the registry.
    Registry {
        /// The master that noticed it. Several masters may publish the same.
        master: MasterId,
        /// What happened to the registry. It is a token of the subject, and not in the body.
        #[serde(skip)]
        what: RegistryEvent,
        /// Why, as a sentence.
        reason: String,
    },
    /// About a site.
    Site {
        /// The fleet at the site.
        site: GroupName,
        /// The master that noticed it. Several masters may publish the same.
        master: MasterId,
        /// What happened to the copy of its events. It is a token of the subject, and not in the body.
        #[serde(skip)]
        what: SiteEvent,
        /// For how many seconds the copy has not been complete.
        seconds: u64,
        /// How many events the copy lacks, as far as the master knows.
        #[serde(skip_serializing_if = "Option::is_none")]
        behind: Option<u64>,
        /// Why, as a sentence.
        reason: String,
    },
    /// About failovers.
    Failover {
        /// The master that noticed it. Several masters may publish the same.
        master: MasterId,
        /// What happened to failovers. It is a token of the subject, and not in the body.
        #[serde(skip)]
        what: FailoverEvent,
        /// Why, as a sentence.
        reason: String,
    },
}

/// What happened to one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskChange {
    /// The task's id.
    pub task: TaskId,
    /// The attempt concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// The worker concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Why, as a sentence; often empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

words!(
    /// What happens to tasks.
    pub enum TaskEvent {
        /// The task was dispatched to a worker.
        Dispatched = "dispatched",
        /// The task was dispatched again, after its worker was lost.
        Redispatched = "redispatched",
        /// A failed attempt will be followed by another.
        Retried = "retried",
        /// The task ended with a result.
        Completed = "completed",
        /// The task ended without a result; the reason says how.
        Failed = "failed",
        /// The task was cancelled.
        Cancelled = "cancelled",
        /// The task lost so many workers that it is not tried again.
        Quarantined = "quarantined",
        /// A worker reported an outcome of an attempt that is not current; it was refused.
        Refused = "refused",
    }
);

impl TaskEvent {
    /// Whether the task is over then.
    pub fn is_end(self) -> bool {
        match self {
            TaskEvent::Completed
            | TaskEvent::Failed
            | TaskEvent::Cancelled
            | TaskEvent::Quarantined => true,
            TaskEvent::Dispatched
            | TaskEvent::Redispatched
            | TaskEvent::Retried
            | TaskEvent::Refused => false,
        }
    }
}

words!(
    /// What happens to workers.
    pub enum WorkerEvent {
        /// The worker has a lease.
        Joined = "joined",
        /// The worker gave its lease back.
        Left = "left",
        /// The worker takes no new attempts until an operator says otherwise.
        Cordoned = "cordoned",
        /// The worker takes no new attempts, and what still runs at the deadline is queued again.
        Draining = "draining",
        /// The worker may have stopped, and its tasks are dispatched to others.
        Lost = "lost",
        /// The worker came back after its lease had lapsed and its runs were stopped.
        Fenced = "fenced",
        /// The worker's host lacks something, which the reason names; tasks go to other workers first.
        Unwell = "unwell",
        /// The worker's host lacks nothing any more.
        Well = "well",
        /// The worker runs the program that it was to run.
        Upgraded = "upgraded",
        /// The worker gave up an upgrade, for the reason that is named, and runs the program that it ran before.
        UpgradeFailed = "upgrade_failed",
    }
);
words!(
    /// What happens to groups.
    pub enum GroupEvent {
        /// Tasks are queued for the group, and it has no worker.
        Empty = "empty",
    }
);
words!(
    /// What happens to masters.
    pub enum MasterEvent {
        /// The master serves clients.
        Started = "started",
        /// The master stops.
        Stopped = "stopped",
        /// The master has not renewed its lease in time; others take over its tasks.
        Lost = "lost",
    }
);
words!(
    /// What happens to the registry, as a master sees it.
    pub enum RegistryEvent {
        /// The registry did not answer for a while.
        Degraded = "degraded",
        /// The registry has lost writes that it had acknowledged.
        Rewound = "rewound",
    }
);
words!(
    /// What happens to the copy of a site's events at the hub.
    pub enum SiteEvent {
        /// The copy of the site's events has not been complete for a while.
        Lagging = "lagging",
        /// The copy of the site's events is complete.
        CaughtUp = "caught_up",
    }
);
words!(
    /// What happens to failovers.
    pub enum FailoverEvent {
        /// So many workers are silent at once that none is declared lost for now.
        Held = "held",
    }
);

/// Every event with its meaning: the table in docs/FLEET.md.
pub fn table() -> String {
    let of = |about: &str, what: &str| format!("{about}.{what}");
    let tasks = TaskEvent::ALL.map(|event| (of("task", event.word()), event.meaning()));
    let workers = WorkerEvent::ALL.map(|event| (of("worker", event.word()), event.meaning()));
    let groups = GroupEvent::ALL.map(|event| (of("group", event.word()), event.meaning()));
    let masters = MasterEvent::ALL.map(|event| (of("master", event.word()), event.meaning()));
    let registries =
        RegistryEvent::ALL.map(|event| (of("registry", event.word()), event.meaning()));
    let failovers = FailoverEvent::ALL.map(|event| (of("failover", event.word()), event.meaning()));
    let sites = SiteEvent::ALL.map(|event| (of("site", event.word()), event.meaning()));
    let all = tasks.into_iter().chain(workers).chain(groups).chain(masters).chain(registries);
    let all: Vec<_> = all.chain(failovers).chain(sites).collect();
    let rows = rows(all.iter().map(|(word, meaning)| (word.as_str(), *meaning)));
    String::from("| event | meaning |\n|---|---|\n") + &rows
}

impl Advisory {
    /// The tokens of the subject: group, kind, event and id.
    pub fn tokens(&self) -> (&str, &'static str, &'static str, String) {
        match self {
            Advisory::Tasks { audience, group, what, .. } => {
                (group.as_str(), "task", what.word(), audience.to_string())
            }
            Advisory::Worker { worker, group, what, .. } => {
                (group.as_str(), "worker", what.word(), worker.to_string())
            }
            Advisory::Group { group, what, .. } => {
                (group.as_str(), "group", what.word(), group.to_string())
            }
            Advisory::Master { master, what, .. } => {
                ("all", "master", what.word(), master.to_string())
            }
            Advisory::Registry { master, what, .. } => {
                ("all", "registry", what.word(), master.to_string())
            }
            Advisory::Site { site, what, .. } => ("all", "site", what.word(), site.to_string()),
            Advisory::Failover { master, what, .. } => {
                ("all", "failover", what.word(), master.to_string())
            }
        }
    }

    /// What it is about and what happened, each in a word.
    pub fn words(&self) -> (&'static str, &'static str) {
        let (_, about, what, _) = self.tokens();
        (about, what)
    }

    /// The `type` of the body, versioned so that its form can change without the subject.
    pub fn kind(&self) -> String {
        let (_, about, what, _) = self.tokens();
        format!("io.muster.advisory.v1.{about}_{what}")
    }
}
