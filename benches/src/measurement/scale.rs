//! The master's mind with 10,000 workers and up to a million waiting tasks, in simulated time: what a
//! task costs in memory, and an event in time. Never says anything of a network or a disk: both are
//! left out, and the registry answers at once.
//!
//! A time of an event is that of telling it and of its share of the plan that follows each thousand,
//! as in the master's loop when it is busy; the median of some rounds is given. A value of many waiting
//! tasks is held against the same of the fewest: what grows with the logarithm of their number grows by
//! half from ten thousand to a million, and by what the processor's caches do not hold.

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

/// Waiting tasks, the most first: memory that is given back by one must not be there for the next.
const QUEUED: [usize; 3] = [1_000_000, 100_000, 10_000];

/// Rounds of each kind of event.
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

/// Waiting tasks that are cancelled, from the head of the line to its end.
const CANCELLED: usize = 5_000;

/// What was measured with so many waiting tasks, and for the first of them what a task costs.
struct Seen {
    queued: usize,
    bytes_a_task: f64,
    /// By kind of event, in nanoseconds.
    events: Vec<(&'static str, f64)>,
    /// Things that concern every task at once, in milliseconds.
    sweeps: Vec<(&'static str, f64)>,
}

/// Measures, and gives the rows.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let seen = QUEUED.into_iter().map(look).collect::<anyhow::Result<Vec<_>>>()?;
    let (most, least) = (seen.first().context("the most")?, seen.last().context("the fewest")?);
    let name = |queued: usize, what: &str| format!("mind, {} queued: {what}", thousands(queued));
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

/// A mind with so many waiting tasks.
fn look(queued: usize) -> anyhow::Result<Seen> {
    let mut mind = FleetRig::new(WORKERS, 1, unlabelled);
    mind.fill(WORKERS);
    anyhow::ensure!(mind.held() == WORKERS, "every slot is taken");
    let before = resident()?;
    mind.fill(queued);
    let bytes_a_task = (resident()? - before) / queued as f64;
    anyhow::ensure!(mind.open() == WORKERS + queued, "the others wait");

    let mut events: Vec<_> = EVENTS.into_iter().map(|what| (what, Vec::new())).collect();
    let mut count = |kind: usize, took: Duration, of: usize| {
        events[kind].1.push(took.as_secs_f64() * 1e9 / of as f64);
    };
    for _ in 0..ROUNDS {
        let submission = mind.submission(BATCH, noop);
        count(0, mind.tell(vec![submission]), BATCH);
        count(1, mind.answer_all(), BATCH);
        // Its end is committed, and the next in line is placed: two writes.
        count(2, mind.finish(BATCH), BATCH);
        count(3, mind.answer_all(), 2 * BATCH);
    }
    let first = WORKERS + ROUNDS * BATCH;
    let waiting: Vec<_> = (first..first + queued).step_by(queued / CANCELLED).collect();
    for some in waiting.chunks(CANCELLED / ROUNDS) {
        count(4, mind.cancel(some.iter().map(|&number| number as u64)), some.len());
    }
    anyhow::ensure!(mind.open() == WORKERS + queued - CANCELLED, "those have ended");
    for _ in 0..ROUNDS {
        count(5, mind.renew(), WORKERS);
    }
    let events = events.into_iter().map(|(what, rounds)| (what, median(&rounds))).collect();
    let another = mind.hear_of_a_master();
    drop(mind);
    let (mind, learning, planning) = FleetRig::load(WORKERS, 1, queued as u64);
    anyhow::ensure!(mind.open() == queued, "all are known");
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    let sweeps = vec![
        ("another master appears", millis(another)),
        ("a new life hears of all", millis(learning)),
        ("and plans for the first time", millis(planning)),
    ];
    Ok(Seen { queued, bytes_a_task, events, sweeps })
}

/// Memory that this process has, in bytes.
fn resident() -> anyhow::Result<f64> {
    Ok(usage::memory(std::process::id())?.resident as f64)
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}
