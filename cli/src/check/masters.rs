//! Checks the masters: whether any answer, and whether they have their registry. Never checks what they
//! report about workers.

use super::{Ages, Finding, answer, few, registry};
use crate::client::Client;
use futures::StreamExt as _;
use muster_protocol::{
    SessionId,
    api::{Endpoint, Masters},
    lease::{LeaseState, MASTER_RENEWS_EVERY},
    subject::{Bucket, SERVICE},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long masters have to answer a ping. They answer at once; the time is for the network.
const PING_WITHIN: Duration = Duration::from_millis(700);

/// The greatest age of a master's lease. Other masters consider it gone after four missed renewals.
const LEASE_AGE_MAX: Duration = MASTER_RENEWS_EVERY.saturating_mul(10);

/// A master's answer to a ping, as NATS services have it.
#[derive(Deserialize)]
struct Pong {
    id: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl Pong {
    fn name(&self) -> &str {
        self.metadata.get("master").unwrap_or(&self.id)
    }

    /// The key of its lease, if the answer says which session it serves.
    fn key(&self) -> Option<String> {
        Some(format!("{}.{}", self.name(), self.metadata.get("session")?))
    }
}

/// The sessions of masters that renew their leases, if known.
pub(super) struct Serving(Option<BTreeSet<SessionId>>);

impl Serving {
    /// Whether this session may be one of them.
    pub(super) fn may_have(&self, session: SessionId) -> bool {
        self.0.as_ref().is_none_or(|known| known.contains(&session))
    }

    fn of(ages: &Ages) -> Self {
        let renewed = ages.iter().filter(|(_, age)| **age <= LEASE_AGE_MAX);
        let session = |(key, _): (&String, _)| key.rsplit('.').next()?.parse().ok();
        Serving(Some(renewed.filter_map(session).collect()))
    }
}

/// What a client can learn about masters.
pub(super) async fn look(
    client: &Client,
    sees_registry: bool,
    findings: &mut Vec<Finding>,
) -> Serving {
    let known = match sees_registry {
        true => registry::ages(client, Bucket::Masters).await,
        false => Ok(Ages::new()),
    };
    let seen = known.as_ref().ok().filter(|_| sees_registry);
    let serving = seen.map_or(Serving(None), Serving::of);
    let ages = known.unwrap_or_else(|error| {
        findings.push(Finding::warn("masters", format!("their leases cannot be read: {error}")));
        Ages::new()
    });
    let pongs = ping(client).await.unwrap_or_else(|error| {
        findings.push(Finding::fail("masters", error.to_string()));
        Vec::new()
    });
    if pongs.is_empty() {
        let detail = format!("none answers for fleet {}", client.names.fleet());
        findings.push(Finding::fail("masters", detail).hint("start one with `muster master`"));
    }
    let name = |pong: &Pong| pong.name().to_owned();
    let stale = |pong: &&Pong| {
        pong.key().and_then(|key| ages.get(&key)).is_some_and(|age| *age > LEASE_AGE_MAX)
    };
    let (down, up): (Vec<&Pong>, Vec<&Pong>) = pongs.iter().partition(stale);
    if !up.is_empty() {
        let names: Vec<String> = up.iter().copied().map(name).collect();
        let versions: BTreeSet<&str> = up.iter().map(|pong| pong.version.as_str()).collect();
        let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
        let detail = format!("{} answer, version {versions}: {}", names.len(), few(&names));
        findings.push(Finding::ok("masters", detail).names(names));
    }
    if !down.is_empty() {
        let names: Vec<String> = down.iter().copied().map(name).collect();
        let detail = format!(
            "{} answer, and have not renewed their leases for {} s: {}",
            names.len(),
            LEASE_AGE_MAX.as_secs(),
            few(&names)
        );
        let hint = "they have no session with the registry: read their logs, and check whether it \
                    stores writes";
        findings.push(Finding::fail("masters", detail).hint(hint).names(names));
    }
    let silent = silent(client, &pongs, &ages).await;
    if !silent.is_empty() {
        let detail = format!("{} had a lease and do not answer: {}", silent.len(), few(&silent));
        let hint = "start them again, or wait a minute until the others declare them lost";
        findings.push(Finding::warn("masters", detail).hint(hint).names(silent));
    }
    serving
}

/// The masters that neither renew their leases nor gave them back.
async fn silent(client: &Client, pongs: &[Pong], ages: &Ages) -> Vec<String> {
    if pongs.is_empty() {
        return Vec::new();
    }
    let asked = json!({});
    let masters = answer::<Masters, _>(client.ask(Endpoint::MasterList, &asked)).await;
    let Ok(Masters { masters }) = masters else { return Vec::new() };
    let is_silent = |key: &str| {
        ages.get(key).is_some_and(|age| *age > LEASE_AGE_MAX)
            && pongs.iter().all(|pong| pong.key().as_deref() != Some(key))
    };
    let live = masters.iter().filter(|lease| lease.state == LeaseState::Live);
    live.filter(|lease| is_silent(&lease.key())).map(|lease| lease.master.to_string()).collect()
}

async fn ping(client: &Client) -> anyhow::Result<Vec<Pong>> {
    let inbox = client.nats.new_inbox();
    let mut answers = client.nats.subscribe(inbox.clone()).await?;
    let subject = format!("$SRV.PING.{SERVICE}");
    client.nats.publish_with_reply(subject, inbox, Default::default()).await?;
    client.nats.flush().await?;
    let mut pongs: Vec<Pong> = Vec::new();
    let until = tokio::time::Instant::now() + PING_WITHIN;
    while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await {
        if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
            break;
        }
        let Ok(pong) = serde_json::from_slice::<Pong>(&answer.payload) else { continue };
        // Several fleets may share a NATS. A master that does not name its fleet may belong to this one.
        if pong.metadata.get("fleet").is_none_or(|fleet| fleet == client.names.fleet()) {
            pongs.push(pong);
        }
    }
    Ok(pongs)
}
