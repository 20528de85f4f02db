//! Checks the fleet's streams: whether they exist, have space and accept a write, and how old their
//! messages are. Never writes to a stream that masters follow.

use super::{Ages, Finding, answer, since};
use crate::client::{Client, last_refused};
use async_nats::{
    HeaderMap,
    jetstream::{
        consumer::{DeliverPolicy, push::OrderedConfig},
        context::PublishErrorKind,
        stream::DiscardPolicy,
    },
};
use futures::StreamExt as _;
use muster_protocol::subject::Bucket;
use muster_wire::objects;
use serde::Deserialize;
use std::time::{Duration, SystemTime};

/// How many bytes are written to test whether writes are accepted: more than a block of any file
/// system, so that a full disk cannot have room for them by chance.
const PROBE_SIZE: usize = 8 * 1024;

/// How long a write may take. Stores acknowledge within milliseconds.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// From which share of its limit a stream that refuses what does not fit counts as full, in percent.
const FULL_PERCENT: u64 = 95;

/// What is read of a stream. The client library's own type lacks the server's clock.
#[derive(Deserialize)]
struct Info {
    config: Option<Config>,
    state: Option<StreamState>,
    #[serde(default)]
    ts: String,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_msgs: i64,
    #[serde(default)]
    discard: DiscardPolicy,
}

#[derive(Deserialize)]
struct StreamState {
    bytes: u64,
    messages: u64,
}

#[derive(Deserialize)]
struct ApiError {
    description: String,
}

pub(super) async fn look(client: &Client, findings: &mut Vec<Finding>) {
    let names = &client.names;
    let buckets = Bucket::ALL.map(|bucket| names.stream(bucket));
    let stores = [names.module_store(), names.data_store()].map(|name| objects::stream_name(&name));
    let texts = [names.event_stream(), names.log_stream()];
    let streams: Vec<String> = buckets.into_iter().chain(stores).chain(texts).collect();
    let mut wrong = Vec::new();
    for stream in &streams {
        let found = match info(client, stream).await {
            Ok(found) => found,
            Err(error) => {
                wrong.push(Finding::fail("stream", format!("{stream}: {error}")).hint(
                    "a master makes what is missing when it starts; see the log of nats-server",
                ));
                continue;
            }
        };
        if let (Some(config), Some(state)) = (found.config, found.state)
            && let Some(detail) = crowded(&config, &state)
        {
            let hint = format!("raise the limit: nats stream edit {stream}");
            wrong.push(
                Finding::fail("stream", format!("{stream} has no room: {detail}")).hint(hint),
            );
        }
    }
    if wrong.is_empty() {
        findings.push(Finding::ok("streams", format!("{} are there and have room", streams.len())));
    }
    findings.append(&mut wrong);
    findings.push(write(client).await);
}

/// The limit because of which a stream refuses writes, or is about to. A stream that drops its oldest
/// messages refuses none.
fn crowded(config: &Config, state: &StreamState) -> Option<String> {
    if config.discard == DiscardPolicy::Old {
        return None;
    }
    [(state.bytes, config.max_bytes, "bytes"), (state.messages, config.max_msgs, "messages")]
        .into_iter()
        .filter_map(|(has, max, unit)| Some((has, u64::try_from(max).ok()?, unit)))
        .find(|(has, max, _)| {
            *max > 0 && has.saturating_mul(100) >= max.saturating_mul(FULL_PERCENT)
        })
        .map(|(has, max, unit)| format!("{has} of {max} {unit}"))
}

async fn info(client: &Client, stream: &str) -> Result<Info, String> {
    let subject = format!("STREAM.INFO.{stream}");
    let info: Info = answer(client.jetstream.request(subject, &())).await?;
    match info.error {
        Some(error) => Err(error.description),
        None => Ok(info),
    }
}

/// Writes a little to the store of inputs. Clients may write there, masters and workers read only
/// objects that they know by name, and each write replaces the one before.
async fn write(client: &Client) -> Finding {
    let subject = format!("$O.{}.C.check", client.names.data_store());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let written = async {
        let body = vec![0; PROBE_SIZE].into();
        client.jetstream.publish_with_headers(subject, headers, body).await?.await
    };
    let hint = "check the log and the disk of nats-server: nothing goes on until it stores again; \
                after a full disk it may have to be restarted";
    match tokio::time::timeout(WRITTEN_WITHIN, written).await {
        Ok(Ok(_)) => Finding::ok("writes", "are stored"),
        Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
            Finding::fail("writes", "the store of inputs does not exist, or no server serves it")
                .hint(hint)
        }
        Ok(Err(error)) => Finding::fail("writes", format!("are refused: {error}")).hint(hint),
        Err(_) => match last_refused() {
            // This user may not write, but others may.
            Some(refusal) => {
                Finding::warn("writes", format!("not tried: {refusal}")).hint(refusal.advice())
            }
            None => {
                let detail = format!("no write was stored within {} s", WRITTEN_WITHIN.as_secs());
                Finding::fail("writes", detail).hint(hint)
            }
        },
    }
}

/// The age of each key of a bucket: the time of its message against the time of the stream's leader.
/// Only message headers are read.
pub(super) async fn ages(client: &Client, bucket: Bucket) -> Result<Ages, String> {
    let now = clock(client, bucket).await?;
    answer(read(client, &client.names.stream(bucket), &client.names.key(bucket, ">"), now)).await
}

/// The time of the server that leads a bucket's stream.
pub(super) async fn clock(client: &Client, bucket: Bucket) -> Result<SystemTime, String> {
    let now = info(client, &client.names.stream(bucket)).await?.ts.parse::<jiff::Timestamp>();
    now.map(SystemTime::from).map_err(|error| format!("its clock cannot be read: {error}"))
}

async fn read(
    client: &Client,
    name: &str,
    keys: &str,
    now: SystemTime,
) -> Result<Ages, async_nats::Error> {
    let stream = client.jetstream.get_stream(name).await?;
    let config = OrderedConfig {
        deliver_subject: client.nats.new_inbox(),
        deliver_policy: DeliverPolicy::LastPerSubject,
        filter_subject: keys.into(),
        headers_only: true,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut ages = Ages::new();
    if consumer.cached_info().num_pending == 0 {
        return Ok(ages);
    }
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        let info = message.info()?;
        let key = message.subject.splitn(3, '.').nth(2).unwrap_or_default();
        ages.insert(key.into(), since(now, info.published.into()));
        if info.pending == 0 {
            break;
        }
    }
    Ok(ages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_that_refuses_what_does_not_fit_has_no_room() {
        let crowded = |bytes, max_bytes, discard| {
            let config = Config { max_bytes, max_msgs: -1, discard };
            crowded(&config, &StreamState { bytes, messages: 3 })
        };
        assert_eq!(crowded(94, 100, DiscardPolicy::New), None);
        assert_eq!(crowded(95, 100, DiscardPolicy::New).as_deref(), Some("95 of 100 bytes"));
        assert_eq!(crowded(100, 100, DiscardPolicy::Old), None, "its oldest go");
        assert_eq!(crowded(100, -1, DiscardPolicy::New), None, "there is no limit");
    }
}
