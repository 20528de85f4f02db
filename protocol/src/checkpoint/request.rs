//! A request of an attempt to save or resume a checkpoint, from the first read of the registry to the
//! answer. Never saves anything for an attempt that its task's record does not name.

use super::{Asker, Checkpoint, Step, resume, save};
use crate::{
    ABSENT, Revision, Time, WorkerId,
    lease::CasAnswer,
    limit,
    message::{HeldAttempt, StreamReply},
    task::{Data, TaskRecord, Verdict},
    time::WallMillis,
};
use alloc::boxed::Box;

/// How often a write of one checkpoint may conflict before the worker is told to ask again.
const TRIES_MAX: u32 = 8;

/// What an attempt asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// Save this state; `save` is the number of the checkpoint within the attempt, from 1.
    Save {
        /// The number of the checkpoint.
        save: u64,
        /// The state to keep: inline, or a reference to an object that was stored before.
        state: Data,
    },
    /// Send what earlier attempts saved.
    Resume,
}

/// See the [module](self).
///
/// Read the record of the task and then its checkpoint, each from its stream's leader, and pass both to
/// [`looked`](Request::looked). Execute the write that it returns, and pass the answer to
/// [`written`](Request::written). Begin again while there is no answer for the worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    worker: WorkerId,
    attempt: HeldAttempt,
    want: Want,
    tries: u32,
    /// The revision of a delete marker, which a read does not show.
    mark: Option<Revision>,
}

/// What follows from a read.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Write this, if the key has the revision `expect`.
    Write {
        /// The revision.
        expect: Revision,
        /// The value.
        checkpoint: Box<Checkpoint>,
    },
    /// Send this answer to the worker.
    Answer(StreamReply),
}

impl Request {
    /// A request of `attempt` on `worker`.
    pub fn new(worker: WorkerId, attempt: HeldAttempt, want: Want) -> Self {
        Request { worker, attempt, want, tries: 0, mark: None }
    }

    /// The attempt that asks.
    pub fn attempt(&self) -> HeldAttempt {
        self.attempt
    }

    /// The leaders show this record and this checkpoint. To be read before every try: a write that
    /// conflicted may have met a successor's.
    pub fn looked(
        &mut self,
        record: Option<(&TaskRecord, Revision)>,
        found: Option<(Checkpoint, Revision)>,
        now: WallMillis,
    ) -> Next {
        // The leader of the stream may be behind, and not have the record that dispatched the attempt.
        if record.map_or(ABSENT, |(_, revision)| revision) < self.attempt.revision {
            return Next::Answer(StreamReply::Behind);
        }
        let asker = record.and_then(|(record, _)| self.asker(record));
        let Some(asker) = asker else { return Next::Answer(StreamReply::Stale) };
        let (found, revision) = found.map_or((None, ABSENT), |(found, at)| (Some(found), at));
        let step = match &self.want {
            Want::Save { save: count, state } => {
                save(found.as_ref(), asker, *count, state.clone(), now)
            }
            Want::Resume => resume(found.as_ref(), asker, now),
        };
        match step {
            Step::Stale => Next::Answer(StreamReply::Stale),
            Step::Done => Next::Answer(self.kept(found.and_then(|found| found.state))),
            Step::Write(new) => {
                let expect = self.mark.take().unwrap_or(revision);
                Next::Write { expect, checkpoint: Box::new(new) }
            }
        }
    }

    /// The answer to the write. Returns `None` if the worker has to read again.
    pub fn written(
        &mut self,
        checkpoint: Checkpoint,
        answer: CasAnswer<Checkpoint>,
    ) -> Option<StreamReply> {
        match answer {
            CasAnswer::Written(_) => return Some(self.kept(checkpoint.state)),
            CasAnswer::Gone(revision) => self.mark = Some(revision),
            CasAnswer::Conflict(_) | CasAnswer::Unknown => {}
        }
        self.tries += 1;
        let gives_up = self.tries >= TRIES_MAX;
        gives_up
            .then(|| StreamReply::Failed("the registry does not keep the checkpoint now".into()))
    }

    /// The attempt as the record has it, if the record names it and its worker.
    fn asker(&self, record: &TaskRecord) -> Option<Asker> {
        let attempt = record.attempt()?;
        let (id, number) = (attempt.id, attempt.number);
        let is_current = id == self.attempt.key.attempt && attempt.worker == self.worker;
        is_current.then_some(Asker { submitted_at: record.submitted_at, attempt: id, number })
    }

    fn kept(&self, state: Option<Data>) -> StreamReply {
        match self.want {
            Want::Save { .. } => StreamReply::Stored,
            Want::Resume => state.map_or(StreamReply::Missing, StreamReply::State),
        }
    }
}

/// The attempt is not its task's current one any more: nothing that it does counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

impl Stale {
    /// The outcome of the run. It never ends the task: where the record names the attempt all the same,
    /// another attempt follows. If the run merely stopped, it would be dispatched to its worker again.
    pub fn verdict(self) -> Verdict {
        let reason = "its checkpoint was refused, because it was not the task's current attempt";
        Verdict::Returned { reason: reason.into() }
    }
}

/// A request of an attempt that waits for its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Since when every answer has been that the registry is behind.
    behind: Option<Time>,
}

impl Waiting {
    /// Takes in the answer to a question that was sent at `asked`. Returns what earlier attempts saved,
    /// or `None` if the attempt has to ask again after a while. The time of arrival does not matter:
    /// the answer shows the registry as of the question.
    pub fn heard(&mut self, told: StreamReply, asked: Time) -> Option<Result<Option<Data>, Stale>> {
        match told {
            StreamReply::Stored | StreamReply::Missing => Some(Ok(None)),
            StreamReply::State(state) => Some(Ok(Some(state))),
            StreamReply::Stale => Some(Err(Stale)),
            StreamReply::Behind => {
                // What a leader lacks for so long is lost.
                let since = *self.behind.get_or_insert(asked);
                (asked >= since + limit::LEADER_LAG_MAX).then_some(Err(Stale))
            }
            StreamReply::Failed(_)
            | StreamReply::Size(_)
            | StreamReply::SecretTerms(_)
            | StreamReply::Sealed(_)
            | StreamReply::Upgrade(_)
            | StreamReply::Refused(_) => {
                self.behind = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AttemptId, Digest, SessionId, TaskId,
        message::AttemptKey,
        registry::StreamId,
        task::{Attempt, ModuleRef, TaskSpec, TaskState},
    };
    use alloc::sync::Arc;
    use core::time::Duration;

    const NOW: WallMillis = WallMillis(9);
    const KEY: AttemptKey = AttemptKey { task: TaskId(1), attempt: AttemptId(10) };

    fn worker(name: &str) -> WorkerId {
        name.parse().expect("a name")
    }

    fn record(attempt: u64, number: u32) -> TaskRecord {
        let module = ModuleRef { name: None, digest: Digest([0; 32]) };
        let spec = Arc::new(TaskSpec::new(module, Data::EMPTY));
        let attempt = Attempt {
            id: AttemptId(attempt),
            number,
            worker: worker("w1"),
            session: SessionId(1),
            lease: 1,
            lease_stream: StreamId(1),
            dispatched_at: NOW,
            alone: false,
            to_silent: false,
            unknown: Default::default(),
        };
        let record = TaskRecord::queued(KEY.task, spec, WallMillis(1));
        TaskRecord { state: TaskState::Dispatched(attempt), attempts: number, ..record }
    }

    fn asks(want: Want) -> Request {
        Request::new(worker("w1"), HeldAttempt { key: KEY, revision: 5 }, want)
    }

    fn save_first() -> Request {
        asks(Want::Save { save: 1, state: Data::EMPTY })
    }

    fn write(next: Next) -> (Revision, Checkpoint) {
        let Next::Write { expect, checkpoint } = next else { panic!("it writes: {next:?}") };
        (expect, *checkpoint)
    }

    #[test]
    fn what_the_current_attempt_leaves_is_kept() {
        let (mut request, record) = (save_first(), record(10, 1));
        let (expect, new) = write(request.looked(Some((&record, 5)), None, NOW));
        assert_eq!((expect, new.attempt, new.save), (ABSENT, KEY.attempt, 1));
        let told = request.written(new.clone(), CasAnswer::Written(1));
        assert_eq!(told, Some(StreamReply::Stored));
        // The acknowledgement was lost.
        let again = save_first().looked(Some((&record, 5)), Some((new, 1)), NOW);
        assert_eq!(again, Next::Answer(StreamReply::Stored));
    }

    #[test]
    fn whether_the_attempt_is_current_is_looked_at_before_every_try() {
        let mut request = save_first();
        let (_, new) = write(request.looked(Some((&record(10, 1), 5)), None, NOW));
        assert_eq!(request.written(new, CasAnswer::Unknown), None);
        let later = request.looked(Some((&record(11, 2), 6)), None, NOW);
        assert_eq!(later, Next::Answer(StreamReply::Stale));
        let mut other = Request { worker: worker("w2"), ..save_first() };
        let next = other.looked(Some((&record(10, 1), 5)), None, NOW);
        assert_eq!(next, Next::Answer(StreamReply::Stale), "another worker's");
    }

    #[test]
    fn a_record_that_is_older_than_the_attempt_says_nothing_of_it() {
        let before = record(9, 1);
        for shown in [None, Some((&before, 4))] {
            assert_eq!(save_first().looked(shown, None, NOW), Next::Answer(StreamReply::Behind));
        }
        let mut waiting = Waiting::default();
        let mut hears = |told: StreamReply, seconds| {
            waiting.heard(told, Time::ZERO + Duration::from_secs(seconds))
        };
        let lag = limit::LEADER_LAG_MAX.as_secs();
        assert_eq!(hears(StreamReply::Behind, 1), None);
        assert_eq!(hears(StreamReply::Failed("down".into()), 2), None);
        assert_eq!(hears(StreamReply::Behind, lag + 1), None, "perhaps another leader");
        assert_eq!(hears(StreamReply::Behind, 2 * lag), None);
        assert_eq!(hears(StreamReply::Behind, 2 * lag + 1), Some(Err(Stale)), "it is lost by then");
    }

    #[test]
    fn a_mark_of_a_deletion_is_written_over() {
        let (mut request, record) = (asks(Want::Resume), record(10, 2));
        let (_, new) = write(request.looked(Some((&record, 5)), None, NOW));
        assert_eq!(request.written(new, CasAnswer::Gone(7)), None);
        let (expect, new) = write(request.looked(Some((&record, 5)), None, NOW));
        assert_eq!(expect, 7);
        assert_eq!(request.written(new, CasAnswer::Written(8)), Some(StreamReply::Missing));
    }

    #[test]
    fn a_worker_is_told_to_ask_again_after_some_tries() {
        let (mut request, record) = (save_first(), record(10, 1));
        for left in (0..TRIES_MAX).rev() {
            let (_, new) = write(request.looked(Some((&record, 5)), None, NOW));
            let told = request.written(new, CasAnswer::Unknown);
            assert_eq!(told.is_none(), left > 0);
        }
        let told = StreamReply::Failed("later".into());
        assert_eq!(Waiting::default().heard(told, Time::ZERO), None);
    }

    #[test]
    fn a_refused_checkpoint_gives_the_attempt_back() {
        assert_eq!(Waiting::default().heard(StreamReply::Stale, Time::ZERO), Some(Err(Stale)));
        assert!(matches!(Stale.verdict(), Verdict::Returned { .. }));
    }
}
