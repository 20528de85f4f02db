//! A worker's side of its lease: when it renews, how long it may run, and which master is its home.
//! Never counts the word of a master that may not be its home any more.

use super::{CasAnswer, Home, Lease, LeaseClock, LeaseState, LeaseTiming, Unwell};
use crate::{ABSENT, Revision, SessionId, Time, registry::Mark, task::mix, time::WallMillis};
use alloc::collections::BTreeMap;

/// What the holder should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write `lease` if the key's revision is still `expect`, and bring the answer to
    /// [`LeaseHolder::answered`] with the same `renewal` number.
    Write {
        /// The revision the key must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
        /// Whether the renewal before this one was not answered: try every way there is.
        doubtful: bool,
        /// The master that may extend the lease meanwhile: ask it too, and bring its answer to
        /// [`LeaseHolder::extended`].
        ask: Option<Home>,
    },
    /// The session is over: it was declared lost, or someone else took the key. Every run must
    /// have ended before a new session begins.
    Over {
        /// What the registry holds instead, where that is known.
        by: Option<(Lease, Revision)>,
    },
}

/// A worker's side of its lease: one session of it.
///
/// Call [`plan`](LeaseHolder::plan) whenever [`wakeup`](LeaseHolder::wakeup) is reached or an answer came;
/// until [`until`](LeaseHolder::until) the session's guests may run.
#[derive(Clone, Debug)]
pub struct LeaseHolder {
    timing: LeaseTiming,
    /// What the next renewal will say.
    lease: Lease,
    clock: LeaseClock<Option<Home>>,
    next: Time,
    over: Option<Option<(Lease, Revision)>>,
    /// Whether a renewal was sent that the registry has not answered.
    doubt: bool,
    /// The masters that are linked, and whether each is on this machine.
    masters: BTreeMap<SessionId, (Home, bool)>,
    /// The home that the newest known value names.
    home: Option<Home>,
    /// Whether the home's word counts: not from the moment another one was named in a renewal that
    /// may have landed, until a newer value is known.
    home_counts: bool,
    /// The first renewal that gives the lease back, once it was sent.
    releasing: Option<u64>,
    released: bool,
    /// Whether a renewal was made due because of what the host lacks, since the last that was due anyway.
    hurried: bool,
}

impl LeaseHolder {
    /// A session that does not hold anything yet. `expect` is the revision that it may overwrite:
    /// [`ABSENT`], or that of a predecessor's lease that is over.
    pub fn new(timing: LeaseTiming, mut lease: Lease, expect: Revision) -> Self {
        lease.renewal = 0;
        lease.home = None;
        lease.master_wait_ms = timing.master().as_millis() as u64;
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

    /// Which session this is.
    pub fn session(&self) -> SessionId {
        self.lease.session
    }

    /// What the next renewal will say, but for its number.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The revision of the newest lease value known, [`ABSENT`] before the first.
    pub fn revision(&self) -> Revision {
        self.clock.known()
    }

    /// The master whose word extends this lease now.
    pub fn home(&self) -> Option<&Home> {
        self.home.as_ref().filter(|_| self.home_counts)
    }

    /// Whether any renewal of this session was acknowledged.
    pub fn is_held(&self) -> bool {
        self.clock.is_held()
    }

    /// Whether the lease has been given back: its last value in the registry says so.
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// Whether the lease was held once and has run out: the session's runs are dead, so it may
    /// not be renewed any more.
    pub fn has_lapsed(&self, now: Time) -> bool {
        self.clock.is_held() && now >= self.clock.until()
    }

    /// Changes what the next renewal says of the holder, and makes it due.
    pub fn set_state(&mut self, state: LeaseState) {
        if self.lease.state != state {
            self.lease.state = state;
            self.next = Time::ZERO;
        }
    }

    /// From now on every renewal says that the host lacks this. A change makes one due, once in each
    /// interval: a want that comes and goes at most doubles the renewals.
    pub fn set_unwell(&mut self, unwell: Option<Unwell>) {
        if self.lease.unwell != unwell {
            self.lease.unwell = unwell;
            if !core::mem::replace(&mut self.hurried, true) {
                self.next = Time::ZERO;
            }
        }
    }

    /// From now on every renewal says that attempts are held up to here.
    pub fn set_holds(&mut self, mark: Mark) {
        self.lease.holds = mark;
    }

    /// A master is linked; `near` if it is on this machine, and so would be lost with it.
    pub fn linked(&mut self, master: Home, near: bool) {
        self.masters.insert(master.session, (master, near));
    }

    /// A link is gone.
    pub fn unlinked(&mut self, session: SessionId) {
        self.masters.remove(&session);
    }

    /// Makes a renewal due at once because a way to the registry has opened, where none is acknowledged
    /// or the last one was not answered.
    pub fn hurry(&mut self) {
        if !self.is_held() || self.doubt {
            self.next = Time::ZERO;
        }
    }

    /// When [`plan`](LeaseHolder::plan) wants to be called again.
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
        // It was due anyway.
        self.hurried &= self.next == Time::ZERO;
        self.next = now + self.timing.renew_every();
        self.lease.renewal += 1;
        self.lease.renewed_at = wall;
        if self.lease.state == LeaseState::Released {
            self.releasing.get_or_insert(self.lease.renewal);
        }
        let doubtful = self.doubt;
        self.choose_home();
        // From the moment a switch is sent the old home's word does not count: the switch may have
        // landed, and the new home may already be counting.
        self.home_counts &= self.home == self.lease.home;
        self.clock.sends(self.lease.renewal, now, self.lease.home.clone());
        self.doubt = true;
        let (expect, lease) = (self.clock.known(), self.lease.clone());
        let ask = self.home().filter(|_| doubtful).cloned();
        Some(LeaseStep::Write { expect, lease, doubtful, ask })
    }

    /// Names a home that is linked, if possible on another machine. Only while the registry
    /// answers: a switch that does not land costs the old home's word for nothing.
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
    /// Once the lease has lapsed no answer revives it: what ran may have a successor.
    pub fn answered(&mut self, now: Time, renewal: u64, answer: CasAnswer<Lease>) {
        if self.has_lapsed(now) {
            return self.lapses();
        }
        self.doubt &= answer == CasAnswer::Unknown;
        match answer {
            CasAnswer::Unknown => {}
            CasAnswer::Written(revision) => {
                self.released |= self.releasing.is_some_and(|first| renewal >= first);
                // What it said is known as long as it is remembered; after that its home is not.
                let home = self.clock.remembered(renewal).cloned();
                self.count(renewal, revision, home);
            }
            CasAnswer::Conflict(None) if self.clock.known() == ABSENT => {}
            // The next session begins from nothing.
            CasAnswer::Conflict(None) => self.gone(ABSENT),
            CasAnswer::Gone(revision) => self.gone(revision),
            CasAnswer::Conflict(Some((lease, revision))) => self.conflicted(lease, revision),
        }
    }

    /// The home's answer to what was asked of it with this renewal: it extends the lease, and
    /// counts from its answer.
    pub fn extended(&mut self, now: Time, home: SessionId, renewal: u64) {
        if self.has_lapsed(now) {
            return self.lapses();
        }
        if self.over.is_none() && self.home().is_some_and(|known| known.session == home) {
            self.clock.extend(renewal);
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
            // An earlier write of this session landed although its answer was lost.
            // Only news makes the next one due: every master that was asked says the same, and a
            // renewal for each of these answers would bring as many again.
            let renewal = found.renewal;
            if self.count(renewal, revision, Some(found.home)) && renewal < self.lease.renewal {
                self.next = Time::ZERO;
            }
        } else if revision > self.clock.known() || !self.is_held() {
            self.over = Some(Some((found, revision)));
        }
        // Else what was read is older than what is known: the reader was behind.
    }

    fn gone(&mut self, revision: Revision) {
        self.clock.gone(revision);
        self.over = Some(None);
    }

    /// Whether that was news.
    fn count(&mut self, renewal: u64, revision: Revision, home: Option<Option<Home>>) -> bool {
        let news = self.clock.count(renewal, revision);
        if news {
            self.home_counts = home.is_some();
            self.home = home.flatten();
        }
        news
    }
}
