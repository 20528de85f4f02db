//! Inquiries: questions of workers about attempts that this master does not know, and the reads that
//! answer them. Never decides the answer.
//!
//! Invariants: a read answers only questions from before it was sent; reads are numbered in the order in
//! which they are sent. A worker has at most [`INQUIRIES_MAX`] questions waiting, and about
//! [`READ_AT_ONCE`] of them are read in each [`ASK_AGAIN`].

use super::{ASK_AGAIN, LinkId};
use crate::{
    Revision, TaskId, Time, WorkerId, limit::INQUIRIES_MAX, message::AttemptKey, task::Outcome,
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

/// How many questions of one worker are read without a pause. A worker with more of them waits longer for
/// each, in proportion.
const READ_AT_ONCE: usize = 64;

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

/// The worker has [`INQUIRIES_MAX`] questions waiting already.
#[derive(Debug)]
pub(super) struct TooMany;

/// The questions about one task.
#[derive(Debug)]
struct Waiting {
    inquiries: Vec<Inquiry>,
    /// When the record is read next.
    due: Time,
    /// The read that was sent last, unless it has been answered.
    asked: Option<u64>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    waiting: BTreeMap<TaskId, Waiting>,
    /// How many questions of each worker wait.
    counts: BTreeMap<WorkerId, usize>,
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
        if let Some(waiting) = self.waiting.get_mut(&task) {
            waiting.asked = Some(read);
            for inquiry in &mut waiting.inquiries {
                if now >= inquiry.since + patience {
                    inquiry.first.get_or_insert(read);
                }
            }
        }
        read
    }

    /// Whether the record of this task has to be read now for a question. The next read is due at the
    /// returned time, unless this one is answered before.
    pub(super) fn is_due(&mut self, now: Time, task: TaskId) -> Option<Time> {
        let waiting = self.waiting.get_mut(&task).filter(|waiting| waiting.due <= now)?;
        let counts =
            waiting.inquiries.iter().filter_map(|inquiry| self.counts.get(&inquiry.worker));
        waiting.due = now + ASK_AGAIN + pause(counts.copied().max().unwrap_or_default());
        Some(waiting.due)
    }

    /// The number of the latest read that was sent.
    pub(super) fn latest_read(&self) -> u64 {
        self.reads
    }

    /// Adds a question; it replaces an earlier one of the same worker about the same attempt. Returns when
    /// the record has to be read: a read that is under way is waited for.
    pub(super) fn add(&mut self, now: Time, inquiry: Inquiry) -> Result<Time, TooMany> {
        let same =
            |known: &&mut Inquiry| (&known.worker, known.key) == (&inquiry.worker, inquiry.key);
        let task = inquiry.key.task;
        let known = self.waiting.get_mut(&task);
        if let Some(waiting) = known
            && let Some(known) = waiting.inquiries.iter_mut().find(same)
        {
            known.link = inquiry.link;
            known.after = inquiry.after;
            known.outcome = inquiry.outcome.or(known.outcome.take());
            return Ok(waiting.due);
        }
        let count = self.counts.get(&inquiry.worker).copied().unwrap_or_default();
        if count >= INQUIRIES_MAX {
            return Err(TooMany);
        }
        self.counts.insert(inquiry.worker.clone(), count + 1);
        let soon = now + pause(count);
        let waiting = self.waiting.entry(task).or_insert_with(|| Waiting {
            inquiries: Vec::new(),
            due: soon,
            asked: None,
        });
        waiting.inquiries.push(inquiry);
        if waiting.asked.is_none() {
            waiting.due = waiting.due.min(soon);
        }
        Ok(waiting.due)
    }

    /// Takes out the answered questions about a task; the others go on waiting. Also returns when the
    /// record has to be read again for them.
    pub(super) fn take(
        &mut self,
        now: Time,
        task: TaskId,
        read: Option<u64>,
        is_answered: impl FnMut(&Inquiry) -> bool,
    ) -> (Vec<Inquiry>, Option<Time>) {
        let Some(mut waiting) = self.waiting.remove(&task) else { return (Vec::new(), None) };
        let (answered, left): (Vec<_>, Vec<_>) =
            waiting.inquiries.into_iter().partition(is_answered);
        for inquiry in &answered {
            let count = self.counts.get_mut(&inquiry.worker).expect("each question is counted");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&inquiry.worker);
            }
        }
        if left.is_empty() {
            return (answered, None);
        }
        if read.is_some() && waiting.asked == read {
            waiting.asked = None;
            // A question that came while that read was under way.
            if left.iter().any(|inquiry| Some(inquiry.after) >= read) {
                waiting.due = now;
            }
        }
        let due = waiting.due;
        self.waiting.insert(task, Waiting { inquiries: left, ..waiting });
        (answered, Some(due))
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        self.waiting.keys()
    }

    #[cfg(test)]
    pub(super) fn audit(&self) {
        let mut counts = BTreeMap::new();
        for inquiry in self.waiting.values().flat_map(|waiting| &waiting.inquiries) {
            *counts.entry(inquiry.worker.clone()).or_insert(0) += 1;
        }
        assert_eq!(self.counts, counts);
    }
}

/// How long a question waits beside so many others of its worker.
fn pause(count: usize) -> Duration {
    ASK_AGAIN * (count / READ_AT_ONCE) as u32
}
