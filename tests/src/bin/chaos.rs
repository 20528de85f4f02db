//! A fleet of real processes under random faults. No task may run twice at once, be committed twice or
//! be lost. Prints its actions, its seed, and the verdict as its last line; the exit code is 1 if a
//! promise was broken. In that case the directory with journals and logs is kept; nothing else is left
//! behind.

use anyhow::Context as _;
use clap::{Parser, builder::TypedValueParser as _};
use muster_protocol::lease::LeaseTiming;
use muster_tests::{
    Fleet,
    chaos::{
        KINDS, Rng, between, checker,
        counters::{self, Trials},
        failover,
        load::{Amount, CALLER, Caller, Client, GUEST, Submission, Submissions},
        nemesis::{Fault, Nemesis, Targets},
        now_ns,
        observer::Observer,
        pause::{self, PlainClient},
        percentile,
        run_log::RunLog,
        sink::{self, Sink},
    },
    fleet::{Scarce, text},
    net::{Namespaces, Net},
};
use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often the program acts: shorter than the phases of recurring faults.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long all tasks may take to end after the last fault: a minute in which masters dispatch nothing
/// after a loss of the registry, the longest task as often as its workers may be lost, and a margin for
/// a busy machine.
const DRAIN_WITHIN: Duration = Duration::from_secs(200);

/// The most findings of each kind that are printed.
const SHOWN_MAX: usize = 10;

/// Injects random faults into a fleet and checks what it did.
#[derive(Debug, Parser)]
struct Args {
    /// How long to inject faults, in minutes
    #[arg(long, default_value_t = 10.0, conflicts_with = "trials")]
    minutes: f64,
    /// Inject faults until this many of them have struck a worker while it ran something
    #[arg(long)]
    trials: Option<usize>,
    /// Inject only this kind of fault
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(KINDS))]
    only: Option<String>,
    /// How many nodes the registry has; each of several keeps a replica of what is stored
    #[arg(long, default_value_t = 1, value_parser = clap::builder::PossibleValuesParser::new(["1", "3"])
        .map(|nodes| nodes.parse::<usize>().expect("a number")))]
    nodes: usize,
    /// The seed of all random choices; a new one each time by default
    #[arg(long)]
    seed: Option<u64>,
    /// The leases' profile: standard, fast or roaming
    #[arg(long, default_value = "standard")]
    lease: String,
    /// The probability, in percent, that a fault stays alone, so that its failover can be measured; 0
    /// for as many faults as possible
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u64).range(..=100))]
    alone_percent: u64,
    /// How many masters
    #[arg(long, default_value_t = 2)]
    masters: usize,
    /// Break a promise on purpose, once, to see that the verdict says so
    #[arg(long)]
    betray: bool,
    /// Keep the directory with the journals and logs, also if every promise was kept
    #[arg(long)]
    keep: bool,
    /// How many workers
    #[arg(long, default_value_t = 3)]
    workers: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let net = match Namespaces::enter() {
        Ok(namespaces) => Net::Apart(namespaces),
        Err(why) => {
            println!("chaos: NO NETWORK NAMESPACES HERE ({why}): proxies on loopback instead");
            Net::proxied()
        }
    };
    match run(&args, net) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The state of one test.
struct Go {
    fleet: Fleet,
    nemesis: Nemesis,
    client: Client,
    observer: Observer,
    /// Writes beside the fleet, where the registry is a cluster.
    plain: Option<PlainClient>,
    runtime: tokio::runtime::Runtime,
    submissions: Arc<Mutex<Submissions>>,
    run_log: RunLog,
    sink: Sink,
    caller: Caller,
    stopped: Arc<AtomicBool>,
    keep: bool,
}

fn run(args: &Args, net: Net) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| now_ns() % 1_000_000);
    let length = match args.trials {
        Some(trials) => format!("{trials} trials"),
        None => format!("{} minutes", args.minutes),
    };
    println!(
        "chaos: seed {seed}, {length}, leases {}, {} masters, {} workers, a registry of {}",
        args.lease, args.masters, args.workers, args.nodes
    );
    let timing: LeaseTiming = args.lease.parse()?;
    let mut rng = Rng::new(seed);
    let mut go = begin(args, timing, net, &mut rng)?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    // Where pauses of results are measured, many tasks wait, as in a map: enough for 20 s.
    let backlog = if args.nodes == 1 { 0 } else { 2_500 };
    let amount = Amount { long: 5, short: 3, calls: 2, backlog, longest: timing.master() * 2 };
    let busy = {
        let (urls, names) = (go.fleet.nats_urls(), go.fleet.names());
        let digest = digest(&go.fleet, GUEST)?;
        let submitter = Client::connect(&urls, names, &digest, rng);
        let submitter = go.runtime.block_on(submitter)?.with_caller(go.caller.clone());
        let submitting =
            submitter.keep_busy(amount, go.observer.clone(), go.submissions.clone(), stopped);
        go.runtime.spawn(submitting)
    };
    let began_ns = now_ns();
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let mut betray = args.betray;
    let mut trials = Trials::default();
    while !go.is_stopped() {
        let is_over = match args.trials {
            Some(wanted) => trials.count(&mut go.run_log, go.nemesis.faults())? >= wanted,
            None => between(began_ns, now_ns()) >= length,
        };
        if is_over {
            break;
        }
        // Before the first fault, while the first long tasks run.
        if betray && between(began_ns, now_ns()) > timing.master() {
            betray = false;
            go.runtime.block_on(go.client.betray("w1"))?;
        }
        go.strike();
        std::thread::sleep(LOOK_EVERY);
    }
    go.nemesis.relent(&mut go.fleet);
    stop.send_replace(true);
    go.runtime.block_on(busy)?;
    go.drain();
    if go.is_stopped() {
        println!("chaos: stopped before its end; everything it started is gone");
        return Ok(ExitCode::from(130));
    }
    go.judge(timing)
}

fn begin(args: &Args, timing: LeaseTiming, net: Net, rng: &mut Rng) -> anyhow::Result<Go> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stopped = Arc::new(AtomicBool::new(false));
    runtime.spawn(told_to_stop(stopped.clone()));
    let mut fleet = Fleet::clustered(net, Some(&args.lease), args.nodes);
    anyhow::ensure!(
        !args.only.as_deref().is_some_and(|only| only.starts_with("full_")) || fleet.has_disks(),
        "disks can be filled only where hosts are in namespaces of their own"
    );
    anyhow::ensure!(
        args.only.as_deref() != Some("few_processes") || Scarce::Processes.can_be(),
        "the superuser's processes cannot be limited here: start it as somebody else"
    );
    let names =
        |letter: &str, count| (1..=count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    let (masters, workers) = (names("m", args.masters), names("w", args.workers));
    masters.iter().for_each(|master| fleet.start_master(master));
    // From a fraction of a lease to several leases; at least long enough to break connections.
    let longest = (timing.master() * 8 / 3).max(Duration::from_secs(6));
    let own = fleet.net().own_address();
    let (sink, address) = runtime.block_on(Sink::listen(own, longest, rng.clone()))?;
    let policy = fleet.path("policy.toml");
    std::fs::write(&policy, format!("http = ['{address}']\n"))?;
    let mut options = BTreeMap::new();
    let mut journals = Vec::new();
    for worker in &workers {
        let journal = fleet.path(&format!("{worker}.journal"));
        // Two workers have slots for the whole load, so that no replacement waits for a slot.
        let its = [
            "--slots",
            "6",
            "--journal",
            text(&journal),
            "--journal-mib",
            "0",
            "--policy",
            text(&policy),
        ];
        let its: Vec<String> = its.iter().map(ToString::to_string).collect();
        fleet.start_worker(worker, &its.iter().map(String::as_str).collect::<Vec<_>>());
        options.insert(worker.clone(), its);
        journals.push(journal);
    }
    fleet.push(GUEST);
    fleet.push(CALLER);
    let caller = Caller::new(&digest(&fleet, CALLER)?, address, sink::BODY)?;
    let observer = runtime.block_on(Observer::start(&fleet.nats_urls(), &fleet.names()))?;
    let (urls, digest) = (fleet.nats_urls(), digest(&fleet, GUEST)?);
    let plain = match args.nodes {
        1 => None,
        _ => Some(runtime.block_on(PlainClient::start(&urls, &fleet.names()))?),
    };
    let client = Client::connect(&urls, fleet.names(), &digest, rng.clone());
    let client = runtime.block_on(client)?;
    // A lease has lapsed, was declared lost and was taken again, and a link is up again.
    let settle = timing.master() + Duration::from_secs(3);
    let nodes = fleet.nats_nodes();
    let (alone_percent, only) = (args.alone_percent, args.only.clone());
    let field = Targets { nodes, masters, workers, options, longest, alone_percent, settle, only };
    let nemesis = Nemesis::new(rng.clone(), field);
    let (submissions, run_log) = (Arc::default(), RunLog::new(journals));
    Ok(Go {
        fleet,
        nemesis,
        client,
        observer,
        plain,
        runtime,
        submissions,
        run_log,
        sink,
        caller,
        stopped,
        keep: args.keep,
    })
}

/// A guest's digest, by which tasks name it.
fn digest(fleet: &Fleet, guest: &str) -> anyhow::Result<String> {
    let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    let mut all = modules["modules"].as_array().context("a list")?.iter();
    let module = all.find(|module| module["name"] == guest).context("the guest was pushed")?;
    Ok(module["versions"][0]["digest"].as_str().context("a digest")?.into())
}

async fn told_to_stop(stopped: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stopped.store(true, Ordering::SeqCst);
}

impl Go {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Injects or heals faults that are due. After a loss, tells the observer to read the registry
    /// again.
    fn strike(&mut self) {
        let before = self.nemesis.faults().len();
        self.nemesis.go_on(&mut self.fleet);
        if self.nemesis.faults()[before..].iter().any(|fault| fault.kind.concerns_all()) {
            self.observer.rewind();
        }
    }

    /// Waits until every acknowledged task has ended and all hosts run, or until the limit is reached.
    fn drain(&mut self) {
        let began = now_ns();
        while between(began, now_ns()) < DRAIN_WITHIN && !self.is_stopped() {
            self.nemesis.tend(&mut self.fleet);
            let open = {
                let losses = checker::losses(self.nemesis.faults(), "tasks");
                let submissions = self.submissions.lock().expect("no panic");
                let seen = self.observer.seen();
                let is_open = |(task, submission): &(&String, &Submission)| {
                    let is_lost = checker::may_be_forgotten(**submission, &losses);
                    !seen.is_over(task) && (!is_lost || seen.is_known(task))
                };
                submissions.acknowledged.iter().filter(is_open).count()
            };
            if open == 0 && self.nemesis.is_whole(&self.fleet) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn judge(mut self, timing: LeaseTiming) -> anyhow::Result<ExitCode> {
        self.run_log.look()?;
        let faults = self.nemesis.faults().to_vec();
        let overlaps = checker::overlaps(&self.run_log);
        for overlap in overlaps.iter().take(SHOWN_MAX) {
            println!("OVERLAP: {overlap:?}");
        }
        let requests = self.sink.requests();
        let late = checker::late(&self.run_log, &requests, timing.kill_margin());
        for late in late.iter().take(SHOWN_MAX) {
            println!("LATE REQUEST: {late:?}");
        }
        let losses = checker::losses(&faults, "tasks");
        let duplicates = self.duplicates(&losses);
        let Kept { lost, forgotten, failed } = self.kept(&losses)?;
        self.tell(&faults, timing);
        let broken = !overlaps.is_empty() || duplicates > 0 || lost > 0 || !late.is_empty();
        if broken || self.keep {
            let dir = self.fleet.keep();
            counters::write(&dir.join("faults"), &faults)?;
            println!("chaos: journals, logs and the faults are in {}", dir.display());
        }
        let settle = timing.master() + Duration::from_secs(1);
        let failovers = failover::failovers(&self.run_log, &faults, &self.observer.seen(), settle);
        let wholes: Vec<Duration> = failovers.iter().map(|failover| failover.whole).collect();
        let seconds =
            |percent| percentile(&wholes, percent).map_or(f64::NAN, |found| found.as_secs_f64());
        let pauses = self.plain.as_ref().map_or_else(String::new, |plain| {
            let nodes = self.fleet.nats_nodes();
            let pauses = pause::pauses(&faults, &nodes, &self.observer.seen(), plain);
            format!(" {}", pause::tell(&pauses))
        });
        println!(
            "chaos: trials={} faults={} {} restored={} requests={} broken_off={} \
             overlaps={} duplicates={duplicates} late_requests={} failed_requests={failed} lost={lost} \
             forgotten={forgotten} failover_p50={:.3}s failover_p99={:.3}s{pauses}",
            checker::trials(&self.run_log, &faults),
            faults.len(),
            counters::kinds(&faults),
            self.nemesis.restored(),
            requests.len(),
            requests.iter().filter(|request| !request.is_whole).count(),
            overlaps.len(),
            late.len(),
            seconds(50),
            seconds(99),
        );
        Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// The number of ends that were committed a second time.
    fn duplicates(&self, losses: &[checker::Lost]) -> usize {
        let seen = self.observer.seen();
        let twice = seen.ends.iter().map(|(task, commits)| {
            let count = checker::duplicates(commits, losses);
            if count > 0 {
                println!("DUPLICATE: {task} at {commits:?}");
            }
            count
        });
        twice.sum()
    }

    /// Counts the acknowledged tasks that are not completed in the registry, by cause.
    fn kept(&self, losses: &[checker::Lost]) -> anyhow::Result<Kept> {
        let submissions = self.submissions.lock().expect("no panic").clone();
        let (mut kept, mut given_up) = (Kept::default(), 0);
        for (task, submission) in &submissions.acknowledged {
            let record = self.runtime.block_on(self.client.record(task))?;
            if record.is_none() && checker::may_be_forgotten(*submission, losses) {
                kept.forgotten += 1;
                continue;
            }
            let record = record.unwrap_or_default();
            let verdict = &record["state"]["done"]["outcome"]["verdict"];
            if verdict["lost"].is_object() {
                // This is the policy and not a failure: the task lost as many workers as a task may
                // lose.
                given_up += 1;
            } else if verdict["failed"].is_object() && record["spec"]["module"]["name"] == CALLER {
                // The task has ended, and its guest reported the cause: a worker with few open files
                // cannot connect.
                kept.failed += 1;
                println!("chaos: {task} could not send its request: {}", verdict["failed"]);
            } else if verdict.as_str() != Some("completed") {
                kept.lost += 1;
                println!("LOST: {task}, {submission:?}: {record}");
            }
        }
        println!(
            "chaos: {} tasks acknowledged, {} submissions without an answer, {given_up} given up \
             after losing too many workers",
            submissions.acknowledged.len(),
            submissions.unanswered.len()
        );
        Ok(kept)
    }

    fn tell(&self, faults: &[Fault], timing: LeaseTiming) {
        let tasks = self.run_log.tasks();
        let runs: usize = tasks.values().map(Vec::len).sum();
        let again = tasks.values().filter(|runs| runs.len() > 1).count();
        let settle = timing.master() + Duration::from_secs(1);
        let failovers = failover::failovers(&self.run_log, faults, &self.observer.seen(), settle);
        println!(
            "chaos: {} tasks ran in {runs} runs, {again} of them more than once; \
             {} failovers with nothing else wrong",
            tasks.len(),
            failovers.len()
        );
        for failover::Failover { fault, task, whole, parts } in &failovers {
            println!(
                "chaos: {} #{fault}, {task}: {whole:.3?}, {parts:.3?}",
                failover::cause(faults, *fault)
            );
        }
        let parts: Vec<_> = failovers.iter().filter_map(|failover| failover.parts).collect();
        failover::tell("chaos", &parts, timing);
    }
}

/// Acknowledged tasks that are not completed.
#[derive(Debug, Default)]
struct Kept {
    /// The registry should have kept them.
    lost: usize,
    /// The registry's disk lost their acknowledged submission.
    forgotten: usize,
    /// Their guest could not send its request.
    failed: usize,
}
