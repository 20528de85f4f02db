//! Stores the checkpoints of runs, and gets them for later attempts. Never reports a checkpoint as
//! stored before the registry has it.

use crate::{
    clock::boottime,
    gate::RunGate,
    link::{self, ObjectError},
    links::{LinkHandle, Links},
    object,
    retry::until_done,
};
use bytes::Bytes;
use muster_protocol::{
    Revision, Time,
    checkpoint::{Stale, Waiting},
    lease::{KillReason, Permit},
    limit,
    message::{AttemptKey, HeldAttempt, ObjectStore, StreamReply, StreamRequest},
    retry::CHECKPOINT,
    task::Data,
};
use std::sync::{Arc, Mutex, PoisonError};

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
    pub(crate) async fn save(
        &self,
        gate: &RunGate,
        key: AttemptKey,
        save: u64,
        state: Bytes,
    ) -> Result<(), Refused> {
        let (links, revision) = match &self.0 {
            Storage::Fleet(links, revision) => (links, *revision),
            Storage::Here(kept) => {
                keep(gate.pass(boottime())?, kept, state);
                return Ok(());
            }
        };
        let state = bring(gate, links, state).await?;
        let attempt = HeldAttempt { key, revision };
        ask(gate, links, &StreamRequest::Checkpoint { attempt, save, state }).await.map(drop)
    }

    /// The latest checkpoint; `None` if there is none. Retries until the answer is known, as
    /// [`Checkpoints::save`] does.
    pub(crate) async fn resume(
        &self,
        gate: &RunGate,
        key: AttemptKey,
    ) -> Result<Option<Bytes>, Refused> {
        let (links, revision) = match &self.0 {
            Storage::Fleet(links, revision) => (links, *revision),
            Storage::Here(kept) => {
                return Ok(kept.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
        };
        let attempt = HeldAttempt { key, revision };
        match ask(gate, links, &StreamRequest::Resume { attempt }).await? {
            None => Ok(None),
            Some(state) => Ok(get(gate, links, state).await?),
        }
    }
}

/// Why a run cannot have its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is another attempt's.
    Stale,
    /// The run's gate is closed.
    Killed,
}

impl From<Stale> for Refused {
    fn from(_: Stale) -> Self {
        Refused::Stale
    }
}

impl From<KillReason> for Refused {
    fn from(_: KillReason) -> Self {
        Refused::Killed
    }
}

fn keep(_: Permit<'_>, kept: &Mutex<Option<Bytes>>, state: Bytes) {
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
}

/// Asks masters until one of them gives a final answer.
async fn ask(
    gate: &RunGate,
    links: &Links,
    asked: &StreamRequest,
) -> Result<Option<Data>, Refused> {
    let mut waiting = Waiting::default();
    let send = |permit: Permit<'_>, link: LinkHandle| {
        let began = boottime();
        let asking = link::question(permit, link.connection, asked);
        async move { (asking.await, began) }
    };
    let judge = |(told, began): (Result<StreamReply, _>, Time)| {
        let told = told.map_err(|error| format!("a checkpoint has to wait: {error}"))?;
        let answer = waiting.heard(told.clone(), began);
        answer.ok_or_else(|| format!("a checkpoint has to wait: {told:?}"))
    };
    Ok(until_done(gate, links, CHECKPOINT, send, judge).await??)
}

/// A checkpoint as a record carries it; a large one is first stored in the data store.
async fn bring(gate: &RunGate, links: &Links, state: Bytes) -> Result<Data, KillReason> {
    if state.len() <= limit::INLINE_SIZE_MAX {
        return Ok(Data::Inline(state));
    }
    let (digest, size) = (muster_module::digest(&state), state.len() as u64);
    let put = |permit: Permit<'_>, link: LinkHandle| {
        link::put(permit, link.connection, digest, state.clone())
    };
    let judge = |stored: Result<(), ObjectError>| {
        stored.map_err(|error| format!("a checkpoint could not be stored: {error}"))
    };
    until_done(gate, links, CHECKPOINT, put, judge).await?;
    Ok(Data::Blob { digest, size })
}

/// The bytes of a checkpoint. `None` if the data store has lost them for good: then the attempt starts
/// from the beginning.
async fn get(gate: &RunGate, links: &Links, state: Data) -> Result<Option<Bytes>, KillReason> {
    let (digest, size) = match state {
        Data::Inline(bytes) => return Ok(Some(bytes)),
        Data::Blob { digest, size } => (digest, size),
    };
    // Reading has no effect: the permit of a try is for going on.
    let fetch = |_: Permit<'_>, _| object::get(links, None, ObjectStore::Data, digest, size);
    let judge = |got: Result<Bytes, ObjectError>| match got {
        Ok(bytes) if muster_module::digest(&bytes) == digest => Ok(Some(bytes)),
        Ok(_) => Err(format!("the bytes that were received are not the checkpoint {digest}")),
        Err(ObjectError::Missing { .. }) => {
            tracing::warn!(%digest, "a checkpoint is gone from the data store");
            Ok(None)
        }
        Err(error) => Err(format!("a checkpoint cannot be fetched: {error}")),
    };
    until_done(gate, links, CHECKPOINT, fetch, judge).await
}
