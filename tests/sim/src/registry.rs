//! The registry: compare-and-set on the keys of three streams, watches that lag, and the writes
//! under way to it. Never accepts a write from a revision that is not the key's.
//!
//! A write has three outcomes. It may be lost, it may land and its answer be lost, and it may land
//! after its author has given up on it; a worker's client even sends what it could not send once
//! it has reconnected.

use crate::{
    network::Peer,
    process::{LeaseIn, MasterIn},
    world::{Happening, MS, Nanos, SECOND, World},
};
use muster_protocol::{
    ABSENT, Revision, SessionId, TaskId, WorkerId, fleet,
    lease::{CasAnswer, Lease, MasterLease},
    task::TaskRecord,
};
use std::{collections::BTreeMap, sync::Arc};

/// A stream: the newest value of each key, and how it came to be.
#[derive(Debug)]
pub struct Stream<K, V> {
    last: Revision,
    /// What there is.
    pub values: BTreeMap<K, (V, Revision)>,
    log: Vec<(Nanos, Revision, K, V)>,
}

impl<K: Ord + Clone, V: Clone> Stream<K, V> {
    fn new() -> Self {
        Stream { last: ABSENT, values: BTreeMap::new(), log: Vec::new() }
    }

    /// The key's value and revision.
    pub fn get(&self, key: &K) -> Option<(V, Revision)> {
        self.values.get(key).cloned()
    }

    /// When a value of a key was first written that is as wanted, if one was.
    pub fn written_at(&self, key: &K, wanted: impl Fn(&V) -> bool) -> Option<Nanos> {
        let found = self.log.iter().find(|(_, _, k, value)| k == key && wanted(value));
        found.map(|(at, ..)| *at)
    }

    fn revision(&self, key: &K) -> Revision {
        self.values.get(key).map_or(ABSENT, |(_, at)| *at)
    }

    fn cas(&mut self, now: Nanos, expect: Revision, key: K, value: V) -> CasAnswer<V> {
        if self.revision(&key) != expect {
            return CasAnswer::Conflict(self.get(&key));
        }
        self.last += 1;
        self.values.insert(key.clone(), (value.clone(), self.last));
        self.log.push((now, self.last, key, value));
        CasAnswer::Written(self.last)
    }

    /// Forgets everything after then, as a server does that lost what was not on its disk.
    fn rewind(&mut self, to: Nanos) {
        self.log.retain(|(at, ..)| *at <= to);
        self.values.clear();
        self.last = self.log.last().map_or(ABSENT, |(_, at, ..)| *at);
        for (_, at, key, value) in &self.log {
            self.values.insert(key.clone(), (value.clone(), *at));
        }
    }
}

/// What can be asked of the registry.
#[derive(Clone, Debug)]
pub enum Op {
    /// Replace a worker's lease; the link is that of the worker which asked a master.
    Lease(Revision, Lease, Option<u64>),
    /// Replace a master's lease.
    Master(Revision, MasterLease),
    /// Replace a record.
    Task(Revision, Arc<TaskRecord>),
    /// Read a record.
    Read(TaskId),
}

/// Something on its way to the registry.
#[derive(Clone, Debug)]
pub struct Request {
    id: u64,
    from: Peer,
    /// The connection it was sent on.
    connection: u64,
    /// The life that asked.
    session: SessionId,
    op: Op,
}

/// A process' connection to the registry.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its number; a reconnect has a higher one.
    pub number: u64,
    /// Whether the process takes it for up.
    pub up: bool,
    /// Whether it is.
    alive: bool,
    pending: BTreeMap<u64, (SessionId, Op)>,
    /// What a worker's client could not send, and may send once it has reconnected.
    limbo: Vec<Request>,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    /// The leases of workers.
    pub workers: Stream<WorkerId, Lease>,
    /// The leases of masters.
    pub masters: Stream<SessionId, MasterLease>,
    /// The records.
    pub tasks: Stream<TaskId, Arc<TaskRecord>>,
    /// Until when it is down.
    pub down_until: Nanos,
    /// Until when it answers nobody, and then all.
    pub stalled_until: Nanos,
    requests: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            workers: Stream::new(),
            masters: Stream::new(),
            tasks: Stream::new(),
            down_until: 0,
            stalled_until: 0,
            requests: 0,
        }
    }
}

impl World {
    fn connection(&mut self, peer: Peer) -> Option<&mut Connection> {
        match peer {
            Peer::Master(at) => Some(&mut self.masters[at].connection),
            Peer::Worker(at) => self.workers[at].connection.as_mut(),
            Peer::Registry => None,
        }
    }

    /// Whether the registry answers.
    pub fn registry_is_up(&self) -> bool {
        self.now >= self.registry.down_until
    }

    /// A process sends something to the registry.
    pub fn ask_registry(&mut self, from: Peer, session: SessionId, op: Op) {
        self.registry.requests += 1;
        let id = self.registry.requests;
        let wild = !self.healing && self.setting.disorder;
        let lost = wild && self.chance.once_in(60);
        let late = wild && self.chance.once_in(60);
        let waits = self.chance.between(self.setting.timeout / 4, self.setting.timeout);
        let Some(connection) = self.connection(from) else { return };
        let (alive, number) = (connection.alive, connection.number);
        connection.pending.insert(id, (session, op.clone()));
        let request = Request { id, from, connection: number, session, op };
        self.later(waits, Happening::GiveUp(from, id));
        let reaches = alive || self.cut_until(from, Peer::Registry) <= self.now;
        if lost || !reaches {
            if matches!(from, Peer::Worker(_))
                && let Some(connection) = self.connection(from)
            {
                connection.limbo.push(request);
            }
            return;
        }
        let mut at = self.arrival(from, Peer::Registry);
        if late {
            at += self.chance.below(4 * SECOND);
        }
        self.at(at, Happening::Land(Box::new(request)));
    }

    /// A request reaches the registry.
    pub fn land(&mut self, request: Request) {
        if !self.registry_is_up() {
            if matches!(request.from, Peer::Worker(_))
                && let Some(connection) = self.connection(request.from)
            {
                connection.limbo.push(request);
            }
            return;
        }
        if self.now < self.registry.stalled_until {
            let at = self.registry.stalled_until;
            return self.at(at, Happening::Land(Box::new(request)));
        }
        let (from, number) = (request.from, request.connection);
        let Some(connection) = self.connection(from) else { return };
        let current = connection.up && connection.number == number;
        // What a master sends dies with its connection.
        if !current && matches!(from, Peer::Master(_)) {
            return;
        }
        let (alive, waited) =
            (connection.alive && current, connection.pending.contains_key(&request.id));
        let Request { id, session, op, .. } = request;
        if !waited && !matches!(op, Op::Read(_)) {
            self.tally.late_landed += 1;
        }
        let answer = Box::new(self.perform(op));
        let lost = !self.healing && self.setting.disorder && self.chance.once_in(40);
        if alive && waited && !lost {
            let at = self.arrival(Peer::Registry, from);
            self.at(at, Happening::Answer { to: from, id, connection: number, session, answer });
        }
    }

    fn perform(&mut self, op: Op) -> fleet::Event {
        let now = self.now;
        match op {
            Op::Lease(expect, lease, asked_by) => {
                let old = self.registry.workers.get(&lease.worker);
                let answer =
                    self.registry.workers.cas(now, expect, lease.worker.clone(), lease.clone());
                if let CasAnswer::Written(revision) = answer {
                    self.lease_committed(old.map(|(old, _)| old), &lease);
                    self.watch(0, |_| fleet::Event::LeaseSeen(lease.clone(), revision));
                } else {
                    self.tally.conflicts += 1;
                }
                fleet::Event::LeaseWritten { lease, asked_by, answer }
            }
            Op::Master(expect, lease) => {
                let answer = self.registry.masters.cas(now, expect, lease.session, lease.clone());
                if let CasAnswer::Written(revision) = answer {
                    self.master_committed(&lease);
                    self.watch(1, |_| fleet::Event::MasterSeen(lease.clone(), revision));
                } else {
                    self.tally.conflicts += 1;
                }
                fleet::Event::MasterWritten { lease, answer }
            }
            Op::Task(expect, record) => {
                let old = self.registry.tasks.get(&record.id).map(|(old, _)| old);
                let task = record.id;
                let answer = self.registry.tasks.cas(now, expect, task, record.clone());
                let answer = match answer {
                    CasAnswer::Written(revision) => {
                        self.task_committed(old, &record);
                        self.watch(2, |_| {
                            fleet::Event::TaskSeen(Box::new(TaskRecord::clone(&record)), revision)
                        });
                        CasAnswer::Written(revision)
                    }
                    CasAnswer::Conflict(found) => {
                        self.tally.conflicts += 1;
                        let found =
                            found.map(|(found, at)| (Box::new(TaskRecord::clone(&found)), at));
                        CasAnswer::Conflict(found)
                    }
                    CasAnswer::Gone(revision) => CasAnswer::Gone(revision),
                    CasAnswer::Unknown => CasAnswer::Unknown,
                };
                fleet::Event::TaskWritten { task, answer }
            }
            Op::Read(id) => {
                let found = self.registry.tasks.get(&id);
                let found = found.map(|(record, at)| (Box::new(TaskRecord::clone(&record)), at));
                fleet::Event::TaskRead(id, found)
            }
        }
    }

    /// Shows a write to every master that watches: late, and in order for each stream.
    fn watch(&mut self, stream: usize, event: impl Fn(()) -> fleet::Event) {
        for at in 0..self.masters.len() {
            let master = &self.masters[at];
            let Some(mind) = master.mind.as_ref() else { continue };
            if !master.connection.alive || !master.connection.up || !mind.watches[stream] {
                continue;
            }
            let (life, session) = (master.process.life, mind.session);
            let arrival = self.arrival(Peer::Registry, Peer::Master(at));
            let Some(mind) = self.masters[at].mind.as_mut() else { continue };
            let when = arrival.max(mind.shown[stream]);
            mind.shown[stream] = when;
            let input = MasterIn::Told(session, Box::new(event(())));
            self.at(when, Happening::Master(at, life, input));
        }
    }

    /// An answer arrives, if its connection still stands.
    pub fn answered(
        &mut self,
        to: Peer,
        id: u64,
        number: u64,
        session: SessionId,
        answer: fleet::Event,
    ) {
        let Some(connection) = self.connection(to) else { return };
        if !connection.alive || connection.number != number {
            return;
        }
        if connection.pending.remove(&id).is_some() {
            self.hand_over(to, session, answer);
        }
    }

    /// A process gives up on an answer: nobody knows.
    pub fn give_up(&mut self, peer: Peer, id: u64) {
        let Some(connection) = self.connection(peer) else { return };
        let Some((session, op)) = connection.pending.remove(&id) else { return };
        let event = match op {
            Op::Lease(_, lease, asked_by) => {
                fleet::Event::LeaseWritten { lease, asked_by, answer: CasAnswer::Unknown }
            }
            Op::Master(_, lease) => {
                fleet::Event::MasterWritten { lease, answer: CasAnswer::Unknown }
            }
            Op::Task(_, record) => {
                fleet::Event::TaskWritten { task: record.id, answer: CasAnswer::Unknown }
            }
            Op::Read(_) => return,
        };
        self.tally.unknown += 1;
        self.hand_over(peer, session, event);
    }

    fn hand_over(&mut self, to: Peer, session: SessionId, event: fleet::Event) {
        match (to, event) {
            (Peer::Master(at), event) => {
                let life = self.masters[at].process.life;
                self.give_master(at, life, MasterIn::Told(session, Box::new(event)));
            }
            (Peer::Worker(at), fleet::Event::LeaseWritten { lease, answer, .. }) => {
                let life = self.workers[at].process.life;
                let input = LeaseIn::Answered(lease.session, lease.renewal, Box::new(answer));
                self.give_keeper(at, life, input);
            }
            _ => {}
        }
    }

    /// A connection is broken; its process will notice.
    pub fn connection_breaks(&mut self, peer: Peer) {
        let wait = self.chance.between(10 * MS, 3 * SECOND);
        let Some(connection) = self.connection(peer) else { return };
        if connection.up && connection.alive {
            connection.alive = false;
            let number = connection.number;
            self.later(wait, Happening::ConnectionLost(peer, number));
        }
    }

    /// The process is gone, and its connection with it.
    pub fn connection_closed(&mut self, peer: Peer) {
        if let Some(connection) = self.connection(peer) {
            *connection = Connection { number: connection.number + 1, ..Connection::default() };
        }
    }

    /// Notices that the connection is lost. Whether it was news.
    pub fn notice_loss(&mut self, peer: Peer, number: u64) -> bool {
        let Some(connection) = self.connection(peer) else { return false };
        let news = connection.up && connection.number == number;
        if news {
            connection.up = false;
            if matches!(peer, Peer::Master(_)) {
                connection.pending.clear();
            }
        }
        news
    }

    /// Tries to connect. A worker's client then sends what it could not send before.
    pub fn connects(&mut self, peer: Peer) -> bool {
        let out = self.cut_until(peer, Peer::Registry);
        let back = self.cut_until(Peer::Registry, peer);
        if out.max(back) > self.now || !self.registry_is_up() {
            return false;
        }
        let Some(connection) = self.connection(peer) else { return false };
        connection.number += 1;
        (connection.up, connection.alive) = (true, true);
        let number = connection.number;
        for mut request in core::mem::take(&mut connection.limbo) {
            if self.chance.once_in(2) {
                self.tally.ghosts_landed += 1;
                request.connection = number;
                let at = self.arrival(peer, Peer::Registry);
                self.at(at, Happening::Land(Box::new(request)));
            }
        }
        true
    }

    /// The registry is away for so long.
    pub fn outage(&mut self, lasts: Nanos) {
        self.tally.outages += 1;
        self.registry.down_until = self.registry.down_until.max(self.now + lasts);
        self.all_connections_break();
    }

    fn all_connections_break(&mut self) {
        for at in 0..self.masters.len() {
            self.connection_breaks(Peer::Master(at));
        }
        for at in 0..self.workers.len() {
            self.connection_breaks(Peer::Worker(at));
        }
    }

    /// The registry forgets every write after `to`, and all connections break.
    pub fn roll_back(&mut self, to: Nanos) {
        self.tally.rollbacks += 1;
        let before: Vec<TaskId> = self.registry.tasks.values.keys().copied().collect();
        self.registry.workers.rewind(to);
        self.registry.masters.rewind(to);
        self.registry.tasks.rewind(to);
        for id in before {
            if !self.registry.tasks.values.contains_key(&id) {
                self.checker.exempt(id);
            }
        }
        let most = self.chance.pick(&[50 * MS, 300 * MS, 2 * SECOND]);
        let lasts = self.chance.between(MS, most);
        self.registry.down_until = self.registry.down_until.max(self.now + lasts);
        self.all_connections_break();
        // A server that starts again says so at once to who is connected.
        for at in 0..self.masters.len() {
            let (peer, number) = (Peer::Master(at), self.masters[at].connection.number);
            let wait = self.chance.below(50 * MS);
            self.later(wait, Happening::ConnectionLost(peer, number));
        }
    }
}
