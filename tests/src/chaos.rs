//! A fleet under faults: the faults, the load, the observer of the registry, and the checker of what was
//! observed. Never knows how Muster works inside.

pub mod checker;
pub mod counters;
pub mod failover;
mod fault;
pub mod load;
pub mod nemesis;
pub mod observer;
pub mod pause;
mod rng;
pub mod run_log;
pub mod sink;

pub use fault::{FaultKind, KINDS};
pub use rng::Rng;

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The reading of `CLOCK_BOOTTIME` in nanoseconds. The journals use this clock, which all processes of a
/// machine share.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The time from one stamp to a later one; zero where it is not later.
pub fn between(from_ns: u64, to_ns: u64) -> Duration {
    Duration::from_nanos(to_ns.saturating_sub(from_ns))
}

/// The `percent`th percentile of sorted durations, by the nearest rank; `None` if there are none.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let of = |count: u64, percent| {
            let sorted: Vec<_> = (1..=count).map(Duration::from_secs).collect();
            percentile(&sorted, percent).map(|found| found.as_secs())
        };
        assert_eq!(of(0, 50), None);
        assert_eq!(of(1, 99), Some(1));
        assert_eq!(of(100, 50), Some(50));
        assert_eq!(of(100, 99), Some(99));
        assert_eq!(of(50, 99), Some(50));
    }
}
