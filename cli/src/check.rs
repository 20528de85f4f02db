//! `muster check`: checks the health of the fleet. One line for each condition, and advice where it does
//! not hold. Never repairs anything.

mod masters;
mod monitor;
mod permissions;
mod registry;
mod roles;
mod server;
mod sites;
mod tasks;
mod workers;

use crate::{
    client::{self, Client, ConnectArgs},
    output::{self, Cell, Format},
};
use muster_protocol::{subject::Bucket, time::WallMillis};
use muster_wire::nats::NatsRefusal;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::Display,
    process::ExitCode,
    time::{Duration, SystemTime},
};

pub use registry::streams;
pub use server::{NATS_VERSION_MIN, is_at_least};

/// How long one question may take. A healthy fleet answers within milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How many names a line shows; the others are counted.
const NAMES_MAX: usize = 5;

/// Check whether the fleet is well: exit code 0, 1 for a warning, 2 for a failure
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The monitoring port of a nats-server, as http://HOST:8222 (repeatable): also check its disk, and
    /// whether it syncs what it acknowledges
    #[arg(long, value_name = "URL", value_parser = monitor::url)]
    monitor: Vec<String>,
}

/// The health of what was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Ok,
    Warn,
    Fail,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Fail => "fail",
        }
    }
}

/// One line of the result.
#[derive(Debug, Serialize)]
pub struct Finding {
    health: Health,
    about: String,
    detail: String,
    /// The things it is about, if there are several: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn new(health: Health, about: &str, detail: impl Into<String>) -> Self {
        Finding { health, about: about.into(), detail: detail.into(), names: vec![], hint: None }
    }

    fn ok(about: &str, detail: impl Into<String>) -> Self {
        Finding::new(Health::Ok, about, detail)
    }

    fn warn(about: &str, detail: impl Into<String>) -> Self {
        Finding::new(Health::Warn, about, detail)
    }

    fn fail(about: &str, detail: impl Into<String>) -> Self {
        Finding::new(Health::Fail, about, detail)
    }

    /// Adds what to do next.
    fn hint(self, hint: impl Into<String>) -> Self {
        Finding { hint: Some(hint.into()), ..self }
    }

    /// Adds the names it is about.
    fn names(self, names: Vec<String>) -> Self {
        Finding { names, ..self }
    }

    /// The cells of the table.
    fn text(&self) -> String {
        let hint = self.hint.iter().map(|hint| format!("; {hint}"));
        std::iter::once(self.detail.clone()).chain(hint).collect()
    }
}

/// Checks, prints, and exits with 0 if all is well, 1 on a warning, and 2 on a failure.
pub async fn run(check: Check, connect: &ConnectArgs, format: Format) -> anyhow::Result<ExitCode> {
    let findings = findings(&check.monitor, connect).await;
    if format == Format::Json {
        output::json(&findings)?;
    } else {
        let row = |finding: &Finding| {
            let health = output::state_cell(finding.health.word());
            vec![health, Cell::new(&finding.about), Cell::new(finding.text())]
        };
        output::table(&["health", "about", "found"], &[], findings.iter().map(row).collect())?;
    }
    Ok(ExitCode::from(findings.iter().map(|finding| finding.health).max().map_or(2, |h| h as u8)))
}

/// What is found, with the monitoring ports of these nats-servers.
pub async fn findings(monitor: &[String], connect: &ConnectArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in monitor {
        monitor::look(address, &mut findings).await;
    }
    match Client::connect(connect).await {
        Ok(client) => look(&client, connect, &mut findings).await,
        Err(error) => findings.push(Finding::fail("nats", format!("{error:#}"))),
    }
    findings
}

async fn look(client: &Client, connect: &ConnectArgs, findings: &mut Vec<Finding>) {
    let caller = roles::caller(client).await;
    let is_outside = caller.as_ref().is_some_and(|caller| !caller.actor.is_of_registry());
    let sees_registry = server::look(client, is_outside, findings).await;
    if sees_registry {
        registry::look(client, findings).await;
    }
    let serving = masters::look(client, sees_registry, findings).await;
    if let Some(caller) = &caller {
        roles::look(caller, findings);
    }
    workers::look(client, &serving, sees_registry, findings).await;
    if sees_registry {
        tasks::look(client, findings).await;
        sites::look(client, findings).await;
    }
    permissions::look(client, connect, !sees_registry, findings).await;
    let is_named = |refusal: &NatsRefusal| {
        findings.iter().any(|finding| finding.names.iter().any(|name| name == refusal.subject()))
    };
    // A subject that only this check uses, such as a key of a bucket.
    if let Some(refusal) = client::last_refused().filter(|refusal| !is_named(refusal)) {
        findings.push(Finding::warn("permissions", refusal.to_string()).hint(refusal.advice()));
    }
}

/// The answer to a question, or a sentence about why there is none.
async fn answer<T, E: Display>(asked: impl IntoFuture<Output = Result<T, E>>) -> Result<T, String> {
    let why = |error: String| client::last_refused().map_or(error, |refusal| refusal.to_string());
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(why(format!("{error:#}"))),
        Err(_) => Err(why(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

/// The first of these names, and how many more there are.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The age of each key of a bucket, by the clock of the server that keeps it.
type Ages = BTreeMap<String, Duration>;

/// The time by the clock of the server that keeps the tasks.
async fn server_time(client: &Client) -> Result<WallMillis, String> {
    let now = registry::clock(client, Bucket::Tasks).await?;
    Ok(WallMillis(since(now, SystemTime::UNIX_EPOCH).as_millis() as u64))
}

fn since(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_names_are_a_few_and_a_count() {
        let names = |count: usize| (1..=count).map(|at| format!("w{at}")).collect::<Vec<_>>();
        assert_eq!(few(&names(2)), "w1, w2");
        assert_eq!(few(&names(5)), "w1, w2, w3, w4, w5");
        assert_eq!(few(&names(1_000)), "w1, w2, w3, w4, w5 and 995 more");
    }
}
