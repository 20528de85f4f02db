//! Links to workers: which are up, and what workers say of their attempts when one comes up. Never
//! takes a worker for lost because it has no link.

use super::{Effect, Fleet, LinkId, Timer, settle::counted};
use crate::{
    SessionId, TaskId, Time, WorkerId,
    advisory::TaskEvent,
    message::{AttemptKey, ToWorker},
    task::{Outcome, TaskRecord},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// The links of a worker that are up. More than one while an old one is being given up, and the
/// greetings on them may come in any order.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) up: BTreeMap<LinkId, SessionId>,
}

impl Links {
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

/// A worker's word about an attempt that this master does not know; the record will tell.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) worker: WorkerId,
    pub(super) link: LinkId,
    pub(super) key: AttemptKey,
    pub(super) outcome: Option<Outcome>,
}

impl Fleet {
    pub(super) fn linked(
        &mut self,
        now: Time,
        worker: WorkerId,
        link: LinkId,
        session: SessionId,
        attempts: Vec<AttemptKey>,
    ) {
        let entry = self.worker(now, &worker);
        let first = entry.links.is_empty();
        entry.links.up.insert(link, session);
        let held: Vec<TaskId> = entry.tasks.iter().copied().collect();
        let known: BTreeSet<AttemptKey> = attempts.iter().copied().collect();
        // Who lacks what was given to it is told at once, whoever gave it.
        for id in held {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let attempt = task.record.attempt().filter(|attempt| attempt.session == session);
            // What an earlier session had, this one cannot speak of.
            let Some(attempt) = attempt.map(|attempt| attempt.id) else { continue };
            let has = known.contains(&AttemptKey { task: id, attempt });
            // Whoever is to stop it is told so again.
            task.told = (has && !task.record.cancel).then_some(link);
            task.lacking = !has;
            self.dirty.insert(id);
        }
        for key in attempts {
            if !self.holds(&worker, key) {
                self.inquire(now, Inquiry { worker: worker.clone(), link, key, outcome: None });
            }
        }
        self.refit(&worker);
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
            // What was said on it may not have arrived, and is said again on another that is up.
            if entry.links.is_empty() {
                self.linked -= 1;
            } else {
                self.dirty.extend(entry.tasks.iter().copied());
            }
            if self.linked == 0 {
                self.reassign();
            }
            self.refit(&worker);
            self.dismiss(&worker);
        }
    }

    pub(super) fn inquire(&mut self, now: Time, inquiry: Inquiry) {
        let task = inquiry.key.task;
        let waiting = self.inquiries.entry(task).or_default();
        if waiting.is_empty() {
            self.timers.insert((now, Timer::Inquiry(task)));
        }
        let same =
            |known: &&mut Inquiry| (&known.worker, known.key) == (&inquiry.worker, inquiry.key);
        if let Some(known) = waiting.iter_mut().find(same) {
            known.link = inquiry.link;
            known.outcome = inquiry.outcome.or(known.outcome.take());
        } else {
            waiting.push(inquiry);
        }
    }

    /// Answers a worker that spoke of an attempt which this master did not know.
    pub(super) fn resolve(&mut self, now: Time, inquiry: Inquiry, record: Option<&TaskRecord>) {
        let Inquiry { worker, link, key, outcome } = inquiry;
        if self.holds(&worker, key) {
            if let Some(outcome) = outcome {
                self.finished(now, worker, link, key, outcome);
            } else if let Some(task) = self.tasks.get_mut(&key.task)
                && !task.record.cancel
            {
                task.told = Some(link);
            }
            return;
        }
        let message = match outcome {
            None => ToWorker::Revoke(key),
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
