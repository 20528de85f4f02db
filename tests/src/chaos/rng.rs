//! A seeded random number generator: the same seed gives the same choices. Never for secrets.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose faults with.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to below `end`.
    pub fn within(&mut self, least: u64, end: u64) -> u64 {
        // The bias of the remainder is too small to matter here.
        least + self.next() % (end - least).max(1)
    }

    /// True with a probability of `percent` in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0, 100) < percent
    }

    /// One of these elements. There must be at least one.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.within(0, of.len() as u64) as usize]
    }

    /// A duration from `least` to `most`, in steps of a millisecond.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_millis(self.within(least.as_millis() as u64, most.as_millis() as u64 + 1))
    }
}
