//! Measures promised times of a whole fleet. Run with `cargo nextest run --run-ignored only measure`.

use crate::process_end::{LONG, attempts, boottime_ns, journaled, stamps};
use muster_tests::{Fleet, fleet::text, fleet::wait_for};
use rustix::process::Signal;
use std::time::Duration;

/// From `kill -9` to the first instruction of the next attempt.
const AGAIN_MAX: Duration = Duration::from_millis(200);

/// From the end of a lease to the end of the last of the worker's many runs.
const LAPSE_MAX: Duration = Duration::from_millis(20);

const KILLS: usize = 25;

/// The number of kills in the comparison.
const KILLS_BESIDE: usize = 6;

const GUESTS: usize = 500;

/// How long a worker's process must live so that the supervisor restarts it at once after a crash, with
/// a margin.
const GOOD_LIFE: Duration = Duration::from_millis(5_200);

pub fn tell(what: &str, times: &mut [Duration]) -> [Duration; 3] {
    times.sort();
    let rank = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let [p50, p99, most] = [rank(50), rank(99), rank(100)];
    println!("{what}: p50 {p50:?}, p99 {p99:?}, most {most:?} of {}", times.len());
    [p50, p99, most]
}

#[test]
#[ignore = "a measurement, of some minutes"]
fn measure_restarts() {
    let [_, p99, _] = restarts("with compiled code kept", KILLS, &[]);
    restarts("without", KILLS_BESIDE, &["--code-cache-mib", "0"]);
    assert!(p99 < AGAIN_MAX, "{p99:?}");
}

fn restarts(how: &str, kills: usize, options: &[&str]) -> [Duration; 3] {
    let (fleet, journal) = journaled(options);
    let mut times = Vec::new();
    let mut task = fleet.run(&["task", "run", "primes", "--input", LONG]).ok().text();
    for number in 1..=kills {
        // A task is given up after five losses, so each task is used for four.
        if number % 4 == 0 {
            fleet.run(&["task", "cancel", &task]).ok();
            task = fleet.run(&["task", "run", "primes", "--input", LONG]).ok().text();
        }
        let before = fleet.record(&task)["attempts"].as_u64().expect("a number");
        fleet.until("it to run", &task, |record| !record["state"]["dispatched"].is_null());
        std::thread::sleep(GOOD_LIFE);
        let known = attempts(&fleet, &journal, "started").len();
        let killed = boottime_ns();
        fleet.signal_child("w1", Signal::KILL);
        let (_, at) = wait_for("the next attempt", || {
            let started = attempts(&fleet, &journal, "started");
            started.get(known).cloned()
        });
        fleet.until("its record", &task, |record| record["attempts"].as_u64() > Some(before));
        times.push(Duration::from_nanos(at - killed));
    }
    tell(&format!("from kill -9 to the first instruction of the next attempt, {how}"), &mut times)
}

#[test]
#[ignore = "a measurement, with hundreds of guests that spin"]
fn measure_the_end_of_a_full_worker() {
    let mut fleet = Fleet::start(0, 1);
    let journal = fleet.path("journal");
    let slots = GUESTS.to_string();
    fleet.start_worker("w1", &["--slots", &slots, "--journal", text(&journal), "--unsupervised"]);
    fleet.push("spin-forever");
    fleet.run(&["task", "run", "spin-forever", "--count", &slots, "--timeout", "1h"]).ok();
    wait_for("all to run", || {
        let started = stamps(&fleet.journal(&journal), "started");
        (started.len() == GUESTS).then_some(())
    });
    // The worker cannot reach anything: no renewal is answered.
    fleet.signal("nats-server", Signal::STOP);
    fleet.signal("m1", Signal::STOP);
    let lines = wait_for("all to end", || {
        let lines = fleet.journal(&journal);
        (stamps(&lines, "ended").len() == GUESTS).then_some(lines)
    });
    let lapsed = lines.iter().find(|line| line["what"] == "lapsed").expect("it lapsed");
    let until = lapsed["until_ns"].as_u64().expect("a stamp");
    println!("noticed {:?} after", Duration::from_nanos(stamps(&lines, "lapsed")[0] - until));
    let ended = stamps(&lines, "ended");
    assert!(ended.iter().all(|&at| at >= until), "one ended before the lease did");
    let mut times: Vec<Duration> =
        ended.into_iter().map(|at| Duration::from_nanos(at - until)).collect();
    let [_, p99, _] = tell("from the lease's end to the end of a run", &mut times);
    assert!(p99 <= LAPSE_MAX, "{p99:?}");
}
