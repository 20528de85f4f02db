//! A worker's shell: its process, its links, and its main loop. Never runs a guest itself (that is
//! `guest`), and never touches the lease (that is `lease_thread`, with a loop of its own).

use super::{LeaseIn, LoopQueue, Process, WorkerLoopInput, guest::Run, lease_thread::KernelTimer};
use crate::{
    network::{LinkId, Peer},
    registry::Connection,
    world::{MS, Nanos, SimEvent, World},
};
use muster_protocol::{
    Nonce, SessionId, Time, WorkerId,
    attempts::{Attempts, Effect, Event},
    health::Health,
    lease::{Deadman, Lease, LeaseEvent, LeaseLoop, Offer, Unwell},
    message::{AttemptKey, ToWorker},
    registry::Holds,
};
use std::collections::BTreeMap;

/// A worker.
#[derive(Debug)]
pub struct SimWorker {
    /// Its name. Two processes may have the same name.
    pub name: WorkerId,
    /// Its process.
    pub process: Process,
    /// Its connection to the registry, if it has one.
    pub connection: Option<Connection>,
    /// The inputs that wait for its lease loop.
    pub lease_queue: LoopQueue<LeaseIn>,
    /// The inputs that wait for its main loop.
    pub loop_queue: LoopQueue<WorkerLoopInput>,
    /// The worker's state machine of the lease.
    pub lease_loop: LeaseLoop,
    /// The content of its leases, except for the session.
    draft: Lease,
    /// When the lease loop needs its next turn.
    pub lease_due: Nanos,
    /// The highest revisions of the attempts that it holds. Its two loops share this value.
    pub holds: Holds,
    /// The state machine of its attempts.
    pub current: Attempts,
    loop_due: Nanos,
    /// Its end of each open link.
    pub links: BTreeMap<LinkId, LinkEnd>,
    /// Its runs.
    pub runs: BTreeMap<AttemptKey, Run>,
    /// The end of its lease, as the gates of its guests see it, with the kernel's timer behind the
    /// gates.
    pub deadman: Deadman<KernelTimer>,
    stopping: bool,
    /// Whether it is a second process under the name of another.
    pub twin: bool,
    /// The time until which it cannot prepare any attempt.
    pub unwell_until: Nanos,
    /// Whether it knows about the shortage of its host.
    pub says_so: bool,
    /// The state machine of its host's health.
    pub health: Health,
    /// When it probes the host next.
    pub probe_due: Nanos,
    /// The shortage that its lease reports.
    pub unwell: Option<Unwell>,
    /// The last time at which all its slots were full. They may be full now.
    pub full_until: Nanos,
}

/// A worker's end of a link.
#[derive(Clone, Debug)]
pub struct LinkEnd {
    /// The index of the master.
    pub master: usize,
    greeted: bool,
}

/// The number of attempts that a worker runs at once.
pub const SLOTS: u32 = 2;

impl SimWorker {
    /// A worker that is not started yet.
    pub fn new(name: &str, machine: usize, world: &mut World) -> Self {
        let timing = world.setting.timing;
        let draft = Lease {
            home_dir: Nonce(world.rng.any()),
            offer: Offer { slots: SLOTS, memory_bytes: u64::MAX, ..Offer::default() },
            ..Lease::new(name.parse().expect("a name"), SessionId(0))
        };
        let has_nats = !world.setting.disorder || !world.rng.once_in(4);
        SimWorker {
            name: draft.worker.clone(),
            process: Process { incarnation: 0, alive: false, machine, stopped_until: 0 },
            connection: has_nats.then(Connection::default),
            lease_queue: LoopQueue::default(),
            loop_queue: LoopQueue::default(),
            lease_loop: LeaseLoop::new(timing, draft.clone(), 0),
            draft,
            lease_due: 0,
            holds: Holds::default(),
            current: Attempts::new(SLOTS, String::new()),
            loop_due: 0,
            links: BTreeMap::new(),
            runs: BTreeMap::new(),
            deadman: Deadman::new(timing.kill_margin(), KernelTimer::default()),
            stopping: false,
            twin: false,
            unwell_until: 0,
            says_so: false,
            health: Health::new(Time::ZERO),
            probe_due: 0,
            unwell: None,
            full_until: 0,
        }
    }
}

impl World {
    /// The reading of the clock that a worker's process sees.
    pub fn worker_clock(&self, at: usize) -> Time {
        self.machines[self.workers[at].process.machine].clock(self.now)
    }

    /// Starts the process.
    pub fn boot_worker(&mut self, at: usize) {
        // Whether it has the lock of its predecessor's state directory.
        let proven = self.setting.keeps_disk && (!self.setting.disorder || self.rng.once_in(2));
        let (home_dir, seed) = (Nonce(self.rng.any()), self.rng.any());
        let (timing, over_max) = (self.setting.timing, self.setting.over_max);
        let worker = &mut self.workers[at];
        if worker.process.alive {
            return;
        }
        worker.process.incarnation += 1;
        worker.process.alive = true;
        (worker.lease_queue, worker.loop_queue) = (LoopQueue::default(), LoopQueue::default());
        if !proven {
            worker.draft.home_dir = home_dir;
        }
        worker.lease_loop = LeaseLoop::new(timing, worker.draft.clone(), seed);
        worker.lease_due = 0;
        worker.holds = Holds::default();
        worker.current = Attempts::new(SLOTS, String::new()).remembering(over_max);
        worker.loop_due = 0;
        worker.stopping = false;
        worker.unwell = None;
        worker.deadman = Deadman::new(timing.kill_margin(), KernelTimer::default());
        let incarnation = worker.process.incarnation;
        let has_nats = worker.connection.is_some();
        self.say(|world| format!("{} starts", world.workers[at].name));
        self.later(0, SimEvent::Dial(at, incarnation));
        if has_nats {
            self.later(MS, SimEvent::Reconnect(Peer::Worker(at), incarnation));
        }
        self.later(5 * MS, SimEvent::LeaseThread(at, incarnation, LeaseIn::Tick(0)));
        self.workers[at].health = Health::new(self.worker_clock(at));
        self.tell_health(at, incarnation);
    }

    /// Ends the process, and starts it again after `again_in`.
    pub fn end_worker(&mut self, at: usize, again_in: Nanos) {
        let worker = &mut self.workers[at];
        if !worker.process.alive {
            return;
        }
        worker.process.alive = false;
        worker.process.incarnation += 1;
        worker.process.stopped_until = 0;
        worker.runs.clear();
        self.checker.answers.process_over(at);
        self.say(|world| format!("{} is gone", world.workers[at].name));
        for id in core::mem::take(&mut self.workers[at].links).into_keys() {
            if let Some(link) = self.network.links.get_mut(&id) {
                link.open_below = false;
            }
            self.link_breaks(id, 200 * MS);
        }
        self.connection_closed(Peer::Worker(at));
        self.later(again_in, SimEvent::Boot(Peer::Worker(at)));
    }

    /// Dials every master to which the process has no link.
    pub fn dial_all(&mut self, at: usize, incarnation: u64) {
        if self.workers[at].process.incarnation != incarnation {
            return;
        }
        let wait = self.rng.between(100 * MS, 400 * MS);
        self.later(wait, SimEvent::Dial(at, incarnation));
        if self.is_still(&self.workers[at].process) {
            return;
        }
        for master in 0..self.masters.len() {
            if self.workers[at].links.values().any(|end| end.master == master) {
                continue;
            }
            let Some(link) = self.dial(at, master) else { continue };
            let end = LinkEnd { master, greeted: false };
            self.workers[at].links.insert(link, end);
            let when = self.arrival(Peer::Worker(at), Peer::Master(master));
            let master_incarnation = self.masters[master].process.incarnation;
            let up = super::MasterIn::LinkUp(link);
            self.at(when, SimEvent::Master(master, master_incarnation, up));
        }
    }

    /// A frame arrives at a worker.
    pub fn worker_frame(&mut self, link: LinkId, frame: ToWorker) {
        let Some(known) = self.network.links.get(&link).filter(|link| link.open_below) else {
            return;
        };
        let (at, incarnation) = known.worker;
        if self.workers[at].process.incarnation != incarnation {
            return;
        }
        match frame {
            ToWorker::Renewed { session, renewal, answer } => {
                let direct = false;
                let event = LeaseEvent::Answered { session, renewal, answer, direct };
                self.tell_lease_thread(at, incarnation, event);
            }
            ToWorker::Extended { session, home, renewal } => {
                self.tell_lease_thread(
                    at,
                    incarnation,
                    LeaseEvent::Extended { session, home, renewal },
                );
            }
            frame => {
                if let ToWorker::Welcome { master, machine, .. } = &frame {
                    let near = self.machines[self.workers[at].process.machine].boot == *machine;
                    let master = master.clone();
                    self.tell_lease_thread(
                        at,
                        incarnation,
                        LeaseEvent::Linked { link, master, near },
                    );
                }
                self.give_worker_loop(
                    at,
                    incarnation,
                    WorkerLoopInput::Frame(link, Box::new(frame)),
                );
            }
        }
    }

    /// The worker's end of a link notices that the link is lost.
    pub fn lost_below(&mut self, link: LinkId) {
        let Some(known) = self.network.links.get_mut(&link) else { return };
        let (at, incarnation) = known.worker;
        if !core::mem::replace(&mut known.open_below, false)
            || self.workers[at].process.incarnation != incarnation
        {
            return;
        }
        self.workers[at].links.remove(&link);
        self.checker.answers.link_lost(at, link);
        self.tell_lease_thread(at, incarnation, LeaseEvent::Unlinked(link));
        self.give_worker_loop(
            at,
            incarnation,
            WorkerLoopInput::Event(Box::new(Event::Unlinked(link))),
        );
    }

    /// Gives an input to a worker's main loop.
    pub fn give_worker_loop(&mut self, at: usize, incarnation: u64, input: WorkerLoopInput) {
        let worker = &self.workers[at];
        if worker.process.incarnation != incarnation || !worker.process.alive {
            return;
        }
        let free = self.still_until(&worker.process).max(worker.loop_queue.busy_until);
        let (input, turn) = self.workers[at].loop_queue.take_in(self.now, free, input);
        if let Some(turn) = turn {
            self.at(turn, SimEvent::WorkerLoopTurn(at, incarnation));
        }
        if let Some(input) = input {
            self.worker_loop_hears(at, input);
            self.plan_worker_loop(at);
        }
    }

    /// Gives the main loop its turn.
    pub fn worker_loop_turn(&mut self, at: usize, incarnation: u64) {
        let worker = &self.workers[at];
        if worker.process.incarnation != incarnation {
            return;
        }
        let free = self.still_until(&worker.process).max(worker.loop_queue.busy_until);
        if free > self.now {
            return self.at(free, SimEvent::WorkerLoopTurn(at, incarnation));
        }
        while let Some(input) = self.workers[at].loop_queue.next_in() {
            self.worker_loop_hears(at, input);
        }
        self.plan_worker_loop(at);
    }

    fn worker_loop_hears(&mut self, at: usize, input: WorkerLoopInput) {
        let now = self.worker_clock(at);
        if let WorkerLoopInput::Frame(link, frame) = &input {
            self.worker_hears(at, *link, frame);
        }
        let worker = &mut self.workers[at];
        let event = match input {
            WorkerLoopInput::Event(event) => *event,
            WorkerLoopInput::Frame(link, frame) => {
                // A frame that came before its link was lost still counts, although this loop was busy.
                match (worker.links.get_mut(&link), *frame) {
                    (None, ToWorker::Welcome { .. }) => return,
                    (Some(end), ToWorker::Welcome { master, .. }) if !end.greeted => {
                        end.greeted = true;
                        Event::Linked(link, master.session)
                    }
                    (_, frame) => Event::Received(link, frame),
                }
            }
            WorkerLoopInput::Tick(due) => {
                if worker.loop_due == due {
                    worker.loop_due = 0;
                }
                return;
            }
        };
        worker.stopping |= matches!(event, Event::StopAsked { .. });
        worker.current.observe(now, event);
    }

    fn plan_worker_loop(&mut self, at: usize) {
        let now = self.worker_clock(at);
        let worker = &mut self.workers[at];
        let incarnation = worker.process.incarnation;
        let mut effects = Vec::new();
        worker.current.plan(now, &mut effects);
        if let Some(next) = worker.current.wakeup() {
            if next <= now {
                self.violate("a_loop_never_spins", || format!("worker {at} would spin"));
            }
            let due =
                self.machines[self.workers[at].process.machine].when(next).max(self.now + MS / 10);
            let worker = &mut self.workers[at];
            if worker.loop_due == 0 || due < worker.loop_due {
                worker.loop_due = due;
                self.at(due, SimEvent::WorkerLoop(at, incarnation, WorkerLoopInput::Tick(due)));
            }
        }
        for effect in effects {
            self.act(at, incarnation, effect);
        }
    }

    fn act(&mut self, at: usize, incarnation: u64, effect: Effect) {
        match effect {
            Effect::Prepare { dispatch, .. } => {
                let key = dispatch.key;
                let unwell = self.now < self.workers[at].unwell_until;
                if unwell {
                    self.host_failed(at, incarnation);
                }
                let fails = unwell || (self.setting.disorder && self.rng.once_in(20));
                let event = if fails {
                    Event::NotPrepared { key, for_good: false, reason: String::new() }
                } else {
                    Event::Prepared(key)
                };
                let wait = self.soon();
                self.later(
                    wait,
                    SimEvent::WorkerLoop(at, incarnation, WorkerLoopInput::Event(Box::new(event))),
                );
            }
            Effect::Start(dispatch) => self.start(at, &dispatch),
            Effect::Kill { key, why } => self.kill(at, key, why.into()),
            // Every run has a slot here.
            Effect::Drop(_) | Effect::Recall(_) => {}
            Effect::SetHolds(holds) => self.workers[at].holds = holds,
            Effect::SetLeaseState(standing) => {
                let stand = Box::new(LeaseEvent::SetState(standing));
                self.later(0, SimEvent::LeaseThread(at, incarnation, LeaseIn::Event(stand)));
            }
            Effect::Send { link, message } => {
                self.checker.answers.said(at, link, &message);
                self.send_up(link, message);
            }
            Effect::Quiet if self.workers[at].stopping => {
                let release = LeaseIn::Event(Box::new(LeaseEvent::Release));
                self.later(0, SimEvent::LeaseThread(at, incarnation, release));
            }
            Effect::Quiet => {
                if !self.workers[at].runs.is_empty() {
                    self.violate("quiet_means_that_nothing_runs", || format!("worker {at}"));
                }
                let quiet = LeaseIn::Event(Box::new(LeaseEvent::Quiet));
                self.later(0, SimEvent::LeaseThread(at, incarnation, quiet));
            }
        }
    }
}
