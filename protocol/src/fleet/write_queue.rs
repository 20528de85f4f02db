//! Writes of records: how many are under way, and which new tasks wait to be written. Never decides
//! what is written.
//!
//! Invariant: at most [`limit::WRITES_MAX`] writes are under way, and a task that is being written does
//! not wait.

use crate::{TaskId, limit};
use alloc::collections::BTreeSet;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    /// Submitted tasks that are not in the registry yet.
    unstored: BTreeSet<TaskId>,
    under_way: usize,
}

impl WriteQueue {
    /// Whether another write may start.
    pub(super) fn has_room(&self) -> bool {
        self.under_way < limit::WRITES_MAX
    }

    /// A new task has to be stored.
    pub(super) fn wait(&mut self, task: TaskId) {
        self.unstored.insert(task);
    }

    /// A task was stored, or is gone.
    pub(super) fn leave(&mut self, task: TaskId) {
        self.unstored.remove(&task);
    }

    /// The next new task to store.
    pub(super) fn pop(&mut self) -> Option<TaskId> {
        self.unstored.pop_first()
    }

    /// The write of a task starts.
    pub(super) fn begin(&mut self, task: TaskId) {
        self.unstored.remove(&task);
        self.under_way += 1;
    }

    /// A write was answered.
    pub(super) fn end(&mut self) {
        self.under_way -= 1;
    }

    #[cfg(test)]
    pub(super) fn unstored(&self) -> &BTreeSet<TaskId> {
        &self.unstored
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }
}
