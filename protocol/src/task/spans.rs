//! The spans of a task, by what its record says, and of its runs. Their ids follow from those of tasks and attempts, so that
//! client, master and worker need not tell each other any. For people: the times are those of wall clocks.

use super::{Attempt, TaskRecord, TaskState, Verdict, mix};
use crate::{
    AttemptId,
    time::WallMillis,
    trace::{Span, TraceContext},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// The span of a run that a worker has made, below that of its attempt.
pub fn run_span(context: TraceContext, attempt: AttemptId) -> u64 {
    span(context, attempt.0, 2)
}

fn attempt_span(context: TraceContext, attempt: AttemptId) -> u64 {
    span(context, attempt.0, 1)
}

/// A span of this trace. Two kinds of spans of one thing differ, and 0 is none.
fn span(context: TraceContext, of: u64, kind: u64) -> u64 {
    mix(of ^ mix(context.parent ^ kind)).max(1)
}

/// The span of a run on a worker.
pub fn span_of_run(
    context: TraceContext,
    attempt: AttemptId,
    times_ns: (u64, u64),
    verdict: Result<&Verdict, &str>,
) -> Span {
    let failed = match verdict {
        Ok(verdict) => failure(verdict),
        Err(killed) => Some(format!("killed: {killed}")),
    };
    Span {
        trace: context.trace,
        id: run_span(context, attempt),
        parent: Some(attempt_span(context, attempt)),
        name: "run",
        times_ns,
        failed,
        attributes: [("muster.attempt", attempt.to_string())].into(),
    }
}

impl TaskRecord {
    /// The spans of a task that is over, by what its record says: the task, its wait before the first attempt, and each
    /// attempt. None if its client wants no trace.
    pub fn spans(&self) -> Vec<Span> {
        let Some(context) = self.spec.trace.filter(|context| context.sampled) else {
            return Vec::new();
        };
        let TaskState::Done { outcome, ended_at, .. } = &self.state else { return Vec::new() };
        let id = self.id.0 as u64 ^ (self.id.0 >> 64) as u64;
        let task = span(context, id, 3);
        let times = |from: WallMillis, to: WallMillis| {
            let ns = |at: WallMillis| at.0.saturating_mul(1_000_000);
            (ns(from), ns(to).max(ns(from)))
        };
        let mut attributes = Vec::from([
            ("muster.task", self.id.to_string()),
            ("muster.group", self.spec.group.to_string()),
            ("muster.verdict", outcome.verdict.word().into()),
        ]);
        attributes.extend(self.spec.module.name.clone().map(|name| ("muster.module", name)));
        let mut spans = Vec::from([Span {
            trace: context.trace,
            id: task,
            parent: Some(context.parent),
            name: "task",
            times_ns: times(self.submitted_at, *ended_at),
            failed: failure(&outcome.verdict),
            attributes,
        }]);
        let mut attempt = |of: &Attempt, ended: WallMillis, failed| {
            if of.number == 1 {
                spans.push(Span {
                    trace: context.trace,
                    id: span(context, id, 4),
                    parent: Some(task),
                    name: "queued",
                    times_ns: times(self.submitted_at, of.dispatched_at),
                    failed: None,
                    attributes: Vec::new(),
                });
            }
            spans.push(Span {
                trace: context.trace,
                id: attempt_span(context, of.id),
                parent: Some(task),
                name: "attempt",
                times_ns: times(of.dispatched_at, ended),
                failed,
                attributes: [
                    ("muster.attempt", of.id.to_string()),
                    ("muster.worker", of.worker.to_string()),
                ]
                .into(),
            });
        };
        for past in &self.history {
            attempt(&past.attempt, past.ended_at, Some(past.reason.clone()));
        }
        if let Some(last) = self.state.last_attempt() {
            attempt(last, *ended_at, failure(&outcome.verdict));
        }
        spans
    }
}

fn failure(verdict: &Verdict) -> Option<String> {
    (*verdict != Verdict::Completed).then(|| verdict.reason())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        TaskId,
        task::{Outcome, PastAttempt, sample},
    };
    use alloc::{collections::BTreeSet, sync::Arc};

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_task_has_a_span_of_its_own_one_for_its_wait_and_one_for_each_attempt() {
        let context: TraceContext = TEXT.parse().expect("a context");
        let mut record = sample::queued(10);
        assert_eq!(record.spans(), [], "nobody wants a trace");
        Arc::make_mut(&mut record.spec).trace = Some(context);
        let (attempt, ended_at) = (sample::attempt(1, 100), WallMillis(150));
        let reason = String::from("its worker was lost");
        record.history = [PastAttempt { attempt, ended_at, lost: true, reason }].into();
        record.state = TaskState::Dispatched(sample::attempt(2, 200));
        assert_eq!(record.spans(), [], "it is not over");
        record.state = TaskState::Done {
            outcome: Arc::new(Outcome::bare(Verdict::Completed)),
            attempt: Some(sample::attempt(2, 200)),
            ended_at: WallMillis(300),
        };
        let spans = record.spans();
        let ms = |span: &Span| (span.times_ns.0 / 1_000_000, span.times_ns.1 / 1_000_000);
        let seen: Vec<_> =
            spans.iter().map(|span| (span.name, ms(span), span.failed.as_deref())).collect();
        let lost = Some("its worker was lost");
        assert_eq!(
            seen,
            [
                ("task", (10, 300), None),
                ("queued", (10, 100), None),
                ("attempt", (100, 150), lost),
                ("attempt", (200, 300), None),
            ]
        );
        assert_eq!(spans[0].parent, Some(context.parent));
        assert!(spans[1..].iter().all(|span| span.parent == Some(spans[0].id)));
        let run =
            span_of_run(context, sample::attempt(2, 200).id, (1, 2), Err("the lease is over"));
        assert_eq!((run.parent, run.trace), (Some(spans[3].id), context.trace));
        let ids: BTreeSet<u64> = spans.iter().map(|span| span.id).chain([run.id]).collect();
        assert_eq!(ids.len(), 5, "they differ");
        record.id = TaskId(record.id.0 + 1);
        assert!(!ids.contains(&record.spans()[0].id), "those of another task of the trace, too");
        Arc::make_mut(&mut record.spec).trace = Some(TraceContext { sampled: false, ..context });
        assert_eq!(record.spans(), [], "its caller records nothing");
    }
}
