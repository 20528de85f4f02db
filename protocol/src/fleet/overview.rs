//! What a master shows at a glance: its groups, with their tasks and the leases of their workers. Never changes
//! anything. Its cost grows with the workers and the groups, and not with the tasks.

use super::Fleet;
use crate::{GroupName, Time, lease::LeaseState};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

/// The groups of a fleet, as this master knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// The groups, in the order of their names.
    pub groups: Vec<GroupView>,
    /// The tasks of all groups that are not shown.
    pub others: TaskCounts,
}

/// A group of a fleet, as this master knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub group: GroupName,
    /// Its tasks.
    pub tasks: TaskCounts,
    /// How many of its workers have a lease in each state.
    pub leases: BTreeMap<LeaseState, usize>,
    /// How many of them have a link to this master.
    pub linked: usize,
    /// How many of them have a host that lacks something.
    pub unwell: usize,
    /// The greatest time since this master saw a renewal of a held lease, or extended it; absent if no worker
    /// holds a lease.
    pub lease_age: Option<Duration>,
}

/// Tasks that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// How many wait for a worker.
    pub queued: usize,
    /// How many were given to a worker.
    pub dispatched: usize,
}

impl Fleet {
    /// Whether this master has loaded the registry and reaches it, so that it serves.
    pub fn is_up(&self) -> bool {
        self.registry_up.is_some()
    }

    /// Every group that has a worker, and the first `max` of the others that have tasks: whoever may submit a task
    /// can name a group.
    pub fn overview(&self, now: Time, max: usize) -> Overview {
        let mut groups = BTreeMap::new();
        for worker in self.workers.values() {
            let Some(lease) = &worker.lease else { continue };
            let view: &mut GroupView = groups.entry(&lease.offer.group).or_default();
            *view.leases.entry(lease.state).or_default() += 1;
            view.linked += usize::from(!worker.links().is_empty());
            view.unwell += usize::from(lease.unwell.is_some());
            if lease.state.is_held() {
                let age = now.since(worker.seen.max(worker.extended));
                view.lease_age = view.lease_age.max(Some(age));
            }
        }
        let (mut others, mut left) = (TaskCounts::default(), max);
        for (name, group) in self.scheduler.groups() {
            let tasks = TaskCounts { queued: group.queued(), dispatched: group.dispatched().len() };
            if !groups.contains_key(name) {
                if left == 0 {
                    others.queued += tasks.queued;
                    others.dispatched += tasks.dispatched;
                    continue;
                }
                left -= 1;
            }
            groups.entry(name).or_default().tasks = tasks;
        }
        let named =
            |(name, view): (&GroupName, GroupView)| GroupView { group: name.clone(), ..view };
        Overview { groups: groups.into_iter().map(named).collect(), others }
    }
}

#[cfg(test)]
mod tests;
