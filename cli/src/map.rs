//! `muster map`: runs one task for each line of a file, with at most a window of tasks in flight. Never
//! holds more than a window of inputs and results.

mod excess;
mod lines;
mod results;
mod state;

use crate::{
    blob,
    client::{Client, ConnectArgs},
    completions::{Completion, Completions},
    exit::{self, Failure},
    ids, module, request,
    submit::{self, Chunk},
    terminal,
};
use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use indicatif::ProgressBar;
use lines::{InputLine, Lines};
use muster_protocol::{
    BatchId, Digest, TaskId,
    api::NewTask,
    limit,
    message::ObjectStore,
    task::{Data, TaskSpec},
    trace::TraceContext,
};
use results::Results;
use state::MapState;
use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Requests under way at once: enough to hide their round trip.
const SENDS_MAX: usize = 4;

/// How long a request waits for more lines. Files fill one sooner; people type slower.
const FILL_WITHIN: Duration = Duration::from_millis(10);

/// Bytes of large inputs that wait in one request to be stored first.
const BLOBS_SIZE_MAX: usize = 16 * 1024 * 1024;

/// Large inputs of a request that are stored at once.
const UPLOADS_MAX: usize = 8;

/// What to run on what.
#[derive(Args)]
#[command(after_help = "Examples:
  muster map wordcount inputs.jsonl > results.jsonl
  seq 1 10000 | muster map is-prime - --group edge --unordered
  muster map ./resize.wasm names.txt --timeout 30s --retries 2
  muster map wordcount inputs.jsonl --resume run.state >> results.jsonl

Each line, without its newline, is the input of one task. Each result is a line of JSON:
  {\"line\":1,\"task\":\"01j…\",\"verdict\":\"completed\",\"output\":\"text\"}
If the output is not UTF-8, it is in output_base64. If the task did not complete, reason says why. A line
that is blank, too long, or not JSON although it has to be, is not submitted: its verdict is refused.

With --resume the same command continues where it was interrupted, by Ctrl-C, a crash or the loss of its
host. Tasks that are submitted again are the same tasks. The results of tasks that have ended meanwhile are
read, and no result is printed twice. Append the results to one file (>>): then even a killed process leaves
no incomplete line behind. The fleet keeps finished tasks for a day at most; older tasks run again.

Exit codes: 0 when every task completed, 1 otherwise, 2 for bad input, 130 when interrupted.")]
pub struct Map {
    /// NAME, NAME:VERSION, sha256:DIGEST, or a .wasm file, which is stored by its digest
    module: String,
    /// A file with one input on each line, or - for standard input
    inputs: PathBuf,
    /// Print results as they come, not in the order of the inputs
    #[arg(long, conflicts_with = "resume")]
    unordered: bool,
    /// Record the progress in this file; if the file exists, continue from there
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Submit no more lines after a task has not completed; open tasks still run to their end
    #[arg(long)]
    fail_fast: bool,
    /// Refuse lines that are not JSON [default for a file named *.jsonl]
    #[arg(long)]
    json: bool,
    /// How many tasks may be open at once; in order, results that wait for an earlier one count, too
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    in_flight: u64,
    #[command(flatten)]
    options: request::Options,
}

impl Map {
    /// Runs the command.
    pub async fn run(self, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
        let (trace, fleet) = (self.options.trace.clone(), connect.fleet.as_str());
        trace.around("muster map", fleet, async |trace| self.traced(trace, connect).await).await
    }

    async fn traced(
        self,
        trace: Option<TraceContext>,
        connect: &ConnectArgs,
    ) -> anyhow::Result<ExitCode> {
        let lines = Lines::open(&self.inputs, self.json).await?;
        let client = Client::connect(connect).await?;
        let module = module::resolve(&client, &self.module).await?;
        // Reject invalid options before the first line is read.
        let mut spec = self.options.spec(module, Data::EMPTY, None, trace)?;
        let state = match &self.resume {
            Some(file) => MapState::open(file, ids::new_batch()?, &spec)?,
            None => MapState::new(ids::new_batch()?),
        };
        spec.batch = Some(state.batch());
        let ends = Completions::listen(&client, state.batch()).await?;
        let written = state.written();
        let mut run = Run {
            client,
            spec,
            lines,
            ends,
            results: Results::after(state, !self.unordered),
            // Tasks that were in flight at the interruption may have ended since.
            unheard: if written > 0 { written + self.in_flight } else { 0 },
            fail_fast: self.fail_fast,
            window: self.in_flight,
            request: Request::default(),
            sending: FuturesUnordered::new(),
            line_of: HashMap::new(),
            taken: 0,
            skip: written,
            submitted: 0,
            is_read: false,
            bar: bar(),
        };
        let begun = Instant::now();
        let interrupted = tokio::select! {
            ended = run.finish() => { ended.inspect_err(|_| run.leave())?; false }
            interrupt = tokio::signal::ctrl_c() => { interrupt.context("cannot wait for Ctrl-C")?; true }
        };
        run.bar.finish_and_clear();
        if interrupted {
            run.leave();
            return Ok(ExitCode::from(exit::CANCELLED));
        }
        let is_well = run.results.summary(begun.elapsed());
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
    }
}

/// Tasks that go out together, and the large inputs that must be stored before them.
#[derive(Default)]
struct Request {
    tasks: Chunk,
    ids: Vec<TaskId>,
    blobs: Vec<(Digest, Bytes)>,
    blobs_size: usize,
    /// When it has waited long enough for more.
    due: Option<Instant>,
}

impl Request {
    async fn send(self, client: Client) -> anyhow::Result<Vec<TaskId>> {
        stream::iter(self.blobs.iter().map(Ok))
            .try_for_each_concurrent(UPLOADS_MAX, |(digest, bytes)| {
                let client = &client;
                async move { blob::put(client, ObjectStore::Data, *digest, bytes).await.map(drop) }
            })
            .await?;
        self.tasks.submit(&client).await?;
        Ok(self.ids)
    }
}

/// One run of a module over lines.
struct Run {
    client: Client,
    /// Every task's, but for the input.
    spec: TaskSpec,
    lines: Lines,
    ends: Completions,
    results: Results,
    /// Lines taken and not printed, at most.
    window: u64,
    /// The tasks of lines up to this one may have ended before this process began to listen.
    unheard: u64,
    fail_fast: bool,
    request: Request,
    sending: FuturesUnordered<BoxFuture<'static, anyhow::Result<Vec<TaskId>>>>,
    line_of: HashMap<TaskId, u64>,
    taken: u64,
    /// Lines whose results were written before.
    skip: u64,
    submitted: u64,
    is_read: bool,
    bar: ProgressBar,
}

impl Run {
    async fn finish(&mut self) -> anyhow::Result<()> {
        loop {
            let may_send = self.sending.len() < SENDS_MAX;
            let due = self.request.due.filter(|_| may_send);
            let may_read = !self.is_read
                && (may_send || self.request.tasks.is_empty())
                && self.taken.saturating_sub(self.results.state().written()) < self.window;
            if self.is_read && due.is_none() && self.sending.is_empty() && self.ends.is_idle() {
                return Ok(());
            }
            tokio::select! {
                end = self.ends.next(), if !self.ends.is_idle() => self.end(end?).await?,
                Some(sent) = self.sending.next() => {
                    for id in sent? {
                        self.submitted += 1;
                        self.ends.stored(id);
                        if self.line_of.get(&id).is_some_and(|line| *line <= self.unheard) {
                            self.ends.hurry();
                        }
                    }
                }
                line = self.lines.next(), if may_read => self.read(line?).await?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.send(),
            }
        }
    }

    async fn read(&mut self, line: Option<InputLine>) -> anyhow::Result<()> {
        let Some(line) = line else {
            if self.taken < self.skip {
                let (lines, results) = (self.taken, self.skip);
                let text =
                    format!("the inputs have {lines} lines, and {results} results were written");
                return Err(Failure::user(text).hint("use the same inputs as at the start").into());
            }
            self.stop();
            return Ok(());
        };
        self.taken += 1;
        match line {
            _ if self.taken <= self.skip => Ok(()),
            Ok(input) => self.take(input),
            Err(why) => {
                self.results.refuse(self.taken, why);
                self.print().await
            }
        }
    }

    /// Reads no more lines.
    fn stop(&mut self) {
        self.is_read = true;
        self.send();
    }

    fn take(&mut self, input: Bytes) -> anyhow::Result<()> {
        let id = of_line(self.results.state().batch(), self.taken);
        let size = input.len();
        let (data, blob) = if size <= limit::INLINE_SIZE_MAX {
            (Data::Inline(input), None)
        } else {
            let digest = muster_module::digest(&input);
            (Data::Blob { digest, size: size as u64 }, Some((digest, input)))
        };
        let spec = Arc::new(TaskSpec { input: data, ..self.spec.clone() });
        let task = submit::prepare(&NewTask { id, spec })?;
        if let Err(task) = self.request.tasks.push(task) {
            self.send();
            // An empty request accepts any prepared task.
            let _ = self.request.tasks.push(task);
        }
        self.request.ids.push(id);
        self.request.due.get_or_insert_with(|| Instant::now() + FILL_WITHIN);
        self.line_of.insert(id, self.taken);
        self.ends.expect(id);
        if let Some(blob) = blob {
            self.request.blobs.push(blob);
            self.request.blobs_size += size;
            if self.request.blobs_size >= BLOBS_SIZE_MAX {
                self.send();
            }
        }
        self.bar.set_length(self.taken);
        Ok(())
    }

    fn send(&mut self) {
        let request = std::mem::take(&mut self.request);
        if !request.tasks.is_empty() {
            self.sending.push(Box::pin(request.send(self.client.clone())));
        }
    }

    async fn end(&mut self, end: Completion) -> anyhow::Result<()> {
        let Some(line) = self.line_of.remove(&end.task) else { return Ok(()) };
        self.results.add(line, end);
        self.print().await
    }

    async fn print(&mut self) -> anyhow::Result<()> {
        self.results.print(&self.client).await?;
        self.bar.set_position(self.results.state().written());
        if self.fail_fast && !self.is_read && self.results.has_failed() {
            exit::warn("a task did not complete, so no further line is submitted");
            self.stop();
        }
        Ok(())
    }

    /// Says what goes on without this command.
    fn leave(&self) {
        self.bar.finish_and_clear();
        if self.submitted > 0 {
            let ended = self.results.ended() - self.skip;
            let open = self.submitted - ended.min(self.submitted);
            exit::warn(&format!(
                "{} tasks were submitted, and {open} of them still run",
                self.submitted
            ));
            exit::hint(match self.results.state().is_kept() {
                true => "the same command continues with them, and prints no result twice",
                false => "muster task ls, or end them with: muster task cancel ID…",
            });
        } else {
            exit::warn("no task was submitted");
        }
    }
}

/// The task of a line. It follows from both, so that a line that is submitted again is the same task;
/// and the ids of a run have the order of its lines.
fn of_line(batch: BatchId, line: u64) -> TaskId {
    TaskId(batch.0.wrapping_add(u128::from(line)))
}

/// A bar, when someone looks and the results go elsewhere.
fn bar() -> ProgressBar {
    if io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    terminal::progress_bar(Some(0), "{pos}/{len} tasks in {elapsed}")
}
