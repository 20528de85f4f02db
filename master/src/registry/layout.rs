//! The streams of a fleet and their configuration. Never a stock bucket or object store: there, a client
//! that may write one key can erase all others with a rollup header.

pub(super) use muster_wire::objects::is_missing;

use super::{RegistryError, site::Site};
use async_nats::jetstream::{
    ErrorCode,
    context::{
        CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError,
        RequestErrorKind,
    },
    stream::{Config, DiscardPolicy, PersistenceMode, StorageType},
};
use futures::future::try_join_all;
use muster_protocol::{
    limit,
    subject::{Bucket, Names},
};
use muster_wire::{
    nats::{self, JetStream},
    objects,
};
use std::{sync::Arc, time::Duration};

/// The interval of the upkeep. A round costs one read for each input and each checkpoint. The interval
/// is a small part of the day after which objects are old.
pub(crate) const UPKEEP_EVERY: Duration = Duration::from_secs(6 * 3600);

/// How long inputs, outputs and checkpoints are kept after they were stored. `upkeep` renews what an
/// open task needs, so this time need not cover a task's attempts or its wait in the queue.
const DATA_KEEP: Duration = Duration::from_secs(9 * 24 * 3600);

/// The longest time without a master that reaches the registry in which no open task loses its input or
/// checkpoint.
const UNATTENDED_MAX: Duration = Duration::from_secs(6 * 24 * 3600);

// Right after a round of the upkeep, everything that an open task needs is younger than `YOUNG`. Until
// the next round it ages by `EVERY`, and from then on possibly no master is there.
const _: () = assert!(
    nats::YOUNG.as_secs() + UPKEEP_EVERY.as_secs() + UNATTENDED_MAX.as_secs()
        <= DATA_KEEP.as_secs()
);
// An output that was found to be young must outlive the record that names it. The record is written as
// soon as a master is there, and is then kept for `RETENTION_MAX` at most.
const _: () = assert!(
    nats::YOUNG.as_secs() + UNATTENDED_MAX.as_secs() + limit::RETENTION_MAX.as_secs()
        <= DATA_KEEP.as_secs()
);

/// The options of a fleet's streams that an operator may choose.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Replicas of each stream.
    pub replicas: usize,
    /// How long events are kept, as far as they fit.
    pub events_age: Duration,
    /// The most bytes of events; the oldest are removed first. NATS reserves this much of its disk.
    pub events_bytes: u64,
    /// How long logs are kept, as far as they fit.
    pub logs_age: Duration,
    /// The most bytes of logs; the oldest are removed first. NATS reserves this much of its disk.
    pub logs_bytes: u64,
    /// How long the audit is kept, as far as it fits.
    pub audit_age: Duration,
    /// The most bytes of the audit; the oldest entries are removed first. NATS reserves this much of its disk.
    pub audit_bytes: u64,
    /// The most bytes of inputs, outputs and checkpoints. NATS reserves this much of its disk.
    pub data_bytes: Option<u64>,
    /// The sites whose events are copied; each copy has the size of the events.
    pub sites: Arc<[Site]>,
}

/// What happens to a stream that exists and has other settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It gets the settings of this master, once at its start.
    Update,
    /// It stays as it is: two masters with different options would change it in turns.
    Leave,
}

/// Creates the missing streams. Returns their names.
pub(super) async fn ensure(
    context: &JetStream,
    names: &Names,
    keep: &Keep,
    existing: Existing,
) -> Result<Vec<String>, RegistryError> {
    let replicas = keep.replicas;
    let buckets =
        Bucket::ALL.map(|bucket| stream(context, bucket_config(names, bucket, replicas), existing));
    let mut created = try_join_all(buckets).await?;
    let texts = [
        (names.event_stream(), names.events(), keep.events_age, keep.events_bytes),
        (names.log_stream(), names.all_logs(), keep.logs_age, keep.logs_bytes),
    ];
    for (name, subject, max_age, max_bytes) in texts {
        // Nobody waits for events and logs to be on disk, and where the server syncs every write, each
        // would cost as much as a record. The server allows `Async` only for streams with one replica,
        // and only when the stream is created.
        let persist_mode = match context.get_stream(&name).await {
            Ok(there) => there.cached_info().config.persist_mode,
            Err(error) if is_missing(&error) => (replicas == 1).then_some(PersistenceMode::Async),
            Err(error) => return Err(unread(context, name, &error)),
        };
        let stays_alone = persist_mode == Some(PersistenceMode::Async);
        if stays_alone && replicas > 1 && existing == Existing::Update {
            tracing::warn!(
                stream = name,
                "it keeps one copy, because it was created so; remove it to have more"
            );
        }
        let num_replicas = if stays_alone { 1 } else { replicas };
        let config = Config {
            name,
            persist_mode,
            subjects: vec![subject],
            max_age,
            max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
            max_messages_per_subject: UNLIMITED,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            num_replicas,
            allow_direct: true,
            ..Config::default()
        };
        created.push(stream(context, config, existing).await?);
    }
    let audit = audit_config(names, keep, replicas);
    created.push(stream(context, audit, existing).await?);
    let data_bytes =
        keep.data_bytes.map_or(UNLIMITED, |max| i64::try_from(max).unwrap_or(i64::MAX));
    for (store, max_age, max_bytes) in [
        (names.module_store(), Duration::ZERO, UNLIMITED),
        (names.data_store(), DATA_KEEP, data_bytes),
    ] {
        created.push(objects(context, store, max_age, max_bytes, replicas, existing).await?);
    }
    Ok(created.into_iter().flatten().collect())
}

fn bucket_config(names: &Names, bucket: Bucket, replicas: usize) -> Config {
    Config {
        name: names.stream(bucket),
        subjects: vec![names.key(bucket, ">")],
        max_messages_per_subject: 1,
        max_bytes: UNLIMITED,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: replicas,
        allow_direct: true,
        allow_rollup: false,
        deny_delete: true,
        deny_purge: true,
        // The checkpoint of an open task is renewed. That of an ended task is never read again.
        max_age: if bucket == Bucket::Checkpoints { DATA_KEEP } else { Duration::ZERO },
        // Values that are over carry their own time to live. No marker follows an expiry: markers would
        // allow rollups, and nothing here listens for expiries.
        allow_message_ttl: true,
        ..Config::default()
    }
}

/// The stream of the audit, which nobody removes entries from.
fn audit_config(names: &Names, keep: &Keep, num_replicas: usize) -> Config {
    Config {
        name: names.audit_stream(),
        subjects: vec![names.audit()],
        max_age: keep.audit_age,
        max_bytes: i64::try_from(keep.audit_bytes).unwrap_or(i64::MAX),
        max_messages_per_subject: UNLIMITED,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas,
        // The next entry follows the newest one, which only the leader knows.
        allow_direct: false,
        allow_rollup: false,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// Creates a stream and returns its name, or updates one that differs if it may. Does not touch a stream that is
/// as wanted: a server with little free disk would refuse to reserve again what the stream already has.
async fn stream(
    context: &JetStream,
    config: Config,
    existing: Existing,
) -> Result<Option<String>, RegistryError> {
    let (what, wanted) = (config.name.clone(), config.max_bytes);
    let done = match context.get_stream(&what).await {
        Ok(there) if there.cached_info().config.sources.is_some() => {
            let cause =
                "it is a hub's copy of the events of a site; name the domain of the site's own \
                server with --nats-domain, or another fleet with --fleet"
                    .into();
            return Err(RegistryError::Layout { what, cause });
        }
        Ok(_) if existing == Existing::Leave => return Ok(None),
        Ok(there) if is_so(&config, &there.cached_info().config) => return Ok(None),
        Ok(there) => {
            // Where the replicas are is up to the operator.
            let placement = there.cached_info().config.placement.clone();
            context.update_stream(Config { placement, ..config }).await.map(|_| None)
        }
        Err(error) if is_missing(&error) => {
            context.create_stream(config).await.map(|_| Some(what.clone())).inspect(|_| {
                match existing {
                    Existing::Update => tracing::info!(stream = what, "created"),
                    Existing::Leave => tracing::warn!(
                        stream = what,
                        "somebody has deleted a stream; it is created anew"
                    ),
                }
            })
        }
        Err(error) => return Err(unread(context, what, &error)),
    };
    made(done, what, u64::try_from(wanted).unwrap_or(0))
}

/// Turns the server's refusal to make a stream that reserves so many bytes into an error.
pub(super) fn made<T>(
    made: Result<T, CreateStreamError>,
    what: String,
    reserves: u64,
) -> Result<T, RegistryError> {
    made.map_err(|error| {
        let mut cause = error.to_string();
        if is_too_early(&error) {
            return RegistryError::NotReady { what, cause };
        }
        if reserves > 0 {
            cause += "; NATS needs room for it: give NATS more, or the master less by \
                --events-size, --logs-size, --audit-size and --data-size";
        }
        RegistryError::Layout { what, cause }
    })
}

/// Why a stream cannot be looked up.
pub(super) fn unread(context: &JetStream, what: String, error: &GetStreamError) -> RegistryError {
    let cause = error.to_string();
    match error.kind() {
        GetStreamErrorKind::JetStream(error) if is_for_good(error.error_code()) => {
            RegistryError::Layout { what, cause }
        }
        _ if is_without_jetstream(error) => context.is_missing().into(),
        _ => RegistryError::NotReady { what, cause },
    }
}

/// Whether nothing listens for requests of JetStream. In a cluster that is electing something does.
fn is_without_jetstream(error: &GetStreamError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &RequestError| cause.kind() == RequestErrorKind::NoResponders)
}

/// Whether a stream could not be made because the cluster is not complete, or has no leader.
fn is_too_early(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::TimedOut => true,
        CreateStreamErrorKind::JetStream(error) => !is_for_good(error.error_code()),
        _ => false,
    }
}

/// Whether an error of JetStream will not pass. These pass when servers have joined the cluster, and
/// when it has a leader.
fn is_for_good(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::CLUSTER_NOT_AVAILABLE
            | ErrorCode::CLUSTER_NO_PEERS
            | ErrorCode::CLUSTER_INCOMPLETE
            | ErrorCode::CLUSTER_NOT_LEADER
            | ErrorCode::CLUSTER_NOT_ASSIGNED
            | ErrorCode::RAFT_GENERAL
            | ErrorCode::STREAM_ASSIGNMENT
            // Another master has made it meanwhile.
            | ErrorCode::STREAM_NAME_EXIST
    )
}

/// Whether a stream has all settings that a fleet needs. The server chooses the others.
fn is_so(wanted: &Config, there: &Config) -> bool {
    let wanted = wanted.clone();
    *there
        == Config {
            subjects: wanted.subjects,
            max_age: wanted.max_age,
            max_bytes: wanted.max_bytes,
            max_messages_per_subject: wanted.max_messages_per_subject,
            discard: wanted.discard,
            num_replicas: wanted.num_replicas,
            allow_direct: wanted.allow_direct,
            allow_rollup: wanted.allow_rollup,
            deny_delete: wanted.deny_delete,
            deny_purge: wanted.deny_purge,
            allow_message_ttl: wanted.allow_message_ttl,
            ..there.clone()
        }
}

/// JetStream's number for "no limit".
pub(super) const UNLIMITED: i64 = -1;

/// An object store as a client creates it, but without direct gets, since a replica that is behind could
/// report an object as missing that was stored just now; and a new one without rollups.
async fn objects(
    context: &JetStream,
    bucket: String,
    max_age: Duration,
    max_bytes: i64,
    num_replicas: usize,
    existing: Existing,
) -> Result<Option<String>, RegistryError> {
    let name = objects::stream_name(&bucket);
    // Masters and commands of 0.1 cannot store objects without rollups, and would try to change back what
    // is changed here. `muster check` says when to forbid rollups, and writes a probe with a time to live.
    let (allow_rollup, allow_message_ttl) = match context.get_stream(&name).await {
        Ok(there) => {
            let config = &there.cached_info().config;
            (config.allow_rollup, config.allow_message_ttl)
        }
        Err(error) if is_missing(&error) => (false, true),
        Err(error) => return Err(unread(context, name, &error)),
    };
    let config = Config {
        name,
        subjects: vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
        max_age,
        max_bytes,
        max_messages_per_subject: UNLIMITED,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas,
        allow_direct: false,
        allow_rollup,
        allow_message_ttl,
        ..Config::default()
    };
    stream(context, config, existing).await
}
