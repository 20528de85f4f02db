//! A worker's side of its lease, for one session: when it renews, how long guests may run, and which
//! master is its home. Never counts an extension by a master that may not be the home any more.

use super::{CasAnswer, Home, Lease, LeaseClock, LeaseState, LeaseTiming, Unwell};
use crate::{
    ABSENT, Revision, SessionId, Time, grant::Policy, registry::Mark, task::mix, time::WallMillis,
    upgrade::ProgramReport,
};
use alloc::{collections::BTreeMap, sync::Arc};

/// What the holder has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write `lease` if the key's revision is still `expect`, and bring the answer to
    /// [`LeaseHolder::answered`] with the same `renewal` number.
    Write {
        /// The revision the key must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
        /// Whether the renewal before this one was not answered: send this one by every way.
        doubtful: bool,
        /// The home, to be asked for an extension meanwhile; its answer goes to
        /// [`LeaseHolder::extended`].
        ask: Option<Home>,
    },
    /// The session is over: it was declared lost, or another session took the key. Every run must have
    /// ended before a new session begins.
    Over {
        /// What the registry has instead, where that is known.
        by: Option<(Lease, Revision)>,
    },
}

/// A worker's side of its lease, for one session.
///
/// Call [`plan`](LeaseHolder::plan) when [`wakeup`](LeaseHolder::wakeup) is reached or an answer came.
/// The session's guests may run before [`until`](LeaseHolder::until).
#[derive(Clone, Debug)]
pub struct LeaseHolder {
    timing: LeaseTiming,
    /// The value of the next renewal.
    lease: Lease,
    clock: LeaseClock<Option<Home>>,
    next: Time,
    over: Option<Option<(Lease, Revision)>>,
    /// Whether a renewal was sent that the registry has not answered.
    doubt: bool,
    /// The linked masters, and whether each is on this machine.
    masters: BTreeMap<SessionId, (Home, bool)>,
    /// The home that the newest known value names.
    home: Option<Home>,
    /// Whether an extension by the home counts: not from the moment a renewal that names another home
    /// was sent, until a newer value is known.
    home_counts: bool,
    /// The number of the first renewal that gives the lease back, once it was sent.
    releasing: Option<u64>,
    released: bool,
    /// Whether a change of the worker's health or policy made a renewal due since the last regular one.
    hurried: bool,
}

impl LeaseHolder {
    /// A session that does not hold the lease yet. `expect` is the revision that it may replace:
    /// [`ABSENT`], or that of a predecessor's lease that is over.
    pub fn new(timing: LeaseTiming, lease: Lease, expect: Revision) -> Self {
        let lease = Lease { renewal: 0, home: None, ..lease.timed(timing) };
        LeaseHolder {
            timing,
            lease,
            clock: LeaseClock::new(timing.worker(), expect),
            next: Time::ZERO,
            over: None,
            doubt: false,
            masters: BTreeMap::new(),
            home: None,
            home_counts: false,
            releasing: None,
            released: false,
            hurried: false,
        }
    }

    /// The end of the lease on this machine's clock: guests may run only before it.
    pub fn until(&self) -> Time {
        self.clock.until()
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.lease.session
    }

    /// The value of the next renewal, except its number.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The revision of the newest known value; [`ABSENT`] before the first.
    pub fn revision(&self) -> Revision {
        self.clock.known()
    }

    /// The master that may extend this lease now.
    pub fn home(&self) -> Option<&Home> {
        self.home.as_ref().filter(|_| self.home_counts)
    }

    /// Whether any renewal of this session was acknowledged.
    pub fn is_held(&self) -> bool {
        self.clock.is_held()
    }

    /// Whether the lease has been given back, according to its last value in the registry.
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// Whether the lease was held once and has run out: the session's runs are over, so it may not be
    /// renewed any more.
    pub fn has_lapsed(&self, now: Time) -> bool {
        self.clock.is_held() && now >= self.clock.until()
    }

    /// Changes the state in the next renewal, and makes that renewal due.
    pub fn set_state(&mut self, state: LeaseState) {
        if self.lease.state != state {
            self.lease.state = state;
            self.next = Time::ZERO;
        }
    }

    /// Changes what the host lacks in every renewal from now on. A change makes a renewal due, at most
    /// once per interval: a shortage that comes and goes at most doubles the renewals.
    pub fn set_unwell(&mut self, unwell: Option<Unwell>) {
        if self.lease.unwell != unwell {
            self.lease.unwell = unwell;
            self.hurry_once();
        }
    }

    /// Changes the policy in every renewal from now on. A change makes a renewal due, as a shortage does.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        if self.lease.offer.policy != policy {
            self.lease.offer.policy = policy;
            self.hurry_once();
        }
    }

    /// Changes what the worker says of its program in every renewal from now on. A change makes a renewal due, as a
    /// shortage does; more runs that have ended do not.
    pub fn set_program(&mut self, program: ProgramReport) {
        let told = |report: &ProgramReport| (report.digest, report.number, report.failed.clone());
        if self.lease.program.as_ref().map(told) != Some(told(&program)) {
            self.hurry_once();
        }
        self.lease.program = Some(program);
    }

    /// Makes a renewal due, at most once per interval.
    fn hurry_once(&mut self) {
        if !core::mem::replace(&mut self.hurried, true) {
            self.next = Time::ZERO;
        }
    }

    /// Changes in every renewal from now on up to where attempts were dispatched.
    pub fn set_holds(&mut self, mark: Mark) {
        self.lease.holds = mark;
    }

    /// A master is linked; `near` if it is on this machine, and so would be lost with it.
    pub fn linked(&mut self, master: Home, near: bool) {
        self.masters.insert(master.session, (master, near));
    }

    /// A link to a master is down.
    pub fn unlinked(&mut self, session: SessionId) {
        self.masters.remove(&session);
    }

    /// Makes a renewal due at once because a way to the registry has opened; only if no renewal was
    /// acknowledged yet or the last one was not answered.
    pub fn hurry(&mut self) {
        if !self.is_held() || self.doubt {
            self.next = Time::ZERO;
        }
    }

    /// When [`plan`](LeaseHolder::plan) has to be called again.
    pub fn wakeup(&self) -> Time {
        self.next
    }

    /// What to do now. `wall` goes into the value, for people.
    pub fn plan(&mut self, now: Time, wall: WallMillis) -> Option<LeaseStep> {
        if let Some(by) = self.over.clone() {
            return Some(LeaseStep::Over { by });
        }
        if self.has_lapsed(now) {
            return Some(LeaseStep::Over { by: None });
        }
        if now < self.next {
            return None;
        }
        // A regular renewal.
        self.hurried &= self.next == Time::ZERO;
        self.next = now + self.timing.renew_every();
        self.lease.renewal += 1;
        self.lease.renewed_at = wall;
        if self.lease.state == LeaseState::Released {
            self.releasing.get_or_insert(self.lease.renewal);
        }
        let doubtful = self.doubt;
        self.choose_home();
        // From the moment a switch is sent, extensions by the old home do not count: the switch may
        // have landed, and the new home may already count its own wait.
        self.home_counts &= self.home == self.lease.home;
        self.clock.sends(self.lease.renewal, now, self.lease.home.clone());
        self.doubt = true;
        let (expect, lease) = (self.clock.known(), self.lease.clone());
        let ask = self.home().filter(|_| doubtful).cloned();
        Some(LeaseStep::Write { expect, lease, doubtful, ask })
    }

    /// Names a linked master as home, if possible on another machine. Only while the registry answers:
    /// a switch that does not land would cost the old home's extensions for nothing.
    fn choose_home(&mut self) {
        if self.doubt {
            return;
        }
        let worker =
            self.lease.worker.as_str().bytes().fold(0u64, |sum, byte| mix(sum ^ u64::from(byte)));
        let best =
            self.masters.values().min_by_key(|(home, near)| (*near, mix(worker ^ home.session.0)));
        let present = self.lease.home.as_ref().and_then(|home| self.masters.get(&home.session));
        let stays = match (present, best) {
            (Some((_, near)), Some((_, best_near))) => near == best_near,
            _ => false,
        };
        if !stays {
            self.lease.home = best.map(|(home, _)| home.clone());
        }
    }

    /// The registry's answer to the write with this `renewal` number.
    ///
    /// After the lease has lapsed no answer revives it: its runs may have a successor.
    pub fn answered(&mut self, now: Time, renewal: u64, answer: CasAnswer<Lease>) {
        if self.has_lapsed(now) {
            return self.lapses();
        }
        self.doubt &= answer == CasAnswer::Unknown;
        match answer {
            CasAnswer::Unknown => {}
            CasAnswer::Written(revision) => {
                self.released |= self.releasing.is_some_and(|first| renewal >= first);
                // The home of this value is known while the renewal is remembered, and unknown
                // afterwards.
                let home = self.clock.remembered(renewal).cloned();
                self.count(renewal, revision, home);
            }
            // The next session begins from nothing.
            CasAnswer::Conflict(None) if self.clock.is_refuted_by_nothing(renewal) => {
                self.gone(ABSENT);
            }
            CasAnswer::Gone(revision) if self.clock.is_refuted_by(revision) => self.gone(revision),
            CasAnswer::Conflict(None) | CasAnswer::Gone(_) => {}
            CasAnswer::Conflict(Some((lease, revision))) => self.conflicted(lease, revision),
        }
    }

    /// The home's answer to a request that was sent with this renewal: the home has extended the lease,
    /// and waits from its answer on.
    pub fn extended(&mut self, now: Time, home: SessionId, renewal: u64) {
        if self.has_lapsed(now) {
            return self.lapses();
        }
        if self.over.is_none() && self.home().is_some_and(|known| known.session == home) {
            self.clock.extended(renewal);
        }
    }

    fn lapses(&mut self) {
        self.over.get_or_insert(None);
    }

    fn conflicted(&mut self, found: Lease, revision: Revision) {
        let own = found.session == self.lease.session;
        if own && found.state == LeaseState::Released {
            self.released = true;
        } else if own && found.state.is_held() {
            // An earlier write of this session landed although its answer was lost. Only a newer
            // revision makes the next renewal due: every master that was asked answers the same, and a
            // renewal for each answer would cause as many again.
            let renewal = found.renewal;
            if self.count(renewal, revision, Some(found.home)) && renewal < self.lease.renewal {
                self.next = Time::ZERO;
            }
        } else if self.clock.is_refuted_by(revision) {
            self.over = Some(Some((found, revision)));
        }
    }

    fn gone(&mut self, revision: Revision) {
        self.clock.gone(revision);
        self.over = Some(None);
    }

    /// Returns whether the revision was newer.
    fn count(&mut self, renewal: u64, revision: Revision, home: Option<Option<Home>>) -> bool {
        let news = self.clock.acknowledged(renewal, revision);
        if news {
            self.home_counts = home.is_some();
            self.home = home.flatten();
        }
        news
    }
}
