//! After the loss of a worker its tasks run on another worker in time, and never twice at once.

use muster_tests::{Fleet, fleet::wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The promise with default timings: at most `L_m` after the last renewal, plus the dispatch.
const ELSEWHERE_WITHIN: Duration = Duration::from_millis(5_500);

pub(crate) const LONG: &str = r#"{"from":1,"to":100000000000}"#;

/// Starts a long task and waits until it runs. Returns its id and its worker.
pub(crate) fn start_long_task(fleet: &Fleet) -> (String, String) {
    fleet.push("primes");
    let task = fleet.run(&["task", "run", "primes", "--input", LONG]).ok().text();
    wait_for("it to run", || {
        fleet.run(&["task", "get", &task]).text().contains("progress ").then_some(())
    });
    let worker = fleet.record(&task)["state"]["dispatched"]["worker"].clone();
    (task, worker.as_str().expect("a worker").to_string())
}

pub(crate) fn worker_of(record: &serde_json::Value) -> Option<&str> {
    record["state"]["dispatched"]["worker"].as_str()
}

#[test]
fn a_killed_workers_task_runs_elsewhere_within_five_and_a_half_seconds() {
    let mut fleet = Fleet::start(2, 1);
    let (task, worker) = start_long_task(&fleet);
    let killed = Instant::now();
    fleet.kill(&worker);
    let record = fleet.until("another worker to have it", &task, |record| {
        worker_of(record).is_some_and(|other| other != worker)
    });
    let took = killed.elapsed();
    assert!(took < ELSEWHERE_WITHIN, "it took {took:?}");
    println!("elsewhere after {took:?}");
    let history = record["history"].as_array().expect("a history");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["worker"], worker.as_str());
    assert_eq!(history[0]["reason"], format!("worker {worker} was lost"));
    assert_eq!(record["losses"], 1);
    let shown = fleet.run(&["task", "history", &task]).ok().text();
    assert!(shown.contains("w1") && shown.contains("w2") && shown.contains("was lost"), "{shown}");
    let events = fleet.run(&["events", "--since", "1m"]).ok().text();
    assert!(events.contains("worker.lost") && events.contains("task.redispatched"), "{events}");
    let steps = timeline(&fleet, &task, "redispatched");
    let by = |number: u64, worker: &str| json!([number, worker, "m1"]);
    assert_eq!(steps[0], ("submitted".into(), json!([null, null, null])), "{steps:?}");
    assert_eq!(steps[1], ("dispatched".into(), by(1, &worker)), "{steps:?}");
    assert_eq!(steps[2], ("lost".into(), by(1, &worker)), "{steps:?}");
    let other = worker_of(&record).expect("a worker");
    assert_eq!(steps[3], ("redispatched".into(), by(2, other)), "{steps:?}");
}

/// What happened to a task, with the number of the attempt, its worker, and the master that decided it; once this has
/// happened.
fn timeline(fleet: &Fleet, task: &str, what: &str) -> Vec<(String, Value)> {
    wait_for(what, || {
        let shown = fleet.run(&["-o", "json", "task", "history", task]).ok().json();
        let lines = shown["timeline"].as_array().expect("a timeline").clone();
        let step = |line: &Value| {
            let what = line["what"].as_str().expect("a word").to_owned();
            (what, json!([line["number"], line["worker"], line["by"]]))
        };
        let is_decided = |line: &Value| line["what"] == what && !line["by"].is_null();
        lines.iter().any(is_decided).then(|| lines.iter().map(step).collect())
    })
}

#[test]
fn a_stopped_worker_is_fenced_and_its_late_outcome_refused() {
    let mut fleet = Fleet::start(2, 1);
    let (task, worker) = start_long_task(&fleet);
    fleet.signal(&worker, Signal::STOP);
    fleet.until("another worker to have it", &task, |record| {
        worker_of(record).is_some_and(|other| other != worker)
    });
    fleet.signal(&worker, Signal::CONT);
    // The kernel has killed the stopped process; its supervisor starts another one.
    wait_for("it to be noticed", || {
        fleet.log(&worker).contains("was ended by signal 9").then_some(())
    });
    // The worker comes back with a new session and without runs.
    wait_for("it to come back", || {
        let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
        let all = workers["workers"].as_array()?.clone();
        let back = all.iter().find(|view| view["lease"]["worker"] == worker.as_str())?;
        (back["lease"]["standing"] == "live").then_some(())
    });
    let record = fleet.record(&task);
    assert_ne!(worker_of(&record), Some(worker.as_str()));
    assert_eq!(record["attempts"], 2);
    // Its new session proves that the runs of the one before it are over.
    let steps = timeline(&fleet, &task, "worker.joined");
    assert!(steps.contains(&("worker.joined".into(), json!([null, worker, "m1"]))), "{steps:?}");
    fleet.kill(&worker);
}

#[test]
fn a_restarted_workers_attempts_are_given_out_at_once() {
    let mut fleet = Fleet::start(1, 1);
    let (task, worker) = start_long_task(&fleet);
    fleet.kill(&worker);
    let restarted = Instant::now();
    fleet.start_worker(&worker, &["--slots", "1"]);
    let record = fleet.until("a second attempt", &task, |record| record["attempts"] == 2);
    let took = restarted.elapsed();
    assert!(
        took < Duration::from_secs(3),
        "the lock proves the old session over; it took {took:?}"
    );
    assert_eq!(worker_of(&record), Some(worker.as_str()));
}

#[test]
fn a_worker_without_a_way_to_nats_works_through_its_master() {
    let mut fleet = Fleet::start(0, 1);
    fleet.start_worker_without_nats("w1", &["--slots", "1"]);
    fleet.push("upper");
    let ran = fleet.run_with(&["task", "run", "upper", "--input", "-", "--wait"], b"far away");
    assert_eq!(ran.ok().text(), "FAR AWAY");
    // Longer than the lease lasts: the worker renews the lease through the master.
    fleet.push("primes");
    let (task, _) = start_long_task(&fleet);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(fleet.record(&task)["attempts"], 1, "its lease was renewed all the time");
}
