//! Machines and their clocks: each clock has its own rate and its own start, and each machine may sleep.
//! Only the checker compares the clocks of two machines.

use muster_protocol::{Nonce, Time, lease::CLOCK_RATE_PPM};

use crate::{rng::Rng, world::Nanos};

/// A machine. The processes on it share its clock and its sleep.
#[derive(Debug)]
pub struct Machine {
    /// The identity of its present boot.
    pub boot: Nonce,
    ppm: i64,
    offset: u64,
    /// The end of its sleep, in true time.
    pub asleep_until: Nanos,
    slept: u64,
}

impl Machine {
    /// Creates a machine. Its clock rate has an error between zero and the largest that the promises
    /// allow.
    pub fn new(rng: &mut Rng) -> Self {
        let most = CLOCK_RATE_PPM as i64;
        let between = rng.below(2 * CLOCK_RATE_PPM + 1) as i64 - most;
        let ppm = rng.pick(&[-most, -most, most, most, 0, between]);
        let offset = rng.between(1, 1_000_000) * 1_000_003_001;
        Machine { boot: Nonce(rng.any()), ppm, offset, asleep_until: 0, slept: 0 }
    }

    /// The reading of the clock by which daemons decide.
    pub fn clock(&self, now: Nanos) -> Time {
        self.boottime(now)
    }

    /// The reading of the boot clock, which continues during sleep.
    pub fn boottime(&self, now: Nanos) -> Time {
        let drift = i128::from(now) * i128::from(self.ppm) / 1_000_000;
        Time::from_nanos((i128::from(self.offset + now) + drift) as u64)
    }

    /// The reading of the monotonic clock, which stops during sleep. No daemon may decide by it.
    pub fn monotonic(&self, now: Nanos) -> Time {
        Time::from_nanos(self.boottime(now).as_nanos() - self.slept)
    }

    /// The first moment of true time at which the boot clock shows `time` or more.
    pub fn when(&self, time: Time) -> Nanos {
        let since = u128::from(time.as_nanos().saturating_sub(self.offset));
        let mut now = (since * 1_000_000 / (1_000_000 + self.ppm) as u128) as u64;
        while self.boottime(now) < time {
            now += 1;
        }
        now
    }

    /// Puts the machine to sleep until `until`.
    pub fn sleep(&mut self, now: Nanos, until: Nanos) {
        self.asleep_until = until;
        self.slept += self.boottime(until).since(self.boottime(now)).as_nanos() as u64;
    }

    /// Whether the machine sleeps.
    pub fn is_asleep(&self, now: Nanos) -> bool {
        now < self.asleep_until
    }
}
