//! Machines and their clocks: each has a rate and a start of its own, and may sleep. Never compared
//! with each other by anything but the checker.

use muster_protocol::{Nonce, Time, lease::CLOCK_RATE_PPM};

use crate::{rng::Rng, world::Nanos};

/// A machine: what runs on it shares its clock and its sleep.
#[derive(Debug)]
pub struct Machine {
    /// What its present boot is called.
    pub boot: Nonce,
    ppm: i64,
    offset: u64,
    /// Until when it sleeps, in true time.
    pub asleep_until: Nanos,
    slept: u64,
}

impl Machine {
    /// A machine whose clock is as wrong as is allowed, or somewhere between.
    pub fn new(rng: &mut Rng) -> Self {
        let most = CLOCK_RATE_PPM as i64;
        let between = rng.below(2 * CLOCK_RATE_PPM + 1) as i64 - most;
        let ppm = rng.pick(&[-most, -most, most, most, 0, between]);
        let offset = rng.between(1, 1_000_000) * 1_000_003_001;
        Machine { boot: Nonce(rng.any()), ppm, offset, asleep_until: 0, slept: 0 }
    }

    /// The clock by which daemons decide.
    pub fn clock(&self, now: Nanos) -> Time {
        self.boottime(now)
    }

    /// What the clock shows that counts sleep.
    pub fn boottime(&self, now: Nanos) -> Time {
        let drift = i128::from(now) * i128::from(self.ppm) / 1_000_000;
        Time::from_nanos((i128::from(self.offset + now) + drift) as u64)
    }

    /// What the clock shows that stands still in sleep. No daemon may decide by it.
    pub fn monotonic(&self, now: Nanos) -> Time {
        Time::from_nanos(self.boottime(now).as_nanos() - self.slept)
    }

    /// The first moment of true time at which the clock that counts sleep shows this, or more.
    pub fn when(&self, time: Time) -> Nanos {
        let since = u128::from(time.as_nanos().saturating_sub(self.offset));
        let mut now = (since * 1_000_000 / (1_000_000 + self.ppm) as u128) as u64;
        while self.boottime(now) < time {
            now += 1;
        }
        now
    }

    /// It falls asleep until then.
    pub fn sleep(&mut self, now: Nanos, until: Nanos) {
        self.asleep_until = until;
        self.slept += self.boottime(until).since(self.boottime(now)).as_nanos() as u64;
    }

    /// Whether it sleeps.
    pub fn is_asleep(&self, now: Nanos) -> bool {
        now < self.asleep_until
    }
}
