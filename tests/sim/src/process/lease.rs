//! A worker's shell around `Holder`: how renewals travel, what moves the gate and the kernel's
//! timer, and how a session follows another. Never opens the gate of a session that is over.

use super::LeaseIn;
use crate::{
    network::Peer,
    registry::Op,
    world::{Happening, MS, SECOND, World},
};
use muster_protocol::{
    ABSENT, Revision, SessionId, Time,
    attempts::Event,
    lease::{Holder, Home, Lease, LeaseStep, LeaseTiming, Standing},
    message::ToMaster,
    time::WallMillis,
};

/// A worker's side of its lease, over all sessions of its process.
#[derive(Debug)]
pub struct Keeper {
    timing: LeaseTiming,
    /// What the first session's lease says.
    pub draft: Lease,
    holder: Holder,
    /// The session is over, and what the registry holds instead.
    over: Option<Option<(Lease, Revision)>>,
    /// The lease as this session last wrote it.
    mine: Option<Lease>,
    /// It waits before it tries again to take the key.
    waits: bool,
    due: u64,
}

impl Keeper {
    /// One that has not begun.
    pub fn new(timing: LeaseTiming, draft: Lease) -> Self {
        let holder = Holder::new(timing, draft.clone(), ABSENT);
        Keeper { timing, draft, holder, over: None, mine: None, waits: false, due: 0 }
    }

    /// The first session of a process.
    pub fn first(&mut self, session: SessionId) {
        let lease = Lease { session, ..self.draft.clone() };
        self.holder = Holder::new(self.timing, lease, ABSENT);
    }

    /// The present session.
    pub fn session(&self) -> SessionId {
        self.holder.session()
    }
}

impl World {
    /// Something reaches the loop that keeps a lease.
    pub fn give_keeper(&mut self, at: usize, life: u64, input: LeaseIn) {
        let worker = &self.workers[at];
        if worker.process.life != life || !worker.process.alive {
            return;
        }
        let free = self.still_until(&worker.process).max(worker.lease_desk.busy_until);
        let (input, turn) = self.workers[at].lease_desk.take_in(self.now, free, input);
        if let Some(turn) = turn {
            self.at(turn, Happening::KeeperTurn(at, life));
        }
        if let Some(input) = input {
            self.keeper_hears(at, life, input);
            self.keep(at, life);
        }
    }

    /// The loop gets its turn.
    pub fn keeper_turn(&mut self, at: usize, life: u64) {
        let worker = &self.workers[at];
        if worker.process.life != life {
            return;
        }
        let free = self.still_until(&worker.process).max(worker.lease_desk.busy_until);
        if free > self.now {
            return self.at(free, Happening::KeeperTurn(at, life));
        }
        while let Some(input) = self.workers[at].lease_desk.next_in() {
            self.keeper_hears(at, life, input);
            if self.workers[at].process.life != life {
                return;
            }
            self.keep(at, life);
        }
    }

    fn keeper_hears(&mut self, at: usize, life: u64, input: LeaseIn) {
        let now = self.worker_clock(at);
        let worker = &mut self.workers[at];
        let keeper = &mut worker.keeper;
        let before = keeper.holder.until();
        match input {
            LeaseIn::Answered(session, renewal, answer) if session == keeper.session() => {
                keeper.holder.answered(now, renewal, *answer);
                self.lease_moves(at, life, before, false);
            }
            LeaseIn::Extended { session, home, renewal } if session == keeper.session() => {
                keeper.holder.extended(now, home, renewal);
                self.lease_moves(at, life, before, true);
            }
            LeaseIn::Answered(..) | LeaseIn::Extended { .. } => {}
            LeaseIn::Welcomed(link, home, near) => {
                if let Some(end) = worker.links.get_mut(&link) {
                    if let Some(old) = end.home.replace(home.clone()) {
                        keeper.holder.unlinked(old.session);
                    }
                    keeper.holder.linked(home, near);
                    keeper.holder.hurry();
                }
            }
            LeaseIn::LinkDown(link) => {
                if let Some(home) = worker.links.remove(&link).and_then(|end| end.home) {
                    keeper.holder.unlinked(home.session);
                }
            }
            LeaseIn::Connected => keeper.holder.hurry(),
            LeaseIn::ConnectionLost(number) => {
                if self.notice_loss(Peer::Worker(at), number) {
                    self.later(SECOND / 10, Happening::Reconnect(Peer::Worker(at), life));
                }
            }
            LeaseIn::Quiet => {
                let by = keeper.over.take().unwrap_or_default();
                self.begin_session(at, life, by);
            }
            LeaseIn::TakeAgain => keeper.waits = false,
            LeaseIn::Stand(standing) => {
                keeper.draft.standing = standing;
                keeper.holder.stand(standing);
            }
            LeaseIn::Tick(due) => {
                if keeper.due == due {
                    keeper.due = 0;
                }
            }
        }
    }

    /// What the gate, the kernel's timer and the mind hear when the lease has moved.
    fn lease_moves(&mut self, at: usize, life: u64, before: Time, by_home: bool) {
        let kill_margin = self.setting.timing.kill_margin();
        let keeper = &self.workers[at].keeper;
        let until = keeper.holder.until();
        if keeper.holder.is_released() {
            let again = self.chance.between(SECOND / 10, 3 * SECOND);
            return self.end_worker(at, again);
        }
        let releases = keeper.draft.standing == Standing::Released;
        if until <= before || keeper.over.is_some() || releases {
            return;
        }
        let session = keeper.session();
        if by_home {
            self.tally.extended_past_the_registry += 1;
        }
        self.workers[at].until = until;
        self.workers[at].kernel_at = until + kill_margin;
        self.arm_kernel_timer(at);
        let held = Box::new(Event::LeaseHeld { session, until });
        self.later(0, Happening::Mind(at, life, super::MindIn::Event(held)));
    }

    fn arm_kernel_timer(&mut self, at: usize) {
        let worker = &self.workers[at];
        let when = self.machines[worker.process.machine].when(worker.kernel_at);
        self.at(when, Happening::KernelTimer(at, worker.process.life));
    }

    /// The kernel's timer: it needs no turn of the process, but a machine that is awake.
    pub fn kernel_timer(&mut self, at: usize, life: u64) {
        let worker = &self.workers[at];
        if worker.process.life != life || worker.runs.is_empty() {
            return;
        }
        let machine = &self.machines[worker.process.machine];
        if machine.is_asleep(self.now) {
            let when = machine.asleep_until;
            return self.at(when, Happening::KernelTimer(at, life));
        }
        if machine.clock(self.now) >= worker.kernel_at {
            self.tally.kernel_kills += 1;
            self.say(|world| format!("the kernel kills {}", world.workers[at].name));
            let again = self.chance.between(SECOND / 20, 2 * SECOND);
            self.end_worker(at, again);
        }
    }

    fn keep(&mut self, at: usize, life: u64) {
        let now = self.worker_clock(at);
        let worker = &mut self.workers[at];
        if worker.process.life != life || worker.keeper.waits {
            return;
        }
        if worker.keeper.over.is_none() {
            match worker.keeper.holder.plan(now, WallMillis(0)) {
                Some(LeaseStep::Write { expect, lease, doubtful, ask }) => {
                    self.renew(at, expect, lease, doubtful, ask);
                }
                Some(LeaseStep::Over { by }) => self.session_over(at, life, by),
                None => {}
            }
        }
        self.schedule_keeper(at, life);
    }

    fn schedule_keeper(&mut self, at: usize, life: u64) {
        let now = self.worker_clock(at);
        let keeper = &self.workers[at].keeper;
        if keeper.over.is_some() {
            return;
        }
        let fence = keeper.holder.until();
        let wakeup = keeper.holder.wakeup();
        let wakeup = if fence > now { wakeup.min(fence) } else { wakeup };
        let machine = self.workers[at].process.machine;
        let due = self.machines[machine].when(wakeup).max(self.now + MS / 10);
        let keeper = &mut self.workers[at].keeper;
        if keeper.due == 0 || due < keeper.due {
            keeper.due = due;
            self.at(due, Happening::Keeper(at, life, LeaseIn::Tick(due)));
        }
    }

    /// Sends a renewal on the way that answers, and on every way where the last got no answer.
    fn renew(
        &mut self,
        at: usize,
        expect: Revision,
        lease: Lease,
        doubtful: bool,
        ask: Option<Home>,
    ) {
        let boottime = self.machines[self.workers[at].process.machine].boottime(self.now);
        self.checker.renewal_sent(lease.session, lease.renewal, boottime);
        let worker = &mut self.workers[at];
        worker.keeper.mine = Some(lease.clone());
        let nats = worker.connection.as_ref().is_some_and(|connection| connection.up);
        let links: Vec<_> =
            worker.links.iter().map(|(&link, end)| (link, end.home.clone())).collect();
        let (session, renewal) = (lease.session, lease.renewal);
        for (link, home) in links {
            if (!nats || doubtful) && home.is_some() {
                self.send_up(link, ToMaster::Renew { expect, lease: lease.clone() });
            }
            if ask.is_some() && home == ask {
                self.send_up(link, ToMaster::Extend { session, renewal });
            }
        }
        if nats {
            self.ask_registry(Peer::Worker(at), session, Op::Lease(expect, lease, None));
        }
    }

    fn session_over(&mut self, at: usize, life: u64, by: Option<(Lease, Revision)>) {
        if by.is_some() {
            self.tally.taken += 1;
        } else {
            self.tally.lapsed += 1;
        }
        self.say(|world| {
            let worker = &world.workers[at];
            let why = by.as_ref().map_or("it lapsed", |(lease, _)| lease.standing.word());
            format!("{}: session {} is over: {why}", worker.name, worker.keeper.session())
        });
        let worker = &mut self.workers[at];
        // From here on no gate of this session opens again.
        worker.until = Time::ZERO;
        worker.keeper.over = Some(by);
        let over = Box::new(Event::SessionOver);
        self.later(0, Happening::Mind(at, life, super::MindIn::Event(over)));
    }

    /// Begins a session, once nothing of the last one runs.
    fn begin_session(&mut self, at: usize, life: u64, by: Option<(Lease, Revision)>) {
        let session = SessionId(self.chance.any());
        let timing = self.setting.timing;
        let worker = &mut self.workers[at];
        let keeper = &mut worker.keeper;
        let mut lease = Lease { session, ..keeper.draft.clone() };
        let held = keeper.holder.is_held();
        let (expect, at_once) = match by {
            // It lapsed here, and nobody has taken it: it is this process' own to succeed.
            None => {
                if let Some(mine) = keeper.mine.as_ref().filter(|_| held) {
                    lease.succeed(mine);
                    lease.fenced = true;
                }
                (keeper.holder.revision(), held)
            }
            Some((old, revision)) => {
                let over = matches!(old.standing, Standing::Lost | Standing::Released);
                // Whoever wrote it is dead: this process has the lock of its directory.
                let dead = old.home_dir == keeper.draft.home_dir;
                if over || dead {
                    lease.succeed(&old);
                    (revision, true)
                } else {
                    (ABSENT, false)
                }
            }
        };
        keeper.mine = None;
        keeper.waits = !at_once;
        keeper.holder = Holder::new(timing, lease, expect);
        for home in worker.links.values().filter_map(|end| end.home.clone()) {
            let machine = self.masters.iter().position(|master| master.name == home.master);
            let near = machine.is_some_and(|master| {
                self.masters[master].process.machine == worker.process.machine
            });
            keeper.holder.linked(home, near);
        }
        if !at_once {
            self.later(SECOND, Happening::Keeper(at, life, LeaseIn::TakeAgain));
        }
        self.say(|world| {
            let worker = &world.workers[at];
            format!("{} begins session {} from {expect}", worker.name, worker.keeper.session())
        });
    }
}
