//! The tasks and workers of groups in figures, as a master knows them.

use crate::{GroupName, TaskId, lease::LeaseState};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Asks for the load of groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskLoads {
    /// Only this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Only the groups whose names follow this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What a group has to do, and who can do it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupLoad {
    /// The group.
    pub group: GroupName,
    /// How many of its tasks wait for a worker.
    pub queued: u64,
    /// How many were given to a worker.
    pub dispatched: u64,
    /// How many of its workers have a lease in each state.
    pub workers: BTreeMap<LeaseState, u64>,
    /// How many of them have a link to this master.
    pub linked: u64,
    /// How many attempts those with a held lease run at once.
    pub slots: u64,
    /// For how long its oldest queued task has waited, in milliseconds by this master's wall clock, of those that are
    /// next in their class. For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    /// The task that is placed next, if one waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextTask>,
}

impl GroupLoad {
    /// For how long its oldest queued task has waited.
    pub fn waited(&self) -> Option<Duration> {
        self.waited_ms.map(Duration::from_millis)
    }

    /// How many of its workers hold a lease.
    pub fn held(&self) -> u64 {
        self.workers.iter().filter(|(state, _)| state.is_held()).map(|(_, count)| count).sum()
    }
}

/// The task of a group that is placed next, if there is room for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextTask {
    /// Its id.
    pub task: TaskId,
    /// Why it waits, as a sentence.
    pub why: String,
}

/// The groups that the user may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupLoads {
    /// In the order of their names: each that has a worker, and the first
    /// [`GROUPS_MAX`](crate::fleet::GROUPS_MAX) of the others that have tasks.
    pub groups: Vec<GroupLoad>,
    /// How many tasks wait in the other groups that the user may see.
    #[serde(skip_serializing_if = "is_zero")]
    pub others_queued: u64,
    /// The last name of this part, if others follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
