//! Inquiries: questions of workers about attempts that this master does not know, and the reads that
//! answer them. Never decides the answer.
//!
//! Invariant: a read answers only questions from before it was sent. Reads are numbered in the order in
//! which they are sent.

use super::LinkId;
use crate::{Revision, TaskId, Time, WorkerId, message::AttemptKey, task::Outcome};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

/// A worker's question about an attempt that this master does not know; the record answers it.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) worker: WorkerId,
    pub(super) link: LinkId,
    pub(super) key: AttemptKey,
    /// The revision of the record that dispatched the attempt.
    pub(super) revision: Revision,
    pub(super) outcome: Option<Outcome>,
    /// The number of the latest read that was requested before this question: only a later read answers
    /// it.
    pub(super) after: u64,
    /// When it was first asked.
    pub(super) since: Time,
    /// The number of the first read that was sent when no leader could be behind any more; `None`
    /// before such a read.
    pub(super) first: Option<u64>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    waiting: BTreeMap<TaskId, Vec<Inquiry>>,
    /// How many reads were requested so far.
    reads: u64,
}

impl Inquiries {
    /// The number for a read that is sent now.
    pub(super) fn next_read(&mut self) -> u64 {
        self.reads += 1;
        self.reads
    }

    /// The number for a read of this task that is sent now. After `patience` no leader can be behind
    /// any more.
    pub(super) fn read(&mut self, now: Time, task: TaskId, patience: Duration) -> u64 {
        let read = self.next_read();
        for inquiry in self.waiting.get_mut(&task).into_iter().flatten() {
            if now >= inquiry.since + patience {
                inquiry.first.get_or_insert(read);
            }
        }
        read
    }

    /// Whether a question about this task waits for a read.
    pub(super) fn has(&self, task: TaskId) -> bool {
        self.waiting.contains_key(&task)
    }

    /// The number of the latest read that was sent.
    pub(super) fn latest_read(&self) -> u64 {
        self.reads
    }

    /// Adds a question; it replaces an earlier one of the same worker about the same attempt.
    pub(super) fn add(&mut self, inquiry: Inquiry) {
        let waiting = self.waiting.entry(inquiry.key.task).or_default();
        let same =
            |known: &&mut Inquiry| (&known.worker, known.key) == (&inquiry.worker, inquiry.key);
        if let Some(known) = waiting.iter_mut().find(same) {
            known.link = inquiry.link;
            known.after = inquiry.after;
            known.outcome = inquiry.outcome.or(known.outcome.take());
        } else {
            waiting.push(inquiry);
        }
    }

    /// Takes out the answered questions about a task; the others go on waiting.
    pub(super) fn take(
        &mut self,
        task: TaskId,
        is_answered: impl FnMut(&Inquiry) -> bool,
    ) -> Vec<Inquiry> {
        let waiting = self.waiting.remove(&task).unwrap_or_default();
        let (answered, left): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_answered);
        if !left.is_empty() {
            self.waiting.insert(task, left);
        }
        answered
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        self.waiting.keys()
    }
}
