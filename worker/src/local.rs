//! One task run in this process, in the same sandbox as on a worker and without a fleet. Never asks
//! a policy: whoever runs a task on a machine of their own may have there what they ask for.

use crate::{
    checkpoint::Checkpoints,
    compile::{CompileError, Compiler},
    engine::{Engine, Program},
    gate::Gate,
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

/// What the guest sees as its worker's name.
const WORKER: &str = "local";

/// Reports that may wait: more than a guest may make before it has to give way.
const REPORTS_MAX: usize = 4 * 1024;

/// What to run.
pub struct Task {
    /// Whose attempts these are.
    pub id: TaskId,
    /// A module that [`Engine::compile`] takes.
    pub wasm: Bytes,
    /// The bytes it is given, whatever the specification says of them.
    pub input: Bytes,
    /// Its arguments, limits, grants and retries; what is about placing it does not matter.
    pub spec: TaskSpec,
    /// The values of the secrets that it asks for, by name.
    pub secrets: Secrets,
}

/// What happens meanwhile.
pub enum Heard {
    /// The guest says something to people.
    Report(GuestReport),
    /// An attempt has failed, and another one follows.
    Again {
        /// How it ended.
        reason: String,
        /// How long the next one waits.
        wait: Duration,
    },
}

/// Runs a task to its end, each attempt on the last one's checkpoint. Needs a tokio runtime with all
/// its drivers; dropping the future ends the task. An error is this machine's, not the guest's.
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
    // There is no lease that could end.
    let gate = Gate::new(LeaseEnd::never());
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

/// A place for scratch directories that nobody else can look into; removed when this is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("muster-local-{:016x}", process::random()?));
        // An error where it is there already: it would be someone else's.
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
