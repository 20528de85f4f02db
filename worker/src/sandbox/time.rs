//! What a guest sees of time: real, and no finer than it was granted. Never finer for one clock
//! than for another.

use std::time::Duration;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// Both clocks of a guest, at the resolution of its grant.
#[derive(Clone, Copy)]
pub(super) struct Grained {
    grain_ns: u64,
    /// When the monotonic one began, in nanoseconds of `CLOCK_BOOTTIME`: a guest need not know how
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
        elapsed / self.grain_ns * self.grain_ns
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
