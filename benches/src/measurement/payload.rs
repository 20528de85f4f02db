//! Tasks with an input and an output of 1 MiB each, by `muster map`: from the lines of a file to the
//! lines of another. Never the same bytes twice, in or out, because equal objects are stored once.
//!
//! The guest is `upper`, which reads everything and writes as much. Its bytes take six steps: to the
//! object store, to a master, over QUIC to the worker, and back. The measurement counts the bytes that
//! the operator sees: input and output. The limit is the object store alone, which each of these bytes
//! enters and leaves once.

use crate::{
    baseline::objects,
    load,
    measure::{Measure, Target},
};
use muster_tests::Fleet;
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

const SIZE: usize = 1024 * 1024;
const TASKS: usize = 100;
const ROUNDS: usize = 3;

const MEGABYTES_LEAST: f64 = 150.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let fleet = Fleet::start(1, 2);
    fleet.push("upper");
    let runtime = tokio::runtime::Runtime::new()?;
    let raw = || runtime.block_on(objects::there_and_back(&fleet.nats_url(), TASKS, SIZE));
    // This round only compiles the guest, and is not timed.
    load::map(&fleet, "upper", &lines(&fleet.path("few"), 0, 4)?, 4)?;
    let before = raw()?;
    let mut rates = Vec::new();
    for round in 1..=ROUNDS {
        let inputs = lines(&fleet.path("inputs"), round, TASKS)?;
        let took = load::map(&fleet, "upper", &inputs, TASKS)?.took;
        rates.push(2.0 * (TASKS * SIZE) as f64 / took.as_secs_f64() / 1e6);
        eprintln!("  {:.0} MB/s in and out", rates[round - 1]);
    }
    let raws = [before / 1e6, raw()? / 1e6];
    let limit = Measure::of_rounds("raw object store, in and out", &raws, "MB/s").as_limit();
    let rate = Measure::of_rounds("tasks of 1 MiB in and 1 MiB out", &rates, "MB/s");
    let note = format!("in and out counted; {:.0} MB/s of inputs alone", rate.value / 2.0);
    Ok(vec![rate.to(&limit).aims(Target::AtLeast(MEGABYTES_LEAST)).note(note), limit])
}

/// A file of lines of that size. All lines differ, in all rounds.
fn lines(path: &Path, round: usize, count: usize) -> anyhow::Result<PathBuf> {
    let mut file = BufWriter::new(File::create(path)?);
    let filler = "lorem ipsum dolor ".repeat(SIZE / 18 + 1);
    for number in 0..count {
        let head = format!("round {round} line {number} ");
        writeln!(file, "{head}{}", &filler[..SIZE - head.len()])?;
    }
    file.flush()?;
    Ok(path.into())
}
