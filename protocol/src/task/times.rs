//! How long a task waited, by what its record says. For people: the times are those of the wall clocks of several
//! masters.

use super::{Attempt, TaskRecord};
use crate::time::WallMillis;
use alloc::vec::Vec;
use core::time::Duration;

/// How long a task waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskTimes {
    /// From the submission to the first dispatch; `None` if it was never dispatched, or if its record has forgotten
    /// that attempt.
    pub queued: Option<Duration>,
    /// From each loss of an attempt with its worker to the next dispatch.
    pub failovers: Vec<Duration>,
}

impl TaskRecord {
    /// How long the task waited.
    pub fn times(&self) -> TaskTimes {
        let past = self.history.iter().map(|past| &past.attempt);
        let attempts: Vec<&Attempt> = past.chain(self.state.last_attempt()).collect();
        let since = |then: WallMillis, attempt: &Attempt| {
            Duration::from_millis(attempt.dispatched_at.0.saturating_sub(then.0))
        };
        let first = attempts.iter().find(|attempt| attempt.number == 1);
        let lost = self.history.iter().zip(attempts.iter().skip(1)).filter(|(past, _)| past.lost);
        TaskTimes {
            queued: first.map(|first| since(self.submitted_at, first)),
            failovers: lost.map(|(past, next)| since(past.ended_at, next)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Outcome, PastAttempt, TaskState, Verdict, sample};
    use alloc::sync::Arc;

    fn past(number: u32, dispatched_ms: u64, ended_ms: u64, lost: bool) -> PastAttempt {
        let ended_at = WallMillis(ended_ms);
        PastAttempt {
            attempt: sample::attempt(number, dispatched_ms),
            ended_at,
            lost,
            reason: "".into(),
        }
    }

    #[test]
    fn a_task_waits_before_its_first_attempt_and_after_each_loss() {
        let mut record = sample::queued(1_000);
        assert_eq!(record.times(), TaskTimes::default());
        record.state = TaskState::Dispatched(sample::attempt(1, 1_250));
        let ms = Duration::from_millis;
        assert_eq!(record.times(), TaskTimes { queued: Some(ms(250)), failovers: Vec::new() });
        record.history = [past(1, 1_250, 5_000, true), past(2, 5_100, 6_000, false)].into();
        record.history.push(past(3, 7_000, 8_000, true));
        record.state = TaskState::Done {
            outcome: Arc::new(Outcome::bare(Verdict::Completed)),
            attempt: Some(sample::attempt(4, 8_300)),
            ended_at: WallMillis(9_000),
        };
        let failovers = [ms(100), ms(300)].into();
        assert_eq!(record.times(), TaskTimes { queued: Some(ms(250)), failovers });
        // The clock of another master is behind.
        record.submitted_at = WallMillis(2_000);
        let failovers = [ms(100), ms(300)].into();
        assert_eq!(record.times(), TaskTimes { queued: Some(Duration::ZERO), failovers });
    }
}
