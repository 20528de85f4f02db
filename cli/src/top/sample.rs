//! A fleet that tests show. Never used outside of tests.

use super::{
    facts::{Reading, TaskPage},
    model::Model,
    now::Now,
};
use muster_protocol::{
    AttemptId, SessionId, TaskId,
    api::{GroupLoad, GroupLoads, NextTask, TaskView, Transport, WorkerView},
    lease::{Lease, LeaseState},
    task::{Attempt, Outcome, PastAttempt, TaskRecord, TaskSpec, TaskState, Verdict},
    time::WallMillis,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// When the tasks were submitted.
const SUBMITTED: u64 = 1_767_225_600_000;

/// A minute later.
pub(super) fn now() -> Now {
    Now { wall: WallMillis(SUBMITTED + 60_000), uptime: Duration::from_secs(100) }
}

fn at(after_ms: u64) -> WallMillis {
    WallMillis(SUBMITTED + after_ms)
}

pub(super) fn worker(name: &str, group: &str, runs: u128) -> WorkerView {
    let mut lease = Lease::new(name.parse().expect("a name"), SessionId(1));
    lease.renewed_at = at(59_000);
    lease.offer.group = group.parse().expect("a name");
    lease.offer.slots = 4;
    lease.offer.version = "0.2.0".into();
    lease.offer.labels.insert("region".into(), "e\u{1b}[2Ju".into());
    WorkerView {
        lease,
        revision: serde_json::from_str("1").expect("a revision"),
        linked: true,
        transport: Some(Transport::Quic),
        denied: None,
        attempts: (0..runs).map(TaskId).collect(),
        upgrade: None,
    }
}

fn spec() -> Arc<TaskSpec> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let spec = json!({
        "group": "shops",
        "module": { "name": "primes:1", "digest": digest },
        "input": { "text": "" },
    });
    serde_json::from_value(spec).expect("a specification")
}

/// A task that waits, and why.
pub(super) fn queued(id: u128, why: &str) -> TaskView {
    TaskView { record: TaskRecord::queued(TaskId(id), spec(), at(0)), why: why.into() }
}

fn attempt(number: u32, worker: &str, dispatched_at: WallMillis) -> Attempt {
    let attempt = json!({
        "id": AttemptId(u64::from(number)), "number": number, "worker": worker, "session": SessionId(1), "lease": 1,
        "dispatched_at": dispatched_at,
    });
    serde_json::from_value(attempt).expect("an attempt")
}

/// A task that a worker runs.
pub(super) fn running(id: u128, worker: &str) -> TaskView {
    let mut view = queued(id, &format!("given to worker {worker}"));
    view.record.state = TaskState::Dispatched(attempt(1, worker, at(5_100)));
    view.record.attempts = 1;
    view
}

/// The same, and an earlier attempt that was lost with this worker.
pub(super) fn lose(view: &mut TaskView, worker: &str) {
    let TaskState::Dispatched(now) = &mut view.record.state else { panic!("it runs") };
    (now.number, view.record.attempts) = (2, 2);
    view.record.history.push(PastAttempt {
        attempt: attempt(1, worker, at(20)),
        ended_at: at(5_000),
        lost: true,
        reason: format!("its worker {worker} was lost"),
    });
}

/// The same, completed.
pub(super) fn complete(view: &mut TaskView) {
    let TaskState::Dispatched(attempt) = view.record.state.clone() else { panic!("it runs") };
    let outcome = Outcome { run_us: 2_000_000, ..Outcome::bare(Verdict::Completed) };
    view.record.state =
        TaskState::Done { outcome: Arc::new(outcome), attempt: Some(attempt), ended_at: at(8_000) };
    view.why = "completed".into();
}

/// A group in which so many tasks wait, and why.
fn load(group: &str, queued: u64, why: &str) -> GroupLoad {
    let next = NextTask { task: TaskId(1), why: why.into() };
    GroupLoad {
        group: group.parse().expect("a name"),
        queued,
        waited_ms: (queued > 0).then_some(90_000),
        next: (queued > 0).then_some(next),
        ..GroupLoad::default()
    }
}

/// Three workers, a task that runs and three that wait, and a failover.
pub(super) fn model() -> Model {
    let mut model = Model::new("default");
    let mut unlinked = worker("w2", "shops", 0);
    (unlinked.linked, unlinked.transport) = (false, None);
    unlinked.lease.state = LeaseState::Draining;
    let wait = "all slots of the 1 workers of group shops that fit are taken";
    let reading = Reading {
        workers: vec![worker("w1", "shops", 4), unlinked, worker("w3", "edge", 0)],
        running: Ok(TaskPage { tasks: vec![running(4, "w1")], is_cut: false }),
        queued: Ok(TaskPage { tasks: (1..=3).map(|id| queued(id, wait)).collect(), is_cut: true }),
        loads: Ok(GroupLoads {
            groups: vec![load("shops", 250, wait), load("yard", 0, "")],
            ..GroupLoads::default()
        }),
        next_in: Duration::from_secs(1),
        ..Reading::default()
    };
    model.facts.read(reading, now());
    let lost = br#"{"id":"a","timestamp":"2026-01-01T00:00:48Z","worker":"w4","reason":"its lease lapsed"}"#;
    model.facts.log.read("muster.default.event.shops.worker.lost.w4", &lost.as_slice().into());
    let ended = br#"{"id":"b","timestamp":"?","tasks":[{"task":"t1","worker":"w1"}]}"#;
    for second in 90..100 {
        let now = Now { uptime: Duration::from_secs(second), ..now() };
        model.facts.log.heard(
            "muster.default.event.shops.task.completed.b",
            &ended.as_slice().into(),
            now,
        );
    }
    model
}
