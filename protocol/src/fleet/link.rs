//! Links to workers: which are up, and what a worker has when a link comes up. Never considers a
//! worker lost because it has no link.

use super::{Effect, Fleet, LinkId, Timer, inquiries::Inquiry, reconcile::counted};
use crate::{
    ABSENT, SessionId, TaskId, Time, WorkerId,
    advisory::TaskEvent,
    message::{AttemptKey, HeldAttempt, Hello, ToWorker},
    subject::Bucket,
    task::{Outcome, TaskRecord},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// The links of a worker that are up. There may be more than one while an old one is being closed, and
/// the `Hello`s on them may arrive in any order.
#[derive(Debug, Default)]
pub(super) struct WorkerLinks {
    pub(super) up: BTreeMap<LinkId, SessionId>,
}

impl WorkerLinks {
    pub(super) fn is_empty(&self) -> bool {
        self.up.is_empty()
    }

    pub(super) fn newest(&self) -> Option<LinkId> {
        self.up.last_key_value().map(|(&link, _)| link)
    }

    pub(super) fn newest_of(&self, session: SessionId) -> Option<LinkId> {
        self.up.iter().rev().find(|&(_, &of)| of == session).map(|(&link, _)| link)
    }
}

impl Fleet {
    pub(super) fn linked(&mut self, now: Time, worker: WorkerId, link: LinkId, hello: Hello) {
        let Hello { to, session, attempts, holds, .. } = hello;
        let answers = self.roll.is_loaded() && to == self.config.session;
        let entry = self.worker(now, &worker);
        if answers {
            entry.answered = Some(session);
            self.claim(now, Bucket::Tasks, holds);
        }
        let entry = self.worker(now, &worker);
        let first = entry.links.is_empty();
        entry.links.up.insert(link, session);
        let held: Vec<TaskId> = entry.tasks.iter().copied().collect();
        let known: BTreeSet<AttemptKey> = attempts.iter().map(|held| held.key).collect();
        // Resend missing dispatches at once, even those that another master assigned.
        for id in held {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let attempt = task.record.attempt().filter(|attempt| attempt.session == session);
            // This session cannot speak for attempts of an earlier session.
            let Some(attempt) = attempt.map(|attempt| attempt.id) else { continue };
            let has = known.contains(&AttemptKey { task: id, attempt });
            // Send the revocation again.
            task.told = (has && !task.record.cancel).then_some(link);
            task.lacking = !has;
            self.agenda.task(id);
        }
        for held in attempts {
            if !self.holds(&worker, held.key) {
                self.inquire(now, worker.clone(), link, held, None);
            }
        }
        self.reindex(&worker);
        if first {
            self.linked += 1;
            if self.linked == 1 {
                self.reassign();
            }
        }
    }

    pub(super) fn unlinked(&mut self, worker: WorkerId, link: LinkId) {
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        if entry.links.up.remove(&link).is_some() {
            // Frames on this link may not have arrived: send them again on another link.
            if entry.links.is_empty() {
                self.linked -= 1;
            } else {
                self.agenda.tasks(entry.tasks.iter().copied());
            }
            if self.linked == 0 {
                self.reassign();
            }
            self.reindex(&worker);
            self.dismiss(&worker);
        }
    }

    pub(super) fn inquire(
        &mut self,
        now: Time,
        worker: WorkerId,
        link: LinkId,
        held: HeldAttempt,
        outcome: Option<Outcome>,
    ) {
        let HeldAttempt { key, revision } = held;
        let (after, since) = (self.inquiries.latest_read(), now);
        let first = None;
        let inquiry = Inquiry { worker, link, key, revision, outcome, after, since, first };
        self.inquiries.add(inquiry);
        // Ask even if a read is under way: it may have begun before this question.
        self.timers.set(now, Timer::Inquiry(key.task));
    }

    /// Answers a worker that asked about an attempt which this master did not know.
    pub(super) fn resolve(&mut self, now: Time, inquiry: Inquiry, record: Option<&TaskRecord>) {
        let Inquiry { worker, link, key, revision, outcome, .. } = inquiry;
        if self.holds(&worker, key) {
            if let Some(outcome) = outcome {
                self.finished(now, worker, link, HeldAttempt { key, revision }, outcome);
            } else if let Some(task) = self.tasks.get_mut(&key.task)
                && !task.record.cancel
            {
                task.told = Some(link);
            }
            return;
        }
        let message = match outcome {
            None => {
                let known = self.tasks.get(&key.task).map_or(ABSENT, |task| task.revision);
                let revision = revision.max(known);
                ToWorker::Revoke { key, revision }
            }
            Some(_) => {
                let committed = record.is_some_and(|record| counted(record, key));
                if !committed && let Some(record) = record {
                    let reason = String::from("its attempt is no longer current");
                    self.announce(record, TaskEvent::Refused, None, reason);
                }
                ToWorker::Ack { key, committed }
            }
        };
        self.outbox.push(Effect::Send { link, message });
    }
}
