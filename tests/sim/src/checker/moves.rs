//! That a task gets away from a worker which can get nothing ready. Once everything else has healed one
//! worker may stay as it is, for good.

use crate::world::{Nanos, SECOND, SimEvent, World};
use muster_protocol::{TaskId, lease::LeaseState, registry::FailoverGuard, task::TaskRecord};
use std::collections::{BTreeMap, btree_map::Entry};

/// Two masters each try the worker until it gets a rest: three attempts, each given back after five tries
/// that are a second apart. And a few seconds for the rest.
const MOVES_WITHIN: Nanos = 40 * SECOND;

/// A worker that can get nothing ready, and the tasks that it was given.
#[derive(Debug, Default)]
pub struct Moves {
    sick: Option<usize>,
    /// From when on nothing else keeps a task from going elsewhere.
    from: Nanos,
    guarded: bool,
    /// Since when a task has been given to nobody else.
    stuck: BTreeMap<TaskId, Nanos>,
}

impl World {
    /// A worker stays unable to get anything ready, and says so or does not know why; all else is well from
    /// then on.
    pub fn stays_unwell(&mut self, at: usize, from: Nanos, says_so: bool) {
        self.workers[at].unwell_until = Nanos::MAX;
        self.workers[at].says_so = says_so;
        self.checker.moves.sick = Some(at);
        self.checker.moves.from = from;
    }

    /// Under a guard nothing goes anywhere.
    pub(super) fn moves_guarded(&mut self, guard: &FailoverGuard) {
        let moves = &mut self.checker.moves;
        moves.guarded = !guard.lifted;
        moves.from = moves.from.max(self.now);
    }

    /// A record is in the registry.
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

    /// A task was given to the sick worker a while ago.
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

    /// Since when a worker has had a free slot, if it takes tasks.
    fn free_since(&self, at: usize) -> Option<Nanos> {
        let worker = &self.workers[at];
        let takes = worker.process.alive && self.standing(at) == Some(LeaseState::Live);
        let is_full = worker.runs.len() >= crate::process::worker::SLOTS as usize;
        (takes && !is_full).then_some(worker.full_until)
    }
}
