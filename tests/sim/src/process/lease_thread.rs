//! A worker's shell around `LeaseLoop`: how renewals travel, and what moves the gate and the kernel's
//! timer. Never makes a decision about the lease.

use super::{LeaseIn, WorkerLoopInput};
use crate::{
    network::Peer,
    registry::Op,
    world::{MS, SECOND, SimEvent, World},
};
use muster_protocol::{
    Time,
    attempts::Event,
    lease::{KillTimer, LeaseEffect, LeaseEvent},
    message::ToMaster,
    time::WallMillis,
};
use std::convert::Infallible;

/// The kernel's timer: the time at which it kills the process, if it is armed. Moving it never fails.
#[derive(Debug, Default)]
pub struct KernelTimer(Option<Time>);

impl KillTimer for KernelTimer {
    type Error = Infallible;

    fn set(&mut self, at: Time) -> Result<(), Infallible> {
        self.0 = Some(at);
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), Infallible> {
        self.0 = None;
        Ok(())
    }
}

impl World {
    /// Gives an input to the loop that keeps the lease.
    pub fn give_lease_thread(&mut self, at: usize, incarnation: u64, input: LeaseIn) {
        let worker = &self.workers[at];
        if worker.process.incarnation != incarnation || !worker.process.alive {
            return;
        }
        let free = self.still_until(&worker.process).max(worker.lease_queue.busy_until);
        let (input, turn) = self.workers[at].lease_queue.take_in(self.now, free, input);
        if let Some(turn) = turn {
            self.at(turn, SimEvent::LeaseThreadTurn(at, incarnation));
        }
        if let Some(input) = input {
            self.lease_thread_hears(at, incarnation, input);
            self.keep(at, incarnation);
        }
    }

    /// Gives an event to the loop that keeps the lease.
    pub fn tell_lease_thread(&mut self, at: usize, incarnation: u64, event: LeaseEvent) {
        self.give_lease_thread(at, incarnation, LeaseIn::Event(Box::new(event)));
    }

    /// Gives the loop its turn.
    pub fn lease_thread_turn(&mut self, at: usize, incarnation: u64) {
        let worker = &self.workers[at];
        if worker.process.incarnation != incarnation {
            return;
        }
        let free = self.still_until(&worker.process).max(worker.lease_queue.busy_until);
        if free > self.now {
            return self.at(free, SimEvent::LeaseThreadTurn(at, incarnation));
        }
        while let Some(input) = self.workers[at].lease_queue.next_in() {
            self.lease_thread_hears(at, incarnation, input);
            if self.workers[at].process.incarnation != incarnation {
                return;
            }
            self.keep(at, incarnation);
        }
    }

    fn lease_thread_hears(&mut self, at: usize, incarnation: u64, input: LeaseIn) {
        let now = self.worker_clock(at);
        match input {
            LeaseIn::Event(event) => self.workers[at].lease_loop.observe(now, *event),
            LeaseIn::ConnectionLost(number) => {
                if self.notice_loss(Peer::Worker(at), number) {
                    self.workers[at].lease_loop.observe(now, LeaseEvent::Direct(false));
                    self.later(SECOND / 10, SimEvent::Reconnect(Peer::Worker(at), incarnation));
                }
            }
            LeaseIn::Tick(due) => {
                let worker = &mut self.workers[at];
                if worker.lease_due == due {
                    worker.lease_due = 0;
                }
            }
        }
    }

    fn keep(&mut self, at: usize, incarnation: u64) {
        let now = self.worker_clock(at);
        let worker = &mut self.workers[at];
        if worker.process.incarnation != incarnation {
            return;
        }
        // The revisions of the held attempts are read just before each decision about the lease.
        let holds = worker.holds;
        worker.lease_loop.observe(now, LeaseEvent::SetHolds(holds));
        let mut effects = Vec::new();
        worker.lease_loop.plan(now, WallMillis(0), &mut effects);
        for effect in effects {
            self.carry_out_lease(at, incarnation, effect);
            if self.workers[at].process.incarnation != incarnation {
                return;
            }
        }
        let Some(wakeup) = self.workers[at].lease_loop.wakeup() else { return };
        if wakeup <= now {
            self.violate("a_loop_never_spins", || format!("the lease of worker {at} would spin"));
        }
        let machine = self.workers[at].process.machine;
        let due = self.machines[machine].when(wakeup).max(self.now + MS / 10);
        let worker = &mut self.workers[at];
        if worker.lease_due == 0 || due < worker.lease_due {
            worker.lease_due = due;
            self.at(due, SimEvent::LeaseThread(at, incarnation, LeaseIn::Tick(due)));
        }
    }

    fn carry_out_lease(&mut self, at: usize, incarnation: u64, effect: LeaseEffect) {
        match effect {
            LeaseEffect::Renew { expect, lease, direct, links } => {
                let boottime = self.machines[self.workers[at].process.machine].boottime(self.now);
                self.checker.renewal_sent(lease.session, lease.renewal, boottime);
                for link in links {
                    self.send_up(link, ToMaster::Renew { expect, lease: lease.clone() });
                }
                if direct {
                    let session = lease.session;
                    self.ask_registry(Peer::Worker(at), session, Op::Lease(expect, lease, None));
                }
            }
            LeaseEffect::AskHome { link, session, renewal } => {
                self.send_up(link, ToMaster::Extend { session, renewal });
            }
            LeaseEffect::MoveEnd { session, until } => {
                self.counters.leases_extended += 1;
                let Ok(()) = self.workers[at].deadman.move_end(until);
                self.arm_kernel_timer(at);
                let held = Box::new(Event::LeaseHeld { session, until });
                self.later(0, SimEvent::WorkerLoop(at, incarnation, WorkerLoopInput::Event(held)));
            }
            LeaseEffect::Close { session, by, .. } => {
                if by.is_some() {
                    self.counters.taken += 1;
                } else {
                    self.counters.lapsed += 1;
                }
                self.say(|world| {
                    let why = by.as_ref().map_or("it lapsed", |lease| lease.state.word());
                    format!("{}: session {session} is over: {why}", world.workers[at].name)
                });
                self.workers[at].deadman.close();
                self.checker.answers.session_over(at);
                let over = Box::new(Event::SessionOver);
                self.later(0, SimEvent::WorkerLoop(at, incarnation, WorkerLoopInput::Event(over)));
            }
            LeaseEffect::CloseQuietly => {
                self.workers[at].deadman.close();
                self.checker.answers.session_over(at);
            }
            LeaseEffect::Begin { session, .. } => {
                self.say(|world| format!("{} begins session {session}", world.workers[at].name))
            }
            LeaseEffect::Released { .. } => {
                let again = self.rng.between(SECOND / 10, 3 * SECOND);
                self.end_worker(at, again);
            }
        }
    }

    /// Schedules the expiry of the kernel's timer, as it is set now.
    pub fn arm_kernel_timer(&mut self, at: usize) {
        let worker = &self.workers[at];
        let Some(expires) = worker.deadman.timer().0 else { return };
        let when = self.machines[worker.process.machine].when(expires);
        self.at(when, SimEvent::KernelTimer(at, worker.process.incarnation));
    }

    /// The kernel's timer may have expired. It needs no turn of the process, but its machine must be
    /// awake.
    pub fn kernel_timer(&mut self, at: usize, incarnation: u64) {
        let worker = &self.workers[at];
        let Some(expires) = worker.deadman.timer().0 else { return };
        if worker.process.incarnation != incarnation {
            return;
        }
        let machine = &self.machines[worker.process.machine];
        if machine.is_asleep(self.now) {
            let when = machine.asleep_until;
            return self.at(when, SimEvent::KernelTimer(at, incarnation));
        }
        if machine.clock(self.now) >= expires {
            self.counters.kernel_kills += 1;
            self.say(|world| format!("the kernel kills {}", world.workers[at].name));
            let again = self.rng.between(SECOND / 20, 2 * SECOND);
            self.end_worker(at, again);
        }
    }
}
