//! This machine's clocks. Never gives a wall clock to code that decides.

use muster_protocol::time::{Time, WallMillis};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `CLOCK_BOOTTIME`: it goes on while the machine is suspended, and is never set.
pub fn boottime() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// The wall clock, for timestamps that people read.
pub fn wall() -> WallMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallMillis(now.as_millis() as u64)
}

/// The wall clock in nanoseconds since 1970, for spans of traces.
pub fn wall_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Sleeps until the boot clock reads `until`.
///
/// Never returns early. Timers run on a clock that stops in suspend, so after a suspend this may return
/// up to a second late. `None` sleeps for ever.
pub async fn sleep_until(until: Option<Time>) {
    match until {
        None => std::future::pending().await,
        Some(until) => loop {
            let left = until.since(boottime());
            if left.is_zero() {
                return;
            }
            // In steps of a second, so that a suspend delays the return by a second at most.
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        },
    }
}
