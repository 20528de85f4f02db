//! `muster check`: checks the health of the fleet. One line for each condition, and advice where it does
//! not hold. Never repairs anything.

mod masters;
mod monitor;
mod nagios;
mod permissions;
mod registry;
mod roles;
mod server;
mod sites;
mod tasks;
mod thresholds;
mod workers;

use crate::{
    client::{self, Client, ConnectArgs},
    exit::Failure,
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

use thresholds::{Threshold, Thresholds};

pub use registry::streams;
pub use server::{NATS_VERSION_MIN, is_at_least};

/// How long one question may take. A healthy fleet answers within milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How many names a line shows; the others are counted.
const NAMES_MAX: usize = 5;

/// How many groups get a line of their own about one thing; those with problems come first.
const GROUPS_MAX: usize = 20;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Area {
    /// NATS: its streams, what is stored, permissions, and the events of sites
    Registry,
    /// Whether masters answer and have their registry
    Masters,
    /// Leases, links, hosts that lack something, and how many workers each group has
    Workers,
    /// Queues, and tasks that should have ended
    Tasks,
}

/// Check whether the fleet is well: exit code 0, 1 for a warning, 2 for a failure
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muster check
  muster check tasks --waiting 60s,10m      warns if the next task of a group has waited for a minute
  muster check workers --group shops --live 3,1 --nagios
  muster check registry --full 70,90 --monitor http://n1.example.com:8222

With --nagios it is a plugin of Nagios, Icinga, Checkmk and others: one line with the worst news and the figures, and
exit code 0 for OK, 1 for WARNING, 2 for CRITICAL. A wrong option ends with 2, too.")]
pub struct Check {
    /// What to look at; everything if none is named
    #[arg(value_enum, value_name = "AREA")]
    areas: Vec<Area>,
    #[command(flatten)]
    thresholds: Thresholds,
    /// Print what monitoring plugins print, for Nagios and others
    #[arg(long)]
    nagios: bool,
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
    /// What was counted or measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    figures: Vec<Figure>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Something that was counted or measured.
#[derive(Debug, Serialize)]
pub struct Figure {
    name: &'static str,
    value: u64,
    /// `s` for seconds, `%` for percent; empty if it is counted.
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'static str,
    /// From which value on it warns.
    #[serde(skip_serializing_if = "Option::is_none")]
    warn: Option<u64>,
    /// From which value on it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    fail: Option<u64>,
    /// Whether it is bad below these values.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_bad_below: bool,
}

impl Figure {
    fn new(name: &'static str, value: u64) -> Self {
        Figure { name, value, unit: "", warn: None, fail: None, is_bad_below: false }
    }

    fn seconds(self) -> Self {
        Figure { unit: "s", ..self }
    }

    fn percent(self) -> Self {
        Figure { unit: "%", ..self }
    }

    fn bad_above(self, threshold: &Threshold<u64>) -> Self {
        Figure { warn: Some(threshold.warn), fail: threshold.fail, ..self }
    }

    fn bad_below(self, threshold: &Threshold<u64>) -> Self {
        Figure { is_bad_below: true, ..self.bad_above(threshold) }
    }
}

impl Finding {
    fn new(health: Health, about: &str, detail: impl Into<String>) -> Self {
        Finding {
            health,
            about: about.into(),
            detail: detail.into(),
            names: vec![],
            figures: vec![],
            hint: None,
        }
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

    /// Adds a figure.
    fn figure(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    /// The cells of the table.
    fn text(&self) -> String {
        let hint = self.hint.iter().map(|hint| format!("; {hint}"));
        std::iter::once(self.detail.clone()).chain(hint).collect()
    }
}

/// Checks, prints, and exits with 0 if all is well, 1 on a warning, and 2 on a failure.
pub async fn run(check: Check, connect: &ConnectArgs, format: Format) -> anyhow::Result<ExitCode> {
    if let Some((name, areas)) = check.thresholds.idle(|area| check.looks_at(area)) {
        let sentence = format!("{name} has no effect here: add the area `{areas}`");
        return Err(Failure::user(sentence).into());
    }
    let findings = findings(&check, connect).await;
    match format {
        Format::Json => output::json(&findings)?,
        _ if check.nagios => nagios::print(&findings)?,
        _ => {
            let row = |finding: &Finding| {
                let health = output::state_cell(finding.health.word());
                vec![health, Cell::new(&finding.about), Cell::new(finding.text())]
            };
            output::table(&["health", "about", "found"], &[], findings.iter().map(row).collect())?;
        }
    }
    Ok(ExitCode::from(findings.iter().map(|finding| finding.health).max().map_or(2, |h| h as u8)))
}

impl Check {
    /// Everything, with the usual thresholds.
    pub fn everything() -> Self {
        Check { areas: vec![], thresholds: Thresholds::default(), nagios: false, monitor: vec![] }
    }

    fn looks_at(&self, area: Area) -> bool {
        self.areas.is_empty() || self.areas.contains(&area)
    }
}

/// What is found.
pub async fn findings(check: &Check, connect: &ConnectArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in &check.monitor {
        monitor::look(address, &mut findings).await;
    }
    match Client::connect(connect).await {
        Ok(client) => look(&client, check, connect, &mut findings).await,
        Err(error) => findings.push(Finding::fail("nats", format!("{error:#}"))),
    }
    findings
}

async fn look(client: &Client, check: &Check, connect: &ConnectArgs, findings: &mut Vec<Finding>) {
    let caller = roles::caller(client).await;
    let is_outside = caller.as_ref().is_some_and(|caller| !caller.actor.is_of_registry());
    // Findings of areas that were not asked for; they are dropped.
    let mut ignored = Vec::new();
    let [is_registry, is_masters, is_workers, is_tasks] =
        [Area::Registry, Area::Masters, Area::Workers, Area::Tasks]
            .map(|area| check.looks_at(area));
    let thresholds = &check.thresholds;
    let of_server = if is_registry { &mut *findings } else { &mut ignored };
    let sees_registry = server::look(client, is_outside, of_server).await;
    if sees_registry && is_registry {
        registry::look(client, thresholds, findings).await;
    }
    if is_masters || is_workers {
        let of_masters = if is_masters { &mut *findings } else { &mut ignored };
        let serving = masters::look(client, sees_registry, of_masters).await;
        if is_workers {
            workers::look(client, thresholds, &serving, sees_registry, findings).await;
        }
    }
    if is_tasks {
        tasks::look(client, thresholds, sees_registry, findings).await;
    }
    if !is_registry {
        return;
    }
    if let Some(caller) = &caller {
        roles::look(caller, findings);
    }
    if sees_registry {
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

/// Adds lines about groups: the worst ones, and one line about the others.
fn add_groups(mut lines: Vec<Finding>, findings: &mut Vec<Finding>) {
    lines.sort_by_key(|line| std::cmp::Reverse(line.health));
    let rest = lines.split_off(lines.len().min(GROUPS_MAX));
    findings.append(&mut lines);
    if let Some(worst) = rest.first() {
        let names: Vec<String> = rest.iter().map(|line| line.about.clone()).collect();
        let detail = format!("{} more: {}", names.len(), few(&names));
        findings.push(Finding::new(worst.health, "groups", detail).names(names));
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
