//! Objects that workers fetch and store. A transfer holds a place in memory only while it moves.

use super::LinkServer;
use crate::{inbox::Input, registry::ObjectError};
use bytes::{Bytes, BytesMut};
use muster_protocol::{
    Digest, limit,
    message::{ObjectStore, StreamReply},
};
use muster_wire::quic::{FrameReader, FrameWriter, OBJECT_WITHIN, StreamError};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, oneshot};

/// The least rate of a transfer, in bytes a second.
const RATE_MIN: u64 = 128 * 1024;

/// What a transfer may take in addition: a bad moment of the line.
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl LinkServer {
    pub(super) async fn fetch(
        &self,
        mut writer: FrameWriter,
        of_worker: Arc<Semaphore>,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<(), StreamError> {
        let _place = self.peers.place(of_worker).await;
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.send(Input::Fetch { store, digest, reply }).await;
        match answer.await {
            Ok(Ok(Some(bytes))) => {
                let size = bytes.len() as u64;
                writer.send(&StreamReply::Size(size)).await?;
                in_time(size, writer.bytes(bytes)).await?;
            }
            // The stored bytes do not match the digest. A retry would read the same bytes.
            Ok(Ok(None) | Err(ObjectError::Corrupt(_))) => {
                writer.send(&StreamReply::Missing).await?
            }
            Ok(Err(error)) => writer.send(&StreamReply::Failed(error.to_string())).await?,
            Err(_) => writer.send(&StreamReply::Failed("the master stops".into())).await?,
        }
        writer.finish()
    }

    pub(super) async fn put(
        &self,
        mut reader: FrameReader,
        mut writer: FrameWriter,
        of_worker: Arc<Semaphore>,
        digest: Digest,
        size: u64,
    ) -> Result<(), StreamError> {
        let _place = self.peers.place(of_worker).await;
        let told = match in_time(size, collect(&mut reader, size)).await? {
            None => StreamReply::Failed(format!(
                "it does not have exactly the {size} bytes that were announced"
            )),
            Some(bytes) => {
                let (reply, answer) = oneshot::channel();
                let _ = self.inbox.send(Input::Keep { digest, bytes, reply }).await;
                match answer.await {
                    Ok(Ok(())) => StreamReply::Stored,
                    Ok(Err(error)) => StreamReply::Failed(error.to_string()),
                    Err(_) => StreamReply::Failed("the master stops".into()),
                }
            }
        };
        writer.send(&told).await?;
        writer.finish()
    }
}

/// Gives up a transfer of so many bytes that is slower than [`RATE_MIN`], or takes longer than
/// [`OBJECT_WITHIN`].
async fn in_time<T>(
    size: u64,
    transfer: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    let within = (PAUSE_MAX + Duration::from_secs(size / RATE_MIN)).min(OBJECT_WITHIN);
    tokio::time::timeout(within, transfer)
        .await
        .unwrap_or_else(|_| Err(StreamError::Down("it took too long".into())))
}

/// Reads exactly `size` bytes. `None` if there are fewer or more, or if `size` is above the limit of a
/// payload.
async fn collect(reader: &mut FrameReader, size: u64) -> Result<Option<Bytes>, StreamError> {
    if size > limit::PAYLOAD_SIZE_MAX {
        return Ok(None);
    }
    let mut all = BytesMut::new();
    while let Some(bytes) = reader.bytes().await? {
        if all.len() as u64 + bytes.len() as u64 > size {
            return Ok(None);
        }
        all.extend_from_slice(&bytes);
    }
    Ok((all.len() as u64 == size).then(|| all.freeze()))
}
