//! How fast a worker is, from which follows how much it may be given beyond what it runs. Never more
//! than hides a round trip.

use crate::limit;

/// How long a worker's runs take of late.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Pace {
    mean_us: Option<u64>,
}

impl Pace {
    /// Counts a run. The mean moves by an eighth of the difference: quick enough to notice long
    /// tasks after a few, steady enough not to follow one.
    ///
    /// What never ran says nothing: a few cancelled attempts would make long tasks look short.
    pub(in crate::fleet) fn count(&mut self, run_us: u64) {
        if run_us == 0 {
            return;
        }
        self.mean_us = Some(match self.mean_us {
            None => run_us,
            Some(mean) => mean - mean / 8 + run_us / 8,
        });
    }

    /// Attempts that a worker may hold beyond those it runs.
    pub(super) fn ahead(&self, slots: u32) -> u32 {
        let Some(mean_us) = self.mean_us else { return 0 };
        let work_us = limit::AHEAD_WORK.as_micros() as u64 * u64::from(slots);
        u32::try_from(work_us / mean_us.max(1)).unwrap_or(u32::MAX).min(limit::AHEAD_TASKS_MAX)
    }
}
