//! Shows tasks: a list, a single task, its attempts, its output. Never requests more than it shows.

use crate::{
    blob,
    client::Client,
    exit::{self, Failure},
    output::{self, Cell, Format},
    quantity,
};
use futures::StreamExt as _;
use muster_protocol::{
    api::{TaskView, Tasks},
    task::{Data, TaskSpec, TaskState, Verdict},
    time::WallMillis,
};
use serde::Deserialize;
use std::{fmt, process::ExitCode, time::Duration};

/// How long to listen for the progress of a running task: guests that report it do so often.
const PROGRESS_WITHIN: Duration = Duration::from_millis(400);

/// The longest sentence in a list, in characters.
const WHY_MAX: usize = 60;

/// The progress of a run, as its guest reports it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Progress {
    done: u64,
    #[serde(default)]
    total: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            0 => write!(f, "{}", self.done),
            total => write!(f, "{} of {total}", self.done),
        }
    }
}

/// The progress that a running task reports just now, if any.
pub async fn progress(
    client: &Client,
    view: &TaskView,
    format: Format,
) -> anyhow::Result<Option<Progress>> {
    if format == Format::Json || view.record.attempt().is_none() {
        return Ok(None);
    }
    let mut heard = client.nats.subscribe(client.names.progress(view.record.id)).await?;
    let message = tokio::time::timeout(PROGRESS_WITHIN, heard.next()).await.ok().flatten();
    Ok(message.and_then(|message| serde_json::from_slice(&message.payload).ok()))
}

/// A table of tasks.
pub fn list(tasks: &Tasks, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(tasks);
    }
    let rows = tasks.tasks.iter().map(|view| {
        let record = &view.record;
        let worker = record.state.last_attempt().map_or("-", |attempt| attempt.worker.as_str());
        vec![
            Cell::new(record.id),
            output::state_cell(record.state.word()),
            Cell::new(module_name(&record.spec)),
            Cell::new(&record.spec.group),
            Cell::new(worker),
            Cell::new(record.attempts),
            Cell::new(output::ago(record.submitted_at)),
            Cell::new(shortened(&view.why)),
        ]
    });
    let headers = ["id", "state", "module", "group", "worker", "tries", "submitted", "why"];
    output::table(&headers, &["tries", "group", "worker", "module"], rows.collect())
}

/// Everything about a task except its input and output.
pub fn one(view: &TaskView, progress: Option<Progress>, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(view);
    }
    let record = &view.record;
    let spec = &record.spec;
    let labels = spec.selector.iter().map(|(key, value)| format!("{key}={value}"));
    let mut rows = vec![
        ("id", record.id.to_string()),
        ("state", record.state.word().into()),
        ("why", view.why.clone()),
        ("module", format!("{} ({})", module_name(spec), spec.module.digest)),
        ("group", spec.group.to_string()),
        ("select", labels.collect::<Vec<_>>().join(" ")),
        ("priority", spec.priority.to_string()),
        ("args", spec.args.join(" ")),
        ("input", data(&spec.input)),
        ("timeout", quantity::show_duration(Duration::from_millis(spec.limits.timeout_ms))),
        ("memory", quantity::show_size(spec.limits.memory_bytes)),
        ("grants", spec.grants.to_string()),
        ("submitted", when(record.submitted_at)),
        ("attempts", attempts(view)),
    ];
    if record.cancel {
        rows.push(("cancel", "asked for".into()));
    }
    if let Some(attempt) = record.state.last_attempt() {
        rows.push(("attempt", attempt.id.to_string()));
        rows.push(("worker", attempt.worker.to_string()));
        rows.push(("dispatched", when(attempt.dispatched_at)));
    }
    if let Some(progress) = progress {
        rows.push(("progress", progress.to_string()));
    }
    if let TaskState::Done { outcome, ended_at, .. } = &record.state {
        rows.push(("ended", when(*ended_at)));
        rows.push(("ran", quantity::show_duration(Duration::from_micros(outcome.run_us))));
        if outcome.cpu_us > 0 {
            rows.push(("computed", quantity::show_duration(Duration::from_micros(outcome.cpu_us))));
        }
        rows.push(("output", data(&outcome.output)));
        if outcome.log_dropped > 0 {
            let dropped = quantity::show_size(outcome.log_dropped);
            rows.push(("log dropped", format!("{dropped}, over its rate or its size")));
        }
        rows.push(("stderr", outcome.stderr.clone()));
    }
    output::fields(&rows)?;
    if record.is_done() && record.state.word() == "completed" {
        exit::hint(&format!("muster task result {}", record.id));
    }
    Ok(())
}

/// Prints the output, and returns the exit code for the task's end.
pub async fn result(client: &Client, view: &TaskView, format: Format) -> anyhow::Result<ExitCode> {
    let record = &view.record;
    let TaskState::Done { outcome, .. } = &record.state else {
        let text = format!("task {} has no result yet: {}", record.id, view.why);
        let hint = format!("see its state: muster task get {}", record.id);
        return Err(Failure::user(text).hint(hint).into());
    };
    if format == Format::Json {
        output::json(outcome)?;
    } else {
        output::raw(&blob::bytes(client, &outcome.output).await?)?;
    }
    if outcome.verdict != Verdict::Completed {
        exit::error(&format!("task {} did not complete: {}", record.id, outcome.verdict.reason()));
    }
    Ok(ExitCode::from(exit::of(&outcome.verdict)))
}

/// The name of its module, or the begin of the digest if it has none.
pub fn module_name(spec: &TaskSpec) -> String {
    let digest = || spec.module.digest.hex()[..12].to_owned();
    spec.module.name.clone().unwrap_or_else(digest)
}

fn when(stamp: WallMillis) -> String {
    format!("{} ({})", output::local(stamp), output::ago(stamp))
}

fn data(data: &Data) -> String {
    match data {
        Data::Inline(bytes) if bytes.is_empty() => String::new(),
        Data::Inline(bytes) => quantity::show_size(bytes.len() as u64),
        Data::Blob { digest, size } => format!("{} ({digest})", quantity::show_size(*size)),
    }
}

fn attempts(view: &TaskView) -> String {
    let record = &view.record;
    match (record.failures, record.losses) {
        (0, 0) => record.attempts.to_string(),
        (failures, losses) => {
            format!("{} ({failures} failed, {losses} lost)", record.attempts)
        }
    }
}

fn shortened(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    if line.chars().count() <= WHY_MAX {
        return line.into();
    }
    line.chars().take(WHY_MAX - 1).chain(['…']).collect()
}
