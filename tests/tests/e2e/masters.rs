//! Several masters, a registry that is down, and commands of operators.

use crate::failover::{LONG, start_long_task, worker_of};
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use std::{
    process::Stdio,
    time::{Duration, Instant},
};

/// The tasks in progress when NATS goes down: several seconds of work.
const LOAD: usize = 20_000;

/// Longer than any lease: only a worker's home can have kept it alive.
const OUTAGE: Duration = Duration::from_secs(30);

/// The limit for the work that waited: four times the promise, because the machine may be busy.
/// BENCHMARKS.md has the time on a quiet machine.
const DRAINED_WITHIN: Duration = Duration::from_secs(20);

/// The promise for the loss of a master.
const DELAYED_AT_MOST: Duration = Duration::from_secs(3);

/// Two masters and two workers of two slots.
fn two_of_each() -> Fleet {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    fleet.start_master("m2");
    for worker in ["w1", "w2"] {
        fleet.start_worker(worker, &["--slots", "2"]);
    }
    fleet
}

fn standing(fleet: &Fleet, worker: &str) -> String {
    let view = fleet.run(&["-o", "json", "worker", "get", worker]).ok().json();
    view["lease"]["standing"].as_str().expect("a word").to_string()
}

#[test]
fn half_a_minute_without_nats_kills_no_run_and_what_waited_is_done_soon_after() {
    let mut fleet = two_of_each();
    fleet.push("upper");
    let (task, worker) = start_long_task(&fleet);
    let inputs = fleet.path("inputs");
    std::fs::write(&inputs, "\"load\"\n".repeat(LOAD)).expect("a file");
    let mut map = fleet
        .muster(&["map", "upper", text(&inputs), "--unordered"])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(fleet.path("results")).expect("a file"))
        .stderr(std::fs::File::create(fleet.path("map.log")).expect("a file"))
        .spawn()
        .expect("muster starts");
    wait_for("it to be under way", || (lines(&fleet) > LOAD / 10).then_some(()));
    fleet.kill("nats-server");
    std::thread::sleep(OUTAGE);
    assert!(map.try_wait().expect("a child").is_none(), "it was over before the outage");
    let before = lines(&fleet);
    fleet.start_nats();
    let back = Instant::now();
    let status = map.wait().expect("it ends");
    let took = back.elapsed();
    println!("{} of {LOAD} were left, and done {took:?} after the return", LOAD - before);
    assert!(status.success(), "{status}");
    assert_eq!(lines(&fleet), LOAD, "one result each");
    let record = fleet.record(&task);
    assert_eq!((record["attempts"].as_u64(), worker_of(&record)), (Some(1), Some(&*worker)));
    assert!(took < DRAINED_WITHIN, "{took:?}");
    for name in ["w1", "w2"] {
        assert!(!fleet.log(name).contains("lapsed"), "{name} was fenced: {}", fleet.log(name));
    }
    let events = fleet.run(&["events", "--since", "5m"]).ok().text();
    assert!(events.contains("registry.degraded"), "{events}");
}

fn lines(fleet: &Fleet) -> usize {
    std::fs::read_to_string(fleet.path("results")).unwrap_or_default().lines().count()
}

#[test]
fn a_killed_master_delays_what_is_submitted_then_by_less_than_three_seconds() {
    for killed in ["m1", "m2"] {
        let mut fleet = two_of_each();
        fleet.push("upper");
        let (task, _) = start_long_task(&fleet);
        fleet.kill(killed);
        let submitted = Instant::now();
        fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
        let took = submitted.elapsed();
        println!("{took:?} after the end of {killed}");
        assert!(took < DELAYED_AT_MOST, "{took:?} after the end of {killed}");
        assert_eq!(fleet.record(&task)["attempts"], 1, "runs go on");
    }
}

#[test]
fn a_master_and_a_worker_that_die_at_once_are_both_replaced() {
    let mut fleet = Fleet::start(2, 1);
    let (task, worker) = start_long_task(&fleet);
    fleet.kill(&worker);
    fleet.kill("m1");
    // Its state directory proves that the earlier process does not extend the dead worker's lease any
    // more.
    fleet.start_master("m1");
    let died = Instant::now();
    fleet.until("another worker to have it", &task, |record| {
        worker_of(record).is_some_and(|other| other != worker)
    });
    let took = died.elapsed();
    println!("elsewhere after {took:?}");
    assert!(took < Duration::from_secs(12), "two waits of 4.5 s, one after the other: {took:?}");
}

#[test]
fn a_drained_worker_gives_its_run_to_another_and_takes_none_until_told_to() {
    let mut fleet = Fleet::start(2, 1);
    let (task, worker) = start_long_task(&fleet);
    fleet.run(&["worker", "drain", &worker, "--deadline", "500ms"]).ok();
    assert_eq!(standing(&fleet, &worker), "draining");
    let record = fleet.until("another worker to have it", &task, |record| {
        worker_of(record).is_some_and(|other| other != worker)
    });
    assert_eq!((&record["losses"], &record["failures"]), (&0.into(), &0.into()));
    let reason = record["history"][0]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("given back"), "{reason}");
    fleet.push("upper");
    let waits = fleet.run(&["task", "run", "upper", "--input", "b"]).ok().text();
    let explained = fleet.run(&["task", "explain", &waits]).ok().text();
    assert!(explained.contains("slots"), "{explained}");
    // The worker stays cordoned after a restart.
    fleet.kill(&worker);
    fleet.start_worker(&worker, &["--slots", "1"]);
    assert_eq!(standing(&fleet, &worker), "cordoned");
    fleet.run(&["worker", "uncordon", &worker]).ok();
    assert_eq!(standing(&fleet, &worker), "live");
    fleet.until("it to run", &waits, |record| !record["state"]["done"].is_null());
}

#[test]
fn a_cordoned_worker_keeps_its_run() {
    let fleet = Fleet::start(1, 2);
    let (task, worker) = start_long_task(&fleet);
    fleet.run(&["worker", "cordon", &worker]).ok();
    fleet.push("upper");
    let waits = fleet.run(&["task", "run", "upper", "--input", "b"]).ok().text();
    let explained = fleet.run(&["task", "explain", &waits]).ok().text();
    assert!(explained.contains("takes new attempts"), "{explained}");
    fleet.run(&["worker", "uncordon", &worker]).ok();
    fleet.until("it to run", &waits, |record| !record["state"]["done"].is_null());
    assert_eq!(fleet.record(&task)["attempts"], 1);
    let unknown = fleet.run(&["worker", "cordon", "nobody"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
}

#[test]
fn an_urgent_task_takes_the_place_of_one_that_can_wait() {
    let fleet = Fleet::start(1, 1);
    fleet.push("primes");
    fleet.push("upper");
    let long = ["task", "run", "primes", "--input", LONG, "--priority", "10"];
    let task = fleet.run(&long).ok().text();
    wait_for("it to run", || {
        fleet.run(&["task", "get", &task]).text().contains("progress ").then_some(())
    });
    let urgent = ["task", "run", "upper", "--input", "now", "--priority", "90", "--wait"];
    assert_eq!(fleet.run(&urgent).ok().text(), "NOW");
    let record = fleet.until("it to run again", &task, |record| record["attempts"] == 2);
    assert_eq!((&record["losses"], &record["failures"]), (&0.into(), &0.into()));
}
