//! `muster worker`: the daemon, or requests and commands about workers. Never reports a command as
//! carried out before the worker's lease shows it.

mod access;
mod rollout;
mod upgrade;

use crate::{
    client::{self, Client, ConnectArgs},
    exit::Failure,
    output::{self, Cell, Format},
    quantity,
};
use clap::{ArgMatches, Args, FromArgMatches, Subcommand};
use muster_protocol::{
    WorkerId,
    api::{CommandWorker, Endpoint, Transport, WorkerView, Workers},
    grant::Policy,
    lease::{self, Lease, LeaseState},
    limit,
    message::WorkerCommand,
};
use std::time::Duration;

/// How long the running tasks of a worker that drains may go on, unless told otherwise.
pub const DRAIN_DEADLINE: &str = "1m";

/// How often a worker is looked at that drains.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long after the deadline of a drain its runs may take to stop and to be recorded.
const EMPTY_MARGIN: Duration = Duration::from_secs(30);

/// The daemon's options alone, or a question.
pub enum Command {
    /// Be a worker.
    Run(Box<muster_worker::Config>),
    /// Ask about workers.
    Ask(WorkerAction),
}

/// A question or an order.
#[derive(Subcommand)]
pub enum WorkerAction {
    /// List the workers
    #[command(alias = "list")]
    Ls,
    /// Show a worker and what it runs
    Get {
        /// The worker
        name: WorkerId,
    },
    /// Give a worker no new tasks; its running tasks go on
    Cordon {
        /// The worker
        name: WorkerId,
    },
    /// Give a worker tasks again
    Uncordon {
        /// The worker
        name: WorkerId,
    },
    /// Empty a worker: it gets no new tasks, and tasks that still run at the deadline move elsewhere
    #[command(after_help = "Examples:
  muster worker drain shop-42 --deadline 5m
  muster worker drain shop-42 --wait    returns when it is empty
  muster worker uncordon shop-42        gives it tasks again")]
    Drain {
        /// The worker
        name: WorkerId,
        /// How long its running tasks may go on
        #[arg(long, value_name = "DURATION", default_value = DRAIN_DEADLINE, value_parser = deadline)]
        deadline: Duration,
        /// Wait until it has no tasks left
        #[arg(long, short)]
        wait: bool,
    },
    /// Let workers run another program, a few first, and undo it where it fails
    Upgrade(Box<upgrade::UpgradeArgs>),
    #[command(flatten)]
    Access(access::AccessAction),
}

fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = quantity::duration(text)?;
    if deadline > limit::DRAIN_MAX {
        return Err(format!("at most {} h", limit::DRAIN_MAX.as_secs() / 3600));
    }
    Ok(deadline)
}

impl Args for Command {
    fn augment_args(command: clap::Command) -> clap::Command {
        let mut command = muster_worker::Config::augment_args(command);
        // The daemon declares the options that it shares with the other subcommands. They need these
        // too, so make them global.
        for shared in ["nats", "fleet"] {
            if command.get_arguments().any(|arg| arg.get_id() == shared) {
                command = command.mut_arg(shared, |arg| arg.global(true));
            }
        }
        WorkerAction::augment_subcommands(command)
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
            WorkerAction::from_arg_matches(matches).map(Command::Ask)
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
    let ask = |asked| async move { client.insist(Endpoint::WorkerList, &asked).await };
    let workers = client::pages(ask, |page: Workers| (page.workers, page.more)).await?;
    Ok(Workers { workers, more: None })
}

/// Gives an order, and waits until the worker has obeyed.
pub async fn send_command(
    client: &Client,
    worker: &WorkerId,
    order: WorkerCommand,
) -> anyhow::Result<()> {
    let question = CommandWorker { worker: worker.clone(), order };
    let _: serde_json::Value = client.insist(Endpoint::WorkerOrder, &question).await?;
    Ok(())
}

/// Waits until a worker that drains has nothing left; the workers then.
async fn until_empty(
    client: &Client,
    name: &WorkerId,
    within: Duration,
) -> anyhow::Result<Workers> {
    let until = tokio::time::Instant::now() + within;
    loop {
        let workers = list(client).await?;
        let view = workers.workers.iter().find(|view| view.lease.worker == *name);
        match view.map(|view| (view.lease.state, view.attempts.len())) {
            // The worker is gone, or has no attempts left.
            None
            | Some((LeaseState::Lost | LeaseState::Released, _) | (LeaseState::Draining, 0)) => {
                return Ok(workers);
            }
            Some((LeaseState::Draining, left)) if tokio::time::Instant::now() > until => {
                let text = format!("{name} still has {left} runs, long after its deadline");
                let hint = format!("see what they are: muster worker get {name}");
                return Err(Failure::new(text).hint(hint).into());
            }
            Some((LeaseState::Draining, _)) => tokio::time::sleep(LOOK_EVERY).await,
            Some((LeaseState::Live | LeaseState::Cordoned, _)) => {
                let text = format!("{name} does not drain any more: it was given another command");
                return Err(Failure::new(text).into());
            }
        }
    }
}

/// Answers the question.
pub async fn run(ask: WorkerAction, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let client = Client::connect(connect).await?;
    let mut emptied_within = None;
    let (name, wanted) = match ask {
        WorkerAction::Access(action) => return access::run(&client, action, format).await,
        WorkerAction::Upgrade(args) => return upgrade::run(&client, *args, format).await,
        WorkerAction::Ls => {
            let workers = list(&client).await?;
            return match format {
                Format::Json => output::json(&workers),
                Format::Table => table(&workers.workers),
            };
        }
        WorkerAction::Get { name } => (name, None),
        WorkerAction::Cordon { name } => (name, Some(WorkerCommand::Cordon)),
        WorkerAction::Uncordon { name } => (name, Some(WorkerCommand::Uncordon)),
        WorkerAction::Drain { name, deadline, wait } => {
            emptied_within = wait.then_some(deadline + EMPTY_MARGIN);
            let deadline_ms = deadline.as_millis() as u64;
            (name, Some(WorkerCommand::Drain { deadline_ms }))
        }
    };
    let mut workers = list(&client).await?;
    let found = workers.workers.iter().position(|view| view.lease.worker == name);
    let Some(found) = found else {
        let failure = Failure::user(format!("there is no worker {name}"));
        return Err(failure.hint("muster worker ls").into());
    };
    if let Some(wanted) = wanted {
        send_command(&client, &name, wanted).await?;
        workers = match emptied_within {
            Some(within) => until_empty(&client, &name, within).await?,
            None => list(&client).await?,
        };
        workers.workers.retain(|view| view.lease.worker == name);
        return if format == Format::Json {
            output::json(&workers)
        } else {
            table(&workers.workers)
        };
    }
    let view = workers.workers.swap_remove(found);
    if format == Format::Json { output::json(&view) } else { output::fields(&fields(&view)) }
}

fn table(workers: &[WorkerView]) -> anyhow::Result<()> {
    let lacks_anything = workers.iter().any(|view| view.lease.lacks().is_some());
    let rows = workers.iter().map(|view| {
        let lease = &view.lease;
        let mut row = vec![
            Cell::new(&lease.worker),
            output::state_cell(state(view)),
            Cell::new(&lease.offer.group),
            Cell::new(format!("{}/{}", view.attempts.len(), lease.offer.slots)),
            Cell::new(quantity::show_size(lease.offer.memory_bytes)),
            Cell::new(linked(view).unwrap_or("no")),
            Cell::new(labels(view)),
            Cell::new(&lease.offer.version),
            Cell::new(output::ago(lease.renewed_at)),
        ];
        if lacks_anything {
            row.push(Cell::new(lacks(lease)));
        }
        row
    });
    let mut headers =
        vec!["name", "state", "group", "runs", "memory", "linked", "labels", "version", "renewed"];
    if lacks_anything {
        headers.push("lacks");
    }
    let less = ["version", "memory", "linked", "labels", "renewed"];
    let less = if lacks_anything { &less[..] } else { &less[..4] };
    output::table(&headers, less, rows.collect())
}

/// The word for a worker whose lease offers more than its certificate permits.
const DENIED: &str = "denied";

/// How a worker is, as one word. What it was ordered says more than that it is unwell.
pub fn state(view: &WorkerView) -> &'static str {
    let lease = &view.lease;
    match (lease.state, lease.lacks()) {
        (LeaseState::Live, _) if view.denied.is_some() => DENIED,
        (LeaseState::Live, Some(_)) => lease::UNWELL,
        (standing, _) => standing.word(),
    }
}

/// Whether masters may give it tasks.
pub fn takes_tasks(view: &WorkerView) -> bool {
    view.lease.state == LeaseState::Live && view.denied.is_none()
}

/// What carries its link to the master that answered, if it has one. A master of an earlier version does not say
/// what.
pub fn linked(view: &WorkerView) -> Option<&'static str> {
    view.linked.then(|| view.transport.map_or("yes", Transport::word))
}

/// What its host lacks.
fn lacks(lease: &Lease) -> String {
    lease.lacks().map(ToString::to_string).unwrap_or_default()
}

/// Everything about a worker, as names and values.
pub fn fields(view: &WorkerView) -> Vec<(&'static str, String)> {
    let lease = &view.lease;
    let attempts = view.attempts.iter().map(ToString::to_string).collect::<Vec<_>>();
    vec![
        ("name", lease.worker.to_string()),
        ("state", state(view).into()),
        (
            "denied",
            view.denied.as_ref().map_or(String::new(), |why| format!("its certificate {why}")),
        ),
        ("lacks", lacks(lease)),
        ("group", lease.offer.group.to_string()),
        ("labels", labels(view)),
        ("slots", lease.offer.slots.to_string()),
        ("memory", memory(lease)),
        ("policy", policy(&lease.offer.policy)),
        ("version", lease.offer.version.clone()),
        ("program", program(view)),
        ("linked", linked(view).unwrap_or("not to the master that answered").into()),
        ("session", lease.session.to_string()),
        ("home", lease.home.as_ref().map_or("none".into(), |home| home.master.to_string())),
        (
            "renewed",
            format!("{} ({})", output::local(lease.renewed_at), output::ago(lease.renewed_at)),
        ),
        ("revision", view.revision.to_string()),
        ("runs", attempts.join("\n")),
    ]
}

/// What it says of its program, if it takes upgrades.
fn program(view: &WorkerView) -> String {
    let Some(report) = &view.lease.program else { return String::new() };
    let runs = report.digest.map_or("the installed one".into(), |digest| digest.to_string());
    let pending = view.upgrade.filter(|upgrade| upgrade.is_pending(report));
    match (pending, &report.failed) {
        (Some(_), _) => format!("{runs}\nan upgrade is not carried out yet"),
        (None, Some(reason)) => format!("{runs}\nthe last upgrade failed: {reason}"),
        (None, None) => runs,
    }
}

/// The memory of one run, and of all together if the worker says it.
fn memory(lease: &Lease) -> String {
    let one = quantity::show_size(lease.offer.memory_bytes);
    match lease.offer.memory_total {
        Some(total) => format!("{one} for a run, {} for all", quantity::show_size(total)),
        None => one,
    }
}

/// What tasks may have there, a line for each kind of grant.
fn policy(policy: &Policy) -> String {
    let mut lines = Vec::new();
    if policy.env {
        lines.push("environment variables".into());
    }
    if !policy.secrets.is_empty() {
        let names: Vec<&str> = policy.secrets.iter().map(String::as_str).collect();
        lines.push(format!("the secrets {}", names.join(", ")));
    }
    for (secret, rule) in &policy.secret_modules {
        let digests = rule.digests.iter().map(ToString::to_string);
        let signers = rule.signers.iter().map(|signer| format!("signed by {signer}"));
        let modules: Vec<String> = digests.chain(signers).collect();
        lines.push(format!("the secret {secret} only for modules {}", modules.join(", ")));
    }
    if !policy.signers.is_empty() {
        let signers: Vec<String> = policy.signers.iter().map(ToString::to_string).collect();
        lines.push(format!("only modules that are signed by {}", signers.join(", ")));
    }
    if !policy.http.is_empty() {
        let rules: Vec<String> = policy.http.iter().map(ToString::to_string).collect();
        lines.push(format!("HTTP to {}", rules.join(", ")));
    }
    if policy.dir_bytes > 0 {
        lines.push(format!("a directory of {}", quantity::show_size(policy.dir_bytes)));
    }
    lines.push(format!("a clock of {}", quantity::show_clock(policy.clock_ns)));
    if policy.random {
        lines.push("random numbers".into());
    }
    lines.join("\n")
}

/// Its labels, as `KEY=VALUE`.
pub fn labels(view: &WorkerView) -> String {
    let labels = view.lease.offer.labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(" ")
}
