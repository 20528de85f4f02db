//! Checks the nats-server: its version, its limits, JetStream. Never checks the fleet.

use super::{ANSWER_WITHIN, Finding, answer};
use crate::client::Client;
use async_nats::jetstream::{
    ErrorCode,
    account::Account,
    context::{AccountError, AccountErrorKind},
};
use muster_protocol::{
    api::{Endpoint, Masters},
    limit,
};
use muster_wire::nats::NatsRefusal;
use serde_json::json;

/// The oldest nats-server with per-message TTL, by which finished tasks expire.
pub const NATS_VERSION_MIN: (u64, u64) = (2, 11);

/// The oldest nats-server that is recommended: earlier ones lose acknowledged writes in known ways, also
/// with `sync_interval: always`.
const NATS_VERSION_SOUND: (u64, u64) = (2, 15);

/// From which share of its storage limit an account counts as full, in percent: the rest fills fast.
const FULL_PERCENT: u64 = 90;

/// Returns whether the registry can be looked at. It cannot from another account, in which the user is if
/// `is_outside`.
pub(super) async fn look(client: &Client, is_outside: bool, findings: &mut Vec<Finding>) -> bool {
    let info = client.nats.server_info();
    let address = format!("{}:{}", info.host, info.port);
    let outdated = outdated(&format!("nats-server at {address}"), &info.version);
    findings.push(outdated.unwrap_or_else(|| {
        Finding::ok("nats", format!("nats-server {} at {address}", info.version))
    }));
    if info.max_payload < limit::API_SIZE_MAX {
        let (has, needs) = (info.max_payload, limit::API_SIZE_MAX);
        let detail = format!(
            "the server accepts messages of up to {has} bytes, but Muster sends up to {needs}"
        );
        findings.push(Finding::warn("max_payload", detail).hint(NatsRefusal::Payload.advice()));
    }
    if is_outside {
        findings.push(not_looked_at());
        return false;
    }
    let asked = tokio::time::timeout(ANSWER_WITHIN, client.jetstream.query_account()).await;
    let is_off = matches!(&asked, Ok(Err(error)) if is_off(&error.kind()));
    // Masters need JetStream: if they answer, they have it in another account.
    if is_off && client.ask::<Masters>(Endpoint::MasterList, &json!({})).await.is_ok() {
        findings.push(not_looked_at());
        return false;
    }
    findings.push(match answer(async { asked.unwrap_or_else(|_| Err(silent())) }).await {
        Ok(account) => room(&account),
        Err(_) if is_off => Finding::fail("jetstream", client.jetstream.is_missing().to_string()),
        Err(error) => Finding::fail("jetstream", format!("not usable: {error}"))
            .hint("start nats-server with -js, and see its log"),
    });
    true
}

fn not_looked_at() -> Finding {
    let detail =
        "not looked at: this user is in another account; log in as an observer to check it";
    Finding::ok("registry", detail)
}

fn silent() -> AccountError {
    AccountError::new(AccountErrorKind::TimedOut)
}

/// Whether an account has no JetStream.
fn is_off(error: &AccountErrorKind) -> bool {
    match error {
        AccountErrorKind::JetStreamUnavailable => true,
        AccountErrorKind::JetStream(error) => {
            error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        }
        AccountErrorKind::TimedOut | AccountErrorKind::Other => false,
    }
}

/// The finding about a server that is too old, or older than is recommended.
pub(super) fn outdated(server: &str, version: &str) -> Option<Finding> {
    if !is_at_least(version, NATS_VERSION_MIN) {
        let (major, minor) = NATS_VERSION_MIN;
        let detail = format!("{server} has version {version}: {major}.{minor} or newer is needed");
        return Some(Finding::fail("nats", detail));
    }
    (!is_at_least(version, NATS_VERSION_SOUND)).then(|| {
        let (major, minor) = NATS_VERSION_SOUND;
        let detail = format!("{server} has version {version}, older than {major}.{minor}");
        Finding::warn("nats", detail).hint("upgrade it; docs/REGISTRY.md says why")
    })
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
    use crate::check::Health;

    #[test]
    fn a_server_that_is_too_old_fails_and_one_that_loses_writes_is_warned_of() {
        let health = |version| outdated("n", version).map(|found| found.health);
        assert_eq!(health("2.15.0"), None);
        assert_eq!(health("2.14.9"), Some(Health::Warn));
        assert_eq!(health("2.10.26"), Some(Health::Fail));
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
