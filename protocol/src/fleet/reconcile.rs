//! Decides what to do about one task, from its record and what is known of its worker. Never chooses
//! the worker (`place` does), and writes nothing while a write of the same task is under way.

use super::{ClientReply, Effect, Fleet, LinkId, OutcomeReport, Timer};
use crate::{
    TaskId, Time, WorkerId,
    advisory::{Advisory, TaskChange, TaskEvent},
    message::{AttemptKey, Dispatch, HeldAttempt, ToWorker},
    registry::Mark,
    subject::Bucket,
    task::{Attempt, LimitName, Outcome, TaskRecord, TaskSpec, TaskState, Verdict},
};
use alloc::{boxed::Box, string::String, sync::Arc, vec, vec::Vec};

impl Fleet {
    /// Reconsiders every task about which something has changed.
    pub(super) fn reconcile(&mut self, now: Time, out: &mut Vec<Effect>) {
        while self.write_queue.has_room()
            && let Some(id) = self.agenda.pop_task()
        {
            self.reconcile_one(now, id, out);
            out.append(&mut self.outbox);
        }
    }

    fn reconcile_one(&mut self, now: Time, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get(&id) else { return };
        if !task.is_idle() {
            return;
        }
        let record = task.record.clone();
        let (cancel_wanted, not_before) = (task.cancel_wanted, task.not_before());
        let queue_until = task.queue_until();
        let is_queued = matches!(record.state, TaskState::Queued { .. });
        let cancelled = is_queued && (cancel_wanted || (record.cancel && self.is_turn(now, id)));
        match &record.state {
            TaskState::Done { .. } => self.forget(id, out),
            TaskState::Queued { .. } if cancelled => {
                self.dequeue(id);
                let outcome = Arc::new(Outcome::bare(Verdict::Cancelled));
                self.commit(now, id, &record, outcome, None, out);
            }
            // Another master ends it.
            TaskState::Queued { .. } if record.cancel => {}
            TaskState::Queued { .. } if now >= queue_until && self.is_turn(now, id) => {
                self.dequeue(id);
                let max = record.spec.limits.queue_ms;
                let verdict = Verdict::OverLimit { limit: LimitName::QueueMs.into(), max };
                self.commit(now, id, &record, Arc::new(Outcome::bare(verdict)), None, out);
            }
            TaskState::Queued { .. } if now < not_before => {
                self.timers.set(not_before, Timer::Task(id));
            }
            TaskState::Queued { .. } => self.enqueue(now, id),
            TaskState::Dispatched(attempt) => {
                self.reconcile_dispatched(now, id, &record, attempt, out)
            }
        }
    }

    fn reconcile_dispatched(
        &mut self,
        now: Time,
        id: TaskId,
        record: &TaskRecord,
        attempt: &Attempt,
        out: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get(&id) else { return };
        if let Some(report) = &task.report
            && report.attempt == attempt.id
        {
            let outcome = report.outcome.clone();
            return self.take_outcome(now, id, record, attempt, outcome, out);
        }
        if self.is_over(now, attempt, task.revision) {
            let from = self.moved_from(id, attempt);
            if now >= from {
                return self.on_worker_lost(now, id, record, attempt, out);
            }
            self.timers.set(from, Timer::Task(id));
            return;
        }
        if task.cancel_wanted && !record.cancel {
            let record = TaskRecord { cancel: true, ..record.clone() };
            return self.write(now, id, record, None, out);
        }
        let is_held = self.is_guarded(now);
        let Some(worker) = self.workers.get(&attempt.worker) else { return };
        let link = worker.links().newest_of(attempt.session);
        let Some(link) = link.filter(|_| !is_held) else { return };
        if task.told.is_some_and(|told| worker.links().has(told)) {
            return;
        }
        // The master that wrote the record sends the dispatch; the others only if that master does not.
        let speaks = self.turn_of(id, record.writer, task.since);
        if now < speaks && !task.lacking {
            self.timers.set(speaks, Timer::Task(id));
            return;
        }
        let key = AttemptKey { task: id, attempt: attempt.id };
        let message = if record.cancel {
            ToWorker::Revoke { key, revision: task.revision }
        } else {
            let given = Mark { stream: self.roll.stream(Bucket::Tasks), revision: task.revision };
            dispatch(&record.spec, attempt, key, given, worker.held_max())
        };
        out.push(Effect::Send { link, message });
        if let Some(task) = self.tasks.get_mut(&id) {
            task.lacking = false;
            task.told = Some(link);
        }
    }

    /// Whether this master may act on the record now; if not, sets a timer for when it may.
    fn is_turn(&mut self, now: Time, id: TaskId) -> bool {
        let Some(task) = self.tasks.get(&id) else { return false };
        let from = self.turn_of(id, task.record.writer, task.since);
        if now < from {
            self.timers.set(from, Timer::Task(id));
        }
        now >= from
    }

    /// Forgets a task that is over.
    fn forget(&mut self, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.scheduler.needs_no_room(id);
        self.tombstones.add(id, task.revision);
        if let Some(report) = &task.report {
            let message = self.acknowledgement(&task.record, report);
            out.extend(message);
        }
        for request in task.pending.unwrap_or_default().cancelling {
            out.push(Effect::Reply { request, answer: ClientReply::CancelStored });
        }
    }

    /// Acknowledges the outcome that a worker reported. The worker asks again if the acknowledgement is
    /// lost.
    pub(super) fn acknowledgement(
        &self,
        record: &TaskRecord,
        report: &OutcomeReport,
    ) -> Option<Effect> {
        // The worker waits for the answer on the link on which it reported.
        let links = self.workers.get(&report.worker)?.links();
        let link = if links.has(report.link) { report.link } else { links.newest()? };
        let key = AttemptKey { task: record.id, attempt: report.attempt };
        let committed = counted(record, key);
        Some(Effect::Send { link, message: ToWorker::Ack { key, committed } })
    }

    pub(super) fn finished(
        &mut self,
        now: Time,
        worker: WorkerId,
        link: LinkId,
        held: HeldAttempt,
        outcome: Outcome,
    ) {
        let key = held.key;
        if !self.holds(&worker, key) {
            return self.inquire(now, worker, link, held, Some(outcome));
        }
        self.count_returns(now, &worker, &outcome.verdict);
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.run_estimate.count(outcome.run_us);
        }
        if let Some(task) = self.tasks.get_mut(&key.task) {
            let (attempt, outcome) = (key.attempt, Arc::new(outcome));
            let report = OutcomeReport { attempt, worker: worker.clone(), link, outcome };
            task.report = Some(Box::new(report));
            self.agenda.task(key.task);
            // The worker's slot is free, even if the outcome is not committed yet.
            self.release(&worker, key.task);
        }
    }

    pub(super) fn announce(
        &mut self,
        record: &TaskRecord,
        what: TaskEvent,
        attempt: Option<&Attempt>,
        reason: String,
    ) {
        let news = TaskChange {
            task: record.id,
            attempt: attempt.map(|attempt| attempt.id),
            worker: attempt.map(|attempt| attempt.worker.clone()),
            reason,
        };
        self.outbox.push(Effect::Publish(Advisory::Tasks {
            group: record.spec.group.clone(),
            what,
            audience: record.audience(),
            tasks: vec![news],
        }));
    }
}

/// The dispatch frame for an attempt.
fn dispatch(
    spec: &TaskSpec,
    attempt: &Attempt,
    key: AttemptKey,
    given: Mark,
    held_max: u32,
) -> ToWorker {
    ToWorker::Dispatch(Dispatch {
        key,
        session: attempt.session,
        revision: given.revision,
        stream: given.stream,
        held_max,
        alone: attempt.alone,
        number: attempt.number,
        module: spec.module.digest,
        signature: spec.signature.clone(),
        trace: spec.trace,
        input: spec.input.clone(),
        args: spec.args.clone(),
        limits: spec.limits,
        grants: spec.grants.clone(),
    })
}

/// Whether the record contains the outcome of this attempt: as the task's end, or as the reason for
/// another attempt.
pub(super) fn counted(record: &TaskRecord, key: AttemptKey) -> bool {
    let decided = matches!(&record.state, TaskState::Done { attempt: Some(attempt), .. } if attempt.id == key.attempt);
    decided || record.history.iter().any(|past| past.attempt.id == key.attempt && !past.lost)
}
