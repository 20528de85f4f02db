//! The cost of interruptible guests: programs that are compiled with epochs, as in a worker, with fuel,
//! and with neither. They run in turn in this process, without any code of Muster. Never a program that
//! waits: the measured time is the thread's processor time.
//!
//! Two are ordinary Rust programs of `examples/`. Two are the worst case for checks at calls and at the
//! ends of loops: a function that calls itself, and loops of a few instructions. The fastest run of each
//! program counts, because noise only adds time. The overheads are combined by their geometric mean.

use crate::{
    baseline::runtime::{Bare, Interrupts, Program},
    figures::geometric_mean,
    guests,
    measure::{Measure, Target},
};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

const ROUNDS: usize = 9;

const OVERHEAD_MOST: f64 = 10.0;
const OF_FUEL_MOST: f64 = 0.5;

const WAYS: [Interrupts; 3] = [Interrupts::None, Interrupts::Epochs, Interrupts::Fuel];

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let text = "the quick brown fox jumps over the lazy dog and is gone by 1976\n".repeat(30_000);
    let kernels = [
        ("primes", guests::example("primes")?, r#"{"from":1,"to":40000000}"#),
        ("wordcount", guests::example("wordcount")?, &text),
        ("calls", guests::command("calls")?, ""),
        ("loops", guests::command("loops")?, ""),
    ];
    let engines: Vec<Bare> = WAYS.into_iter().map(Bare::new).collect::<anyhow::Result<_>>()?;
    let (mut epochs, mut fuel, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for (name, wasm, input) in &kernels {
        let programs: Vec<Program> =
            engines.iter().map(|engine| engine.program(wasm)).collect::<anyhow::Result<_>>()?;
        let mut least = [Duration::MAX; WAYS.len()];
        for _ in 0..ROUNDS {
            for (program, least) in programs.iter().zip(&mut least) {
                *least = quickest(*least, || program.run(input.as_bytes()))?;
            }
        }
        let [none, with_epochs, with_fuel] = least.map(|time| time.as_secs_f64());
        epochs.push(with_epochs / none);
        fuel.push(with_fuel / none);
        told.push(format!("{name} {:+.0} %", percent(with_epochs / none)));
        eprintln!(
            "  {name}: {:.0} ms, epochs {:+.1} %, fuel {:+.1} %",
            none * 1e3,
            percent(with_epochs / none),
            percent(with_fuel / none)
        );
    }
    let of_fuel = Measure::limit("overhead of fuel", percent(geometric_mean(&fuel)), "%");
    let overhead = percent(geometric_mean(&epochs));
    let name = "overhead of epochs, CPU-bound guests";
    Ok(vec![
        Measure::new(name, overhead, "%").aims(Target::AtMost(OVERHEAD_MOST)).note(told.join(", ")),
        Measure::new("overhead of epochs, to fuel's", overhead, "%")
            .to(&of_fuel)
            .aims(Target::RatioAtMost(OF_FUEL_MOST)),
        of_fuel,
    ])
}

fn quickest(least: Duration, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let began = on_this_thread();
    run()?;
    Ok(least.min(on_this_thread() - began))
}

fn on_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}
