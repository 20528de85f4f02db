//! Objects by digest in a NATS object store, read so that a replica that is behind cannot hide one.
//! Never returns a part of an object as the whole, and never writes with a rollup: a store that allows
//! rollups can be erased by one message of whoever may write to it.
//!
//! In a store with several replicas, any of them may answer a *direct get*, and a consumer reads from
//! the replica on which it runs. Both may lack the latest acknowledged writes. The stream's leader has
//! them.

use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::push::OrderedConfig,
    context::{GetStreamError, GetStreamErrorKind, PublishAckFuture},
    message::PublishMessage,
    object_store::{ObjectInfo, ObjectOptions},
    stream::{LastRawMessageErrorKind, Stream},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use muster_protocol::{
    Digest, Nonce,
    api::{Piece, PiecePlace},
    subject::is_token,
};
use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

/// How long to wait for the next piece of an object before asking the leader for it. A store on a slow
/// disk needs milliseconds.
const PIECE_WITHIN: Duration = Duration::from_secs(2);

/// How often an object is looked up for one read. If another client stores the object again meanwhile,
/// the pieces that are being read disappear.
const READS_MAX: usize = 3;

/// The size of a piece of an object, in bytes: the default of NATS clients.
const PIECE_BYTES: usize = 128 * 1024;

/// Pieces that are sent before the first of them is acknowledged.
const PIECES_AHEAD: usize = 8;

/// Why an object could not be read. No bytes were returned.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer. A retry may help.
    #[error("the object store did not answer: {0}")]
    Unavailable(String),
    /// The store's leader has fewer bytes of the object, or more, than its size says.
    #[error("the object store has lost a part of {0}")]
    Torn(Digest),
    /// The object is larger than the caller accepts.
    #[error("{digest} has {size} bytes, and {size_max} were expected at most")]
    TooLarge {
        /// Which object.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The caller's limit in bytes.
        size_max: u64,
    },
}

/// Why an object could not be stored, or its old pieces not be removed. Pieces without an entry are never
/// read.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The store has as many bytes as it may have.
    #[error("the object store is full")]
    Full,
    /// It refused the bytes for another reason, or did not answer.
    #[error("the object store refused it or did not answer: {0}")]
    Other(String),
}

/// JetStream's code for "maximum bytes exceeded".
const STORE_FULL: u64 = 10_077;

impl WriteError {
    fn new(error: impl std::error::Error) -> Self {
        let code =
            error.source().and_then(|cause| cause.downcast_ref::<async_nats::jetstream::Error>());
        match code.is_some_and(|error| error.error_code().0 == STORE_FULL) {
            true => WriteError::Full,
            false => WriteError::Other(error.to_string()),
        }
    }
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

impl Objects {
    /// Opens an existing store.
    pub async fn open(context: &Context, name: &str) -> Result<Self, GetStreamError> {
        let stream = context.get_stream(stream_name(name)).await?;
        Ok(Objects { name: name.into(), context: context.clone(), stream })
    }

    /// How many bytes the store has now, with what has no entry.
    pub async fn bytes(&self) -> Result<u64, ReadError> {
        let info = self.stream.get_info().await.map_err(unavailable)?;
        Ok(info.state.bytes)
    }

    /// Stores bytes under their digest, which the caller has checked.
    pub async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), WriteError> {
        let nuid = self.new_nuid(digest);
        let mut sent: VecDeque<PublishAckFuture> = VecDeque::new();
        for start in (0..bytes.len()).step_by(PIECE_BYTES) {
            if sent.len() == PIECES_AHEAD
                && let Some(oldest) = sent.pop_front()
            {
                oldest.await.map_err(WriteError::new)?;
            }
            let piece = bytes.slice(start..bytes.len().min(start + PIECE_BYTES));
            let answer = self.context.publish(self.pieces_of(&nuid), piece).await;
            sent.push_back(answer.map_err(WriteError::new)?);
        }
        for piece in sent {
            piece.await.map_err(WriteError::new)?;
        }
        self.enter(digest, nuid, bytes.len(), bytes.len().div_ceil(PIECE_BYTES), None).await
    }

    /// Stores a piece of an upload after the piece at `after`, which is 0 for the first. Returns its place.
    /// Stores nothing if that is not the last piece of the upload.
    pub async fn put_piece(
        &self,
        digest: Digest,
        upload: Nonce,
        after: u64,
        piece: Bytes,
    ) -> Result<u64, WriteError> {
        let message = PublishMessage::build().payload(piece).expected_last_subject_sequence(after);
        let subject = self.pieces_of(&nuid_of(digest, upload));
        let sent = self.context.send_publish(subject, message).await.map_err(WriteError::new)?;
        Ok(sent.await.map_err(WriteError::new)?.sequence)
    }

    /// The bytes of an upload, until there are `size` of them or no more.
    pub async fn upload(
        &self,
        digest: Digest,
        upload: Nonce,
        size: usize,
    ) -> Result<Upload, ReadError> {
        let nuid = nuid_of(digest, upload);
        let Pieces { all, count, .. } = self.pieces(&nuid, size).await?;
        Ok(Upload { bytes: all.freeze(), nuid, count })
    }

    /// Makes an upload the object of this digest, while the revision of its entry is `expect`: another entry
    /// may have come since, and removed the pieces of this upload. The caller has compared its bytes with the
    /// digest.
    pub async fn enter_upload(
        &self,
        digest: Digest,
        upload: Upload,
        expect: u64,
    ) -> Result<(), WriteError> {
        let size = upload.bytes.len();
        self.enter(digest, upload.nuid, size, upload.count, Some(expect)).await
    }

    /// The first piece of an object, or the one after `after`, if it is still stored so; `None` if there is no
    /// such object. The caller has no proof that it is a piece of the object until it has all of them.
    pub async fn piece(
        &self,
        digest: Digest,
        after: Option<&PiecePlace>,
    ) -> Result<Option<Piece>, ReadError> {
        let Some(info) = self.info(digest).await? else { return Ok(None) };
        let (whole, copy) = (info.size as u64, info.nuid);
        if !is_token(&copy) || after.is_some_and(|place| place.copy != copy) {
            return Err(ReadError::Torn(digest));
        }
        let next = after.map_or(1, |place| place.at + 1);
        if whole == 0 {
            let place = PiecePlace { copy, at: next };
            return Ok(Some(Piece { place, bytes: Bytes::new(), whole }));
        }
        let ask = self.stream.raw_message_builder().sequence(next);
        match ask.next_by_subject(self.pieces_of(&copy)).send().await {
            Ok(piece) => {
                let place = PiecePlace { copy, at: piece.sequence };
                Ok(Some(Piece { place, bytes: piece.payload, whole }))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                Err(ReadError::Torn(digest))
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Writes the entry of an object whose pieces are stored.
    async fn enter(
        &self,
        digest: Digest,
        nuid: String,
        size: usize,
        chunks: usize,
        expect: Option<u64>,
    ) -> Result<(), WriteError> {
        let info = ObjectInfo {
            name: digest.hex(),
            description: None,
            metadata: Default::default(),
            headers: None,
            options: Some(ObjectOptions { link: None, max_chunk_size: Some(PIECE_BYTES) }),
            bucket: self.name.clone(),
            nuid,
            size,
            chunks,
            modified: Some(SystemTime::now().into()),
            digest: Some(format!("SHA-256={}", URL_SAFE.encode(digest.0))),
            deleted: false,
        };
        let info = serde_json::to_vec(&info).map_err(WriteError::new)?;
        let mut message = PublishMessage::build().payload(info.into());
        if let Some(revision) = expect {
            message = message.expected_last_subject_sequence(revision);
        }
        let sent = self.context.send_publish(self.entry_of(digest), message).await;
        sent.map_err(WriteError::new)?.await.map_err(WriteError::new)?;
        Ok(())
    }

    /// Removes what an object consisted of before it was stored again. Does nothing if `put` has not stored
    /// it: whoever may write an entry may name the pieces of another object there.
    pub async fn forget(&self, digest: Digest, old: &ObjectInfo) -> Result<(), WriteError> {
        if !is_of(&old.nuid, digest) {
            return Ok(());
        }
        let pieces = self.stream.purge().filter(self.pieces_of(&old.nuid)).await;
        pieces.map_err(WriteError::new)?;
        let entries = self.stream.purge().filter(self.entry_of(digest)).keep(1).await;
        entries.map(drop).map_err(WriteError::new)
    }

    /// A token for the pieces of an object that is stored now: its digest, and what makes it unique.
    fn new_nuid(&self, digest: Digest) -> String {
        // The last token of an inbox is unique.
        let inbox = self.context.client().new_inbox();
        format!("{}{}", digest.hex(), inbox.rsplit('.').next().unwrap_or_default())
    }

    /// The subject of the pieces of an object.
    fn pieces_of(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.name)
    }

    /// The subject of an object's metadata.
    fn entry_of(&self, digest: Digest) -> String {
        format!("$O.{}.M.{}", self.name, URL_SAFE.encode(digest.hex()))
    }

    /// Reads an object's metadata from the stream's leader; `None` if there is none.
    pub async fn info(&self, digest: Digest) -> Result<Option<ObjectInfo>, ReadError> {
        Ok(self.entry(digest).await?.0)
    }

    /// The same, and the revision of the entry, which is 0 if there never was one.
    pub async fn entry(&self, digest: Digest) -> Result<(Option<ObjectInfo>, u64), ReadError> {
        let found = match self.stream.get_last_raw_message_by_subject(&self.entry_of(digest)).await
        {
            Ok(found) => found,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok((None, 0));
            }
            Err(error) => return Err(unavailable(error)),
        };
        let info: ObjectInfo = serde_json::from_slice(&found.payload).map_err(unavailable)?;
        Ok((Some(info).filter(|info| !info.deleted), found.sequence))
    }

    /// Reads all bytes of an object; `None` if there is none. Checks their number, but not the digest:
    /// the caller must.
    pub async fn read(&self, digest: Digest, size_max: u64) -> Result<Option<Bytes>, ReadError> {
        for _ in 0..READS_MAX {
            let Some(info) = self.info(digest).await? else { return Ok(None) };
            let size = info.size as u64;
            if size > size_max {
                return Err(ReadError::TooLarge { digest, size, size_max });
            }
            if !is_token(&info.nuid) {
                return Err(ReadError::Torn(digest));
            }
            let Pieces { all, .. } = self.pieces(&info.nuid, info.size).await?;
            if all.len() == info.size {
                return Ok(Some(all.freeze()));
            }
        }
        Err(ReadError::Torn(digest))
    }

    /// The bytes of these pieces. Reads until there are `size` of them or no more.
    async fn pieces(&self, nuid: &str, size: usize) -> Result<Pieces, ReadError> {
        let mut pieces = Pieces { all: BytesMut::new(), count: 0, next: 1 };
        let subject = self.pieces_of(nuid);
        self.consume(&subject, size, &mut pieces).await;
        self.complete(&subject, size, &mut pieces).await?;
        Ok(pieces)
    }

    /// Reads from one replica as many pieces as it has, many at a time.
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

    /// Reads the missing pieces from the leader, one at a time.
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

/// What was uploaded in pieces, and is no object yet.
pub struct Upload {
    /// Its bytes.
    pub bytes: Bytes,
    nuid: String,
    count: usize,
}

/// Whether the object consists of the pieces of this upload.
pub fn is_upload(info: &ObjectInfo, digest: Digest, upload: Nonce) -> bool {
    info.nuid == nuid_of(digest, upload)
}

/// The token of the pieces of an upload.
fn nuid_of(digest: Digest, upload: Nonce) -> String {
    format!("{}{upload}", digest.hex())
}

/// Whether these are pieces that `put` has stored for this digest.
fn is_of(nuid: &str, digest: Digest) -> bool {
    nuid.starts_with(&digest.hex()) && is_token(nuid)
}

/// The bytes of an object that were read so far.
struct Pieces {
    all: BytesMut,
    count: usize,
    /// The sequence in the stream at which to look for the next piece.
    next: u64,
}

impl Pieces {
    fn take(&mut self, sequence: u64, piece: &[u8]) {
        self.all.extend_from_slice(piece);
        self.count += 1;
        self.next = sequence + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pieces_that_were_stored_for_a_digest_are_of_it() {
        let (digest, other) = (Digest([1; 32]), Digest([2; 32]));
        let own = format!("{}Ab3", digest.hex());
        assert!(is_of(&own, digest) && !is_of(&own, other));
        let wild = [">".into(), "*".into(), format!("{}.>", digest.hex()), String::new()];
        for nuid in wild {
            assert!(!is_of(&nuid, digest) && !is_token(&nuid), "{nuid}");
        }
        assert!(is_token("J4qXbNZ8mS0eHg2fKcLwYd"), "as other clients make them");
    }
}
