//! Links to workers: which are up, and what a worker has when a link comes up. Never considers a
//! worker lost because it has no link.

use super::{
    Effect, Fleet, LinkId, Timer,
    inquiries::{Inquiry, TooMany},
    reconcile::counted,
    workers::Linked,
};
use crate::{
    ABSENT, TaskId, Time, WorkerId,
    advisory::TaskEvent,
    api::Transport,
    entitlement::Entitlement,
    message::{AttemptKey, HeldAttempt, Hello, ToWorker},
    subject::Bucket,
    task::{Outcome, TaskRecord},
};
use alloc::{collections::BTreeSet, string::String, sync::Arc, vec::Vec};

impl Fleet {
    pub(super) fn linked(
        &mut self,
        now: Time,
        worker: WorkerId,
        (link, transport): (LinkId, Transport),
        entitlement: Arc<Entitlement>,
        hello: Hello,
    ) {
        let Hello { to, session, attempts, holds, .. } = hello;
        let answers = self.roll.is_loaded() && to == self.config.session;
        let entry = self.worker(now, &worker);
        if answers {
            entry.answered = Some(session);
            self.claim(now, Bucket::Tasks, holds);
        }
        let none_linked = self.workers.linked() == 0;
        self.worker(now, &worker);
        self.workers.link(&worker, link, Linked { session, transport, entitlement });
        let entry = self.worker(now, &worker);
        let held: Vec<TaskId> = entry.tasks().collect();
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
        if none_linked {
            self.reassign();
        }
    }

    pub(super) fn unlinked(&mut self, worker: WorkerId, link: LinkId) {
        let Some(entry) = self.workers.unlink(&worker, link) else { return };
        // Frames on this link may not have arrived: send them again on another link.
        if !entry.links().is_empty() {
            self.agenda.tasks(entry.tasks());
        }
        if self.workers.linked() == 0 {
            self.reassign();
        }
        self.reindex(&worker);
        self.dismiss(&worker);
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
        let (asking, first) = (worker.clone(), None);
        let inquiry = Inquiry { worker, link, key, revision, outcome, after, since, first };
        match self.inquiries.add(now, inquiry) {
            Ok(due) => self.timers.set(due, Timer::Inquiry(key.task)),
            Err(TooMany) => {
                let why = "it asked about too many attempts that this master does not know";
                self.outbox.push(Effect::CloseLink { link, worker: asking, why });
            }
        }
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
