//! An attempt's checkpoint outlives its worker: the next attempt resumes from the checkpoint, and not
//! from the start.

use muster_tests::{Fleet, fleet::wait_for};
use serde_json::Value;

/// About ten seconds of work for one core, in eight checkpoint intervals of the example.
const RANGE: &str = r#"{"from":1,"to":4000000000}"#;

/// The number of primes up to four thousand million, as in any table.
const COUNT: u64 = 189_961_812;

/// Numbers from one checkpoint of the example to the next.
const INTERVAL: u64 = 1_000 * 512 * 1024;

/// The number that follows `words` in a log.
fn number_after(log: &str, words: &str) -> Option<u64> {
    let rest = log[log.find(words)? + words.len()..].trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn a_killed_workers_task_goes_on_from_its_last_checkpoint() {
    let mut fleet = Fleet::start(2, 1);
    fleet.push("primes");
    let task = fleet.run(&["task", "run", "primes", "--input", RANGE]).ok().text();
    // In the middle of the fourth interval, so that three checkpoints exist.
    let done = wait_for("it to be half done", || {
        let shown = fleet.run(&["task", "get", &task]).text();
        number_after(&shown, "progress ").filter(|done| *done > 3 * INTERVAL + INTERVAL / 2)
    });
    let record = fleet.record(&task);
    let worker = record["state"]["dispatched"]["worker"].as_str().expect("it runs").to_string();
    fleet.kill(&worker);

    let record = fleet.until("its end", &task, |record| !record["state"]["done"].is_null());
    assert_eq!(record["attempts"], 2);
    let found: Value = fleet.run(&["task", "result", &task]).ok().json();
    assert_eq!(found["count"], COUNT, "{found}");

    let log = wait_for("its log", || {
        let log = fleet.run(&["task", "logs", &task]).text();
        log.contains("going on from").then_some(log)
    });
    let from = number_after(&log, "going on from ").expect("it says from where");
    println!("killed at {done} at least, went on from {from}");
    assert_eq!((from - 3) % INTERVAL, 0, "{from} is where a checkpoint was");
    assert!(from + INTERVAL > done, "{from} is more than an interval before {done}");
    assert_eq!(log.matches("counting the primes from 1 ").count(), 1, "{log}");
}
