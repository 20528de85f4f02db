//! The stamps of a master's writes: the wall clock, for people, and nonces. Never a decision: nothing
//! depends on the wall clock.
//!
//! Invariant: no nonce is used twice.

use crate::{SessionId, Time, task::mix, time::WallMillis};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Stamps {
    /// The wall clock at the boot clock's zero, in milliseconds; changes when the wall clock is set.
    wall_at_zero: i64,
    nonces: u64,
}

impl Stamps {
    pub(super) fn new(session: SessionId) -> Self {
        Stamps { wall_at_zero: 0, nonces: session.0 }
    }

    pub(super) fn set_wall(&mut self, now: Time, wall: WallMillis) {
        self.wall_at_zero = wall.0 as i64 - millis(now);
    }

    pub(super) fn wall(&self, now: Time) -> WallMillis {
        WallMillis((self.wall_at_zero + millis(now)).max(0) as u64)
    }

    /// The next nonce of this master: a well-mixed sequence from its seed.
    pub(super) fn next_nonce(&mut self) -> u64 {
        self.nonces = self.nonces.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.nonces)
    }
}

fn millis(now: Time) -> i64 {
    (now.as_nanos() / 1_000_000) as i64
}
