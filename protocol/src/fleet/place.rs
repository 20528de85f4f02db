//! Chooses the worker for each task. Never gives a worker more than its slots and a short queue, nor an
//! attempt to a worker without a lease and a link.

mod alone;
mod candidates;
mod queue;
mod scheduler;
mod why;

use super::{Effect, Fleet, Phase, Timer, workers::Load};
use crate::{
    AttemptId, GroupName, Revision, TaskId, Time, WorkerId,
    advisory::{Advisory, GroupEvent},
    grant::RequestedGrants,
    lease::Offer,
    limit,
    occupancy::Share,
    subject::Bucket,
    task::{Attempt, TaskRecord, TaskSpec, TaskState},
};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use candidates::Candidates;
use core::{ops::Bound, time::Duration};
use queue::Queue;
use scheduler::QueueKey;
pub(super) use scheduler::{QueueOwner, Scheduler};

/// What a task requires of a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    memory_bytes: u64,
    /// Whether nothing else may run on the worker.
    alone: bool,
    selector: BTreeMap<String, String>,
    wants: RequestedGrants,
}

impl Need {
    pub(super) fn of(record: &TaskRecord) -> Self {
        Need { alone: record.is_suspect(), ..Need::of_spec(&record.spec) }
    }

    fn of_spec(spec: &TaskSpec) -> Self {
        Need {
            alone: false,
            memory_bytes: spec.limits.memory_bytes,
            selector: spec.selector.clone(),
            wants: spec.requested(),
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    pub(super) fn fits(&self, offer: &Offer) -> bool {
        self.memory_bytes <= offer.run_memory_max()
            && self.selector.iter().all(|(key, value)| offer.labels.get(key) == Some(value))
            && offer.policy.denies(&self.wants).is_none()
    }
}

/// What a worker that may hold another attempt has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) load: Load,
    /// The most memory that the other attempt may have, in bytes.
    pub(super) memory_free: u64,
}

impl Fleet {
    /// The queue that a task belongs in. A task that is not stored yet belongs to the master it was
    /// submitted to.
    pub(super) fn queue_owner(&self, id: TaskId, revision: Revision) -> QueueOwner {
        if revision == crate::ABSENT || self.is_mine(id) {
            QueueOwner::Own
        } else {
            QueueOwner::Others
        }
    }

    /// Puts a queued task into its queue.
    pub(super) fn enqueue(&mut self, now: Time, id: TaskId) {
        self.dequeue(id);
        let Some(task) = self.tasks.get(&id) else { return };
        let owner = self.queue_owner(id, task.revision);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.queued_in = Some(owner);
        let end = task.queue_until();
        if end > now {
            self.timers.enqueued(end, id);
        }
        self.scheduler.enqueue(&task.record, owner);
        self.agenda.group(task.record.spec.group.clone());
    }

    /// A queued task has another owner now: move it to the other queue.
    pub(super) fn change_queue(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let owner = self.queue_owner(id, task.revision);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(old) = task.queued_in.replace(owner) else { return };
        if old != owner {
            self.scheduler.enqueue(&task.record, owner);
            self.scheduler.dequeue(&task.record, old);
        }
    }

    /// Takes a task out of its queue, if it is in one.
    pub(super) fn dequeue(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(owner) = task.queued_in.take() else { return };
        self.timers.dequeued(task.queue_until(), id);
        self.scheduler.dequeue(&task.record, owner);
    }

    /// Updates a worker's entry among the candidates after a change of its load or lease.
    pub(super) fn reindex(&mut self, id: &WorkerId) {
        self.reconsider_kept(id);
        let Some(worker) = self.workers.get(id) else { return };
        let Some(lease) = &worker.lease else { return };
        let Some(open) = worker.open_lease() else {
            return self.scheduler.unlist(&lease.offer.group, id);
        };
        if self.scheduler.list(id, &open.offer, worker.room(open)) {
            self.agenda.group(open.offer.group.clone());
        }
    }

    /// A task takes up one slot of the worker, or a place in its short queue.
    pub(super) fn reserve(&mut self, id: &WorkerId, task: TaskId, share: Share) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.hold(task, share)
        {
            self.reindex(id);
        }
    }

    /// The task does not take up a slot of the worker any more.
    pub(super) fn release(&mut self, id: &WorkerId, task: TaskId) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.let_go(task)
        {
            self.reindex(id);
        }
    }

    /// Places tasks in every group in which something has changed.
    pub(super) fn place(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.is_guarded(now) {
            return;
        }
        while self.write_queue.has_room()
            && let Some(name) = self.agenda.pop_group()
        {
            self.place_group(now, &name, out);
        }
    }

    fn place_group(&mut self, now: Time, name: &GroupName, out: &mut Vec<Effect>) {
        self.place_kept(now, name, out);
        self.place_queue(now, name, QueueOwner::Own, out);
        self.place_others(now, name, out);
        let Some(group) = self.scheduler.group_mut(name) else { return };
        // A task that is not stored yet leaves the queue while it is stored, and comes back.
        let head = group.queue(QueueOwner::Own).first().and_then(|head| self.tasks.get(&head));
        let waits = head.filter(|task| task.revision != crate::ABSENT);
        let Some(id) = waits.map(|task| task.record.id) else { return };
        if !group.candidates().is_empty() {
            return self.preempt_for(name, id, out);
        }
        if !group.told_empty {
            group.told_empty = true;
            out.push(Effect::Publish(Advisory::Group {
                group: name.clone(),
                what: GroupEvent::Empty,
                reason: String::from("tasks wait for this group and it has no worker"),
            }));
        }
    }

    /// Places tasks of other masters that have left slots unused for the takeover delay.
    fn place_others(&mut self, now: Time, name: &GroupName, out: &mut Vec<Effect>) {
        let Some(group) = self.scheduler.group_mut(name) else { return };
        if group.candidates().is_full() || group.queue(QueueOwner::Others).is_empty() {
            group.room_since = None;
            return;
        }
        let from = *group.room_since.get_or_insert(now) + limit::PATIENCE;
        if now < from {
            self.timers.set(from, Timer::Group(name.clone()));
        } else {
            self.place_queue(now, name, QueueOwner::Others, out);
        }
    }

    fn place_queue(
        &mut self,
        now: Time,
        name: &GroupName,
        owner: QueueOwner,
        out: &mut Vec<Effect>,
    ) {
        // Slots only get fewer in this loop. So a class of tasks that fits no free slot need not be
        // tried again, and the next key is always greater than the last.
        let mut after = Bound::Unbounded;
        let urgent = self
            .scheduler
            .group(name)
            .filter(|_| owner == QueueOwner::Own)
            .and_then(|group| group.urgent());
        while let Some(group) = self.scheduler.group(name)
            && !group.candidates().is_full()
            && let Some((key, need)) = group.queue(owner).head_after(after)
        {
            if !self.write_queue.has_room() {
                self.agenda.group(name.clone());
                return;
            }
            if urgent.is_some_and(|priority| key.0.0.saturating_add(limit::PREEMPT_GAP) <= priority)
            {
                return;
            }
            after = Bound::Excluded(key);
            if let Some(worker) = group.candidates().choose(need).cloned() {
                self.assign(now, key.3, worker, out);
            } else if need.alone && owner == QueueOwner::Own {
                let need = need.clone();
                self.keep_a_worker(now, name, &need, key.3, out);
            }
        }
    }

    fn assign(&mut self, now: Time, id: TaskId, worker: WorkerId, out: &mut Vec<Effect>) {
        let attempt_id = AttemptId(self.stamps.next_nonce());
        let dispatched_at = self.stamps.wall(now);
        let Some(task) = self.tasks.get(&id) else { return };
        debug_assert!(matches!(task.phase, Phase::Idle), "only idle tasks are queued");
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        entry.placed();
        let Some(session) = entry.lease.as_ref().map(|lease| lease.session) else { return };
        let lease = entry.revision;
        let lease_stream = self.roll.stream(Bucket::Workers);
        let number = task.record.attempts + 1;
        let mut record = task.record.in_state(TaskState::Dispatched(Attempt {
            id: attempt_id,
            number,
            worker: worker.clone(),
            session,
            lease,
            lease_stream,
            dispatched_at,
            alone: task.record.is_suspect(),
            to_silent: entry.is_silent(now),
            unknown: Default::default(),
        }));
        record.attempts = number;
        self.dequeue(id);
        self.scheduler.needs_no_room(id);
        self.reserve(&worker, id, record.share());
        self.write(now, id, record, None, out);
    }

    /// Stores submitted tasks that could not be placed at once.
    pub(super) fn store_the_rest(&mut self, now: Time, out: &mut Vec<Effect>) {
        while self.write_queue.has_room()
            && let Some(id) = self.write_queue.pop()
        {
            let Some(task) = self.tasks.get(&id) else { continue };
            if task.is_idle() && task.revision == crate::ABSENT {
                let record = TaskRecord::clone(&task.record);
                self.dequeue(id);
                self.write(now, id, record, None, out);
            }
        }
    }
}

/// How long the record's task has to wait until it may be placed.
pub(super) fn wait_of(record: &TaskRecord) -> Duration {
    match record.state {
        TaskState::Queued { wait_ms, .. } => Duration::from_millis(wait_ms),
        _ => Duration::ZERO,
    }
}
