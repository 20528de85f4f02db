//! Chooses the worker for each task. Never gives a worker more than its slots and a short queue, nor an
//! attempt to a worker without a lease and a link.

mod candidates;
mod queue;

use super::{Effect, Fleet, Phase, Timer, Worker};
use crate::{
    AttemptId, GroupName, Revision, TaskId, Time, WorkerId,
    advisory::{Advisory, GroupEvent},
    grant::RequestedGrants,
    lease::{Lease, LeaseState, Offer},
    limit,
    subject::Bucket,
    task::{Attempt, TaskRecord, TaskSpec, TaskState},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use candidates::Candidates;
use core::{cmp::Reverse, ops::Bound, time::Duration};
use queue::Queue;

/// The queued tasks of a group, and its candidates.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Queued tasks that this master owns.
    own: Queue,
    /// Queued tasks that another master owns. This master places them only if the owner does not.
    others: Queue,
    /// Since when there have been free slots that the other masters did not use.
    room_since: Option<Time>,
    /// The dispatched tasks: lowest priority first, and of equal priority the youngest first.
    pub(super) given: BTreeSet<(u8, Reverse<u64>, TaskId)>,
    /// The workers of the group that may be given attempts.
    pub(super) candidates: Candidates,
    /// Whether the event was published that tasks wait and the group has no worker.
    told_empty: bool,
}

/// Which of the two queues of a group a task is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueOwner {
    Own,
    Others,
}

/// What a task requires of a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    memory_bytes: u64,
    selector: BTreeMap<String, String>,
    wants: RequestedGrants,
}

/// The order of queued tasks: by priority; of equal priority, tasks that have had an attempt before
/// those that never had one; then by the time of submission.
type QueueKey = (Reverse<u8>, NeverBegun, u64, TaskId);

/// Whether the task has had no attempt yet.
type NeverBegun = bool;

/// The order in which workers are chosen: unwell workers last, then by attempts per slot, in
/// thousandths. Unwell workers are not left out: the task may not need what the host lacks, and a group
/// whose workers are all unwell still makes progress.
type Load = (IsUnwell, u64);

/// Whether the worker's host lacks something.
type IsUnwell = bool;

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty()
            && self.others.is_empty()
            && self.candidates.is_empty()
            && self.given.is_empty()
    }

    /// The queued tasks.
    #[cfg(test)]
    pub(super) fn queued(&self) -> BTreeSet<TaskId> {
        self.own.ids().union(&self.others.ids()).copied().collect()
    }

    fn queue_of(&self, owner: QueueOwner) -> &Queue {
        match owner {
            QueueOwner::Own => &self.own,
            QueueOwner::Others => &self.others,
        }
    }

    fn queue(&mut self, whose: QueueOwner) -> &mut Queue {
        match whose {
            QueueOwner::Own => &mut self.own,
            QueueOwner::Others => &mut self.others,
        }
    }

    /// The priority of the first task that another master owns and could place. This master leaves a
    /// slot for it, since the slot may have been freed for it by a preemption: a task of much lower
    /// priority in it would be preempted again.
    fn urgent(&self) -> Option<u8> {
        let (key, need) = self.others.head_after(Bound::Unbounded)?;
        self.candidates.choose(need).map(|_| key.0.0)
    }
}

impl Worker {
    /// The lease under which the worker may be given attempts now; `None` if it may not.
    pub(super) fn open_lease(&self) -> Option<&Lease> {
        let lease = self.lease.as_ref()?;
        let linked = self.links.newest_of(lease.session).is_some();
        let may = linked && !self.lost_sent && !self.backoff.is_on();
        (lease.state == LeaseState::Live && may).then_some(lease)
    }

    fn load(&self, lease: &Lease) -> Load {
        let per_slot = self.tasks.len() as u64 * 1_000 / u64::from(lease.offer.slots.max(1));
        (lease.lacks().is_some(), per_slot)
    }

    fn has_room(&self, lease: &Lease) -> bool {
        (self.tasks.len() as u64) < u64::from(self.holds_max(lease))
    }

    /// How many attempts the worker may hold: its slots and a short queue.
    pub(super) fn holds_max(&self, lease: &Lease) -> u32 {
        let slots = lease.offer.slots;
        let ahead = self.run_estimate.runs_in(limit::AHEAD_WORK, slots).min(limit::AHEAD_TASKS_MAX);
        slots.saturating_add(ahead)
    }
}

impl Need {
    pub(super) fn of(spec: &TaskSpec) -> Self {
        Need {
            memory_bytes: spec.limits.memory_bytes,
            selector: spec.selector.clone(),
            wants: spec.grants.requested(),
        }
    }

    pub(super) fn fits(&self, offer: &Offer) -> bool {
        self.memory_bytes <= offer.memory_bytes
            && self.selector.iter().all(|(key, value)| offer.labels.get(key) == Some(value))
            && offer.policy.denies(&self.wants).is_none()
    }
}

fn queue_key(record: &TaskRecord) -> QueueKey {
    (Reverse(record.spec.priority), record.attempts == 0, record.submitted_at.0, record.id)
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
        let Some(task) = self.tasks.get(&id) else { return };
        let whose = self.queue_owner(id, task.revision);
        if task.queued_in.is_some() {
            self.dequeue(id);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.queued_in = Some(whose);
        let end = task.queue_until();
        if end > now {
            self.timers.enqueued(end, id);
        }
        let spec = &task.record.spec;
        let group = self.groups.entry(spec.group.clone()).or_default();
        group.queue(whose).enqueue(Need::of(spec), queue_key(&task.record));
        self.agenda.group(spec.group.clone());
    }

    /// A queued task has another owner now: move it to the other queue.
    pub(super) fn change_queue(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let whose = self.queue_owner(id, task.revision);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(old) = task.queued_in.as_mut().map(|owner| core::mem::replace(owner, whose))
        else {
            return;
        };
        let spec = &task.record.spec;
        let Some(group) = self.groups.get_mut(&spec.group) else { return };
        let (need, key) = (Need::of(spec), queue_key(&task.record));
        group.queue(old).dequeue(&need, &key);
        group.queue(whose).enqueue(need, key);
    }

    /// Takes a task out of its queue, if it is in one.
    pub(super) fn dequeue(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(whose) = task.queued_in.take() else { return };
        self.timers.dequeued(task.queue_until(), id);
        let name = &task.record.spec.group;
        let Some(group) = self.groups.get_mut(name) else { return };
        group.queue(whose).dequeue(&Need::of(&task.record.spec), &queue_key(&task.record));
        if group.is_empty() {
            self.groups.remove(name);
        }
    }

    /// Updates a worker's entry among the candidates after a change of its load or lease.
    pub(super) fn reindex(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let Some(lease) = &worker.lease else { return };
        let name = &lease.offer.group;
        let Some(open) = worker.open_lease() else {
            let name = name.clone();
            return self.deindex(&name, id);
        };
        let room = worker.has_room(open).then(|| worker.load(open));
        let group = self.groups.entry(name.clone()).or_default();
        group.candidates.list(id, &open.offer, room);
        group.told_empty = false;
        if room.is_some() && !(group.own.is_empty() && group.others.is_empty()) {
            self.agenda.group(name.clone());
        }
    }

    /// Removes a worker from the candidates of a group.
    pub(super) fn deindex(&mut self, name: &GroupName, id: &WorkerId) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.candidates.unlist(id);
        if group.is_empty() {
            self.groups.remove(name);
        }
    }

    /// A task takes up one slot of the worker, or a place in its short queue.
    pub(super) fn reserve(&mut self, id: &WorkerId, task: TaskId) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.tasks.insert(task)
        {
            self.reindex(id);
        }
    }

    /// The task does not take up a slot of the worker any more.
    pub(super) fn release(&mut self, id: &WorkerId, task: TaskId) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.tasks.remove(&task)
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
        self.place_queue(now, name, QueueOwner::Own, out);
        self.place_others(now, name, out);
        let Some(group) = self.groups.get_mut(name) else { return };
        // A task that is not stored yet leaves the queue while it is stored, and comes back.
        let head = group.own.first().and_then(|head| self.tasks.get(&head));
        let waits = head.filter(|task| task.revision != crate::ABSENT);
        let Some(id) = waits.map(|task| task.record.id) else { return };
        if !group.candidates.is_empty() {
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
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.candidates.is_full() || group.others.is_empty() {
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
        let urgent =
            self.groups.get(name).filter(|_| owner == QueueOwner::Own).and_then(Group::urgent);
        while let Some(group) = self.groups.get(name)
            && !group.candidates.is_full()
            && let Some((key, need)) = group.queue_of(owner).head_after(after)
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
            if let Some(worker) = group.candidates.choose(need).cloned() {
                self.assign(now, key.3, worker, out);
            }
        }
    }

    fn assign(&mut self, now: Time, id: TaskId, worker: WorkerId, out: &mut Vec<Effect>) {
        let attempt_id = AttemptId(self.stamps.next_nonce());
        let dispatched_at = self.stamps.wall(now);
        let Some(task) = self.tasks.get(&id) else { return };
        debug_assert!(matches!(task.phase, Phase::Idle), "only idle tasks are queued");
        let Some(entry) = self.workers.get(&worker) else { return };
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
            unknown: Default::default(),
        }));
        record.attempts = number;
        self.dequeue(id);
        self.preempted.remove(&id);
        self.reserve(&worker, id);
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

    /// Why no worker of the group may run the task, if workers would fit but for their policies: a
    /// sentence that quotes the policy of one of them.
    pub fn denied(&self, spec: &TaskSpec) -> Option<String> {
        let group = self.groups.get(&spec.group)?;
        let wants = spec.grants.requested();
        let need = Need { wants: RequestedGrants::default(), ..Need::of(spec) };
        let mut denial: Option<(&WorkerId, String)> = None;
        for (offer, workers) in group.candidates.fitting(&need) {
            let why = offer.policy.denies(&wants)?;
            let worker = workers.first()?;
            if denial.as_ref().is_none_or(|(first, _)| worker < *first) {
                denial = Some((worker, why));
            }
        }
        let (worker, why) = denial?;
        let group = &spec.group;
        Some(format!(
            "no worker of group {group} grants what it asks for: the policy of {worker} {why}"
        ))
    }

    /// How many workers of the group may be given attempts now, and how many of them fit the task. For
    /// explanations.
    pub(super) fn fitting(&self, spec: &TaskSpec) -> (usize, usize) {
        let Some(group) = self.groups.get(&spec.group) else { return (0, 0) };
        let need = Need::of(spec);
        let fits = group.candidates.fitting(&need).map(|(_, workers)| workers.len()).sum();
        (group.candidates.len(), fits)
    }
}

/// How long the record's task has to wait until it may be placed.
pub(super) fn wait_of(record: &TaskRecord) -> Duration {
    match record.state {
        TaskState::Queued { wait_ms } => Duration::from_millis(wait_ms),
        _ => Duration::ZERO,
    }
}
