//! `muster worker upgrade`: lets workers run another program, a few first, and undoes it where it fails. Each worker
//! decides by itself whether the program is good enough to stay.

use super::{
    DRAIN_DEADLINE, deadline, list,
    rollout::{AbortIf, Pace, Rollout, Step},
};
use crate::{
    blob,
    client::Client,
    exit::{self, Failure},
    module,
    output::{self, Cell, Format},
    quantity, terminal,
};
use bytes::Bytes;
use clap::Args;
use muster_protocol::{
    Digest, GroupName, WorkerId,
    api::{Endpoint, SetUpgrade, UpgradeView, WorkerView},
    limit,
    message::ObjectStore,
    signature::Signature,
    upgrade::{COMMENT, Program, Upgrade, Wanted},
};
use serde::Serialize;
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// How often the workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a worker may take beyond the deadline of its runs: it asks every few seconds, fetches the program, and tries
/// it.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// The digest of no program: a worker that shall go back from it stays as it is.
const NOTHING: Digest = Digest([0; 32]);

/// The most bytes of a file with a signature that are read.
const SIGNATURE_FILE_MAX: u64 = 4 * 1024;

/// Which workers, which program, and how.
#[derive(Args)]
#[command(
    after_help = "A worker takes upgrades if it was started with --upgrades and --upgrade-signer. It fetches the
program, lets its runs finish, and starts the new program. If that does not get a lease and a link and
does not run a guest in time, the worker goes back to the program before. A worker that is away now
carries the upgrade out when it comes back.

Examples:
  muster module key operator.key                    a key; its public half goes to --upgrade-signer
  muster worker upgrade --group shops --file muster-worker --sign operator.key
  muster worker upgrade --group shops --file muster-worker --canary 2 --abort-if 'failed>5%,min=3'
  muster worker upgrade shop-42 --undo              back to the program before"
)]
pub struct UpgradeArgs {
    /// The workers
    #[arg(value_name = "WORKER", required_unless_present = "group")]
    names: Vec<WorkerId>,
    /// All workers of this group
    #[arg(long, value_name = "NAME", conflicts_with = "names")]
    group: Option<GroupName>,
    /// The program: a static muster-worker for the workers' hosts
    #[arg(long, value_name = "FILE", required_unless_present = "undo")]
    file: Option<PathBuf>,
    /// Go back to the program that ran before the present one, or withdraw an upgrade that is not carried out yet
    #[arg(long, conflicts_with_all = ["file", "sign", "signature", "abort_if"])]
    undo: bool,
    /// Sign the program with this secret key of `muster module key`
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    sign: Option<PathBuf>,
    /// The signature of the program, as minisign makes it; its trusted comment begins with `program:`
    /// [default: the file's name with .minisig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// How many workers are upgraded first
    #[arg(long, value_name = "N", default_value_t = 1)]
    canary: usize,
    /// How many of the others are upgraded at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_once)]
    at_once: usize,
    /// Undo the upgrade if more than this share of the runs on upgraded workers fail. Nothing is decided before so many
    /// runs have ended [default of min: 3]
    #[arg(long, value_name = "failed>PERCENT%[,min=RUNS]")]
    abort_if: Option<AbortIf>,
    /// How long the runs of the first ones are watched, with --abort-if
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = quantity::duration)]
    watch: Duration,
    /// How long running tasks may go on. What still runs then is queued again, and goes on from its checkpoint if it
    /// has one
    #[arg(long, value_name = "DURATION", default_value = DRAIN_DEADLINE, value_parser = deadline)]
    deadline: Duration,
}

fn at_once(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a number from 1 on".into())
}

/// What became of a worker.
#[derive(Serialize)]
struct Row {
    worker: WorkerId,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Row {
    fn new(worker: &WorkerId, state: &'static str, reason: String) -> Self {
        Row { worker: worker.clone(), state, reason }
    }
}

/// Carries it out.
pub async fn run(client: &Client, args: UpgradeArgs, format: Format) -> anyhow::Result<()> {
    let chosen = choose(&args, list(client).await?.workers)?;
    let Some(file) = &args.file else { return undo(client, &args, chosen, format).await };
    let program = store(client, file, &args).await?;
    let (present, away): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|view| view.lease.state.is_held());
    let (done, left): (Vec<_>, Vec<_>) = present
        .iter()
        .partition(|view| runs(view) == Some(program.digest) && pending(view).is_none());
    let names = |views: &[&WorkerView]| -> Vec<WorkerId> {
        views.iter().map(|view| view.lease.worker.clone()).collect()
    };
    let done = names(&done);
    let pace = Pace {
        canaries: args.canary,
        at_once: args.at_once,
        abort_if: args.abort_if,
        watch: args.watch,
        within: args.deadline + MARGIN,
    };
    let mut rollout = Rollout::new(program.digest, pace, names(&left));
    let wanted = Wanted::Program(program.clone());
    let rolled = tokio::select! {
        rolled = roll(client, &mut rollout, &wanted, args.deadline) => Some(rolled?),
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            None
        }
    };
    let upgraded = || {
        let row = |worker: &WorkerId| Row::new(worker, "upgraded", String::new());
        done.iter().chain(rollout.done()).map(row).collect::<Vec<Row>>()
    };
    match rolled {
        None => {
            show(&upgraded(), format)?;
            let text = "stopped; workers that were told go on";
            let hint = "repeat the command to upgrade the others, or go back: muster worker upgrade --undo";
            Err(Failure::interrupted(text).hint(hint).into())
        }
        Some(Err(reason)) => {
            let mut rows = Vec::new();
            for worker in rollout.touched() {
                let undone = set(client, worker, Wanted::Before(program.digest), args.deadline);
                rows.push(match undone.await {
                    Ok(_) => Row::new(worker, "told", "it goes back to the program before".into()),
                    Err(error) => Row::new(worker, "failed", format!("{error:#}")),
                });
            }
            show(&rows, format)?;
            Err(Failure::new(format!("the upgrade is undone: {reason}")).into())
        }
        Some(Ok(())) => {
            let mut rows = upgraded();
            for view in away {
                let worker = &view.lease.worker;
                set(client, worker, wanted.clone(), args.deadline).await?;
                rows.push(Row::new(worker, "away", "it is upgraded when it comes back".into()));
            }
            show(&rows, format)
        }
    }
}

/// The chosen workers. Refuses those that take no upgrades, if they were named.
fn choose(args: &UpgradeArgs, all: Vec<WorkerView>) -> anyhow::Result<Vec<WorkerView>> {
    let takes = |view: &WorkerView| view.lease.program.is_some();
    let hint = "start it with --upgrades DIR --upgrade-signer KEY; see `muster worker --help`";
    if let Some(group) = &args.group {
        let of_group = all.into_iter().filter(|view| view.lease.offer.group == *group);
        let (take, refuse): (Vec<_>, Vec<_>) = of_group.partition(takes);
        for view in refuse.iter().filter(|view| view.lease.state.is_held()) {
            exit::warn(&format!("{} takes no upgrades", view.lease.worker));
        }
        if take.is_empty() {
            let text = format!("no worker of the group {group} takes upgrades");
            return Err(Failure::user(text).hint(hint).into());
        }
        return Ok(take);
    }
    let find = |name: &WorkerId| {
        let found = all.iter().find(|view| view.lease.worker == *name).ok_or_else(|| {
            Failure::user(format!("there is no worker {name}")).hint("muster worker ls")
        })?;
        match takes(found) {
            true => Ok(found.clone()),
            false => Err(Failure::user(format!("{name} takes no upgrades")).hint(hint)),
        }
    };
    Ok(args.names.iter().map(find).collect::<Result<_, Failure>>()?)
}

/// The program that a worker runs instead of the installed one.
fn runs(view: &WorkerView) -> Option<Digest> {
    view.lease.program.as_ref().and_then(|program| program.digest)
}

/// The upgrade that a worker has yet to carry out.
fn pending(view: &WorkerView) -> Option<UpgradeView> {
    let report = view.lease.program.as_ref()?;
    view.upgrade.filter(|upgrade| upgrade.is_pending(report))
}

/// Lets every worker run the program, or says why it has to be undone.
async fn roll(
    client: &Client,
    rollout: &mut Rollout,
    wanted: &Wanted,
    deadline: Duration,
) -> anyhow::Result<Result<(), String>> {
    let mut upgraded = rollout.upgraded();
    loop {
        let workers = list(client).await?.workers;
        let step = rollout.step(Instant::now(), &workers);
        if rollout.upgraded() > upgraded {
            upgraded = rollout.upgraded();
            note(&format!("{upgraded} run the program"));
        }
        match step {
            Step::Upgrade(next) => {
                for worker in next {
                    note(&format!("{worker} is told"));
                    // It may run it although no answer comes.
                    rollout.told(Instant::now(), worker.clone(), u64::MAX);
                    let upgrade = set(client, &worker, wanted.clone(), deadline).await?;
                    rollout.told(Instant::now(), worker, upgrade.number);
                }
            }
            Step::Wait => tokio::time::sleep(LOOK_EVERY).await,
            Step::Done => return Ok(Ok(())),
            Step::Abort(reason) => return Ok(Err(reason)),
        }
    }
}

async fn set(
    client: &Client,
    worker: &WorkerId,
    wanted: Wanted,
    deadline: Duration,
) -> anyhow::Result<Upgrade> {
    let (worker, deadline_ms) = (worker.clone(), deadline.as_millis() as u64);
    client.insist(Endpoint::WorkerUpgrade, &SetUpgrade { worker, wanted, deadline_ms }).await
}

/// Tells the workers to go back.
async fn undo(
    client: &Client,
    args: &UpgradeArgs,
    chosen: Vec<WorkerView>,
    format: Format,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for view in chosen {
        let worker = view.lease.worker.clone();
        // An upgrade that is not carried out yet is withdrawn, and what the worker runs stays.
        let withdrawn = pending(&view).map(|pending| pending.program.unwrap_or(NOTHING));
        let Some(digest) = withdrawn.or_else(|| runs(&view)) else {
            rows.push(Row::new(&worker, "kept", "it runs the installed program".into()));
            continue;
        };
        set(client, &worker, Wanted::Before(digest), args.deadline).await?;
        let what = match withdrawn {
            Some(_) => "it was not upgraded yet, and stays as it is",
            None => "it goes back to the program before",
        };
        rows.push(Row::new(&worker, "told", what.into()));
    }
    show(&rows, format)
}

fn note(text: &str) {
    terminal::note(&[terminal::plain(text)]);
}

fn show(rows: &[Row], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&serde_json::json!({ "workers": rows }));
    }
    let cells = |row: &Row| {
        vec![Cell::new(&row.worker), output::state_cell(row.state), Cell::new(&row.reason)]
    };
    output::table(&["name", "state", "reason"], &[], rows.iter().map(cells).collect())
}

/// Reads the program, and stores it in the fleet with its signature.
async fn store(client: &Client, file: &Path, args: &UpgradeArgs) -> anyhow::Result<Program> {
    let bytes = read(file, limit::PAYLOAD_SIZE_MAX)?;
    if !bytes.starts_with(b"\x7fELF") {
        let text = format!("{} is not a program for Linux", file.display());
        return Err(Failure::user(text).hint("make one: make dist").into());
    }
    let digest = muster_module::digest(&bytes);
    let signature = match &args.sign {
        Some(key) => {
            let name = file.file_name().unwrap_or_default().display();
            module::sign_bytes(key, &bytes, &format!("{COMMENT}{name}\tdigest:{digest}"))?
        }
        None => {
            let beside = || PathBuf::from(format!("{}.minisig", file.display()));
            read_signature(&args.signature.clone().unwrap_or_else(beside))?
        }
    };
    let program = Program { digest, size: bytes.len() as u64, signature };
    program.check().map_err(Failure::user)?;
    blob::put(client, ObjectStore::Data, digest, &bytes).await?;
    Ok(program)
}

fn read_signature(file: &Path) -> anyhow::Result<Signature> {
    let text = read(file, SIGNATURE_FILE_MAX).map_err(|error| {
        Failure::user(format!("the program has no signature: {error}"))
            .hint("sign it: --sign KEY, or minisign -S -t program:muster-worker -m FILE")
    })?;
    let parsed = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    Ok(parsed.ok_or_else(|| {
        Failure::user(format!("{} is not a signature in minisign's format", file.display()))
    })?)
}

fn read(file: &Path, max: u64) -> anyhow::Result<Bytes> {
    let failed = |error| Failure::user(format!("cannot read {}: {error}", file.display()));
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > max {
        let max = quantity::show_size(max);
        return Err(Failure::user(format!("{} is larger than {max}", file.display())).into());
    }
    Ok(bytes.into())
}
