//! `muster task run --local`: runs a file in this process, in a worker's sandbox, without a fleet. Never
//! connects to anything that the task was not granted.

use crate::{
    exit::{self, Failure},
    ids,
    ids::Token,
    module,
    output::{self, Format},
    quantity, request, terminal,
};
use anyhow::Context as _;
use bytes::Bytes;
use indicatif::ProgressBar;
use muster_protocol::{
    task::{Data, ModuleRef, Outcome, Verdict},
    trace::TraceContext,
};
use muster_worker::{
    compile::Compiler,
    local::{self, Heard, Task},
    policy::{Rules, Secrets},
    sandbox::GuestReport,
};
use std::{collections::BTreeSet, env, process::ExitCode};

/// What to run locally, and under which id.
pub struct Local<'a> {
    /// The module's file.
    pub module: &'a str,
    /// The input.
    pub input: Bytes,
    /// The task's id, or a token for it.
    pub id: Option<&'a Token>,
    /// The name of the fleet, which ids of tokens derive from.
    pub fleet: &'a str,
    /// Limits, grants and the rest. Which worker would run it in a fleet does not matter.
    pub options: &'a request::Options,
    /// The trace that the task belongs to.
    pub trace: Option<TraceContext>,
}

impl Local<'_> {
    /// Runs it to its end.
    pub async fn run(self, format: Format) -> anyhow::Result<ExitCode> {
        let (digest, wasm) = module::load(self.module)?;
        let module = ModuleRef { name: None, digest };
        // The input is not part of the spec: it need not fit a record, and may have any allowed size.
        let spec = self.options.spec(module, Data::EMPTY, None, self.trace)?;
        let secrets = secrets(&spec.grants.secrets)?;
        let id = self.id.map_or_else(ids::new_task, |token| Ok(token.id(self.fleet)))?;
        let bar = terminal::progress_bar(None, "{pos}/{len} in {elapsed}");
        let compiler = Compiler::new(&Rules::default());
        let running = local::run(
            &compiler,
            Task { id, wasm: wasm.into(), input: self.input, spec, secrets },
            |heard| {
                tell(&bar, heard);
            },
        );
        let outcome = tokio::select! {
            outcome = running => Some(outcome?),
            interrupt = tokio::signal::ctrl_c() => {
                interrupt.context("cannot wait for Ctrl-C")?;
                None
            }
        };
        bar.finish_and_clear();
        match outcome {
            Some(outcome) => show(&outcome, format),
            None => Ok(ExitCode::from(exit::CANCELLED)),
        }
    }
}

fn show(outcome: &Outcome, format: Format) -> anyhow::Result<ExitCode> {
    match (&outcome.output, format) {
        (_, Format::Json) => output::json(outcome)?,
        (Data::Inline(bytes), Format::Table) => output::raw(bytes)?,
        (Data::Blob { .. }, Format::Table) => {}
    }
    if outcome.verdict != Verdict::Completed {
        exit::error(&format!("the task did not complete: {}", outcome.verdict.reason()));
    }
    Ok(ExitCode::from(exit::of(&outcome.verdict)))
}

/// The values of secrets: a worker reads files for them, this process its environment.
fn secrets(names: &BTreeSet<String>) -> anyhow::Result<Secrets> {
    let value = |name: &String| {
        let value = env::var(name).map_err(|_| {
            let failure = Failure::user(format!("--secret {name}: there is no such variable here"));
            failure.hint(format!("with --local a secret is a variable: {name}=… muster task run …"))
        })?;
        Ok((name.clone(), value))
    };
    names.iter().map(value).collect::<anyhow::Result<_>>().map(Secrets)
}

fn tell(bar: &ProgressBar, heard: Heard) {
    match heard {
        Heard::Report(GuestReport::Log(chunk)) => bar.suspend(|| terminal::note_bytes(&chunk.text)),
        Heard::Report(GuestReport::Progress { done, total, .. }) => {
            if total > 0 {
                bar.set_length(total);
            }
            bar.set_position(done);
        }
        Heard::Again { reason, wait } => bar.suspend(|| {
            let wait = quantity::show_duration(wait);
            exit::warn(&format!("{reason}; the next attempt begins in {wait}"));
        }),
    }
}
