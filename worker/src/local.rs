//! Runs one task in this process, in the same sandbox as on a worker and without a fleet. Never asks a
//! policy: users may grant a task on their own machine whatever it requests.

use crate::{
    checkpoint::Checkpoints,
    compile::{CompileError, Compiler},
    engine::{Engine, Program},
    gate::RunGate,
    journal::Journal,
    policy::Secrets,
    run::{self, RunSpec},
    sandbox::{GuestReport, Surroundings},
};
use anyhow::Context as _;
use bytes::Bytes;
use muster_protocol::{
    AttemptId, TaskId, WorkerId,
    lease::LeaseEnd,
    message::AttemptKey,
    task::{Outcome, TaskSpec, Verdict, backoff},
};
use muster_wire::process;
use std::{
    fs, os::unix::fs::DirBuilderExt as _, path::PathBuf, pin::pin, sync::Arc, time::Duration,
};
use tokio::sync::mpsc;

/// The worker's name that the guest sees.
const WORKER: &str = "local";

/// Reports that may wait: more than a guest can send before it has to yield.
const REPORTS_MAX: usize = 4 * 1024;

/// The task to run.
pub struct Task {
    /// The id of the task.
    pub id: TaskId,
    /// A module that [`Engine::compile`] takes.
    pub wasm: Bytes,
    /// The input of the task, whatever the specification says about its input.
    pub input: Bytes,
    /// The arguments, limits, grants and retries; everything about placement is ignored.
    pub spec: TaskSpec,
    /// The values of the secrets that the task requests, by name.
    pub secrets: Secrets,
}

/// What the caller hears while the task runs.
pub enum Heard {
    /// The guest sent a log or its progress.
    Report(GuestReport),
    /// An attempt has failed, and another attempt follows.
    Again {
        /// How the attempt ended.
        reason: String,
        /// How long the next attempt waits.
        wait: Duration,
    },
}

/// Runs a task to its end; each attempt resumes from the checkpoint of the one before. Needs a tokio
/// runtime with all its drivers. Dropping the future ends the task. An error concerns this machine, not
/// the guest.
pub async fn run(compiler: &Compiler, task: Task, hear: impl Fn(Heard)) -> anyhow::Result<Outcome> {
    let Task { id, wasm, input, spec, secrets } = task;
    let engine = Engine::new(1)?;
    let digest = muster_module::digest(&wasm);
    let code = match compiler.compile(wasm, ()).await {
        Ok(code) => code.into(),
        Err(CompileError::Rejected(message)) => {
            return Ok(Outcome::bare(Verdict::Rejected { message }));
        }
        Err(error) => return Err(error.into()),
    };
    let program = engine.revive(digest, &code)?;
    let place = (spec.grants.dir_bytes > 0).then(TempDir::new).transpose()?;
    let worker: WorkerId = WORKER.parse().context("the worker's name is a name")?;
    let checkpoints = Checkpoints::in_memory();
    let mut number = 1;
    loop {
        let key = AttemptKey { task: id, attempt: AttemptId(process::random()?) };
        let order = RunSpec {
            key,
            number,
            worker: worker.clone(),
            input: input.clone(),
            args: spec.args.clone(),
            limits: spec.limits,
            grants: spec.grants.clone(),
            secrets: secrets.clone(),
            scratch: place.as_ref().map(|place| place.0.clone()),
            trace: spec.trace,
        };
        let outcome = attempt(&engine, &program, order, checkpoints.clone(), &hear).await;
        if !outcome.verdict.is_retried() || number >= spec.retry.attempts_max {
            return Ok(outcome);
        }
        let wait = backoff(&spec.retry, number, key.attempt.0);
        hear(Heard::Again { reason: outcome.verdict.reason(), wait });
        tokio::time::sleep(wait).await;
        number += 1;
    }
}

async fn attempt(
    engine: &Engine,
    program: &Program,
    order: RunSpec,
    checkpoints: Checkpoints,
    hear: &impl Fn(Heard),
) -> Outcome {
    let (reports, mut said) = mpsc::channel(REPORTS_MAX);
    // Without a fleet there is no lease, so this gate never closes by itself.
    let gate = RunGate::new(LeaseEnd::never());
    let (draining, journal) = (Arc::default(), Journal::default());
    let surroundings = Surroundings { reports, draining, journal, checkpoints };
    let mut run = pin!(run::run(engine, program, order, gate, surroundings));
    let ended = loop {
        tokio::select! {
            biased;
            Some(report) = said.recv() => hear(Heard::Report(report)),
            ended = &mut run => break ended,
        }
    };
    while let Ok(report) = said.try_recv() {
        hear(Heard::Report(report));
    }
    ended.into_result().unwrap_or_else(|_| Outcome::bare(Verdict::Cancelled))
}

/// A directory for scratch directories that only this user can read; removed when this is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("muster-local-{:016x}", process::random()?));
        // Fails if the directory exists already: it would belong to someone else.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the directory {}", path.display()))?;
        Ok(TempDir(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a directory stays behind");
        }
    }
}
