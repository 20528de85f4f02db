//! Runs every hostile guest of `tests/hostile/` on a worker that also runs a neighbour, and checks four
//! things: the guest ended with the right cause, the worker is alive, the neighbour was hardly slowed
//! down, and memory stayed within its limit.

use anyhow::Context as _;
use clap::Parser;
use muster_tests::{
    hostile::{Guest, HostileFleet, corpus},
    place,
};
use std::{process::ExitCode, time::Duration};

/// The most memory that the worker's process may ever use, in bytes: four guests of the largest kind in
/// the corpus, 64 MiB each, and the worker itself with its compiled programs.
const MEMORY_MAX: u64 = 512 << 20;

/// The target for the neighbour's slowest tasks: its p99 beside guests divided by its p99 alone. A miss
/// is printed and does not fail the test: it is a measured time, and machines are busy.
const RATIO_MAX: f64 = 2.0;

/// The least number of guests in the corpus: one for every attack that the runtime's makers and others
/// describe.
const GUESTS_MIN: usize = 40;

/// Run the hostile guests on a fleet of this machine
#[derive(Parser)]
struct Options {
    /// Only guests whose name contains this
    #[arg(default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let guests = corpus(&place::root().join("tests/hostile"), &options.only)?;
    let least = if options.only.is_empty() { GUESTS_MIN } else { 1 };
    anyhow::ensure!(guests.len() >= least, "{} guests, of at least {least}", guests.len());
    let mut field = HostileFleet::new().await?;
    let mut wrong = 0;
    let mut survived = 0;
    println!("{:<24} {:>10} {:>10}  and ended", "guest", "took", "neighbour");
    for guest in &guests {
        let from = field.beside.len();
        let outcome = field.fight(guest).await.with_context(|| guest.name.clone())?;
        survived += usize::from(field.has_survived());
        let said = outcome.verdict.reason();
        let (word, took) = (outcome.verdict.word(), Duration::from_micros(outcome.run_us));
        let fits = fits(guest, word, &said, outcome.log_dropped);
        wrong += usize::from(!fits);
        let mark = if fits { "" } else { "   WRONG" };
        let neighbour = p99(&field.beside[from..]);
        println!("{:<24} {took:>10.1?} {neighbour:>10.1?}  {said}{mark}", guest.name);
        if !fits {
            println!(
                "    expected: {} {}; log dropped: {}",
                guest.ends, guest.says, outcome.log_dropped
            );
        }
    }
    let [quiet, beside] =
        [&field.quiet, &field.beside].map(|took| (rank(took, 50), p99(took), took.len()));
    let ratio = beside.1.as_secs_f64() / quiet.1.as_secs_f64();
    let memory = field.memory_most()?;
    println!(
        "neighbour alone: p50 {:.1?}, p99 {:.1?} of {}; beside guests: p50 {:.1?}, p99 {:.1?} of {}",
        quiet.0, quiet.1, quiet.2, beside.0, beside.1, beside.2
    );
    let control = p99(&field.beside_a_program().await?);
    println!("neighbour beside an ordinary program that computes: p99 {control:.1?}");
    println!("memory of the worker at most: {} MiB of {}", memory >> 20, MEMORY_MAX >> 20);
    let good = wrong == 0 && survived == guests.len() && memory <= MEMORY_MAX;
    if !good {
        println!("the end of the worker's log:\n{}", tail(&field.log()));
    }
    if ratio > RATIO_MAX {
        println!("missed: the neighbour's p99 is {ratio:.2} times that of quiet times");
    }
    println!("hostile: guests={} survived={survived} neighbour_ratio={ratio:.2}", guests.len());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn p99(took: &[Duration]) -> Duration {
    rank(took, 99)
}

fn rank(took: &[Duration], percent: usize) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort();
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

fn fits(guest: &Guest, word: &str, said: &str, dropped: u64) -> bool {
    word == guest.ends && said.contains(&guest.says) && (!guest.drops_log || dropped > 0)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
