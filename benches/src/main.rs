//! Measures what a fleet does on this machine, and the limits it is compared with, in one table. Never
//! fails because of a missed target: the table says so in a word.
//!
//! Each measurement runs in its own process. So none is influenced by the memory use of another, and one
//! that fails loses only its own rows.

use anyhow::Context as _;
use clap::Parser;
use muster_benches::{measure::Measure, measurement, plot, table};
use muster_tests::place;
use std::{
    process::{Command, Stdio},
    time::Instant,
};

/// Measure a fleet on this machine
#[derive(Parser)]
struct Args {
    /// Only measurements whose names contain this
    #[arg(long, default_value = "", value_name = "PART")]
    only: String,
    /// Draw target/bench.svg as well
    #[arg(long)]
    plot: bool,
    /// Run this measurement in this process, and print its result as JSON
    #[arg(long, hide = true, value_name = "NAME")]
    measurement: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(name) = args.measurement {
        let found = measurement::ALL.iter().find(|one| one.name == name);
        let found = (found.context("there is no such measurement")?.run)()?;
        println!("{}", serde_json::to_string(&found)?);
        return Ok(());
    }
    let chosen: Vec<&str> = measurement::ALL
        .iter()
        .map(|one| one.name)
        .filter(|name| name.contains(&args.only))
        .collect();
    let names = || measurement::ALL.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    anyhow::ensure!(
        !chosen.is_empty(),
        "no measurement's name contains that; there are: {}",
        names()
    );
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for (number, name) in chosen.iter().enumerate() {
        let at = began.elapsed().as_secs();
        eprintln!("[{}/{}, {at} s] {name}", number + 1, chosen.len());
        match measure(name) {
            Ok(measures) => found.extend(measures),
            Err(error) => missing.push(format!("{name} could not be measured: {error:#}")),
        }
    }
    eprintln!("measured within {} s", began.elapsed().as_secs());
    println!("{}", table::table(&found));
    missing.iter().for_each(|missing| println!("{missing}"));
    let target = place::root().join("target");
    std::fs::write(target.join("bench.json"), serde_json::to_string_pretty(&found)?)?;
    if args.plot {
        std::fs::write(target.join("bench.svg"), plot::svg(&found))?;
    }
    Ok(())
}

fn measure(name: &str) -> anyhow::Result<Vec<Measure>> {
    let this = std::env::current_exe()?;
    let mut command = Command::new(this);
    command.args(["--measurement", name]).stdin(Stdio::null()).stdout(Stdio::piped());
    let ended = command.spawn()?.wait_with_output()?;
    anyhow::ensure!(ended.status.success(), "its process ended with {}", ended.status);
    Ok(serde_json::from_slice(&ended.stdout)?)
}
