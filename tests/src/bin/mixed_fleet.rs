//! Two versions of the programs in one fleet, as during an upgrade: a map of many tasks, a worker that
//! is killed in the middle of it, and a check of every result. Prints a line for each mixture; exits
//! with 1 if one failed.

use anyhow::{Context as _, ensure};
use clap::Parser;
use muster_tests::{
    Fleet,
    chaos::{checker, run_log::RunLog},
    fleet::{COMMAND, text, wait_for},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Instant,
};

/// Upper ends of ranges from 1, and the number of primes in each (OEIS A006880 and the tables of
/// A007053).
const RANGES: [(u64, u64); 3] =
    [(100_000_000, 5_761_455), (200_000_000, 11_078_937), (500_000_000, 26_355_867)];

/// How many results to await before a worker is killed.
const RESULTS_BEFORE: usize = 6;

const WORKERS: [&str; 3] = ["w1", "w2", "w3"];

/// Runs a fleet of two versions.
#[derive(Debug, Parser)]
struct Args {
    /// The program `muster` of the other version
    #[arg(long)]
    before: PathBuf,
    /// How many tasks each mixture runs
    #[arg(long, default_value_t = 36)]
    tasks: usize,
}

/// Which processes run the other version's program.
struct Mixture {
    what: &'static str,
    masters: &'static [&'static str],
    workers: &'static [&'static str],
    /// The master that is restarted with this version's program after the worker was killed.
    upgraded: Option<&'static str>,
}

const MIXTURES: [Mixture; 3] = [
    Mixture { what: "old workers, new masters", masters: &[], workers: &WORKERS, upgraded: None },
    Mixture {
        what: "new workers, old masters",
        masters: &["m1", "m2"],
        workers: &[],
        upgraded: None,
    },
    Mixture {
        what: "some of each, a master upgraded meanwhile",
        masters: &["m1"],
        workers: &["w1"],
        upgraded: Some("m1"),
    },
];

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    ensure!(args.before.is_file(), "{} is no program", args.before.display());
    let mut all_well = true;
    for mixture in &MIXTURES {
        match play(mixture, &args) {
            Ok(told) => println!("mixed-fleet: {}: {told}", mixture.what),
            Err(cause) => {
                println!("mixed-fleet: {}: FAILED: {cause:#}", mixture.what);
                all_well = false;
            }
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one mixture; returns its figures.
fn play(mixture: &Mixture, args: &Args) -> anyhow::Result<String> {
    let mut fleet = Fleet::registry();
    for name in mixture.masters.iter().chain(mixture.workers) {
        fleet.run_by(name, &args.before);
    }
    for master in ["m1", "m2"] {
        fleet.start_master(master);
    }
    let journals = WORKERS.map(|worker| fleet.path(&format!("{worker}.journal")));
    for (worker, journal) in WORKERS.iter().zip(&journals) {
        fleet.start_worker(worker, &["--slots", "1", "--journal", text(journal)]);
    }
    // A command that is newer than all masters cannot send them modules.
    if mixture.masters.len() > 1 {
        fleet.run_by(COMMAND, &args.before);
    }
    fleet.push("primes");
    fleet.run_by_this(COMMAND);
    let inputs = fleet.path("inputs");
    let ranges = RANGES.iter().cycle().take(args.tasks);
    let lines: Vec<String> =
        ranges.map(|(to, _)| format!("{{\"from\":1,\"to\":{to}}}\n")).collect();
    std::fs::write(&inputs, lines.concat())?;
    let results = fleet.path("results");
    let began = Instant::now();
    let mut map = fleet
        .muster(&["map", "primes", text(&inputs), "--json"])
        .stdin(Stdio::null())
        .stdout(File::create(&results)?)
        .stderr(File::create(fleet.path("map.log"))?)
        .spawn()?;
    wait_for("some results", || {
        let text = std::fs::read_to_string(&results).unwrap_or_default();
        (text.lines().count() >= RESULTS_BEFORE).then_some(())
    });
    let victim = wait_for("a worker with a task", || busy(&fleet));
    fleet.kill(&victim);
    if let Some(master) = mixture.upgraded {
        fleet.kill(master);
        fleet.run_by_this(master);
        fleet.start_master(master);
    }
    let status = map.wait()?;
    let took = began.elapsed();
    ensure!(status.success(), "map ended with {status}");
    let moved = check(&fleet, &results, args.tasks)?;
    ensure!(moved > 0, "no task lost its worker");
    let mut run_log = RunLog::new(journals);
    run_log.look()?;
    let overlaps = checker::overlaps(&run_log);
    ensure!(overlaps.is_empty(), "two at once: {overlaps:?}");
    let runs: usize = run_log.tasks().values().map(Vec::len).sum();
    let (tasks, links) = (args.tasks, versions(&fleet)?);
    Ok(format!(
        "{tasks} tasks in {took:.1?}, each with its one right result; {runs} runs, none of a task twice at \
         once; {victim} was killed, and {moved} ran again elsewhere; workers: {links}"
    ))
}

/// A worker that runs a task now.
fn busy(fleet: &Fleet) -> Option<String> {
    let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    let has_task = |view: &&Value| view["attempts"].as_array().is_some_and(|held| !held.is_empty());
    let found = workers["workers"].as_array()?.iter().find(has_task)?;
    found["lease"]["worker"].as_str().map(Into::into)
}

/// Checks that each line has exactly one result, the right one. Returns how many tasks have lost a
/// worker.
fn check(fleet: &Fleet, results: &Path, tasks: usize) -> anyhow::Result<usize> {
    let text = std::fs::read_to_string(results)?;
    let mut seen = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let result: Value = serde_json::from_str(line)?;
        let (to, count) = RANGES[at % RANGES.len()];
        ensure!(result["line"] == at + 1 && result["verdict"] == "completed", "{result}");
        ensure!(seen.insert(result["task"].to_string()), "twice: {result}");
        let output = match &result["output"] {
            Value::String(text) => serde_json::from_str(text)?,
            output => output.clone(),
        };
        ensure!(output["to"] == to && output["count"] == count, "wrong: {result}");
    }
    ensure!(seen.len() == tasks, "{} results of {tasks} tasks", seen.len());
    let listed = fleet.run(&["-o", "json", "task", "ls", "--limit", "1000"]).ok().json();
    let listed = listed["tasks"].as_array().context("a list")?.clone();
    let lost = |view: &&Value| view["record"]["losses"].as_u64().unwrap_or_default() > 0;
    Ok(listed.iter().filter(lost).count())
}

/// The program versions in the workers' leases.
fn versions(fleet: &Fleet) -> anyhow::Result<String> {
    let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    let workers = workers["workers"].as_array().context("a list")?;
    let version = |view: &Value| {
        let lease = &view["lease"];
        format!(
            "{} {}",
            lease["worker"].as_str().unwrap_or_default(),
            lease["offer"]["version"].as_str().unwrap_or_default()
        )
    };
    Ok(workers.iter().map(version).collect::<Vec<_>>().join(", "))
}
