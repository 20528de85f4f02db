//! Points in time on one machine's boot clock; never compared between machines.

use core::{ops, time::Duration};
use serde::{Deserialize, Serialize};

/// A reading of this machine's `CLOCK_BOOTTIME`, which counts time spent suspended.
///
/// Two readings mean something to each other only on the machine that took both.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The start of the clock; before every other reading.
    pub const ZERO: Time = Time(0);
    /// Later than every reading.
    pub const NEVER: Time = Time(u64::MAX);

    /// The reading that is `nanos` nanoseconds after the machine booted.
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// Nanoseconds since the machine booted.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for Time {
    type Output = Time;
    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A timestamp for people: milliseconds since 1970 on the wall clock of the machine that wrote it.
///
/// It is shown and never compared: no decision may depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallMillis(pub u64);
