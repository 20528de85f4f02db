//! What happened to a task, by what its record says. For people: the times are those of the wall clocks of several
//! masters, and the record keeps only the latest attempts.

use super::{Attempt, TaskRecord, TaskState};
use crate::{AttemptId, WorkerId, advisory::TaskEvent, time::WallMillis};
use alloc::{string::String, vec::Vec};
use serde::Serialize;

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEvent {
    /// When, in milliseconds since 1970.
    pub at_ms: WallMillis,
    /// What: `submitted`, the word of an event, `lost`, or the verdict.
    pub what: &'static str,
    /// The worker concerned.
    pub worker: Option<WorkerId>,
    /// The attempt concerned.
    pub attempt: Option<AttemptId>,
    /// Why, as a sentence; often empty.
    pub reason: String,
}

impl TaskRecord {
    /// What happened to the task, oldest first.
    pub fn timeline(&self) -> Vec<TimelineEvent> {
        let of = |at_ms, what, attempt: Option<&Attempt>, reason: String| TimelineEvent {
            at_ms,
            what,
            worker: attempt.map(|attempt| attempt.worker.clone()),
            attempt: attempt.map(|attempt| attempt.id),
            reason,
        };
        let mut events = Vec::from([of(self.submitted_at, "submitted", None, String::new())]);
        let mut was_lost = false;
        let mut dispatched = |events: &mut Vec<_>, attempt: &Attempt, is_lost| {
            let what = if was_lost { TaskEvent::Redispatched } else { TaskEvent::Dispatched };
            events.push(of(attempt.dispatched_at, what.word(), Some(attempt), String::new()));
            was_lost = is_lost;
        };
        for past in &self.history {
            dispatched(&mut events, &past.attempt, past.lost);
            let what = if past.lost { "lost" } else { TaskEvent::Retried.word() };
            events.push(of(past.ended_at, what, Some(&past.attempt), past.reason.clone()));
        }
        if let Some(attempt) = self.state.last_attempt() {
            dispatched(&mut events, attempt, false);
        }
        if let TaskState::Done { outcome, attempt, ended_at } = &self.state {
            let verdict = &outcome.verdict;
            events.push(of(*ended_at, verdict.word(), attempt.as_ref(), verdict.reason()));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Outcome, PastAttempt, Verdict, sample};
    use alloc::{format, sync::Arc};

    fn past(number: u32, lost: bool) -> PastAttempt {
        let dispatched_ms = u64::from(number) * 100;
        let ended_at = WallMillis(dispatched_ms + 50);
        let reason = format!("reason {number}");
        PastAttempt { attempt: sample::attempt(number, dispatched_ms), ended_at, lost, reason }
    }

    fn lines(record: &TaskRecord) -> Vec<String> {
        let line = |event: &TimelineEvent| {
            let worker = event.worker.as_ref().map_or("-", WorkerId::as_str);
            format!("{} {} {worker} {}", event.at_ms.0, event.what, event.reason)
        };
        record.timeline().iter().map(line).collect()
    }

    #[test]
    fn a_timeline_has_each_attempt_with_its_end() {
        let mut record = sample::queued(10);
        assert_eq!(lines(&record), ["10 submitted - "]);
        record.history = [past(1, true), past(2, false)].into();
        record.state = TaskState::Dispatched(sample::attempt(3, 300));
        let begin = [
            "10 submitted - ",
            "100 dispatched w1 ",
            "150 lost w1 reason 1",
            "200 redispatched w2 ",
            "250 retried w2 reason 2",
            "300 dispatched w3 ",
        ];
        assert_eq!(lines(&record), begin);
        record.state = TaskState::Done {
            outcome: Arc::new(Outcome::bare(Verdict::Completed)),
            attempt: Some(sample::attempt(3, 300)),
            ended_at: WallMillis(400),
        };
        let mut whole = begin.to_vec();
        whole.push("400 completed w3 completed");
        assert_eq!(lines(&record), whole);
    }
}
