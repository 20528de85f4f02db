//! Durable no-op tasks, submitted by `muster map` and read back, compared with what the same nats-server
//! does without a fleet. All processes share the machine: nats-server, a master, two workers with two
//! slots each, and the command, whose start and end are part of the time. Never compared with a limit
//! from another run.
//!
//! The limit is the rate at which JetStream accepts writes like those of the task records from one
//! client that does nothing else, divided by the number of writes that a task needs. The writes have the
//! same sizes and a stream with the same settings; each is a compare-and-set, half of them creations and
//! half updates. The number of writes is counted at the stream, and the sizes are those of records that
//! the fleet has just written. The limit is measured before and after, because the speed of a shared
//! machine changes within minutes.

use crate::{
    baseline::{
        jetstream::{BATCH, Raw, Sizes},
        process,
        runtime::{Bare, Interrupts, processors},
    },
    figures, guests, load,
    measure::{Measure, Target},
    table::number,
    usage,
};
use anyhow::Context as _;
use async_nats::jetstream;
use futures::StreamExt as _;
use muster_protocol::subject::Bucket;
use muster_tests::{Fleet, place};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use tokio::runtime::Runtime;

/// The fleet, and the size of its rounds.
pub(super) struct Plan {
    pub(super) workers: usize,
    pub(super) slots: usize,
    /// The number of tasks in a round.
    pub(super) tasks: usize,
    pub(super) rounds: usize,
    /// The number of keys that are created and updated for the limit, before and after the rounds.
    pub(super) raw: usize,
}

const FAST: Plan = Plan { workers: 2, slots: 2, tasks: 10_000, rounds: 5, raw: 40_000 };

/// With one fsync for each write, there are fewer writes by an order of magnitude.
const SYNCED: Plan = Plan { workers: 2, slots: 2, tasks: 4_000, rounds: 3, raw: 4_000 };

/// The number of tasks in one long round, in which the start of the command matters little.
const MANY: usize = 100_000;

/// The number of runs for the limits without a registry: in a loop, and in a process each.
const LOOPED: usize = 50_000;
const PROCESSES: usize = 300;

/// The number of tasks in the round in which the sizes of the records are measured.
const LOOKED_AT: usize = 200;

/// The required and the desired rate, in tasks a second.
const RATE_MUST: f64 = 10_000.0;
const RATE_AIM: f64 = 15_000.0;

/// The desired share of the limit.
pub(super) const SHARE: f64 = 0.40;
pub(super) const SHARE_SYNCED: f64 = 0.60;

/// With the default of nats-server: it writes at once, and syncs every two minutes.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let mut field = Bench::start(Fleet::registry(), FAST)?;
    let before = field.limit()?;
    let core = field.rounds("noop", FAST.tasks, FAST.rounds)?;
    let many = field.rounds("noop", MANY, 1)?;
    let task = field.rounds("noop-task", FAST.tasks, 3)?;
    let after = field.limit()?;
    let batched = field.batched()?;
    let processes = field.processes()?;
    let (one, all) = loops()?;

    let raw = Measure::of_rounds("raw JetStream writes", &[before, after], "/s")
        .as_limit()
        .note(field.told());
    let batched = in_batches(batched, &raw);
    let allowed = allowed(&raw, &core);
    let rate = Measure::of_rounds("durable no-op tasks by `muster map`", &core.rates, "/s");
    let cpu = Measure::new("no-op tasks, CPU of each", core.cpu(), "µs").note(core.parts());
    Ok(vec![
        rate.clone().aims(Target::AtLeast(RATE_MUST)).note(format!("aim: {} /s", number(RATE_AIM))),
        Measure::new("no-op tasks, share of raw JetStream", rate.value, "/s")
            .to(&allowed)
            .aims(Target::RatioAtLeast(SHARE)),
        Measure::new("no-op tasks, beside a process for each run", rate.value, "/s").to(&processes),
        Measure::new("no-op tasks, beside a bare loop", rate.value, "/s").to(&all),
        cpu,
        Measure::of_rounds(
            format!("no-op tasks, {} in one map", number(MANY as f64)),
            &many.rates,
            "/s",
        ),
        Measure::of_rounds("no-op tasks, a component for the SDK", &task.rates, "/s"),
        raw,
        batched,
        allowed,
        processes,
        one,
        all,
    ])
}

/// The same guest in a loop of bare wasmtime: on one thread, and on one for each processor.
fn loops() -> anyhow::Result<(Measure, Measure)> {
    let bare = Bare::new(Interrupts::Epochs)?;
    let program = bare.program(&guests::example("noop")?)?;
    let rate = |threads: usize| -> anyhow::Result<f64> {
        program.run_all(b"", LOOPED / 10, threads)?;
        Ok(LOOPED as f64 / program.run_all(b"", LOOPED, threads)?.as_secs_f64())
    };
    let name = "bare wasmtime, no-op";
    Ok((
        Measure::limit(format!("{name}, one thread"), rate(1)?, "/s"),
        Measure::limit(format!("{name}, all processors"), rate(processors())?, "/s"),
    ))
}

/// With a nats-server that syncs every write to its disk before it acknowledges it.
pub fn synced() -> anyhow::Result<Vec<Measure>> {
    against_raw(Fleet::synced_registry(), SYNCED, "`sync_interval: always`", "synced", SHARE_SYNCED)
}

/// The rate of no-op tasks, held against the raw writes of the same registry. `setting` and `short` say what
/// is special about that registry.
pub(super) fn against_raw(
    fleet: Fleet,
    plan: Plan,
    setting: &str,
    short: &str,
    share: f64,
) -> anyhow::Result<Vec<Measure>> {
    let mut bench = Bench::start(fleet, plan)?;
    let before = bench.limit()?;
    let rounds = bench.rounds("noop", bench.plan.tasks, bench.plan.rounds)?;
    let after = bench.limit()?;
    let batched = bench.batched()?;
    let name = format!("raw JetStream writes, {short}");
    let raw = Measure::of_rounds(name, &[before, after], "/s").as_limit().note(bench.told());
    let allowed = allowed(&raw, &rounds);
    let rate = Measure::of_rounds(format!("no-op tasks, {setting}"), &rounds.rates, "/s");
    let batched = in_batches(batched, &raw);
    Ok(vec![rate.to(&allowed).aims(Target::RatioAtLeast(share)), raw, batched, allowed])
}

/// The rate of the same raw writes in atomic batches.
fn in_batches(rate: f64, raw: &Measure) -> Measure {
    let name = format!("{}, in atomic batches", raw.name);
    Measure::limit(name, rate, "/s").to(raw).note(format!("{BATCH} compare-and-sets in each"))
}

/// The limit on tasks a second, if the registry did nothing but their writes.
fn allowed(raw: &Measure, rounds: &Rounds) -> Measure {
    let name = format!("{} ÷ writes of a task", raw.name);
    let note = format!("{:.2} writes of its record a task", rounds.writes);
    Measure::limit(name, raw.value / rounds.writes, "/s").note(note)
}

/// A fleet, and the runtime of the clients that use its NATS directly.
struct Bench {
    fleet: Fleet,
    runtime: Runtime,
    plan: Plan,
    sizes: Sizes,
    limits: usize,
}

/// The results of some rounds.
struct Rounds {
    /// Tasks a second in each round.
    rates: Vec<f64>,
    /// The number of writes of its record that a task needed.
    writes: f64,
    /// The processor time of each part, in microseconds for each task.
    cpu: BTreeMap<&'static str, f64>,
}

impl Rounds {
    fn cpu(&self) -> f64 {
        self.cpu.values().sum()
    }

    fn parts(&self) -> String {
        let parts = self.cpu.iter().map(|(part, micros)| format!("{part} {micros:.0}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

impl Bench {
    fn start(mut fleet: Fleet, plan: Plan) -> anyhow::Result<Self> {
        fleet.start_master("m1");
        for number in 1..=plan.workers {
            fleet.start_worker(&format!("w{number}"), &["--slots", &plan.slots.to_string()]);
        }
        fleet.push("noop");
        guests::push(&fleet, "noop-task", &guests::task("noop-task")?)?;
        let runtime = Runtime::new()?;
        let sizes = Sizes { create: 0, update: 0 };
        let mut field = Bench { fleet, runtime, plan, sizes, limits: 0 };
        // The first tasks compile the module, and are not counted.
        field.map("noop-task", LOOKED_AT)?;
        field.sizes = field.look()?;
        Ok(field)
    }

    fn inputs(&self, lines: usize) -> anyhow::Result<PathBuf> {
        let path = self.fleet.path(&format!("inputs-{lines}"));
        std::fs::write(&path, "x\n".repeat(lines))?;
        Ok(path)
    }

    fn map(&self, module: &str, tasks: usize) -> anyhow::Result<load::Mapped> {
        load::map(&self.fleet, module, &self.inputs(tasks)?, tasks)
    }

    /// The median sizes of the records when they are created and when they are updated, in one round.
    fn look(&self) -> anyhow::Result<Sizes> {
        let subject = self.fleet.names().key(Bucket::Tasks, ">");
        let url = self.fleet.nats_url();
        let mut written = self.runtime.block_on(async {
            let client = async_nats::connect(url).await?;
            let written = client.subscribe(subject).await?;
            load::heard(&client).await?;
            anyhow::Ok(written)
        })?;
        self.map("noop", LOOKED_AT)?;
        let (mut seen, mut creates, mut updates) = (BTreeMap::new(), Vec::new(), Vec::new());
        self.runtime.block_on(async {
            while updates.len() < LOOKED_AT {
                let wait = tokio::time::timeout(Duration::from_secs(5), written.next());
                let message = wait.await.context("too few records")?.context("no connection")?;
                let sizes = match seen.insert(message.subject.clone(), ()) {
                    None => &mut creates,
                    Some(()) => &mut updates,
                };
                sizes.push(message.payload.len() as f64);
            }
            anyhow::Ok(())
        })?;
        let median = |sizes: &[f64]| figures::median(sizes) as usize;
        Ok(Sizes { create: median(&creates), update: median(&updates) })
    }

    fn told(&self) -> String {
        let Sizes { create, update } = self.sizes;
        format!("half creations of {create} B, half updates of {update} B")
    }

    /// The rate of the registry alone, in writes a second.
    fn limit(&mut self) -> anyhow::Result<f64> {
        self.limits += 1;
        let (url, names) = (self.fleet.nats_url(), self.fleet.names());
        let (stream, sizes, count) = (format!("raw{}", self.limits), self.sizes, self.plan.raw);
        self.runtime.block_on(async {
            let raw = Raw::beside(&url, &names, &stream, sizes).await?;
            let rates = raw.pipelined(count).await?;
            raw.remove().await?;
            eprintln!("  raw: {:.0} creations/s, {:.0} updates/s", rates.create, rates.update);
            Ok(rates.both)
        })
    }

    /// The rate of the registry alone, in writes a second, when the same writes are sent in atomic batches.
    fn batched(&mut self) -> anyhow::Result<f64> {
        let (url, names) = (self.fleet.nats_url(), self.fleet.names());
        let (sizes, count) = (self.sizes, self.plan.raw);
        self.runtime.block_on(async {
            let raw = Raw::beside(&url, &names, "batched", sizes).await?;
            let rate = raw.batched(count).await?;
            raw.remove().await?;
            eprintln!("  raw, in batches: {rate:.0} writes/s");
            Ok(rate)
        })
    }

    /// The rate of the same guest with one process for each run, in runs a second.
    fn processes(&self) -> anyhow::Result<Measure> {
        let rate = process::rate(&place::guest("noop"), PROCESSES)?;
        let note = "a process each: engine with its defaults, module compiled, run";
        Ok(Measure::limit("a process for each run, as by `wasmtime run`", rate, "/s").note(note))
    }

    fn rounds(&self, module: &str, tasks: usize, rounds: usize) -> anyhow::Result<Rounds> {
        let (writes, cpu) = (self.written()?, self.cpu()?);
        let mut client = Duration::ZERO;
        let mut rates = Vec::new();
        for _ in 0..rounds {
            let mapped = self.map(module, tasks)?;
            client += mapped.client;
            rates.push(tasks as f64 / mapped.took.as_secs_f64());
            eprintln!("  {tasks} of {module}: {:.0}/s", rates[rates.len() - 1]);
        }
        let all = (tasks * rounds) as f64;
        let writes = (self.written()? - writes) as f64 / all;
        let used = self.cpu()?.into_iter().map(|(part, after)| (part, after - cpu[part]));
        let parts = used.chain([("client", client)]);
        let cpu = parts.map(|(part, used)| (part, used.as_secs_f64() * 1e6 / all)).collect();
        Ok(Rounds { rates, writes, cpu })
    }

    /// The number of all writes to the task records so far.
    fn written(&self) -> anyhow::Result<u64> {
        let stream = self.fleet.names().stream(Bucket::Tasks);
        let url = self.fleet.nats_url();
        self.runtime.block_on(async {
            let context = jetstream::new(async_nats::connect(url).await?);
            let stream = context.get_stream(stream).await?;
            Ok(stream.cached_info().state.last_sequence)
        })
    }

    fn cpu(&self) -> anyhow::Result<BTreeMap<&'static str, Duration>> {
        let fleet = &self.fleet;
        let (mut servers, mut workers) = (Duration::ZERO, Duration::ZERO);
        for node in fleet.nats_nodes() {
            servers += usage::cpu(fleet.pid(&node))?;
        }
        for number in 1..=self.plan.workers {
            let name = format!("w{number}");
            let child = fleet.child_pid(&name).context("a worker's process")?;
            workers += usage::cpu(fleet.pid(&name))? + usage::cpu(child.unsigned_abs())?;
        }
        Ok(BTreeMap::from([
            ("nats-server", servers),
            ("master", usage::cpu(fleet.pid("m1"))?),
            ("workers", workers),
        ]))
    }
}
