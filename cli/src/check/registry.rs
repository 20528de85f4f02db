//! Checks the fleet's streams: whether they exist, have space, their replicas and a quorum, whether they
//! accept a write, and how old their messages are. Never writes to a stream that masters follow.

use super::{Ages, Figure, Finding, Health, answer, few, since, thresholds::Thresholds};
use crate::{
    client::{Client, last_refused},
    quantity,
};
use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_TTL,
    jetstream::{
        consumer::{DeliverPolicy, push::OrderedConfig},
        context::PublishErrorKind,
        stream::DiscardPolicy,
    },
};
use futures::{StreamExt as _, future::join_all};
use muster_protocol::subject::{Bucket, Names};
use muster_wire::objects;
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

/// How many bytes are written to test whether writes are accepted: more than a block of any file
/// system, so that a full disk cannot have room for them by chance.
const PROBE_SIZE: usize = 8 * 1024;

/// How long a write may take. Stores acknowledge within milliseconds.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// From which share of its limit a stream has no room for a message of the largest size, in percent.
const NO_ROOM_PERCENT: u64 = 95;

/// How many replicas a stream needs to survive the loss of a server.
const REPLICAS_MIN: usize = 3;

/// What is read of a stream. The client library's own type lacks the server's clock.
#[derive(Deserialize)]
struct Info {
    config: Option<Config>,
    state: Option<StreamState>,
    cluster: Option<Cluster>,
    #[serde(default)]
    ts: String,
    error: Option<ApiError>,
}

#[derive(Default, Deserialize)]
struct Config {
    /// In nanoseconds; 0 for ever.
    #[serde(default)]
    max_age: u64,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_msgs: i64,
    #[serde(default)]
    discard: DiscardPolicy,
    #[serde(default)]
    num_replicas: usize,
    #[serde(default)]
    allow_rollup_hdrs: bool,
    #[serde(default)]
    allow_msg_ttl: bool,
}

/// Where the replicas of a stream are. The leader answers, and is not among them. Where there is none, any
/// server answers.
#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    name: String,
    #[serde(default)]
    current: bool,
    #[serde(default)]
    offline: bool,
}

#[derive(Deserialize)]
struct StreamState {
    bytes: u64,
    messages: u64,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    description: String,
}

/// Why nothing is known of a stream.
enum Unread {
    /// There is no such stream.
    Missing(String),
    /// No leader answers, or something else is wrong.
    Unanswered(String),
}

/// JetStream's code for "stream not found".
const NO_STREAM: u64 = 10_059;

/// The streams of a fleet that clients use.
pub fn streams(names: &Names) -> Vec<String> {
    let buckets = Bucket::ALL.map(|bucket| names.stream(bucket));
    let stores = [names.module_store(), names.data_store()].map(|name| objects::stream_name(&name));
    let texts = [names.event_stream(), names.log_stream()];
    buckets.into_iter().chain(stores).chain(texts).collect()
}

pub(super) async fn look(client: &Client, thresholds: &Thresholds, findings: &mut Vec<Finding>) {
    let names = &client.names;
    let streams = streams(names);
    let is_cluster = client.nats.server_info().cluster.is_some();
    let (mut wrong, mut loose, mut expires) = (Vec::new(), Vec::new(), false);
    let data = objects::stream_name(&names.data_store());
    let mut replicas = Replicas::default();
    let (mut used, mut kept) = (0, Vec::new());
    let texts = [
        (names.event_stream(), "events"),
        (names.log_stream(), "logs"),
        (data.clone(), "inputs, outputs and checkpoints"),
    ];
    // All at once: where the cluster has no leader, each answer is waited for in vain.
    let infos = join_all(streams.iter().map(|stream| info(client, stream))).await;
    for (stream, found) in streams.iter().zip(infos) {
        let found = match found {
            Ok(found) => found,
            Err(Unread::Unanswered(_)) if is_cluster => {
                replicas.stopped.push(stream.clone());
                continue;
            }
            Err(Unread::Missing(error) | Unread::Unanswered(error)) => {
                let hint = "a master makes what is missing; see the log of nats-server";
                wrong.push(Finding::fail("stream", format!("{stream}: {error}")).hint(hint));
                continue;
            }
        };
        if is_cluster {
            replicas.count(stream, &found);
        }
        let Some(config) = found.config else { continue };
        expires |= stream == &data && config.allow_msg_ttl;
        if config.allow_rollup_hdrs {
            let detail = format!("{stream} allows rollups: one message can erase it");
            let hint = format!(
                "once no master and no command is of 0.1: nats stream edit {stream} --no-allow-rollup"
            );
            loose.push(Finding::warn("stream", detail).hint(hint));
        }
        if let Some((_, what)) = texts.iter().find(|(text, _)| text == stream) {
            kept.push(retention(what, &config, found.state.as_ref()));
        }
        let Some((percent, detail)) = found.state.and_then(|state| fullest(&config, &state)) else {
            continue;
        };
        used = used.max(percent);
        let has_no_room = percent >= NO_ROOM_PERCENT;
        let health = if has_no_room { Health::Fail } else { thresholds.full().above(&percent) };
        if health > Health::Ok {
            let what = if has_no_room { "has no room" } else { "gets full" };
            let hint = format!("raise the limit: nats stream edit {stream}");
            let detail = format!("{stream} {what}: {detail}");
            wrong.push(Finding::new(health, "stream", detail).hint(hint));
        }
    }
    if !kept.is_empty() {
        findings.push(Finding::ok("kept", format!("{}; ended tasks for a day", kept.join("; "))));
    }
    if wrong.is_empty() && replicas.stopped.is_empty() {
        let detail = format!("{} are there and have room", streams.len());
        findings.push(Finding::ok("streams", detail));
    }
    let detail =
        format!("the fullest stream that does not drop old messages uses {used} % of its limit");
    let used = Figure::new("fullest", used).percent().bad_above(&thresholds.full());
    findings.push(Finding::ok("room", detail).figure(used));
    findings.append(&mut wrong);
    findings.append(&mut loose);
    if is_cluster {
        replicas.tell(findings);
    }
    findings.push(write(client, expires).await);
}

/// What is wrong with the replicas of the streams.
#[derive(Default)]
struct Replicas {
    /// Streams without a quorum.
    stopped: Vec<String>,
    /// Streams that survive the loss of no server. Not those of events and logs, which nobody waits for.
    few: Vec<String>,
    /// Streams whose next lost server stops them.
    scarce: Vec<String>,
    /// Servers that do not follow the leader of a stream.
    behind: BTreeSet<String>,
}

impl Replicas {
    fn count(&mut self, stream: &str, found: &Info) {
        let Some(config) = &found.config else { return };
        let is_text = config.discard == DiscardPolicy::Old;
        if config.num_replicas < REPLICAS_MIN && !is_text {
            self.few.push(stream.into());
        }
        let others = found.cluster.iter().flat_map(|cluster| &cluster.replicas);
        let (current, behind): (Vec<&Replica>, Vec<&Replica>) =
            others.partition(|replica| replica.current && !replica.offline);
        self.behind.extend(behind.iter().map(|replica| replica.name.clone()));
        // The leader and those that follow it.
        let has_leader = found.cluster.as_ref().is_some_and(|cluster| !cluster.leader.is_empty());
        let (here, quorum) = (1 + current.len(), config.num_replicas / 2 + 1);
        if !has_leader || here < quorum {
            self.stopped.push(stream.into());
        } else if !behind.is_empty() && here == quorum {
            self.scarce.push(stream.into());
        }
    }

    fn tell(self, findings: &mut Vec<Finding>) {
        if !self.stopped.is_empty() {
            let detail = format!(
                "{} streams have no quorum, so nothing is stored: {}",
                self.stopped.len(),
                few(&self.stopped)
            );
            let hint = "most of the servers that keep them must run and reach each other: start those that \
                        do not run, and see their logs";
            findings.push(Finding::fail("quorum", detail).hint(hint).names(self.stopped));
        }
        if !self.few.is_empty() {
            let detail = format!(
                "{} streams have fewer than {REPLICAS_MIN} replicas in this cluster: {}",
                self.few.len(),
                few(&self.few)
            );
            let hint = format!("start the masters with --replicas {REPLICAS_MIN}");
            findings.push(Finding::warn("replicas", detail).hint(hint).names(self.few));
        }
        if !self.behind.is_empty() {
            let servers: Vec<String> = self.behind.into_iter().collect();
            let detail = format!("not up to date at {}", few(&servers));
            let hint = "start those servers again, or see their logs";
            findings.push(Finding::warn("replicas", detail).hint(hint).names(servers));
        }
        if !self.scarce.is_empty() {
            let detail = format!(
                "{} streams have no quorum if they lose one more server: {}",
                self.scarce.len(),
                few(&self.scarce)
            );
            findings.push(Finding::warn("quorum", detail).names(self.scarce));
        }
    }
}

/// How long a stream keeps its messages and how much of them, as a text: `events for 7d, 2 MiB of 64 MiB`.
fn retention(what: &str, config: &Config, state: Option<&StreamState>) -> String {
    let has = quantity::show_size(state.map_or(0, |state| state.bytes));
    let most = match u64::try_from(config.max_bytes) {
        Ok(most @ 1..) => format!("{has} of {}", quantity::show_size(most)),
        _ => format!("{has}, without a limit"),
    };
    let age = match config.max_age {
        0 => "for ever".into(),
        nanos => format!("for {}", quantity::show_duration(Duration::from_nanos(nanos))),
    };
    format!("{what} {age}, {most}")
}

/// How full a stream is, in percent of its limit, with both figures. `None` if it drops old messages instead of refusing
/// new ones.
fn fullest(config: &Config, state: &StreamState) -> Option<(u64, String)> {
    if config.discard == DiscardPolicy::Old {
        return None;
    }
    [(state.bytes, config.max_bytes, "bytes"), (state.messages, config.max_msgs, "messages")]
        .into_iter()
        .filter_map(|(has, max, unit)| {
            let max = u64::try_from(max).ok().filter(|max| *max > 0)?;
            Some((has.saturating_mul(100) / max, format!("{has} of {max} {unit}")))
        })
        .max_by_key(|(percent, _)| *percent)
}

async fn info(client: &Client, stream: &str) -> Result<Info, Unread> {
    let subject = format!("STREAM.INFO.{stream}");
    let info: Info =
        answer(client.jetstream.request(subject, &())).await.map_err(Unread::Unanswered)?;
    match info.error {
        Some(error) if error.err_code == NO_STREAM => Err(Unread::Missing(error.description)),
        Some(error) => Err(Unread::Unanswered(error.description)),
        None => Ok(info),
    }
}

/// Writes a probe to the store of inputs. The store removes it after a minute if messages there may
/// have a time to live (`expires`), otherwise after days. Clients may write there, and masters and
/// workers read only objects that they know by name.
async fn write(client: &Client, expires: bool) -> Finding {
    let subject = format!("$O.{}.C.check", client.names.data_store());
    let mut headers = HeaderMap::new();
    if expires {
        headers.insert(NATS_MESSAGE_TTL, "1m");
    }
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
    let found = info(client, &client.names.stream(bucket)).await;
    let found = found.map_err(|(Unread::Missing(why) | Unread::Unanswered(why))| why)?;
    let now = found.ts.parse::<jiff::Timestamp>();
    now.map(SystemTime::from).map_err(|error| format!("its clock cannot be read: {error}"))
}

/// The ages of the newest messages of these subjects, by the subjects without their first two tokens.
pub(super) async fn read(
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
    fn only_a_stream_that_refuses_what_does_not_fit_gets_full() {
        let fullest = |bytes, max_bytes, discard| {
            let config = Config { max_bytes, max_msgs: -1, discard, ..Config::default() };
            fullest(&config, &StreamState { bytes, messages: 3 })
        };
        let full = Some((95, "190 of 200 bytes".into()));
        assert_eq!(fullest(190, 200, DiscardPolicy::New), full);
        assert_eq!(fullest(189, 200, DiscardPolicy::New).map(|(percent, _)| percent), Some(94));
        assert_eq!(fullest(100, 100, DiscardPolicy::Old), None, "its oldest go");
        assert_eq!(fullest(100, -1, DiscardPolicy::New), None, "there is no limit");
    }

    #[test]
    fn what_is_kept_is_told_with_its_limits() {
        let day = 24 * 3_600 * 1_000_000_000;
        let config = |max_age, max_bytes| Config { max_age, max_bytes, ..Config::default() };
        let state = StreamState { bytes: 2 << 20, messages: 3 };
        let told = retention("events", &config(7 * day, 64 << 20), Some(&state));
        assert_eq!(told, "events for 7d, 2 MiB of 64 MiB");
        assert_eq!(retention("logs", &config(0, -1), None), "logs for ever, 0 B, without a limit");
    }

    #[test]
    fn replicas_that_are_few_or_behind_are_found() {
        let found = |config: &str, replicas: &str| {
            let cluster = format!(r#"{{"leader":"a","replicas":{replicas}}}"#);
            let text = format!(r#"{{"config":{config},"cluster":{cluster}}}"#);
            let mut all = Replicas::default();
            all.count("s", &serde_json::from_str(&text).expect("JSON"));
            (all.few.len(), all.behind.len(), all.scarce.len() + 10 * all.stopped.len())
        };
        let three = r#"{"num_replicas":3,"discard":"new"}"#;
        let (well, behind) = (r#"{"name":"b","current":true}"#, r#"{"name":"c","current":false}"#);
        let offline = r#"{"name":"b","current":true,"offline":true}"#;
        assert_eq!(found(three, &format!("[{well},{well}]")), (0, 0, 0));
        assert_eq!(found(three, &format!("[{well},{behind}]")), (0, 1, 1));
        assert_eq!(found(three, &format!("[{offline},{behind}]")), (0, 2, 10), "it has no quorum");
        assert_eq!(found(r#"{"num_replicas":1,"discard":"new"}"#, "[]"), (1, 0, 0));
        assert_eq!(found(r#"{"num_replicas":1,"discard":"old"}"#, "[]"), (0, 0, 0), "events");
        let five = r#"{"num_replicas":5,"discard":"new"}"#;
        assert_eq!(found(five, &format!("[{well},{well},{well},{behind}]")), (0, 1, 0));
    }
}
