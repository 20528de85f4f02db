//! The masters of the fleet: this master's own lease, the leases of the others, and which master owns
//! which task. Ownership only decides who acts first. It never decides who may act; the registry does.

use super::{ASK_AGAIN, Config, Effect, Fleet, Timer, peers::Peer};
use crate::{
    ABSENT, MasterId, Revision, SessionId, TaskId, Time,
    advisory::{Advisory, MasterEvent},
    lease::{CasAnswer, Home, LeaseClock, LeaseState, MASTER_RENEWS_EVERY, MasterLease},
    limit,
    registry::ServerId,
    subject::Bucket,
    task::mix,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use core::time::Duration;

/// This master's own lease. While it holds, the master may extend the leases of workers whose home it
/// is.
#[derive(Debug)]
pub(super) struct Own {
    lease: MasterLease,
    clock: LeaseClock<()>,
    next: Time,
    /// When the first of the renewals that are not answered was sent.
    unanswered: Option<Time>,
    /// The lease was declared lost, or the master stops: it extends no lease any more.
    over: bool,
    /// The shell was told to begin another session.
    told: bool,
}

impl Own {
    pub(super) fn new(config: &Config) -> Self {
        let timing = &config.timing;
        let lease = MasterLease {
            master: config.me.clone(),
            session: config.session,
            renewal: 0,
            state: LeaseState::Live,
            wait_ms: timing.outage_wait().as_millis() as u64 + 1,
            workers: 0,
            remembers: config.remembers.clone(),
            vouches: None,
            connected_to: config.connected_to.clone(),
            address: config.address.clone(),
            issues: config.issues,
            renewed_at: Default::default(),
            unknown: Default::default(),
        };
        let clock = LeaseClock::new(timing.outage(), ABSENT);
        let next = Time::ZERO;
        Own { lease, clock, next, unanswered: None, over: false, told: false }
    }

    pub(super) fn session(&self) -> SessionId {
        self.lease.session
    }

    /// Whether the lease was declared lost, or is given back.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Until when this master may extend the leases of workers; `None` if it may not at all.
    pub(super) fn extends_until(&self) -> Option<Time> {
        (self.clock.is_held() && !self.over).then(|| self.clock.until())
    }
}

impl Fleet {
    /// Whether other masters may be active, as far as this master knows.
    pub fn has_company(&self) -> bool {
        self.registry_up.is_none() || self.peers.iter().any(|(_, peer)| peer.is_live())
    }

    /// Renews this master's own lease when that is due.
    pub(super) fn renew_own(&mut self, now: Time, out: &mut Vec<Effect>) {
        // Its server may be cut off from the others, while the connection to it stands.
        let is_silent =
            self.own.unanswered.is_some_and(|since| now >= since + limit::REGISTRY_SILENCE_MAX);
        if (self.own.over || is_silent) && !core::mem::replace(&mut self.own.told, true) {
            out.push(Effect::BeginAnew);
        }
        if now < self.own.next || (self.own.over && self.own.lease.state != LeaseState::Released) {
            return;
        }
        if !self.may_answer() {
            return;
        }
        let wall = self.stamps.wall(now);
        let vouches = self.config.server.clone().filter(|_| self.may_vouch(now));
        let own = &mut self.own;
        own.lease.vouches = vouches;
        own.next = now + MASTER_RENEWS_EVERY;
        own.lease.renewal += 1;
        own.lease.workers = self.workers.linked() as u32;
        own.lease.renewed_at = wall;
        own.clock.sends(own.lease.renewal, now, ());
        own.unanswered.get_or_insert(now);
        let (expect, lease) = (own.clock.known(), own.lease.clone());
        self.timers.set(own.next, Timer::Own);
        out.push(Effect::WriteMaster { expect, lease });
    }

    /// This master stops: it extends no lease from now on, and releases its own.
    pub(super) fn stopping(&mut self) {
        self.own.over = true;
        self.own.told = true;
        self.own.lease.state = LeaseState::Released;
        self.own.next = Time::ZERO;
    }

    pub(super) fn master_seen(&mut self, now: Time, lease: MasterLease, revision: Revision) {
        if lease.session == self.own.session() {
            return self.own_seen(&lease, revision);
        }
        let session = lease.session;
        let answers = lease.state.is_held() && self.roll.is_later(Bucket::Masters, revision);
        self.roll.exists(Bucket::Masters, revision);
        let ended = self.config.memory.over.get(&session).copied();
        let peer = self.peers.meet(session, || Peer::unknown(lease.master.clone(), now));
        if revision <= peer.revision {
            return;
        }
        peer.answered |= answers;
        peer.revision = revision;
        peer.seen = now;
        peer.declaring = false;
        let (was_live, is_live) = (peer.is_live(), lease.state.is_held());
        let could = peer.lease.as_ref().is_some_and(|lease| lease.workers > 0);
        let can = lease.workers > 0;
        if answers {
            self.roll.remembered.extend(lease.remembers.iter().copied());
        }
        peer.lease = Some(lease);
        if is_live && !was_live {
            self.timers.set(now, Timer::Master(session));
        }
        if !is_live {
            self.peer_over(now, session, ended.unwrap_or(now));
        }
        if self.peers.set_fresh(session, is_live) || could != can {
            self.reassign();
        }
    }

    fn own_seen(&mut self, lease: &MasterLease, revision: Revision) {
        self.roll.exists(Bucket::Masters, revision);
        if lease.state.is_held() {
            self.own.clock.acknowledged(lease.renewal, revision);
        } else if lease.state == LeaseState::Lost {
            self.own.over = true;
        }
    }

    /// The registry has no lease for this session of a master.
    pub(super) fn master_gone(&mut self, now: Time, session: SessionId) {
        if session == self.own.session() {
            self.own.over |= self.own.clock.known() != ABSENT;
        } else if let Some(peer) = self.peers.get_mut(&session) {
            let unknown = Peer::unknown(peer.name.clone(), now);
            *peer = Peer { over: peer.over, answered: peer.answered, ..unknown };
            self.peers.set_fresh(session, false);
            self.timers.set(now, Timer::Master(session));
            self.reassign();
        }
    }

    /// A master may be silent, or its lease over.
    pub(super) fn master_due(&mut self, now: Time, session: SessionId, out: &mut Vec<Effect>) {
        let healthy = self.registry_up.unwrap_or(Time::NEVER);
        let Some(peer) = self.peers.get_mut(&session) else { return };
        if peer.over.is_some() {
            return;
        }
        let silent = peer.seen + limit::PATIENCE;
        if now >= silent && self.peers.set_fresh(session, false) {
            self.reassign();
        }
        let Some(peer) = self.peers.get_mut(&session) else { return };
        let asked = peer.lease.as_ref().map_or(0, |lease| lease.wait_ms);
        let wait = self.config.timing.outage_wait().max(Duration::from_millis(asked));
        let proven = self.config.succeeds.contains(&session);
        let due = if proven { now } else { peer.seen.max(healthy) + wait };
        if now < due {
            let next = if now < silent { silent } else { due };
            self.timers.set(next, Timer::Master(session));
            return;
        }
        if proven && !self.own.clock.is_held() {
            // Renew this process's own lease first: it tells the others that what the earlier session
            // knew is not forgotten.
            self.timers.set(now + ASK_AGAIN, Timer::Master(session));
            return;
        }
        if peer.declaring {
            return;
        }
        peer.declaring = true;
        // A lease that the watch has not shown may exist all the same, because the watch is late. Only
        // the registry can say that there is none, by accepting this write.
        let lease = match &peer.lease {
            Some(lease) => MasterLease { state: LeaseState::Lost, ..lease.clone() },
            None => vacancy(peer.name.clone(), session, wait),
        };
        out.push(Effect::WriteMaster { expect: peer.revision, lease });
    }

    pub(super) fn master_written(
        &mut self,
        now: Time,
        lease: MasterLease,
        answer: CasAnswer<MasterLease>,
    ) {
        let session = lease.session;
        let own = session == self.own.session();
        if own && answer != CasAnswer::Unknown {
            self.own.unanswered = None;
        }
        if !own && let Some(peer) = self.peers.get_mut(&session) {
            peer.declaring = false;
            if answer == CasAnswer::Unknown {
                self.timers.set(now + ASK_AGAIN, Timer::Master(session));
            }
        }
        match answer {
            CasAnswer::Written(revision) => {
                if !own {
                    self.outbox.push(Effect::Publish(Advisory::Master {
                        master: lease.master.clone(),
                        what: MasterEvent::Lost,
                        reason: String::from("its lease was not renewed in time"),
                    }));
                } else if lease.state == LeaseState::Released {
                    return self.outbox.push(Effect::Released);
                }
                self.master_seen(now, lease, revision);
            }
            CasAnswer::Conflict(Some((found, revision))) => self.master_seen(now, found, revision),
            CasAnswer::Conflict(None) if own => {
                self.own.over |= self.own.clock.is_refuted_by_nothing(lease.renewal);
            }
            CasAnswer::Gone(revision) if own => {
                self.own.over |= self.own.clock.is_refuted_by(revision);
            }
            CasAnswer::Conflict(None) => self.master_gone(now, session),
            CasAnswer::Gone(revision) => {
                self.master_gone(now, session);
                if let Some(peer) = self.peers.get_mut(&session) {
                    peer.revision = revision;
                }
            }
            CasAnswer::Unknown => {}
        }
    }

    /// The session has extended no lease since `over`, and will not again. Leases whose home it was may
    /// be declared lost after their waits.
    fn peer_over(&mut self, now: Time, session: SessionId, over: Time) {
        let Some(peer) = self.peers.get_mut(&session) else { return };
        if peer.over.is_some() {
            return;
        }
        peer.over = Some(over);
        self.timers.set(over + self.config.timing.master(), Timer::RollCall);
        let homeless = self.workers.iter().filter(|(_, worker)| {
            let home = worker.lease.as_ref().and_then(|lease| lease.home.as_ref());
            home.is_some_and(|home| home.session == session)
        });
        for (id, worker) in homeless {
            self.timers.set(now + worker.wait, Timer::Lease(id.clone()));
        }
    }

    /// From when on this master may declare a worker with this home lost. `None`: not before another
    /// event.
    pub(super) fn may_declare_from(&mut self, now: Time, home: Option<&Home>) -> Option<Time> {
        let Some(home) = home.filter(|home| home.session != self.own.session()) else {
            return Some(Time::ZERO);
        };
        let session = home.session;
        let peer = self.peers.meet(session, || {
            self.timers.set(now, Timer::Master(session));
            Peer::unknown(home.master.clone(), now)
        });
        peer.over
    }

    /// Whether this master acts first for the task or worker with this number: rendezvous hashing over
    /// the sessions of the masters that have a worker linked.
    pub(super) fn is_owner(&self, number: u64) -> bool {
        let rank = |session: SessionId| mix(session.0 ^ mix(number));
        let able = |session: &&SessionId| {
            let lease = self.peers.get(**session).and_then(|peer| peer.lease.as_ref());
            lease.is_some_and(|lease| lease.workers > 0)
        };
        let best = self.peers.fresh().filter(able).map(|&session| rank(session)).max();
        let me = rank(self.own.session());
        best.is_none_or(|best| me > best && (self.workers.linked() > 0))
    }

    pub(super) fn is_mine(&self, task: TaskId) -> bool {
        self.is_owner(task.0 as u64 ^ (task.0 >> 64) as u64)
    }

    /// When this master may act on a task whose record it has known since `since`: at once if it owns
    /// the task, otherwise after the takeover delay.
    pub(super) fn turn_of(&self, task: TaskId, writer: SessionId, since: Time) -> Time {
        let first =
            writer == self.own.session() || (!self.peers.is_fresh(writer) && self.is_mine(task));
        if first { since } else { since + limit::PATIENCE }
    }

    /// The set of masters has changed, and with it the ownership of tasks.
    pub(super) fn reassign(&mut self) {
        let (mut moved, mut others) = (Vec::new(), Vec::new());
        for (&id, task) in &self.tasks {
            match task.queued_in {
                Some(line) if line == self.queue_owner(id, task.revision) => {}
                Some(_) => moved.push(id),
                None if task.is_idle() && !task.record.is_done() => others.push(id),
                None => {}
            }
        }
        for id in moved {
            self.change_queue(id);
        }
        self.agenda.tasks(others);
        self.agenda.groups(self.scheduler.names());
    }

    /// The sessions of other masters that are over, and when this master first knew it.
    pub(super) fn peers_over(&self) -> BTreeMap<SessionId, Time> {
        let over = |(session, peer): (&SessionId, &Peer)| peer.over.map(|over| (*session, over));
        self.peers.iter().filter_map(over).collect()
    }

    /// The servers to which other live masters are connected.
    pub fn servers_of_others(&self) -> BTreeSet<ServerId> {
        self.live_leases().filter_map(|lease| lease.connected_to.clone()).collect()
    }

    /// How many of the live masters that share the server of this session come before it. When the server
    /// fails, each of them chooses another one.
    pub fn sharers_before(&self) -> usize {
        let own = &self.own.lease;
        let shares = |lease: &&MasterLease| {
            own.connected_to.is_some()
                && lease.connected_to == own.connected_to
                && lease.session < own.session
        };
        self.live_leases().filter(shares).count()
    }

    fn live_leases(&self) -> impl Iterator<Item = &MasterLease> {
        let live = self.peers.fresh().filter_map(|&session| self.peers.get(session));
        live.filter_map(|peer| peer.lease.as_ref())
    }

    /// Where the live masters listen, this one first, as far as they have said so.
    pub fn addresses(&self) -> Vec<String> {
        self.live_masters().filter_map(|lease| lease.address.clone()).collect()
    }

    /// The same, of those that issue certificates.
    pub fn issuers(&self) -> Vec<String> {
        let issuers = self.live_masters().filter(|lease| lease.issues);
        issuers.filter_map(|lease| lease.address.clone()).collect()
    }

    fn live_masters(&self) -> impl Iterator<Item = &MasterLease> {
        core::iter::once(&self.own.lease).chain(self.live_leases())
    }

    /// The leases of other masters.
    pub(super) fn peer_leases(&self) -> impl Iterator<Item = &MasterLease> {
        self.peers.iter().filter_map(|(_, peer)| peer.lease.as_ref())
    }

    /// The longest time for which the home of a worker may extend its lease, by the masters' leases.
    pub(super) fn longest_home(&self) -> Duration {
        let asked = self.peer_leases().map(|lease| Duration::from_millis(lease.wait_ms));
        asked.fold(self.config.timing.outage_wait(), Duration::max)
    }

    /// Every master that holds or held a lease.
    pub fn masters(&self) -> Vec<MasterLease> {
        let others = self.peer_leases().cloned();
        core::iter::once(self.own.lease.clone()).chain(others).collect()
    }
}

/// A lease in state `lost`, for a master session of which nothing else is known.
fn vacancy(master: MasterId, session: SessionId, wait: Duration) -> MasterLease {
    MasterLease {
        master,
        session,
        renewal: 0,
        state: LeaseState::Lost,
        wait_ms: wait.as_millis() as u64 + 1,
        workers: 0,
        remembers: Vec::new(),
        vouches: None,
        connected_to: None,
        address: None,
        issues: false,
        renewed_at: Default::default(),
        unknown: Default::default(),
    }
}
