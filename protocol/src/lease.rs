//! The lease: a worker's right to run. Its timings, its value in the registry, and the rules by
//! which a worker holds it. Never a wall clock, and never the master's side (that is `fleet`).
//!
//! The argument that nothing runs twice at once rests on two lines of this file: a renewal is
//! stamped before it is sent, and an old answer changes nothing. See ARCHITECTURE.md.

use crate::{ABSENT, GroupName, Nonce, Revision, SessionId, Time, WorkerId, time::WallMillis};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// How far the rate of a machine's clock may be from real time, in parts per million. NTP slews
/// by up to 500; the rest is margin.
pub const CLOCK_RATE_PPM: u64 = 1_000;

/// The durations of a lease, checked to be safe together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    worker: Duration,
    kill_margin: Duration,
    renew_every: Duration,
    master: Duration,
}

/// Why timings were refused: under them two attempts of a task could run at once, or none could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The master would not wait long enough.
    #[error(
        "a master must wait at least {least:?} before it declares a worker lost, not {given:?}: \
         a worker may run for the lease plus the kill margin, on a clock that is slower by 0.1 %"
    )]
    MasterTooEarly {
        /// The wait asked for.
        given: Duration,
        /// The least that is safe.
        least: Duration,
    },
    /// The lease would run out between two renewals.
    #[error("a lease of {lease:?} needs renewals at most every {most:?}, not every {given:?}")]
    RenewsTooRarely {
        /// The lease.
        lease: Duration,
        /// The interval asked for.
        given: Duration,
        /// The longest that leaves room for two lost renewals.
        most: Duration,
    },
    /// A duration is zero.
    #[error("every lease timing must be longer than zero")]
    Zero,
}

impl LeaseTiming {
    /// Lease of the worker, margin until the kernel kills it, renewal interval, wait of the master.
    ///
    /// Refuses any master's wait shorter than `(worker + kill_margin) · (1 + ρ) / (1 − ρ)`, ρ being
    /// [`CLOCK_RATE_PPM`]. Rounds against itself.
    pub const fn new(
        worker: Duration,
        kill_margin: Duration,
        renew_every: Duration,
        master: Duration,
    ) -> Result<Self, TimingError> {
        if worker.is_zero() || kill_margin.is_zero() || renew_every.is_zero() || master.is_zero() {
            return Err(TimingError::Zero);
        }
        let most = Duration::from_nanos(worker.as_nanos() as u64 / 3);
        if renew_every.as_nanos() > most.as_nanos() {
            return Err(TimingError::RenewsTooRarely { lease: worker, given: renew_every, most });
        }
        let runs = worker.as_nanos() + kill_margin.as_nanos();
        let scaled = runs * (1_000_000 + CLOCK_RATE_PPM as u128);
        let least = scaled.div_ceil(1_000_000 - CLOCK_RATE_PPM as u128);
        if master.as_nanos() < least {
            let least = Duration::from_nanos(least as u64);
            return Err(TimingError::MasterTooEarly { given: master, least });
        }
        Ok(LeaseTiming { worker, kill_margin, renew_every, master })
    }

    const fn profile(worker: u64, kill_margin: u64, renew_every: u64, master: u64) -> Self {
        let timing = LeaseTiming::new(
            Duration::from_millis(worker),
            Duration::from_millis(kill_margin),
            Duration::from_millis(renew_every),
            Duration::from_millis(master),
        );
        match timing {
            Ok(timing) => timing,
            Err(_) => panic!("a profile of Muster's own is safe"),
        }
    }

    /// The default: survives three lost renewals, replaces a lost worker in about 5 s.
    pub const STANDARD: LeaseTiming = LeaseTiming::profile(4_000, 250, 1_000, 4_500);
    /// For good networks: replaces a lost worker in under 1 s.
    pub const FAST: LeaseTiming = LeaseTiming::profile(600, 100, 150, 750);
    /// For bad networks: rides through 10 s without contact.
    pub const ROAMING: LeaseTiming = LeaseTiming::profile(15_000, 500, 3_000, 16_000);

    /// The profile of this name.
    pub fn named(name: &str) -> Option<LeaseTiming> {
        match name {
            "standard" => Some(LeaseTiming::STANDARD),
            "fast" => Some(LeaseTiming::FAST),
            "roaming" => Some(LeaseTiming::ROAMING),
            _ => None,
        }
    }

    /// How long a worker may run after the stamp of its latest acknowledged renewal.
    pub const fn worker(&self) -> Duration {
        self.worker
    }
    /// How long after the lease's end the kernel kills what is left of the worker.
    pub const fn kill_margin(&self) -> Duration {
        self.kill_margin
    }
    /// How often a worker renews.
    pub const fn renew_every(&self) -> Duration {
        self.renew_every
    }
    /// How long a master waits after the latest renewal it saw.
    pub const fn master(&self) -> Duration {
        self.master
    }
}

/// What a lease says of its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may be given attempts.
    Live,
    /// It keeps its attempts and takes no new ones.
    Draining,
    /// It gave the lease back after its last run had ended.
    Released,
    /// A master declared it lost. Nothing it ran may be committed any more.
    Lost,
}

/// The value under a worker's id in the workers bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its key.
    pub worker: WorkerId,
    /// The life of the worker that this lease is of.
    pub session: SessionId,
    /// Counts the renewals of a session, so that it knows its own write again.
    pub renewal: u64,
    /// Whether the holder may run.
    pub standing: Standing,
    /// The state directory of the holder; whoever holds its lock knows earlier lives to be over.
    pub home_dir: Nonce,
    /// The life before this one, proven over: its attempts are lost at once.
    pub succeeds: Option<SessionId>,
    /// The length of the lease in milliseconds: how long its master has to wait at least.
    pub master_wait_ms: u64,
    /// Where it belongs and what it offers.
    pub offer: Offer,
    /// For people: when this was written, on the worker's wall clock.
    pub renewed_at: WallMillis,
}

/// What a worker offers to tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its group.
    pub group: GroupName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Attempts it runs at once.
    pub slots: u32,
    /// The most linear memory that one of its runs may have, in bytes.
    pub memory_bytes: u64,
    /// The version of its program.
    pub version: String,
}

/// A registry's answer to a compare-and-set: three outcomes, never two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CasAnswer<T> {
    /// It was written, under this revision.
    Written(Revision),
    /// It was not: the key has this value, or none.
    Conflict(Option<(T, Revision)>),
    /// Nobody knows: it may have been written, and may still be.
    Unknown,
}

/// What the holder should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write `lease` if the key's revision is still `expect`, and bring the answer to
    /// [`Holder::answered`] with the same `renewal` number.
    Write {
        /// The revision the key must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
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
/// Call [`plan`](Holder::plan) whenever [`wakeup`](Holder::wakeup) is reached or an answer came;
/// until [`until`](Holder::until) the session's guests may run.
#[derive(Clone, Debug)]
pub struct Holder {
    timing: LeaseTiming,
    lease: Lease,
    known: Revision,
    held: bool,
    until: Time,
    /// Renewals sent and not answered, by number: the clock **before** each was sent.
    sent: Vec<(u64, Time)>,
    next: Time,
    over: Option<Option<(Lease, Revision)>>,
    /// The first renewal that gives the lease back, once it was sent.
    releasing: Option<u64>,
    released: bool,
}

/// Unanswered renewals remembered. A later answer to an older one is of no use.
const SENT_MAX: usize = 8;

impl Holder {
    /// A session that does not hold anything yet. `expect` is the revision that it may overwrite:
    /// [`ABSENT`], or that of a predecessor's lease that is over.
    pub fn new(timing: LeaseTiming, mut lease: Lease, expect: Revision) -> Self {
        lease.renewal = 0;
        lease.standing = Standing::Live;
        lease.master_wait_ms = timing.master().as_millis() as u64;
        Holder {
            timing,
            lease,
            known: expect,
            held: false,
            until: Time::ZERO,
            sent: Vec::new(),
            next: Time::ZERO,
            over: None,
            releasing: None,
            released: false,
        }
    }

    /// The end of the lease on this machine's clock: guests may run only before it.
    pub fn until(&self) -> Time {
        self.until
    }

    /// Which session this is.
    pub fn session(&self) -> SessionId {
        self.lease.session
    }

    /// The revision of the newest lease value known, [`ABSENT`] before the first.
    pub fn revision(&self) -> Revision {
        self.known
    }

    /// Whether any renewal of this session was acknowledged.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the lease has been given back: its last value in the registry says so.
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// Whether the lease was held once and has run out: the session's runs are dead, so it may
    /// not be renewed any more.
    pub fn has_lapsed(&self, now: Time) -> bool {
        self.held && now >= self.until
    }

    /// Changes what the next renewal says of the holder, and makes it due.
    pub fn stand(&mut self, standing: Standing) {
        if self.lease.standing != standing {
            self.lease.standing = standing;
            self.next = Time::ZERO;
        }
    }

    /// Makes the first renewal due again, because a way to the registry has opened.
    pub fn hurry(&mut self) {
        if !self.held {
            self.next = Time::ZERO;
        }
    }

    /// When [`plan`](Holder::plan) wants to be called again.
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
        self.next = now + self.timing.renew_every();
        self.lease.renewal += 1;
        self.lease.renewed_at = wall;
        if self.lease.standing == Standing::Released {
            self.releasing.get_or_insert(self.lease.renewal);
        }
        if self.sent.len() == SENT_MAX {
            self.sent.remove(0);
        }
        // The stamp is taken before the renewal is sent: the lease may not outlive what the
        // registry could have accepted.
        self.sent.push((self.lease.renewal, now));
        Some(LeaseStep::Write { expect: self.known, lease: self.lease.clone() })
    }

    /// The registry's answer to the write with this `renewal` number.
    pub fn answered(&mut self, renewal: u64, answer: CasAnswer<Lease>) {
        match answer {
            CasAnswer::Unknown => {}
            CasAnswer::Written(revision) => {
                self.released |= self.releasing.is_some_and(|first| renewal >= first);
                self.count(renewal, revision);
            }
            CasAnswer::Conflict(found) => match found {
                Some((lease, _))
                    if lease.session == self.lease.session
                        && lease.standing == Standing::Released =>
                {
                    self.released = true;
                }
                // An earlier write of this session landed although its answer was lost.
                Some((lease, revision))
                    if lease.session == self.lease.session
                        && matches!(lease.standing, Standing::Live | Standing::Draining) =>
                {
                    self.count(lease.renewal, revision);
                    if lease.renewal < self.lease.renewal {
                        self.next = Time::ZERO;
                    }
                }
                Some((lease, revision)) if revision > self.known || !self.held => {
                    self.over = Some(Some((lease, revision)));
                }
                // What was read is older than what is known: the reader was behind.
                Some(_) => {}
                None if self.known == ABSENT => {}
                // The key is gone: the next session begins from nothing.
                None => {
                    self.known = ABSENT;
                    self.over = Some(None);
                }
            },
        }
    }

    fn count(&mut self, renewal: u64, revision: Revision) {
        // An answer about an older revision than the newest known changes nothing.
        if revision <= self.known {
            return;
        }
        self.known = revision;
        if let Some(at) = self.sent.iter().position(|&(number, _)| number == renewal) {
            let (_, stamp) = self.sent[at];
            self.sent.drain(..=at);
            self.held = true;
            self.until = self.until.max(stamp + self.timing.worker());
        }
    }
}

#[cfg(test)]
mod tests;
