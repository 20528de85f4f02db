//! Stores the checkpoints of runs, and gets them for later attempts. Never reports a checkpoint as
//! stored before the registry has it.

use crate::{
    Links,
    clock::boottime,
    link::{self, ObjectError},
    object,
};
use bytes::Bytes;
use muster_protocol::{
    Revision,
    checkpoint::{Stale, Waiting},
    limit,
    message::{AttemptKey, HeldAttempt, ObjectStore, StreamRequest},
    task::Data,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long to wait before a master is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// The checkpoints of one task; cheap to clone.
#[derive(Clone, Debug)]
pub struct Checkpoints(Storage);

#[derive(Clone, Debug)]
enum Storage {
    /// In the registry, over any link that is up; for the attempt that the task record of this revision
    /// dispatched.
    Fleet(Links, Revision),
    /// In this process, for runs without a fleet.
    Here(Arc<Mutex<Option<Bytes>>>),
}

impl Checkpoints {
    pub(crate) fn in_fleet(links: Links, revision: Revision) -> Self {
        Checkpoints(Storage::Fleet(links, revision))
    }

    /// Checkpoints that are kept in this process, for the attempts of one task without a fleet.
    pub fn in_memory() -> Self {
        Checkpoints(Storage::Here(Arc::default()))
    }

    /// Stores a checkpoint of an attempt; `save` is its number and counts from 1. Retries until it is
    /// stored: the caller drops this future when its run has to end. An error means that the attempt is
    /// no longer current.
    pub(crate) async fn save(&self, key: AttemptKey, save: u64, state: Bytes) -> Result<(), Stale> {
        let (links, revision) = match &self.0 {
            Storage::Fleet(links, revision) => (links, *revision),
            Storage::Here(kept) => {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
                return Ok(());
            }
        };
        let state = bring(links, state).await;
        let attempt = HeldAttempt { key, revision };
        ask(links, &StreamRequest::Checkpoint { attempt, save, state }).await.map(drop)
    }

    /// The latest checkpoint; `None` if there is none. Retries until the answer is known, as
    /// [`Checkpoints::save`] does.
    pub(crate) async fn resume(&self, key: AttemptKey) -> Result<Option<Bytes>, Stale> {
        let (links, revision) = match &self.0 {
            Storage::Fleet(links, revision) => (links, *revision),
            Storage::Here(kept) => {
                return Ok(kept.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
        };
        match ask(links, &StreamRequest::Resume { attempt: HeldAttempt { key, revision } }).await? {
            None => Ok(None),
            Some(state) => Ok(get(links, state).await),
        }
    }
}

/// Asks masters until one of them gives a final answer.
async fn ask(links: &Links, asked: &StreamRequest) -> Result<Option<Data>, Stale> {
    let mut waiting = Waiting::default();
    loop {
        if let Some(road) = link::any(links) {
            let began = boottime();
            match link::question(&road.connection, asked).await {
                Ok(told) => match waiting.heard(told.clone(), began) {
                    Some(answer) => return answer,
                    None => tracing::warn!(?told, "a checkpoint has to wait"),
                },
                Err(error) => tracing::warn!(%error, "a checkpoint has to wait"),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A checkpoint as a record carries it; a large one is first stored in the data store.
async fn bring(links: &Links, state: Bytes) -> Data {
    if state.len() <= limit::INLINE_SIZE_MAX {
        return Data::Inline(state);
    }
    let (digest, size) = (muster_module::digest(&state), state.len() as u64);
    loop {
        if let Some(road) = link::any(links) {
            match link::put(&road.connection, digest, state.clone()).await {
                Ok(()) => return Data::Blob { digest, size },
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint could not be stored; trying again")
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The bytes of a checkpoint. `None` if the data store has lost them for good: then the attempt starts
/// from the beginning.
async fn get(links: &Links, state: Data) -> Option<Bytes> {
    let (digest, size) = match state {
        Data::Inline(bytes) => return Some(bytes),
        Data::Blob { digest, size } => (digest, size),
    };
    loop {
        match object::get(links, None, ObjectStore::Data, digest, size).await {
            Ok(bytes) if muster_module::digest(&bytes) == digest => return Some(bytes),
            Ok(_) => tracing::warn!(%digest, "the bytes that were received are not the checkpoint"),
            Err(ObjectError::Missing { .. }) => {
                tracing::warn!(%digest, "a checkpoint is gone from the data store");
                return None;
            }
            Err(error) => tracing::warn!(%error, "a checkpoint cannot be fetched; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
