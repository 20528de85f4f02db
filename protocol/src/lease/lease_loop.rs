//! A worker's lease over all sessions of its process: by which way a renewal is sent, what closes the
//! gates, and when the next session may begin. Never opens the gates of a session that is over, and
//! never begins a session before the runs of the last one have ended.
//!
//! The contract is that of [`Fleet`](crate::fleet::Fleet): observe every event, plan once, execute the
//! effects in order; plan again at [`LeaseLoop::wakeup`].

use super::{CasAnswer, Home, Lease, LeaseHolder, LeaseState, LeaseStep, LeaseTiming, Unwell};
use crate::{
    ABSENT, LinkId, Revision, SessionId, Time,
    grant::Policy,
    registry::{Holds, Mark},
    task::mix,
    time::WallMillis,
    upgrade::ProgramReport,
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::time::Duration;

/// How long a stopping worker waits until its lease is given back.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// How long to wait before trying again to take a lease that another process holds.
const TAKE_AGAIN: Duration = Duration::from_secs(1);

/// Something that happened, for [`LeaseLoop::observe`].
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "answers, the largest, are most of them")]
pub enum LeaseEvent {
    /// The answer to a renewal of this session.
    Answered {
        /// The session that sent it.
        session: SessionId,
        /// The number of the renewal.
        renewal: u64,
        /// The registry's answer.
        answer: CasAnswer<Lease>,
        /// Whether it came from the registry directly, not through a master.
        direct: bool,
    },
    /// A master that considers itself this worker's home has extended the lease.
    Extended {
        /// The session whose lease it is.
        session: SessionId,
        /// The session of the master.
        home: SessionId,
        /// The number of the renewal with which it was asked.
        renewal: u64,
    },
    /// A link to a master is up.
    Linked {
        /// The link.
        link: LinkId,
        /// The master's session.
        master: Home,
        /// Whether the master would be lost together with this worker's machine.
        near: bool,
    },
    /// A link is down.
    Unlinked(LinkId),
    /// The direct connection to the registry is up, or down.
    Direct(bool),
    /// No run of the session that is over is left.
    Quiet,
    /// The state of the lease from now on, in later sessions too.
    SetState(LeaseState),
    /// What the host lacks from now on, in later sessions too.
    Lack(Option<Unwell>),
    /// What the worker grants to tasks from now on, in later sessions too.
    SetPolicy(Arc<Policy>),
    /// What the worker says of its program from now on, in later sessions too.
    SetProgram(ProgramReport),
    /// Up to where attempts were dispatched to the session.
    SetHolds(Holds),
    /// Nothing runs and nothing will: give the lease back.
    Release,
}

/// Something that the lease thread has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// Write `lease` if the key's revision is still `expect`, by each of these ways. Every answer comes
    /// back as [`LeaseEvent::Answered`].
    Renew {
        /// The revision that the key must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
        /// Whether to write to the registry directly.
        direct: bool,
        /// The links over which masters are asked to write it.
        links: Vec<LinkId>,
    },
    /// Ask the home on this link to extend the lease.
    AskHome {
        /// The link.
        link: LinkId,
        /// The session.
        session: SessionId,
        /// The number of the renewal that is sent with it.
        renewal: u64,
    },
    /// The lease now ends at `until`: set the kernel's timer first, then let the gates know the new end, then tell the
    /// worker's state machine.
    MoveEnd {
        /// The session.
        session: SessionId,
        /// The new end.
        until: Time,
    },
    /// Close every gate, and stop the runs.
    Close {
        /// The session that is over.
        session: SessionId,
        /// When its lease ended, if it was ever held.
        lapsed: Option<Time>,
        /// What the registry has instead, where that is known.
        by: Option<Lease>,
    },
    /// Close every gate: nothing runs, and the lease is being given back.
    CloseQuietly,
    /// A session begins.
    Begin {
        /// The session.
        session: SessionId,
        /// The earlier sessions that it names as over.
        succeeds: Vec<SessionId>,
        /// The process that holds the key, if it has to be waited for.
        waits_for: Option<Lease>,
    },
    /// The process can end. If the lease was not given back in time, it runs out.
    Released {
        /// Whether the registry has the lease as given back, or another session has it.
        in_time: bool,
    },
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct LeaseLoop {
    timing: LeaseTiming,
    /// The value of the first lease of a session.
    draft: Lease,
    nonces: u64,
    holder: LeaseHolder,
    /// The end of the lease that the gates know.
    told_until: Time,
    /// The session is over, and this is what the registry has instead; until none of its runs is left.
    over: Option<Option<(Lease, Revision)>>,
    /// When the present session may first write.
    not_before: Time,
    /// The masters on the links, and whether each is on this machine.
    masters: BTreeMap<LinkId, (Home, bool)>,
    /// Whether the direct connection to the registry is up.
    direct: bool,
    /// How many renewals were sent to the registry directly since its last answer.
    unanswered: u32,
    release_by: Option<Time>,
    outbox: Vec<LeaseEffect>,
}

impl LeaseLoop {
    /// The loop of a process that holds nothing yet. `draft` is the value that its leases begin with;
    /// `seed` must be random, since the sessions' names follow from it.
    pub fn new(timing: LeaseTiming, draft: Lease, seed: u64) -> Self {
        let mut this = LeaseLoop {
            timing,
            holder: LeaseHolder::new(timing, draft.clone(), ABSENT),
            draft,
            nonces: seed,
            told_until: Time::ZERO,
            over: None,
            not_before: Time::ZERO,
            masters: BTreeMap::new(),
            direct: false,
            unanswered: 0,
            release_by: None,
            outbox: Vec::new(),
        };
        let lease = Lease { session: this.mint(), ..this.draft.clone() };
        this.holder = LeaseHolder::new(timing, lease, ABSENT);
        this
    }

    /// The present session.
    pub fn session(&self) -> SessionId {
        self.holder.session()
    }

    /// The end of the lease that the gates were told; zero while they are closed.
    pub fn until(&self) -> Time {
        self.told_until
    }

    /// Takes in one event.
    pub fn observe(&mut self, now: Time, event: LeaseEvent) {
        match event {
            LeaseEvent::Answered { session, renewal, answer, direct } => {
                if direct && answer != CasAnswer::Unknown {
                    self.unanswered = 0;
                }
                if session == self.holder.session() {
                    self.holder.answered(now, renewal, answer);
                    self.move_end();
                }
            }
            LeaseEvent::Extended { session, home, renewal } => {
                if session == self.holder.session() {
                    self.holder.extended(now, home, renewal);
                    self.move_end();
                }
            }
            LeaseEvent::Linked { link, master, near } => {
                self.unlinked(link);
                self.holder.linked(master.clone(), near);
                self.holder.hurry();
                self.masters.insert(link, (master, near));
            }
            LeaseEvent::Unlinked(link) => self.unlinked(link),
            LeaseEvent::Direct(up) => {
                self.direct = up;
                if up {
                    self.holder.hurry();
                }
            }
            LeaseEvent::Quiet => {
                if let Some(by) = self.over.take() {
                    self.begin(now, by);
                }
            }
            LeaseEvent::SetState(state) => {
                self.draft.state = state;
                self.holder.set_state(state);
            }
            LeaseEvent::Lack(unwell) => {
                self.draft.unwell = unwell.clone();
                self.holder.set_unwell(unwell);
            }
            LeaseEvent::SetPolicy(policy) => {
                self.draft.offer.policy = policy.clone();
                self.holder.set_policy(policy);
            }
            LeaseEvent::SetProgram(program) => {
                self.draft.program = Some(program.clone());
                self.holder.set_program(program);
            }
            // Attempts of an earlier session are over.
            LeaseEvent::SetHolds(holds) => {
                if holds.session == Some(self.holder.session()) {
                    self.holder.set_holds(holds.upto);
                }
            }
            LeaseEvent::Release => {
                self.told_until = Time::ZERO;
                self.outbox.push(LeaseEffect::CloseQuietly);
                self.holder.set_state(LeaseState::Released);
                self.release_by = Some(now + RELEASE_WITHIN);
            }
        }
    }

    /// Decides from all events so far, and appends the effects to `out`. `wall` goes into the lease,
    /// for people.
    pub fn plan(&mut self, now: Time, wall: WallMillis, out: &mut Vec<LeaseEffect>) {
        if self.over.is_none() && now >= self.not_before {
            match self.holder.plan(now, wall) {
                Some(LeaseStep::Write { expect, lease, doubtful, ask }) => {
                    self.renew(expect, lease, doubtful, ask);
                }
                Some(LeaseStep::Over { by }) => self.close(now, by),
                None => {}
            }
        }
        if let Some(release_by) = self.release_by {
            let in_time = self.holder.is_released() || self.over.is_some();
            if in_time || now >= release_by {
                self.release_by = None;
                self.over.get_or_insert(None);
                self.outbox.push(LeaseEffect::Released { in_time });
            }
        }
        out.append(&mut self.outbox);
    }

    /// When [`plan`](LeaseLoop::plan) has to be called again if no event comes before.
    pub fn wakeup(&self) -> Option<Time> {
        let until = self.holder.until();
        let fence = (until != Time::ZERO).then_some(until);
        let next = self.over.is_none().then(|| {
            let next = self.holder.wakeup().max(self.not_before);
            fence.map_or(next, |fence| fence.min(next))
        });
        next.into_iter().chain(self.release_by).min()
    }

    /// Lets the gates know a later end of the lease, if there is one. The gates of a session that is over,
    /// or is being given back, stay closed.
    fn move_end(&mut self) {
        let until = self.holder.until();
        let closed = self.over.is_some() || self.release_by.is_some() || self.holder.is_released();
        if until > self.told_until && !closed {
            self.told_until = until;
            let session = self.holder.session();
            self.outbox.push(LeaseEffect::MoveEnd { session, until });
        }
    }

    /// The session is over: none of its gates opens again.
    fn close(&mut self, now: Time, by: Option<(Lease, Revision)>) {
        self.told_until = Time::ZERO;
        let lapsed = self.holder.is_held().then(|| self.holder.until().min(now));
        self.outbox.push(LeaseEffect::Close {
            session: self.holder.session(),
            lapsed,
            by: by.as_ref().map(|(lease, _)| lease.clone()),
        });
        self.over = Some(by);
    }

    /// Begins a session, once no run of the last one is left.
    fn begin(&mut self, now: Time, by: Option<(Lease, Revision)>) {
        let session = self.mint();
        let mut lease = Lease { session, holds: Mark::default(), ..self.draft.clone() };
        let mut waits_for = None;
        self.not_before = now;
        let expect = match by {
            // The lease lapsed here, and nobody took it: this process may succeed it.
            None => {
                if self.holder.is_held() {
                    lease.succeed(self.holder.lease());
                    lease.fenced = true;
                } else {
                    self.not_before = now + TAKE_AGAIN;
                }
                self.holder.revision()
            }
            Some((old, revision)) => {
                let over = matches!(old.state, LeaseState::Lost | LeaseState::Released);
                // This process has the lock of the directory that the lease names, so the process that
                // wrote the lease is dead.
                let dead = old.home_dir == self.draft.home_dir;
                if over || dead {
                    lease.succeed(&old);
                    lease.fenced = old.session == self.holder.session();
                    revision
                } else {
                    self.not_before = now + TAKE_AGAIN;
                    waits_for = Some(old);
                    ABSENT
                }
            }
        };
        let succeeds = lease.succeeds.clone();
        self.outbox.push(LeaseEffect::Begin { session, succeeds, waits_for });
        self.holder = LeaseHolder::new(self.timing, lease, expect);
        for (master, near) in self.masters.values() {
            self.holder.linked(master.clone(), *near);
        }
    }

    /// Sends a renewal by the way that answers, or by every way if the last one was not answered.
    fn renew(&mut self, expect: Revision, lease: Lease, doubtful: bool, ask: Option<Home>) {
        let asked = ask.and_then(|home| {
            self.masters.iter().find(|(_, (master, _))| *master == home).map(|(&link, _)| link)
        });
        let (session, renewal) = (lease.session, lease.renewal);
        if let Some(link) = asked {
            self.outbox.push(LeaseEffect::AskHome { link, session, renewal });
        }
        // As long as the registry itself does not answer, its answers through masters say nothing about
        // the direct connection.
        let every_way = !self.direct || doubtful || self.unanswered > 0;
        let links = if every_way { self.masters.keys().copied().collect() } else { Vec::new() };
        self.unanswered += u32::from(self.direct);
        self.outbox.push(LeaseEffect::Renew { expect, lease, direct: self.direct, links });
    }

    fn unlinked(&mut self, link: LinkId) {
        if let Some((master, _)) = self.masters.remove(&link)
            && !self.masters.values().any(|(other, _)| *other == master)
        {
            self.holder.unlinked(master.session);
        }
    }

    fn mint(&mut self) -> SessionId {
        self.nonces = self.nonces.wrapping_add(0x9e37_79b9_7f4a_7c15);
        SessionId(mix(self.nonces))
    }
}

#[cfg(test)]
mod tests;
