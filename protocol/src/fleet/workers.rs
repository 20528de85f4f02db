//! The workers that a master knows, with their links. Never decides about them.
//!
//! Invariants: `linked` is the number of workers that have a link; a worker with a link or a task is not
//! forgotten.

use super::{LinkId, RequestId, backoff, place::Room};
use crate::{
    ABSENT, Revision, SessionId, TaskId, Time, WorkerId,
    api::Transport,
    entitlement::Entitlement,
    lease::{Lease, LeaseState},
    limit,
    occupancy::{Occupancy, Share},
    run_estimate::RunEstimate,
};
use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Workers {
    known: BTreeMap<WorkerId, Worker>,
    linked: usize,
}

/// What this master knows of a worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) lease: Option<Lease>,
    /// What the lease offers although the certificate of the link does not permit it.
    denied: Option<String>,
    pub(super) revision: Revision,
    /// When this master first saw the newest lease value.
    pub(super) seen: Time,
    /// When this master first saw the current session.
    pub(super) session_seen: Time,
    /// When this master, as the worker's home, last extended the lease.
    pub(super) extended: Time,
    /// The longest wait that any lease of this worker has asked for.
    pub(super) wait: Duration,
    /// The session of the worker that has answered the roll call.
    pub(super) answered: Option<SessionId>,
    /// This master has sent a `lost` against the newest lease value; the write may land at any time.
    pub(super) lost_sent: bool,
    /// That write is not answered yet.
    pub(super) declaring: bool,
    /// Whether this master declared the newest lease value lost.
    pub(super) declared_here: bool,
    /// A session that is over, as the record of a task says. This master's watch of the leases may be
    /// behind.
    ended: Option<SessionId>,
    /// Requests that wait until the worker has obeyed a command, and the lease state that shows it.
    pub(super) commands: Vec<(RequestId, LeaseState)>,
    links: WorkerLinks,
    /// Tasks that are dispatched to it or being dispatched, and whose outcome is not known.
    tasks: BTreeMap<TaskId, Share>,
    /// What these take of it together.
    occupancy: Occupancy,
    /// Suspects for which a session of it is kept free.
    kept_for: BTreeMap<TaskId, SessionId>,
    /// How many attempts it might hold when this master last placed a task there.
    held_max: u32,
    pub(super) run_estimate: RunEstimate,
    pub(super) backoff: backoff::WorkerBackoff,
}

/// The links of a worker that are up. There may be more than one while an old one is being closed, and
/// the `Hello`s on them may arrive in any order.
#[derive(Debug, Default)]
pub(super) struct WorkerLinks(BTreeMap<LinkId, Linked>);

/// What came up with a link: the session, what carries the link, and what the certificate permits it to
/// offer.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) session: SessionId,
    pub(super) transport: Transport,
    pub(super) entitlement: Arc<Entitlement>,
}

/// How workers are ordered when one is chosen: unwell workers last, then by attempts per slot, in
/// thousandths, rounded up: 0 means that it has none. Unwell workers are not left out: the task may not need
/// what the host lacks, and a group whose workers are all unwell still makes progress.
pub(super) type Load = (IsUnwell, u64);

/// Whether the worker's host lacks something.
pub(super) type IsUnwell = bool;

impl Workers {
    pub(super) fn get(&self, id: &WorkerId) -> Option<&Worker> {
        self.known.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &WorkerId) -> Option<&mut Worker> {
        self.known.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        self.known.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Worker> {
        self.known.values()
    }

    /// The worker of this name; one that was not known has no lease, and this wait.
    pub(super) fn meet(&mut self, now: Time, id: &WorkerId, wait: Duration) -> &mut Worker {
        self.known.entry(id.clone()).or_insert_with(|| Worker::unknown(now, wait))
    }

    /// How many workers have a link to this master.
    pub(super) fn linked(&self) -> usize {
        self.linked
    }

    /// A link of a known worker came up.
    pub(super) fn link(&mut self, id: &WorkerId, link: LinkId, linked: Linked) {
        let Some(worker) = self.known.get_mut(id) else { return };
        self.linked += usize::from(worker.links.is_empty());
        worker.links.0.insert(link, linked);
        worker.look_at_entitlement();
    }

    /// A link went down. Returns the worker if that link was up.
    pub(super) fn unlink(&mut self, id: &WorkerId, link: LinkId) -> Option<&Worker> {
        let worker = self.known.get_mut(id)?;
        worker.links.0.remove(&link)?;
        self.linked -= usize::from(worker.links.is_empty());
        worker.look_at_entitlement();
        Some(worker)
    }

    /// Forgets a worker, unless it has a link or a task.
    pub(super) fn forget(&mut self, id: &WorkerId) {
        if self.get(id).is_some_and(Worker::is_idle) {
            self.known.remove(id);
        }
    }

    #[cfg(test)]
    pub(super) fn audit(&self) {
        let linked = self.known.values().filter(|worker| !worker.links.is_empty());
        assert_eq!(self.linked, linked.count());
    }
}

impl Worker {
    fn unknown(now: Time, wait: Duration) -> Self {
        Worker {
            lease: None,
            denied: None,
            revision: ABSENT,
            seen: now,
            session_seen: now,
            extended: Time::ZERO,
            wait,
            answered: None,
            lost_sent: false,
            declaring: false,
            declared_here: false,
            ended: None,
            commands: Vec::new(),
            links: WorkerLinks::default(),
            tasks: BTreeMap::new(),
            occupancy: Occupancy::default(),
            kept_for: BTreeMap::new(),
            held_max: 0,
            run_estimate: RunEstimate::default(),
            backoff: backoff::WorkerBackoff::default(),
        }
    }

    pub(super) fn links(&self) -> &WorkerLinks {
        &self.links
    }

    /// Whether the worker has neither a link nor a task.
    pub(super) fn is_idle(&self) -> bool {
        self.links.is_empty() && self.tasks.is_empty()
    }

    /// The lease, while its state says that the worker holds it.
    pub(super) fn held_lease(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.state.is_held())
    }

    /// Compares the lease with the certificate of its session's link. Call it when either has changed.
    pub(super) fn look_at_entitlement(&mut self) {
        self.denied = self.lease.as_ref().and_then(|lease| {
            let (_, linked) = self.links.newest_with(lease.session)?;
            linked.entitlement.denies(lease)
        });
    }

    /// The record of a task says that this session of the worker is over. Returns whether its lease seems
    /// held although it is.
    pub(super) fn session_has_ended(&mut self, session: SessionId) -> bool {
        let is_news = self.ended != Some(session)
            && self.held_lease().is_some_and(|lease| lease.session == session);
        if is_news {
            self.ended = Some(session);
        }
        is_news
    }

    /// Why the worker may not be given attempts under its certificate, as a text that continues a
    /// sentence after "the certificate".
    pub(super) fn denied(&self) -> Option<&str> {
        self.denied.as_deref()
    }

    /// The lease under which the worker may be given attempts now; `None` if it may not.
    pub(super) fn open_lease(&self) -> Option<&Lease> {
        let lease = self.lease.as_ref()?;
        let linked = self.links.newest_of(lease.session).is_some();
        let is_over = self.lost_sent || self.ended == Some(lease.session);
        let may = linked && self.denied.is_none() && !is_over && !self.backoff.is_on();
        (lease.state == LeaseState::Live && may).then_some(lease)
    }

    /// The room of the worker, if it may hold another attempt.
    pub(super) fn room(&self, lease: &Lease) -> Option<Room> {
        let held = self.tasks.len() as u64;
        let is_full = held >= u64::from(self.holds_max(lease));
        if is_full || self.occupancy.has_alone() || self.is_kept_for(lease.session).is_some() {
            return None;
        }
        let per_slot = (held * 1_000).div_ceil(u64::from(lease.offer.slots.max(1)));
        let load = (lease.lacks().is_some(), per_slot);
        Some(Room { load, memory_free: self.memory_free(lease, None) })
    }

    /// The most memory that another attempt may have, once the attempt `gone` has ended.
    pub(super) fn memory_free(&self, lease: &Lease, gone: Option<Share>) -> u64 {
        let free = |total| self.occupancy.memory_free_without(gone, lease.offer.slots, total);
        lease.offer.memory_total.map_or(u64::MAX, free)
    }

    /// The suspect for which this session of the worker is kept free: the first one if there are several.
    pub(super) fn is_kept_for(&self, session: SessionId) -> Option<TaskId> {
        self.kept_for.iter().find(|&(_, of)| *of == session).map(|(&task, _)| task)
    }

    /// The suspects for which the worker is kept free, in any session.
    pub(super) fn kept_for(&self) -> impl Iterator<Item = TaskId> {
        self.kept_for.keys().copied()
    }

    /// This session of the worker is kept free for the task.
    pub(super) fn keep_for(&mut self, task: TaskId, session: SessionId) {
        self.kept_for.insert(task, session);
    }

    /// The worker is not kept free for the task any more.
    pub(super) fn keep_no_more(&mut self, task: TaskId) {
        self.kept_for.remove(&task);
    }

    /// Tasks that are dispatched to it or being dispatched, and whose outcome is not known.
    pub(super) fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys().copied()
    }

    /// What such a task takes of the worker.
    pub(super) fn share_of(&self, task: TaskId) -> Option<Share> {
        self.tasks.get(&task).copied()
    }

    pub(super) fn has_no_task(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether an attempt has to be alone there, other than that of the task `gone`.
    pub(super) fn has_alone_but(&self, gone: TaskId) -> bool {
        self.occupancy.has_alone() && !self.share_of(gone).is_some_and(|share| share.alone)
    }

    /// A task is dispatched to it. Returns whether that was not known.
    pub(super) fn hold(&mut self, task: TaskId, share: Share) -> bool {
        let is_new = !self.tasks.contains_key(&task);
        if is_new {
            self.tasks.insert(task, share);
            self.occupancy.add(share);
        }
        is_new
    }

    /// The task is not dispatched to it any more. Returns whether it was.
    pub(super) fn let_go(&mut self, task: TaskId) -> bool {
        let share = self.tasks.remove(&task);
        if let Some(share) = share {
            self.occupancy.remove(share);
        }
        share.is_some()
    }

    /// Whether a renewal is long overdue: by half of the time after which the worker is declared lost.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        now >= self.seen.max(self.extended) + self.wait / 2
    }

    /// A task is being placed there.
    pub(super) fn placed(&mut self) {
        self.held_max = self.lease.as_ref().map_or(0, |lease| self.holds_max(lease));
    }

    /// How many attempts the worker may hold, as a dispatch tells it: no fewer than when its task was
    /// placed, though runs may take longer by now. Otherwise the worker would return attempts, and get
    /// none for a while.
    pub(super) fn held_max(&self) -> u32 {
        let now = self.lease.as_ref().map_or(u32::MAX, |lease| self.holds_max(lease));
        now.max(self.held_max)
    }

    /// How many attempts the worker may hold: its slots and a short queue.
    fn holds_max(&self, lease: &Lease) -> u32 {
        let slots = lease.offer.slots;
        let ahead = self.run_estimate.runs_in(limit::AHEAD_WORK, slots).min(limit::AHEAD_TASKS_MAX);
        slots.saturating_add(ahead)
    }
}

impl WorkerLinks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, link: LinkId) -> bool {
        self.0.contains_key(&link)
    }

    pub(super) fn newest(&self) -> Option<LinkId> {
        self.0.last_key_value().map(|(&link, _)| link)
    }

    /// What carries the newest link.
    pub(super) fn transport(&self) -> Option<Transport> {
        self.0.last_key_value().map(|(_, linked)| linked.transport)
    }

    fn newest_with(&self, session: SessionId) -> Option<(&LinkId, &Linked)> {
        self.0.iter().rev().find(|(_, linked)| linked.session == session)
    }

    pub(super) fn newest_of(&self, session: SessionId) -> Option<LinkId> {
        self.newest_with(session).map(|(&link, _)| link)
    }
}
