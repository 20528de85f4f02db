//! An estimate of how long the next runs take, used to decide how many attempts a worker queues. Never
//! decides whether anything runs.

use core::time::Duration;

/// The moving mean of run times, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct RunEstimate {
    mean_us: Option<u64>,
}

impl RunEstimate {
    /// Counts a run. The mean moves by an eighth of the difference: fast enough to notice long tasks
    /// after a few runs, slow enough not to follow a single one.
    ///
    /// A run time of 0 is not counted: attempts that were cancelled before they ran would make long
    /// tasks look short.
    pub(crate) fn count(&mut self, run_us: u64) {
        if run_us == 0 {
            return;
        }
        self.mean_us = Some(match self.mean_us {
            None => run_us,
            Some(mean) => mean - mean / 8 + run_us / 8,
        });
    }

    /// How many runs `slots` slots complete within `time`; 0 while nothing is known.
    pub(crate) fn runs_in(&self, time: Duration, slots: u32) -> u32 {
        let Some(mean_us) = self.mean_us else { return 0 };
        let work_us = time.as_micros() as u64 * u64::from(slots);
        u32::try_from(work_us / mean_us.max(1)).unwrap_or(u32::MAX)
    }
}
