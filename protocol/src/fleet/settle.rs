//! What to do about one task, from its record and what is known of its worker. Never decides who
//! gets it (that is `place`), and writes nothing while a write of the same task is under way.

use super::{Answer, Effect, Fleet, Inquiry, LinkId, Phase, Report, Task, Timer, place};
use crate::{
    ABSENT, Revision, TaskId, Time, WorkerId,
    advisory::{Advisory, TaskEvent},
    lease::CasAnswer,
    message::{AttemptKey, Dispatch, ToWorker},
    task::{Attempt, Outcome, State, TaskRecord, Verdict},
};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

impl Fleet {
    /// Looks at every task about which something has changed.
    pub(super) fn settle(&mut self, now: Time, out: &mut Vec<Effect>) {
        while self.may_write()
            && let Some(id) = self.dirty.pop_first()
        {
            self.settle_one(now, id, out);
            out.append(&mut self.outbox);
        }
    }

    fn settle_one(&mut self, now: Time, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get(&id) else { return };
        if !task.is_idle() {
            return;
        }
        let record = task.record.clone();
        match &record.state {
            State::Done { .. } => self.forget(id, out),
            State::Queued { .. } if record.cancel || task.cancel_wanted => {
                self.step_out(&record);
                let outcome = Arc::new(Outcome::bare(Verdict::Cancelled));
                self.commit(now, id, &record, outcome, None, out);
            }
            State::Queued { .. } if now < task.not_before => {
                self.timers.insert((task.not_before, Timer::Task(id)));
            }
            State::Queued { .. } => self.line_up(id),
            State::Dispatched(attempt) => self.settle_dispatched(now, id, &record, attempt, out),
        }
    }

    fn settle_dispatched(
        &mut self,
        now: Time,
        id: TaskId,
        record: &TaskRecord,
        attempt: &Attempt,
        out: &mut Vec<Effect>,
    ) {
        let over = self.is_over(now, &attempt.worker, attempt.session);
        let link = self
            .workers
            .get(&attempt.worker)
            .and_then(|worker| worker.link)
            .filter(|link| link.session == attempt.session)
            .map(|link| link.id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let Some(report) = &task.report
            && report.attempt == attempt.id
        {
            let outcome = report.outcome.clone();
            return self.conclude(now, id, record, attempt, outcome, out);
        }
        if over {
            return self.bereave(now, id, record, attempt, out);
        }
        if task.cancel_wanted && !record.cancel {
            let record = TaskRecord { cancel: true, ..record.clone() };
            return self.write(id, record, None, out);
        }
        let Some(link) = link else { return };
        let key = AttemptKey { task: id, attempt: attempt.id };
        if record.cancel {
            if task.revoked != Some(link) {
                task.revoked = Some(link);
                out.push(Effect::Send { link, message: ToWorker::Revoke(key) });
            }
        } else if task.sent != Some(link) {
            task.sent = Some(link);
            out.push(Effect::Send { link, message: dispatch(key, record, attempt) });
        }
    }

    /// A finished task needs to be known no longer.
    fn forget(&mut self, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.remove(&id) else { return };
        if let Some(report) = &task.report {
            let message = self.acknowledgement(&task.record, report);
            out.extend(message);
        }
        for request in task.cancelling {
            out.push(Effect::Reply { request, answer: Answer::CancelStored });
        }
    }

    /// Tells a worker what became of the outcome it reported. It hears it again if it asks again.
    fn acknowledgement(&self, record: &TaskRecord, report: &Report) -> Option<Effect> {
        let link = self.workers.get(&report.worker)?.link?;
        let key = AttemptKey { task: record.id, attempt: report.attempt };
        let committed = counted(record, key);
        Some(Effect::Send { link: link.id, message: ToWorker::Ack { key, committed } })
    }

    pub(super) fn finished(
        &mut self,
        now: Time,
        worker: WorkerId,
        link: LinkId,
        key: AttemptKey,
        outcome: Outcome,
    ) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.pace.count(outcome.run_us);
        }
        if !self.is_current(key) {
            self.take(&worker, key.task);
            let inquiry = Inquiry { worker, link, key, outcome: Some(outcome) };
            return self.inquire(now, inquiry);
        }
        if let Some(task) = self.tasks.get_mut(&key.task) {
            let outcome = Arc::new(outcome);
            task.report = Some(Report { attempt: key.attempt, worker: worker.clone(), outcome });
            self.dirty.insert(key.task);
            // Its slot is free, whenever the outcome is committed.
            self.take(&worker, key.task);
        }
    }

    pub(super) fn task_seen(&mut self, now: Time, record: TaskRecord, revision: Revision) {
        let id = record.id;
        match self.tasks.get(&id) {
            None if record.is_done() => {}
            None => {
                self.tasks.insert(id, Task::new(Arc::new(record.clone()), ABSENT));
                self.adopt(now, record, revision);
            }
            Some(task) if revision <= task.revision => {}
            Some(_) => self.adopt(now, record, revision),
        }
    }

    /// Takes a newer record for the truth.
    fn adopt(&mut self, now: Time, record: TaskRecord, revision: Revision) {
        let id = record.id;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let old = core::mem::replace(&mut task.record, Arc::new(record));
        task.revision = revision;
        task.not_before = now + place::wait_of(&task.record);
        let new = task.record.clone();
        let storing = core::mem::take(&mut task.storing);
        let cancelled =
            (new.cancel || new.is_done()).then(|| core::mem::take(&mut task.cancelling));
        let old_worker = old.attempt().map(|attempt| &attempt.worker);
        let current = new.attempt().map(|attempt| attempt.id);
        if old.attempt().map(|attempt| attempt.id) != current {
            task.sent = None;
            task.revoked = None;
        }
        let settled = !new.is_done();
        let answered = task.report.take_if(|report| settled && Some(report.attempt) != current);
        let has_report = task.report.is_some();
        if let Some(report) = answered {
            let message = self.acknowledgement(&new, &report);
            self.outbox.extend(message);
        }
        self.unstored.remove(&id);
        self.stored(storing);
        for request in cancelled.unwrap_or_default() {
            self.outbox.push(Effect::Reply { request, answer: Answer::CancelStored });
        }
        if matches!(old.state, State::Queued { .. }) {
            self.step_out(&old);
        }
        let new_worker = new.attempt().map(|attempt| &attempt.worker);
        if let Some(worker) = old_worker
            && old_worker != new_worker
        {
            self.take(worker, id);
        }
        if let Some(worker) = new_worker
            && !has_report
        {
            self.worker(now, worker);
            self.give(worker, id);
            self.await_end(now, worker, new.attempt());
        }
        self.dirty.insert(id);
    }

    /// Makes sure that the end of the session that holds an attempt is noticed even if its lease
    /// is never seen.
    fn await_end(&mut self, now: Time, worker: &WorkerId, attempt: Option<&Attempt>) {
        let Some(entry) = self.workers.get(worker) else { return };
        let known = entry.lease.as_ref().map(|lease| lease.session);
        if known != attempt.map(|attempt| attempt.session) {
            self.timers.insert((now + entry.wait, Timer::Lease(worker.clone())));
        }
    }

    pub(super) fn task_written(
        &mut self,
        now: Time,
        id: TaskId,
        answer: CasAnswer<Box<TaskRecord>>,
    ) {
        self.writing = self.writing.saturating_sub(1);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Phase::Writing(intent) = core::mem::replace(&mut task.phase, Phase::Idle) else {
            return;
        };
        match answer {
            CasAnswer::Written(revision) => {
                self.landed(&intent);
                self.adopt(now, TaskRecord::clone(&intent), revision);
            }
            CasAnswer::Conflict(found) => {
                self.abandon(id, &intent);
                self.task_read(now, id, found);
            }
            CasAnswer::Unknown => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.phase = Phase::Asking;
                }
                self.abandon(id, &intent);
                self.timers.insert((now, Timer::Task(id)));
            }
        }
    }

    /// A write of this master is in the registry: what it means to the world.
    fn landed(&mut self, intent: &TaskRecord) {
        match &intent.state {
            State::Done { outcome, attempt, .. } => {
                self.ended(intent, outcome.clone(), attempt.as_ref());
            }
            State::Dispatched(attempt) if !intent.cancel => {
                let (what, reason) = match intent.history.last() {
                    None => (TaskEvent::Dispatched, String::new()),
                    Some(past) => (TaskEvent::Redispatched, past.reason.clone()),
                };
                self.announce(intent, what, Some(attempt), reason);
            }
            _ => {}
        }
    }

    /// A write did not land, as far as is known: its worker's place is free again.
    fn abandon(&mut self, id: TaskId, intent: &TaskRecord) {
        let Some(task) = self.tasks.get(&id) else { return };
        let held = task.record.attempt().map(|attempt| attempt.worker.clone());
        if let Some(attempt) = intent.attempt()
            && held.as_ref() != Some(&attempt.worker)
        {
            self.take(&attempt.worker, id);
        }
    }

    /// What the leader says of a task, after a conflict, an unknown outcome or an inquiry.
    pub(super) fn task_read(
        &mut self,
        now: Time,
        id: TaskId,
        found: Option<(Box<TaskRecord>, Revision)>,
    ) {
        let inquiries = self.inquiries.remove(&id).unwrap_or_default();
        let record = found.as_ref().map(|(record, _)| record.as_ref().clone());
        if let Some(task) = self.tasks.get_mut(&id)
            && !matches!(task.phase, Phase::Writing(_))
        {
            task.phase = Phase::Idle;
        }
        match found {
            Some((record, revision)) => {
                // One's own write, whose acknowledgement was lost, is known by its nonce.
                let newer = self.tasks.get(&id).is_some_and(|task| revision > task.revision);
                self.task_seen(now, *record, revision);
                if !newer {
                    self.dirty.insert(id);
                }
            }
            None => self.vanished(id),
        }
        for inquiry in inquiries {
            self.resolve(now, inquiry, record.as_ref());
        }
    }

    /// The registry has no record of a task: it was not stored, or has been over for long.
    fn vanished(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if matches!(task.phase, Phase::Writing(_)) {
            return;
        }
        if task.revision == ABSENT {
            self.unstored.insert(id);
            self.dirty.insert(id);
        } else {
            let record = task.record.clone();
            self.step_out(&record);
            if let Some(attempt) = record.attempt() {
                self.take(&attempt.worker, id);
            }
            self.tasks.remove(&id);
        }
    }

    /// Answers a worker that spoke of an attempt which this master did not know.
    fn resolve(&mut self, now: Time, inquiry: Inquiry, record: Option<&TaskRecord>) {
        let Inquiry { worker, link, key, outcome } = inquiry;
        if self.is_current(key) {
            if let Some(outcome) = outcome {
                self.finished(now, worker, link, key, outcome);
            } else if let Some(task) = self.tasks.get_mut(&key.task) {
                task.sent = Some(link);
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

    pub(super) fn announce(
        &mut self,
        record: &TaskRecord,
        what: TaskEvent,
        attempt: Option<&Attempt>,
        reason: String,
    ) {
        self.outbox.push(Effect::Publish(Advisory::Task {
            task: record.id,
            group: record.spec.group.clone(),
            what,
            attempt: attempt.map(|attempt| attempt.id),
            worker: attempt.map(|attempt| attempt.worker.clone()),
            reason,
        }));
    }
}

fn dispatch(key: AttemptKey, record: &TaskRecord, attempt: &Attempt) -> ToWorker {
    let spec = &record.spec;
    ToWorker::Dispatch(Dispatch {
        key,
        number: attempt.number,
        module: spec.module.digest,
        input: spec.input.clone(),
        args: spec.args.clone(),
        limits: spec.limits,
    })
}

/// Whether the outcome that this attempt reported is in the record: as the task's own, or as the
/// reason why another attempt followed.
fn counted(record: &TaskRecord, key: AttemptKey) -> bool {
    let decided = matches!(&record.state, State::Done { attempt: Some(attempt), .. } if attempt.id == key.attempt);
    decided || record.history.iter().any(|past| past.attempt.id == key.attempt && !past.lost)
}
