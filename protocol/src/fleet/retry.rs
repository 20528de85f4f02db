//! What follows the end of an attempt: the end of the task, another attempt, or quarantine. Never
//! commits the outcome of an attempt that the record does not name.

use super::{Effect, Fleet};
use crate::{
    TaskId, Time,
    advisory::TaskEvent,
    api::TaskEnded,
    limit,
    task::{Attempt, OnWorkerLost, Outcome, PastAttempt, TaskRecord, TaskState, Verdict, backoff},
};
use alloc::{format, string::ToString, sync::Arc, vec::Vec};
use core::time::Duration;

/// How many tasks end per second, which determines how long their records can be kept.
#[derive(Debug, Default)]
pub(super) struct Rate {
    second: u64,
    count: u64,
    per_second: u64,
}

impl Rate {
    fn count(&mut self, now: Time) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            // The mean moves by an eighth of the difference each second; a second without an end counts
            // as 0.
            let rate = if second == self.second + 1 { self.count } else { 0 };
            self.per_second = (self.per_second * 7 + rate).div_ceil(8);
            self.second = second;
            self.count = 0;
        }
        self.count += 1;
    }

    /// 24 hours, or as long as about a million records last at the present rate.
    fn keep(&self) -> Duration {
        let rate = self.per_second.max(self.count).max(1);
        Duration::from_secs(limit::RETENTION_TASKS / rate)
            .clamp(limit::RETENTION_MIN, limit::RETENTION_MAX)
    }
}

/// How many attempts in a row may be returned before the task has to wait.
const RETURNS_FREE: usize = 2;

/// The first and the longest wait after that; it doubles each time. Without it, a worker that cannot
/// run anything, or two masters of which one is behind, would cause a write per loop.
const RETURN_WAIT_MIN: Duration = Duration::from_millis(50);
const RETURN_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a task waits after an attempt was returned, by how many in a row were returned for the same
/// reason.
fn wait_after_returns(record: &TaskRecord, reason: &str) -> Duration {
    let same = |past: &&PastAttempt| !past.lost && past.reason == reason;
    let in_a_row = record.history.iter().rev().take_while(same).count();
    match in_a_row.checked_sub(RETURNS_FREE) {
        None => Duration::ZERO,
        Some(more) => (RETURN_WAIT_MIN * (1 << more.min(8))).min(RETURN_WAIT_MAX),
    }
}

impl Fleet {
    /// The worker reported the outcome of the current attempt.
    pub(super) fn take_outcome(
        &mut self,
        now: Time,
        id: TaskId,
        record: &TaskRecord,
        attempt: &Attempt,
        outcome: Arc<Outcome>,
        out: &mut Vec<Effect>,
    ) {
        if matches!(outcome.verdict, Verdict::Returned { .. }) {
            return self.returned(now, id, record, attempt, &outcome, out);
        }
        let retry = &record.spec.retry;
        // The run was stopped although nobody cancelled the task: the task gets another attempt.
        let revoked = outcome.verdict == Verdict::Cancelled && !record.cancel;
        let failures = record.failures + u32::from(outcome.verdict.is_retried());
        let retried = outcome.verdict.is_retried() && failures < retry.attempts_max;
        let again = (retried && !record.cancel) || revoked;
        if !again {
            return self.commit(now, id, record, outcome, Some(attempt.clone()), out);
        }
        let wait = backoff(retry, failures.max(1), (id.0 as u64) ^ attempt.id.0);
        let mut next = record.in_state(TaskState::queued_for(wait));
        next.failures = failures;
        let reason = outcome.verdict.reason();
        next.push_history(self.past(now, attempt, false, &reason));
        self.write(now, id, next, None, out);
    }

    /// The worker returned the attempt, which does not count as a failure of the task.
    fn returned(
        &mut self,
        now: Time,
        id: TaskId,
        record: &TaskRecord,
        attempt: &Attempt,
        outcome: &Outcome,
        out: &mut Vec<Effect>,
    ) {
        if record.cancel {
            let outcome = Arc::new(Outcome::bare(Verdict::Cancelled));
            return self.commit(now, id, record, outcome, Some(attempt.clone()), out);
        }
        let reason = outcome.verdict.reason();
        let wait = wait_after_returns(record, &reason);
        let mut next = record.in_state(TaskState::queued_for(wait));
        next.push_history(self.past(now, attempt, false, &reason));
        self.write(now, id, next, None, out);
    }

    /// The worker that held the current attempt is lost or has left, and the attempt with it.
    pub(super) fn on_worker_lost(
        &mut self,
        now: Time,
        id: TaskId,
        record: &TaskRecord,
        attempt: &Attempt,
        out: &mut Vec<Effect>,
    ) {
        let fail = record.spec.on_worker_lost == OnWorkerLost::Fail;
        let left = self.has_left(attempt);
        let is_suspicious = !left && !attempt.to_silent;
        let losses = record.losses + u32::from(fail || is_suspicious);
        // Only a loss in which nothing else ran can be held against the task.
        let losses_alone = record.losses_alone + u32::from(attempt.alone && is_suspicious);
        let what = if left { "left before it had ended" } else { "was lost" };
        let reason = format!("worker {} {what}", attempt.worker);
        let mut next = TaskRecord { losses, losses_alone, ..record.clone() };
        next.push_history(self.past(now, attempt, true, &reason));
        if record.cancel {
            let outcome = Arc::new(Outcome::bare(Verdict::Cancelled));
            return self.commit(now, id, &next, outcome, None, out);
        }
        let quarantined = losses_alone >= limit::LOST_ALONE_MAX;
        if fail || quarantined {
            let outcome = Arc::new(Outcome::bare(Verdict::Lost { workers: losses }));
            return self.commit(now, id, &next, outcome, None, out);
        }
        self.write(now, id, next.in_state(TaskState::queued_for(Duration::ZERO)), None, out);
    }

    fn past(&self, now: Time, attempt: &Attempt, lost: bool, reason: &str) -> PastAttempt {
        PastAttempt {
            attempt: attempt.clone(),
            ended_at: self.stamps.wall(now),
            lost,
            reason: reason.to_string(),
        }
    }

    /// Writes the end of a task.
    pub(super) fn commit(
        &mut self,
        now: Time,
        id: TaskId,
        record: &TaskRecord,
        outcome: Arc<Outcome>,
        attempt: Option<Attempt>,
        out: &mut Vec<Effect>,
    ) {
        self.end_rate.count(now);
        let keep = self.end_rate.keep();
        let failed = outcome.verdict.is_retried();
        let mut done =
            record.in_state(TaskState::Done { outcome, attempt, ended_at: self.stamps.wall(now) });
        done.failures += u32::from(failed);
        self.write(now, id, done, Some(keep), out);
    }

    /// The end of a task is in the registry: notify the clients that wait for it.
    pub(super) fn ended(
        &mut self,
        record: &TaskRecord,
        outcome: Arc<Outcome>,
        attempt: Option<&Attempt>,
    ) {
        if matches!(outcome.verdict, Verdict::Lost { .. })
            && record.losses_alone >= limit::LOST_ALONE_MAX
        {
            let last = record.history.last().map(|past| &past.attempt);
            let reason = format!("it has lost {} workers", record.losses);
            self.announce(record, TaskEvent::Quarantined, last, reason);
        }
        let (what, reason) = match &outcome.verdict {
            Verdict::Completed => (TaskEvent::Completed, "".to_string()),
            Verdict::Cancelled => (TaskEvent::Cancelled, "".to_string()),
            other => (TaskEvent::Failed, other.reason()),
        };
        self.announce(record, what, attempt, reason);
        let ended = TaskEnded { task: record.id, outcome };
        let (audience, group) = (record.audience(), record.spec.group.clone());
        let (times, spans) = (record.times(), record.spans());
        self.outbox.push(Effect::Tell { audience, ended, group, times, spans });
    }
}
