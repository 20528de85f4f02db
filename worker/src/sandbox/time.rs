//! The clocks of a guest: real time, at the resolution that was granted. Never finer for one clock than
//! for the other.

use std::time::Duration;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// Both clocks of a guest, at the resolution that was granted.
#[derive(Clone, Copy)]
pub(super) struct Grained {
    grain_ns: u64,
    /// When the monotonic clock began, in nanoseconds of `CLOCK_BOOTTIME`: a guest need not know how
    /// long the machine has been up.
    began: u64,
}

impl Grained {
    pub(super) fn new(grain_ns: u64) -> Self {
        Grained { grain_ns: grain_ns.max(1), began: crate::clock::boottime().as_nanos() }
    }
}

impl HostMonotonicClock for Grained {
    fn resolution(&self) -> u64 {
        self.grain_ns
    }

    fn now(&self) -> u64 {
        let elapsed = crate::clock::boottime().as_nanos().saturating_sub(self.began);
        // The first value is one step: Go's runtime exits if the clock reads zero.
        (elapsed / self.grain_ns + 1).saturating_mul(self.grain_ns)
    }
}

impl HostWallClock for Grained {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(self.grain_ns)
    }

    fn now(&self) -> Duration {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = now.unwrap_or_default().as_nanos();
        let grain = u128::from(self.grain_ns);
        let whole = nanos / grain * grain;
        Duration::new((whole / 1_000_000_000) as u64, (whole % 1_000_000_000) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_clock_begins_at_its_first_step_and_goes_by_whole_ones() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        assert_eq!(HostMonotonicClock::now(&Grained::new(HOUR_NS)), HOUR_NS);
        let fine = Grained::new(1_000);
        let (first, second) = (HostMonotonicClock::now(&fine), HostMonotonicClock::now(&fine));
        assert!(1_000 <= first && first <= second && second % 1_000 == 0, "{first} {second}");
    }
}
