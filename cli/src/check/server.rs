//! Checks the nats-server: its version, its limits, JetStream. Never checks the fleet.

use super::{Finding, answer};
use crate::client::Client;
use async_nats::jetstream::account::Account;
use muster_protocol::limit;
use muster_wire::nats::NatsRefusal;

/// The oldest nats-server with per-message TTL, by which finished tasks expire.
pub const NATS_VERSION_MIN: (u64, u64) = (2, 11);

/// The oldest nats-server that is recommended: earlier ones lose acknowledged writes in known ways, also
/// with `sync_interval: always`.
const NATS_VERSION_SOUND: (u64, u64) = (2, 15);

/// From which share of its storage limit an account counts as full, in percent: the rest fills fast.
const FULL_PERCENT: u64 = 90;

pub(super) async fn look(client: &Client, findings: &mut Vec<Finding>) {
    let info = client.nats.server_info();
    let server = format!("nats-server {} at {}:{}", info.version, info.host, info.port);
    let (major, minor) = NATS_VERSION_MIN;
    findings.push(if !is_at_least(&info.version, NATS_VERSION_MIN) {
        Finding::fail("nats", format!("{server}: {major}.{minor} or newer is needed"))
    } else if !is_at_least(&info.version, NATS_VERSION_SOUND) {
        let (major, minor) = NATS_VERSION_SOUND;
        let detail = format!("{server}: older than {major}.{minor}");
        Finding::warn("nats", detail).hint("upgrade it; docs/REGISTRY.md says why")
    } else {
        Finding::ok("nats", server)
    });
    if info.max_payload < limit::API_SIZE_MAX {
        let (has, needs) = (info.max_payload, limit::API_SIZE_MAX);
        let detail = format!(
            "the server accepts messages of up to {has} bytes, but Muster sends up to {needs}"
        );
        findings.push(Finding::warn("max_payload", detail).hint(NatsRefusal::Payload.advice()));
    }
    findings.push(match answer(client.jetstream.query_account()).await {
        Ok(account) => room(&account),
        Err(error) => Finding::fail("jetstream", format!("not usable: {error}"))
            .hint("start nats-server with -js, and see its log"),
    });
}

/// The finding about an account's storage, if the account has a limit.
fn room(account: &Account) -> Finding {
    let max = account.limits.max_storage.and_then(|max| u64::try_from(max).ok());
    match max.filter(|max| *max > 0) {
        Some(max) if account.storage >= max / 100 * FULL_PERCENT => {
            let used = account.storage;
            let detail = format!("the account has {used} of its {max} bytes in use");
            Finding::fail("jetstream", detail)
                .hint("give the account more storage in the configuration of nats-server")
        }
        _ => Finding::ok("jetstream", format!("on, {} streams", account.streams)),
    }
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
