//! A worker that holds its lease, has its link, and gets no task: `muster-worker`, the program for
//! hosts, with both its processes. Never a worker that has just started: it is left alone for some
//! seconds first.

use crate::{
    measure::{Measure, Target},
    table::number,
    usage,
};
use anyhow::Context as _;
use muster_tests::{Fleet, place};
use std::{path::Path, process::Command, time::Duration};

const SETTLES_IN: Duration = Duration::from_secs(3);

/// Twenty renewals.
const WATCHED_FOR: Duration = Duration::from_secs(20);

const MIB: f64 = 1024.0 * 1024.0;
const RESIDENT_MIB_MOST: f64 = 25.0;
const CPU_PERCENT_MOST: f64 = 0.5;
const PROGRAM_MIB_MOST: f64 = 20.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    fleet.launch_lone_worker("w1", &["--slots", "2"]);
    fleet.until_ready("w1");
    let child = fleet.child_pid("w1").context("its process")?.unsigned_abs();
    let both = [fleet.pid("w1"), child];
    std::thread::sleep(SETTLES_IN);
    let used = || -> anyhow::Result<Vec<Duration>> { both.into_iter().map(usage::cpu).collect() };
    let before = used()?;
    std::thread::sleep(WATCHED_FOR);
    let share = |(after, before): (Duration, &Duration)| {
        (after - *before).as_secs_f64() / WATCHED_FOR.as_secs_f64() * 100.0
    };
    let cpu: Vec<f64> = used()?.into_iter().zip(&before).map(share).collect();
    let memory = [usage::memory(both[0])?, usage::memory(both[1])?];
    let resident = memory.map(|memory| memory.resident as f64 / MIB);
    let proportional = memory.iter().map(|memory| memory.proportional).sum::<u64>() as f64 / MIB;

    let parts =
        |values: &[f64]| format!("supervisor {}, worker {}", number(values[0]), number(values[1]));
    let note = format!("{}; {} MiB with shared pages once", parts(&resident), number(proportional));
    let rss = Measure::new("idle worker, RSS", resident.iter().sum(), "MiB").note(note);
    let busy = Measure::new("idle worker, CPU", cpu.iter().sum(), "% of a core").note(parts(&cpu));
    let (size, how) = program_size(&fleet.path("stripped"))?;
    let program = Measure::new("program `muster-worker`", size as f64 / MIB, "MiB").note(how);
    Ok(vec![
        rss.aims(Target::AtMost(RESIDENT_MIB_MOST)),
        busy.aims(Target::AtMost(CPU_PERCENT_MOST)),
        program.aims(Target::AtMost(PROGRAM_MIB_MOST)),
    ])
}

/// The size of a stripped copy in bytes, or of the original if there is no `strip`.
fn program_size(copy: &Path) -> anyhow::Result<(u64, &'static str)> {
    let built = place::program("muster-worker");
    std::fs::copy(&built, copy)?;
    let stripped = Command::new("strip").arg(copy).status().is_ok_and(|status| status.success());
    Ok((copy.metadata()?.len(), if stripped { "stripped" } else { "as it was built" }))
}
