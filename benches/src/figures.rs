//! Medians and ranks. Never the mean of times: one pause of the machine would move it.

use std::time::Duration;

/// The median; for an even number of values, the mean of the two in the middle. Zero if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

/// The least and the greatest value.
pub fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

/// The geometric mean, for ratios.
pub fn geometric_mean(values: &[f64]) -> f64 {
    let logs: f64 = values.iter().map(|value| value.ln()).sum();
    (logs / values.len() as f64).exp()
}

/// Durations, sorted.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts durations. There must be at least one.
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was timed");
        times.sort();
        Times(times)
    }

    /// The number of durations.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The sum of the durations.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// The percentile by the nearest rank: the shortest duration that is not less than `percent` % of
    /// them.
    pub fn rank(&self, percent: f64) -> Duration {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// The percentile in microseconds.
    pub fn micros(&self, percent: f64) -> f64 {
        self.rank(percent).as_secs_f64() * 1e6
    }

    /// The percentile in milliseconds.
    pub fn millis(&self, percent: f64) -> f64 {
        self.rank(percent).as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_in_the_middle() {
        for (values, middle) in
            [(&[][..], 0.0), (&[3.0], 3.0), (&[5.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 9.0], 3.0)]
        {
            assert_eq!(median(values), middle, "{values:?}");
        }
        assert_eq!(spread(&[2.0, 1.0, 3.0]), (1.0, 3.0));
        assert!((geometric_mean(&[1.0, 4.0]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_rank_is_one_of_the_times() {
        let times = Times::new((1..=100).rev().map(Duration::from_millis).collect());
        for (percent, millis) in [(0.0, 1), (50.0, 50), (99.0, 99), (99.5, 100), (100.0, 100)] {
            assert_eq!(times.rank(percent), Duration::from_millis(millis), "{percent}");
        }
    }
}
