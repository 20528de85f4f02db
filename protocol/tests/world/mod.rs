//! The world of the walk: simulated time, one queue of things to come, and faults by chance.

mod master;
mod registry;
mod worker;

use muster_protocol::{
    Digest, Revision, TaskId, Time, WorkerId,
    api::NewTask,
    fleet::{self, Fleet, LinkId},
    lease::{Lease, LeaseTiming},
    message::{AttemptKey, ToMaster, ToWorker},
    task::{Data, ModuleRef, TaskRecord, TaskSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use worker::Worker;

pub const TIMING: LeaseTiming = LeaseTiming::FAST;
const TASKS: u128 = 12;
/// How long there is disorder, and how long the rest may take.
const DISORDER: u64 = 15_000;
const HEALING: u64 = 90_000;

/// xorshift64*: small, and the same everywhere.
pub struct Chance(u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// How often things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub steps: u64,
    pub runs: u64,
    pub ends: u64,
    pub lost: u64,
    pub conflicts: u64,
    pub unknown: u64,
    pub late: u64,
    pub fenced: u64,
    pub crashes: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.runs += other.runs;
        self.ends += other.ends;
        self.lost += other.lost;
        self.conflicts += other.conflicts;
        self.unknown += other.unknown;
        self.late += other.late;
        self.fenced += other.fenced;
        self.crashes += other.crashes;
    }
}

/// Who waits for the answer to a lease write.
#[derive(Clone, Debug)]
pub enum Asker {
    /// A life of the master, for a worker's link or for itself.
    Master(u64, Option<LinkId>),
    /// A life of a worker.
    Worker(usize, u64),
    Nobody,
}

#[derive(Clone, Debug)]
pub enum Coming {
    /// To a life of the master.
    Master(u64, fleet::Event),
    FleetTick(u64, u64),
    WriteTask {
        expect: Revision,
        record: Arc<TaskRecord>,
        asker: Option<u64>,
    },
    ReadTask(u64, TaskId),
    WriteLease {
        expect: Revision,
        lease: Lease,
        asker: Asker,
    },
    ToWorker(LinkId, ToWorker),
    ToMaster(LinkId, ToMaster),
    Unlinked(LinkId, bool),
    Worker(usize, worker::Coming),
    Fault,
}

pub struct Link {
    pub worker: usize,
    worker_life: u64,
    master_life: u64,
    pub dead: bool,
    /// When the last frame arrives in each direction: frames stay in order.
    down: u64,
    up: u64,
}

pub struct World {
    pub now: u64,
    pub chance: Chance,
    queue: BTreeMap<(u64, u64), Coming>,
    count: u64,
    pub healing: bool,
    fleet: Fleet,
    master_life: u64,
    fleet_due: u64,
    watch_at: u64,
    registry_up: bool,
    tasks: BTreeMap<TaskId, (Arc<TaskRecord>, Revision)>,
    pub leases: BTreeMap<WorkerId, (Lease, Revision)>,
    revision: Revision,
    pub links: BTreeMap<LinkId, Link>,
    pub workers: Vec<Worker>,
    accepted: BTreeSet<TaskId>,
    /// What runs, by task: the truth that no mind sees.
    pub running: BTreeMap<TaskId, (usize, AttemptKey)>,
    pub tally: Tally,
}

/// Milliseconds of the walk as a reading of everybody's clock.
pub fn time(ms: u64) -> Time {
    Time::from_nanos((1_000_000 + ms) * 1_000_000)
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        chance.below(2);
        let mut world = World {
            now: 0,
            chance,
            queue: BTreeMap::new(),
            count: 0,
            healing: false,
            fleet: master::new_fleet(0),
            master_life: 0,
            fleet_due: 0,
            watch_at: 0,
            registry_up: true,
            tasks: BTreeMap::new(),
            leases: BTreeMap::new(),
            revision: 0,
            links: BTreeMap::new(),
            workers: (0..2).map(Worker::new).collect(),
            accepted: BTreeSet::new(),
            running: BTreeMap::new(),
            tally: Tally::default(),
        };
        world.start_master();
        world.later(0, Coming::Worker(0, worker::Coming::Boot(0)));
        world.later(0, Coming::Worker(1, worker::Coming::Boot(0)));
        world.later(100, Coming::Fault);
        world
    }

    pub fn later(&mut self, wait: u64, what: Coming) {
        self.count += 1;
        self.queue.insert((self.now + wait, self.count), what);
    }

    /// A short while, on the network or in a process.
    pub fn soon(&mut self) -> u64 {
        let most = if self.chance.once_in(20) { 400 } else { 10 };
        self.chance.below(most)
    }

    pub fn play(&mut self) {
        for id in 1..=TASKS {
            let at = self.chance.below(DISORDER / 2);
            let submit = fleet::Event::Submitted { request: id as u64, tasks: vec![self.task(id)] };
            self.later(at, Coming::Master(u64::MAX, submit.clone()));
            // As a client that had no answer would.
            self.later(at + 2_000, Coming::Master(u64::MAX, submit));
            if self.chance.once_in(6) {
                let cancel = fleet::Event::CancelAsked { request: 99, task: TaskId(id) };
                self.later(at + 1_000, Coming::Master(u64::MAX, cancel));
            }
        }
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            if !self.healing && at > DISORDER {
                self.heal();
            }
            if self.healing && self.accepted.iter().all(|id| self.tasks[id].0.is_done()) {
                return;
            }
            assert!(at < DISORDER + HEALING, "not over: {:#?}\n{:#?}", self.open(), self.fleet);
            self.tally.steps += 1;
            self.happen(what);
        }
    }

    fn open(&self) -> Vec<&TaskRecord> {
        let records = self.tasks.values().map(|(record, _)| record.as_ref());
        records.filter(|record| !record.is_done()).collect()
    }

    fn task(&mut self, id: u128) -> NewTask {
        let module = ModuleRef { name: None, digest: Digest([self.chance.below(2) as u8; 32]) };
        let mut spec = TaskSpec::new(module, Data::EMPTY);
        spec.retry.attempts_max = 3;
        spec.retry.backoff_ms = 200;
        NewTask { id: TaskId(id), spec: Arc::new(spec) }
    }

    fn happen(&mut self, what: Coming) {
        match what {
            Coming::Master(life, event) => self.tell_master(life, event),
            Coming::FleetTick(life, due) => {
                if (life, due) == (self.master_life, self.fleet_due) {
                    self.plan();
                }
            }
            Coming::WriteTask { expect, record, asker } => self.write_task(expect, record, asker),
            Coming::ReadTask(life, id) => {
                let found =
                    self.tasks.get(&id).map(|(record, at)| (Box::new((**record).clone()), *at));
                let wait = self.soon();
                self.later(wait, Coming::Master(life, fleet::Event::TaskRead(id, found)));
            }
            Coming::WriteLease { expect, lease, asker } => self.write_lease(expect, lease, asker),
            Coming::ToWorker(link, message) => {
                if let Some(known) = self.links.get(&link).filter(|link| !link.dead) {
                    let (worker, life) = (known.worker, known.worker_life);
                    self.worker(worker, worker::Coming::Told(life, link, message));
                }
            }
            Coming::ToMaster(link, message) => self.hear(link, message),
            Coming::Unlinked(link, at_master) => {
                let Link { worker, worker_life, master_life, .. } = self.links[&link];
                if at_master {
                    let worker = self.workers[worker].name.clone();
                    let event = fleet::Event::Unlinked { worker, link };
                    self.tell_master(master_life, event);
                } else {
                    self.worker(worker, worker::Coming::Unlinked(worker_life, link));
                }
            }
            Coming::Worker(worker, what) => self.worker(worker, what),
            Coming::Fault => self.fault(),
        }
    }

    // Links.

    pub fn dial(&mut self, worker: usize, worker_life: u64) -> LinkId {
        let link = self.links.len() as LinkId + 1;
        let (master_life, now) = (self.master_life, self.now);
        let new = Link { worker, worker_life, master_life, dead: false, down: now, up: now };
        self.links.insert(link, new);
        link
    }

    pub fn send_up(&mut self, link: LinkId, message: ToMaster) {
        let wait = self.soon();
        if let Some(known) = self.links.get_mut(&link) {
            known.up = known.up.max(self.now + wait);
            let wait = known.up - self.now;
            self.later(wait, Coming::ToMaster(link, message));
        }
    }

    /// Both ends notice, each in its own time.
    pub fn cut(&mut self, link: LinkId) {
        let Some(known) = self.links.get_mut(&link).filter(|link| !link.dead) else { return };
        known.dead = true;
        for at_master in [false, true] {
            let wait = self.chance.below(2_000);
            self.later(wait, Coming::Unlinked(link, at_master));
        }
    }

    // Disorder.

    fn fault(&mut self) {
        if self.healing {
            return;
        }
        let wait = self.chance.below(700);
        self.later(wait, Coming::Fault);
        let worker = self.chance.below(2) as usize;
        match self.chance.below(10) {
            0..=3 => {
                let links: Vec<_> = self.links.iter().filter(|(_, link)| !link.dead).collect();
                let links: Vec<_> = links.into_iter().map(|(&link, _)| link).collect();
                if !links.is_empty() {
                    let which = self.chance.below(links.len() as u64) as usize;
                    self.cut(links[which]);
                }
            }
            4 | 5 => self.crash(worker),
            6 => {
                let pause = self.chance.below(2_500);
                self.workers[worker].frozen_until = self.now + pause;
            }
            7 => self.workers[worker].dial_again(),
            8 => {
                self.registry_up = !self.registry_up;
                let event = if self.registry_up {
                    fleet::Event::RegistryUp
                } else {
                    fleet::Event::RegistryDown
                };
                self.tell_master(u64::MAX, event);
            }
            _ => self.start_master(),
        }
    }

    fn heal(&mut self) {
        self.healing = true;
        if !self.registry_up {
            self.registry_up = true;
            self.tell_master(u64::MAX, fleet::Event::RegistryUp);
        }
    }
}
