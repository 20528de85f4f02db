//! From the frame of a dispatch to the first instruction of its guest, on a real worker that has
//! compiled the module and is otherwise idle. Always the whole path: the worker's inbox, its state
//! machine, a thread for guests, the store and the instance. Never only a part of it.
//!
//! The times are from the worker's journal. The line `received` has the time at which the frame was
//! decoded. The line `called` has the time at which the guest's first instruction, a call of the host,
//! reached the gate. So the time includes that call (for the core module, with WASI's standard error)
//! and two lines of the journal. The cost of a line is measured and printed, and not subtracted.

use crate::{
    figures::Times,
    guests, load,
    measure::{Measure, Target},
};
use anyhow::Context as _;
use muster_tests::{Fleet, fleet::text};
use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const WARM: usize = 200;
const COUNT: usize = 2_000;

/// The number and the typical size of the lines that are written to measure the cost of a line.
const LINES: u32 = 10_000;
const LINE: [u8; 160] = [b'x'; 160];

const P50_CORE_MICROS: f64 = 30.0;
const P50_COMPONENT_MICROS: f64 = 60.0;
const P99_MICROS: f64 = 150.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let mut fleet = Fleet::registry();
    let journal = fleet.path("journal");
    fleet.start_master("m1");
    fleet.start_worker("w1", &["--slots", "2", "--journal", text(&journal)]);
    guests::push(&fleet, "first", &guests::command("first")?)?;
    guests::push(&fleet, "first-task", &guests::task("first-task")?)?;
    let line = a_line(&fleet.path("lines"))?;
    let line = micros(line);

    let core = spans(&fleet, "first", &journal)?;
    let component = spans(&fleet, "first-task", &journal)?;
    let row = |kind: &str, spans: &Spans, p50_most: f64| {
        let name = format!("frame → first instruction, {kind}");
        let note = format!(
            "{:.0} to the store, {:.0} from there; 2 lines of the journal within, {line:.1} each",
            spans.to_store.micros(50.0),
            spans.from_store.micros(50.0)
        );
        let p50 = Measure::new(format!("{name}, p50"), spans.whole.micros(50.0), "µs");
        let p99 = Measure::new(format!("{name}, p99"), spans.whole.micros(99.0), "µs");
        [p50.aims(Target::AtMost(p50_most)).note(note), p99.aims(Target::AtMost(P99_MICROS))]
    };
    let rows = row("core", &core, P50_CORE_MICROS);
    Ok(rows.into_iter().chain(row("component", &component, P50_COMPONENT_MICROS)).collect())
}

/// The time spans of some attempts, from the journal.
struct Spans {
    /// From the frame to the guest's first call.
    whole: Times,
    /// From the frame to the time at which the store exists and the guest is about to be instantiated.
    to_store: Times,
    /// From there to the guest's first call.
    from_store: Times,
}

fn spans(fleet: &Fleet, module: &str, journal: &Path) -> anyhow::Result<Spans> {
    let spec = Arc::new(load::spec(fleet, module)?);
    let known = tokio::runtime::Runtime::new()?.block_on(async {
        let mut client = load::Client::connect(fleet).await?;
        client.run_each(&spec, WARM).await?;
        let known = fleet.journal(journal).len();
        client.run_each(&spec, COUNT).await?;
        anyhow::Ok(known)
    })?;
    let mut begun: HashMap<String, [u64; 2]> = HashMap::new();
    let (mut whole, mut to_store, mut from_store) = (Vec::new(), Vec::new(), Vec::new());
    let span = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
    for line in &fleet.journal(journal)[known..] {
        let attempt = line["attempt"].as_str().context("an attempt")?;
        let at = line["at_ns"].as_u64().context("a stamp")?;
        match line["what"].as_str() {
            Some("received") => drop(begun.insert(attempt.into(), [at, at])),
            Some("started") => begun.get_mut(attempt).context("it was received first")?[1] = at,
            Some("called") => {
                let [received, started] = begun.remove(attempt).context("it was started first")?;
                whole.push(span(received, at));
                to_store.push(span(received, started));
                from_store.push(span(started, at));
            }
            _ => {}
        }
    }
    anyhow::ensure!(whole.len() == COUNT, "{} of {COUNT} guests have called", whole.len());
    let [whole, to_store, from_store] = [whole, to_store, from_store].map(Times::new);
    Ok(Spans { whole, to_store, from_store })
}

/// The time to append a line to a file.
fn a_line(path: &Path) -> anyhow::Result<Duration> {
    let mut file = File::options().append(true).create(true).open(path)?;
    let began = Instant::now();
    for _ in 0..LINES {
        file.write_all(&LINE)?;
    }
    Ok(began.elapsed() / LINES)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
