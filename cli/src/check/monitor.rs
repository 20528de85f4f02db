//! Checks what only the monitoring port of a nats-server tells: its version, also if this command is
//! connected to another server; whether it syncs what it acknowledges; and how full its storage is. Never
//! connects to NATS.

use super::{ANSWER_WITHIN, Finding, server};
use anyhow::Context as _;
use serde::Deserialize;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The port of the monitoring endpoint where the URL names none.
const PORT: u16 = 8222;

/// The largest answer that is read: many times what a server says about itself.
const ANSWER_SIZE_MAX: u64 = 1 << 20;

/// From which share of its storage a server counts as full, in percent.
const FULL_PERCENT: u64 = 90;

/// What a server says about itself.
#[derive(Deserialize)]
struct About {
    server_name: String,
    #[serde(default)]
    version: String,
    jetstream: JetStream,
}

#[derive(Deserialize)]
struct JetStream {
    config: Option<Config>,
    stats: Option<Stats>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    max_storage: u64,
    /// In nanoseconds.
    #[serde(default)]
    sync_interval: u64,
    #[serde(default)]
    sync_always: bool,
}

#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    storage: u64,
}

/// Parses a URL of the command line. Returns the address in it.
pub(super) fn url(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match address {
        Some(address) if !address.is_empty() && !address.contains('/') => {
            let has_port =
                address.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
            Ok(if has_port { address.into() } else { format!("{address}:{PORT}") })
        }
        _ => Err("write http://HOST:8222".into()),
    }
}

pub(super) async fn look(address: &str, findings: &mut Vec<Finding>) {
    let asked = tokio::time::timeout(ANSWER_WITHIN, ask(address)).await;
    match asked.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(about) => findings.extend(judge(about)),
        Err(error) => findings.push(
            Finding::warn("monitor", format!("{address} does not answer: {error:#}"))
                .hint("name the http port of a nats-server: nats-server -m 8222"),
        ),
    }
}

async fn ask(address: &str) -> anyhow::Result<About> {
    let mut stream = TcpStream::connect(address).await?;
    // A server ends the connection after its answer to a request of HTTP 1.0.
    stream.write_all(format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_SIZE_MAX).read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let body = answer.get(body.context("it does not speak HTTP")?..).unwrap_or_default();
    serde_json::from_slice(body).context("it is not a nats-server")
}

fn judge(about: About) -> Vec<Finding> {
    let About { server_name, version, jetstream } = about;
    let mut found: Vec<Finding> = server::outdated(&server_name, &version).into_iter().collect();
    let Some(config) = jetstream.config else {
        let hint = "start it with JetStream on (`nats-server -js`)";
        found.push(Finding::fail("sync", format!("{server_name} has no JetStream")).hint(hint));
        return found;
    };
    found.push(if config.sync_always {
        Finding::ok("sync", format!("{server_name} syncs every write before it is acknowledged"))
    } else {
        let every = Duration::from_nanos(config.sync_interval).as_secs();
        let detail =
            format!("{server_name} may lose the writes of {every} s when its host loses power");
        Finding::warn("sync", detail)
            .hint("set jetstream { sync_interval: always }; docs/REGISTRY.md says why")
    });
    let used = jetstream.stats.map_or(0, |stats| stats.storage);
    let is_full = config.max_storage > 0 && used >= config.max_storage / 100 * FULL_PERCENT;
    if is_full {
        let max = config.max_storage;
        let detail = format!("{server_name} has {used} of its {max} bytes in use");
        found.push(Finding::fail("disk", detail).hint("give it more: max_file_store"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Health;

    #[test]
    fn a_server_that_does_not_sync_or_is_nearly_full_is_found() {
        let judged = |version: &str, sync_always: bool, storage: u64| {
            let text = serde_json::json!({
                "server_name": "n",
                "version": version,
                "jetstream": {
                    "config": {
                        "max_storage": 1000, "sync_interval": 120_000_000_000_u64,
                        "sync_always": sync_always,
                    },
                    "stats": {"storage": storage},
                },
            });
            let found = judge(serde_json::from_value(text).expect("JSON"));
            found.iter().map(|finding| finding.health).collect::<Vec<_>>()
        };
        let about = |sync_always, storage| judged("2.15.1", sync_always, storage);
        assert_eq!(about(true, 0), [Health::Ok]);
        assert_eq!(judged("2.14.9", true, 0), [Health::Warn, Health::Ok]);
        assert_eq!(judged("2.10.0", true, 0), [Health::Fail, Health::Ok]);
        assert_eq!(about(false, 899), [Health::Warn]);
        assert_eq!(about(true, 900), [Health::Ok, Health::Fail]);
        assert_eq!(url("http://h:1/").as_deref(), Ok("h:1"));
        assert_eq!(url("http://[::1]").as_deref(), Ok("[::1]:8222"));
        assert!(url("h:8222").is_err() && url("nats://h").is_err() && url("http://h/x").is_err());
    }
}
