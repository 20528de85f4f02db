//! How many tasks ended and how many workers were lost, in each second of the last ten minutes. Never keeps more.

use muster_protocol::task::StateName;
use serde::Serialize;
use std::collections::BTreeMap;

/// Seconds that are kept.
const SECONDS_KEPT: u64 = 600;

/// A second, in milliseconds since 1970; and in it, the tasks that completed, those that ended otherwise, and the
/// workers that were lost.
pub(crate) type Point = (u64, u32, u32, u32);

/// The tasks that have ended, of those that the registry had when this session of the master began, and since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub lost: u64,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Throughput {
    ended: Ended,
    seconds: BTreeMap<u64, (u32, u32, u32)>,
}

impl Throughput {
    /// A task ended at this time.
    pub(super) fn ended(&mut self, at_ms: u64, state: StateName) {
        let second = self.seconds.entry(at_ms / 1_000).or_default();
        match state {
            StateName::Completed => second.0 += 1,
            StateName::Cancelled => {}
            _ => second.1 += 1,
        }
        match state {
            StateName::Completed => self.ended.completed += 1,
            StateName::Cancelled => self.ended.cancelled += 1,
            StateName::Lost => self.ended.lost += 1,
            _ => self.ended.failed += 1,
        }
        self.trim();
    }

    /// A worker was lost, whose last renewal was at `renewed_ms` by its own clock. One that was lost long ago is found
    /// when a session begins.
    pub(super) fn lost_worker(&mut self, renewed_ms: u64, now_ms: u64) {
        if now_ms.saturating_sub(renewed_ms) < SECONDS_KEPT * 1_000 {
            let at_ms = now_ms.min(renewed_ms + LOST_AFTER_MS);
            self.seconds.entry(at_ms / 1_000).or_default().2 += 1;
            self.trim();
        }
    }

    /// How many ended, and the points of the whole seconds since `since_ms`.
    pub(super) fn points(&mut self, now_ms: u64, since_ms: u64) -> (Ended, Vec<Point>) {
        let end = now_ms / 1_000;
        let first = end.saturating_sub(SECONDS_KEPT);
        self.seconds = self.seconds.split_off(&first);
        let from = since_ms.div_ceil(1_000).max(first);
        let point = |second| {
            let (completed, failed, lost) = self.seconds.get(&second).copied().unwrap_or_default();
            (second * 1_000, completed, failed, lost)
        };
        (self.ended, (from..end).map(point).collect())
    }

    fn trim(&mut self) {
        // Twice as many, so that this is not done each second, and a wrong clock cannot fill the memory.
        while self.seconds.len() as u64 > SECONDS_KEPT * 2 {
            self.seconds.pop_first();
        }
    }
}

/// About when a worker is declared lost, after its last renewal.
const LOST_AFTER_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_and_old_ones_are_dropped() {
        let mut throughput = Throughput::default();
        throughput.ended(1_000_500, StateName::Completed);
        throughput.ended(1_000_900, StateName::TimedOut);
        throughput.ended(1_002_100, StateName::Cancelled);
        throughput.ended(1_002_100, StateName::Lost);
        throughput.lost_worker(995_900, 1_003_000);
        throughput.lost_worker(3_000, 1_003_000);
        let ended = Ended { completed: 1, failed: 1, cancelled: 1, lost: 1 };
        let want = vec![(1_000_000, 1, 1, 1), (1_001_000, 0, 0, 0), (1_002_000, 0, 1, 0)];
        assert_eq!(throughput.points(1_003_400, 999_001), (ended, want));
        assert_eq!(throughput.points(1_003_400, 1_002_001).1, [], "the present second is not over");
        let (_, points) = throughput.points(1_601_500, 0);
        assert_eq!((points.len(), points[0]), (600, (1_001_000, 0, 0, 0)));
        for second in 0..10_000 {
            throughput.ended(second * 1_000, StateName::Completed);
        }
        assert!(throughput.seconds.len() as u64 <= SECONDS_KEPT * 2);
    }
}
