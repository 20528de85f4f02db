//! `muster audit`: who has asked for what, and whether the entries are as they were written.

use crate::{
    client::{Client, ConnectArgs},
    exit::Failure,
    output::{self, Cell, Format},
    quantity,
    stream_reader::{History, StreamReader},
};
use clap::{Args, Subcommand};
use muster_protocol::{
    api::PageStart,
    audit::{Chain, Decision, Entry, Place},
    record,
};
use muster_wire::tls;
use serde_json::json;
use std::time::Duration;

/// What to do with the audit.
#[derive(Subcommand)]
pub enum Command {
    /// List the decisions, oldest first
    #[command(
        alias = "list",
        after_help = "Examples:
  muster audit ls --since 1d
  muster audit ls --user alice --verb worker.revoke
  muster audit ls -o json | jq .decisions[]        every entry, a line each"
    )]
    Ls(List),
    /// Check that no entry was changed, taken out or put in
    #[command(after_help = "Examples:
  muster audit verify
  muster audit verify --noted 4711:sha256:…      what it printed earlier, kept elsewhere

Whoever may write to the registry can write the whole rest of the chain anew. Then only an entry that you
have noted elsewhere shows it.")]
    Verify {
        /// An entry as an earlier check has printed it
        #[arg(long, value_name = "NUMBER:DIGEST")]
        noted: Option<Place>,
    },
}

/// Which decisions.
#[derive(Args)]
pub struct List {
    /// Begin this long ago [default: with the oldest that is kept]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    since: Option<Duration>,
    /// Only those of this user: what NATS or people call the user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only those about this verb, such as worker.drain
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
}

impl List {
    fn wants(&self, decision: &Decision) -> bool {
        let Decision { actor, verb, .. } = decision;
        let names = [&actor.user, &actor.called];
        self.user.as_ref().is_none_or(|user| names.contains(&&Some(user.clone())))
            && self.verb.as_ref().is_none_or(|wanted| wanted == verb)
    }
}

/// Reads the audit.
pub async fn run(command: Command, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let client = Client::connect(connect).await?;
    match command {
        Command::Ls(list) => ls(&client, &list, format).await,
        Command::Verify { noted } => verify(&client, noted, format).await,
    }
}

async fn ls(client: &Client, list: &List, format: Format) -> anyhow::Result<()> {
    let start =
        list.since.map_or(PageStart::First, |since| PageStart::SinceMs(since.as_millis() as u64));
    let mut reader = StreamReader::open(client, History::Audit, start).await?;
    let mut rows = Vec::new();
    while let Some(message) = reader.next().await? {
        let mut entry = read(&message.body)?;
        entry.decisions.retain(|decision| list.wants(decision));
        if entry.decisions.is_empty() {
            continue;
        }
        match format {
            Format::Json => output::json_line(&entry)?,
            Format::Table => {
                rows.extend(entry.decisions.iter().map(|decision| row(&entry, decision)))
            }
        }
    }
    match format {
        Format::Json => Ok(()),
        Format::Table => {
            let headers = ["time", "user", "what", "outcome", "of what"];
            output::table(&headers, &[], rows)
        }
    }
}

fn row(entry: &Entry, decision: &Decision) -> Vec<Cell> {
    let mut objects = decision.objects.join(", ");
    if decision.more > 0 {
        objects.push_str(&format!(", and {} more", decision.more));
    }
    if let Some(reason) = decision.outcome.reason() {
        objects.push_str(if objects.is_empty() { "" } else { ": " });
        objects.push_str(reason);
    }
    let times = match decision.times {
        1 => String::new(),
        times => format!(" ({times} times)"),
    };
    vec![
        Cell::new(output::local(entry.at)),
        Cell::new(&decision.actor),
        Cell::new(&decision.verb),
        Cell::new(format!("{}{times}", decision.outcome.word())),
        Cell::new(objects),
    ]
}

async fn verify(client: &Client, noted: Option<Place>, format: Format) -> anyhow::Result<()> {
    let mut reader = StreamReader::open(client, History::Audit, PageStart::First).await?;
    let mut chain = Chain::with(noted);
    let broken = |cause| {
        let hint = "somebody with access to the registry has changed it, or the registry has lost writes: see \
                    muster events";
        Failure::new(format!("the audit is not as it was written: {cause}")).hint(hint)
    };
    while let Some(message) = reader.next().await? {
        let entry = read(&message.body)?;
        chain.follow(&entry, tls::fingerprint(&message.body)).map_err(broken)?;
    }
    let found = chain.end().map_err(broken)?;
    if format == Format::Json {
        let (first, last) = found.unzip();
        return output::json(&json!({ "first": first, "last": last.map(|last| last.to_string()) }));
    }
    match found {
        None => output::line("the audit is empty"),
        Some((first, last)) => {
            output::line(&format!("entries {first} to {} are as they were written", last.number))?;
            output::line(&format!("the last one, to be noted elsewhere: {last}"))
        }
    }
}

fn read(body: &[u8]) -> anyhow::Result<Entry> {
    record::read(body).map_err(|error| {
        let text = format!("an entry of the audit cannot be read: {error}");
        Failure::new(text).hint("upgrade this command if the masters are newer").into()
    })
}
