//! The master's state machine with 10,000 workers and up to a million queued tasks, in simulated time:
//! the memory of a task, and the time of an event. Never includes a network or a disk: the registry
//! answers at once.
//!
//! The time of an event includes its share of the plan after each thousand events, as in the loop of a
//! busy master. The result is the median of some rounds. A value with many queued tasks is compared with
//! the value with the fewest. A time that grows with the logarithm of their number grows by half from
//! ten thousand to a million, plus the effect of the processor's caches.

use crate::{
    figures::median,
    fleet_rig::{BATCH, FleetRig, noop, unlabelled},
    measure::Measure,
    usage,
};
use anyhow::Context as _;
use std::time::Duration;

/// Workers of the fleet, each with one slot.
const WORKERS: usize = 10_000;

/// The numbers of queued tasks, the greatest first: memory that a smaller fleet frees must not be there
/// for a larger one.
const QUEUED: [usize; 3] = [1_000_000, 100_000, 10_000];

/// The number of rounds for each kind of event.
const ROUNDS: usize = 20;

/// The kinds of events.
const EVENTS: [&str; 6] = [
    "submission",
    "its record is stored",
    "an attempt's end, and another's place",
    "a write of either is stored",
    "a waiting task's cancellation",
    "a lease's renewal",
];

/// The number of queued tasks that are cancelled, evenly spread over the queue.
const CANCELLED: usize = 5_000;

/// The results for one number of queued tasks.
struct Seen {
    queued: usize,
    bytes_a_task: f64,
    /// The time of each kind of event, in nanoseconds.
    events: Vec<(&'static str, f64)>,
    /// The time of events that affect every task at once, in milliseconds.
    sweeps: Vec<(&'static str, f64)>,
}

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let seen = QUEUED.into_iter().map(look).collect::<anyhow::Result<Vec<_>>>()?;
    let (most, least) = (seen.first().context("the most")?, seen.last().context("the fewest")?);
    let name = |queued: usize, what: &str| format!("fleet, {} queued: {what}", thousands(queued));
    let mut rows = vec![Measure::new(name(most.queued, "memory a task"), most.bytes_a_task, "B")];
    for (at, &(what, base)) in least.events.iter().enumerate() {
        let base = Measure::new(name(least.queued, what), base, "ns");
        rows.push(base.clone());
        for seen in seen.iter().rev().skip(1) {
            rows.push(Measure::new(name(seen.queued, what), seen.events[at].1, "ns").to(&base));
        }
    }
    for &(what, took) in &most.sweeps {
        rows.push(Measure::new(name(most.queued, what), took, "ms"));
    }
    Ok(rows)
}

/// Measures a state machine with this many queued tasks.
fn look(queued: usize) -> anyhow::Result<Seen> {
    let mut rig = FleetRig::new(WORKERS, 1, unlabelled);
    rig.fill(WORKERS);
    anyhow::ensure!(rig.held() == WORKERS, "every slot is taken");
    let before = resident()?;
    rig.fill(queued);
    let bytes_a_task = (resident()? - before) / queued as f64;
    anyhow::ensure!(rig.open() == WORKERS + queued, "the others wait");

    let mut events: Vec<_> = EVENTS.into_iter().map(|what| (what, Vec::new())).collect();
    let mut count = |kind: usize, took: Duration, of: usize| {
        events[kind].1.push(took.as_secs_f64() * 1e9 / of as f64);
    };
    for _ in 0..ROUNDS {
        let submission = rig.submission(BATCH, noop);
        count(0, rig.tell(vec![submission]), BATCH);
        count(1, rig.answer_all(), BATCH);
        // The end of one task is committed, and the next task of the queue is placed: two writes.
        count(2, rig.finish(BATCH), BATCH);
        count(3, rig.answer_all(), 2 * BATCH);
    }
    let first = WORKERS + ROUNDS * BATCH;
    let waiting: Vec<_> = (first..first + queued).step_by(queued / CANCELLED).collect();
    for some in waiting.chunks(CANCELLED / ROUNDS) {
        count(4, rig.cancel(some.iter().map(|&number| number as u64)), some.len());
    }
    anyhow::ensure!(rig.open() == WORKERS + queued - CANCELLED, "those have ended");
    for _ in 0..ROUNDS {
        count(5, rig.renew(), WORKERS);
    }
    let events = events.into_iter().map(|(what, rounds)| (what, median(&rounds))).collect();
    let another = rig.hear_of_a_master();
    drop(rig);
    let (rig, learning, planning) = FleetRig::load(WORKERS, 1, queued as u64);
    anyhow::ensure!(rig.open() == queued, "all are known");
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    let sweeps = vec![
        ("another master appears", millis(another)),
        ("a new life hears of all", millis(learning)),
        ("and plans for the first time", millis(planning)),
    ];
    Ok(Seen { queued, bytes_a_task, events, sweeps })
}

/// The resident memory of this process, in bytes.
fn resident() -> anyhow::Result<f64> {
    Ok(usage::memory(std::process::id())?.resident as f64)
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}
