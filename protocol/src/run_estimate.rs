//! How long runs take of late, for those who hold work ready. A guess: never a reason to run anything.

use core::time::Duration;

/// A mean that follows the newest runs.
#[derive(Debug, Default)]
pub(crate) struct RunEstimate {
    mean_us: Option<u64>,
}

impl RunEstimate {
    /// Counts a run. The mean moves by an eighth of the difference: quick enough to notice long
    /// tasks after a few, steady enough not to follow one.
    ///
    /// What never ran says nothing: a few cancelled attempts would make long tasks look short.
    pub(crate) fn count(&mut self, run_us: u64) {
        if run_us == 0 {
            return;
        }
        self.mean_us = Some(match self.mean_us {
            None => run_us,
            Some(mean) => mean - mean / 8 + run_us / 8,
        });
    }

    /// How many runs `slots` places do within `time`; 0 as long as nothing is known.
    pub(crate) fn runs_in(&self, time: Duration, slots: u32) -> u32 {
        let Some(mean_us) = self.mean_us else { return 0 };
        let work_us = time.as_micros() as u64 * u64::from(slots);
        u32::try_from(work_us / mean_us.max(1)).unwrap_or(u32::MAX)
    }
}
