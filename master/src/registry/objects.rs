//! Modules, inputs and outputs by digest, in NATS object stores. Never returns bytes that do not match
//! their digest.

use super::{
    Registry,
    room::{Room, Writer},
};
use async_nats::jetstream::object_store::ObjectInfo;
use bytes::Bytes;
use muster_protocol::{
    Digest, Nonce, WorkerId,
    api::{GetPiece, Piece, PutPiece},
    fleet::ObjectAccess,
    limit,
    message::ObjectStore,
};
use muster_wire::{
    nats,
    objects::{Objects, ReadError, WriteError, is_upload},
};
use tokio::{
    sync::{Mutex, OnceCell},
    task::spawn_blocking,
    time::Instant,
};

/// Why an object could not be read or stored. No part of an object was returned or stored as the whole.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// NATS did not carry it out. A retry may help.
    #[error("the object store did not answer: {0}")]
    Unavailable(String),
    /// The data store has as many bytes as it may have.
    #[error(
        "the data store is full: objects expire after nine days; give it more with --data-size of the masters"
    )]
    Full,
    /// The worker has stored as much as others may still store.
    #[error(
        "the data store is nearly full, and this worker has stored as much there as is still free: objects expire \
         after nine days; give it more with --data-size of the masters"
    )]
    OfWorker,
    /// The worker may not read it, as far as this master knows. Another master may know more.
    #[error("no attempt of this worker names {0}")]
    NotNamed(Digest),
    /// The stored or received bytes do not match the digest.
    #[error("the bytes are not those of {0}")]
    Corrupt(Digest),
}

impl From<WriteError> for ObjectError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Full => ObjectError::Full,
            WriteError::Other(_) => unavailable(error),
        }
    }
}

/// The object stores of a session, each opened on first use.
#[derive(Default)]
pub(super) struct OpenStores {
    modules: OnceCell<Objects>,
    data: OnceCell<Objects>,
    room: Mutex<Room>,
}

/// Whether bytes have this digest. Hashes on another thread, so that no loop waits.
async fn is_of(bytes: Bytes, digest: Digest) -> bool {
    let made = spawn_blocking(move || muster_module::digest(&bytes)).await;
    made.is_ok_and(|made| made == digest)
}

/// Removes what an object was before it was stored again.
async fn forget(store: &Objects, digest: Digest, old: Option<&ObjectInfo>) {
    if let Some(old) = old
        && let Err(error) = store.forget(digest, old).await
    {
        tracing::warn!(%digest, %error, "what an object was before stays until it expires");
    }
}

fn unavailable(error: impl ToString) -> ObjectError {
    ObjectError::Unavailable(error.to_string())
}

impl Registry {
    async fn store_of(&self, store: ObjectStore) -> Result<&Objects, ObjectError> {
        let (cell, name) = match store {
            ObjectStore::Modules => (&self.stores.modules, self.names.module_store()),
            ObjectStore::Data => (&self.stores.data, self.names.data_store()),
        };
        cell.get_or_try_init(|| Objects::open(&self.context, &name)).await.map_err(unavailable)
    }

    /// The size of an object in bytes; `None` if there is none.
    pub async fn object_size(
        &self,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<Option<u64>, ObjectError> {
        Ok(self.object(store, digest).await?.map(|info| info.size as u64))
    }

    async fn object(
        &self,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<Option<ObjectInfo>, ObjectError> {
        self.store_of(store).await?.info(digest).await.map_err(unavailable)
    }

    /// An object's bytes, verified against the digest; `None` if there is none.
    pub async fn fetch(
        &self,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<Option<Bytes>, ObjectError> {
        let max = limit::MODULE_SIZE_MAX.max(limit::PAYLOAD_SIZE_MAX);
        let damaged = |error: &dyn std::fmt::Display| {
            tracing::error!(%digest, %error, "an object is damaged; remove it and store it anew");
            ObjectError::Corrupt(digest)
        };
        let bytes = match self.store_of(store).await?.read(digest, max).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error @ ReadError::Unavailable(_)) => return Err(unavailable(error)),
            Err(error) => return Err(damaged(&error)),
        };
        match is_of(bytes.clone(), digest).await {
            true => Ok(Some(bytes)),
            false => Err(damaged(&"its bytes are not those of its name")),
        }
    }

    /// An object's bytes for a worker, if it may read the object.
    pub async fn fetch_for_worker(
        &self,
        access: ObjectAccess,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<Option<Bytes>, ObjectError> {
        let may_read = match access {
            ObjectAccess::Named => true,
            ObjectAccess::IfStateOf(tasks) => self.is_state_of(&tasks, digest).await?,
        };
        if may_read { self.fetch(store, digest).await } else { Err(ObjectError::NotNamed(digest)) }
    }

    /// Stores bytes of a worker in the data store under their digest, unless they are stored already and young.
    pub async fn keep(
        &self,
        worker: &WorkerId,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<(), ObjectError> {
        if !is_of(bytes.clone(), digest).await {
            return Err(ObjectError::Corrupt(digest));
        }
        // An object that is stored already may expire soon, but the record that names it is new.
        let there = self.object(ObjectStore::Data, digest).await?;
        if there.as_ref().is_some_and(|info| info.size == bytes.len() && nats::is_young(info)) {
            return Ok(());
        }
        if !self.take_room(Writer::Worker(worker), bytes.len()).await? {
            return Err(ObjectError::OfWorker);
        }
        let size = bytes.len() as u64;
        let stored = self.store(digest, bytes, there.as_ref()).await;
        if stored.is_err() {
            self.stores.room.lock().await.give_back(worker, size);
        }
        stored
    }

    async fn store(
        &self,
        digest: Digest,
        bytes: Bytes,
        old: Option<&ObjectInfo>,
    ) -> Result<(), ObjectError> {
        let store = self.store_of(ObjectStore::Data).await?;
        store.put(digest, bytes).await?;
        forget(store, digest, old).await;
        Ok(())
    }

    /// Looks for an object that a client is about to name. One that would expire soon is stored again.
    pub async fn find(
        &self,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<Option<u64>, ObjectError> {
        match store {
            ObjectStore::Modules => self.object_size(store, digest).await,
            ObjectStore::Data => self.renew(digest).await,
        }
    }

    /// Stores a piece of an upload, after the piece at `after`. Returns its place.
    pub async fn put_piece(&self, asked: PutPiece) -> Result<u64, ObjectError> {
        let PutPiece { store, digest, upload, after, bytes, .. } = asked;
        if store == ObjectStore::Data && !self.take_room(Writer::Client, bytes.len()).await? {
            return Err(ObjectError::Full);
        }
        Ok(self.store_of(store).await?.put_piece(digest, upload, after, bytes).await?)
    }

    /// Whether the data store has room for so many bytes more of this writer; then they count as stored.
    async fn take_room(&self, writer: Writer<'_>, size: usize) -> Result<bool, ObjectError> {
        let Some(max) = self.keep.data_bytes else { return Ok(true) };
        let mut room = self.stores.room.lock().await;
        if room.bytes(Instant::now()).is_none() {
            let found = self.store_of(ObjectStore::Data).await?.bytes().await;
            room.heard(Instant::now(), found.map_err(unavailable)?);
        }
        Ok(room.take(max, writer, size as u64))
    }

    /// Makes an upload of `size` bytes an object, if it has the digest. Removes nothing of an upload that has
    /// not: whoever names it may name pieces of which an object consists.
    pub async fn end_upload(
        &self,
        store: ObjectStore,
        digest: Digest,
        upload: Nonce,
        size: u64,
    ) -> Result<(), ObjectError> {
        let store = self.store_of(store).await?;
        let (old, revision) = store.entry(digest).await.map_err(unavailable)?;
        // The answer to the last piece was lost, and the piece came again.
        if old.as_ref().is_some_and(|old| is_upload(old, digest, upload)) {
            return Ok(());
        }
        let read = store.upload(digest, upload, size as usize).await.map_err(unavailable)?;
        if read.bytes.len() as u64 != size || !is_of(read.bytes.clone(), digest).await {
            return Err(ObjectError::Corrupt(digest));
        }
        store.enter_upload(digest, read, revision).await?;
        forget(store, digest, old.as_ref()).await;
        Ok(())
    }

    /// The piece of an object after this one. `None` if there is no such object.
    pub async fn piece(&self, asked: &GetPiece) -> Result<Option<Piece>, ReadError> {
        let store = self.store_of(asked.store).await;
        let store = store.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        store.piece(asked.digest, asked.after.as_ref()).await
    }

    /// Stores an object of the data store again unless it is young, because it would expire. Returns its
    /// size in bytes; `None` if there is none.
    pub async fn renew(&self, digest: Digest) -> Result<Option<u64>, ObjectError> {
        let Some(info) = self.object(ObjectStore::Data, digest).await? else { return Ok(None) };
        if !nats::is_young(&info) {
            let Some(bytes) = self.fetch(ObjectStore::Data, digest).await? else { return Ok(None) };
            self.store(digest, bytes, Some(&info)).await?;
        }
        Ok(Some(info.size as u64))
    }
}
