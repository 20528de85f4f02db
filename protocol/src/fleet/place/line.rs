//! The tasks of a group that wait, by what they need: one that fits nowhere blocks only its like.
//! Never knows of workers.

use super::{Need, Turn};
use crate::TaskId;
use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

/// A line of waiting tasks.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Line {
    classes: BTreeMap<Need, BTreeSet<Turn>>,
    /// The first of each class.
    heads: BTreeMap<Turn, Need>,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The waiting tasks.
    #[cfg(test)]
    pub(in crate::fleet) fn ids(&self) -> BTreeSet<TaskId> {
        for (need, line) in &self.classes {
            assert_eq!(line.first().and_then(|turn| self.heads.get(turn)), Some(need));
        }
        assert_eq!(self.heads.len(), self.classes.len());
        self.classes.values().flatten().map(|&(_, _, _, id)| id).collect()
    }

    /// The first head after this one.
    pub(super) fn head_after(&self, after: Bound<Turn>) -> Option<(Turn, &Need)> {
        self.heads.range((after, Bound::Unbounded)).next().map(|(turn, need)| (*turn, need))
    }

    /// The task that is first of all.
    pub(super) fn first(&self) -> Option<TaskId> {
        self.heads.first_key_value().map(|(turn, _)| turn.3)
    }

    pub(super) fn line_up(&mut self, need: Need, turn: Turn) {
        let line = self.classes.entry(need.clone()).or_default();
        let head = line.first().copied();
        line.insert(turn);
        if head.is_none_or(|head| turn < head) {
            if let Some(head) = head {
                self.heads.remove(&head);
            }
            self.heads.insert(turn, need);
        }
    }

    pub(super) fn step_out(&mut self, need: &Need, turn: &Turn) {
        let Some(line) = self.classes.get_mut(need) else { return };
        line.remove(turn);
        let head = line.first().copied();
        if line.is_empty() {
            self.classes.remove(need);
        }
        if self.heads.remove(turn).is_some()
            && let Some(head) = head
        {
            self.heads.insert(head, need.clone());
        }
    }
}
