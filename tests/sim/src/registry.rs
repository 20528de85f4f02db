//! The registry: streams of keys that change by compare-and-set, watches that lag, and writes on their
//! way. Never accepts a write whose expected revision is not the key's.
//!
//! A request may be lost. A write may also be accepted while its answer is lost, or be accepted after
//! its sender has stopped waiting for the answer. A worker's client even sends, after a reconnect, what
//! it could not send before.

mod expiry;
mod leader;
mod stream;

pub use expiry::Expired;
pub use stream::Stream;

use crate::{
    network::Peer,
    process::MasterIn,
    world::{MS, Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{
    Revision, SessionId, TaskId, WorkerId,
    checkpoint::Checkpoint,
    fleet,
    lease::{CasAnswer, Lease, LeaseEvent, MasterLease},
    registry::FailoverGuard,
    subject::Bucket,
    task::TaskRecord,
};
use std::{collections::BTreeMap, sync::Arc};

/// The streams that masters follow, in the order of their indexes.
pub const STREAMS: [Bucket; 3] = [Bucket::Workers, Bucket::Masters, Bucket::Tasks];

/// A key of the masters' stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MasterKey {
    /// A master's lease.
    Lease(SessionId),
    /// The failover guard.
    Guard,
}

/// A value of the masters' stream.
#[derive(Clone, Debug)]
pub enum MasterValue {
    /// A master's lease.
    Lease(MasterLease),
    /// The failover guard.
    Guard(FailoverGuard),
}

impl MasterValue {
    /// The event for a master that watches the stream.
    pub fn seen(self, revision: Revision) -> fleet::Event {
        match self {
            MasterValue::Lease(lease) => fleet::Event::MasterSeen(lease, revision),
            MasterValue::Guard(guard) => fleet::Event::GuardSeen(guard, revision),
        }
    }
}

/// Narrows an answer about the masters' stream to one kind of value.
fn only<T>(
    answer: CasAnswer<MasterValue>,
    kind: impl Fn(MasterValue) -> Option<T>,
) -> CasAnswer<T> {
    match answer {
        CasAnswer::Written(revision) => CasAnswer::Written(revision),
        CasAnswer::Conflict(found) => {
            CasAnswer::Conflict(found.and_then(|(value, at)| Some((kind(value)?, at))))
        }
        CasAnswer::Gone(revision) => CasAnswer::Gone(revision),
        CasAnswer::Unknown => CasAnswer::Unknown,
    }
}

/// An operation on the registry.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "leases, the largest, are most of them")]
pub enum Op {
    /// Replace a worker's lease. The link is set if the worker asked a master to write the lease.
    Lease(Revision, Lease, Option<u64>),
    /// Replace a master's lease.
    Master(Revision, MasterLease),
    /// Replace a record. With `true` the record expires after a while.
    Task(Revision, Arc<TaskRecord>, bool),
    /// Read a record. The number of the read is part of the answer.
    Read(TaskId, u64),
    /// Replace the failover guard.
    Guard(Revision, FailoverGuard),
    /// Read the end of a stream.
    End(Bucket, u64),
}

impl Op {
    /// The index of the stream that it reads or writes.
    fn stream(&self) -> Option<usize> {
        match self {
            Op::Lease(..) => Some(0),
            Op::Master(..) | Op::Guard(..) => Some(1),
            Op::Task(..) | Op::Read(..) => Some(2),
            Op::End(bucket, _) => STREAMS.iter().position(|of| of == bucket),
        }
    }
}

/// A request on its way to the registry.
#[derive(Clone, Debug)]
pub struct Request {
    id: u64,
    from: Peer,
    /// The number of the connection that it was sent on.
    connection: u64,
    /// The session that sent it.
    session: SessionId,
    op: Op,
}

/// A process's connection to the registry.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its number; a reconnect has a higher one.
    pub number: u64,
    /// The incarnation of the server at the other end.
    server: u64,
    /// Whether the process believes that the connection is up.
    pub up: bool,
    /// Whether the connection works.
    pub alive: bool,
    pending: BTreeMap<u64, (SessionId, Op)>,
    /// Requests that a worker's client could not send; it may send them after a reconnect.
    limbo: Vec<Request>,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    /// The leases of workers.
    pub workers: Stream<WorkerId, Lease>,
    /// The leases of masters.
    pub masters: Stream<MasterKey, MasterValue>,
    /// The records.
    pub tasks: Stream<TaskId, Arc<TaskRecord>>,
    /// The session that wrote each revision of the task records.
    pub writers: BTreeMap<Revision, SessionId>,
    /// The newest checkpoint of each task.
    pub checkpoints: Stream<TaskId, Checkpoint>,
    /// The time until which it is down.
    pub down_until: Nanos,
    /// The time until which it answers nobody; then it answers all requests.
    pub stalled_until: Nanos,
    /// The time until which the server that acts as the leader does not know the newest write.
    pub lags_until: Nanos,
    /// The time since which it does not. It knows every earlier write.
    pub lags_from: Nanos,
    /// The time until which each stream has no leader: nobody answers requests to it.
    pub elects_until: [Nanos; 3],
    /// A master that receives the answers to its reads only at this time; `None` if there is no such
    /// delay.
    pub reads_late: Option<(usize, Nanos)>,
    /// The incarnation of the server, where the registry is one server.
    pub server: u64,
    requests: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            workers: Stream::new(),
            masters: Stream::new(),
            tasks: Stream::new(),
            writers: BTreeMap::new(),
            checkpoints: Stream::new(),
            down_until: 0,
            stalled_until: 0,
            lags_until: 0,
            lags_from: 0,
            elects_until: [0; 3],
            reads_late: None,
            server: 1,
            requests: 0,
        }
    }
}

impl World {
    /// A process's connection, if it has one.
    pub fn connection(&mut self, peer: Peer) -> Option<&mut Connection> {
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

    /// Sends a request of a process to the registry.
    pub fn ask_registry(&mut self, from: Peer, session: SessionId, op: Op) {
        self.registry.requests += 1;
        let id = self.registry.requests;
        let wild = !self.healing && self.setting.disorder;
        let lost = wild && self.rng.once_in(60);
        let late = wild && self.rng.once_in(60);
        let waits = self.rng.between(self.setting.timeout / 4, self.setting.timeout);
        let Some(connection) = self.connection(from) else { return };
        let (alive, number) = (connection.alive, connection.number);
        connection.pending.insert(id, (session, op.clone()));
        let request = Request { id, from, connection: number, session, op };
        self.later(waits, SimEvent::GiveUp(from, id));
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
            at += self.rng.below(4 * SECOND);
        }
        self.at(at, SimEvent::Land(Box::new(request)));
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
        if request.op.stream().is_some_and(|stream| self.elects(stream)) {
            return;
        }
        if self.now < self.registry.stalled_until {
            let at = self.registry.stalled_until;
            return self.at(at, SimEvent::Land(Box::new(request)));
        }
        let (from, number, server) = (request.from, request.connection, self.registry.server);
        let Some(connection) = self.connection(from) else { return };
        // A request to an earlier incarnation of the server is lost with that incarnation.
        let reaches = connection.server == server;
        let current = reaches && connection.up && connection.number == number;
        if !reaches && matches!(from, Peer::Worker(_)) {
            return connection.limbo.push(request);
        }
        // A request of a master is lost with its connection.
        if !current && matches!(from, Peer::Master(_)) {
            return;
        }
        let (alive, waited) =
            (connection.alive && current, connection.pending.contains_key(&request.id));
        let Request { id, session, op, .. } = request;
        if !waited && !matches!(op, Op::Read(..) | Op::End(..)) {
            self.counters.late_landed += 1;
        }
        let read = matches!(op, Op::Read(..) | Op::End(..));
        let answer = Box::new(self.perform(session, op));
        let lost = !self.healing && self.setting.disorder && self.rng.once_in(40);
        if alive && waited && !lost {
            let mut at = self.arrival(Peer::Registry, from);
            if read && self.setting.disorder && !self.healing && self.rng.once_in(8) {
                at += self.rng.below(2 * SECOND);
            }
            if let Some((master, until)) = self.registry.reads_late
                && read
                && from == Peer::Master(master)
            {
                at = at.max(until);
            }
            self.at(at, SimEvent::Answer { to: from, id, connection: number, session, answer });
        }
    }

    fn perform(&mut self, session: SessionId, op: Op) -> fleet::Event {
        let now = self.now;
        let stream = op.stream().map_or(Bucket::Modules, |stream| STREAMS[stream]);
        let lags = self.lags(self.written_at(stream));
        match op {
            Op::Lease(expect, lease, asked_by) => {
                let old = self.registry.workers.get(&lease.worker);
                let answer = self.registry.workers.cas(
                    now,
                    expect,
                    lease.worker.clone(),
                    lease.clone(),
                    lags,
                );
                if let CasAnswer::Written(revision) = answer {
                    self.lease_committed(old.map(|(old, _)| old), &lease);
                    let expired = Expired::Worker(lease.worker.clone(), revision);
                    self.lease_kept(lease.state, expired);
                    self.show(0, || fleet::Event::LeaseSeen(lease.clone(), revision));
                } else {
                    self.counters.conflicts += 1;
                }
                fleet::Event::LeaseWritten { lease, asked_by, answer }
            }
            Op::Master(expect, lease) => {
                let key = MasterKey::Lease(lease.session);
                let value = MasterValue::Lease(lease.clone());
                let answer = self.registry.masters.cas(now, expect, key, value, lags);
                let answer = only(answer, |value| match value {
                    MasterValue::Lease(lease) => Some(lease),
                    MasterValue::Guard(_) => None,
                });
                if let CasAnswer::Written(revision) = answer {
                    self.master_committed(&lease);
                    self.lease_kept(lease.state, Expired::Master(lease.session, revision));
                    self.show(1, || fleet::Event::MasterSeen(lease.clone(), revision));
                } else {
                    self.counters.conflicts += 1;
                }
                fleet::Event::MasterWritten { lease, answer }
            }
            Op::Task(expect, record, keeps) => {
                let old = self.registry.tasks.get(&record.id).map(|(old, _)| old);
                let task = record.id;
                let answer = self.registry.tasks.cas(now, expect, task, record.clone(), lags);
                let answer = match answer {
                    CasAnswer::Written(revision) => {
                        self.task_committed(old, &record);
                        self.record_kept(task, revision, keeps);
                        self.registry.writers.insert(revision, session);
                        self.show(2, || {
                            fleet::Event::TaskSeen(Box::new(TaskRecord::clone(&record)), revision)
                        });
                        CasAnswer::Written(revision)
                    }
                    CasAnswer::Conflict(found) => {
                        self.counters.conflicts += 1;
                        let found =
                            found.map(|(found, at)| (Box::new(TaskRecord::clone(&found)), at));
                        CasAnswer::Conflict(found)
                    }
                    CasAnswer::Gone(revision) => CasAnswer::Gone(revision),
                    CasAnswer::Unknown => CasAnswer::Unknown,
                };
                fleet::Event::TaskWritten { task, answer }
            }
            Op::Read(task, read) => {
                let found = self.registry.tasks.read(&task, lags);
                let found = found.map(|(record, at)| (Box::new(TaskRecord::clone(&record)), at));
                fleet::Event::TaskRead { task, read, found }
            }
            Op::Guard(expect, guard) => {
                let value = MasterValue::Guard(guard.clone());
                let answer = self.registry.masters.cas(now, expect, MasterKey::Guard, value, lags);
                let answer = only(answer, |value| match value {
                    MasterValue::Guard(guard) => Some(guard),
                    MasterValue::Lease(_) => None,
                });
                if let CasAnswer::Written(revision) = answer {
                    self.guard_committed(&guard);
                    self.show(1, || fleet::Event::GuardSeen(guard.clone(), revision));
                }
                fleet::Event::GuardWritten { guard, answer }
            }
            Op::End(bucket, read) => {
                let mut end = self.end_of(bucket);
                end.revision = end.revision.saturating_sub(u64::from(lags));
                fleet::Event::EndRead { bucket, read, end }
            }
        }
    }

    /// An answer arrives at a process, if its connection still stands.
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

    /// A process stops waiting for an answer: the result of the request is unknown.
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
            Op::Task(_, record, _) => {
                fleet::Event::TaskWritten { task: record.id, answer: CasAnswer::Unknown }
            }
            Op::Guard(_, guard) => fleet::Event::GuardWritten { guard, answer: CasAnswer::Unknown },
            Op::Read(..) | Op::End(..) => return,
        };
        self.counters.unknown += 1;
        self.hand_over(peer, session, event);
    }

    fn hand_over(&mut self, to: Peer, session: SessionId, event: fleet::Event) {
        match (to, event) {
            (Peer::Master(at), event) => {
                let incarnation = self.masters[at].process.incarnation;
                self.give_master(at, incarnation, MasterIn::OfSession(session, Box::new(event)));
            }
            (Peer::Worker(at), fleet::Event::LeaseWritten { lease, answer, .. }) => {
                let incarnation = self.workers[at].process.incarnation;
                let (session, renewal, direct) = (lease.session, lease.renewal, true);
                let event = LeaseEvent::Answered { session, renewal, answer, direct };
                self.tell_lease_thread(at, incarnation, event);
            }
            _ => {}
        }
    }

    /// Breaks a connection; its process notices that later.
    pub fn connection_breaks(&mut self, peer: Peer) {
        let wait = self.rng.between(10 * MS, 3 * SECOND);
        let Some(connection) = self.connection(peer) else { return };
        if connection.up && connection.alive {
            connection.alive = false;
            let number = connection.number;
            self.later(wait, SimEvent::ConnectionLost(peer, number));
        }
    }

    /// Closes the connection of a process that has ended.
    pub fn connection_closed(&mut self, peer: Peer) {
        if let Some(connection) = self.connection(peer) {
            *connection = Connection { number: connection.number + 1, ..Connection::default() };
        }
    }

    /// Notices that the connection is lost. Returns `false` if the process knew that already.
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

    /// Tries to connect. After that a worker's client sends what it could not send before.
    pub fn connects(&mut self, peer: Peer) -> bool {
        let out = self.cut_until(peer, Peer::Registry);
        let back = self.cut_until(Peer::Registry, peer);
        if out.max(back) > self.now || !self.registry_is_up() {
            return false;
        }
        let server = self.registry.server;
        let Some(connection) = self.connection(peer) else { return false };
        connection.number += 1;
        connection.server = server;
        (connection.up, connection.alive) = (true, true);
        let number = connection.number;
        for mut request in core::mem::take(&mut connection.limbo) {
            if self.rng.once_in(2) {
                self.counters.ghosts_landed += 1;
                request.connection = number;
                let at = self.arrival(peer, Peer::Registry);
                self.at(at, SimEvent::Land(Box::new(request)));
            }
        }
        true
    }
}
