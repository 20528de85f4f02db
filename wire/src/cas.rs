//! Compare-and-set on keys of JetStream buckets, with its three outcomes: written, conflict, unknown.
//! Never a plain put, and never reports a write as failed when its outcome is unknown.

use crate::nats::{Domain, JetStream};
use async_nats::{
    HeaderMap, HeaderValue,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL},
    jetstream::{
        Context,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use muster_protocol::{
    Revision,
    lease::CasAnswer,
    record::{self, Record},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long to wait for an acknowledgement. After that, the outcome of the write is unknown.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes that a process may have under way at once.
const IN_FLIGHT_MAX: usize = 8 * 1024;

/// JetStream in a domain, with the timeouts of this module.
pub fn context(client: async_nats::Client, domain: Option<Domain>) -> JetStream {
    JetStream::tuned(domain, |builder| {
        builder
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(IN_FLIGHT_MAX)
            .build(client)
    })
}

/// A key: its stream and its subject.
#[derive(Clone, Debug)]
pub struct Key {
    /// The stream behind the bucket.
    pub stream: String,
    /// The subject of the key, as its stream knows it.
    pub subject: String,
}

/// A write that was sent, or whose sending failed.
pub struct Sent {
    key: Key,
    ack: Option<PublishAckFuture>,
}

/// Sends a write of `value`, which the registry accepts only while the key's revision is `expect`.
///
/// `keep` is how long the value is kept: whole seconds, at least one; for ever if absent. `headers` are
/// stored with the value.
pub async fn send(
    context: &JetStream,
    key: Key,
    expect: Revision,
    value: Bytes,
    keep: Option<Duration>,
    mut headers: HeaderMap,
) -> Sent {
    expecting(&mut headers, expect, keep);
    let publish = PublishMessage::build().payload(value).headers(headers);
    let ack = context.send_publish(context.written_to(&key.subject), publish).await;
    let ack = ack.inspect_err(|error| not_known(context, &key, error)).ok();
    Sent { key, ack }
}

/// Adds headers with which the registry accepts a message only while the key's revision is `expect`.
pub fn expecting(headers: &mut HeaderMap, expect: Revision, keep: Option<Duration>) {
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(expect));
    if let Some(keep) = keep {
        headers.insert(NATS_MESSAGE_TTL, HeaderValue::from(keep.as_secs().max(1)));
    }
}

impl Sent {
    /// Waits for the outcome of the write. After a conflict, reads from the stream's leader what the
    /// write met.
    pub async fn answer<T: Record>(self, context: &JetStream) -> CasAnswer<T> {
        let Some(ack) = self.ack else { return CasAnswer::Unknown };
        match ack.await {
            Ok(ack) => CasAnswer::Written(ack.sequence),
            Err(error) if is_refused(&error) => met(context, &self.key).await,
            Err(error) => {
                not_known(context, &self.key, &error);
                CasAnswer::Unknown
            }
        }
    }
}

/// Whether a publish was refused because the key has another revision than was expected.
fn is_refused(error: &PublishError) -> bool {
    // The client knows one of the two codes by its kind.
    let code = std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<async_nats::jetstream::Error>())
        .map(|error| error.error_code().0);
    error.kind() == PublishErrorKind::WrongLastSequence
        || code.is_some_and(|code| WRONG_LAST_SEQUENCE.contains(&code))
}

/// Logs why the outcome of a write is unknown.
fn not_known(context: &JetStream, key: &Key, error: &PublishError) {
    if error.kind() == PublishErrorKind::StreamNotFound && !context.is_local() {
        let error = context.is_missing();
        return tracing::warn!(%error, "a write was not acknowledged");
    }
    tracing::warn!(stream = key.stream, %error, "a write was not acknowledged");
}

/// Reads the value that a refused write met at its key.
pub async fn met<T: Record>(context: &Context, key: &Key) -> CasAnswer<T> {
    match look(context, key).await {
        Ok(Found::Nothing) => CasAnswer::Conflict(None),
        Ok(Found::Mark(revision)) => CasAnswer::Gone(revision),
        Ok(Found::Value(value, revision)) => CasAnswer::Conflict(Some((value, revision))),
        Err(error) => {
            tracing::warn!(%error, "the value that refused a write cannot be read");
            CasAnswer::Unknown
        }
    }
}

/// A stream's acknowledgement of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The value is stored with this revision.
    Written(Revision),
    /// The key has another revision than was expected.
    Refused,
    /// The outcome is unknown: no stream answered, or the answer is another error.
    Unknown,
}

impl Ack {
    /// Reads the answer to a message that was published with a reply subject.
    pub fn of(answer: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct PutReply {
            #[serde(default)]
            seq: Revision,
            error: Option<ApiError>,
        }
        match serde_json::from_slice(answer) {
            Ok(PutReply { error: Some(error), .. })
                if WRONG_LAST_SEQUENCE.contains(&error.err_code) =>
            {
                Ack::Refused
            }
            Ok(PutReply { error: None, seq }) if seq > 0 => Ack::Written(seq),
            Ok(PutReply { error: Some(error), .. }) => {
                tracing::warn!(error = error.description, "a record was not stored");
                Ack::Unknown
            }
            _ => {
                tracing::warn!(
                    "a record was not stored: no stream accepted it; check that JetStream is on"
                );
                Ack::Unknown
            }
        }
    }
}

/// Why a key could not be read. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream's leader did not answer in time, or its answer cannot be read.
    #[error("the registry did not answer: {0}")]
    Unavailable(String),
    /// The value does not have the expected form.
    #[error("the value of {subject} cannot be read: {cause}")]
    Malformed {
        /// The key.
        subject: String,
        /// The parser's error.
        cause: serde_json::Error,
    },
}

#[derive(Serialize)]
struct GetMessage<'a> {
    last_by_subj: &'a str,
}

#[derive(Deserialize)]
struct GotMessage {
    message: Option<Stored>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct Stored {
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// JetStream's codes for "wrong last sequence". The second is the answer of a stream with replicas while
/// another write of the same key is on its way to them.
const WRONG_LAST_SEQUENCE: [u64; 2] = [10_071, 10_164];

/// JetStream's code for "no message found".
const NO_MESSAGE: u64 = 10_037;

/// The newest value of a key, read from the stream's leader. A direct get could be answered by a replica
/// that is behind.
pub async fn read<T: Record>(
    context: &Context,
    key: &Key,
) -> Result<Option<(T, Revision)>, ReadError> {
    Ok(match look(context, key).await? {
        Found::Value(value, revision) => Some((value, revision)),
        Found::Nothing | Found::Mark(_) => None,
    })
}

/// The state of a key.
enum Found<T> {
    /// No value and no tombstone, as far as the stream remembers.
    Nothing,
    /// A tombstone and its revision. Muster leaves none, but an operator with `nats kv del` may. A value
    /// that cannot be read is one, too, where it counts as deleted.
    Mark(Revision),
    /// A value and its revision.
    Value(T, Revision),
}

async fn look<T: Record>(context: &Context, key: &Key) -> Result<Found<T>, ReadError> {
    let unavailable = |cause: String| ReadError::Unavailable(cause);
    let ask = GetMessage { last_by_subj: &key.subject };
    let got: GotMessage = context
        .request(format!("STREAM.MSG.GET.{}", key.stream), &ask)
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    match (got.message, got.error) {
        (Some(stored), _) if is_mark(&stored) => Ok(Found::Mark(stored.seq)),
        (Some(stored), _) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(stored.data)
                .map_err(|error| unavailable(error.to_string()))?;
            match record::read(&bytes) {
                Ok(value) => Ok(Found::Value(value, stored.seq)),
                Err(error) if T::UNREADABLE_IS_GONE => {
                    tracing::warn!(subject = key.subject, %error, "a value counts as deleted");
                    Ok(Found::Mark(stored.seq))
                }
                Err(cause) => Err(ReadError::Malformed { subject: key.subject.clone(), cause }),
            }
        }
        (None, Some(error)) if error.err_code == NO_MESSAGE => Ok(Found::Nothing),
        (None, Some(error)) => Err(unavailable(error.description)),
        (None, None) => Err(unavailable("an empty answer".into())),
    }
}

/// Whether a stored message is a tombstone: its value is empty and it has headers.
fn is_mark(stored: &Stored) -> bool {
    stored.data.is_empty() && !stored.hdrs.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_one_of_three_things() {
        let refused =
            br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},
            "stream":"KV_muster_default_tasks","seq":0}"#;
        let overtaken = br#"{"error":{"code":400,"err_code":10164,
            "description":"wrong last sequence"},"stream":"KV_muster_default_tasks","seq":0}"#;
        let full =
            br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},
            "stream":"KV_muster_default_tasks","seq":0}"#;
        for (answer, want) in [
            (&br#"{"stream":"KV_muster_default_tasks","seq":7}"#[..], Ack::Written(7)),
            (&refused[..], Ack::Refused),
            (&overtaken[..], Ack::Refused),
            (&full[..], Ack::Unknown),
            // No stream answers, or something else than a stream does.
            (&b""[..], Ack::Unknown),
            (&b"{}"[..], Ack::Unknown),
            (&br#"{"stream":"other"}"#[..], Ack::Unknown),
        ] {
            assert_eq!(Ack::of(answer), want, "{}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn a_write_names_the_revision_that_it_replaces() {
        let mut headers = HeaderMap::new();
        expecting(&mut headers, 0, None);
        let text = |headers: &HeaderMap, name| headers.get(name).map(|value| value.to_string());
        assert_eq!(text(&headers, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE).as_deref(), Some("0"));
        assert_eq!(text(&headers, NATS_MESSAGE_TTL), None);
        expecting(&mut headers, 12, Some(Duration::from_millis(10)));
        assert_eq!(text(&headers, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE).as_deref(), Some("12"));
        assert_eq!(text(&headers, NATS_MESSAGE_TTL).as_deref(), Some("1"), "whole seconds");
    }
}
