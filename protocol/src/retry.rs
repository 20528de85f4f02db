//! How a worker tries again what a master did not do for it: how long it waits, and how often it tries. Never
//! what is tried, and never a clock.

use core::time::Duration;

/// A policy of tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// From a try that failed to the next one.
    pub wait: Duration,
    /// Tries in all; without an end where absent.
    pub tries_max: Option<u32>,
}

impl RetryPolicy {
    /// How long to wait after so many tries that failed; `None` where that was the last.
    pub fn after(self, failed: u32) -> Option<Duration> {
        self.tries_max.is_none_or(|max| failed < max).then_some(self.wait)
    }
}

/// A checkpoint that is saved or resumed. The guest waits for it, and the end of the run ends it.
pub const CHECKPOINT: RetryPolicy =
    RetryPolicy { wait: Duration::from_millis(200), tries_max: None };

/// An output that is too large for a record. The end of the lease ends it.
pub const OUTPUT: RetryPolicy = RetryPolicy { wait: Duration::from_millis(500), tries_max: None };

/// An object that masters say is missing: after so many answers it counts as missing. Masters ask the
/// store's leader, which knows all that was acknowledged. A leader that was just elected, or a master that
/// is behind, may answer wrongly at first; within these three seconds NATS elects a leader and followers
/// catch up.
pub const MISSING: RetryPolicy = RetryPolicy { wait: Duration::from_secs(1), tries_max: Some(4) };

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
