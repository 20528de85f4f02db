//! Checkpoints: the value under a task's id in the checkpoints bucket, and which attempt may change it.
//! Never goes back to an earlier attempt.
//!
//! A write to this bucket cannot be conditional on the task's record, which is in another bucket. Order
//! replaces the condition: attempts are numbered, every write is a compare-and-set, and an attempt that
//! resumes first writes its own number into the checkpoint. From then on every write of an earlier
//! attempt conflicts.

mod request;

pub use request::{Next, Request, Stale, Waiting, Want};

use crate::{
    AttemptId,
    record::{Unknown, record},
    task::Data,
    time::WallMillis,
};
use serde::{Deserialize, Serialize};

/// The newest checkpoint of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// When the task was accepted. An id may be used again once its record is gone; a checkpoint of an
    /// earlier task with this id is ignored.
    #[serde(rename = "born")]
    pub submitted_at: WallMillis,
    /// The attempt that wrote it last.
    pub attempt: AttemptId,
    /// The number of that attempt, from 1.
    pub number: u32,
    /// The number of the checkpoint within its attempt, from 1; 0 if the attempt has only taken over
    /// the state of an earlier attempt.
    pub save: u64,
    /// The state of the guest; absent if no attempt has saved one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Data>,
    /// When it was saved, on the wall clock of the master that wrote it. For people: no decision
    /// uses it.
    pub saved_at: WallMillis,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(Checkpoint);

/// The attempt that saves or resumes, as the task's record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// When the task was accepted, by its record.
    pub submitted_at: WallMillis,
    /// The attempt, by the task's record.
    pub attempt: AttemptId,
    /// The number of the attempt, from 1.
    pub number: u32,
}

/// What to do after reading the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this, if the value has not changed since.
    Write(Checkpoint),
    /// The checkpoint is saved already.
    Done,
    /// A later attempt has written the checkpoint.
    Stale,
}

/// An attempt saves its state; `save` is the number of the checkpoint within the attempt.
pub fn save(
    found: Option<&Checkpoint>,
    asker: Asker,
    save: u64,
    state: Data,
    now: WallMillis,
) -> Step {
    match asker.own(found) {
        Some(found) if asker.is_behind(found) => Step::Stale,
        // This very checkpoint was saved and its acknowledgement lost.
        Some(found) if found.number == asker.number && found.save >= save => Step::Done,
        // Unknown fields of the previous checkpoint describe its state; the new one does not have them.
        _ => asker.write(save, Some(state), now, Unknown::default()),
    }
}

/// An attempt resumes: it takes over what earlier attempts saved.
pub fn resume(found: Option<&Checkpoint>, asker: Asker, now: WallMillis) -> Step {
    match asker.own(found) {
        Some(found) if asker.is_behind(found) => Step::Stale,
        Some(found) if found.number == asker.number => Step::Done,
        found => {
            let unknown = found.map(|found| found.unknown.clone()).unwrap_or_default();
            asker.write(0, found.and_then(|found| found.state.clone()), now, unknown)
        }
    }
}

impl Asker {
    /// The checkpoint that was found, if it belongs to the same task.
    fn own(self, found: Option<&Checkpoint>) -> Option<&Checkpoint> {
        found.filter(|found| found.submitted_at == self.submitted_at)
    }

    /// Whether a later attempt has written the checkpoint, or another attempt with this number. A
    /// registry that lost its newest writes may have given the number twice; the attempt that wrote
    /// first keeps it.
    fn is_behind(self, found: &Checkpoint) -> bool {
        found.number > self.number || (found.number == self.number && found.attempt != self.attempt)
    }

    fn write(self, save: u64, state: Option<Data>, saved_at: WallMillis, unknown: Unknown) -> Step {
        let Asker { submitted_at, attempt, number } = self;
        Step::Write(Checkpoint { submitted_at, attempt, number, save, state, saved_at, unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const NOW: WallMillis = WallMillis(1);

    const BORN: WallMillis = WallMillis(0);

    fn asker(attempt: u64, number: u32) -> Asker {
        Asker { submitted_at: BORN, attempt: AttemptId(attempt), number }
    }

    fn state(text: &'static str) -> Data {
        Data::Inline(Bytes::from_static(text.as_bytes()))
    }

    fn written(step: Step) -> Checkpoint {
        let Step::Write(checkpoint) = step else { panic!("it writes: {step:?}") };
        checkpoint
    }

    #[test]
    fn an_attempt_that_resumes_shuts_out_those_before_it() {
        let first = written(save(None, asker(1, 1), 1, state("a"), NOW));
        let taken = written(resume(Some(&first), asker(2, 2), NOW));
        assert_eq!((taken.number, taken.save, &taken.state), (2, 0, &Some(state("a"))));
        assert_eq!(save(Some(&taken), asker(1, 1), 2, state("late"), NOW), Step::Stale);
        assert_eq!(resume(Some(&taken), asker(1, 1), NOW), Step::Stale);
        let second = written(save(Some(&taken), asker(2, 2), 1, state("b"), NOW));
        assert_eq!(second.state, Some(state("b")));
        assert_eq!(resume(Some(&second), asker(2, 2), NOW), Step::Done, "its own, asked again");
    }

    #[test]
    fn one_that_resumes_without_anything_to_resume_shuts_them_out_too() {
        let taken = written(resume(None, asker(2, 2), NOW));
        assert_eq!(taken.state, None);
        assert_eq!(save(Some(&taken), asker(1, 1), 1, state("late"), NOW), Step::Stale);
    }

    #[test]
    fn one_that_does_not_resume_writes_over_what_it_finds() {
        let first = written(save(None, asker(1, 1), 5, state("a"), NOW));
        let second = written(save(Some(&first), asker(2, 2), 1, state("b"), NOW));
        assert_eq!((second.number, second.save), (2, 1));
    }

    #[test]
    fn a_checkpoint_that_was_kept_is_not_kept_again() {
        let first = written(save(None, asker(1, 1), 2, state("a"), NOW));
        assert_eq!(save(Some(&first), asker(1, 1), 2, state("a"), NOW), Step::Done);
        assert_eq!(save(Some(&first), asker(1, 1), 1, state("old"), NOW), Step::Done);
        assert_eq!(save(Some(&first), asker(9, 1), 3, state("x"), NOW), Step::Stale, "another's");
    }

    #[test]
    fn what_another_task_of_the_same_id_has_left_is_nothing() {
        let old = written(save(None, asker(1, 5), 9, state("old"), NOW));
        let anew = |number| Asker { submitted_at: WallMillis(7), ..asker(2, number) };
        let kept = written(save(Some(&old), anew(1), 1, state("new"), NOW));
        assert_eq!((kept.number, &kept.state), (1, &Some(state("new"))));
        assert_eq!(written(resume(Some(&old), anew(2), NOW)).state, None);
        assert_eq!(written(resume(Some(&kept), anew(2), NOW)).state, Some(state("new")));
    }
}
