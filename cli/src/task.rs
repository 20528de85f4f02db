//! `muster task`: submits tasks and shows them. Never decides anything about them.

mod history;
mod local;
mod logs;
mod run;
mod show;

pub use show::{Progress, module_name};

use crate::{
    client::{Client, ConnectArgs},
    exit::{self, Failure},
    ids::Token,
    output::{self, Format},
};
use clap::{Subcommand, builder::PossibleValuesParser};
use muster_protocol::{
    GroupName, TaskId,
    api::{Endpoint, ListPlace, ListTasks, TaskIds, Tasks},
    task::StateName,
};
use serde_json::json;
use std::process::ExitCode;

/// What to do with tasks.
#[derive(Subcommand)]
pub enum Command {
    /// Submit a task
    #[command(after_help = run::help())]
    Run(Box<run::Run>),
    /// List the tasks that were submitted last
    #[command(alias = "list")]
    Ls {
        /// Only those in this state
        #[arg(long, value_parser = states())]
        state: Option<String>,
        /// Only those of this group
        #[arg(long)]
        group: Option<GroupName>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Continue an earlier list: only tasks that were submitted before this place, which that
        /// list printed
        #[arg(long, value_name = "PLACE", value_parser = place)]
        before: Option<ListPlace>,
    },
    /// Show a task, its state, and the reason for its state
    #[command(alias = "explain")]
    Get {
        /// Its id, or the name it was submitted with (--id)
        id: Token,
    },
    /// Print the output of a finished task
    #[command(after_help = exit::HELP)]
    Result {
        /// Its id, or the name it was submitted with (--id)
        id: Token,
    },
    /// Show what a task's runs wrote to standard error and to the log
    Logs {
        /// Its id, or the name it was submitted with (--id)
        id: Token,
        /// Continue until the task has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Cancel tasks: a running task is stopped, a queued task does not start
    Cancel {
        /// Their ids, or the names they were submitted with (--id)
        #[arg(required = true)]
        ids: Vec<Token>,
    },
    /// Show what happened to a task: its attempts, lost and fenced workers, and which master decided
    #[command(
        after_help = "The record of the task has its latest attempts. The events of the fleet, which are kept for seven days by default, have the
rest: a lost worker that came back after its runs were killed (worker.fenced, worker.joined), outcomes that were refused, the registry while it did
not answer, and the master that decided each step. Times are those of the clocks of several machines."
    )]
    History {
        /// Its id, or the name it was submitted with (--id)
        id: Token,
    },
}

/// The states that a task may be in.
fn states() -> PossibleValuesParser {
    StateName::of_tasks().map(StateName::word).collect::<Vec<_>>().into()
}

/// Cancellations in one request: an answer has a view for each, and 1 MiB at most.
const CANCEL_MAX: usize = 16;

/// Runs the command.
pub async fn run(
    command: Command,
    connect: &ConnectArgs,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Run(run) => run.run(connect, format).await,
        Command::Ls { state, group, limit, before } => {
            let group = group.map(|group| group.to_string());
            let question = ListTasks { state, group, limit, before, due_before: None };
            list(&Client::connect(connect).await?, question, format).await.map(done)
        }
        Command::Get { id } => {
            let client = Client::connect(connect).await?;
            let view = client.task(&id).await?;
            let progress = show::progress(&client, &view, format).await?;
            show::one(&view, progress, format).map(done)
        }
        Command::Result { id } => {
            let client = Client::connect(connect).await?;
            let view = client.task(&id).await?;
            show::result(&client, &view, format).await
        }
        Command::Logs { id, follow } => {
            logs::run(&Client::connect(connect).await?, &id, follow, format).await.map(done)
        }
        Command::Cancel { ids } => {
            cancel(&Client::connect(connect).await?, &ids, format).await.map(done)
        }
        Command::History { id } => {
            let client = Client::connect(connect).await?;
            let view = client.task(&id).await?;
            history::show(&client, &view, format).await.map(done)
        }
    }
}

/// A place in a list, as [`shown_place`] writes it.
fn place(text: &str) -> Result<ListPlace, String> {
    let (ms, id) = text.split_once(':').ok_or("a place is written MILLISECONDS:ID")?;
    let submitted_ms = ms.parse().map_err(|_| "its milliseconds are not a number")?;
    let id = id.parse().map_err(|error| format!("its id is not valid: {error}"))?;
    Ok(ListPlace { submitted_ms, id })
}

fn shown_place(place: &ListPlace) -> String {
    format!("{}:{}", place.submitted_ms, place.id)
}

/// Asks for a list in as many pages as it takes.
async fn list(client: &Client, mut question: ListTasks, format: Format) -> anyhow::Result<()> {
    let mut all = Tasks::default();
    loop {
        let page: Tasks = client.insist(Endpoint::TaskList, &question).await?;
        let is_empty = page.tasks.is_empty();
        question.limit -= question.limit.min(page.tasks.len() as u64);
        question.before = page.more;
        all.tasks.extend(page.tasks);
        (all.more, all.is_cut) = (page.more, all.is_cut || page.is_cut);
        if question.limit == 0 || all.more.is_none() || is_empty {
            break;
        }
    }
    show::list(&all, format)?;
    if format == Format::Table
        && let Some(more) = &all.more
    {
        exit::hint(&format!(
            "there are more tasks: repeat the command with --before {}",
            shown_place(more)
        ));
    }
    if all.is_cut {
        exit::warn(
            "tasks that ended long ago may be missing: a list covers only the latest changes",
        );
    }
    Ok(())
}

/// Cancels tasks. Returns those of them that there are.
pub async fn cancel_all(client: &Client, ids: &[TaskId]) -> anyhow::Result<Tasks> {
    let mut found = Tasks::default();
    for chunk in ids.chunks(CANCEL_MAX) {
        let question = TaskIds { ids: chunk.to_vec() };
        let answer: Tasks = client.insist(Endpoint::TaskCancel, &question).await?;
        // All of them are cancelled, though one answer may not have room to show them.
        let is_missing = |id: &&TaskId| answer.tasks.iter().all(|view| view.record.id != **id);
        let missing: Vec<TaskId> = chunk.iter().filter(is_missing).copied().collect();
        found.tasks.extend(answer.tasks);
        found.tasks.extend(client.tasks(&missing).await?);
    }
    Ok(found)
}

async fn cancel(client: &Client, tokens: &[Token], format: Format) -> anyhow::Result<()> {
    let ids: Vec<TaskId> = tokens.iter().map(|token| token.id(client.names.fleet())).collect();
    let found = cancel_all(client, &ids).await?;
    if format == Format::Json {
        output::json(&found)?;
    } else {
        for view in &found.tasks {
            let state = view.record.state.word();
            output::line(&format!("{} {state}: {}", view.record.id, view.why))?;
        }
    }
    let is_unknown = |id: TaskId| found.tasks.iter().all(|view| view.record.id != id);
    let unknown = tokens.iter().zip(&ids).filter(|(_, id)| is_unknown(**id));
    let unknown: Vec<String> = unknown.map(|(token, _)| token.to_string()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::user(format!("there is no task {}", unknown.join(", "))).into())
}

/// The ids alone, as scripts want them.
fn print_ids(ids: &[TaskId], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(&json!({ "ids": ids })),
        Format::Table => ids.iter().try_for_each(|id| output::line(&id.to_string())),
    }
}
