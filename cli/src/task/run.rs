//! `muster task run`: submits a task, or many equal ones, and waits for their ends if requested. Never
//! cancels a task when the command stops waiting.

use super::local::Local;
use crate::{
    blob,
    client::{Client, ConnectArgs},
    completions::{self, Completion, Completions},
    exit::{self, Failure},
    ids,
    ids::Token,
    module,
    output::{self, Format},
    request,
    submit::{self, Chunk},
    terminal,
};
use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use muster_protocol::{
    BatchId, TaskId,
    api::{NewTask, Tasks},
    limit,
    task::Verdict,
    trace::TraceContext,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    process::ExitCode,
    sync::Arc,
};

/// Most tasks that one command submits without a file of inputs.
const COUNT_MAX: u64 = 1_000_000;

/// What to run.
#[derive(Args)]
pub struct Run {
    /// NAME, NAME:VERSION, sha256:DIGEST, or a .wasm file, which is stored by its digest
    module: String,
    /// The input: a text, @FILE, or - for standard input
    #[arg(long, short, value_name = "TEXT|@FILE|-", allow_hyphen_values = true)]
    input: Option<String>,
    /// How many such tasks to submit
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=COUNT_MAX))]
    count: u64,
    /// Wait for the end, print the output, and exit with the guest's exit code
    #[arg(long, short)]
    wait: bool,
    /// Run the file in this process, without a fleet. It gets all grants that it asks for; the value
    /// of a secret is the variable of the same name
    #[arg(long, conflicts_with = "count")]
    local: bool,
    /// A name that you choose for the task, or a task's id. Submitting the same work under it again
    /// is the same task; other work under it is refused [default: a new id]
    #[arg(long, value_name = "TOKEN")]
    id: Option<Token>,
    #[command(flatten)]
    options: request::Options,
}

/// What stands below the options in `--help`.
pub fn help() -> String {
    format!(
        "Examples:
  muster task run hello --input world --wait
  muster task run ./resize.wasm --input @photo.jpg --wait > small.jpg
  muster task run --local ./resize.wasm --input @photo.jpg > small.jpg
  muster task run simulate --count 100 --group gpu --select region=eu --timeout 10m
  muster task run wordcount -- --top 10
  muster task run bill --id order-4711 --input @4711.json --wait
  muster task run fetch --input http://example.com/ --allow-http example.com --wait
  muster task run build --env LANG --secret TOKEN --dir 1GiB --random --cpu-time 5m

A task gets variables, secrets, network, files and real random numbers only if you name them here. If no
worker's policy allows them, the task is refused at once: muster worker get NAME shows a policy.

{}",
        exit::HELP
    )
}

impl Run {
    /// Runs the command.
    pub async fn run(self, connect: &ConnectArgs, format: Format) -> anyhow::Result<ExitCode> {
        let (trace, fleet) = (self.options.trace.clone(), connect.fleet.as_str());
        trace
            .around("muster task run", fleet, async |trace| {
                self.traced(trace, connect, format).await
            })
            .await
    }

    async fn traced(
        self,
        trace: Option<TraceContext>,
        connect: &ConnectArgs,
        format: Format,
    ) -> anyhow::Result<ExitCode> {
        if self.local {
            let input = read_input(self.input.as_deref())?;
            blob::check_size(input.len() as u64)?;
            let Run { module, id, options, .. } = &self;
            let fleet = connect.fleet.as_str();
            let local = Local { module, input, id: id.as_ref(), fleet, options, trace };
            return local.run(format).await;
        }
        let (ids, batch) = self.ids(connect.fleet.as_str())?;
        let input = read_input(self.input.as_deref())?;
        // Check the size before anything is stored, also before the module is.
        blob::check_size(input.len() as u64)?;
        let client = Client::connect(connect).await?;
        let module = module::resolve(&client, &self.module).await?;
        let input = blob::input(&client, input).await?;
        let spec = Arc::new(self.options.spec(module, input, batch, trace)?);
        let audience = batch.unwrap_or(BatchId(ids[0].0));
        let ends = if self.wait {
            Some(Completions::listen(&client, audience).await?.telling_waits())
        } else {
            None
        };
        send(&client, &ids, |id| NewTask { id, spec: spec.clone() }).await?;
        match ends {
            None => super::print_ids(&ids, format).map(|()| ExitCode::SUCCESS),
            Some(mut ends) => {
                if self.id.is_some() {
                    ends.hurry();
                }
                tokio::select! {
                    code = wait(&client, ends, &ids, format) => code,
                    interrupt = tokio::signal::ctrl_c() => {
                        interrupt.context("cannot wait for Ctrl-C")?;
                        leave(&ids);
                        Ok(ExitCode::from(exit::CANCELLED))
                    }
                }
            }
        }
    }
}

impl Run {
    /// The ids of the tasks, and whom several of them tell.
    fn ids(&self, fleet: &str) -> anyhow::Result<(Vec<TaskId>, Option<BatchId>)> {
        match &self.id {
            None if self.count == 1 => Ok((vec![ids::new_task()?], None)),
            None => {
                let ids = (0..self.count).map(|_| ids::new_task()).collect::<Result<_, _>>()?;
                Ok((ids, Some(ids::new_batch()?)))
            }
            Some(token) if self.count == 1 => Ok((vec![token.id(fleet)], None)),
            Some(token) => token.ids(fleet, self.count).map(|(ids, batch)| (ids, Some(batch))),
        }
    }
}

fn read_input(input: Option<&str>) -> anyhow::Result<Bytes> {
    // Read one byte more than the limit, to detect an input that is too large.
    let within = limit::PAYLOAD_SIZE_MAX + 1;
    let mut bytes = Vec::new();
    match input {
        None => {}
        Some("-") => {
            io::stdin().take(within).read_to_end(&mut bytes).context("cannot read the input")?;
        }
        Some(text) => match text.strip_prefix('@') {
            None => bytes.extend_from_slice(text.as_bytes()),
            Some(file) => {
                let read =
                    fs::File::open(file).and_then(|file| file.take(within).read_to_end(&mut bytes));
                read.map_err(|error| Failure::user(format!("cannot read {file}: {error}")))?;
            }
        },
    }
    Ok(bytes.into())
}

async fn send(
    client: &Client,
    ids: &[TaskId],
    task: impl Fn(TaskId) -> NewTask,
) -> anyhow::Result<()> {
    let mut chunk = Chunk::default();
    for id in ids {
        if let Err(next) = chunk.push(submit::prepare(&task(*id))?) {
            std::mem::take(&mut chunk).submit(client).await?;
            chunk.push(next).map_err(|_| Failure::new("an empty request takes any task"))?;
        }
    }
    chunk.submit(client).await?;
    Ok(())
}

/// Prints outputs in the order of `ids`; the first bad end decides the exit code.
async fn wait(
    client: &Client,
    mut ends: Completions,
    ids: &[TaskId],
    format: Format,
) -> anyhow::Result<ExitCode> {
    for id in ids {
        ends.expect(*id);
        ends.stored(*id);
    }
    let mut early: BTreeMap<TaskId, Completion> = BTreeMap::new();
    let mut code = 0;
    for id in ids {
        let end = loop {
            if let Some(end) = early.remove(id) {
                break end;
            }
            let end = ends.next().await?;
            early.insert(end.task, end);
        };
        let Some(outcome) = end.outcome else {
            exit::error(&format!("task {id} is gone: {}", completions::GONE));
            code = if code == 0 { exit::FAILED } else { code };
            continue;
        };
        if code == 0 {
            code = exit::of(&outcome.verdict);
        }
        if format == Format::Table {
            output::raw(&blob::bytes(client, &outcome.output).await?)?;
            terminal::note_bytes(outcome.stderr.as_bytes());
        }
        if outcome.verdict != Verdict::Completed {
            exit::error(&format!("task {id} did not complete: {}", outcome.verdict.reason()));
        }
    }
    if format == Format::Json {
        output::json(&Tasks { tasks: client.tasks(ids).await?, ..Tasks::default() })?;
    }
    Ok(ExitCode::from(code))
}

fn leave(ids: &[TaskId]) {
    match ids {
        [id] => {
            exit::warn(&format!("task {id} goes on"));
            exit::hint(&format!("muster task get {id}, or end it with: muster task cancel {id}"));
        }
        _ => {
            exit::warn(&format!("{} tasks go on", ids.len()));
            exit::hint("muster task ls, or end them with: muster task cancel ID…");
        }
    }
}
