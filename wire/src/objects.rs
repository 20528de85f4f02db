//! Objects by digest in a NATS object store, read so that a replica that is behind decides nothing. It
//! must never take a part of an object for all of it.
//!
//! A store with several replicas answers a *direct get* from any of them, and a consumer reads the
//! replica that it lives on: both may lack what was acknowledged just now. The stream's leader has it.

use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::push::OrderedConfig,
    context::{GetStreamError, GetStreamErrorKind, ObjectStoreError},
    object_store::{ObjectInfo, ObjectStore},
    stream::{LastRawMessageErrorKind, Stream},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use muster_protocol::Digest;
use std::time::Duration;

/// How long the next piece of an object may take before the leader is asked for it. A store on a slow
/// disk needs milliseconds.
const PIECE_WITHIN: Duration = Duration::from_secs(2);

/// Times that an object is looked up while it is read: one that somebody stores anew meanwhile loses the
/// pieces that were being read.
const READS_MAX: usize = 3;

/// Why an object was not read. Nothing was handed out.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer; asking again may help.
    #[error("the object store did not answer: {0}")]
    Unavailable(String),
    /// The leader of the store has fewer bytes of it, or more, than were stored.
    #[error("the object store has lost a part of {0}")]
    Torn(Digest),
    /// It has more bytes than the caller takes.
    #[error("{digest} has {size} bytes, and {size_max} were expected at most")]
    TooLarge {
        /// Which object.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// What the caller takes.
        size_max: u64,
    },
}

fn unavailable(error: impl ToString) -> ReadError {
    ReadError::Unavailable(error.to_string())
}

/// The stream behind an object store.
pub fn stream_name(store: &str) -> String {
    format!("OBJ_{store}")
}

/// An object store; clones are the same one.
#[derive(Clone)]
pub struct Objects {
    name: String,
    context: Context,
    store: ObjectStore,
    stream: Stream,
}

/// Whether the error says that there is no such stream.
pub fn is_missing(error: &GetStreamError) -> bool {
    let code = match error.kind() {
        GetStreamErrorKind::JetStream(error) => error.error_code(),
        _ => return false,
    };
    code == ErrorCode::STREAM_NOT_FOUND
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is none, or there is none.
    #[error(transparent)]
    Store(#[from] ObjectStoreError),
    /// The stream behind it did not answer.
    #[error(transparent)]
    Stream(#[from] GetStreamError),
}

impl OpenError {
    /// Whether there is no such store.
    pub fn is_missing(&self) -> bool {
        matches!(self, OpenError::Stream(error) if is_missing(error))
    }
}

impl Objects {
    /// Opens a store, which must be there.
    pub async fn open(context: &Context, name: &str) -> Result<Self, OpenError> {
        let stream = context.get_stream(stream_name(name)).await?;
        let store = context.get_object_store(name).await?;
        Ok(Objects { name: name.into(), context: context.clone(), store, stream })
    }

    /// For storing objects.
    pub fn store(&self) -> &ObjectStore {
        &self.store
    }

    /// What the store's leader knows of an object; `None` if there is none.
    pub async fn info(&self, digest: Digest) -> Result<Option<ObjectInfo>, ReadError> {
        let subject = format!("$O.{}.M.{}", self.name, URL_SAFE.encode(digest.hex()));
        let found = match self.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(found) => found,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(None);
            }
            Err(error) => return Err(unavailable(error)),
        };
        let info: ObjectInfo = serde_json::from_slice(&found.payload).map_err(unavailable)?;
        Ok(Some(info).filter(|info| !info.deleted))
    }

    /// All bytes of an object, as many as were stored; `None` if there is none. Whether they are those
    /// of the digest the caller has to see.
    pub async fn read(&self, digest: Digest, size_max: u64) -> Result<Option<Bytes>, ReadError> {
        for _ in 0..READS_MAX {
            let Some(info) = self.info(digest).await? else { return Ok(None) };
            let size = info.size as u64;
            if size > size_max {
                return Err(ReadError::TooLarge { digest, size, size_max });
            }
            let mut pieces = Pieces { all: BytesMut::with_capacity(info.size), next: 1 };
            let subject = format!("$O.{}.C.{}", self.name, info.nuid);
            self.consume(&subject, info.size, &mut pieces).await;
            self.complete(&subject, info.size, &mut pieces).await?;
            if pieces.all.len() == info.size {
                return Ok(Some(pieces.all.freeze()));
            }
        }
        Err(ReadError::Torn(digest))
    }

    /// Reads what one replica has, many pieces at a time, as far as it has them.
    async fn consume(&self, subject: &str, size: usize, pieces: &mut Pieces) {
        if size == 0 {
            return;
        }
        let config = OrderedConfig {
            deliver_subject: self.context.client().new_inbox(),
            filter_subject: subject.into(),
            ..OrderedConfig::default()
        };
        let Ok(consumer) = self.stream.create_consumer(config).await else { return };
        if consumer.cached_info().num_pending == 0 {
            return;
        }
        let Ok(mut messages) = consumer.messages().await else { return };
        while pieces.all.len() < size
            && let Ok(Some(Ok(message))) = tokio::time::timeout(PIECE_WITHIN, messages.next()).await
            && let Ok(info) = message.info()
        {
            let is_last = info.pending == 0;
            pieces.take(info.stream_sequence, &message.payload);
            if is_last {
                return;
            }
        }
    }

    /// Reads from the leader what is still missing, one piece at a time.
    async fn complete(
        &self,
        subject: &str,
        size: usize,
        pieces: &mut Pieces,
    ) -> Result<(), ReadError> {
        while pieces.all.len() < size {
            let ask = self.stream.raw_message_builder().sequence(pieces.next);
            match ask.next_by_subject(subject).send().await {
                Ok(piece) => pieces.take(piece.sequence, &piece.payload),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(unavailable(error)),
            }
        }
        Ok(())
    }
}

/// An object, as far as it was read.
struct Pieces {
    all: BytesMut,
    /// Where in the stream the next piece is looked for.
    next: u64,
}

impl Pieces {
    fn take(&mut self, sequence: u64, piece: &[u8]) {
        self.all.extend_from_slice(piece);
        self.next = sequence + 1;
    }
}
