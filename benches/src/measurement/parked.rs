//! The memory of a waiting run: a worker with a thousand runs, each in a call of the host. Never
//! includes the memory that the guest itself touches: that one page is subtracted.

use crate::{
    guests, load,
    measure::{Measure, Target},
    table::number,
    usage,
};
use anyhow::Context as _;
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use std::{sync::Arc, time::Duration};

const RUNS: usize = 1_000;

/// Runs before the first measurement, so that memory which the worker needs only once is allocated.
const WARM: usize = 50;

/// The guest's own memory, in bytes: it touches the first page.
const TOUCHED: u64 = 4_096;

const SETTLES_IN: Duration = Duration::from_secs(2);
/// The limit of memory of each run, in bytes: its guest has one page.
const MEMORY_MAX: u64 = 1 << 20;
const KIB_MOST: f64 = 64.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let mut fleet = Fleet::registry();
    let journal = fleet.path("journal");
    let slots = (WARM + RUNS).to_string();
    fleet.start_master("m1");
    fleet.start_worker("w1", &["--slots", &slots, "--journal", text(&journal)]);
    guests::push(&fleet, "parked", &guests::command("parked")?)?;
    let mut spec = load::spec(&fleet, "parked")?;
    // A worker runs no more than its memory has room for by the limits of the runs.
    spec.limits.memory_bytes = MEMORY_MAX;
    let spec = Arc::new(spec);
    let worker = fleet.child_pid("w1").context("its process")?.unsigned_abs();
    let park = |count: usize, all: usize| -> anyhow::Result<u64> {
        tokio::runtime::Runtime::new()?.block_on(async {
            load::Client::connect(&fleet).await?.submit_many(&spec, count).await
        })?;
        wait_for("all to run", || {
            let lines = fleet.journal(&journal);
            let running = lines.iter().filter(|line| line["what"] == "started").count();
            (running == all).then_some(())
        });
        std::thread::sleep(SETTLES_IN);
        Ok(usage::memory(worker)?.resident)
    };
    let before = park(WARM, WARM)?;
    let after = park(RUNS, WARM + RUNS)?;
    let ended = fleet.journal(&journal).iter().filter(|line| line["what"] == "ended").count();
    anyhow::ensure!(ended == 0, "{ended} of them have ended");
    let each = after.saturating_sub(before) as f64 / RUNS as f64;
    let beyond = (each - TOUCHED as f64) / 1024.0;
    let note = format!(
        "{} runs; the worker's RSS went from {} to {} MiB",
        number(RUNS as f64),
        before >> 20,
        after >> 20
    );
    let name = "each parked run, beyond what its guest touches";
    Ok(vec![Measure::new(name, beyond, "KiB").aims(Target::AtMost(KIB_MOST)).note(note)])
}
