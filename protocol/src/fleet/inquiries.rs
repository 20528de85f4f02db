//! Inquiries: questions of workers about attempts that this master does not know, and the reads that
//! answer them. Never decides the answer.
//!
//! Invariants: a read answers only inquiries from before it was sent; reads are numbered in the order in
//! which they are sent. A worker has at most [`INQUIRIES_MAX`] inquiries waiting, and causes at most
//! [`READS_MAX`] reads at once and in each [`ASK_AGAIN`] after that.

use super::{ASK_AGAIN, LinkId};
use crate::{
    Revision, TaskId, Time, WorkerId, limit::INQUIRIES_MAX, message::AttemptKey, task::Outcome,
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

/// How many reads one worker may cause in each [`ASK_AGAIN`]: as many as a worker of usual size has
/// attempts.
const READS_MAX: u32 = 64;

/// A worker's question about an attempt that this master does not know; the record answers it.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) worker: WorkerId,
    pub(super) link: LinkId,
    pub(super) key: AttemptKey,
    /// The revision of the record that dispatched the attempt.
    pub(super) revision: Revision,
    pub(super) outcome: Option<Outcome>,
    /// The number of the latest read that was requested before this inquiry: only a later read answers
    /// it.
    pub(super) after: u64,
    /// When it was first asked.
    pub(super) since: Time,
    /// The number of the first read that was sent when no leader could be behind any more; `None`
    /// before such a read.
    pub(super) first: Option<u64>,
}

/// The worker has [`INQUIRIES_MAX`] inquiries waiting already.
#[derive(Debug)]
pub(super) struct TooMany;

/// The inquiries about one task.
#[derive(Debug)]
struct TaskInquiries {
    inquiries: Vec<Inquiry>,
    /// When the record is read next.
    due: Time,
    /// The read that was sent last, unless it has been answered.
    asked: Option<u64>,
}

/// A worker that asks.
#[derive(Debug, Default)]
struct Asker {
    /// How many of its inquiries wait.
    waiting: usize,
    /// When all reads that it has caused are over at the rate of [`READS_MAX`].
    paid: Time,
}

impl Asker {
    /// The time of its next read: now, unless it has caused [`READS_MAX`] of them just before.
    fn next_read(&mut self, now: Time) -> Time {
        self.paid = self.paid.max(now);
        let ahead = self.paid.since(now);
        self.paid = self.paid + ASK_AGAIN / READS_MAX;
        now + ahead.saturating_sub(ASK_AGAIN - ASK_AGAIN / READS_MAX)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    tasks: BTreeMap<TaskId, TaskInquiries>,
    askers: BTreeMap<WorkerId, Asker>,
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
        if let Some(about) = self.tasks.get_mut(&task) {
            about.asked = Some(read);
            for inquiry in &mut about.inquiries {
                if now >= inquiry.since + patience {
                    inquiry.first.get_or_insert(read);
                }
            }
        }
        read
    }

    /// Whether the record of this task has to be read now for an inquiry. The next read is due at the
    /// returned time, unless this one is answered before.
    pub(super) fn is_due(&mut self, now: Time, task: TaskId) -> Option<Time> {
        let about = self.tasks.get_mut(&task).filter(|about| about.due <= now)?;
        about.due = now + ASK_AGAIN;
        // The worker that has caused the fewest reads decides: nobody delays the inquiries of others.
        let askers = about.inquiries.iter().map(|inquiry| &inquiry.worker);
        let least = askers.min_by_key(|worker| self.askers.get(*worker).map(|asker| asker.paid));
        if let Some(asker) = least.and_then(|worker| self.askers.get_mut(worker)) {
            about.due = about.due.max(asker.next_read(now));
        }
        Some(about.due)
    }

    /// The number of the latest read that was sent.
    pub(super) fn latest_read(&self) -> u64 {
        self.reads
    }

    /// Adds an inquiry; it replaces an earlier one of the same worker about the same attempt. Returns when
    /// the record is read next. If a read is under way, the next one is sent after its answer.
    pub(super) fn add(&mut self, now: Time, inquiry: Inquiry) -> Result<Time, TooMany> {
        let same =
            |known: &&mut Inquiry| (&known.worker, known.key) == (&inquiry.worker, inquiry.key);
        let task = inquiry.key.task;
        if let Some(about) = self.tasks.get_mut(&task)
            && let Some(known) = about.inquiries.iter_mut().find(same)
        {
            known.link = inquiry.link;
            known.after = inquiry.after;
            known.outcome = inquiry.outcome.or(known.outcome.take());
            return Ok(about.due);
        }
        if !self.askers.contains_key(&inquiry.worker) {
            self.askers.retain(|_, asker| asker.waiting > 0 || asker.paid > now);
        }
        let asker = self.askers.entry(inquiry.worker.clone()).or_default();
        if asker.waiting >= INQUIRIES_MAX {
            return Err(TooMany);
        }
        asker.waiting += 1;
        let about = self.tasks.entry(task).or_insert_with(|| TaskInquiries {
            inquiries: Vec::new(),
            due: Time::NEVER,
            asked: None,
        });
        about.inquiries.push(inquiry);
        let soon = match about.asked {
            None => asker.next_read(now),
            Some(_) => now + ASK_AGAIN,
        };
        about.due = about.due.min(soon);
        Ok(about.due)
    }

    /// Takes out the inquiries about a task that need no read.
    pub(super) fn take_known(
        &mut self,
        task: TaskId,
        is_known: impl FnMut(&Inquiry) -> bool,
    ) -> Vec<Inquiry> {
        let Some(about) = self.tasks.get_mut(&task) else { return Vec::new() };
        let all = core::mem::take(&mut about.inquiries);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(is_known);
        about.inquiries = left;
        if about.inquiries.is_empty() {
            self.tasks.remove(&task);
        }
        for inquiry in &taken {
            let asker = self.askers.get_mut(&inquiry.worker).expect("it has an inquiry");
            asker.waiting -= 1;
        }
        taken
    }

    /// Takes out the inquiries about a task that this read answers. Also returns when the record has to be
    /// read again for the others.
    pub(super) fn take_answered(
        &mut self,
        now: Time,
        task: TaskId,
        read: u64,
        is_answered: impl FnMut(&Inquiry) -> bool,
    ) -> (Vec<Inquiry>, Option<Time>) {
        let answered = self.take_known(task, is_answered);
        let Some(about) = self.tasks.get_mut(&task) else { return (answered, None) };
        if about.asked == Some(read) {
            about.asked = None;
            // It came while that read was under way.
            let late = about.inquiries.iter().find(|inquiry| inquiry.after >= read);
            if let Some(asker) = late.and_then(|late| self.askers.get_mut(&late.worker)) {
                about.due = about.due.min(asker.next_read(now));
            }
        }
        (answered, Some(about.due))
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        self.tasks.keys()
    }

    #[cfg(test)]
    pub(super) fn audit(&self) {
        let mut counts = BTreeMap::new();
        for inquiry in self.tasks.values().flat_map(|about| &about.inquiries) {
            *counts.entry(inquiry.worker.clone()).or_insert(0) += 1;
        }
        for (worker, asker) in &self.askers {
            assert_eq!(asker.waiting, counts.remove(worker).unwrap_or_default());
        }
        assert!(counts.is_empty(), "{counts:?}");
    }
}
