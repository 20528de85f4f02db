//! What a master knows of a task that is not over. There may be a million of them, and most are queued:
//! fields that a queued task does not need are boxed. Never decides what follows.

use super::{LinkId, RequestId, place};
use crate::{
    AttemptId, Nonce, Revision, Time, WorkerId,
    task::{Outcome, TaskRecord},
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::time::Duration;

/// How many unanswered writes of one revision a master remembers. They follow each other at
/// [`ASK_AGAIN`](super::ASK_AGAIN).
const UNSURE_MAX: usize = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Task {
    /// The newest known record; before the first write, the record that will be stored.
    pub(super) record: Arc<TaskRecord>,
    pub(super) revision: Revision,
    pub(super) phase: Phase,
    /// When the newest record became known.
    pub(super) since: Time,
    /// The queue that the task is in, if any.
    pub(super) queued_in: Option<place::QueueOwner>,
    /// The outcome that the worker reported; kept until it is committed or refused.
    pub(super) report: Option<Box<OutcomeReport>>,
    /// The link on which the worker was last sent the current state of its attempt: the dispatch or,
    /// once the task is to be cancelled, the revocation.
    pub(super) told: Option<LinkId>,
    /// The worker has said that it does not have the attempt.
    pub(super) lacking: bool,
    pub(super) cancel_wanted: bool,
    pub(super) pending: Option<Box<Pending>>,
}

/// The requests and writes that wait for the next record of a task.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Requests that wait for the task, or for its cancellation, to be stored.
    pub(super) storing: Vec<RequestId>,
    pub(super) cancelling: Vec<RequestId>,
    /// The nonces of this master's writes of the present revision that were not answered: one of them
    /// may have landed.
    unsure: Vec<Nonce>,
    /// Since when the registry does not show the known record; and whether the write under way was sent
    /// late enough that no leader can have been behind.
    missing: Option<(Time, bool)>,
}

/// The reported end of an attempt, not committed yet.
#[derive(Debug)]
pub(super) struct OutcomeReport {
    pub(super) attempt: AttemptId,
    pub(super) worker: WorkerId,
    pub(super) link: LinkId,
    pub(super) outcome: Arc<Outcome>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    /// This record is being written.
    Writing(Arc<TaskRecord>),
    /// It is not known whether the last write landed; the record is being read, or will be.
    Asking,
}

impl Task {
    pub(super) fn new(record: Arc<TaskRecord>, revision: Revision, now: Time) -> Self {
        Task {
            record,
            revision,
            phase: Phase::Idle,
            since: now,
            queued_in: None,
            report: None,
            told: None,
            lacking: false,
            cancel_wanted: false,
            pending: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// The earliest time at which the queued task may be placed.
    pub(super) fn not_before(&self) -> Time {
        self.since + place::wait_of(&self.record)
    }

    /// The time until which the task may be queued.
    pub(super) fn queue_until(&self) -> Time {
        self.not_before() + Duration::from_millis(self.record.spec.limits.queue_ms)
    }

    /// Whether this master wrote a record that is newer than the known one.
    pub(super) fn is_mine(&self, new: &TaskRecord) -> bool {
        let writing = matches!(&self.phase, Phase::Writing(intent) if intent.write == new.write);
        writing || self.pending.as_ref().is_some_and(|known| known.unsure.contains(&new.write))
    }

    /// A write of this master may have landed, or may still land.
    pub(super) fn doubt(&mut self, write: Nonce) {
        let unsure = &mut self.pending.get_or_insert_default().unsure;
        if unsure.len() == UNSURE_MAX {
            unsure.remove(0);
        }
        unsure.push(write);
    }

    /// A write is being sent; a stream's leader may be behind for up to `patience`.
    pub(super) fn sends(&mut self, now: Time, patience: Duration) {
        if let Some((since, late)) = self.pending.as_mut().and_then(|known| known.missing.as_mut())
        {
            *late = now >= *since + patience;
        }
    }

    /// The last write did not meet the known record. Returns whether no leader can have been behind
    /// when it was sent: a refusal that merely arrives late proves nothing.
    pub(super) fn is_missing(&mut self, now: Time) -> bool {
        self.pending.get_or_insert_default().missing.get_or_insert((now, false)).1
    }

    /// Takes out what waited for the record that is known now.
    pub(super) fn take_pending(&mut self) -> Pending {
        let mut settled = self.pending.take().map_or_else(Pending::default, |pending| *pending);
        if !settled.cancelling.is_empty() && !self.record.cancel && !self.record.is_done() {
            let cancelling = core::mem::take(&mut settled.cancelling);
            self.pending = Some(Box::new(Pending { cancelling, ..Pending::default() }));
        }
        settled
    }
}
