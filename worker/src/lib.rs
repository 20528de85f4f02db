//! The worker: it holds a lease, dials its masters, and runs the attempts that they dispatch. It never
//! runs a guest of a task without a lease.
//!
//! One loop ([`worker_loop`]) owns the state machine, [`Attempts`]. Links, lease, artifacts and runs report to the loop's
//! inbox. Guests and the lease have threads of their own, so that neither can starve the other.

// The print macros panic when their output is closed; `muster_wire::log` takes their place.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod artifact;
pub mod checkpoint;
pub mod code;
pub mod compile;
pub mod compile_child;
mod config;
mod confine;
pub mod deadman;
mod dial;
pub mod engine;
mod executor;
pub mod gate;
mod health;
mod http;
mod identity;
mod inbox;
mod inputs;
pub mod journal;
mod lease_thread;
pub mod limits;
mod link;
mod links;
pub mod local;
mod mask;
mod memory;
mod metrics;
mod object;
pub mod policy;
mod programs;
mod readiness;
mod retry;
pub mod run;
pub mod sandbox;
mod seal_key;
mod sealed;
mod shortage;
mod signatures;
mod supervisor;
mod tracer;
mod upgrade;
mod worker_loop;

pub use config::{Config, Confine};
pub use muster_wire::clock;

use anyhow::Context as _;
use identity::Claim;
use inbox::INBOX_MAX;
use links::Links;
use muster_protocol::{
    WorkerId,
    attempts::{Attempts, Event},
    lease::{Lease, LeaseTiming, Offer},
    limit,
    message::{ToWorker, WorkerCommand},
    record,
    subject::Names,
};
use muster_wire::{
    log,
    nats::Access,
    notify::Notifier,
    process::{self, StopSource},
    state,
};
use std::{
    process::ExitCode,
    sync::{Arc, Mutex, atomic::AtomicBool},
};
use tokio::sync::{mpsc, watch};

/// Threads that run the loops (see [`process::run`]). Guests and the lease have other threads.
const LOOP_THREADS: usize = 1;

/// Runs a worker until it is told to stop. Unless `--unsupervised` is set, this process becomes the
/// supervisor: it starts the worker as a child and restarts it after a crash.
pub fn main(config: Config) -> ExitCode {
    if let Err(error) = confine::check_user(&config) {
        log::say(&format!("error: muster-worker cannot begin: {error}"));
        return ExitCode::from(process::NOT_BEGUN);
    }
    let told = match (config.supervised_by, config.until_stdin_closes) {
        (Some(supervisor), _) => {
            if let Err(error) = supervisor::tie(supervisor) {
                log::say(&format!("error: muster-worker cannot begin: {error}"));
                return ExitCode::FAILURE;
            }
            StopSource::BySupervisor
        }
        (None, _) if !config.unsupervised => return supervisor::supervise(&config),
        (None, true) => StopSource::BySignalsOrInput,
        (None, false) => StopSource::BySignals,
    };
    let begun = match Begun::new(&config) {
        Ok(begun) => begun,
        Err(error) => {
            log::say(&format!("error: muster-worker cannot begin: {error:#}"));
            return ExitCode::from(process::NOT_BEGUN);
        }
    };
    process::run("muster-worker", told, LOOP_THREADS, |stop| {
        begun.confined.enforced.tell();
        run(config, begun, stop)
    })
}

/// What a worker process has read, and how it is confined since.
struct Begun {
    claim: Claim,
    /// The NATS in which it renews its lease itself.
    nats: Option<Access>,
    rules: policy::Rules,
    /// The socket for HTTP, if it is served.
    http: Option<muster_wire::http::Listener>,
    manager: Notifier,
    journal: Option<journal::Files>,
    /// What is known of its program, if it takes upgrades.
    program: Option<programs::Present>,
    confined: confine::Confined,
}

impl Begun {
    /// Reads the certificates, the key, the NATS context, the policy and its secrets, none of which is read
    /// again. Then confines this thread. It must be the only thread: another one would stay free.
    fn new(config: &Config) -> anyhow::Result<Self> {
        compile::measure();
        let claim = Claim::read(config)?;
        let nats = config.direct_nats()?;
        let rules = config.rules()?;
        let http = config.http_listener()?;
        let manager = match config.reports {
            true => Notifier::to_supervisor().context("standard output")?,
            false => Notifier::to_nobody(),
        };
        let program = config.program.clone();
        let journal = config.journal()?;
        let confined = confine::worker(config, nats.as_ref(), &rules, &claim.masters(config))?;
        Ok(Begun { claim, nats, rules, http, manager, journal, program, confined })
    }
}

/// Runs a worker until `stop` becomes true.
async fn run(config: Config, begun: Begun, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let Begun { claim, nats, rules, http, manager, journal, program, confined } = begun;
    let state = state::StateDir::open(&config.state_dir)?;
    let identity = tokio::select! {
        identity = claim.settle(&config) => identity?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let config = config.entitled(&identity.entitlement);
    let rules = rules.within(&config.group());
    let tls = Arc::new(Mutex::new(identity.tls));
    let (wants, met) = shortage::Shortages::new();
    let journal = journal.map_or_else(journal::Journal::default, |files| {
        journal::Journal::new(files, identity.name.clone(), wants.clone())
    });
    let scratch = state.path("scratch");
    sandbox::sweep(&scratch);
    let names = Arc::new(Names::new(identity.fleet.clone()));
    let engine = engine::Engine::new(config.slots())?;
    let code = match config.code_cache_bytes() {
        0 => None,
        max => {
            let (dir, engine) = (&config.state_dir, engine.compatibility());
            Some(code::CodeCache::open(dir, engine, max, wants.clone())?)
        }
    };
    let deadman = deadman::SharedDeadman::new(config.lease.kill_margin())?;
    let draining = Arc::new(AtomicBool::new(false));
    let links: Links = Arc::default();
    let (inbox, inputs) = mpsc::channel(INBOX_MAX);
    let (told, lease_told) = mpsc::unbounded_channel();
    let holds = Arc::default();
    let version = env!("CARGO_PKG_VERSION").to_string();

    let memory_total = config.memory_total();
    let offer = Offer {
        group: config.group(),
        labels: config.labels(),
        slots: config.slots(),
        memory_bytes: config.memory_bytes(),
        memory_total,
        version: version.clone(),
        policy: Arc::new(rules.policy.clone()),
    };
    let draft = draft(&identity.name, config.lease, &state, offer)?;
    if let Some(denied) = identity.entitlement.denies(&draft) {
        anyhow::bail!(
            "its certificate {denied}: start it with what is permitted, or make another certificate with \
             `muster cert worker`"
        );
    }
    let size = record::write(&draft)?.len();
    if size > limit::LEASE_DRAFT_MAX {
        anyhow::bail!(
            "this worker's lease would have {size} bytes, the limit is {}: give it fewer labels, or a \
             policy with fewer rules",
            limit::LEASE_DRAFT_MAX
        );
    }
    let trial = program.as_ref().and_then(|known| known.trial);
    if trial.is_some() {
        let compiler = compile::Compiler::new(&rules);
        upgrade::test_run(&compiler).await.context("the test run of the new program failed")?;
    }
    let report = upgrade::SharedReport::new(program.as_ref().map(|known| known.report.clone()));
    let lease = lease_thread::start(
        lease_thread::Terms {
            timing: config.lease,
            nats,
            names: names.clone(),
            draft: draft.clone(),
            journal: journal.clone(),
            holds: Arc::clone(&holds),
            program: report.clone(),
        },
        deadman.clone(),
        links.clone(),
        told,
    )?;
    let machine = state::machine().context("the kernel gives no boot id")?;
    let deps = link::LinkDeps {
        links: links.clone(),
        lease: lease.clone(),
        inbox: inbox.clone(),
        journal: journal.clone(),
    };
    link::dial_all(&identity.masters, tls.clone(), &names, machine, &deps)?;
    if let Some(renewal) = identity.renewal {
        tokio::spawn(renewal.keep_up(tls));
    }
    let sealed = sealed::SealedSecrets {
        worker: identity.name.clone(),
        key: identity.seal_key,
        links: links.clone(),
    };
    let present = policy::PresentRules::new(rules);
    let signatures = signatures::Signatures::new(present.now().keys.clone());
    if sealed.key.is_some() {
        let hearing = sealed::Hearing {
            file: present.now(),
            draft,
            entitlement: identity.entitlement,
            links: links.clone(),
            rules: present.clone(),
            signatures: signatures.clone(),
            lease: lease.clone(),
        };
        tokio::spawn(hearing.keep_up());
    }
    if let Some(present) = program {
        let upgrades = upgrade::Upgrades {
            present,
            report: report.clone(),
            signers: config.upgrade_signers.clone(),
            state: config.state_dir.clone(),
            links: links.clone(),
            inbox: inbox.clone(),
        };
        tokio::spawn(upgrades.keep_up());
    }
    let readiness = readiness::Readiness::new(links.clone());
    let metrics = metrics::Metrics::new(
        identity.name.as_str(),
        config.group().as_str(),
        config.slots(),
        readiness.clone(),
    );
    if let Some(http) = http {
        tracing::info!(address = %http.address()?, "HTTP is served");
        let (metrics, readiness) = (metrics.clone(), readiness.clone());
        http.serve(Arc::new(http::WorkerService { metrics, readiness }))?;
    }
    let executor = executor::Executor::new(
        engine,
        code,
        executor::Shared {
            rules: present,
            signatures,
            sealed,
            worker: identity.name.clone(),
            scratch: scratch.clone(),
            deadman,
            journal: journal.clone(),
            wants,
            draining: draining.clone(),
            links,
            inbox,
            lease: lease.clone(),
            holds,
        },
        state.path("cordoned"),
        tracer::Tracer::new(config.exporter(&identity.name, &names)?),
    )?;
    let (artifacts, runtime) = (executor.artifacts(), tokio::runtime::Handle::current());
    let probe = health::Probe {
        places: vec![config.state_dir.clone(), scratch],
        journal,
        compile: Box::new(move || runtime.block_on(artifacts.probe())),
    };
    health::start(probe, met, lease.clone())?;
    let mut attempts = Attempts::new(config.slots(), version);
    if let Some(total) = memory_total {
        attempts = attempts.within(total);
    }
    if executor.was_cordoned() {
        // A cordon survives restarts: it holds until an operator lifts it.
        attempts.observe(
            clock::boottime(),
            Event::Received(0, ToWorker::Command(WorkerCommand::Cordon)),
        );
    }
    let (slots, group) = (config.slots(), config.group());
    tracing::info!(worker = %identity.name, slots, ?memory_total, %group, "started");
    let ready = config.ready_file.clone();
    let worker = worker_loop::WorkerLoop {
        config,
        attempts,
        executor,
        readiness,
        metrics,
        manager,
        lease,
        draining,
        ready,
        confined,
        report,
        trial,
        replaced: false,
        restarts: None,
        stopping: false,
        told: false,
    };
    worker.serve(inputs, lease_told, stop).await
}

/// The draft of this worker's lease: its name, its first session, its state directory and its offer.
fn draft(
    name: &WorkerId,
    timing: LeaseTiming,
    state: &state::StateDir,
    offer: Offer,
) -> std::io::Result<Lease> {
    let session = muster_protocol::SessionId(process::random()?);
    let home_dir = state.nonce();
    let lease = Lease { home_dir, offer, ..Lease::new(name.clone(), session) };
    Ok(lease.timed(timing))
}
