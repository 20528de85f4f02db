//! The path of a checkpoint: from a guest to a master, from the master to the registry, and back. Never
//! decides whether a checkpoint is kept.

use super::{GuestIn, WorkerLoopInput};
use crate::{
    network::{LinkId, Peer},
    world::{MS, Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{
    Revision, Time,
    attempts::Event,
    checkpoint::{Checkpoint, Next, Request, Stale, Waiting, Want},
    lease::{CasAnswer, Permit},
    message::{AttemptKey, HeldAttempt, StreamReply},
    retry::CHECKPOINT,
    task::{Data, Outcome, TaskRecord},
    time::WallMillis,
};
use std::sync::Arc;

/// How long a worker waits for an answer before it asks again.
const ANSWER_WITHIN: Nanos = 5 * SECOND;

/// How long a worker waits before it asks again, when the master tells it to or when it has no link.
const AGAIN: Nanos = CHECKPOINT.wait.as_nanos() as Nanos;

/// The longest delay of an answer of the registry: longer than the masters wait for a lease.
const LATE_MAX: Nanos = 6 * SECOND;

/// A guest's request about checkpoints that is not answered yet.
#[derive(Clone, Debug)]
pub struct Asking {
    want: Want,
    waiting: Waiting,
    /// When the worker sent the question last.
    asked: Time,
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Leaves {
    revision: Revision,
    saves: u64,
    /// The number of questions; only the answer to the latest one counts.
    questions: u64,
    /// The request that the run waits for.
    pub asking: Option<Asking>,
}

/// A question to a master, and the step that comes next.
#[derive(Clone, Debug)]
pub struct Question {
    worker: (usize, u64),
    master: (usize, u64),
    link: LinkId,
    key: AttemptKey,
    run: u64,
    count: u64,
    request: Request,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// The master reads the record.
    Record,
    /// The master reads the checkpoint. The value is the record that it found.
    Found(Option<(Arc<TaskRecord>, Revision)>),
    /// The master writes the checkpoint.
    Write(Revision, Checkpoint),
    /// The write is still on its way; the master has stopped waiting for its answer.
    Ghost(Revision, Checkpoint),
    /// The worker receives the answer.
    Answer(StreamReply),
}

impl Leaves {
    /// For a run whose dispatch was written in the record's `revision`.
    pub fn new(revision: Revision) -> Self {
        Leaves { revision, saves: 0, questions: 0, asking: None }
    }
}

impl World {
    /// Starts the checkpoints of a run. The first attempt only saves; a later one resumes first.
    pub fn begins_to_leave(
        &mut self,
        permit: Permit<'_>,
        at: usize,
        key: AttemptKey,
        run: u64,
        number: u32,
    ) {
        if number > 1 {
            return self.wants(permit, at, key, run, Want::Resume);
        }
        self.will_save(at, key, run);
    }

    fn will_save(&mut self, at: usize, key: AttemptKey, run: u64) {
        let wait = self.rng.between(20 * MS, 2 * SECOND);
        let incarnation = self.workers[at].process.incarnation;
        self.later(wait, SimEvent::Guest(at, incarnation, GuestIn::Save(key, run)));
    }

    /// The guest saves a checkpoint.
    pub fn save(&mut self, permit: Permit<'_>, at: usize, key: AttemptKey, run: u64) {
        let Some(leaves) = self.leaves(at, key) else { return };
        leaves.saves += 1;
        let save = leaves.saves;
        let state = [key.attempt.0.to_be_bytes(), save.to_be_bytes()].concat();
        self.wants(permit, at, key, run, Want::Save { save, state: Data::Inline(state.into()) });
    }

    fn leaves(&mut self, at: usize, key: AttemptKey) -> Option<&mut Leaves> {
        self.workers[at].runs.get_mut(&key)?.leaves.as_mut()
    }

    fn wants(&mut self, permit: Permit<'_>, at: usize, key: AttemptKey, run: u64, want: Want) {
        let Some(leaves) = self.leaves(at, key) else { return };
        leaves.asking = Some(Asking { want, waiting: Waiting::default(), asked: Time::ZERO });
        self.ask_master_of(permit, at, key, run);
    }

    /// Sends the question to one of the linked masters, and schedules its repetition in case no answer
    /// comes.
    pub fn ask_master_of(&mut self, _: Permit<'_>, at: usize, key: AttemptKey, run: u64) {
        let incarnation = self.workers[at].process.incarnation;
        let links: Vec<LinkId> = self.workers[at].links.keys().copied().collect();
        let link = (!links.is_empty()).then(|| self.rng.pick(&links));
        let name = self.workers[at].name.clone();
        let now = self.worker_clock(at);
        let Some(leaves) = self.leaves(at, key) else { return };
        let revision = leaves.revision;
        let Some(asking) = &mut leaves.asking else { return };
        asking.asked = now;
        let want = asking.want.clone();
        leaves.questions += 1;
        let count = leaves.questions;
        let again = if link.is_some() { ANSWER_WITHIN } else { AGAIN };
        self.later(again, SimEvent::Guest(at, incarnation, GuestIn::Ask(key, run, count)));
        let Some(link) = link else { return };
        let Some(master) = self.network.carries_up(link) else { return };
        let request = Request::new(name, HeldAttempt { key, revision }, want);
        let worker = (at, incarnation);
        let step = Step::Record;
        let question = Question { worker, master, link, key, run, count, request, step };
        let arrives = self.arrival(Peer::Worker(at), Peer::Master(master.0));
        self.goes_to_registry(arrives, question);
    }

    /// Sends a question from its master to the registry, which it reaches one network delay after
    /// `from`.
    fn goes_to_registry(&mut self, from: Nanos, question: Question) {
        let way = self.arrival(Peer::Master(question.master.0), Peer::Registry) - self.now;
        self.at(from + way, SimEvent::Checkpoint(Box::new(question)));
    }

    /// A question has arrived where its next step happens.
    pub fn checkpoint(&mut self, mut question: Question) {
        let (master, incarnation) = question.master;
        if let Step::Answer(told) = question.step {
            let Question { worker, link, key, run, count, .. } = question;
            return self.checkpoint_heard(worker, link, key, run, count, told);
        }
        if let Step::Ghost(expect, checkpoint) = question.step {
            self.keep_checkpoint(expect, question.key, checkpoint);
            return;
        }
        let process = &self.masters[master].process;
        if process.incarnation != incarnation {
            return;
        }
        let still = self.still_until(process);
        if still > self.now {
            return self.at(still, SimEvent::Checkpoint(Box::new(question)));
        }
        let connection = &self.masters[master].connection;
        if !connection.up || !connection.alive || !self.registry_is_up() {
            let told = StreamReply::Failed("the registry does not answer".into());
            return self.answer_checkpoint(question, told);
        }
        if self.now < self.registry.stalled_until {
            let at = self.registry.stalled_until;
            return self.at(at, SimEvent::Checkpoint(Box::new(question)));
        }
        let newest = self.registry.tasks.written_at().min(self.registry.checkpoints.written_at());
        let lags = self.lags(newest);
        let mut back = self.arrival(Peer::Registry, Peer::Master(master));
        if !self.healing && self.setting.disorder && self.rng.once_in(6) {
            back += self.rng.below(LATE_MAX);
        }
        match question.step {
            Step::Record => {
                let record = self.registry.tasks.read(&question.key.task, lags);
                question.step = Step::Found(record);
                self.goes_to_registry(back, question);
            }
            Step::Found(record) => {
                let found = self.registry.checkpoints.read(&question.key.task, lags);
                let clock = self.machines[self.masters[master].process.machine].clock(self.now);
                let record = record.as_ref().map(|(record, at)| (&**record, *at));
                let wall = WallMillis(clock.as_nanos() / 1_000_000);
                match question.request.looked(record, found, wall) {
                    Next::Answer(told) => {
                        question.step = Step::Record;
                        self.answer_checkpoint(question, told);
                    }
                    Next::Write { expect, checkpoint } => {
                        question.step = Step::Write(expect, *checkpoint);
                        self.goes_to_registry(back, question);
                    }
                }
            }
            Step::Write(expect, checkpoint) => {
                question.step = Step::Record;
                let wild = !self.healing && self.setting.disorder;
                let answer = if wild && self.rng.once_in(8) {
                    let late = self.rng.below(LATE_MAX);
                    let step = Step::Ghost(expect, checkpoint.clone());
                    let ghost = Question { step, ..question.clone() };
                    self.later(late, SimEvent::Checkpoint(Box::new(ghost)));
                    CasAnswer::Unknown
                } else {
                    let answer = self.keep_checkpoint(expect, question.key, checkpoint.clone());
                    let lost = wild && self.rng.once_in(20);
                    if lost { CasAnswer::Unknown } else { answer }
                };
                match question.request.written(checkpoint, answer) {
                    Some(told) => self.answer_checkpoint(question, told),
                    None => self.goes_to_registry(back, question),
                }
            }
            Step::Ghost(..) | Step::Answer(_) => {}
        }
    }

    fn keep_checkpoint(
        &mut self,
        expect: Revision,
        key: AttemptKey,
        new: Checkpoint,
    ) -> CasAnswer<Checkpoint> {
        let now = self.now;
        let old = self.registry.checkpoints.get(&key.task).map(|(old, _)| old);
        let answer = self.registry.checkpoints.cas(now, expect, key.task, new.clone(), false);
        if matches!(answer, CasAnswer::Written(_)) {
            self.counters.checkpoints += 1;
            self.checkpoint_committed(key, old, &new);
        }
        answer
    }

    fn answer_checkpoint(&mut self, question: Question, told: StreamReply) {
        let (at, master) = (question.worker.0, question.master.0);
        let back = self.arrival(Peer::Registry, Peer::Master(master));
        let way = self.arrival(Peer::Master(master), Peer::Worker(at)) - self.now;
        let answer = Question { step: Step::Answer(told), ..question };
        self.at(back + way, SimEvent::Checkpoint(Box::new(answer)));
    }

    fn checkpoint_heard(
        &mut self,
        (at, incarnation): (usize, u64),
        link: LinkId,
        key: AttemptKey,
        run: u64,
        count: u64,
        told: StreamReply,
    ) {
        let worker = &self.workers[at];
        if worker.process.incarnation != incarnation || !worker.links.contains_key(&link) {
            return;
        }
        let Some(leaves) = self.leaves(at, key) else { return };
        let is_latest = leaves.questions == count;
        let Some(asking) = leaves.asking.as_mut().filter(|_| is_latest) else { return };
        let answer = asking.waiting.heard(told, asking.asked);
        let want = asking.want.clone();
        match answer {
            None => {
                let ask = GuestIn::Ask(key, run, count);
                self.later(AGAIN, SimEvent::Guest(at, incarnation, ask));
            }
            Some(Ok(state)) => {
                leaves.asking = None;
                match want {
                    Want::Save { save, .. } => self.checkpoint_acknowledged(key, save),
                    Want::Resume => self.checkpoint_resumed(key, state),
                }
                self.will_save(at, key, run);
            }
            Some(Err(refused)) => self.checkpoint_refused(at, key, refused),
        }
    }

    /// Ends the run, whose checkpoint was refused, and reports its outcome.
    fn checkpoint_refused(&mut self, at: usize, key: AttemptKey, refused: Stale) {
        self.refusal_heard(key);
        self.run_is_gone(at, key);
        let outcome = Outcome::bare(refused.verdict());
        let incarnation = self.workers[at].process.incarnation;
        let ended = WorkerLoopInput::Event(Box::new(Event::Ended { key, outcome }));
        self.later(0, SimEvent::WorkerLoop(at, incarnation, ended));
    }

    /// Whether the guest still waits for the answer to this question.
    pub fn still_asks(&mut self, at: usize, key: AttemptKey, count: u64) -> bool {
        self.leaves(at, key)
            .is_some_and(|leaves| leaves.asking.is_some() && leaves.questions == count)
    }
}
