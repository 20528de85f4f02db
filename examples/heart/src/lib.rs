//! Beats for as long as its input says: JSON in, JSON out, one report of progress for each beat. So the
//! worker's journal shows from when to when it ran. It must never beat after it returned.

use serde::{Deserialize, Serialize};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Steps of the computation between two readings of the clock: some microseconds, far less than a beat.
const STEPS: u64 = 1_000;

/// How to beat: `{"for_ms":1000,"every_us":1000,"rest":false}`. Each field may be left out, and so may
/// the whole input.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// How long, in milliseconds.
    for_ms: u64,
    /// The time from one beat to the next, in microseconds.
    every_us: u64,
    /// Whether to sleep in between, in a call of the worker's, instead of computing.
    rest: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { for_ms: 1_000, every_us: 1_000, rest: false }
    }
}

/// The result: `{"beats":1000}`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Beaten {
    beats: u64,
}

/// Beats at once, and then at the requested pace, until the time is over.
#[muster::task]
pub fn heart(pace: Option<Pace>) -> Beaten {
    let Pace { for_ms, every_us, rest } = pace.unwrap_or_default();
    let (began, whole) = (Instant::now(), Duration::from_millis(for_ms));
    let every = Duration::from_micros(every_us.max(1));
    let mut beats = 0;
    let mut next = began;
    loop {
        muster::progress(began.elapsed().min(whole).as_millis() as u64, for_ms);
        beats += 1;
        // Never in the past: beats that a pause prevented are not made up for.
        next = (next + every).max(Instant::now());
        while Instant::now() < next.min(began + whole) {
            if rest {
                std::thread::sleep(next.min(began + whole) - Instant::now());
            } else {
                compute(STEPS);
            }
        }
        if began.elapsed() >= whole {
            return Beaten { beats };
        }
    }
}

/// A computation that takes time and calls nothing.
fn compute(steps: u64) {
    black_box((0..steps).fold(1_u64, |sum, step| black_box(sum).rotate_left(5) ^ step));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_about_as_often_as_asked() {
        for rest in [false, true] {
            let pace = Pace { for_ms: 20, every_us: 2_000, rest };
            let Beaten { beats } = heart(Some(pace));
            assert!((1..=11).contains(&beats), "{beats}");
            assert_eq!(muster::testing::take_progress().len() as u64, beats);
        }
    }

    #[test]
    fn beats_once_in_no_time() {
        assert_eq!(heart(Some(Pace { for_ms: 0, ..Pace::default() })), Beaten { beats: 1 });
        assert_eq!(muster::testing::take_progress(), [(0, 0)]);
    }
}
