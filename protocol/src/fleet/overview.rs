//! What a master shows at a glance: its groups, with their tasks and the leases of their workers, and its workers. Never
//! changes anything. Its cost grows with the workers and the groups, and not with the tasks.

use super::Fleet;
use crate::{
    GroupName, TaskId, Time,
    api::{GroupLoad, NextTask, Transport},
    lease::{Lease, LeaseState, LeaseTiming},
    task::TaskRecord,
    time::WallMillis,
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::time::Duration;

/// The groups without a worker that a master names to people. Whoever may submit a task can name a group.
pub const GROUPS_MAX: usize = 200;

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
    /// How many attempts those with a held lease run at once.
    pub slots: u64,
    /// How many of them have a host that lacks something.
    pub unwell: usize,
    /// The greatest time since this master saw a renewal of a held lease, or extended it; absent if no worker
    /// holds a lease.
    pub lease_age: Option<Duration>,
    /// The task that is placed next, if there is room for it.
    pub next: Option<Arc<TaskRecord>>,
    /// When its oldest queued task was submitted, of those that are next in their kind.
    pub oldest: Option<WallMillis>,
}

/// A worker, as this master knows it.
#[derive(Clone, Copy, Debug)]
pub struct WorkerGlance<'a> {
    /// Its newest lease.
    pub lease: &'a Lease,
    /// Whether it has a link to this master.
    pub linked: bool,
    /// What carries its newest link.
    pub transport: Option<Transport>,
    /// How many attempts it holds.
    pub running: usize,
    /// When this master saw its newest renewal, or extended its lease.
    pub renewed: Time,
    /// How long the worker may run after a renewal: as the profile says whose wait the lease asks for. It is that wait
    /// itself if no profile has it.
    pub lasts: Duration,
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

    /// Every group that has a worker, and the first `max` of the others that have tasks.
    pub fn overview(&self, now: Time, max: usize) -> Overview {
        self.overview_of(now, max, |_| true)
    }

    /// The same of the groups that are to be seen.
    pub fn overview_of(
        &self,
        now: Time,
        max: usize,
        is_seen: impl Fn(&GroupName) -> bool,
    ) -> Overview {
        let mut groups = BTreeMap::new();
        for worker in self.workers.values() {
            let Some(lease) = &worker.lease else { continue };
            if !is_seen(&lease.offer.group) {
                continue;
            }
            let view: &mut GroupView = groups.entry(&lease.offer.group).or_default();
            *view.leases.entry(lease.state).or_default() += 1;
            view.linked += usize::from(!worker.links().is_empty());
            view.unwell += usize::from(lease.unwell.is_some());
            if lease.state.is_held() {
                let age = now.since(worker.seen.max(worker.extended));
                view.slots += u64::from(lease.offer.slots);
                view.lease_age = view.lease_age.max(Some(age));
            }
        }
        let (mut others, mut left) = (TaskCounts::default(), max);
        for (name, group) in self.scheduler.groups().filter(|(name, _)| is_seen(name)) {
            let tasks = TaskCounts { queued: group.queued(), dispatched: group.dispatched().len() };
            if !groups.contains_key(name) {
                if left == 0 {
                    others.queued += tasks.queued;
                    others.dispatched += tasks.dispatched;
                    continue;
                }
                left -= 1;
            }
            let view = groups.entry(name).or_default();
            view.tasks = tasks;
            view.next = group.next().and_then(|id| Some(self.tasks.get(&id)?.record.clone()));
            view.oldest = group.oldest().map(WallMillis);
        }
        let named =
            |(name, view): (&GroupName, GroupView)| GroupView { group: name.clone(), ..view };
        Overview { groups: groups.into_iter().map(named).collect(), others }
    }

    /// A group in figures for a client, at this time of the wall clock.
    pub fn load(&self, now: Time, wall: WallMillis, view: &GroupView) -> GroupLoad {
        let next =
            |record: &Arc<TaskRecord>| NextTask { task: record.id, why: self.explain(now, record) };
        GroupLoad {
            group: view.group.clone(),
            queued: view.tasks.queued as u64,
            dispatched: view.tasks.dispatched as u64,
            workers: view.leases.iter().map(|(state, count)| (*state, *count as u64)).collect(),
            linked: view.linked as u64,
            slots: view.slots,
            waited_ms: view.oldest.map(|oldest| wall.0.saturating_sub(oldest.0)),
            next: view.next.as_ref().map(next),
        }
    }

    /// Every worker that has a lease, in the order of the names.
    pub fn glances(&self) -> impl Iterator<Item = WorkerGlance<'_>> {
        self.workers.values().filter_map(|worker| {
            let lease = worker.lease.as_ref()?;
            Some(WorkerGlance {
                lease,
                linked: !worker.links().is_empty(),
                transport: worker.links().transport(),
                running: worker.tasks().count(),
                renewed: worker.seen.max(worker.extended),
                lasts: lasts(lease),
            })
        })
    }

    /// The record of a task that is not over.
    pub fn open_task(&self, id: TaskId) -> Option<&Arc<TaskRecord>> {
        self.tasks.get(&id).map(|task| &task.record).filter(|record| !record.is_done())
    }
}

fn lasts(lease: &Lease) -> Duration {
    let profiles = [LeaseTiming::STANDARD, LeaseTiming::FAST, LeaseTiming::ROAMING];
    let wait = lease.master_wait();
    let profile = profiles.iter().find(|profile| profile.master() == wait);
    profile.map_or(wait, |profile| profile.worker())
}

#[cfg(test)]
mod tests;
