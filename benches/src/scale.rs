//! The master's mind with 10,000 workers and up to a million waiting tasks, in simulated time: what a
//! task costs in memory, and an event in time. Never says anything of a network or a disk: both are
//! left out, and the registry answers at once.
//!
//! A time of an event is that of telling it and of its share of the plan that follows each thousand,
//! as in the master's loop when it is busy. A value of many waiting tasks is held against the same of
//! the fewest: what grows with the logarithm of their number grows by half from ten thousand to a
//! million, and by what the processor's caches do not hold.

use crate::{
    measure::Measure,
    mind::{BATCH, Mind, noop, unlabelled},
};
use anyhow::Context as _;
use std::time::Duration;

/// Workers of the fleet, each with one slot.
const WORKERS: usize = 10_000;

/// Waiting tasks, the most first: memory that is given back by one must not be there for the next.
const QUEUED: [usize; 3] = [1_000_000, 100_000, 10_000];

/// Rounds of a thousand events of each kind.
const ROUNDS: usize = 20;

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
    let mut mind = Mind::new(WORKERS, 1, unlabelled);
    mind.fill(WORKERS);
    anyhow::ensure!(mind.held() == WORKERS, "every slot is taken");
    let before = resident()?;
    mind.fill(queued);
    let bytes_a_task = (resident()? - before) / queued as f64;
    anyhow::ensure!(mind.open() == WORKERS + queued, "the others wait");

    let [mut submitted, mut stored, mut finished, mut placed, mut renewed, mut cancelled] =
        [Duration::ZERO; 6];
    for _ in 0..ROUNDS {
        let submission = mind.submission(BATCH, noop);
        submitted += mind.tell(vec![submission]);
        stored += mind.answer_all();
        // Its end is committed, and the next in line is placed: two writes.
        finished += mind.finish(BATCH);
        placed += mind.answer_all();
    }
    let first = WORKERS + ROUNDS * BATCH;
    let waiting: Vec<_> = (first..first + queued).step_by(queued / CANCELLED).collect();
    for some in waiting.chunks(BATCH) {
        cancelled += mind.cancel(some.iter().map(|&number| number as u64));
    }
    anyhow::ensure!(mind.open() == WORKERS + queued - CANCELLED, "those have ended");
    for _ in 0..ROUNDS {
        renewed += mind.renew();
    }
    let each = |took: Duration, events: usize| took.as_secs_f64() * 1e9 / events as f64;
    let events = ROUNDS * BATCH;
    let events = vec![
        ("submission", each(submitted, events)),
        ("its record is stored", each(stored, events)),
        ("an attempt's end, and another's place", each(finished, events)),
        ("a write of either is stored", each(placed, 2 * events)),
        ("a waiting task's cancellation", each(cancelled, CANCELLED)),
        ("a lease's renewal", each(renewed, ROUNDS * WORKERS)),
    ];
    let another = mind.hear_of_a_master();
    drop(mind);
    let (mind, learning, planning) = Mind::load(WORKERS, 1, queued as u64);
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
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}
