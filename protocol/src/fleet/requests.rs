//! Submissions that are not answered yet. Never decides the answer.
//!
//! Invariant: a submission is here as long as one of its tasks is not stored, and is answered once.

use super::RequestId;
use alloc::collections::BTreeMap;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Requests(BTreeMap<RequestId, Waiting>);

#[derive(Debug)]
struct Waiting {
    tasks: u64,
    /// How many of its tasks are not stored.
    left: u64,
}

impl Requests {
    /// Adds a submission of `tasks` tasks. `left` of them, at least one, are not stored yet.
    pub(super) fn wait(&mut self, request: RequestId, tasks: u64, left: u64) {
        self.0.insert(request, Waiting { tasks, left });
    }

    /// A task of the submission is stored. Returns how many tasks it has, if this was the last one.
    pub(super) fn stored(&mut self, request: RequestId) -> Option<u64> {
        let waiting = self.0.get_mut(&request)?;
        waiting.left -= 1;
        if waiting.left > 0 {
            return None;
        }
        self.0.remove(&request).map(|waiting| waiting.tasks)
    }

    /// The submission is answered early. Returns whether it was not answered before.
    pub(super) fn end(&mut self, request: RequestId) -> bool {
        self.0.remove(&request).is_some()
    }

    #[cfg(test)]
    pub(super) fn audit(&self) {
        assert!(self.0.values().all(|waiting| waiting.left > 0));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
