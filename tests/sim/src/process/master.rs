//! A master's shell: one `Fleet` for each session, and an executor of its effects. Never passes an
//! answer for an earlier session to a later one.

use super::{LoopQueue, MasterIn, Process, watch::Follower};
use crate::{
    network::{LinkId, Peer},
    registry::{Connection, Op, STREAMS},
    world::{MS, Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{
    MasterId, SessionId, Time,
    advisory::{Advisory, FailoverEvent, RegistryEvent},
    api::Transport,
    entitlement::Entitlement,
    fleet::{self, Effect, Fleet},
    frame::FrameRange,
    lease::{CasAnswer, Home},
    limit,
    message::{ToMaster, ToWorker},
    registry::{Marks, ServerId},
    sessions::Sessions,
    subject::Bucket,
    time::WallMillis,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// The number of earlier sessions that a master remembers.
const PAST_MAX: usize = 32;

/// A master.
#[derive(Debug)]
pub struct Master {
    /// Its name.
    pub name: MasterId,
    /// Its process.
    pub process: Process,
    /// The inputs that wait for its loop.
    pub queue: LoopQueue<MasterIn>,
    /// Its connection to the registry.
    pub connection: Connection,
    /// Its newest session.
    pub current: Option<MasterSession>,
    /// The state machine of its sessions with the registry.
    sessions: Sessions,
    /// The contents of its state directory: its sessions, and the highest revisions that it knew.
    disk: (Vec<SessionId>, Marks),
    links: BTreeSet<LinkId>,
}

/// One session of a master.
#[derive(Debug)]
pub struct MasterSession {
    /// The state machine.
    pub fleet: Fleet,
    /// The id of the session.
    pub session: SessionId,
    /// The followers of the streams.
    pub followers: [Follower; 3],
    due: Nanos,
}

impl Master {
    /// The id of its newest session.
    pub fn session(&self) -> Option<SessionId> {
        self.current.as_ref().map(|current| current.session)
    }

    /// A master that is not started yet.
    pub fn new(index: usize, machine: usize) -> Self {
        Master {
            name: format!("m{}", index + 1).parse().expect("a name"),
            process: Process { incarnation: 0, alive: false, machine, stopped_until: 0 },
            queue: LoopQueue::default(),
            connection: Connection::default(),
            current: None,
            sessions: Sessions::new(Vec::new(), Marks::default()),
            disk: (Vec::new(), Marks::default()),
            links: BTreeSet::new(),
        }
    }
}

impl World {
    fn master_clock(&self, at: usize) -> Time {
        self.machines[self.masters[at].process.machine].clock(self.now)
    }

    /// Starts the process.
    pub fn boot_master(&mut self, at: usize) {
        // The lock of the state directory proves that the predecessor is dead. The new process may have
        // another directory, and then it has no proof.
        let proven = self.setting.keeps_disk && (!self.setting.disorder || self.rng.once_in(2));
        let master = &mut self.masters[at];
        if master.process.alive {
            return;
        }
        master.process.incarnation += 1;
        master.process.alive = true;
        master.queue = LoopQueue::default();
        master.sessions = if proven {
            let (sessions, known) = master.disk.clone();
            Sessions::new(sessions, known)
        } else {
            Sessions::new(Vec::new(), Marks::default())
        };
        self.say(|world| format!("{} starts", world.masters[at].name));
        self.later(0, SimEvent::Reconnect(Peer::Master(at), self.masters[at].process.incarnation));
    }

    /// Ends the process, and starts it again after `again_in`.
    pub fn end_master(&mut self, at: usize, again_in: Nanos) {
        let master = &mut self.masters[at];
        if !master.process.alive {
            return;
        }
        master.process.alive = false;
        master.process.incarnation += 1;
        master.process.stopped_until = 0;
        master.disk.1 = *master.sessions.known();
        master.current = None;
        let links = core::mem::take(&mut master.links);
        self.say(|world| format!("{} is gone", world.masters[at].name));
        for id in links {
            self.close_above(id);
            self.link_breaks(id, 200 * MS);
        }
        self.connection_closed(Peer::Master(at));
        self.later(again_in, SimEvent::Boot(Peer::Master(at)));
    }

    fn close_above(&mut self, id: LinkId) {
        if let Some(link) = self.network.links.get_mut(&id) {
            link.open_above = false;
        }
    }

    /// Gives an input to a master.
    pub fn give_master(&mut self, at: usize, incarnation: u64, input: MasterIn) {
        let master = &self.masters[at];
        if master.process.incarnation != incarnation || !master.process.alive {
            return;
        }
        let free = self.still_until(&master.process).max(master.queue.busy_until);
        let (input, turn) = self.masters[at].queue.take_in(self.now, free, input);
        if let Some(turn) = turn {
            self.at(turn, SimEvent::MasterTurn(at, incarnation));
        }
        if let Some(input) = input {
            self.master_hears(at, input);
            self.plan_master(at);
        }
    }

    /// Gives a master its turn: it takes all queued inputs, and then plans once.
    pub fn master_turn(&mut self, at: usize, incarnation: u64) {
        let master = &self.masters[at];
        if master.process.incarnation != incarnation || !master.process.alive {
            return;
        }
        let free = self.still_until(&master.process).max(master.queue.busy_until);
        if free > self.now {
            return self.at(free, SimEvent::MasterTurn(at, incarnation));
        }
        while self.masters[at].process.incarnation == incarnation
            && let Some(input) = self.masters[at].queue.next_in()
        {
            self.master_hears(at, input);
        }
        if self.masters[at].process.incarnation == incarnation {
            self.plan_master(at);
        }
    }

    fn master_hears(&mut self, at: usize, input: MasterIn) {
        match input {
            MasterIn::OfSession(session, event) => self.told(at, session, *event),
            MasterIn::Fact(event) => self.observe(at, *event),
            MasterIn::LinkUp(link) => {
                self.masters[at].links.insert(link);
                self.welcome(at, link);
            }
            MasterIn::LinkDown(link) => {
                self.masters[at].links.remove(&link);
                self.close_above(link);
                let worker = self.worker_of(link);
                self.observe(at, fleet::Event::Unlinked { worker, link });
            }
            MasterIn::Frame(link, frame) => self.master_frame(at, link, *frame),
            MasterIn::Connected => self.begin_session(at),
            MasterIn::ConnectionLost(number) => {
                if self.notice_loss(Peer::Master(at), number) {
                    self.masters[at].sessions.broken();
                    self.say(|world| format!("{} has lost the registry", world.masters[at].name));
                    self.observe(at, fleet::Event::RegistryDown);
                    let incarnation = self.masters[at].process.incarnation;
                    self.later(100 * MS, SimEvent::Reconnect(Peer::Master(at), incarnation));
                }
            }
            MasterIn::Word { session, stream, number, word } => {
                self.told_follower(at, session, stream, number, *word);
            }
            MasterIn::Tick(due) => {
                if let Some(current) = &mut self.masters[at].current
                    && current.due == due
                {
                    current.due = 0;
                }
            }
            MasterIn::Stop => self.observe(at, fleet::Event::Stopping),
        }
    }

    fn worker_of(&self, link: LinkId) -> muster_protocol::WorkerId {
        self.workers[self.network.links[&link].worker.0].name.clone()
    }

    fn observe(&mut self, at: usize, event: fleet::Event) {
        let now = self.master_clock(at);
        if let Some(current) = &mut self.masters[at].current {
            current.fleet.observe(now, event);
        }
    }

    /// The registry has answered a session.
    pub fn told(&mut self, at: usize, session: SessionId, event: fleet::Event) {
        if let fleet::Event::TaskWritten { answer: CasAnswer::Written(revision), .. } = &event {
            self.own_write_acknowledged(at, session, *revision);
        }
        let master = &mut self.masters[at];
        if master.current.as_ref().is_none_or(|current| current.session != session) {
            return;
        }
        master.sessions.heard(&event);
        self.observe(at, event);
    }

    fn master_frame(&mut self, at: usize, link: LinkId, frame: ToMaster) {
        if !self.masters[at].links.contains(&link) {
            return;
        }
        let worker = self.worker_of(link);
        let event = match frame {
            ToMaster::Hello(hello) => {
                let (transport, entitlement) = (Transport::Quic, Arc::new(Entitlement::any()));
                fleet::Event::Linked { worker, link, transport, entitlement, hello }
            }
            ToMaster::Renew { expect, lease } => {
                self.counters.relayed += 1;
                fleet::Event::RenewAsked { worker, link, expect, lease }
            }
            ToMaster::Extend { session, renewal } => {
                fleet::Event::ExtendAsked { worker, link, session, renewal }
            }
            ToMaster::Finished { key, revision, outcome } => {
                fleet::Event::Finished { worker, link, key, revision, outcome }
            }
            ToMaster::Progress { .. } => return,
        };
        self.observe(at, event);
    }

    /// Starts a session with a new `Fleet`: the registry is connected, or the last session was declared
    /// lost.
    fn begin_session(&mut self, at: usize) {
        self.counters.master_sessions += 1;
        let session = SessionId(self.rng.any());
        let clock = self.master_clock(at);
        let wall = WallMillis(1_700_000_000_000 + clock.as_nanos() / 1_000_000);
        let timing = self.setting.timing_of(at);
        let leases_keep = self.setting.leases_keep.map_or(limit::LEASE_KEEP, Duration::from_nanos);
        let ends = self.ends();
        let server = (!self.setting.cluster).then(|| ServerId(self.registry.server.to_string()));
        let master = &mut self.masters[at];
        let memory =
            master.current.take().map(|current| current.fleet.memory()).unwrap_or_default();
        master.sessions.begin(session, ends, memory);
        master.disk.0.push(session);
        let surplus = master.disk.0.len().saturating_sub(PAST_MAX);
        master.disk.0.drain(..surplus);
        let config = fleet::Config {
            me: master.name.clone(),
            session,
            succeeds: master.sessions.succeeds(),
            remembers: master.sessions.remembers(),
            memory: master.sessions.memory().clone(),
            server,
            connected_to: None,
            address: None,
            issues: false,
            timing,
            leases_keep,
        };
        let mut fleet = Fleet::new(config);
        fleet.observe(clock, fleet::Event::Clock(wall));
        // The simulation has no modules, and nobody joins.
        master.sessions.loaded(Bucket::Modules);
        master.sessions.loaded(Bucket::Access);
        let followers = Follower::of_session(session, &ends, self.setting.cluster, self.now);
        master.current = Some(MasterSession { fleet, session, followers, due: 0 });
        self.say(|world| format!("{} begins incarnation {session}", world.masters[at].name));
        for stream in 0..3 {
            let wait = self.soon() + self.soon();
            self.later(wait, SimEvent::List { master: at, session, stream });
        }
    }

    fn welcome(&mut self, at: usize, link: LinkId) {
        let master = &self.masters[at];
        let Some(current) = &master.current else { return };
        let home = Home { master: master.name.clone(), session: current.session };
        let machine = self.machines[master.process.machine].boot;
        let version = String::new();
        self.send_down(
            link,
            ToWorker::Welcome { master: home, machine, version, frames: FrameRange::SPOKEN },
        );
    }

    /// The newest session has read a stream to its end.
    pub fn stream_loaded(&mut self, at: usize, stream: usize) {
        let sessions = &mut self.masters[at].sessions;
        let Some(loaded) = sessions.loaded(STREAMS[stream]) else { return };
        self.say(|world| format!("{} knows the registry", world.masters[at].name));
        self.observe(at, fleet::Event::Loaded(loaded));
        // The workers send their `Hello` again, because this session counts it.
        for link in self.masters[at].links.clone() {
            self.welcome(at, link);
        }
    }

    fn plan_master(&mut self, at: usize) {
        let now = self.master_clock(at);
        let mut effects = Vec::new();
        let incarnation = self.masters[at].process.incarnation;
        let Some(current) = &mut self.masters[at].current else { return };
        let session = current.session;
        current.fleet.plan(now, &mut effects);
        self.rest_or_follow(at);
        let Some(current) = &mut self.masters[at].current else { return };
        let wakeup = current.fleet.wakeup();
        if let Some(next) = wakeup {
            if next <= now {
                self.violate("a_loop_never_spins", || format!("m{} would spin", at + 1));
            }
            let due =
                self.machines[self.masters[at].process.machine].when(next).max(self.now + MS / 10);
            let Some(current) = &mut self.masters[at].current else { return };
            if current.due == 0 || due < current.due {
                current.due = due;
                self.at(due, SimEvent::Master(at, incarnation, MasterIn::Tick(due)));
            }
        }
        for effect in effects {
            if self.masters[at].process.incarnation != incarnation {
                return;
            }
            self.carry_out(at, session, effect);
        }
    }

    fn carry_out(&mut self, at: usize, session: SessionId, effect: Effect) {
        let me = Peer::Master(at);
        match effect {
            Effect::WriteTask { expect, record, keep } => {
                self.ask_registry(me, session, Op::Task(expect, record, keep.is_some()));
            }
            Effect::ReadTask { task, read } => {
                self.ask_registry(me, session, Op::Read(task, read));
            }
            Effect::ReadEnd { bucket, read } => {
                self.ask_registry(me, session, Op::End(bucket, read));
            }
            Effect::WriteGuard { expect, guard } => {
                self.ask_registry(me, session, Op::Guard(expect, guard));
            }
            Effect::WriteLease { expect, lease, asked_by } => {
                self.ask_registry(me, session, Op::Lease(expect, lease, asked_by));
            }
            Effect::WriteMaster { expect, lease } => {
                self.ask_registry(me, session, Op::Master(expect, lease));
            }
            Effect::BeginAnew => {
                self.observe(at, fleet::Event::RegistryDown);
                self.masters[at].sessions.broken();
                self.begin_session(at);
            }
            Effect::Released => {
                let again = self.rng.between(100 * MS, 2 * SECOND);
                self.end_master(at, again);
            }
            Effect::Send { link, message } => {
                self.master_says(at, &message);
                self.send_down(link, message);
            }
            Effect::CloseLink { link, .. } => {
                self.close_above(link);
                self.link_breaks(link, 0);
            }
            Effect::Reply { request, answer } => self.replied(request, answer),
            Effect::Tell { .. } => {}
            Effect::Publish(advisory) => match advisory {
                Advisory::Failover { what: FailoverEvent::Held, .. } => self.counters.held += 1,
                Advisory::Group { .. } => self.counters.groups_empty += 1,
                Advisory::Registry { what: RegistryEvent::Rewound, .. } => {
                    self.counters.rewound += 1
                }
                Advisory::Tasks { what: muster_protocol::advisory::TaskEvent::Refused, .. } => {
                    self.counters.refused += 1;
                }
                _ => {}
            },
        }
    }
}
