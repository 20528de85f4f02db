//! `muster debug bundle`: one file with what a maintainer needs to understand a fleet. Never contains what tasks work
//! with: see [`left_out`].

mod left_out;

use crate::{
    check,
    client::{self, Client, ConnectArgs},
    exit::{self, Failure},
    output::{self, Format},
    quantity,
    stream_reader::{History, StreamReader},
    terminal,
};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use flate2::{Compression, write::GzEncoder};
use indicatif::ProgressBar;
use muster_protocol::{
    api::{Endpoint, ListAfter, ListTasks, PageStart, Tasks},
    subject::Names,
    task::StateName,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// How long one part may take to be read. A healthy fleet answers within milliseconds.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// For how long events are read: a busy fleet has millions an hour.
const EVENTS_WITHIN: Duration = Duration::from_secs(10);

/// How many of the events that were read are kept, the latest ones.
const EVENTS_MAX: usize = 20_000;

/// How many tasks of each kind are included, the newest ones.
const TASKS_MAX: u64 = 200;

/// The number of parts, for the progress bar.
const PARTS: u64 = 10;

/// Something for whoever looks for the cause of a problem.
#[derive(Subcommand)]
pub enum Command {
    /// Write one file with what a maintainer needs to understand a problem of the fleet
    #[command(after_help = "Examples:
  muster debug bundle
  muster debug bundle --since 6h fleet.tar.gz
  tar -xzf fleet.tar.gz -O fleet/check.json

The file has the findings of `muster check`, masters, workers, members, groups, modules, tasks, events, and the states of
the streams. It has no inputs, outputs, arguments, logs or values of variables and secrets, and no texts of guests. It has
names: of hosts, groups, modules, tasks and users. Look at it before you send it. Add the logs of the processes yourself.")]
    Bundle(Bundle),
}

/// Where to, and how much.
#[derive(Args)]
pub struct Bundle {
    /// The file to write [default: muster-FLEET-TIME.tar.gz]
    file: Option<PathBuf>,
    /// How far back events are included
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = quantity::duration)]
    since: Duration,
}

/// Carries it out.
pub async fn run(command: Command, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let Command::Bundle(Bundle { file, since }) = command;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = format!("muster-{}-{stamp}", connect.fleet);
    let file = file.unwrap_or_else(|| format!("{name}.tar.gz").into());
    if file.exists() {
        let failure = Failure::user(format!("{} exists already", file.display()));
        return Err(failure.hint("name another file, or remove this one").into());
    }
    let client = Client::connect(connect).await?;
    let parts = read(&client, connect, since).await;
    let size = write(&file, &name, &parts)?;
    report(&file, size, &parts, format)
}

/// A part that was read, or why it was not.
struct Part {
    name: &'static str,
    content: Result<Value, String>,
}

/// The parts that are read so far.
struct Parts {
    read: Vec<Part>,
    bar: ProgressBar,
}

impl Parts {
    /// Reads one more. A part that cannot be read does not keep the others out of the file.
    async fn add<T: Serialize>(
        &mut self,
        name: &'static str,
        reading: impl Future<Output = anyhow::Result<T>>,
    ) {
        self.bar.set_message(name);
        let content = match tokio::time::timeout(PART_WITHIN, reading).await {
            Ok(Ok(content)) => serde_json::to_value(content).map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("not read within {} s", PART_WITHIN.as_secs())),
        };
        self.read.push(Part { name, content });
        self.bar.inc(1);
    }
}

async fn read(client: &Client, connect: &ConnectArgs, since: Duration) -> Vec<Part> {
    let mut parts =
        Parts { read: Vec::new(), bar: terminal::progress_bar(Some(PARTS), "{pos}/{len} {msg}") };
    parts.add("about", async { Ok(about(client)) }).await;
    parts
        .add("check", async { Ok(check::findings(&check::Check::everything(), connect).await) })
        .await;
    parts.add("masters", client.ask::<Value>(Endpoint::MasterList, &json!({}))).await;
    for (name, endpoint) in [
        ("workers", Endpoint::WorkerList),
        ("members", Endpoint::WorkerMembers),
        ("groups", Endpoint::GroupList),
        ("modules", Endpoint::ModuleList),
    ] {
        parts.add(name, list(client, endpoint, name)).await;
    }
    parts.add("tasks", tasks(client)).await;
    parts.add("events", events(client, since)).await;
    parts.add("streams", streams(client)).await;
    parts.bar.finish_and_clear();
    parts.read
}

/// What the file begins with.
fn about(client: &Client) -> Value {
    let server = client.nats.server_info();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "made_at": jiff::Timestamp::now().to_string(),
        "fleet": client.names.fleet(),
        "command_runs_on": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "nats": {
            "version": server.version,
            "server": server.server_name,
            "cluster": server.cluster,
            "jetstream": server.jetstream,
            "max_payload": server.max_payload,
        },
        "left_out": "inputs, outputs, arguments, logs, values of variables and secrets, texts of guests",
    })
}

/// All items of a list; `name` is the field of a page that has them.
async fn list(client: &Client, endpoint: Endpoint, name: &str) -> anyhow::Result<Vec<Value>> {
    let ask = |asked: ListAfter| async move { client.ask::<Value>(endpoint, &asked).await };
    let split = |mut page: Value| {
        let items = page[name].as_array_mut().map(std::mem::take).unwrap_or_default();
        (items, page["more"].as_str().map(String::from))
    };
    client::pages(ask, split).await
}

/// The newest tasks that wait, that are at workers, and in any state.
async fn tasks(client: &Client) -> anyhow::Result<Value> {
    let mut found = json!({});
    let states = [StateName::Queued, StateName::Dispatched].map(StateName::word);
    for state in states.into_iter().map(Some).chain([None]) {
        let state_asked = state.map(String::from);
        let asked = ListTasks { state: state_asked, limit: TASKS_MAX, ..ListTasks::default() };
        let mut answer: Tasks = client.ask(Endpoint::TaskList, &asked).await?;
        answer.tasks.iter_mut().for_each(left_out::of_task);
        found[state.unwrap_or("newest")] = serde_json::to_value(answer.tasks)?;
    }
    Ok(found)
}

/// The latest events of this time, oldest first, and whether some were not read.
async fn events(client: &Client, since: Duration) -> anyhow::Result<Value> {
    let since = PageStart::SinceMs(since.as_millis().try_into().unwrap_or(u64::MAX));
    let mut reader = StreamReader::open(client, History::Events, since).await?;
    let (mut latest, mut is_cut) = (VecDeque::new(), false);
    let until = Instant::now() + EVENTS_WITHIN;
    while let Some(message) = reader.next().await? {
        if Instant::now() > until {
            is_cut = true;
            break;
        }
        if latest.len() == EVENTS_MAX {
            latest.pop_front();
            is_cut = true;
        }
        latest.push_back(left_out::of_event(serde_json::from_slice(&message.body)?));
    }
    Ok(json!({ "events": latest, "is_cut": is_cut }))
}

/// What NATS says of each stream of the fleet.
async fn streams(client: &Client) -> anyhow::Result<Value> {
    let mut found = json!({});
    for stream in streams_of(&client.names) {
        let asked = client.jetstream.request(format!("STREAM.INFO.{stream}"), &());
        let info: Value = asked.await.with_context(|| stream.clone())?;
        found[stream] = info;
    }
    Ok(found)
}

fn streams_of(names: &Names) -> Vec<String> {
    check::streams(names).into_iter().chain([names.audit_stream()]).collect()
}

/// Writes the parts to a file that only its owner may read. Returns its size.
fn write(file: &Path, folder: &str, parts: &[Part]) -> anyhow::Result<u64> {
    let dir = file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let cannot = || Failure::user(format!("{} cannot be written", file.display()));
    let draft = tempfile::NamedTempFile::new_in(dir).with_context(cannot)?;
    let mut archive = tar::Builder::new(GzEncoder::new(&draft, Compression::default()));
    for Part { name, content } in parts {
        let content = match content {
            Ok(content) => serde_json::to_vec_pretty(content)?,
            Err(why) => serde_json::to_vec_pretty(&json!({ "not_read": why }))?,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        let path = format!("{folder}/{name}.json");
        archive.append_data(&mut header, path, content.as_slice()).with_context(cannot)?;
    }
    archive.into_inner().and_then(GzEncoder::finish).with_context(cannot)?;
    let size = draft.as_file().metadata().with_context(cannot)?.len();
    draft.persist_noclobber(file).map_err(|error| error.error).with_context(cannot)?;
    Ok(size)
}

fn report(file: &Path, size: u64, parts: &[Part], format: Format) -> anyhow::Result<()> {
    let missing: Vec<(&str, &String)> =
        parts.iter().filter_map(|part| Some((part.name, part.content.as_ref().err()?))).collect();
    if format == Format::Json {
        let missing: serde_json::Map<String, Value> =
            missing.iter().map(|(name, why)| ((*name).into(), json!(why))).collect();
        return output::json(&json!({ "file": file, "size": size, "not_read": missing }));
    }
    for (name, why) in missing {
        exit::warn(&format!("{name} could not be read: {why}"));
    }
    output::line(&format!("{} ({})", file.display(), quantity::show_size(size)))?;
    exit::hint("look at it before you send it, and add the logs of masters and workers");
    Ok(())
}
