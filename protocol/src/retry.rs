//! The retry policies of a worker's requests to masters: how long to wait, and how many tries. Never
//! tries anything, and never reads a clock.

use core::time::Duration;

/// A retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait between a failed try and the next one.
    pub wait: Duration,
    /// The greatest number of tries; unlimited if absent.
    pub tries_max: Option<u32>,
}

impl RetryPolicy {
    /// How long to wait after this many failed tries; `None` after the last one.
    pub fn after(self, failed: u32) -> Option<Duration> {
        self.tries_max.is_none_or(|max| failed < max).then_some(self.wait)
    }
}

/// Saving or resuming a checkpoint. The guest waits for it; the end of the run stops it.
pub const CHECKPOINT: RetryPolicy =
    RetryPolicy { wait: Duration::from_millis(200), tries_max: None };

/// Storing an output that is too large for a record. A closed gate stops it: the end of the lease, or a kill.
pub const OUTPUT: RetryPolicy = RetryPolicy { wait: Duration::from_millis(500), tries_max: None };

/// Fetching an object that masters report as missing: after this many answers it counts as missing.
/// Masters ask the store's leader, which has everything that was acknowledged. A leader that was just
/// elected, or a master that is behind, may answer wrongly at first; within these three seconds NATS
/// elects a leader and followers catch up.
pub const MISSING: RetryPolicy = RetryPolicy { wait: Duration::from_secs(1), tries_max: Some(4) };

/// Asking for a secret of a run. A master that is asked reads the registry, which elects a leader within these ten
/// seconds; after them, another worker may be luckier.
pub const SECRET: RetryPolicy =
    RetryPolicy { wait: Duration::from_millis(500), tries_max: Some(20) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_ends_after_its_last_try_or_never() {
        let waits = |policy: RetryPolicy| (1..).map_while(move |failed| policy.after(failed));
        assert_eq!(waits(MISSING).sum::<Duration>(), Duration::from_secs(3));
        assert_eq!(waits(CHECKPOINT).take(1_000).sum::<Duration>(), Duration::from_secs(200));
        assert_eq!(OUTPUT.after(u32::MAX), Some(OUTPUT.wait));
    }
}
