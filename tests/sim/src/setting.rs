//! The parameters of a world, drawn from its seed: its size, the quality of the network, and the number
//! and the duration of faults. Never an event of the world.

use crate::{
    rng::Rng,
    world::{MS, Nanos, SECOND},
};
use muster_protocol::lease::{CLOCK_RATE_PPM, LeaseTiming};
use std::time::Duration;

/// In one of this many worlds the registry loses writes.
const ROLLBACK_EVERY: u64 = 4;

/// The parameters of a world.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The timing of every lease.
    pub timing: LeaseTiming,
    /// How many masters.
    pub masters: usize,
    /// How many workers.
    pub workers: usize,
    /// The shortest and the longest network delay.
    pub latency: (Nanos, Nanos),
    /// How long a process waits for an answer of the registry.
    pub timeout: Nanos,
    /// Whether faults happen at random.
    pub disorder: bool,
    /// How long faults happen.
    pub lasts: Nanos,
    /// The time from one fault to the next.
    pub fault_every: Nanos,
    /// The number of submissions.
    pub batches: u64,
    /// How long every run takes; random if absent.
    pub run_lasts: Option<Nanos>,
    /// When the registry loses writes, if it does.
    pub rollback_at: Option<Nanos>,
    /// Whether no other fault happens before that, so that many attempts run that the loss affects.
    pub quiet_before: bool,
    /// Whether the registry is several servers. Then the leader of a stream may not know its newest
    /// write, and no incarnation of a server proves that nothing was lost.
    pub cluster: bool,
    /// The number of ended attempts that a worker remembers.
    pub over_max: usize,
    /// How long records of ended tasks are kept; for ever if absent.
    pub records_keep: Option<Nanos>,
    /// How long leases of ended sessions are kept; for ever if absent.
    pub leases_keep: Option<Nanos>,
    /// Whether some guests save checkpoints.
    pub checkpoints: bool,
    /// Whether a restarted process may have the state directory of its predecessor.
    pub keeps_disk: bool,
    /// The outage tolerance of the last master, where it is longer than that of the others.
    pub last_outage: Option<Nanos>,
}

impl Setting {
    /// The parameters of a seed.
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
            // Longer than any delay of a master's watch or write.
            records_keep: keeps.then(|| rng.between(12, 25) * SECOND),
            leases_keep: keeps.then(|| leases_keep(&timing)),
            checkpoints: rng.once_in(2),
            keeps_disk: true,
            last_outage: rng.once_in(4).then(|| outage + rng.between(1, 10) * SECOND),
        }
    }

    /// The lease timing of a master.
    pub fn timing_of(&self, master: usize) -> LeaseTiming {
        let longer = self.last_outage.filter(|_| master + 1 == self.masters);
        let timing = longer.map(|outage| self.timing.with_outage(Duration::from_nanos(outage)));
        timing.and_then(Result::ok).unwrap_or(self.timing)
    }

    /// The longest time for which any master extends leases without the registry, or waits for a master
    /// that does.
    pub fn longest_outage(&self) -> Duration {
        let waits = (0..self.masters).map(|master| self.timing_of(master).outage_wait());
        waits.max().unwrap_or_default()
    }

    /// The parameters of a world without faults, except those of a script.
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

/// How long leases of ended sessions are kept: longer than any home may extend a lease, and than the
/// wait after that.
fn leases_keep(timing: &LeaseTiming) -> Nanos {
    (2 * (timing.outage_wait() + timing.master())).as_nanos() as u64 + 20 * SECOND
}

/// A standard profile, or that profile with the shortest wait that is allowed, so that every margin
/// counts.
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
