//! Modules, inputs and outputs by digest, in NATS object stores. Never hands out bytes that are
//! not what their digest says.

use super::Registry;
use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::{Digest, TaskId, limit, message::Shelf, subject::Bucket, task::TaskRecord};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

/// Why an object could not be had or kept. Nothing was kept that is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// NATS did not do it; asking again may help.
    #[error("the object store did not answer: {0}")]
    Unavailable(String),
    /// What is there, or was sent, is not what its digest says.
    #[error("the bytes are not those of {0}")]
    Corrupt(Digest),
}

fn unavailable(error: impl ToString) -> ObjectError {
    ObjectError::Unavailable(error.to_string())
}

impl Registry {
    fn shelf(&self, shelf: Shelf) -> String {
        match shelf {
            Shelf::Modules => self.names.module_store(),
            Shelf::Data => self.names.data_store(),
        }
    }

    /// The size of an object; `None` if there is none.
    pub async fn object_size(
        &self,
        shelf: Shelf,
        digest: Digest,
    ) -> Result<Option<u64>, ObjectError> {
        let store = self.context.get_object_store(self.shelf(shelf)).await.map_err(unavailable)?;
        match store.info(digest.hex()).await {
            Ok(info) if info.deleted => Ok(None),
            Ok(info) => Ok(Some(info.size as u64)),
            Err(error)
                if error.kind() == async_nats::jetstream::object_store::InfoErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// An object's bytes, checked; `None` if there is none.
    pub async fn fetch(&self, shelf: Shelf, digest: Digest) -> Result<Option<Bytes>, ObjectError> {
        let Some(size) = self.object_size(shelf, digest).await? else { return Ok(None) };
        let store = self.context.get_object_store(self.shelf(shelf)).await.map_err(unavailable)?;
        let object = store.get(digest.hex()).await.map_err(unavailable)?;
        let max = limit::MODULE_SIZE_MAX.max(limit::PAYLOAD_SIZE_MAX);
        let mut bytes = Vec::with_capacity(size.min(max) as usize);
        object.take(max).read_to_end(&mut bytes).await.map_err(unavailable)?;
        if Digest(Sha256::digest(&bytes).into()) != digest {
            return Err(ObjectError::Corrupt(digest));
        }
        Ok(Some(bytes.into()))
    }

    /// Keeps bytes in the data shelf, under their digest.
    pub async fn keep(&self, digest: Digest, bytes: Bytes) -> Result<(), ObjectError> {
        if Digest(Sha256::digest(&bytes).into()) != digest {
            return Err(ObjectError::Corrupt(digest));
        }
        if self.object_size(Shelf::Data, digest).await?.is_some() {
            return Ok(());
        }
        let store =
            self.context.get_object_store(self.shelf(Shelf::Data)).await.map_err(unavailable)?;
        store.put(digest.hex().as_str(), &mut bytes.as_ref()).await.map_err(unavailable)?;
        Ok(())
    }

    /// The newest finished records, newest first, at most `max`.
    ///
    /// Reads the end of the stream, not all of it: records that changed long ago are not found.
    pub async fn recent(
        &self,
        max: usize,
        wanted: impl Fn(&TaskRecord) -> bool,
    ) -> Vec<TaskRecord> {
        use async_nats::jetstream::consumer::{DeliverPolicy, push::OrderedConfig};
        /// Messages read for each record asked for: the stream has gaps and unfinished records.
        const READ_AHEAD: u64 = 8;
        let Ok(mut stream) = self.context.get_stream(self.names.stream(Bucket::Tasks)).await else {
            return Vec::new();
        };
        let Ok(info) = stream.info().await else { return Vec::new() };
        let (messages, last) = (info.state.messages, info.state.last_sequence);
        if messages == 0 {
            return Vec::new();
        }
        let from = last.saturating_sub(max as u64 * READ_AHEAD).max(1);
        let config = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            filter_subject: self.names.key(Bucket::Tasks, ">"),
            ..OrderedConfig::default()
        };
        let Ok(consumer) = stream.create_consumer(config).await else { return Vec::new() };
        let Ok(mut messages) = consumer.messages().await else { return Vec::new() };
        let mut found: Vec<TaskRecord> = Vec::new();
        while let Ok(Some(Ok(message))) =
            tokio::time::timeout(muster_wire::nats::PING_EVERY, messages.next()).await
        {
            if let Ok(record) = serde_json::from_slice::<TaskRecord>(&message.payload)
                && record.is_done()
                && wanted(&record)
            {
                found.push(record);
            }
            if message.info().is_ok_and(|info| info.pending == 0) {
                break;
            }
        }
        found.sort_unstable_by_key(|record| std::cmp::Reverse::<TaskId>(record.id));
        found.truncate(max);
        found
    }
}
