//! The start of a session: waits until the streams are there and have leaders, and reads where they end.
//! Never follows a stream, and never gives up before a cluster can have elected.

use super::{
    RegistryError, copies,
    layout::{self, Existing, Keep},
};
use async_nats::{
    Client,
    connection::State,
    jetstream::{context::GetStreamError, stream::Info},
};
use futures::{StreamExt as _, future::try_join_all, stream::FuturesUnordered, try_join};
use muster_protocol::{
    registry::{Mark, Marks, StreamId},
    subject::{Bucket, Names},
};
use muster_wire::nats::JetStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// How long a connection waits for the leaders of the streams before another server is tried: longer
/// than a cluster elects.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The time from one question for the ends of the streams to the next, and how many may be unanswered.
const ASK_EVERY: Duration = Duration::from_millis(150);
const ASKED_MAX: usize = 32;

/// Waits until every followed stream has a leader, and returns the ends of the streams. Stays on one
/// connection, since another server would not have the leaders sooner.
pub(super) async fn ready(
    client: &Client,
    context: &JetStream,
    names: &Names,
    keep: &Keep,
    is_first: bool,
) -> Result<Marks, RegistryError> {
    let (began, mut has_told) = (Instant::now(), false);
    // A leader that is gone answers nothing, and a new one answers only what was asked since. So
    // questions overlap. Streams are created by one question at a time.
    let asked_max = if is_first { 1 } else { ASKED_MAX };
    let mut asked = FuturesUnordered::new();
    let mut ask_again = tokio::time::interval(ASK_EVERY);
    loop {
        let found = tokio::select! {
            Some(found) = asked.next() => found,
            _ = ask_again.tick(), if asked.len() < asked_max => {
                let is_late = !asked.is_empty();
                asked.push(async {
                    if is_first {
                        ensure(context, names, keep, Existing::Update).await?;
                    }
                    find_ends(context, names, keep).await
                });
                if !is_late {
                    continue;
                }
                let (what, cause) = ("its streams".into(), "no answer yet".into());
                Err(RegistryError::NotReady { what, cause })
            }
        };
        let Err(error) = found else { return found };
        let is_connected = client.connection_state() == State::Connected;
        if !error.is_passing() || !is_connected || began.elapsed() >= READY_WITHIN {
            return Err(error);
        }
        if std::mem::replace(&mut has_told, true) {
            tracing::debug!(%error, "still waiting");
        } else {
            tracing::info!(%error, "waiting");
        }
    }
}

/// Creates the missing streams of the fleet, and the copies of the events of its sites.
pub(super) async fn ensure(
    context: &JetStream,
    names: &Names,
    keep: &Keep,
    existing: Existing,
) -> Result<Vec<String>, RegistryError> {
    let created = layout::ensure(context, names, keep, existing).await?;
    copies::ensure(context, keep, existing).await?;
    Ok(created)
}

/// Reads where the followed streams end, and creates one that somebody has deleted.
async fn find_ends(
    context: &JetStream,
    names: &Names,
    keep: &Keep,
) -> Result<Marks, RegistryError> {
    let ends = match read_ends(context, names).await {
        Err((_, error)) if layout::is_missing(&error) => {
            layout::ensure(context, names, keep, Existing::Leave).await?;
            read_ends(context, names).await
        }
        read => read,
    };
    ends.map_err(|(what, error)| layout::unread(context, what, &error))
}

/// Reads from the leaders where the followed streams end: all at once, since each leader may be at a
/// different server. Waits for the leader of the cluster as well, without which nothing can be watched: it
/// answers for streams that do not exist. An error comes with the name of the stream.
async fn read_ends(context: &JetStream, names: &Names) -> Result<Marks, (String, GetStreamError)> {
    let read = Bucket::FOLLOWED.map(|bucket| async move {
        let what = names.stream(bucket);
        match read_end(context, &what).await {
            Ok(end) => Ok((bucket, end)),
            Err(error) => Err((what, error)),
        }
    });
    let nowhere = format!("KV_muster_{}_nowhere", names.fleet());
    let cluster = async {
        match context.get_stream(&nowhere).await {
            Err(error) if !layout::is_missing(&error) => Err((nowhere.clone(), error)),
            _ => Ok(()),
        }
    };
    let mut ends = Marks::default();
    let (found, ()) = try_join!(try_join_all(read), cluster)?;
    for (bucket, end) in found {
        ends.set(bucket, end);
    }
    Ok(ends)
}

/// Reads from the leader where a stream ends.
pub(super) async fn read_end(context: &JetStream, stream: &str) -> Result<Mark, GetStreamError> {
    Ok(mark_of(context.get_stream(stream).await?.cached_info()))
}

/// Whether the server of this name keeps the tasks. No, if it is not known.
pub(super) async fn keeps(context: &JetStream, names: &Names, server: &str) -> bool {
    let Ok(stream) = context.get_stream(names.stream(Bucket::Tasks)).await else { return false };
    let leader =
        stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.as_deref());
    context.is_local() && leader == Some(server)
}

/// Whether a server of a cluster has everything that the stream has, as its leader knows. A replica that
/// cannot catch up delivers what it has all the same, of which the stream may have lost a part.
pub(super) fn is_in_step(stream: &Info, server: &str) -> bool {
    let Some(cluster) = &stream.cluster else { return true };
    let is_leader = cluster.leader.as_deref() == Some(server);
    is_leader || cluster.replicas.iter().any(|replica| replica.name == server && replica.current)
}

/// Where a stream ends, and the stream's identity: its time of creation.
pub(super) fn mark_of(info: &Info) -> Mark {
    let created = SystemTime::from(info.created).duration_since(UNIX_EPOCH);
    let created = created.map(|since| since.as_nanos() as u64).unwrap_or_default();
    Mark { stream: StreamId(created), revision: info.state.last_sequence }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that the server `a` leads. The replica at `b` has everything, the one at `c` has not.
    const CLUSTER: &str = r#"{"leader": "a", "replicas": [
        {"name": "b", "current": true, "active": 0},
        {"name": "c", "current": false, "active": 0, "lag": 7}]}"#;

    #[test]
    fn a_replica_that_cannot_catch_up_is_not_in_step() {
        let stream = |cluster: &str| -> Info {
            let info = format!(
                r#"{{"created": "2026-01-01T00:00:00Z", "cluster": {cluster}, "state": {{
                    "messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 0,
                    "first_ts": "2026-01-01T00:00:00Z", "last_ts": "2026-01-01T00:00:00Z"}},
                    "config": {{"name": "tasks", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
                    "discard": "new", "retention": "limits", "max_age": 0, "num_replicas": 3,
                    "duplicate_window": 0, "storage": "file"}}}}"#
            );
            serde_json::from_str(&info).expect("a description of a stream")
        };
        let cluster = stream(CLUSTER);
        let in_step = ["a", "b", "c", "d"].map(|server| is_in_step(&cluster, server));
        assert_eq!(in_step, [true, true, false, false]);
        assert!(is_in_step(&stream("null"), "a"), "one server has everything");
    }
}
