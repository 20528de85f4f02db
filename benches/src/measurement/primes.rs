//! Tasks that compute for about 50 ms each, on a worker with a slot for each processor. The limit is the
//! same component in a loop of bare wasmtime with a thread for each processor. Never a limit with other
//! machine code: the loop that counts is compiled with epochs like the worker's code, because without
//! them no guest could be stopped. Another measurement shows the cost of epochs; a loop without them is
//! shown here too.

use crate::{
    baseline::runtime::{Bare, Interrupts, processors},
    guests, load,
    measure::{Measure, Target},
    table::number,
};
use muster_tests::Fleet;
use std::path::PathBuf;

/// The range of each task: about 50 ms on one processor of the reference machine.
const INPUT: &str = r#"{"from":1,"to":42000000}"#;

const TASKS: usize = 160;
const ROUNDS: usize = 2;

const SHARE: f64 = 0.97;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let guest = guests::example("primes")?;
    let processors = processors();
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    fleet.start_worker("w1", &["--slots", &processors.to_string()]);
    fleet.push("primes");
    let inputs = |lines: usize| -> anyhow::Result<PathBuf> {
        let path = fleet.path(&format!("ranges-{lines}"));
        std::fs::write(&path, format!("{INPUT}\n").repeat(lines))?;
        Ok(path)
    };
    let few = 2 * processors;
    load::map(&fleet, "primes", &inputs(few)?, few)?;

    let (epochs, none) = (Bare::new(Interrupts::Epochs)?, Bare::new(Interrupts::None)?);
    let bare = |bare: &Bare| -> anyhow::Result<f64> {
        let took = bare.program(&guest)?.run_all(INPUT.as_bytes(), TASKS, processors)?;
        Ok(TASKS as f64 / took.as_secs_f64())
    };
    let (mut of_fleet, mut of_epochs, mut of_none) = (Vec::new(), Vec::new(), Vec::new());
    // In turn, so that a slow minute of the machine affects all of them.
    for _ in 0..ROUNDS {
        of_none.push(bare(&none)?);
        of_epochs.push(bare(&epochs)?);
        let took = load::map(&fleet, "primes", &inputs(TASKS)?, TASKS)?.took;
        of_fleet.push(TASKS as f64 / took.as_secs_f64());
    }
    let limit = Measure::of_rounds("bare wasmtime, primes, with epochs", &of_epochs, "/s");
    let millis = processors as f64 * 1e3 / limit.value;
    let limit = limit.as_limit().note(format!("{processors} threads, {millis:.0} ms each"));
    let without =
        Measure::of_rounds("bare wasmtime, primes, without epochs", &of_none, "/s").as_limit();
    let rate = Measure::of_rounds("CPU-bound tasks (primes)", &of_fleet, "/s");
    let beside = rate.value / without.value * 100.0;
    let note = format!("{} % of the loop without epochs", number(beside));
    Ok(vec![rate.to(&limit).aims(Target::RatioAtLeast(SHARE)).note(note), limit, without])
}
