//! What attempts leave for those that come after them: the value under a task's id in the
//! checkpoints bucket, and who may change it. Never goes back to an earlier attempt.
//!
//! The bucket and the tasks' own are two, so that no write can be conditional on both. Order makes
//! up for it: attempts are numbered, every write is a compare-and-set, and one that resumes first
//! puts its own number on what it found. From then on nothing of an earlier attempt fits any more.

use crate::{AttemptId, message::AttemptKey, task::Data, time::WallMillis};
use serde::{Deserialize, Serialize};

/// The newest state that an attempt of a task has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The attempt that wrote it last.
    pub attempt: AttemptId,
    /// Which try it is, from 1.
    pub number: u32,
    /// Which of its checkpoints this is, from 1; 0 where it has only taken over what it found.
    pub save: u64,
    /// The state, if any attempt has left one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Data>,
    /// For people: when.
    pub saved_at: WallMillis,
}

/// What follows from what is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this, if nothing changes in between.
    Write(Checkpoint),
    /// It is there already.
    Done,
    /// A later attempt has been there.
    Stale,
}

/// An attempt wants its state kept.
pub fn save(
    found: Option<&Checkpoint>,
    key: AttemptKey,
    number: u32,
    save: u64,
    state: Data,
    now: WallMillis,
) -> Step {
    match found {
        Some(found) if found.number > number || is_other(found, key, number) => Step::Stale,
        // Its own, whose acknowledgement was lost.
        Some(found) if found.number == number && found.save >= save => Step::Done,
        _ => Step::Write(Checkpoint {
            attempt: key.attempt,
            number,
            save,
            state: Some(state),
            saved_at: now,
        }),
    }
}

/// An attempt wants to know what earlier ones left, and takes it over.
pub fn resume(found: Option<&Checkpoint>, key: AttemptKey, number: u32, now: WallMillis) -> Step {
    match found {
        Some(found) if found.number > number || is_other(found, key, number) => Step::Stale,
        Some(found) if found.number == number => Step::Done,
        found => Step::Write(Checkpoint {
            attempt: key.attempt,
            number,
            save: 0,
            state: found.and_then(|found| found.state.clone()),
            saved_at: now,
        }),
    }
}

/// Whether somebody else has this number. A registry that lost its newest writes may have given it
/// twice; the one that is there first keeps it.
fn is_other(found: &Checkpoint, key: AttemptKey, number: u32) -> bool {
    found.number == number && found.attempt != key.attempt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskId;
    use bytes::Bytes;

    const NOW: WallMillis = WallMillis(1);

    fn key(attempt: u64) -> AttemptKey {
        AttemptKey { task: TaskId(1), attempt: AttemptId(attempt) }
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
        let first = written(save(None, key(1), 1, 1, state("a"), NOW));
        let taken = written(resume(Some(&first), key(2), 2, NOW));
        assert_eq!((taken.number, taken.save, &taken.state), (2, 0, &Some(state("a"))));
        assert_eq!(save(Some(&taken), key(1), 1, 2, state("late"), NOW), Step::Stale);
        assert_eq!(resume(Some(&taken), key(1), 1, NOW), Step::Stale);
        let second = written(save(Some(&taken), key(2), 2, 1, state("b"), NOW));
        assert_eq!(second.state, Some(state("b")));
        assert_eq!(resume(Some(&second), key(2), 2, NOW), Step::Done, "its own, asked again");
    }

    #[test]
    fn one_that_resumes_without_anything_to_resume_shuts_them_out_too() {
        let taken = written(resume(None, key(2), 2, NOW));
        assert_eq!(taken.state, None);
        assert_eq!(save(Some(&taken), key(1), 1, 1, state("late"), NOW), Step::Stale);
    }

    #[test]
    fn one_that_does_not_resume_writes_over_what_it_finds() {
        let first = written(save(None, key(1), 1, 5, state("a"), NOW));
        let second = written(save(Some(&first), key(2), 2, 1, state("b"), NOW));
        assert_eq!((second.number, second.save), (2, 1));
    }

    #[test]
    fn a_checkpoint_that_was_kept_is_not_kept_again() {
        let first = written(save(None, key(1), 1, 2, state("a"), NOW));
        assert_eq!(save(Some(&first), key(1), 1, 2, state("a"), NOW), Step::Done);
        assert_eq!(save(Some(&first), key(1), 1, 1, state("old"), NOW), Step::Done);
        assert_eq!(save(Some(&first), key(9), 1, 3, state("x"), NOW), Step::Stale, "another's");
    }
}
