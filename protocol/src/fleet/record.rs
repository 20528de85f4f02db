//! The known record of each task, and how it changes: by the watch, by the answer to a write, and by a
//! read from the leader. Never decides what to do about it (`reconcile` does).

use super::{ASK_AGAIN, ClientReply, Effect, Fleet, Phase, Task, Timer, inquiries::Inquiry};
use crate::{
    ABSENT, Revision, TaskId, Time,
    advisory::TaskEvent,
    lease::CasAnswer,
    limit,
    message::{AttemptKey, ToWorker},
    task::{Attempt, TaskRecord, TaskState},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    string::String,
    sync::Arc,
};
use core::time::Duration;

/// Tombstones: tasks that are over and forgotten, with the revision of their end, until the watch has
/// come that far. Older records that the watch still delivers must not bring them back.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    revisions: BTreeMap<TaskId, Revision>,
    /// In the order in which the ends became known, which is about the order of the revisions.
    oldest: VecDeque<(Revision, TaskId)>,
}

/// The most tombstones that a master keeps: more ends than a watch is ever behind. If there are more,
/// the oldest are dropped, to bound memory. A master whose watch pauses keeps as many.
const TOMBSTONES_MAX: usize = 65_536;

impl Tombstones {
    pub(super) fn add(&mut self, id: TaskId, revision: Revision) {
        self.revisions.insert(id, revision);
        self.oldest.push_back((revision, id));
        if self.oldest.len() > TOMBSTONES_MAX {
            self.drop_oldest();
        }
    }

    /// Whether the task is known to have ended after this revision of it.
    fn is_newer(&self, id: TaskId, revision: Revision) -> bool {
        self.revisions.get(&id).is_some_and(|&end| revision < end)
    }

    /// The watch has delivered this revision, and all before it.
    pub(super) fn caught_up(&mut self, revision: Revision) {
        while self.oldest.front().is_some_and(|&(end, _)| end <= revision) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((end, id)) = self.oldest.pop_front()
            && self.revisions.get(&id) == Some(&end)
        {
            self.revisions.remove(&id);
        }
    }
}

impl Fleet {
    /// A record was delivered; it may be older than the known one.
    pub(super) fn task_seen(&mut self, now: Time, record: Arc<TaskRecord>, revision: Revision) {
        let id = record.id;
        if self.tombstones.is_newer(id, revision) {
            return;
        }
        match self.tasks.get(&id) {
            None if record.is_done() => {}
            None => {
                self.tasks.insert(id, Task::new(record.clone(), ABSENT, now));
                self.adopt(now, record, revision, false);
            }
            Some(task) if revision <= task.revision => {}
            Some(task) => {
                let mine = task.is_mine(&record);
                self.adopt(now, record, revision, mine);
            }
        }
    }

    /// Takes over a newer record, perhaps a write of this master.
    fn adopt(&mut self, now: Time, new: Arc<TaskRecord>, revision: Revision, mine: bool) {
        let id = new.id;
        let Some(task) = self.tasks.get(&id) else { return };
        let old = task.record.clone();
        self.scheduler.replace(Some(&old), Some(&new));
        self.dequeue(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.record = new.clone();
        task.revision = revision;
        task.since = now;
        let settled = task.take_pending();
        let old_worker = old.attempt().map(|attempt| &attempt.worker);
        let current = new.attempt().map(|attempt| attempt.id);
        let is_other = old.attempt().map(|attempt| attempt.id) != current;
        if is_other || old.cancel != new.cancel {
            task.told = None;
        }
        task.lacking &= !is_other;
        let open = !new.is_done();
        let answered = task.report.take_if(|report| open && Some(report.attempt) != current);
        let has_report = task.report.is_some();
        if let Some(report) = answered {
            let message = self.acknowledgement(&new, &report);
            self.outbox.extend(message);
        }
        if mine {
            self.landed(&new);
        }
        self.write_queue.leave(id);
        // The id of a submitted task may belong to another task, perhaps one that is over.
        match old.spec.difference(&new.spec) {
            Some(what) => self.differs(id, what, settled.storing),
            None => self.stored(settled.storing),
        }
        for request in settled.cancelling {
            self.outbox.push(Effect::Reply { request, answer: ClientReply::CancelStored });
        }
        let new_worker = new.attempt().map(|attempt| &attempt.worker);
        if let Some(worker) = old_worker
            && old_worker != new_worker
        {
            self.release(worker, id);
        }
        if let Some(attempt) = new.attempt()
            && !has_report
        {
            self.await_end(now, attempt);
            self.reserve(&attempt.worker, id, new.share());
        }
        self.kept_changed(now, id, old.kept(), new.kept());
        self.learn_of_ended_sessions(&new);
        self.agenda.task(id);
        self.hear(now, id);
    }

    /// Another master may have moved the task from a worker whose lease still seems held here. Without
    /// this, the task is given to that session again and again until its lease is seen.
    fn learn_of_ended_sessions(&mut self, record: &TaskRecord) {
        for past in record.history.iter().filter(|past| past.lost) {
            let Attempt { worker, session, .. } = &past.attempt;
            if self.workers.get_mut(worker).is_some_and(|entry| entry.session_has_ended(*session)) {
                self.reindex(worker);
            }
        }
    }

    /// Workers that asked about the attempt before this master knew it need not wait for a read.
    fn hear(&mut self, now: Time, id: TaskId) {
        let attempt = self.tasks.get(&id).and_then(|task| task.record.attempt());
        let is_known = |inquiry: &Inquiry| {
            attempt.is_some_and(|attempt| {
                attempt.id == inquiry.key.attempt && attempt.worker == inquiry.worker
            })
        };
        for inquiry in self.inquiries.take_known(id, is_known) {
            self.resolve(now, inquiry, None);
        }
    }

    /// Sets a timer for the end of the session that holds the attempt, in case its lease is never seen.
    fn await_end(&mut self, now: Time, attempt: &Attempt) {
        let worker = self.worker(now, &attempt.worker);
        let known = worker.lease.as_ref().map(|lease| lease.session);
        if known != Some(attempt.session) {
            let due = now + worker.wait;
            self.timers.set(due, Timer::Lease(attempt.worker.clone()));
        }
    }

    pub(super) fn task_written(
        &mut self,
        now: Time,
        id: TaskId,
        answer: CasAnswer<Box<TaskRecord>>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Phase::Writing(intent) = &task.phase else { return };
        let intent = intent.clone();
        let known = task.revision;
        task.phase = Phase::Idle;
        self.write_queue.end();
        match answer {
            CasAnswer::Written(revision) if revision > known => {
                self.adopt(now, intent, revision, true);
            }
            // The watch delivered the write before the answer came, and perhaps later ones.
            CasAnswer::Written(_) => {
                self.abandon(id, &intent);
                self.agenda.task(id);
            }
            CasAnswer::Conflict(found) => {
                // The conflict may be with this very write, if it was sent twice.
                task.doubt(intent.write);
                self.abandon(id, &intent);
                self.conflicted(now, id, known, found);
            }
            CasAnswer::Gone(mark) if mark > known => {
                self.abandon(id, &intent);
                self.vanished(id);
            }
            CasAnswer::Gone(_) => {
                self.abandon(id, &intent);
                self.missing(now, id);
            }
            CasAnswer::Unknown => {
                task.phase = Phase::Asking;
                task.doubt(intent.write);
                self.abandon(id, &intent);
                self.timers.set(now, Timer::Task(id));
            }
        }
    }

    /// A write was refused because the record's revision is not the known one.
    fn conflicted(
        &mut self,
        now: Time,
        id: TaskId,
        known: Revision,
        found: Option<(Box<TaskRecord>, Revision)>,
    ) {
        match &found {
            None if known != ABSENT => self.missing(now, id),
            Some((_, revision)) if *revision > known => self.task_read(now, id, found),
            // The read record is not the one that the write conflicted with: the reader was behind. Ask
            // it later.
            _ => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.phase = Phase::Asking;
                }
                self.timers.set(now + ASK_AGAIN, Timer::Task(id));
            }
        }
    }

    /// A write did not meet the known record. The leader of the stream may be behind and not have the
    /// record yet; a record that it lacks for long is gone.
    fn missing(&mut self, now: Time, id: TaskId) {
        let is_alone = self.leader_lag().is_zero();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.is_missing(now) || is_alone {
            return self.vanished(id);
        }
        task.phase = Phase::Asking;
        self.timers.set(now + ASK_AGAIN, Timer::Task(id));
    }

    /// How long the leader of a stream may be behind. A single server has everything that it
    /// acknowledged.
    pub(super) fn leader_lag(&self) -> Duration {
        if self.config.server.is_some() { Duration::ZERO } else { limit::LEADER_LAG_MAX }
    }

    /// A write of this master is in the registry: publish what it means.
    fn landed(&mut self, intent: &TaskRecord) {
        match &intent.state {
            TaskState::Done { outcome, attempt, .. } => {
                self.ended(intent, outcome.clone(), attempt.as_ref());
            }
            TaskState::Dispatched(attempt) if !intent.cancel => {
                let (what, reason) = match intent.history.last() {
                    None => (TaskEvent::Dispatched, String::new()),
                    Some(past) if past.lost => (TaskEvent::Redispatched, past.reason.clone()),
                    Some(past) => (TaskEvent::Dispatched, past.reason.clone()),
                };
                self.announce(intent, what, Some(attempt), reason);
            }
            // This is an older story if only a worker is kept free now.
            TaskState::Queued { kept: Some(_), .. } => {}
            TaskState::Queued { kept: None, .. } => {
                if let Some(past) = intent.history.last().filter(|past| !past.lost) {
                    let reason = past.reason.clone();
                    self.announce(intent, TaskEvent::Retried, Some(&past.attempt), reason);
                }
            }
            TaskState::Dispatched(_) => {}
        }
    }

    /// A write did not land, as far as is known: release the worker's place.
    fn abandon(&mut self, id: TaskId, intent: &TaskRecord) {
        let Some(task) = self.tasks.get(&id) else { return };
        let held = task.record.attempt().map(|attempt| attempt.worker.clone());
        if let Some(kept) = intent.kept()
            && task.record.kept() != Some(kept)
        {
            self.keep_no_more(&kept.worker, id);
        }
        if let Some(attempt) = intent.attempt()
            && held.as_ref() != Some(&attempt.worker)
        {
            self.release(&attempt.worker, id);
        }
    }

    /// The leader's answer about a task, after a conflict, an unanswered write or an inquiry.
    ///
    /// The answer may be older than what is known by now. So a missing record only means that the task
    /// was never stored; if a known record is gone, the next write will show it.
    pub(super) fn task_read(
        &mut self,
        now: Time,
        id: TaskId,
        found: Option<(Box<TaskRecord>, Revision)>,
    ) {
        let found = found.map(|(record, revision)| (Arc::<TaskRecord>::from(record), revision));
        if let Some(task) = self.tasks.get_mut(&id)
            && !matches!(task.phase, Phase::Writing(_))
        {
            task.phase = Phase::Idle;
        }
        match found {
            Some((record, revision)) => {
                let newer = self.tasks.get(&id).is_some_and(|task| revision > task.revision);
                self.task_seen(now, record, revision);
                if !newer {
                    self.agenda.task(id);
                }
            }
            None => {
                if let Some(task) = self.tasks.get(&id)
                    && task.is_idle()
                {
                    if task.revision == ABSENT {
                        self.write_queue.wait(id);
                    }
                    self.agenda.task(id);
                }
            }
        }
    }

    /// The leader's answer to a read. It answers questions from before the read was sent, and none from
    /// after.
    pub(super) fn task_answered(
        &mut self,
        now: Time,
        id: TaskId,
        read: u64,
        found: Option<(Box<TaskRecord>, Revision)>,
    ) {
        let record = found.as_ref().map(|(record, _)| record.clone());
        let shown = found.as_ref().map_or(ABSENT, |&(_, revision)| revision);
        // In a cluster, a server may take itself for the leader and lack the record that dispatched the
        // attempt. It steps down after a while; what the leader lacks then is lost.
        let is_answered = |inquiry: &Inquiry| {
            let behind = shown < inquiry.revision;
            let is_late = inquiry.first.is_some_and(|first| first <= read);
            inquiry.after < read && (!behind || is_late)
        };
        let (answered, due) = self.inquiries.take_answered(now, id, read, is_answered);
        if let Some(due) = due {
            self.timers.set(due, Timer::Inquiry(id));
        }
        self.task_read(now, id, found);
        for inquiry in answered {
            self.resolve(now, inquiry, record.as_deref());
        }
    }

    /// The registry has no record of a known task any more: someone removed it.
    fn vanished(&mut self, id: TaskId) {
        self.dequeue(id);
        let Some(mut task) = self.tasks.remove(&id) else { return };
        self.scheduler.replace(Some(&task.record), None);
        self.write_queue.leave(id);
        let pending = task.pending.take().unwrap_or_default();
        let deleted = String::from("somebody has deleted this task's key; submit it again");
        for request in pending.storing {
            self.requests.end(request);
            let answer = ClientReply::Unavailable(deleted.clone());
            self.outbox.push(Effect::Reply { request, answer });
        }
        if let Some(report) = &task.report {
            let message = self.acknowledgement(&task.record, report);
            self.outbox.extend(message);
        } else if let Some(attempt) = task.record.attempt()
            && let Some(link) =
                self.workers.get(&attempt.worker).and_then(|worker| worker.links().newest())
        {
            let key = AttemptKey { task: id, attempt: attempt.id };
            let message = ToWorker::Revoke { key, revision: task.revision };
            self.outbox.push(Effect::Send { link, message });
        }
        if let Some(attempt) = task.record.attempt() {
            self.release(&attempt.worker, id);
        }
        if let Some(kept) = task.record.kept() {
            self.keep_no_more(&kept.worker, id);
        }
        for request in pending.cancelling {
            self.outbox.push(Effect::Reply { request, answer: ClientReply::CancelStored });
        }
    }
}
