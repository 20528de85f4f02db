//! The queued and dispatched tasks of every group, and the workers that may be given attempts. Never
//! decides when a task is placed.
//!
//! Invariants: a group is here as long as it has a task or a candidate; a queued task is in one of the
//! two queues of its group; at most one run is being stopped to make room for a queued task.

use super::{Candidates, Need, Queue, Room};
use crate::{
    GroupName, TaskId, Time, WorkerId,
    lease::Offer,
    message::AttemptKey,
    task::{KeptWorker, TaskRecord},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::{cmp::Reverse, ops::Bound};

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::fleet) struct Scheduler {
    groups: BTreeMap<GroupName, Group>,
    /// The run that is being stopped to make room, by the queued task it makes room for.
    preempted: BTreeMap<TaskId, AttemptKey>,
}

/// The queued tasks of a group, and its candidates.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Group {
    /// Queued tasks that this master owns.
    own: Queue,
    /// Queued tasks that another master owns. This master places them only if the owner does not.
    others: Queue,
    /// Since when there have been free slots that the other masters did not use.
    pub(super) room_since: Option<Time>,
    dispatched: BTreeSet<PreemptKey>,
    /// The workers that are kept free for suspects of the own queue.
    kept: BTreeMap<TaskId, KeptWorker>,
    candidates: Candidates,
    /// Whether the event was published that tasks wait and the group has no worker.
    pub(super) told_empty: bool,
}

/// Which of the two queues of a group a task is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fleet) enum QueueOwner {
    Own,
    Others,
}

/// The order of queued tasks: by priority; of equal priority, tasks that have had an attempt before
/// those that never had one; then by the time of submission.
pub(super) type QueueKey = (Reverse<u8>, NeverBegun, u64, TaskId);

/// Whether the task has had no attempt yet.
pub(super) type NeverBegun = bool;

/// The order of dispatched tasks: the lowest priority first, and of equal priority the youngest first.
pub(in crate::fleet) type PreemptKey = (u8, Reverse<u64>, TaskId);

fn queue_key(record: &TaskRecord) -> QueueKey {
    (Reverse(record.spec.priority), record.attempts == 0, record.submitted_at.0, record.id)
}

fn preempt_key(record: &TaskRecord) -> PreemptKey {
    (record.spec.priority, Reverse(record.submitted_at.0), record.id)
}

impl Scheduler {
    pub(in crate::fleet) fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(super) fn group_mut(&mut self, name: &GroupName) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    pub(in crate::fleet) fn names(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.keys()
    }

    pub(in crate::fleet) fn groups(&self) -> impl Iterator<Item = (&GroupName, &Group)> {
        self.groups.iter()
    }

    pub(super) fn enqueue(&mut self, record: &TaskRecord, owner: QueueOwner) {
        let group = self.groups.entry(record.spec.group.clone()).or_default();
        if owner == QueueOwner::Own
            && let Some(kept) = record.kept()
        {
            group.kept.insert(record.id, kept.clone());
        }
        group.queue_mut(owner).enqueue(Need::of(record), queue_key(record));
    }

    pub(super) fn dequeue(&mut self, record: &TaskRecord, owner: QueueOwner) {
        self.in_group(&record.spec.group, |group| {
            if owner == QueueOwner::Own {
                group.kept.remove(&record.id);
            }
            group.queue_mut(owner).dequeue(&Need::of(record), &queue_key(record));
        });
    }

    /// Adds or updates a candidate; `room` is what it has left if it may hold another attempt. Returns whether
    /// tasks are queued that it could be given.
    pub(super) fn list(&mut self, id: &WorkerId, offer: &Offer, room: Option<Room>) -> bool {
        let group = self.groups.entry(offer.group.clone()).or_default();
        group.candidates.list(id, offer, room);
        group.told_empty = false;
        room.is_some() && !(group.own.is_empty() && group.others.is_empty())
    }

    /// Removes a worker from the candidates of a group, if it is one of them.
    pub(in crate::fleet) fn unlist(&mut self, name: &GroupName, id: &WorkerId) {
        self.in_group(name, |group| group.candidates.unlist(id));
    }

    /// The record of a task replaces another: updates the dispatched tasks of its group.
    pub(in crate::fleet) fn replace(&mut self, old: Option<&TaskRecord>, new: Option<&TaskRecord>) {
        let entry = |record: Option<&TaskRecord>| {
            let record = record.filter(|record| record.attempt().is_some())?;
            Some((record.spec.group.clone(), preempt_key(record)))
        };
        let new = entry(new);
        let old = entry(old).filter(|old| new.as_ref() != Some(old));
        // In this order: a group that has become empty for a moment would lose its other fields.
        if let Some((name, key)) = new {
            self.groups.entry(name).or_default().dispatched.insert(key);
        }
        if let Some((name, key)) = old {
            self.in_group(&name, |group| {
                group.dispatched.remove(&key);
            });
        }
    }

    /// The run that is being stopped to make room for this task.
    pub(in crate::fleet) fn victim_of(&self, task: TaskId) -> Option<AttemptKey> {
        self.preempted.get(&task).copied()
    }

    /// Whether a run of this task is being stopped to make room for another.
    pub(in crate::fleet) fn is_victim(&self, task: TaskId) -> bool {
        self.preempted.values().any(|victim| victim.task == task)
    }

    /// A run is being stopped to make room for the task.
    pub(in crate::fleet) fn makes_room(&mut self, task: TaskId, victim: AttemptKey) {
        self.preempted.insert(task, victim);
    }

    /// No run is being stopped for the task any more.
    pub(in crate::fleet) fn needs_no_room(&mut self, task: TaskId) {
        self.preempted.remove(&task);
    }

    /// Changes a group, and drops it if it is empty then.
    fn in_group(&mut self, name: &GroupName, change: impl FnOnce(&mut Group)) {
        let Some(group) = self.groups.get_mut(name) else { return };
        change(group);
        if group.is_empty() {
            self.groups.remove(name);
        }
    }

    #[cfg(test)]
    pub(in crate::fleet) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Checks the invariants, and returns the queued tasks.
    #[cfg(test)]
    pub(in crate::fleet) fn audit(&self) -> BTreeSet<TaskId> {
        let mut queued = BTreeSet::new();
        for group in self.groups.values() {
            assert!(!group.is_empty(), "an empty group is kept");
            group.candidates.audit();
            for id in group.own.ids().into_iter().chain(group.others.ids()) {
                assert!(queued.insert(id), "{id} is in two queues");
            }
        }
        queued
    }

    /// Whether the record is among the dispatched tasks of its group.
    #[cfg(test)]
    pub(in crate::fleet) fn is_dispatched(&self, record: &TaskRecord) -> bool {
        self.groups[&record.spec.group].dispatched.contains(&preempt_key(record))
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        self.own.is_empty()
            && self.others.is_empty()
            && self.candidates.is_empty()
            && self.dispatched.is_empty()
    }

    pub(in crate::fleet) fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// How many tasks wait, whoever owns them.
    pub(in crate::fleet) fn queued(&self) -> usize {
        self.own.len() + self.others.len()
    }

    /// The first task that waits: of this master, or of another one.
    pub(in crate::fleet) fn next(&self) -> Option<TaskId> {
        self.own.first().or_else(|| self.others.first())
    }

    /// When its oldest task that waits was submitted, as far as [`Queue::oldest`] knows.
    pub(in crate::fleet) fn oldest(&self) -> Option<u64> {
        self.own.oldest().into_iter().chain(self.others.oldest()).min()
    }

    /// The workers that are kept free for queued suspects of this master.
    pub(super) fn kept(&self) -> Vec<(TaskId, KeptWorker)> {
        self.kept.iter().map(|(&task, kept)| (task, kept.clone())).collect()
    }

    /// The dispatched tasks, in the order in which they are preempted.
    pub(in crate::fleet) fn dispatched(&self) -> impl ExactSizeIterator<Item = &PreemptKey> {
        self.dispatched.iter()
    }

    pub(super) fn queue(&self, owner: QueueOwner) -> &Queue {
        match owner {
            QueueOwner::Own => &self.own,
            QueueOwner::Others => &self.others,
        }
    }

    fn queue_mut(&mut self, owner: QueueOwner) -> &mut Queue {
        match owner {
            QueueOwner::Own => &mut self.own,
            QueueOwner::Others => &mut self.others,
        }
    }

    /// The priority of the first task that another master owns and could place. This master leaves a
    /// slot for it, since the slot may have been freed for it by a preemption: a task of much lower
    /// priority in it would be preempted again.
    pub(super) fn urgent(&self) -> Option<u8> {
        let (key, need) = self.others.head_after(Bound::Unbounded)?;
        self.candidates.choose(need).map(|_| key.0.0)
    }
}
