//! Checks that a task moves away from a worker that cannot prepare any attempt. In some worlds one
//! worker stays in that state for good, after everything else has healed.

use crate::world::{Nanos, SECOND, SimEvent, World};
use muster_protocol::{TaskId, lease::LeaseState, registry::FailoverGuard, task::TaskRecord};
use std::collections::{BTreeMap, btree_map::Entry};

/// Two masters each try the worker until it is in backoff: three attempts, each returned after five
/// tries that are one second apart. The rest is margin.
const MOVES_WITHIN: Nanos = 40 * SECOND;

/// The worker that cannot prepare any attempt, and the tasks that were dispatched to it.
#[derive(Debug, Default)]
pub struct Moves {
    sick: Option<usize>,
    /// From this time on nothing else keeps a task from moving to another worker.
    from: Nanos,
    guarded: bool,
    /// Tasks that were dispatched to the worker and to no other worker since, with the time of that
    /// dispatch.
    stuck: BTreeMap<TaskId, Nanos>,
}

impl World {
    /// One worker stays unable to prepare any attempt; everything else is well from the time `from` on.
    /// With `says_so` the worker knows about the shortage and reports it.
    pub fn stays_unwell(&mut self, at: usize, from: Nanos, says_so: bool) {
        self.workers[at].unwell_until = Nanos::MAX;
        self.workers[at].says_so = says_so;
        self.checker.moves.sick = Some(at);
        self.checker.moves.from = from;
    }

    /// While a failover guard is raised no task moves.
    pub(super) fn moves_guarded(&mut self, guard: &FailoverGuard) {
        let moves = &mut self.checker.moves;
        moves.guarded = !guard.lifted;
        moves.from = moves.from.max(self.now);
    }

    /// A new session of a worker holds its lease: from now on it may be given tasks.
    pub(super) fn moves_session_began(&mut self) {
        let moves = &mut self.checker.moves;
        moves.from = moves.from.max(self.now);
    }

    /// The registry has accepted a task record.
    pub(super) fn moves_committed(&mut self, record: &TaskRecord) {
        let Some(sick) = self.checker.moves.sick else { return };
        let stuck = &mut self.checker.moves.stuck;
        match record.attempt() {
            Some(attempt) if attempt.worker == self.workers[sick].name => {
                if let Entry::Vacant(new) = stuck.entry(record.id) {
                    new.insert(self.now);
                    self.later(MOVES_WITHIN, SimEvent::MoveDue(record.id));
                }
            }
            Some(_) => drop(stuck.remove(&record.id)),
            None if record.is_done() => drop(stuck.remove(&record.id)),
            None => {}
        }
    }

    /// Checks, some time after a task was dispatched to the unwell worker, that the task has moved.
    pub fn a_task_moves_while_another_worker_fits(&mut self, task: TaskId) {
        let moves = &self.checker.moves;
        let (Some(&since), Some(sick)) = (moves.stuck.get(&task), moves.sick) else { return };
        let free_since = |at: usize| self.free_since(at).filter(|_| at != sick);
        let free = (0..self.workers.len()).filter_map(free_since).min();
        let from = free.filter(|_| !moves.guarded).map(|free| free.max(since).max(moves.from));
        let due = from.unwrap_or(self.now) + MOVES_WITHIN;
        if self.now < due {
            return self.at(due, SimEvent::MoveDue(task));
        }
        self.violate("a_task_moves_while_another_worker_fits", || {
            format!("{task} stays with worker {sick} from {:.3} s on", since as f64 / SECOND as f64)
        });
    }

    /// The time since when a worker has had a free slot; `None` if it takes no tasks or has no free
    /// slot.
    fn free_since(&self, at: usize) -> Option<Nanos> {
        let worker = &self.workers[at];
        let lease = self.registry.workers.values.get(&worker.name).map(|(lease, _)| lease);
        let holds = lease.is_some_and(|lease| {
            lease.state == LeaseState::Live && lease.session == worker.lease_loop.session()
        });
        let takes = worker.process.alive && holds;
        let is_full = worker.runs.len() >= crate::process::worker::SLOTS as usize;
        (takes && !is_full).then_some(worker.full_until)
    }
}
