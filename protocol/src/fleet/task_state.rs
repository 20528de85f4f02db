//! What a master knows of a task that is not over. There may be a million of them, most of which wait:
//! what those do not need is kept apart. Never decides what follows.

use super::{LinkId, RequestId, place};
use crate::{
    AttemptId, Nonce, Revision, Time, WorkerId,
    task::{Outcome, TaskRecord},
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::time::Duration;

/// Writes of one revision that a master knows again; they follow each other at
/// [`ASK_AGAIN`](super::ASK_AGAIN).
const UNSURE_MAX: usize = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Task {
    /// The newest known record; before the first write, what will be stored.
    pub(super) record: Arc<TaskRecord>,
    pub(super) revision: Revision,
    pub(super) phase: Phase,
    /// When the newest record became known.
    pub(super) since: Time,
    /// In whose line it is, while it is in one.
    pub(super) queued_in: Option<place::QueueOwner>,
    /// What its worker says an attempt came to; kept until it is committed or refused.
    pub(super) report: Option<Box<OutcomeReport>>,
    /// The link on which its worker was told what the record says of the current attempt: to run it
    /// or, once the task is to be cancelled, to stop it.
    pub(super) told: Option<LinkId>,
    /// Its worker has said that it does not have it.
    pub(super) lacking: bool,
    pub(super) cancel_wanted: bool,
    pub(super) pending: Option<Box<Pending>>,
}

/// What waits for the next record of a task.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Clients who wait for it to be stored, or for its cancellation to be.
    pub(super) storing: Vec<RequestId>,
    pub(super) cancelling: Vec<RequestId>,
    /// The nonces of this master's writes of the present revision whose answers were lost: one of
    /// them may have landed.
    unsure: Vec<Nonce>,
    /// Since when the registry does not show the record that is known; and whether the write under way was
    /// sent when no leader could be behind it any more.
    missing: Option<(Time, bool)>,
}

/// The end of an attempt, not yet committed.
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
    /// The outcome of a write is unknown; the record is being read, or will be.
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

    /// From when it may be given to a worker, if it waits.
    pub(super) fn not_before(&self) -> Time {
        self.since + place::wait_of(&self.record)
    }

    /// Until when it may wait for a worker, if it waits.
    pub(super) fn queue_until(&self) -> Time {
        self.not_before() + Duration::from_millis(self.record.spec.limits.queue_ms)
    }

    /// Whether a record that is newer than the known one is a write of this master.
    pub(super) fn is_mine(&self, new: &TaskRecord) -> bool {
        let writing = matches!(&self.phase, Phase::Writing(intent) if intent.write == new.write);
        writing || self.pending.as_ref().is_some_and(|known| known.unsure.contains(&new.write))
    }

    /// A write of this master may have landed, or may yet.
    pub(super) fn doubt(&mut self, write: Nonce) {
        let unsure = &mut self.pending.get_or_insert_default().unsure;
        if unsure.len() == UNSURE_MAX {
            unsure.remove(0);
        }
        unsure.push(write);
    }

    /// A write is sent; a leader may be behind for so long.
    pub(super) fn sends(&mut self, now: Time, patience: Duration) {
        if let Some((since, late)) = self.pending.as_mut().and_then(|known| known.missing.as_mut())
        {
            *late = now >= *since + patience;
        }
    }

    /// The write that was sent last did not meet the record that is known. Whether no leader can have been
    /// behind when it was sent: what is refused late is no proof of it.
    pub(super) fn is_missing(&mut self, now: Time) -> bool {
        self.pending.get_or_insert_default().missing.get_or_insert((now, false)).1
    }

    /// What waited for the record that is known now, and for nothing more.
    pub(super) fn take_pending(&mut self) -> Pending {
        let mut settled = self.pending.take().map_or_else(Pending::default, |pending| *pending);
        if !settled.cancelling.is_empty() && !self.record.cancel && !self.record.is_done() {
            let cancelling = core::mem::take(&mut settled.cancelling);
            self.pending = Some(Box::new(Pending { cancelling, ..Pending::default() }));
        }
        settled
    }
}
