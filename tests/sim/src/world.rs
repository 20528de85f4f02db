//! A world: one simulated fleet with its clients, simulated time, and one queue of future events. Never
//! reads a clock or draws a random number of the host machine: a world with the same seed is always the
//! same.
//!
//! A world has two phases. First faults are injected. Then everything heals, and every accepted task
//! must end.

use crate::{
    checker::{Checker, Violation},
    client::Clients,
    clock::Machine,
    counters::Counters,
    fault::Fault,
    network::{LinkId, Network, Peer},
    process::{
        GuestIn, LeaseIn, MasterIn, WorkerLoopInput, checkpoint::Question, master::Master,
        worker::SimWorker,
    },
    registry::{Expired, Registry, Request},
    rng::Rng,
    setting::Setting,
};
use muster_protocol::{
    SessionId, TaskId, fleet,
    lease::LeaseEvent,
    limit,
    message::{AttemptKey, ToMaster, ToWorker},
    watch::EndQuestion,
};
use std::collections::BinaryHeap;

/// True time, in nanoseconds since the start of the world.
pub type Nanos = u64;
/// A millisecond.
pub const MS: Nanos = 1_000_000;
/// A second.
pub const SECOND: Nanos = 1_000 * MS;

/// The most events that a world may handle: more than a hundred times what a typical world needs.
const STEPS_MAX: u64 = 3_000_000;

/// In one of this many worlds, one worker stays unable to prepare any attempt after everything else
/// heals.
const STAYS_UNWELL_EVERY: u64 = 8;

/// A future event of the world.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is explained where it is handled")]
pub enum SimEvent {
    Boot(Peer),
    Reconnect(Peer, u64),
    ConnectionLost(Peer, u64),
    Dial(usize, u64),
    LinkLost {
        link: LinkId,
        above: bool,
    },
    Up(LinkId, Box<ToMaster>),
    Down(LinkId, Box<ToWorker>),
    Land(Box<Request>),
    Answer {
        to: Peer,
        id: u64,
        connection: u64,
        session: SessionId,
        answer: Box<fleet::Event>,
    },
    GiveUp(Peer, u64),
    List {
        master: usize,
        session: SessionId,
        stream: usize,
    },
    EndAsked {
        master: usize,
        session: SessionId,
        stream: usize,
        number: u64,
        question: EndQuestion,
    },
    Master(usize, u64, MasterIn),
    MasterTurn(usize, u64),
    LeaseThread(usize, u64, LeaseIn),
    LeaseThreadTurn(usize, u64),
    WorkerLoop(usize, u64, WorkerLoopInput),
    WorkerLoopTurn(usize, u64),
    Guest(usize, u64, GuestIn),
    KernelTimer(usize, u64),
    Probe {
        worker: usize,
        incarnation: u64,
        due: Nanos,
    },
    Checkpoint(Box<Question>),
    Expire {
        what: Expired,
        losses: u64,
    },
    AnswerDue {
        worker: usize,
        key: AttemptKey,
        since: Nanos,
    },
    MoveDue(TaskId),
    Woken(usize),
    Submit(usize),
    Cancel(TaskId),
    UncordonAll,
    Strike(Fault),
    Disorder,
    RollBack,
    Flap(Peer),
    Heal,
}

struct Coming {
    at: Nanos,
    count: u64,
    what: SimEvent,
}

impl PartialEq for Coming {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
    }
}
impl Eq for Coming {}
impl PartialOrd for Coming {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Coming {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.count).cmp(&(self.at, self.count))
    }
}

/// One simulated fleet, with its clients, its clock and its future events. See the [module](self).
#[allow(missing_docs, reason = "each is explained by its type")]
pub struct World {
    pub now: Nanos,
    pub seed: u64,
    pub setting: Setting,
    pub rng: Rng,
    queue: BinaryHeap<Coming>,
    count: u64,
    pub machines: Vec<Machine>,
    pub masters: Vec<Master>,
    pub workers: Vec<SimWorker>,
    pub network: Network,
    pub registry: Registry,
    pub clients: Clients,
    pub checker: Checker,
    pub counters: Counters,
    pub violation: Option<Violation>,
    pub healing: bool,
    /// Whether the trace is printed.
    pub told: bool,
}

impl World {
    /// Creates the world of a seed, with random load and random faults.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let setting = Setting::of(seed, &mut rng);
        let mut world = World::with(seed, setting, rng);
        let lasts = world.setting.lasts;
        world.will_submit_all();
        world.later(SECOND, SimEvent::Disorder);
        if let Some(at) = world.setting.rollback_at {
            world.at(at, SimEvent::RollBack);
            // The rollback may then lose the dispatches of these tasks.
            let count = world.rng.between(2, 7);
            let before = world.rng.below(3 * SECOND);
            world.will_submit(at.saturating_sub(before), count, |_| ());
        }
        world.at(lasts, SimEvent::Heal);
        world
    }

    /// Creates a world that has no faults except those of its script.
    pub fn calm(seed: u64, change: impl FnOnce(&mut Setting)) -> Self {
        let mut rng = Rng::new(seed);
        let mut setting = Setting::calm(&mut rng);
        change(&mut setting);
        World::with(seed, setting, rng)
    }

    fn with(seed: u64, setting: Setting, rng: Rng) -> Self {
        let mut world = World {
            now: 0,
            seed,
            setting,
            rng,
            queue: BinaryHeap::new(),
            count: 0,
            machines: Vec::new(),
            masters: Vec::new(),
            workers: Vec::new(),
            network: Network::default(),
            registry: Registry::default(),
            clients: Clients::default(),
            checker: Checker::default(),
            counters: Counters { worlds: 1, ..Counters::default() },
            violation: None,
            healing: false,
            told: false,
        };
        for at in 0..world.setting.masters {
            let machine = world.new_machine();
            world.masters.push(Master::new(at, machine));
            world.later(0, SimEvent::Boot(Peer::Master(at)));
        }
        for at in 0..world.setting.workers {
            // Some workers run on the same machine as a master.
            let shares = world.setting.disorder && world.rng.once_in(6);
            let machine = if shares {
                world.rng.below(world.setting.masters as u64) as usize
            } else {
                world.new_machine()
            };
            let worker = SimWorker::new(&format!("w{}", at + 1), machine, &mut world);
            world.workers.push(worker);
            world.later(0, SimEvent::Boot(Peer::Worker(at)));
        }
        world
    }

    fn new_machine(&mut self) -> usize {
        self.machines.push(Machine::new(&mut self.rng));
        self.machines.len() - 1
    }

    /// Starts another process under the name of the first worker, on another machine.
    pub fn start_twin(&mut self) {
        if self.workers.iter().any(|worker| worker.twin) {
            return;
        }
        self.counters.twins += 1;
        let machine = self.new_machine();
        let mut worker = SimWorker::new("w1", machine, self);
        worker.twin = true;
        self.workers.push(worker);
        self.later(0, SimEvent::Boot(Peer::Worker(self.workers.len() - 1)));
    }

    /// Queues an event for the time `at`.
    pub fn at(&mut self, at: Nanos, what: SimEvent) {
        self.count += 1;
        self.queue.push(Coming { at: at.max(self.now), count: self.count, what });
    }

    /// Queues an event that happens `wait` after now.
    pub fn later(&mut self, wait: Nanos, what: SimEvent) {
        self.at(self.now + wait, what);
    }

    /// Prints a line of the trace, if the trace is on.
    pub fn say(&self, line: impl FnOnce(&World) -> String) {
        if self.told {
            println!("{:>12.3} ms  {}", self.now as f64 / MS as f64, line(self));
        }
    }

    /// Runs until every accepted task has ended, an invariant is violated, or the time limit is reached.
    pub fn play(&mut self) {
        let limit = self.setting.lasts + self.healing_limit();
        while self.violation.is_none() {
            let ended =
                self.healing && self.clients.all_answered() && self.open_tasks().next().is_none();
            if ended || !self.step(limit) {
                return self.every_task_ends_after_healing();
            }
        }
    }

    /// Runs until the time `end`, or until an invariant is violated.
    pub fn play_until(&mut self, end: Nanos) {
        while self.violation.is_none() && self.step(end) {}
        self.now = end;
    }

    /// The time limit of the healing phase: several times every hold and every wait for a master.
    fn healing_limit(&self) -> Nanos {
        let timing = &self.setting.timing;
        let longest =
            limit::MASS_SILENCE_MAX + self.setting.longest_outage() * 4 + timing.master() * 40;
        longest.as_nanos() as u64 + 120 * SECOND
    }

    fn step(&mut self, end: Nanos) -> bool {
        match self.queue.peek() {
            Some(next) if next.at <= end => {}
            _ => return false,
        }
        let Some(Coming { at, what, .. }) = self.queue.pop() else { return false };
        self.now = at;
        self.counters.steps += 1;
        if self.counters.steps > STEPS_MAX {
            self.violate("every_task_ends_after_healing", || "too much happens for that".into());
        }
        self.happen(what);
        true
    }

    fn happen(&mut self, what: SimEvent) {
        match what {
            SimEvent::Boot(Peer::Master(at)) => self.boot_master(at),
            SimEvent::Boot(Peer::Worker(at)) => {
                if !(self.healing && self.workers[at].twin) {
                    self.boot_worker(at);
                }
            }
            SimEvent::Boot(Peer::Registry) => {}
            SimEvent::Reconnect(peer, incarnation) => self.reconnect(peer, incarnation),
            SimEvent::ConnectionLost(peer, number) => match peer {
                Peer::Master(at) => {
                    let incarnation = self.masters[at].process.incarnation;
                    self.give_master(at, incarnation, MasterIn::ConnectionLost(number));
                }
                Peer::Worker(at) => {
                    let incarnation = self.workers[at].process.incarnation;
                    self.give_lease_thread(at, incarnation, LeaseIn::ConnectionLost(number));
                }
                Peer::Registry => {}
            },
            SimEvent::Dial(at, incarnation) => self.dial_all(at, incarnation),
            SimEvent::LinkLost { link, above: false } => self.lost_below(link),
            SimEvent::LinkLost { link, above: true } => {
                let Some((at, incarnation)) = self.network.links.get(&link).map(|link| link.master)
                else {
                    return;
                };
                if self.network.links[&link].open_above {
                    self.give_master(at, incarnation, MasterIn::LinkDown(link));
                }
            }
            SimEvent::Up(link, frame) => {
                let Some((at, incarnation)) = self.network.links.get(&link).map(|link| link.master)
                else {
                    return;
                };
                self.give_master(at, incarnation, MasterIn::Frame(link, frame));
            }
            SimEvent::Down(link, frame) => self.worker_frame(link, *frame),
            SimEvent::Land(request) => self.land(*request),
            SimEvent::Answer { to, id, connection, session, answer } => {
                self.answered(to, id, connection, session, *answer);
            }
            SimEvent::GiveUp(peer, id) => self.give_up(peer, id),
            SimEvent::List { master, session, stream } => self.list(master, session, stream),
            SimEvent::EndAsked { master, session, stream, number, question } => {
                self.end_asked(master, session, stream, number, question);
            }
            SimEvent::Master(at, incarnation, input) => self.give_master(at, incarnation, input),
            SimEvent::MasterTurn(at, incarnation) => self.master_turn(at, incarnation),
            SimEvent::LeaseThread(at, incarnation, input) => {
                self.give_lease_thread(at, incarnation, input)
            }
            SimEvent::LeaseThreadTurn(at, incarnation) => self.lease_thread_turn(at, incarnation),
            SimEvent::WorkerLoop(at, incarnation, input) => {
                self.give_worker_loop(at, incarnation, input)
            }
            SimEvent::WorkerLoopTurn(at, incarnation) => self.worker_loop_turn(at, incarnation),
            SimEvent::Guest(at, incarnation, input) => self.guest(at, incarnation, input),
            SimEvent::KernelTimer(at, incarnation) => self.kernel_timer(at, incarnation),
            SimEvent::Checkpoint(question) => self.checkpoint(*question),
            SimEvent::Expire { what, losses } => self.expire(what, losses),
            SimEvent::AnswerDue { worker, key, since } => {
                self.no_dispatch_goes_unanswered(worker, key, since);
            }
            SimEvent::Probe { worker, incarnation, due } => self.probe(worker, incarnation, due),
            SimEvent::MoveDue(task) => self.a_task_moves_while_another_worker_fits(task),
            SimEvent::Woken(machine) => self.woken(machine),
            SimEvent::Submit(batch) => self.submit(batch),
            SimEvent::Cancel(task) => self.cancel(task),
            SimEvent::UncordonAll => self.uncordon_all(),
            SimEvent::Strike(fault) => self.strike(fault),
            SimEvent::Disorder => self.disorder(),
            SimEvent::RollBack => self.lose_writes(),
            SimEvent::Flap(peer) => self.flap(peer),
            SimEvent::Heal => self.heal(),
        }
    }

    fn reconnect(&mut self, peer: Peer, incarnation: u64) {
        let process = match peer {
            Peer::Master(at) => &self.masters[at].process,
            Peer::Worker(at) => &self.workers[at].process,
            Peer::Registry => return,
        };
        if process.incarnation != incarnation {
            return;
        }
        if self.is_still(process) || !self.connects(peer) {
            let wait = self.rng.between(50 * MS, 400 * MS);
            return self.later(wait, SimEvent::Reconnect(peer, incarnation));
        }
        match peer {
            Peer::Master(at) => self.give_master(at, incarnation, MasterIn::Connected),
            Peer::Worker(at) => self.tell_lease_thread(at, incarnation, LeaseEvent::Direct(true)),
            Peer::Registry => {}
        }
    }

    /// The registry loses the newest writes of some streams: of all of them from one moment on, or of
    /// each from a moment of its own.
    fn lose_writes(&mut self) {
        if self.healing {
            return;
        }
        let most = self.rng.pick(&[250 * MS, SECOND, 4 * SECOND, 12 * SECOND]);
        let first = self.now.saturating_sub(most);
        let together = self.rng.once_in(3).then(|| self.rng.between(first, self.now));
        let to = [(); 3].map(|()| match together {
            Some(to) => Some(to),
            None => self.rng.once_in(2).then(|| self.rng.between(first, self.now)),
        });
        if to == [None; 3] {
            return self.lose_writes();
        }
        self.say(|_| {
            let to = to.map(|to| to.map(|to| to as f64 / MS as f64));
            format!("the registry forgets all after {to:.3?}")
        });
        self.roll_back(to);
        // A worker that reaches the registry but no master cannot report to a master what it runs.
        if self.rng.once_in(2) {
            let worker = self.rng.below(self.workers.len() as u64) as usize;
            let lease = self.setting.timing.master().as_nanos() as u64;
            let lasts = self.rng.between(lease, 6 * lease);
            for master in 0..self.masters.len() {
                let cut = Fault::CutBoth(Peer::Worker(worker), Peer::Master(master), lasts);
                self.strike(cut);
            }
        }
        // Masters that share the host of the registry may have lost power as well.
        let all = self.rng.once_in(3);
        for at in 0..self.masters.len() {
            if all || self.rng.once_in(4) {
                let again_in = self.rng.between(20 * MS, 3 * SECOND);
                self.strike(Fault::Crash(Peer::Master(at), again_in));
            }
        }
    }

    /// Ends all faults. After this, only one worker may stay unwell.
    pub fn heal(&mut self) {
        self.say(|_| "everything heals".into());
        self.healing = true;
        self.mend();
        self.registry.down_until = self.registry.down_until.min(self.now);
        self.registry.lags_until = self.now;
        self.registry.elects_until = [self.now; 3];
        for worker in &mut self.workers {
            worker.unwell_until = self.now;
        }
        for at in 0..self.workers.len() {
            if self.workers[at].twin {
                self.end_worker(at, 0);
            }
        }
        self.uncordon_all();
        if self.rng.once_in(STAYS_UNWELL_EVERY) {
            self.one_stays_unwell();
        }
    }

    /// One worker stays unable to prepare any attempt; other workers have to run its tasks.
    fn one_stays_unwell(&mut self) {
        let timing = &self.setting.timing;
        let calm = self.setting.longest_outage() * 3 + timing.master() * 8;
        let from = self.now + calm.as_nanos() as u64;
        let sick = self.rng.below(self.setting.workers as u64) as usize;
        let says_so = self.rng.once_in(2);
        self.stays_unwell(sick, from, says_so);
        self.will_submit(from, 2 * self.setting.workers as u64, |_| ());
    }
}
