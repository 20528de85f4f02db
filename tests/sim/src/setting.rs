//! What kind of world a seed makes: how many there are, how good the network is, how much goes
//! wrong and for how long. Never what happens in it.

use crate::{
    rng::Rng,
    world::{MS, Nanos, SECOND},
};
use muster_protocol::lease::{CLOCK_RATE_PPM, LeaseTiming};
use std::time::Duration;

/// One in so many worlds loses writes of the registry.
const ROLLBACK_EVERY: u64 = 4;

/// The kind of a world.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The timing of every lease.
    pub timing: LeaseTiming,
    /// How many masters.
    pub masters: usize,
    /// How many workers.
    pub workers: usize,
    /// A way through the network takes from so long to so long.
    pub latency: (Nanos, Nanos),
    /// How long an answer of the registry is waited for.
    pub timeout: Nanos,
    /// Whether things go wrong by chance.
    pub disorder: bool,
    /// How long things go wrong.
    pub lasts: Nanos,
    /// How long it is from one fault to the next.
    pub fault_every: Nanos,
    /// Submissions.
    pub batches: u64,
    /// How long every run takes; by chance where absent.
    pub run_lasts: Option<Nanos>,
    /// When the registry loses writes, if it does.
    pub rollback_at: Option<Nanos>,
    /// Whether nothing else goes wrong before, so that much runs that the loss is about.
    pub quiet_before: bool,
    /// Whether the registry is several servers: then whoever leads a stream may not know its newest
    /// write, and no incarnation of a server vouches for it.
    pub cluster: bool,
    /// Ended attempts that workers remember.
    pub over_max: usize,
    /// How long records of ended tasks are kept, if not for ever.
    pub records_keep: Option<Nanos>,
    /// How long leases that are over are kept, if not for ever.
    pub leases_keep: Option<Nanos>,
    /// Whether some guests leave checkpoints.
    pub checkpoints: bool,
    /// Whether a process that starts again may have the state directory of the one before.
    pub keeps_disk: bool,
    /// How long the last master keeps workers alive, where that is longer than the others do.
    pub last_outage: Option<Nanos>,
}

impl Setting {
    /// The setting of a seed.
    pub fn of(seed: u64, rng: &mut Rng) -> Self {
        let fast = !rng.once_in(3);
        let lasts = if fast { rng.between(12, 40) } else { rng.between(20, 60) } * SECOND;
        let latency =
            rng.pick(&[(30_000, 200_000), (30_000, 200_000), (200_000, 3 * MS), (MS, 30 * MS)]);
        let timing = timing(fast, rng);
        let keeps = rng.once_in(3);
        let outage = timing.outage().as_nanos() as u64;
        Setting {
            timing,
            masters: rng.pick(&[2, 2, 3]),
            workers: rng.pick(&[3, 3, 3, 4, 5]),
            latency,
            timeout: if fast { 400 * MS } else { 2 * SECOND },
            disorder: true,
            lasts,
            fault_every: rng.between(150, 1_500) * MS,
            batches: rng.between(6, 30),
            run_lasts: None,
            rollback_at: seed
                .is_multiple_of(ROLLBACK_EVERY)
                .then(|| rng.between(lasts / 4, lasts * 3 / 4)),
            quiet_before: rng.once_in(2),
            cluster: rng.once_in(4),
            over_max: rng.pick(&[4, 8_192]),
            // Longer than a watch or a write of a master is ever late.
            records_keep: keeps.then(|| rng.between(12, 25) * SECOND),
            leases_keep: keeps.then(|| leases_keep(&timing)),
            checkpoints: rng.once_in(2),
            keeps_disk: true,
            last_outage: rng.once_in(4).then(|| outage + rng.between(1, 10) * SECOND),
        }
    }

    /// The timing of a master.
    pub fn timing_of(&self, master: usize) -> LeaseTiming {
        let longer = self.last_outage.filter(|_| master + 1 == self.masters);
        let timing = longer.map(|outage| self.timing.with_outage(Duration::from_nanos(outage)));
        timing.and_then(Result::ok).unwrap_or(self.timing)
    }

    /// The longest that any master keeps workers alive, or waits for one that does.
    pub fn longest_outage(&self) -> Duration {
        let waits = (0..self.masters).map(|master| self.timing_of(master).outage_wait());
        waits.max().unwrap_or_default()
    }

    /// A world in which nothing goes wrong but what a script says.
    pub fn calm(rng: &mut Rng) -> Self {
        Setting {
            timing: LeaseTiming::STANDARD,
            masters: 2,
            workers: 3,
            latency: (200_000, 3 * MS),
            timeout: 2 * SECOND,
            disorder: false,
            lasts: 0,
            fault_every: rng.between(SECOND, 2 * SECOND),
            batches: 0,
            run_lasts: Some(10 * SECOND),
            rollback_at: None,
            quiet_before: false,
            cluster: false,
            over_max: 8_192,
            records_keep: None,
            leases_keep: None,
            checkpoints: false,
            keeps_disk: true,
            last_outage: None,
        }
    }
}

/// Longer than any home may extend a lease, and than the wait after that.
fn leases_keep(timing: &LeaseTiming) -> Nanos {
    (2 * (timing.outage_wait() + timing.master())).as_nanos() as u64 + 20 * SECOND
}

/// A profile, or the same with the shortest wait that is allowed: then every margin counts.
fn timing(fast: bool, rng: &mut Rng) -> LeaseTiming {
    let known = if fast { LeaseTiming::FAST } else { LeaseTiming::STANDARD };
    let runs = (known.worker() + known.kill_margin()).as_nanos() as u64;
    let ppm = CLOCK_RATE_PPM;
    let least =
        (u128::from(runs) * u128::from(1_000_000 + ppm)).div_ceil(u128::from(1_000_000 - ppm));
    let least = Duration::from_nanos(least as u64);
    let wait = if rng.once_in(4) { known.master() } else { least };
    let outage = if fast { rng.between(2, 8) } else { rng.between(5, 20) };
    LeaseTiming::new(known.worker(), known.kill_margin(), known.renew_every(), wait)
        .and_then(|timing| timing.with_outage(Duration::from_secs(outage)))
        .expect("it is just long enough")
}
