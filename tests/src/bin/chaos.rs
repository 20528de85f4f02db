//! A fleet of real processes under random faults: nothing may run twice at once, be committed twice
//! or be lost. Prints what it did, its seed, and the verdict as its last line; exit code 1 where a
//! promise was broken. It leaves nothing behind but, then, the folder with journals and logs.

use anyhow::Context as _;
use clap::Parser;
use muster_protocol::lease::LeaseTiming;
use muster_tests::{
    Fleet,
    chaos::{
        Chance, between, checker,
        load::{Amount, Client, GUEST, Submissions},
        nemesis::{Fault, Field, Nemesis},
        now_ns,
        observer::Observer,
        percentile,
        witness::Witness,
    },
    fleet::text,
    net::{Namespaces, Net},
};
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often the world is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long everything may take to end once nothing strikes any more: the longest task, as often as
/// its workers may be lost, and some for a busy machine.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);

/// What is shown of each kind of finding.
const SHOWN_MAX: usize = 10;

/// Strike a fleet at random and judge what it did.
#[derive(Debug, Parser)]
struct Args {
    /// How long to strike
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The choices; another one each time unless given
    #[arg(long)]
    seed: Option<u64>,
    /// The leases' profile: standard, fast or roaming
    #[arg(long, default_value = "standard")]
    lease: String,
    /// How often in a hundred a fault is left alone, so that its failover can be measured; 0 for
    /// as many faults as possible
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u64).range(..=100))]
    alone_percent: u64,
    /// How many masters
    #[arg(long, default_value_t = 2)]
    masters: usize,
    /// Break a promise on purpose, once, to see that the verdict says so
    #[arg(long)]
    betray: bool,
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

/// Everything of one go.
struct Go {
    fleet: Fleet,
    nemesis: Nemesis,
    client: Client,
    observer: Observer,
    runtime: tokio::runtime::Runtime,
    submissions: Arc<Mutex<Submissions>>,
    journals: Vec<PathBuf>,
    stopped: Arc<AtomicBool>,
}

fn run(args: &Args, net: Net) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| now_ns() % 1_000_000);
    println!(
        "chaos: seed {seed}, {} minutes, leases {}, {} masters, {} workers",
        args.minutes, args.lease, args.masters, args.workers
    );
    let timing: LeaseTiming = args.lease.parse()?;
    let mut chance = Chance::new(seed);
    let mut go = begin(args, timing, net, &mut chance)?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let amount = Amount { long: 5, short: 3, longest: timing.master() * 2 };
    let busy = {
        let (url, names) = (go.fleet.nats_url(), go.fleet.names());
        let digest = digest(&go.fleet)?;
        let submitter = Client::connect(&url, names, &digest, chance);
        let submitter = go.runtime.block_on(submitter)?;
        let submitting =
            submitter.keep_busy(amount, go.observer.clone(), go.submissions.clone(), stopped);
        go.runtime.spawn(submitting)
    };
    let began_ns = now_ns();
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let mut betray = args.betray;
    while between(began_ns, now_ns()) < length && !go.is_stopped() {
        // While nothing strikes yet, and the first long tasks run.
        if betray && between(began_ns, now_ns()) > timing.master() {
            betray = false;
            go.runtime.block_on(go.client.betray("w1"))?;
        }
        go.nemesis.go_on(&mut go.fleet);
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

fn begin(args: &Args, timing: LeaseTiming, net: Net, chance: &mut Chance) -> anyhow::Result<Go> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stopped = Arc::new(AtomicBool::new(false));
    runtime.spawn(told_to_stop(stopped.clone()));
    let mut fleet = Fleet::within(net, Some(&args.lease));
    let names =
        |letter: &str, count| (1..=count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    let (masters, workers) = (names("m", args.masters), names("w", args.workers));
    masters.iter().for_each(|master| fleet.start_master(master));
    let mut options = BTreeMap::new();
    let mut journals = Vec::new();
    for worker in &workers {
        let journal = fleet.path(&format!("{worker}.journal"));
        // Room for all the load on two workers, so that no replacement waits for a slot.
        let its: Vec<String> =
            ["--slots", "6", "--journal", text(&journal)].iter().map(ToString::to_string).collect();
        fleet.start_worker(worker, &its.iter().map(String::as_str).collect::<Vec<_>>());
        options.insert(worker.clone(), its);
        journals.push(journal);
    }
    fleet.push(GUEST);
    let observer = runtime.block_on(Observer::start(&fleet.nats_url(), &fleet.names()))?;
    let (url, digest) = (fleet.nats_url(), digest(&fleet)?);
    let client = Client::connect(&url, fleet.names(), &digest, chance.clone());
    let client = runtime.block_on(client)?;
    // A lease has run out, was declared lost and was taken anew; and a link is up again.
    let settle = timing.master() + Duration::from_secs(3);
    // From a fraction of a lease to several; at least what breaks connections.
    let longest = (timing.master() * 8 / 3).max(Duration::from_secs(6));
    let field =
        Field { masters, workers, options, longest, alone_percent: args.alone_percent, settle };
    let nemesis = Nemesis::new(chance.clone(), field);
    let submissions = Arc::default();
    Ok(Go { fleet, nemesis, client, observer, runtime, submissions, journals, stopped })
}

/// The guest's digest, by which tasks name it.
fn digest(fleet: &Fleet) -> anyhow::Result<String> {
    let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    let digest = modules["modules"][0]["versions"][0]["digest"].as_str();
    Ok(digest.context("the guest was pushed")?.into())
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

    /// Waits until every acknowledged task has ended, or long enough.
    fn drain(&mut self) {
        let began = now_ns();
        while between(began, now_ns()) < DRAIN_WITHIN && !self.is_stopped() {
            self.nemesis.tend(&mut self.fleet);
            let open = {
                let submissions = self.submissions.lock().expect("no panic");
                let seen = self.observer.seen();
                submissions.acknowledged.iter().filter(|id| !seen.ends.contains_key(*id)).count()
            };
            if open == 0 && self.nemesis.is_whole(&self.fleet) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn judge(mut self, timing: LeaseTiming) -> anyhow::Result<ExitCode> {
        let mut witness = Witness::new(self.journals.clone());
        witness.look()?;
        let faults = self.nemesis.faults().to_vec();
        let overlaps = checker::overlaps(&witness);
        for overlap in overlaps.iter().take(SHOWN_MAX) {
            println!("OVERLAP: {overlap:?}");
        }
        let duplicates = self.duplicates();
        let lost = self.lost()?;
        let settle = timing.master() + Duration::from_secs(1);
        let failovers = checker::failovers(&witness, &faults, settle);
        let trials = checker::trials(&witness, &faults);
        self.tell(&witness, failovers.len());
        let seconds =
            |percent| percentile(&failovers, percent).map_or(f64::NAN, |found| found.as_secs_f64());
        let broken = !overlaps.is_empty() || duplicates > 0 || lost > 0;
        if broken {
            let dir = self.fleet.keep();
            write_faults(&dir, &faults)?;
            println!("chaos: journals, logs and the faults are in {}", dir.display());
        }
        println!(
            "chaos: trials={trials} faults={} overlaps={} duplicates={duplicates} lost={lost} \
             failover_p50={:.3}s failover_p99={:.3}s",
            faults.len(),
            overlaps.len(),
            seconds(50),
            seconds(99),
        );
        Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Ends that were committed a second time.
    fn duplicates(&self) -> usize {
        let seen = self.observer.seen();
        let twice = seen.ends.iter().filter(|(_, revisions)| revisions.len() > 1);
        let twice =
            twice.inspect(|(task, revisions)| println!("DUPLICATE: {task} at {revisions:?}"));
        twice.map(|(_, revisions)| revisions.len() - 1).sum()
    }

    /// Acknowledged tasks that the registry does not have as done.
    fn lost(&self) -> anyhow::Result<usize> {
        let submissions = self.submissions.lock().expect("no panic").clone();
        let (mut lost, mut given_up) = (0, 0);
        for task in &submissions.acknowledged {
            let record = self.runtime.block_on(self.client.record(task))?.unwrap_or_default();
            let verdict = &record["state"]["done"]["outcome"]["verdict"];
            if verdict["lost"].is_object() {
                // The policy, not an accident: it lost as many workers as a task may.
                given_up += 1;
            } else if verdict.as_str() != Some("completed") {
                lost += 1;
                println!("LOST: {task}: {record}");
            }
        }
        println!(
            "chaos: {} tasks acknowledged, {} submissions without an answer, {given_up} given up \
             after losing too many workers",
            submissions.acknowledged.len(),
            submissions.unanswered.len()
        );
        Ok(lost)
    }

    fn tell(&self, witness: &Witness, measured: usize) {
        let runs: usize = witness.tasks().values().map(Vec::len).sum();
        let again = witness.tasks().values().filter(|runs| runs.len() > 1).count();
        println!(
            "chaos: {} tasks ran in {runs} runs, {again} of them more than once; \
             {measured} failovers with nothing else wrong",
            witness.tasks().len()
        );
    }
}

fn write_faults(dir: &Path, faults: &[Fault]) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(dir.join("faults"))?;
    for fault in faults {
        writeln!(file, "{fault:?}")?;
    }
    Ok(())
}
