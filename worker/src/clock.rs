//! The one clock that decisions in a worker depend on. Never a wall clock, and never `Instant`,
//! which stands still while the machine is suspended.

use muster_protocol::Time;
use rustix::time::{ClockId, clock_gettime};

/// Reads `CLOCK_BOOTTIME`: about 30 ns, no system call on common hosts.
pub fn boottime() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    // Neither part is negative: the clock starts at zero when the machine does.
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
