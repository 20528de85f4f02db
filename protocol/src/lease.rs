//! The lease: a worker's right to run guests, and a master's right to extend workers' leases. Timings,
//! values in the registry, and the rules of the side that holds a lease. Never uses a wall clock, and
//! never decides who is lost (`fleet` does).
//!
//! The argument that nothing runs twice at once rests on `LeaseClock::sends`, which stamps a renewal before it is
//! sent, and on `LeaseClock::acknowledged`, which ignores old answers. See docs/SAFETY.md.

mod deadman;
mod gate;
mod holder;
mod lease_clock;
mod lease_loop;
mod unwell;

pub use deadman::{Deadman, HoldError, KillTimer};
pub use gate::{Gate, KillReason, LeaseEnd, Permit};
pub use holder::{LeaseHolder, LeaseStep};
pub(crate) use lease_clock::LeaseClock;
pub use lease_loop::{LeaseEffect, LeaseEvent, LeaseLoop};
pub use unwell::Unwell;

use crate::{
    GroupName, MasterId, Nonce, Revision, SessionId, WorkerId,
    grant::Policy,
    limit,
    record::{Unknown, record},
    registry::{Mark, ServerId},
    time::WallMillis,
    upgrade::ProgramReport,
    words::words,
};
use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::{str::FromStr, time::Duration};
use serde::{Deserialize, Serialize};

/// How far the rate of a machine's clock may be from real time, in parts per million. NTP slews
/// by up to 500; the rest is margin.
pub const CLOCK_RATE_PPM: u64 = 1_000;

/// How long a master may keep workers alive while the registry is away, unless configured otherwise. A
/// restart of nats-server takes seconds, a restart of its machine under a minute.
pub const OUTAGE_TOLERANCE: Duration = Duration::from_secs(60);

/// How often a master renews its own lease. After four missed renewals the others consider the master
/// silent, so that its tasks wait for at most 2 s.
pub const MASTER_RENEWS_EVERY: Duration = Duration::from_millis(500);

/// The durations of a lease, checked to be safe together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    worker: Duration,
    kill_margin: Duration,
    renew_every: Duration,
    master: Duration,
    outage: Duration,
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
        /// The longest interval that leaves time for two renewals before the lease ends.
        most: Duration,
    },
    /// A duration is zero.
    #[error("every lease timing must be longer than zero")]
    Zero,
}

impl LeaseTiming {
    /// Lease of the worker, margin until the kernel kills it, renewal interval, wait of the master.
    ///
    /// Refuses any master's wait shorter than `(worker + kill_margin) · (1 + ρ) / (1 − ρ)`, where ρ is
    /// [`CLOCK_RATE_PPM`]. The bound is rounded up.
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
        let runs = Duration::from_nanos((worker.as_nanos() + kill_margin.as_nanos()) as u64);
        let least = outlasts(runs);
        if master.as_nanos() < least.as_nanos() {
            return Err(TimingError::MasterTooEarly { given: master, least });
        }
        Ok(LeaseTiming { worker, kill_margin, renew_every, master, outage: OUTAGE_TOLERANCE })
    }

    /// The same with another [`OUTAGE_TOLERANCE`]. Refuses one of fewer than three renewal intervals of
    /// a master.
    pub fn with_outage(self, outage: Duration) -> Result<Self, TimingError> {
        let least = MASTER_RENEWS_EVERY * 3;
        if outage < least {
            let (lease, given, most) = (outage, MASTER_RENEWS_EVERY, outage / 3);
            return Err(TimingError::RenewsTooRarely { lease, given, most });
        }
        Ok(LeaseTiming { outage, ..self })
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

    /// The default: survives two lost renewals in a row, and replaces a lost worker in about 5 s.
    pub const STANDARD: LeaseTiming = LeaseTiming::profile(4_000, 250, 1_000, 4_500);
    /// For good networks: replaces a lost worker in under 1 s.
    pub const FAST: LeaseTiming = LeaseTiming::profile(600, 100, 150, 750);
    /// For bad networks: survives 10 s without contact.
    pub const ROAMING: LeaseTiming = LeaseTiming::profile(15_000, 500, 3_000, 16_000);

    /// How long a worker may run guests after the stamp of its latest acknowledged renewal.
    pub const fn worker(&self) -> Duration {
        self.worker
    }
    /// How long after the lease's end the kernel kills the worker, if guests are left.
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
    /// How long a master may extend leases after the stamp of its own latest acknowledged renewal.
    pub const fn outage(&self) -> Duration {
        self.outage
    }
    /// How long other masters wait after the latest renewal of a master's lease that they saw.
    pub const fn outage_wait(&self) -> Duration {
        outlasts(self.outage)
    }
}

/// No profile has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one of standard, fast, roaming")]
pub struct UnknownProfile;

impl FromStr for LeaseTiming {
    type Err = UnknownProfile;

    /// The profile of this name.
    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "standard" => Ok(LeaseTiming::STANDARD),
            "fast" => Ok(LeaseTiming::FAST),
            "roaming" => Ok(LeaseTiming::ROAMING),
            _ => Err(UnknownProfile),
        }
    }
}

/// The wait on one clock that is certainly longer than `span` on another.
const fn outlasts(span: Duration) -> Duration {
    let scaled = span.as_nanos() * (1_000_000 + CLOCK_RATE_PPM as u128);
    Duration::from_nanos(scaled.div_ceil(1_000_000 - CLOCK_RATE_PPM as u128) as u64)
}

words!(
    /// The state of a lease, as its value in the registry says it.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum LeaseState {
        /// The worker may be given attempts.
        Live = "live",
        /// The worker keeps its attempts and takes no new ones, until an operator says otherwise.
        Cordoned = "cordoned",
        /// As `Cordoned`. In addition, runs that are not over at the drain's deadline are stopped, and
        /// their tasks are queued again.
        Draining = "draining",
        /// The worker gave the lease back after its last run had ended.
        Released = "released",
        /// A master declared the worker lost. No outcome of the session may be committed any more.
        Lost = "lost",
    }
);

impl LeaseState {
    /// Whether the worker may run its attempts.
    pub fn is_held(self) -> bool {
        matches!(self, LeaseState::Live | LeaseState::Cordoned | LeaseState::Draining)
    }

    /// Whether a master has declared the worker lost.
    pub fn is_lost(self) -> bool {
        self == LeaseState::Lost
    }

    /// How long the registry keeps a lease of this state; for ever if absent.
    pub fn keep(self) -> Option<Duration> {
        (!self.is_held()).then_some(limit::LEASE_KEEP)
    }
}

/// The word that people read instead of that of [`LeaseState::Live`] if a worker's host lacks
/// something.
pub const UNWELL: &str = "unwell";

/// The master that may declare a worker lost, and extend its lease while the registry is away: one
/// session of the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The master's name.
    pub master: MasterId,
    /// The session of the master that is the home.
    pub session: SessionId,
}

/// The value under a worker's id in the workers' bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The worker's name, which is the key.
    pub worker: WorkerId,
    /// The session of the worker that holds the lease.
    pub session: SessionId,
    /// The number of the renewal within the session, by which the worker recognises its own write.
    pub renewal: u64,
    /// The state of the lease.
    #[serde(rename = "standing")]
    pub state: LeaseState,
    /// The nonce of the worker's state directory; a process that holds its lock knows earlier sessions
    /// to be over.
    pub home_dir: Nonce,
    /// Earlier sessions that are proven over, the latest last: their attempts are lost at once. At most
    /// [`SUCCEEDS_MAX`].
    #[serde(default)]
    pub succeeds: Vec<SessionId>,
    /// Whether the previous session ended because its lease lapsed while runs were under way.
    #[serde(default)]
    pub fenced: bool,
    /// The latest revision of the tasks' stream under which this session was given an attempt, as of
    /// this renewal. A registry whose tasks end before it has lost writes.
    #[serde(default)]
    pub holds: Mark,
    /// The master that may declare the worker lost; any master if absent.
    #[serde(default)]
    pub home: Option<Home>,
    /// How long a master has to wait at least before it declares the worker lost, in milliseconds.
    pub master_wait_ms: u64,
    /// The worker's group, and what the worker offers to tasks.
    pub offer: Offer,
    /// When this was written, on the worker's wall clock. For people.
    pub renewed_at: WallMillis,
    /// What the worker's host lacks; absent if it lacks nothing. Not part of the offer: masters sort
    /// workers into kinds by the offer, which seldom changes within a session; a shortage comes and goes.
    #[serde(default)]
    pub unwell: Option<Unwell>,
    /// What the worker says of its program, if it takes upgrades.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramReport>,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(Lease {
    const SIZE_MAX: usize = limit::LEASE_SIZE_MAX;
    const UNREADABLE_IS_GONE: bool = true;
});

/// How many earlier sessions a lease names. A master that missed more of them waits instead.
pub const SUCCEEDS_MAX: usize = 16;

impl Lease {
    /// A lease with defaults for everything but its worker and session.
    pub fn new(worker: WorkerId, session: SessionId) -> Self {
        Lease {
            worker,
            session,
            renewal: 0,
            state: LeaseState::Live,
            home_dir: Nonce(0),
            succeeds: Vec::new(),
            fenced: false,
            holds: Mark::default(),
            home: None,
            master_wait_ms: 0,
            offer: Offer::default(),
            renewed_at: WallMillis(0),
            unwell: None,
            program: None,
            unknown: Unknown::default(),
        }
    }

    /// The lease of a worker with this timing: masters wait accordingly.
    pub fn timed(self, timing: LeaseTiming) -> Self {
        Lease { master_wait_ms: timing.master().as_millis() as u64, ..self }
    }

    /// How long a master has to wait at least before it declares the worker lost, at most
    /// [`MASTER_WAIT_MAX`](limit::MASTER_WAIT_MAX).
    pub fn master_wait(&self) -> Duration {
        Duration::from_millis(self.master_wait_ms).min(limit::MASTER_WAIT_MAX)
    }

    /// Makes this lease succeed a lease whose session is proven over.
    pub fn succeed(&mut self, old: &Lease) {
        self.succeeds = old.succeeds.clone();
        self.succeeds.push(old.session);
        let surplus = self.succeeds.len().saturating_sub(SUCCEEDS_MAX);
        self.succeeds.drain(..surplus);
    }
}

/// The value under a master's name and session in the masters' bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterLease {
    /// The master's name.
    pub master: MasterId,
    /// The session of the master. Each session has a key of its own.
    pub session: SessionId,
    /// The number of the renewal within the session.
    pub renewal: u64,
    /// `live`, `released` or `lost`.
    #[serde(rename = "standing")]
    pub state: LeaseState,
    /// How long others have to wait before they declare it lost, in milliseconds.
    pub wait_ms: u64,
    /// How many workers are linked to it.
    pub workers: u32,
    /// Earlier sessions of the same process: what they knew is still known. At most
    /// [`REMEMBERS_MAX`](crate::sessions::REMEMBERS_MAX).
    #[serde(default)]
    pub remembers: Vec<SessionId>,
    /// The process of the registry's server in which this session completed its roll call; absent if it
    /// has not, or if the registry is several servers.
    #[serde(default)]
    pub vouches: Option<ServerId>,
    /// The process of the registry's server to which this session is connected. Other masters choose another
    /// one, so that one server's failure concerns one master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_to: Option<ServerId>,
    /// Where workers reach it, as `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it issues certificates.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub issues: bool,
    /// When this was written, on the master's wall clock. For people.
    pub renewed_at: WallMillis,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(MasterLease {
    const SIZE_MAX: usize = limit::LEASE_SIZE_MAX;
    const UNREADABLE_IS_GONE: bool = true;
});

impl MasterLease {
    /// The key in the bucket.
    pub fn key(&self) -> String {
        alloc::format!("{}.{}", self.master, self.session)
    }
}

/// What a worker offers to tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offer {
    /// The worker's group.
    pub group: GroupName,
    /// The worker's labels.
    pub labels: BTreeMap<String, String>,
    /// How many attempts the worker runs at once.
    pub slots: u32,
    /// The most linear memory that one of its runs may have, in bytes.
    pub memory_bytes: u64,
    /// The most linear memory that all of its runs may have together, in bytes; not known if absent. A
    /// worker that says so also keeps attempts alone that have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total: Option<u64>,
    /// The version of the worker's program.
    pub version: String,
    /// What the worker grants to tasks.
    #[serde(default)]
    pub policy: Arc<Policy>,
}

impl Offer {
    /// The most linear memory that a run may have if nothing else runs, in bytes.
    pub fn run_memory_max(&self) -> u64 {
        self.memory_total.map_or(self.memory_bytes, |total| total.min(self.memory_bytes))
    }
}

/// A registry's answer to a compare-and-set: written, not written, or unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CasAnswer<T> {
    /// It was written, under this revision.
    Written(Revision),
    /// It was not written: the key has this value, or none.
    Conflict(Option<(T, Revision)>),
    /// It was not written: the key was deleted, with a delete marker of this revision, or it has a value
    /// of this revision that counts as deleted.
    Gone(Revision),
    /// It is not known whether it was written; it may still be.
    Unknown,
}

impl<T> CasAnswer<T> {
    /// The same without owning the value.
    pub fn as_ref(&self) -> CasAnswer<&T> {
        match self {
            CasAnswer::Written(revision) => CasAnswer::Written(*revision),
            CasAnswer::Conflict(found) => {
                CasAnswer::Conflict(found.as_ref().map(|(value, revision)| (value, *revision)))
            }
            CasAnswer::Gone(revision) => CasAnswer::Gone(*revision),
            CasAnswer::Unknown => CasAnswer::Unknown,
        }
    }

    /// The same with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> CasAnswer<U> {
        match self {
            CasAnswer::Written(revision) => CasAnswer::Written(revision),
            CasAnswer::Conflict(found) => {
                CasAnswer::Conflict(found.map(|(value, revision)| (change(value), revision)))
            }
            CasAnswer::Gone(revision) => CasAnswer::Gone(revision),
            CasAnswer::Unknown => CasAnswer::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
