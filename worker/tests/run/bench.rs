//! Shared by the tests of runs: an engine, a specification of a run, and the result of a run.

use muster_protocol::{
    AttemptId, TaskId, Time,
    lease::KillReason,
    message::{AttemptKey, LogSource},
    task::{Data, Outcome, Verdict},
};
use muster_worker::{
    checkpoint::Checkpoints,
    clock::boottime,
    deadman::SharedDeadman,
    engine::{Engine, Program},
    gate::RunGate,
    run::{RunSpec, run},
    sandbox::{GuestReport, Surroundings},
};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

pub const KEY: AttemptKey = AttemptKey { task: TaskId(7), attempt: AttemptId(8) };

/// An engine and a lease that tests can extend or end.
pub struct Bench {
    pub engine: Engine,
    pub lease: SharedDeadman,
    pub draining: Arc<AtomicBool>,
    pub checkpoints: Checkpoints,
}

/// The result of a run.
pub struct Seen {
    pub ended: Result<Outcome, KillReason>,
    pub reports: Vec<GuestReport>,
    pub took: Duration,
}

/// Runs a future on a runtime like the one that the worker makes for guests.
pub fn on_threads<T: Send + 'static>(
    threads: usize,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).thread_name("guest").enable_all();
    let runtime = runtime.build().unwrap();
    // Spawned, because the thread that blocks here does not belong to the runtime.
    runtime.block_on(async { tokio::spawn(future).await.unwrap() })
}

pub fn run_spec(input: &str) -> RunSpec {
    RunSpec {
        key: KEY,
        number: 3,
        worker: "w-1".parse().unwrap(),
        input: input.to_string().into(),
        args: Vec::new(),
        limits: muster_protocol::task::Limits { timeout_ms: 10_000, ..Default::default() },
        grants: Default::default(),
        secrets: Default::default(),
        scratch: None,
        trace: None,
    }
}

impl Bench {
    pub fn new(slots: u32) -> Arc<Self> {
        // The kernel timer is never armed, since these tests never call `hold`.
        let lease = SharedDeadman::new(Duration::ZERO).unwrap();
        lease.move_end(Time::NEVER).unwrap();
        Arc::new(Bench {
            engine: Engine::new(slots).unwrap(),
            lease,
            draining: Arc::default(),
            checkpoints: Checkpoints::in_memory(),
        })
    }

    /// The surroundings of a run that reports to `reports`.
    pub fn around(&self, reports: mpsc::Sender<GuestReport>) -> Surroundings {
        Surroundings {
            reports,
            draining: self.draining.clone(),
            journal: Default::default(),
            checkpoints: self.checkpoints.clone(),
        }
    }

    pub fn gate(&self) -> RunGate {
        RunGate::new(self.lease.end())
    }

    /// Sets the end of the lease to `left` from now.
    pub fn lease(&self, left: Duration) -> Time {
        let until = boottime() + left;
        self.lease.move_end(until).unwrap();
        until
    }

    pub fn compile(&self, text: &str) -> Program {
        self.engine.compile(&wat::parse_str(text).unwrap()).unwrap()
    }

    pub async fn run(&self, program: &Program, order: RunSpec, gate: RunGate) -> Seen {
        let (sender, mut receiver) = mpsc::channel(10_000);
        let around = self.around(sender);
        let began = Instant::now();
        let ended = run(&self.engine, program, order, gate, around).await.into_result();
        let took = began.elapsed();
        let mut reports = Vec::new();
        while let Ok(report) = receiver.try_recv() {
            reports.push(report);
        }
        Seen { ended, reports, took }
    }
}

/// Compiles and runs a guest while the lease holds, on one thread.
pub fn check(text: &str, order: RunSpec) -> Seen {
    let (text, bench) = (text.to_string(), Bench::new(1));
    on_threads(1, async move {
        let program = bench.compile(&text);
        let gate = bench.gate();
        bench.run(&program, order, gate).await
    })
}

impl Seen {
    pub fn outcome(&self) -> &Outcome {
        match &self.ended {
            Ok(outcome) => outcome,
            Err(reason) => panic!("killed: {reason:?}"),
        }
    }

    pub fn verdict(&self) -> &Verdict {
        &self.outcome().verdict
    }

    pub fn output(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap()
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.outcome().output {
            Data::Inline(bytes) => bytes,
            blob => panic!("{blob:?}"),
        }
    }

    pub fn killed(&self) -> KillReason {
        match &self.ended {
            Err(reason) => *reason,
            Ok(outcome) => panic!("{outcome:?}"),
        }
    }

    /// Everything that went to the log from this source, joined.
    pub fn log(&self, from: LogSource) -> String {
        let texts = self.reports.iter().filter_map(|report| match report {
            GuestReport::Log(chunk) if chunk.source == from => {
                Some(String::from_utf8_lossy(&chunk.text).into_owned())
            }
            _ => None,
        });
        texts.collect()
    }

    pub fn progress(&self) -> Vec<(u64, u64)> {
        let reports = self.reports.iter().filter_map(|report| match report {
            GuestReport::Progress { done, total, .. } => Some((*done, *total)),
            GuestReport::Log(_) => None,
        });
        reports.collect()
    }
}
