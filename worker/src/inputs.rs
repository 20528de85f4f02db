//! Inputs that are too large for a dispatch, fetched before their runs. Never holds more than
//! [`INPUTS_SIZE_MAX`] bytes of them together, whether they wait or run, and never hands out an input
//! that does not match its digest.

use crate::artifact::{ArtifactError, digest_of};
use bytes::Bytes;
use muster_protocol::{Digest, limit, message::AttemptKey};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all large inputs together: eight of the largest, or 512 inputs of one MiB. An attempt whose
/// input finds no space waits for other attempts to end, as it waits for a slot.
const INPUTS_SIZE_MAX: u64 = 8 * limit::PAYLOAD_SIZE_MAX;

/// The unit in which space is counted, in bytes, so that the units fit into a semaphore.
const UNIT: u64 = 1024;

/// The large inputs of a worker; cheap to clone.
#[derive(Clone)]
pub(crate) struct Inputs {
    room: Arc<Semaphore>,
    held: Arc<Mutex<HashMap<AttemptKey, Held>>>,
}

/// An input, and the space that it occupies until this is dropped.
pub(crate) struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Held {
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl Inputs {
    pub(crate) fn new() -> Self {
        Inputs::within(INPUTS_SIZE_MAX)
    }

    fn within(size_max: u64) -> Self {
        let units = usize::try_from(size_max / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        Inputs { room: Arc::new(Semaphore::new(units)), held: Arc::default() }
    }

    /// Waits for space, gets the input of an attempt by `fetch`, which takes the largest size allowed
    /// in bytes, and keeps the input until it is taken or dropped.
    pub(crate) async fn get<F>(
        &self,
        key: AttemptKey,
        digest: Digest,
        size: u64,
        fetch: impl FnOnce(u64) -> F,
    ) -> Result<(), ArtifactError>
    where
        F: Future<Output = Result<Bytes, ArtifactError>>,
    {
        let size = size.min(limit::PAYLOAD_SIZE_MAX);
        let room = self.room(size).await;
        let bytes = fetch(size).await?;
        if digest_of(bytes.clone()).await != Some(digest) {
            return Err(ArtifactError::NotHad(format!(
                "the bytes that were received are not the input {digest}"
            )));
        }
        self.held().insert(key, Held { bytes, _room: room });
        Ok(())
    }

    /// Takes the input of an attempt that begins; `None` if it is not kept.
    pub(crate) fn take(&self, key: AttemptKey) -> Option<Held> {
        self.held().remove(&key)
    }

    /// Frees the input of an attempt that will not begin.
    pub(crate) fn drop(&self, key: AttemptKey) {
        self.held().remove(&key);
    }

    async fn room(&self, size: u64) -> OwnedSemaphorePermit {
        let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(units).await;
        room.expect("the semaphore is never closed")
    }

    fn held(&self) -> MutexGuard<'_, HashMap<AttemptKey, Held>> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{AttemptId, TaskId};

    #[tokio::test]
    async fn inputs_wait_for_room() {
        let inputs = Inputs::within(10 * UNIT);
        let key = AttemptKey { task: TaskId(1), attempt: AttemptId(1) };
        let room = inputs.room(7 * UNIT - 1).await;
        inputs.held().insert(key, Held { bytes: Bytes::new(), _room: room });
        assert!(futures::poll!(std::pin::pin!(inputs.room(4 * UNIT))).is_pending(), "3 are left");
        let taken = inputs.take(key).expect("it was kept");
        assert!(futures::poll!(std::pin::pin!(inputs.room(4 * UNIT))).is_pending(), "it runs");
        drop(taken);
        assert!(futures::poll!(std::pin::pin!(inputs.room(10 * UNIT))).is_ready());
    }
}
