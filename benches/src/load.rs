//! Submits work to a fleet and times it: with the command, as operators do, or over NATS where the
//! command's start would take most of the time. Never ignores the outcome of a task.

use crate::usage;
use anyhow::Context as _;
use futures::StreamExt as _;
use muster_protocol::{
    BatchId, Digest, TaskId,
    api::{Endpoint, NewTask, Submit, TaskEnded},
    subject::Names,
    task::{Data, ModuleRef, Outcome, TaskSpec},
};
use muster_tests::{Fleet, fleet::text};
use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long to wait for the end of one task.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The times of one `muster map` of a file.
pub struct Mapped {
    /// From the start of the command to its end.
    pub took: Duration,
    /// The processor time of the command.
    pub client: Duration,
}

/// Maps a module over the lines of a file, and demands that all tasks complete.
///
/// # Errors
///
/// A task did not complete, or a result is missing.
pub fn map(fleet: &Fleet, module: &str, inputs: &Path, lines: usize) -> anyhow::Result<Mapped> {
    let results = fleet.path("results");
    let mut command = fleet.muster(&["map", module, text(inputs)]);
    command.stdin(Stdio::null()).stdout(File::create(&results)?).stderr(Stdio::piped());
    let before = usage::cpu_of_ended_children()?;
    let began = Instant::now();
    let ended = command.spawn()?.wait_with_output()?;
    let took = began.elapsed();
    let client = usage::cpu_of_ended_children()? - before;
    let said = String::from_utf8_lossy(&ended.stderr);
    anyhow::ensure!(ended.status.success(), "muster map ended with {}: {said}", ended.status);
    let mut completed = 0;
    for line in BufReader::new(File::open(&results)?).split(b'\n') {
        completed += usize::from(is_completed(&line?));
    }
    anyhow::ensure!(completed == lines, "{completed} of {lines} tasks have completed");
    Ok(Mapped { took, client })
}

/// Whether a line of results says that its task completed. Only its beginning is searched, because the
/// output after it may be long.
fn is_completed(line: &[u8]) -> bool {
    let head = &line[..line.len().min(200)];
    String::from_utf8_lossy(head).contains(r#""verdict":"completed""#)
}

/// The task for a module that was pushed under this name.
///
/// # Errors
///
/// There is no module with this name.
pub fn spec(fleet: &Fleet, module: &str) -> anyhow::Result<TaskSpec> {
    let listed = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    let modules = listed["modules"].as_array().context("a list of modules")?;
    let found = modules.iter().find(|each| each["name"] == module).context("the module")?;
    let digest = found["versions"][0]["digest"].as_str().context("a digest")?;
    let module = ModuleRef { name: Some(module.into()), digest: digest.parse::<Digest>()? };
    Ok(TaskSpec::new(module, Data::EMPTY))
}

/// Waits until the server has received everything that this connection has sent, such as its
/// subscriptions: a server answers in order. Needed before another connection sends to them.
///
/// # Errors
///
/// The server does not answer.
pub async fn heard(client: &async_nats::Client) -> anyhow::Result<()> {
    client.request("$JS.API.INFO", Default::default()).await?;
    Ok(())
}

/// A connected client of the masters' interface.
pub struct Client {
    nats: async_nats::Client,
    names: Names,
    next: u128,
}

impl Client {
    /// Connects to a fleet's NATS.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn connect(fleet: &Fleet) -> anyhow::Result<Self> {
        let nats = async_nats::connect(fleet.nats_url()).await?;
        // No other client of the fleet uses these ids.
        let next = u128::from(muster_wire::process::random()?) << 64;
        Ok(Client { nats, names: fleet.names(), next })
    }

    /// Submits one task and waits for the message about its end. Returns how long both took, and the
    /// outcome.
    ///
    /// # Errors
    ///
    /// The task was refused, or no message about its end came.
    pub async fn run(&mut self, spec: &Arc<TaskSpec>) -> anyhow::Result<(Duration, Outcome)> {
        self.next += 1;
        let id = TaskId(self.next);
        let mut news = self.nats.subscribe(self.names.done(BatchId(id.0))).await?;
        self.nats.flush().await?;
        let began = Instant::now();
        self.submit(&[NewTask { id, spec: spec.clone() }]).await?;
        let told = tokio::time::timeout(ENDS_WITHIN, news.next()).await.context("no end")?;
        let took = began.elapsed();
        let told: Vec<TaskEnded> = serde_json::from_slice(&told.context("no news")?.payload)?;
        let ended = told.into_iter().find(|ended| ended.task == id).context("another's end")?;
        news.unsubscribe().await?;
        Ok((took, Outcome::clone(&ended.outcome)))
    }

    /// Runs one task after another. Returns how long each took.
    ///
    /// # Errors
    ///
    /// A task did not complete.
    pub async fn run_each(
        &mut self,
        spec: &Arc<TaskSpec>,
        count: usize,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let (took, outcome) = self.run(spec).await?;
            anyhow::ensure!(outcome.verdict.word() == "completed", "{outcome:?}");
            times.push(took);
        }
        Ok(times)
    }

    /// Submits tasks, and does not wait for their ends.
    ///
    /// # Errors
    ///
    /// The tasks were refused.
    pub async fn submit_many(&mut self, spec: &Arc<TaskSpec>, count: usize) -> anyhow::Result<()> {
        let tasks = (0..count).map(|_| {
            self.next += 1;
            NewTask { id: TaskId(self.next), spec: spec.clone() }
        });
        let tasks: Vec<NewTask> = tasks.collect();
        for chunk in tasks.chunks(SUBMIT_AT_ONCE) {
            self.submit(chunk).await?;
        }
        Ok(())
    }

    async fn submit(&self, tasks: &[NewTask]) -> anyhow::Result<()> {
        let body = serde_json::to_vec(&Submit { tasks: tasks.to_vec() })?;
        let subject = self.names.api(Endpoint::TaskSubmit);
        let answer = self.nats.request(subject, body.into()).await?;
        match answer.headers.and_then(|all| all.get("Nats-Service-Error").cloned()) {
            Some(refusal) => anyhow::bail!("it was not accepted: {refusal}"),
            None => Ok(()),
        }
    }
}

/// The number of tasks in one request, far below the limit of a request.
const SUBMIT_AT_ONCE: usize = 100;
