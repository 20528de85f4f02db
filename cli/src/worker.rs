//! `muster worker`: the daemon, or questions about workers. Never changes a worker.

use crate::{
    client::{Client, Reach},
    exit::Failure,
    output::{self, Format},
    quantity,
};
use clap::{ArgMatches, Args, FromArgMatches, Subcommand};
use comfy_table::Cell;
use muster_protocol::{
    WorkerId,
    api::{WorkerView, Workers, endpoint},
    lease::Standing,
};
use serde_json::json;

/// The daemon's options alone, or a question.
pub enum Command {
    /// Be a worker.
    Run(Box<muster_worker::Config>),
    /// Ask about workers.
    Ask(Ask),
}

/// A question about workers.
#[derive(Subcommand)]
pub enum Ask {
    /// List the workers
    #[command(alias = "list")]
    Ls,
    /// Show a worker and what it runs
    Get {
        /// Which
        name: WorkerId,
    },
}

impl Args for Command {
    fn augment_args(command: clap::Command) -> clap::Command {
        let mut command = muster_worker::Config::augment_args(command);
        // What daemon and questions share is declared by the daemon; the questions need it too.
        for shared in ["nats", "fleet"] {
            if command.get_arguments().any(|arg| arg.get_id() == shared) {
                command = command.mut_arg(shared, |arg| arg.global(true));
            }
        }
        Ask::augment_subcommands(command)
            .subcommand_required(false)
            .arg_required_else_help(false)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Command::augment_args(command)
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if matches.subcommand_name().is_some() {
            Ask::from_arg_matches(matches).map(Command::Ask)
        } else {
            let config = muster_worker::Config::from_arg_matches(matches)?;
            Ok(Command::Run(Box::new(config)))
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Command::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Asks every master for the workers.
pub async fn list(client: &Client) -> anyhow::Result<Workers> {
    client.insist(endpoint::WORKER_LIST, &json!({})).await
}

/// The lease's standing as one word.
pub fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Live => "live",
        Standing::Draining => "draining",
        Standing::Released => "released",
        Standing::Lost => "lost",
    }
}

/// Answers the question.
pub async fn run(ask: Ask, reach: &Reach, format: Format) -> anyhow::Result<()> {
    let mut workers = list(&Client::connect(reach).await?).await?;
    let name = match ask {
        Ask::Ls if format == Format::Json => return output::json(&workers),
        Ask::Ls => return table(&workers.workers),
        Ask::Get { name } => name,
    };
    let found = workers.workers.iter().position(|view| view.lease.worker == name);
    let Some(found) = found else {
        let failure = Failure::user(format!("there is no worker {name}"));
        return Err(failure.hint("muster worker ls").into());
    };
    let view = workers.workers.swap_remove(found);
    if format == Format::Json { output::json(&view) } else { one(&view) }
}

fn table(workers: &[WorkerView]) -> anyhow::Result<()> {
    let rows = workers.iter().map(|view| {
        let lease = &view.lease;
        vec![
            Cell::new(&lease.worker),
            output::state_cell(standing(lease.standing)),
            Cell::new(&lease.offer.group),
            Cell::new(format!("{}/{}", view.attempts.len(), lease.offer.slots)),
            Cell::new(quantity::show_size(lease.offer.memory_bytes)),
            Cell::new(if view.linked { "yes" } else { "no" }),
            Cell::new(labels(view)),
            Cell::new(&lease.offer.version),
            Cell::new(output::ago(lease.renewed_at)),
        ]
    });
    let headers =
        ["name", "state", "group", "runs", "memory", "linked", "labels", "version", "renewed"];
    output::table(&headers, rows.collect())
}

fn one(view: &WorkerView) -> anyhow::Result<()> {
    let lease = &view.lease;
    let attempts = view.attempts.iter().map(ToString::to_string).collect::<Vec<_>>();
    output::fields(&[
        ("name", lease.worker.to_string()),
        ("state", standing(lease.standing).into()),
        ("group", lease.offer.group.to_string()),
        ("labels", labels(view)),
        ("slots", lease.offer.slots.to_string()),
        ("memory", quantity::show_size(lease.offer.memory_bytes)),
        ("version", lease.offer.version.clone()),
        ("linked", if view.linked { "yes" } else { "not to the master that answered" }.into()),
        ("session", lease.session.to_string()),
        (
            "renewed",
            format!("{} ({})", output::local(lease.renewed_at), output::ago(lease.renewed_at)),
        ),
        ("revision", view.revision.to_string()),
        ("runs", attempts.join("\n")),
    ])
}

fn labels(view: &WorkerView) -> String {
    let labels = view.lease.offer.labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(" ")
}
