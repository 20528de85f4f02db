//! Measures how long a task is without a worker: one fault at a time, a silent cut and a stopped process
//! in turn, from the fault to the first effect of the replacement, and where that time goes. Prints a
//! distribution; the exit code is 1 if it misses its target.

use anyhow::Context as _;
use clap::Parser;
use muster_protocol::lease::LeaseTiming;
use muster_tests::{
    Fleet,
    chaos::{
        FaultKind, Rng, between, checker,
        failover::{self, Parts},
        load::{Client, GUEST},
        now_ns,
        observer::Observer,
        percentile,
        run_log::{Run, RunLog},
    },
    fleet::{NATS, text, wait_for},
    net::{Namespaces, Net},
};
use serde_json::json;
use std::{process::ExitCode, time::Duration};

const WORKERS: [&str; 3] = ["w1", "w2", "w3"];

/// How often the journals are read.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Inject faults, one at a time, and measure each failover.
#[derive(Debug, Parser)]
struct Args {
    /// How many faults
    #[arg(long, default_value_t = 50)]
    trials: usize,
    /// The seed of all random choices; a new one each time by default
    #[arg(long)]
    seed: Option<u64>,
    /// The leases' profile: standard, fast or roaming
    #[arg(long, default_value = "standard")]
    lease: String,
    /// How many masters
    #[arg(long, default_value_t = 1)]
    masters: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let net = match Namespaces::enter() {
        Ok(namespaces) => Net::Apart(namespaces),
        Err(why) => {
            println!("failover: NO NETWORK NAMESPACES HERE ({why}): proxies on loopback instead");
            Net::proxied()
        }
    };
    let seed = args.seed.unwrap_or_else(|| now_ns() % 1_000_000);
    let timing: LeaseTiming = args.lease.parse()?;
    println!("failover: seed {seed}, {} trials, leases {}", args.trials, args.lease);
    let mut bench = Bench::begin(&args, net, Rng::new(seed))?;
    let mut trials = Vec::with_capacity(args.trials);
    for number in 0..args.trials {
        let worker_stops = number % 2 == 1;
        trials.push(bench.trial(worker_stops, timing)?);
    }
    bench.run_log.look()?;
    let overlaps = checker::overlaps(&bench.run_log);
    anyhow::ensure!(overlaps.is_empty(), "two at once: {overlaps:?}");
    Ok(tell(&trials, &args.lease, timing))
}

/// Where the time of one failover went.
#[derive(Debug)]
struct Trial {
    stopped: bool,
    /// From the newest observed renewal to the fault; zero if a renewal came after the fault.
    age: Duration,
    whole: Duration,
    /// How long the injection took: a cut is several commands, and complete only after the last one.
    strike: Duration,
    /// The longest time that this program waited for a processor meanwhile: a delay of the machine.
    busy: Duration,
    /// From that renewal to the first effect of the replacement.
    parts: Parts,
    /// The end of that: from the replacement's first line to the first effect of its guest.
    called: Duration,
}

struct Bench {
    fleet: Fleet,
    partners: Vec<String>,
    runtime: tokio::runtime::Runtime,
    client: Client,
    observer: Observer,
    run_log: RunLog,
    chance: Rng,
    busy: Duration,
}

impl Bench {
    fn begin(args: &Args, net: Net, chance: Rng) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut fleet = Fleet::within(net, Some(&args.lease));
        let mut partners = vec![NATS.to_string()];
        for number in 1..=args.masters {
            fleet.start_master(&format!("m{number}"));
            partners.push(format!("m{number}"));
        }
        let mut journals = Vec::new();
        for worker in WORKERS {
            let journal = fleet.path(&format!("{worker}.journal"));
            fleet.start_worker(worker, &["--slots", "1", "--journal", text(&journal)]);
            journals.push(journal);
        }
        fleet.push(GUEST);
        let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
        let digest = modules["modules"][0]["versions"][0]["digest"].as_str().context("pushed")?;
        let urls = fleet.nats_urls();
        let client = Client::connect(&urls, fleet.names(), digest, chance.clone());
        let client = runtime.block_on(client)?;
        let observer = runtime.block_on(Observer::start(&urls, &fleet.names()))?;
        let run_log = RunLog::new(journals);
        let mut bench = Bench {
            fleet,
            partners,
            runtime,
            client,
            observer,
            run_log,
            chance,
            busy: Duration::ZERO,
        };
        bench.warm_up()?;
        Ok(bench)
    }

    /// Lets every worker compile the guest, so that no failover includes the compilation.
    fn warm_up(&mut self) -> anyhow::Result<()> {
        let tasks = WORKERS.map(|_| self.submit(3_000));
        for task in tasks {
            self.until_it_runs(&task?, 0);
        }
        let workers: std::collections::BTreeSet<&str> =
            self.run_log.tasks().values().flatten().map(|run| run.worker.as_str()).collect();
        anyhow::ensure!(workers.len() == WORKERS.len(), "only {workers:?} ran something");
        Ok(())
    }

    fn submit(&mut self, for_ms: u64) -> anyhow::Result<String> {
        let pace = json!({"for_ms": for_ms, "every_us": 1_000, "rest": true});
        let (task, acknowledged) = self.runtime.block_on(self.client.submit(pace));
        anyhow::ensure!(acknowledged, "a healthy fleet takes a task");
        Ok(task.to_string())
    }

    /// Waits for a run of the task that began after `after_ns`.
    fn until_it_runs(&mut self, task: &str, after_ns: u64) -> Run {
        let run_log = &mut self.run_log;
        let deadline = now_ns();
        loop {
            run_log.look().expect("journals are readable");
            let mut runs = run_log.runs(task).iter();
            let run = runs.find(|run| run.first_ns > after_ns && run.called_ns.is_some());
            if let Some(run) = run {
                return run.clone();
            }
            let waited = between(deadline, now_ns());
            assert!(waited < Duration::from_secs(60), "task {task} does not run for {waited:?}");
            let asleep = now_ns();
            std::thread::sleep(LOOK_EVERY);
            self.busy = self.busy.max(between(asleep, now_ns()).saturating_sub(LOOK_EVERY));
        }
    }

    fn trial(&mut self, stops: bool, timing: LeaseTiming) -> anyhow::Result<Trial> {
        self.until_all_are_live();
        let task = self.submit(3_600_000)?;
        let worker = self.until_it_runs(&task, 0).worker;
        // At a random time between two renewals.
        std::thread::sleep(self.chance.time(timing.renew_every(), timing.renew_every() * 3));
        let host = worker.clone();
        let fault = if stops { FaultKind::Stop { host } } else { FaultKind::Isolate { host } };
        let at_ns = now_ns();
        fault.strike(&mut self.fleet, &self.partners);
        let strike = between(at_ns, now_ns());
        self.busy = Duration::ZERO;
        let new = self.until_it_runs(&task, at_ns);
        let (parts, renewed) = {
            let seen = self.observer.seen();
            let times = (at_ns, new.began_ns());
            let parts = Parts::of(&seen, &worker, (&task, &new.attempt), times);
            (parts, seen.renewals.get(&worker).and_then(|stamps| stamps.last().copied()))
        };
        fault.heal(&mut self.fleet, &self.partners);
        self.fleet.run(&["task", "cancel", &task]).ok();
        let renewed = renewed.context("a renewal was seen")?;
        let trial = Trial {
            stopped: stops,
            strike,
            busy: self.busy,
            age: between(renewed, at_ns),
            whole: between(at_ns, new.began_ns()),
            parts: parts.context("the loss and the dispatch were seen")?,
            called: between(new.first_ns, new.began_ns()),
        };
        if trial.whole > failover::target(timing) {
            println!("beyond the aim: {worker}, {trial:?}");
        }
        Ok(trial)
    }

    fn until_all_are_live(&self) {
        wait_for("all workers to be back and idle", || {
            let workers = self.fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
            let all = workers["workers"].as_array()?;
            let ready = all.iter().filter(|view| {
                view["lease"]["standing"] == "live"
                    && view["linked"] == true
                    && view["attempts"].as_array().is_some_and(Vec::is_empty)
            });
            (ready.count() == WORKERS.len()).then_some(())
        });
    }
}

fn tell(trials: &[Trial], lease: &str, timing: LeaseTiming) -> ExitCode {
    let sorted = |of: &dyn Fn(&Trial) -> Option<Duration>| {
        let mut times: Vec<Duration> = trials.iter().filter_map(of).collect();
        times.sort();
        times
    };
    let row = |what: &str, times: &[Duration]| {
        let at = |percent| percentile(times, percent).unwrap_or_default().as_secs_f64() * 1e3;
        println!("{what:<44} {:>8.1} {:>8.1} {:>8.1} {:>8.1}", at(0), at(50), at(99), at(100));
    };
    println!("{:<44} {:>8} {:>8} {:>8} {:>8}", "milliseconds", "least", "p50", "p99", "most");
    row(
        "silent cut to the replacement's first effect",
        &sorted(&|t| (!t.stopped).then_some(t.whole)),
    );
    row("SIGSTOP to the replacement's first effect", &sorted(&|t| t.stopped.then_some(t.whole)));
    row("  the strike itself", &sorted(&|t| Some(t.strike)));
    row("  last renewal seen before the fault", &sorted(&|t| Some(t.age)));
    row("  lease: that renewal to the lease seen lost", &sorted(&|t| Some(t.parts.lease)));
    row("  slot: lost to the new attempt stored", &sorted(&|t| Some(t.parts.slot)));
    row("  code: stored to its guest's first effect", &sorted(&|t| Some(t.parts.code)));
    row("    of that, after its first line", &sorted(&|t| Some(t.called)));
    row("this program kept waiting by the machine", &sorted(&|t| Some(t.busy)));
    let all = sorted(&|t| Some(t.whole));
    let seconds = |percent| percentile(&all, percent).unwrap_or_default().as_secs_f64();
    let parts: Vec<Parts> = trials.iter().map(|trial| trial.parts).collect();
    let is_within = failover::tell("failover", &parts, timing);
    let aim = failover::target(timing).as_secs_f64();
    println!(
        "failover: lease={lease} trials={} p50={:.3}s p99={:.3}s max={:.3}s aim={aim:.3}s",
        trials.len(),
        seconds(50),
        seconds(99),
        seconds(100),
    );
    if seconds(99) > aim || !is_within { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
