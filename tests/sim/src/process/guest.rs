//! Guests: a run lasts until its end, a kill, or the end of the lease, and tries to have an effect now
//! and then. Never asks anything but the gate and the clock whether it may continue.

use super::{GuestIn, WorkerLoopInput, checkpoint::Leaves, worker::SLOTS};
use crate::world::{MS, Nanos, SECOND, SimEvent, World};
use muster_protocol::{
    SessionId,
    attempts::Event,
    lease::{Gate, KillReason, Permit},
    message::{AttemptKey, Dispatch},
    task::{Data, Outcome, Verdict},
};

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The number of the run, unique in its world.
    pub number: u64,
    /// The session that runs it.
    pub session: SessionId,
    /// The gate that its effects have to pass.
    gate: Gate,
    /// Whether the run is blocked for long periods, in which it notices neither a kill nor the end of
    /// the lease.
    stubborn: bool,
    started: Nanos,
    /// Whether nothing may run beside it.
    alone: bool,
    /// Its checkpoints; `None` if it saves none.
    pub leaves: Option<Leaves>,
}

impl Run {
    /// Whether it waits for an answer about a checkpoint.
    fn waits(&self) -> bool {
        self.leaves.as_ref().is_some_and(|leaves| leaves.asking.is_some())
    }
}

impl World {
    fn tell_worker_loop(&mut self, at: usize, event: Event) {
        let incarnation = self.workers[at].process.incarnation;
        self.later(
            0,
            SimEvent::WorkerLoop(at, incarnation, WorkerLoopInput::Event(Box::new(event))),
        );
    }

    /// Starts an attempt.
    pub fn start(&mut self, at: usize, dispatch: &Dispatch) {
        let key = dispatch.key;
        let now = self.worker_clock(at);
        if self.workers[at].deadman.hold(now).is_err() {
            return self.tell_worker_loop(at, Event::Stopped(key));
        }
        self.arm_kernel_timer(at);
        self.counters.runs += 1;
        let stubborn = self.setting.disorder && self.rng.once_in(4);
        let lasts = match self.rng.below(8) {
            0..=2 => self.rng.between(MS, 100 * MS),
            3..=5 => self.rng.between(100 * MS, 3 * SECOND),
            _ => self.rng.between(SECOND, 15 * SECOND),
        };
        let lasts = self.setting.run_lasts.unwrap_or(lasts);
        let number = self.counters.runs;
        let incarnation = self.workers[at].process.incarnation;
        let gate = Gate::new(self.workers[at].deadman.end());
        let leaves = self.setting.checkpoints && self.rng.once_in(3);
        let leaves = leaves.then(|| Leaves::new(dispatch.revision));
        let leaves_any = leaves.is_some();
        let (session, started) = (dispatch.session, self.now);
        let alone = dispatch.alone;
        if self.workers[at].runs.values().any(|beside| beside.alone || alone) {
            self.violate("a_suspect_runs_alone", || format!("{key:?}"));
        }
        let run = Run { number, session, gate: gate.clone(), stubborn, started, alone, leaves };
        self.run_starts(at, key, &run);
        self.workers[at].runs.insert(key, run);
        self.say(|world| format!("{} runs {:?}", world.workers[at].name, key.attempt));
        self.at(self.now + MS, SimEvent::Guest(at, incarnation, GuestIn::Poll(key, number)));
        self.later(lasts, SimEvent::Guest(at, incarnation, GuestIn::End(key, number)));
        if leaves_any && let Ok(permit) = gate.pass(now) {
            self.begins_to_leave(permit, at, key, number, dispatch.number);
        }
    }

    /// Kills a run. The run may take a while to stop.
    pub fn kill(&mut self, at: usize, key: AttemptKey, why: KillReason) {
        let Some(run) = self.workers[at].runs.get(&key) else { return };
        run.gate.kill(why);
        let (number, stubborn) = (run.number, run.stubborn);
        let most = self.setting.timing.kill_margin().as_nanos() as u64;
        let wait = self.rng.below(if stubborn { most * 4 } else { most / 2 });
        let incarnation = self.workers[at].process.incarnation;
        self.later(wait, SimEvent::Guest(at, incarnation, GuestIn::Stop(key, number)));
    }

    /// Handles what happens to a guest.
    pub fn guest(&mut self, at: usize, incarnation: u64, what: GuestIn) {
        let worker = &self.workers[at];
        if worker.process.incarnation != incarnation {
            return;
        }
        let still = self.still_until(&worker.process);
        if still > self.now {
            return self.at(still, SimEvent::Guest(at, incarnation, what));
        }
        let (GuestIn::Poll(key, number)
        | GuestIn::End(key, number)
        | GuestIn::Stop(key, number)
        | GuestIn::Save(key, number)
        | GuestIn::Ask(key, number, _)) = what;
        let Some(run) = worker.runs.get(&key).filter(|run| run.number == number).cloned() else {
            return;
        };
        let passed = run.gate.pass(self.worker_clock(at)).ok();
        match (what, passed) {
            (GuestIn::Poll(..), Some(permit)) => {
                self.effect(permit, at, key, &run);
                let most = if run.stubborn { 3 * SECOND } else { 60 * MS };
                let wait = self.rng.between(2 * MS, most);
                self.later(wait, SimEvent::Guest(at, incarnation, what));
            }
            (GuestIn::Save(..), Some(permit)) => self.save(permit, at, key, number),
            (GuestIn::Ask(_, _, count), Some(permit)) if self.still_asks(at, key, count) => {
                self.ask_master_of(permit, at, key, number);
            }
            // The next check of the gate ends the run.
            (GuestIn::Save(..) | GuestIn::Ask(..), _) => {}
            (GuestIn::End(..), Some(_)) if run.waits() => {
                self.later(50 * MS, SimEvent::Guest(at, incarnation, what));
            }
            (GuestIn::End(..), Some(permit)) => {
                self.run_is_gone(at, key);
                let outcome = self.outcome(permit, key, &run);
                self.tell_worker_loop(at, Event::Ended { key, outcome });
            }
            _ => {
                self.run_is_gone(at, key);
                self.tell_worker_loop(at, Event::Stopped(key));
            }
        }
    }

    /// Removes a run that has ended.
    pub fn run_is_gone(&mut self, at: usize, key: AttemptKey) {
        let (now, worker) = (self.now, &mut self.workers[at]);
        if worker.runs.len() >= SLOTS as usize {
            worker.full_until = now;
        }
        worker.runs.remove(&key);
        let Ok(()) = worker.deadman.release();
    }

    /// Draws the outcome of a run. Its output is the attempt's id, so that the checker can tell them
    /// apart.
    fn outcome(&mut self, _: Permit<'_>, key: AttemptKey, run: &Run) -> Outcome {
        let verdict = match self.rng.below(10) {
            _ if !self.setting.disorder => Verdict::Completed,
            0 => Verdict::Failed { code: 1, message: String::new() },
            1 => Verdict::Trapped { message: String::new() },
            _ => Verdict::Completed,
        };
        let output = Data::Inline(key.attempt.0.to_be_bytes().to_vec().into());
        let run_us = (self.now - run.started) / 1_000;
        Outcome { output, run_us, ..Outcome::bare(verdict) }
    }
}
