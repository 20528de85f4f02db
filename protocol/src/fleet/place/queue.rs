//! The queued tasks of a group, in classes of equal needs: a task that fits no worker blocks only its
//! own class. Never knows of workers.

use super::{Need, QueueKey};
use crate::TaskId;
use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

/// Classes that are looked at for the oldest task: there may be as many classes as tasks.
const HEADS_MAX: usize = 64;

/// A queue of tasks.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Queue {
    classes: BTreeMap<Need, BTreeSet<QueueKey>>,
    /// The first task of each class.
    heads: BTreeMap<QueueKey, Need>,
    len: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The queued tasks.
    #[cfg(test)]
    pub(in crate::fleet) fn ids(&self) -> BTreeSet<TaskId> {
        for (need, class) in &self.classes {
            assert_eq!(class.first().and_then(|key| self.heads.get(key)), Some(need));
        }
        assert_eq!(self.heads.len(), self.classes.len());
        assert_eq!(self.len, self.classes.values().map(BTreeSet::len).sum::<usize>());
        self.classes.values().flatten().map(|&(_, _, _, id)| id).collect()
    }

    /// The first head whose key is after this one.
    pub(super) fn head_after(&self, after: Bound<QueueKey>) -> Option<(QueueKey, &Need)> {
        self.heads.range((after, Bound::Unbounded)).next().map(|(key, need)| (*key, need))
    }

    /// How many tasks are queued.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first task of all.
    pub(super) fn first(&self) -> Option<TaskId> {
        self.heads.first_key_value().map(|(key, _)| key.3)
    }

    /// When the oldest task was submitted, of the first [`HEADS_MAX`] that are next in their class.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.heads.keys().take(HEADS_MAX).map(|key| key.2).min()
    }

    pub(super) fn enqueue(&mut self, need: Need, key: QueueKey) {
        let class = self.classes.entry(need.clone()).or_default();
        let head = class.first().copied();
        self.len += usize::from(class.insert(key));
        if head.is_none_or(|head| key < head) {
            if let Some(head) = head {
                self.heads.remove(&head);
            }
            self.heads.insert(key, need);
        }
    }

    pub(super) fn dequeue(&mut self, need: &Need, key: &QueueKey) {
        let Some(class) = self.classes.get_mut(need) else { return };
        self.len -= usize::from(class.remove(key));
        let head = class.first().copied();
        if class.is_empty() {
            self.classes.remove(need);
        }
        if self.heads.remove(key).is_some()
            && let Some(head) = head
        {
            self.heads.insert(head, need.clone());
        }
    }
}
