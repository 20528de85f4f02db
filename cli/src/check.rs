//! `muster check`: is the fleet well? A line for each thing that has to be so. Never repairs.

use crate::{
    client::{Client, Reach},
    output::{self, Format},
    terminal::plain,
    worker,
};
use futures::StreamExt as _;
use muster_protocol::{api::WorkerView, lease::Standing, subject};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, process::ExitCode, time::Duration};

/// The oldest nats-server with per-message TTL, by which finished tasks expire.
pub const NATS_VERSION_MIN: (u64, u64) = (2, 11);

/// How long masters have to answer a ping. They answer at once; this is for the network.
const PING_WITHIN: Duration = Duration::from_millis(700);

/// Unwell workers that are named: as many as a person reads.
const UNWELL_NAMED_MAX: usize = 3;

/// How well a thing is.
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

/// One line.
#[derive(Debug, Serialize)]
struct Finding {
    health: Health,
    about: String,
    detail: String,
}

/// A master's answer to a ping, as NATS services have it.
#[derive(Deserialize)]
struct Pong {
    id: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// Looks, tells, and exits 0 when all is well, 1 on a warning and 2 on a failure.
pub async fn run(reach: &Reach, format: Format) -> anyhow::Result<ExitCode> {
    let mut findings = Vec::new();
    match Client::connect(reach).await {
        Ok(client) => look(&client, &mut findings).await,
        Err(error) => findings.push(finding(Health::Fail, "nats", format!("{error:#}"))),
    }
    if format == Format::Json {
        output::json(&findings)?;
    } else {
        for Finding { health, about, detail } in &findings {
            let word = health.word();
            let style = output::state_style(word);
            let text = format!("  {about}: {detail}");
            output::pieces(&[(style, &format!("{word:4}")), plain(&text)])?;
        }
    }
    Ok(ExitCode::from(findings.iter().map(|finding| finding.health).max().map_or(2, |h| h as u8)))
}

fn finding(health: Health, about: &str, detail: impl Into<String>) -> Finding {
    Finding { health, about: about.into(), detail: detail.into() }
}

async fn look(client: &Client, findings: &mut Vec<Finding>) {
    let info = client.nats.server_info();
    let server = format!("nats-server {} at {}:{}", info.version, info.host, info.port);
    let (major, minor) = NATS_VERSION_MIN;
    findings.push(if is_at_least(&info.version, NATS_VERSION_MIN) {
        finding(Health::Ok, "nats", server)
    } else {
        finding(Health::Fail, "nats", format!("{server}: {major}.{minor} or newer is needed"))
    });
    findings.push(match client.jetstream.query_account().await {
        Ok(account) => finding(Health::Ok, "jetstream", format!("on, {} streams", account.streams)),
        Err(error) => finding(
            Health::Fail,
            "jetstream",
            format!("not usable: {error}; start nats-server with -js"),
        ),
    });
    masters(client, findings).await;
    workers(client, findings).await;
}

async fn masters(client: &Client, findings: &mut Vec<Finding>) {
    let pongs = match ping(client).await {
        Ok(pongs) => pongs,
        Err(error) => return findings.push(finding(Health::Fail, "masters", error.to_string())),
    };
    let fleet = client.names.fleet();
    if pongs.is_empty() {
        let detail = format!("none answers for fleet {fleet}; start one with `muster master`");
        findings.push(finding(Health::Fail, "masters", detail));
    }
    for pong in pongs {
        let name = pong.metadata.get("master").unwrap_or(&pong.id);
        let detail = format!("{name} answers, version {}", pong.version);
        findings.push(finding(Health::Ok, "master", detail));
    }
}

async fn ping(client: &Client) -> anyhow::Result<Vec<Pong>> {
    let inbox = client.nats.new_inbox();
    let mut answers = client.nats.subscribe(inbox.clone()).await?;
    let subject = format!("$SRV.PING.{}", subject::SERVICE);
    client.nats.publish_with_reply(subject, inbox, Default::default()).await?;
    client.nats.flush().await?;
    let mut pongs: Vec<Pong> = Vec::new();
    let until = tokio::time::Instant::now() + PING_WITHIN;
    while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await {
        if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
            break;
        }
        let Ok(pong) = serde_json::from_slice::<Pong>(&answer.payload) else { continue };
        // Fleets share a NATS; a master that does not say whose it is might be this one's.
        if pong.metadata.get("fleet").is_none_or(|fleet| fleet == client.names.fleet()) {
            pongs.push(pong);
        }
    }
    Ok(pongs)
}

async fn workers(client: &Client, findings: &mut Vec<Finding>) {
    let workers = match worker::list(client).await {
        Ok(workers) => workers.workers,
        Err(error) => return findings.push(finding(Health::Fail, "workers", format!("{error:#}"))),
    };
    let mut groups: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for view in &workers {
        let counts = groups.entry(view.lease.offer.group.to_string()).or_default();
        match view.lease.standing {
            Standing::Live => counts[0] += 1,
            Standing::Draining | Standing::Cordoned => counts[1] += 1,
            Standing::Lost => counts[2] += 1,
            Standing::Released => {}
        }
    }
    if groups.values().all(|counts| counts.iter().sum::<usize>() == 0) {
        findings.push(finding(Health::Warn, "workers", "none: start one with `muster worker`"));
    }
    for (group, [live, draining, lost]) in groups {
        if live + draining + lost == 0 {
            continue;
        }
        let health = if live > 0 && lost == 0 { Health::Ok } else { Health::Warn };
        let detail = format!("{live} live, {draining} draining or cordoned, {lost} lost");
        findings.push(finding(health, &format!("group {group}"), detail));
    }
    findings.extend(unwell(&workers));
}

/// Those whose hosts lack something, in one finding.
fn unwell(workers: &[WorkerView]) -> Option<Finding> {
    let named = |view: &WorkerView| {
        view.lease.lacks().map(|lacks| format!("{} lacks something: {lacks}", view.lease.worker))
    };
    let named: Vec<String> = workers.iter().filter_map(named).collect();
    let more = named.len().saturating_sub(UNWELL_NAMED_MAX);
    let mut detail = named[..named.len() - more].join("; ");
    if more > 0 {
        detail = format!("{detail}; and {more} more: muster worker ls");
    }
    (!named.is_empty()).then(|| finding(Health::Warn, "unwell", detail))
}

/// Whether a version like `2.11.4-beta` is `least` or newer.
pub fn is_at_least(version: &str, least: (u64, u64)) -> bool {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || parts.next().and_then(|part| part.parse().ok());
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) >= least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{SessionId, lease::Lease};

    #[test]
    fn unwell_workers_are_one_finding_that_names_some() {
        let view = |name: &str, unwell: Option<&str>, standing| {
            let lease = Lease::new(name.parse().expect("a name"), SessionId(1));
            let lease = Lease { unwell: unwell.map(Into::into), standing, ..lease };
            WorkerView { lease, revision: 1, linked: true, attempts: Vec::new() }
        };
        let (live, full) = (Standing::Live, Some("a disk is full"));
        assert!(unwell(&[view("w1", None, live), view("w2", full, Standing::Lost)]).is_none());
        let one = unwell(&[view("w1", full, live), view("w2", None, live)]).expect("a finding");
        assert_eq!(one.health, Health::Warn);
        assert_eq!(one.detail, "w1 lacks something: a disk is full");
        let all: Vec<_> = (1..=9).map(|at| view(&format!("w{at}"), full, live)).collect();
        let many = unwell(&all).expect("a finding").detail;
        assert!(many.ends_with("; and 6 more: muster worker ls"), "{many}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for version in ["2.11.0", "v2.11.4-beta.1", "2.15.1", "3.0.0"] {
            assert!(is_at_least(version, (2, 11)), "{version}");
        }
        for version in ["2.9.9", "2.10.26", "1.99", "", "two"] {
            assert!(!is_at_least(version, (2, 11)), "{version}");
        }
    }
}
