//! The tasks and groups that a master has to consider in its next plan. Never decides about them.
//!
//! Invariant: a task or group is listed at most once, however many events put it there.

use crate::{GroupName, TaskId};
use alloc::collections::BTreeSet;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Tasks for which `reconcile` has to decide something.
    tasks: BTreeSet<TaskId>,
    /// Groups for which `place` has to run: a worker's slot may be free, or a task has arrived.
    groups: BTreeSet<GroupName>,
}

impl Agenda {
    pub(super) fn task(&mut self, id: TaskId) {
        self.tasks.insert(id);
    }

    pub(super) fn tasks(&mut self, ids: impl IntoIterator<Item = TaskId>) {
        self.tasks.extend(ids);
    }

    pub(super) fn group(&mut self, name: GroupName) {
        self.groups.insert(name);
    }

    pub(super) fn groups<'a>(&mut self, names: impl IntoIterator<Item = &'a GroupName>) {
        self.groups.extend(names.into_iter().cloned());
    }

    pub(super) fn pop_task(&mut self) -> Option<TaskId> {
        self.tasks.pop_first()
    }

    pub(super) fn pop_group(&mut self) -> Option<GroupName> {
        self.groups.pop_first()
    }

    #[cfg(test)]
    pub(super) fn dirty(&self) -> &BTreeSet<TaskId> {
        &self.tasks
    }
}
