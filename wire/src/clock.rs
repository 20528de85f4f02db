//! This machine's clocks. Never hands a wall clock to anything that decides.

use muster_protocol::time::{Time, WallMillis};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `CLOCK_BOOTTIME`: goes on while the machine is suspended, is never set.
pub fn boottime() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// The wall clock, for people to read.
pub fn wall() -> WallMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallMillis(now.as_millis() as u64)
}

/// Sleeps until the boot clock reads `until`.
///
/// Timers run on a clock that stops in suspend, so after one this may return late, and never
/// early. `None` sleeps for ever.
pub async fn sleep_until(until: Option<Time>) {
    match until {
        None => std::future::pending().await,
        Some(until) => loop {
            let left = until.since(boottime());
            if left.is_zero() {
                return;
            }
            // In steps, so that a suspend costs a second at most.
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        },
    }
}
