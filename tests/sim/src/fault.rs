//! The faults: what each one does, and the random choice among them. Never a fault that the promises do
//! not cover: clocks keep their rates, and except for a rollback the registry keeps what it
//! acknowledged.

use crate::{
    network::{LinkId, Peer},
    process::MasterIn,
    process::WorkerLoopInput,
    world::{MS, Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{attempts::Event, message::WorkerCommand};

/// A fault, or an action of an operator. Each duration is in true time.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A link breaks.
    LinkBreaks(LinkId),
    /// No message gets from the first to the second, for this duration.
    Cut(Peer, Peer, Nanos),
    /// No message gets between the two in either direction, for this duration.
    CutBoth(Peer, Peer, Nanos),
    /// A worker reaches neither a master nor the registry, for this duration.
    Isolate(usize, Nanos),
    /// A process crashes, and starts again after this duration.
    Crash(Peer, Nanos),
    /// A process and its guests are stopped, for this duration.
    Stop(Peer, Nanos),
    /// A machine sleeps, for this duration.
    Sleep(usize, Nanos),
    /// A loop is busy, for this duration: that of a master, or of a worker. With `true` it is the
    /// worker's lease loop instead of its main loop.
    Stall(Peer, bool, Nanos),
    /// The registry is down, for this duration.
    Outage(Nanos),
    /// The registry answers nobody for this duration, and then answers all requests.
    RegistryStalls(Nanos),
    /// A master's watch of a stream shows nothing for this duration, and then shows everything.
    WatchStalls(usize, usize, Nanos),
    /// A master's consumer of a stream stops delivering, without an error.
    WatchDies(usize, usize),
    /// An operator sends a command to a worker.
    Order(usize, WorkerCommand),
    /// An operator stops a process gracefully.
    StopAsked(Peer),
    /// Another process starts under the name of the first worker.
    Twin,
    /// A connection to the registry breaks this many times in quick succession.
    Flaps(Peer, u64),
    /// The leaders of the streams do not know the newest write, for this duration.
    LeaderLags(Nanos),
    /// A node of the registry's cluster fails. Streams have no leader for up to this duration.
    NodeFails(Nanos),
    /// The answers to a master's reads arrive only after this duration.
    ReadsLate(usize, Nanos),
    /// A stream is deleted and created again.
    MakeAnew(usize),
    /// A worker cannot prepare any attempt, for this duration. With `true` it reports the shortage;
    /// otherwise it does not know the cause.
    Unwell(usize, Nanos, bool),
    /// The next dispatch on a link is late by this duration. With `true` its master closes its end of
    /// the link meanwhile.
    LateDispatch(LinkId, Nanos, bool),
}

impl World {
    /// Injects a fault.
    pub fn strike(&mut self, fault: Fault) {
        self.say(|_| format!("fault: {fault:?}"));
        self.counters.faults += 1;
        match fault {
            Fault::LinkBreaks(link) => {
                self.counters.links_broken += 1;
                self.link_breaks(link, 2 * SECOND);
            }
            Fault::Cut(from, to, lasts) => {
                self.counters.cuts += 1;
                self.cut(from, to, lasts);
            }
            Fault::CutBoth(one, other, lasts) => {
                self.counters.cuts += 1;
                self.cut(one, other, lasts);
                self.cut(other, one, lasts);
            }
            Fault::Isolate(at, lasts) => {
                self.counters.cuts += 1;
                let masters = (0..self.masters.len()).map(Peer::Master);
                for other in masters.chain([Peer::Registry]).collect::<Vec<_>>() {
                    self.cut(Peer::Worker(at), other, lasts);
                    self.cut(other, Peer::Worker(at), lasts);
                }
            }
            Fault::Crash(peer, again_in) => {
                self.counters.crashes += 1;
                match peer {
                    Peer::Master(at) => self.end_master(at, again_in),
                    Peer::Worker(at) => self.end_worker(at, again_in),
                    Peer::Registry => {}
                }
            }
            Fault::Stop(peer, lasts) => {
                self.counters.stops += 1;
                let until = self.now + lasts;
                match peer {
                    Peer::Master(at) => self.masters[at].process.stopped_until = until,
                    Peer::Worker(at) => self.workers[at].process.stopped_until = until,
                    Peer::Registry => {}
                }
            }
            Fault::Sleep(machine, lasts) => {
                if self.machines[machine].is_asleep(self.now) {
                    return;
                }
                self.counters.sleeps += 1;
                let until = self.now + lasts;
                self.machines[machine].sleep(self.now, until);
                self.at(until + 500, SimEvent::Woken(machine));
            }
            Fault::Stall(peer, of_lease, lasts) => {
                self.counters.stalls += 1;
                let until = self.now + lasts;
                match peer {
                    Peer::Master(at) => self.masters[at].queue.busy_until = until,
                    Peer::Worker(at) if of_lease => self.workers[at].lease_queue.busy_until = until,
                    Peer::Worker(at) => self.workers[at].loop_queue.busy_until = until,
                    Peer::Registry => {}
                }
            }
            Fault::Outage(lasts) => self.outage(lasts),
            Fault::RegistryStalls(lasts) => {
                self.registry.stalled_until = self.now + lasts;
            }
            Fault::WatchStalls(at, stream, lasts) => {
                let until = self.now + lasts;
                if let Some(current) = &mut self.masters[at].current {
                    current.followers[stream].stall(until);
                }
            }
            Fault::WatchDies(at, stream) => {
                if let Some(current) = &mut self.masters[at].current
                    && current.followers[stream].die()
                {
                    self.counters.watches_dead += 1;
                }
            }
            Fault::Order(at, order) => self.order(at, order),
            Fault::StopAsked(Peer::Master(at)) => {
                let incarnation = self.masters[at].process.incarnation;
                self.give_master(at, incarnation, MasterIn::Stop);
            }
            Fault::StopAsked(Peer::Worker(at)) => {
                let wait = std::time::Duration::from_millis(self.rng.below(2_000));
                let deadline = self.worker_clock(at) + wait;
                let incarnation = self.workers[at].process.incarnation;
                let asked = Box::new(Event::StopAsked { deadline });
                self.give_worker_loop(at, incarnation, WorkerLoopInput::Event(asked));
            }
            Fault::StopAsked(Peer::Registry) => {}
            Fault::Twin => self.start_twin(),
            Fault::Flaps(peer, times) => self.flaps(peer, times),
            // One lag after another, each shorter than the time for which a server may believe that it
            // is the leader.
            Fault::LeaderLags(_) if self.now < self.registry.lags_until + 15 * SECOND => {}
            Fault::LeaderLags(lasts) => {
                self.counters.lags += 1;
                (self.registry.lags_from, self.registry.lags_until) = (self.now, self.now + lasts);
            }
            Fault::NodeFails(lasts) => self.node_fails(lasts),
            Fault::ReadsLate(master, lasts) => {
                self.registry.reads_late = Some((master, self.now + lasts));
            }
            Fault::MakeAnew(stream) => self.make_anew(stream),
            Fault::LateDispatch(link, late, gives_up) => {
                self.network.delay_dispatch(link, late, gives_up);
            }
            Fault::Unwell(at, lasts, says_so) => {
                self.counters.unwell += 1;
                self.workers[at].unwell_until = self.now + lasts;
                self.workers[at].says_so = says_so;
            }
        }
    }

    /// Injects the next random fault, and schedules the one after it.
    pub fn disorder(&mut self) {
        if self.healing {
            return;
        }
        let wait = self.rng.below(2 * self.setting.fault_every);
        self.later(wait, SimEvent::Disorder);
        let loss = self.setting.rollback_at.filter(|_| self.setting.quiet_before);
        if loss.is_some_and(|at| self.now < at) {
            return;
        }
        if let Some(fault) = self.draw() {
            self.strike(fault);
        }
    }

    fn draw(&mut self) -> Option<Fault> {
        let lease = self.setting.timing.master().as_nanos() as u64;
        let master = self.rng.below(self.masters.len() as u64) as usize;
        let worker = self.rng.below(self.workers.len() as u64) as usize;
        let process = if self.rng.once_in(3) { Peer::Master(master) } else { Peer::Worker(worker) };
        let long = self.rng.between(lease / 4, 3 * lease);
        Some(match self.rng.below(50) {
            0..=4 => Fault::LinkBreaks(self.any_link()?),
            5..=9 => self.draw_cut(worker, master),
            10 => Fault::Isolate(worker, long * 2),
            11..=12 => Fault::Crash(process, self.rng.between(20 * MS, 3 * SECOND)),
            13..=15 => Fault::Stop(process, long),
            16..=17 => Fault::Sleep(
                self.rng.below(self.machines.len() as u64) as usize,
                self.rng.between(lease / 2, 3 * lease),
            ),
            18..=20 => {
                let of_lease = self.rng.once_in(2);
                Fault::Stall(process, of_lease, self.rng.between(20 * MS, 2 * lease))
            }
            21 => {
                let most = if self.rng.once_in(4) { 40 } else { 6 };
                Fault::Outage(self.rng.between(500 * MS, most * SECOND))
            }
            22 => Fault::RegistryStalls(self.rng.between(100 * MS, 2 * lease)),
            23..=26 => {
                let deadline_ms = self.rng.below(3_000);
                let orders = [
                    WorkerCommand::Cordon,
                    WorkerCommand::Drain { deadline_ms },
                    WorkerCommand::Uncordon,
                    WorkerCommand::Uncordon,
                    WorkerCommand::Uncordon,
                ];
                Fault::Order(worker, self.rng.pick(&orders))
            }
            27 => Fault::StopAsked(process),
            28 if self.rng.once_in(3) => Fault::Twin,
            29 if self.workers.len() >= 4 => return self.draw_mass_cut(long * 3),
            31..=32 => {
                let stream = self.rng.below(3) as usize;
                Fault::WatchStalls(master, stream, self.rng.between(100 * MS, 20 * SECOND))
            }
            46 => Fault::WatchDies(master, self.rng.below(3) as usize),
            33..=36 => return self.draw_island(worker),
            37..=38 => return self.draw_switch(worker),
            30 => return self.draw_double(master, worker),
            39..=41 => Fault::Flaps(process, self.rng.between(1, 10)),
            42 if self.setting.cluster => Fault::LeaderLags(self.rng.between(100 * MS, 8 * SECOND)),
            49 if self.setting.cluster => Fault::NodeFails(self.rng.between(lease / 2, 4 * lease)),
            43 if self.setting.rollback_at.is_some() && self.rng.once_in(8) => {
                Fault::MakeAnew(self.rng.below(3) as usize)
            }
            47..=48 => {
                let late = self.rng.between(SECOND / 2, (3 * lease).max(10 * SECOND));
                Fault::LateDispatch(self.any_link()?, late, self.rng.once_in(2))
            }
            44..=45 => {
                let lasts = self.rng.between(SECOND, 20 * SECOND);
                Fault::Unwell(worker, lasts, self.rng.once_in(2))
            }
            _ => return None,
        })
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let open = self.network.links.iter().filter(|(_, link)| link.open_below);
        let links: Vec<LinkId> = open.map(|(&id, _)| id).collect();
        (!links.is_empty()).then(|| self.rng.pick(&links))
    }

    fn draw_cut(&mut self, worker: usize, master: usize) -> Fault {
        let pairs = [
            (Peer::Worker(worker), Peer::Master(master)),
            (Peer::Worker(worker), Peer::Registry),
            (Peer::Master(master), Peer::Registry),
        ];
        let (one, other) = self.rng.pick(&pairs);
        let most = if self.rng.once_in(6) { 20_000 } else { 5_000 };
        let lasts = self.rng.between(100, most) * MS;
        match self.rng.below(4) {
            0 => Fault::Cut(one, other, lasts),
            1 => Fault::Cut(other, one, lasts),
            _ => Fault::CutBoth(one, other, lasts),
        }
    }

    /// Isolates every worker. The masters should then conclude that they cannot see the workers, rather
    /// than that all workers are lost.
    fn draw_mass_cut(&mut self, lasts: Nanos) -> Option<Fault> {
        for at in 1..self.workers.len() {
            self.strike(Fault::Isolate(at, lasts));
        }
        Some(Fault::Isolate(0, lasts))
    }

    /// A worker and its home reach each other and nobody else, for longer than the home may extend the
    /// lease.
    fn draw_island(&mut self, worker: usize) -> Option<Fault> {
        let (lease, _) = self.registry.workers.get(&self.workers[worker].name)?;
        let home = lease.home?.master;
        let home = self.masters.iter().position(|master| master.name == home)?;
        let outage = self.setting.timing.outage().as_nanos() as u64;
        let lasts = self.rng.between(outage / 2, 3 * outage);
        self.strike(Fault::CutBoth(Peer::Master(home), Peer::Registry, lasts));
        for other in (0..self.masters.len()).filter(|&other| other != home) {
            self.strike(Fault::CutBoth(Peer::Worker(worker), Peer::Master(other), lasts));
        }
        Some(Fault::CutBoth(Peer::Worker(worker), Peer::Registry, lasts))
    }

    /// A worker loses the link to its home and names another home, which never learns of that. Then the
    /// worker reaches only its old home, which has not learned of the switch either.
    fn draw_switch(&mut self, worker: usize) -> Option<Fault> {
        let (lease, _) = self.registry.workers.get(&self.workers[worker].name)?;
        let home = lease.home?.master;
        let home = self.masters.iter().position(|master| master.name == home)?;
        let lease = self.setting.timing.master().as_nanos() as u64;
        let lasts = self.rng.between(2 * lease, 5 * lease).max(3 * SECOND);
        let ends = self.workers[worker].links.iter().filter(|(_, end)| end.master == home);
        let links: Vec<LinkId> = ends.map(|(&id, _)| id).collect();
        for link in links {
            self.link_breaks(link, MS);
        }
        self.strike(Fault::CutBoth(Peer::Master(home), Peer::Registry, lasts));
        for other in (0..self.masters.len()).filter(|&other| other != home) {
            self.strike(Fault::CutBoth(Peer::Worker(worker), Peer::Master(other), lasts));
        }
        let lands = self.setting.timing.renew_every().as_nanos() as u64 * 3 / 2;
        let then = Fault::Cut(Peer::Worker(worker), Peer::Registry, lasts);
        self.later(lands, SimEvent::Strike(then));
        Some(Fault::Cut(Peer::Registry, Peer::Worker(worker), lasts))
    }

    /// A master and a worker crash at the same time.
    fn draw_double(&mut self, master: usize, worker: usize) -> Option<Fault> {
        let again_in = self.rng.between(SECOND, 10 * SECOND);
        self.strike(Fault::Crash(Peer::Master(master), again_in));
        Some(Fault::Crash(Peer::Worker(worker), again_in))
    }
}
