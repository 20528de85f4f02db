//! A worker's lease over all sessions of its process: which way a renewal goes, what closes the gate,
//! and which session may follow another. Never opens the gate of a session that is over, and never
//! begins a session before the last one's runs have ended.
//!
//! The contract is that of [`Fleet`](crate::fleet::Fleet): observe every fact, plan once, carry out the
//! effects in order; plan again at [`LeaseLoop::wakeup`].

use super::{CasAnswer, Home, Lease, LeaseHolder, LeaseState, LeaseStep, LeaseTiming, Unwell};
use crate::{
    ABSENT, Revision, SessionId, Time,
    attempts::LinkId,
    registry::{Holds, Mark},
    task::mix,
    time::WallMillis,
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

/// How long a stopping worker waits until its lease is given back.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// How long to wait before trying again to take a lease that another process holds.
const TAKE_AGAIN: Duration = Duration::from_secs(1);

/// A fact.
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
        /// Whether it came straight from the registry, and not through a master.
        direct: bool,
    },
    /// A master that takes itself for this worker's home has extended the lease.
    Extended {
        /// The session whose lease it is.
        session: SessionId,
        /// The session of the master.
        home: SessionId,
        /// The renewal that asked for it.
        renewal: u64,
    },
    /// A master has said who it is on a link; `near` if it is on this machine.
    Linked {
        /// The link.
        link: LinkId,
        /// The master's session.
        master: Home,
        /// Whether it would be lost together with this worker's machine.
        near: bool,
    },
    /// A link is down.
    Unlinked(LinkId),
    /// The direct way to the registry is open, or is not any more.
    Direct(bool),
    /// Nothing of the session that is over runs any more.
    Quiet,
    /// The lease shall say this from now on, in later sessions, too.
    SetState(LeaseState),
    /// What the host lacks from now on, in later sessions, too.
    Lack(Option<Unwell>),
    /// Up to where attempts are held.
    SetHolds(Holds),
    /// Nothing runs and nothing will: give the lease back.
    Release,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// Write `lease` if the key's revision is still `expect`, on each of these ways. Bring every answer
    /// back as [`LeaseEvent::Answered`].
    Renew {
        /// The revision that the key must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
        /// Whether to write straight to the registry.
        direct: bool,
        /// The links over which a master is to write it.
        links: Vec<LinkId>,
    },
    /// Ask the home on this link to extend the lease.
    AskHome {
        /// The link.
        link: LinkId,
        /// The session.
        session: SessionId,
        /// The renewal that is sent with it.
        renewal: u64,
    },
    /// The lease now ends at `until`: move the kernel's timer first, then open the gates, then tell the
    /// attempts.
    Extend {
        /// The session.
        session: SessionId,
        /// The end.
        until: Time,
    },
    /// Close every gate, and end what runs.
    Close {
        /// The session that is over.
        session: SessionId,
        /// When its lease had ended, if it was ever held.
        lapsed: Option<Time>,
        /// What the registry holds instead, where that is known.
        by: Option<Lease>,
    },
    /// Close every gate: nothing runs, and the lease is being given back.
    CloseQuietly,
    /// A session begins.
    Begin {
        /// The session.
        session: SessionId,
        /// The sessions that it names as over.
        succeeds: Vec<SessionId>,
        /// The process that holds the key, where it has to be waited for.
        waits_for: Option<Lease>,
    },
    /// The process can end. Where the lease was not given back in time it runs out.
    Released {
        /// Whether the registry has it as given back, or another session has it.
        in_time: bool,
    },
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct LeaseLoop {
    timing: LeaseTiming,
    /// What the first lease of a session says.
    draft: Lease,
    nonces: u64,
    holder: LeaseHolder,
    /// The end of the lease that the gates know.
    told_until: Time,
    /// The session is over, and this is what the registry holds instead; until nothing of it runs.
    over: Option<Option<(Lease, Revision)>>,
    /// When the present session may first write.
    not_before: Time,
    /// Who has said to be at the other end of each link, and whether that is on this machine.
    masters: BTreeMap<LinkId, (Home, bool)>,
    /// Whether the registry can be reached directly.
    direct: bool,
    /// Renewals sent straight to the registry since it last answered one.
    unanswered: u32,
    release_by: Option<Time>,
    outbox: Vec<LeaseEffect>,
}

impl LeaseLoop {
    /// The loop of a process that holds nothing yet. `draft` says what a lease of it says; `seed` must be
    /// random, since the names of its sessions follow from it.
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

    /// The end of the lease as the gates were told; zero while they are closed.
    pub fn until(&self) -> Time {
        self.told_until
    }

    /// Learns a fact.
    pub fn observe(&mut self, now: Time, event: LeaseEvent) {
        match event {
            LeaseEvent::Answered { session, renewal, answer, direct } => {
                if direct && answer != CasAnswer::Unknown {
                    self.unanswered = 0;
                }
                if session == self.holder.session() {
                    self.holder.answered(now, renewal, answer);
                    self.extend();
                }
            }
            LeaseEvent::Extended { session, home, renewal } => {
                if session == self.holder.session() {
                    self.holder.extended(now, home, renewal);
                    self.extend();
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
            // What an earlier session held is over.
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

    /// Decides from all facts, and appends what is to be done to `out`. `wall` goes into the lease, for
    /// people.
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

    /// When [`plan`](LeaseLoop::plan) wants to be called again, if no fact comes before.
    pub fn wakeup(&self) -> Option<Time> {
        let until = self.holder.until();
        let fence = (until != Time::ZERO).then_some(until);
        let next = self.over.is_none().then(|| {
            let next = self.holder.wakeup().max(self.not_before);
            fence.map_or(next, |fence| fence.min(next))
        });
        next.into_iter().chain(self.release_by).min()
    }

    /// Opens the gates for longer, if the lease has become longer. Those of a session that is over, or
    /// that is being given back, stay closed.
    fn extend(&mut self) {
        let until = self.holder.until();
        let closed = self.over.is_some() || self.release_by.is_some() || self.holder.is_released();
        if until > self.told_until && !closed {
            self.told_until = until;
            let session = self.holder.session();
            self.outbox.push(LeaseEffect::Extend { session, until });
        }
    }

    /// The session is over: from here on none of its gates opens again.
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

    /// Begins a session, once nothing of the last one runs.
    fn begin(&mut self, now: Time, by: Option<(Lease, Revision)>) {
        let session = self.mint();
        let mut lease = Lease { session, holds: Mark::default(), ..self.draft.clone() };
        let mut waits_for = None;
        self.not_before = now;
        let expect = match by {
            // It lapsed here, and nobody has taken it: it is this process' own to succeed.
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
                // This process has the lock of the directory that the lease names, so whoever
                // wrote that is dead.
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

    /// Sends a renewal on the way that answers, and on every way where the last got no answer.
    fn renew(&mut self, expect: Revision, lease: Lease, doubtful: bool, ask: Option<Home>) {
        let asked = ask.and_then(|home| {
            self.masters.iter().find(|(_, (master, _))| *master == home).map(|(&link, _)| link)
        });
        let (session, renewal) = (lease.session, lease.renewal);
        if let Some(link) = asked {
            self.outbox.push(LeaseEffect::AskHome { link, session, renewal });
        }
        // As long as the registry itself is silent its answers through masters say nothing about it.
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
