//! A worker whose host has a shortage reports it in its lease, gets no task while another worker has a
//! free slot, and is used again when the shortage is over. All of that happens without a restart.

use muster_tests::{
    Fleet,
    fleet::{self, Scarce, wait_for},
};
use serde_json::Value;

/// The shortage in a worker's lease, if there is one.
fn lacks(fleet: &Fleet, worker: &str) -> Option<String> {
    let listed = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    let workers = listed["workers"].as_array().expect("a list");
    let found = workers.iter().find(|view| view["lease"]["worker"] == worker).expect("it is there");
    found["lease"]["unwell"].as_str().map(Into::into)
}

/// Runs a task to its end. Returns the worker that ran it, and the number of its attempt.
fn run(fleet: &Fleet, module: &str) -> (String, u64) {
    let task = fleet.run(&["task", "run", module, "--input", "a"]).ok().text();
    by(&fleet.until("its end", &task, |record| !record["state"]["done"].is_null()))
}

fn by(record: &Value) -> (String, u64) {
    let worker = record["state"]["done"]["attempt"]["worker"].as_str().unwrap_or_default();
    (worker.into(), record["attempts"].as_u64().unwrap_or_default())
}

/// w1 has a shortage: its lease reports it, and w2 gets the tasks. The reported reason changes with the
/// latest failure; the advice does not.
fn is_spared(fleet: &Fleet, module: &str, remedy: &str) {
    let reason = wait_for("its lease to say so", || lacks(fleet, "w1"));
    assert!(reason.contains(remedy), "{reason}");
    assert_eq!(lacks(fleet, "w2"), None);
    for _ in 0..2 {
        assert_eq!(run(fleet, module), ("w2".into(), 1));
    }
    let listed = fleet.run(&["worker", "ls"]).ok().text();
    assert!(listed.contains("unwell") && listed.contains(remedy), "{listed}");
    let check = fleet.run(&["check"]);
    assert_eq!(check.code, 1, "{check:?}");
    let found = check.text();
    let told = found.lines().find(|line| line.contains("w1 lacks something: "));
    assert!(told.is_some_and(|line| line.contains(remedy)), "{found}");
}

/// Demands that the worker is used again after the end of the shortage.
fn is_used_again(fleet: &Fleet, module: &str, pid: Option<i32>) {
    wait_for("it to be well again", || lacks(fleet, "w1").is_none().then_some(()));
    assert_eq!(run(fleet, module), ("w1".into(), 1));
    assert_eq!(fleet.child_pid("w1"), pid, "no restart");
    let events = fleet.run(&["events", "--since", "1h"]).ok().text();
    for what in ["worker.unwell w1", "worker.well w1"] {
        assert!(events.contains(what), "{what}: {events}");
    }
    fleet.run(&["check"]).ok();
}

#[test]
fn a_worker_with_few_files_says_so_and_is_spared_until_it_has_more() {
    let mut fleet = Fleet::start(2, 2);
    fleet.push("upper");
    let pid = fleet.child_pid("w1");
    // The worker keeps the files that it has open beyond this limit.
    assert!(fleet.limit("w1", Scarce::Files, Some(3)));
    let task = fleet.run(&["task", "run", "upper", "--input", "a"]).ok().text();
    is_spared(&fleet, "upper", "LimitNOFILE=");
    let record = fleet.until("its end", &task, |record| !record["state"]["done"].is_null());
    assert_eq!(by(&record), ("w2".into(), 2), "{record}");
    fleet.limit("w1", Scarce::Files, None);
    is_used_again(&fleet, "upper", pid);
}

#[test]
fn a_worker_that_can_start_no_process_says_so_without_a_task() {
    if !Scarce::Processes.can_be() {
        return eprintln!("not tested: the superuser's processes cannot be limited here");
    }
    let mut fleet = Fleet::start(2, 2);
    fleet.push("upper");
    let pid = fleet.child_pid("w1");
    assert!(fleet.limit("w1", Scarce::Processes, Some(1)), "nobody was limited");
    is_spared(&fleet, "upper", "TasksMax=");
    fleet.limit("w1", Scarce::Processes, None);
    is_used_again(&fleet, "upper", pid);
}

#[test]
fn an_idle_worker_with_a_full_disk_says_so_until_there_is_room() {
    let mut fleet = Fleet::start(0, 2);
    let Some(disk) = fleet.start_worker_on_a_small_disk("w1", &["--slots", "2"]) else {
        return eprintln!("not tested: a mount namespace cannot be made here");
    };
    fleet.start_worker("w2", &["--slots", "2"]);
    fleet.push("upper");
    let pid = fleet.child_pid("w1");
    fleet::fill(&disk).expect("it can be written");
    is_spared(&fleet, "upper", "free some space");
    fleet::free(&disk);
    is_used_again(&fleet, "upper", pid);
}
