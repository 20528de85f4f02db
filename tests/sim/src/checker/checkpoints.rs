//! Checks the checkpoints of attempts: no checkpoint is replaced by an older one, no acknowledged
//! checkpoint is lost, and an attempt whose checkpoint is refused is not current and does not end its
//! task.

use crate::world::World;
use muster_protocol::{
    AttemptId, TaskId,
    checkpoint::Checkpoint,
    message::AttemptKey,
    task::{Attempt, Data, Outcome, TaskRecord, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};

/// One use of a task id, with the time of its submission: an id may be used again.
type Incarnation = (TaskId, u64);

/// A checkpoint of one use of a task id: the number of its attempt, and its number within that attempt.
type Count = (u32, u64);

/// What the checker knows of checkpoints. See the [module](self).
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// The attempts that any record has named: the use of the task id, and the number of the attempt.
    stored: BTreeMap<AttemptId, (Incarnation, u32)>,
    /// The newest checkpoint that was acknowledged to its attempt.
    kept: BTreeMap<Incarnation, Count>,
    /// The highest number of an attempt that has received the checkpoint of an earlier one.
    resumed: BTreeMap<Incarnation, u32>,
    /// Attempts whose checkpoint was refused.
    refused: BTreeSet<AttemptId>,
}

impl Checkpoints {
    /// A record names an attempt.
    pub fn names(&mut self, record: &TaskRecord, attempt: &Attempt) {
        let incarnation = (record.id, record.submitted_at.0);
        self.stored.insert(attempt.id, (incarnation, attempt.number));
    }

    /// Whether a record has ever named this attempt.
    pub fn knows(&self, attempt: AttemptId) -> bool {
        self.stored.contains_key(&attempt)
    }

    fn place_of(&self, state: Option<Data>) -> Option<(Incarnation, Count)> {
        let Data::Inline(bytes) = state? else { return None };
        let (attempt, save) = bytes.split_first_chunk::<8>()?;
        let (incarnation, number) = *self.stored.get(&AttemptId(u64::from_be_bytes(*attempt)))?;
        Some((incarnation, (number, u64::from_be_bytes(*save.first_chunk()?))))
    }
}

impl World {
    /// The registry has accepted a checkpoint.
    pub fn checkpoint_committed(
        &mut self,
        key: AttemptKey,
        old: Option<Checkpoint>,
        new: &Checkpoint,
    ) {
        self.say(|_| format!("registry: checkpoint {} of try {}", new.save, new.number));
        let incarnation = (key.task, new.submitted_at.0);
        let resumed = self.checker.checkpoints.resumed.get(&incarnation).copied().unwrap_or(0);
        let own = old.filter(|old| old.submitted_at == new.submitted_at);
        let another = |old: &Checkpoint| {
            old.number > new.number || (old.number == new.number && old.attempt != new.attempt)
        };
        if (own.as_ref().is_some_and(another) || new.number < resumed) && !self.has_lost() {
            self.violate("no_checkpoint_goes_back", || format!("{key:?}: {new:?} over {own:?}"));
        }
    }

    /// An attempt receives the acknowledgement of its checkpoint.
    pub fn checkpoint_acknowledged(&mut self, key: AttemptKey, save: u64) {
        let checkpoints = &mut self.checker.checkpoints;
        let Some(&(incarnation, number)) = checkpoints.stored.get(&key.attempt) else { return };
        let kept = checkpoints.kept.entry(incarnation).or_default();
        *kept = (number, save).max(*kept);
    }

    /// An attempt receives the checkpoint of earlier attempts, or learns that there is none.
    pub fn checkpoint_resumed(&mut self, key: AttemptKey, state: Option<Data>) {
        self.counters.resumed += u64::from(state.is_some());
        let checkpoints = &mut self.checker.checkpoints;
        let Some(&(incarnation, number)) = checkpoints.stored.get(&key.attempt) else { return };
        let resumed = checkpoints.resumed.entry(incarnation).or_default();
        *resumed = number.max(*resumed);
        let place = checkpoints.place_of(state);
        let newest = checkpoints.kept.get(&incarnation).copied().filter(|kept| kept.0 < number);
        if place.is_some_and(|(of, _)| of != incarnation) {
            return self.violate("no_checkpoint_of_another_task_is_resumed", || {
                format!("{key:?} begins from {place:?}")
            });
        }
        if place.map(|(_, count)| count) < newest && !self.has_lost() {
            self.violate("the_next_attempt_begins_from_the_newest_checkpoint", || {
                format!("{key:?} begins from {place:?}, not {newest:?}")
            });
        }
    }

    /// An attempt learns that it is not current.
    pub fn refusal_heard(&mut self, key: AttemptKey) {
        self.counters.checkpoints_refused += 1;
        self.checker.checkpoints.refused.insert(key.attempt);
        let record = self.registry.tasks.values.get(&key.task);
        let current = record.and_then(|(record, _)| record.attempt());
        if current.is_some_and(|current| current.id == key.attempt) && !self.has_lost() {
            self.violate("no_checkpoint_of_the_current_attempt_is_refused", || format!("{key:?}"));
        }
    }

    /// A task has ended with the outcome of this attempt.
    pub(super) fn a_refused_checkpoint_ends_no_task(
        &mut self,
        attempt: &Attempt,
        outcome: &Outcome,
    ) {
        let refused = self.checker.checkpoints.refused.contains(&attempt.id);
        if refused && outcome.verdict != Verdict::Cancelled {
            self.violate("a_refused_checkpoint_ends_no_task", || format!("{attempt:?}"));
        }
    }
}
