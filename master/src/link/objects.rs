//! Objects that workers fetch and store. A transfer keeps its permit only while it
//! moves.

use super::LinkServer;
use crate::{inbox::Input, registry::ObjectError};
use bytes::{Bytes, BytesMut};
use muster_protocol::{
    Digest, WorkerId, limit,
    message::{ObjectStore, StreamReply},
};
use muster_wire::frames::{FrameReader, FrameWriter, OBJECT_WITHIN, StreamError};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, oneshot};

/// The least rate of a transfer, in bytes a second.
const RATE_MIN: u64 = 128 * 1024;

/// What a transfer may take in addition: a short interruption of the network.
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl LinkServer {
    pub(super) async fn fetch(
        &self,
        mut writer: FrameWriter,
        of_worker: Arc<Semaphore>,
        worker: WorkerId,
        store: ObjectStore,
        digest: Digest,
    ) -> Result<(), StreamError> {
        let _permit = self.peers.transfer(of_worker).await;
        let (reply, answer) = oneshot::channel();
        let _ = self.inbox.send(Input::Fetch { worker, store, digest, reply }).await;
        let told = match answered(answer).await {
            Ok(Some(bytes)) => {
                let size = bytes.len() as u64;
                let sent = async {
                    writer.send(&StreamReply::Size(size)).await?;
                    writer.bytes(bytes).await?;
                    writer.finish()
                };
                return in_time(size, sent).await;
            }
            // The stored bytes do not match the digest. A retry would read the same bytes.
            Ok(None) | Err(ObjectError::Corrupt(_)) => StreamReply::Missing,
            Err(error) => StreamReply::Failed(error.to_string()),
        };
        reply_with(writer, told).await
    }

    pub(super) async fn put(
        &self,
        mut reader: FrameReader,
        writer: FrameWriter,
        of_worker: Arc<Semaphore>,
        worker: WorkerId,
        digest: Digest,
        size: u64,
    ) -> Result<(), StreamError> {
        let _permit = self.peers.transfer(of_worker).await;
        let told = match in_time(size, collect(&mut reader, size)).await? {
            None => StreamReply::Failed(format!(
                "it does not have exactly the {size} bytes that were announced"
            )),
            Some(bytes) => {
                let (reply, answer) = oneshot::channel();
                let _ = self.inbox.send(Input::Keep { worker, digest, bytes, reply }).await;
                match answered(answer).await {
                    Ok(()) => StreamReply::Stored,
                    Err(error) => StreamReply::Failed(error.to_string()),
                }
            }
        };
        reply_with(writer, told).await
    }
}

/// The registry's answer, which has to come within [`OBJECT_WITHIN`].
async fn answered<T>(answer: oneshot::Receiver<Result<T, ObjectError>>) -> Result<T, ObjectError> {
    match tokio::time::timeout(OBJECT_WITHIN, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(ObjectError::Unavailable("the master stops".into())),
        Err(_) => Err(ObjectError::Unavailable(format!("no answer within {OBJECT_WITHIN:?}"))),
    }
}

/// Sends an answer of one frame, unless the worker does not read it.
pub(super) async fn reply_with(
    mut writer: FrameWriter,
    answer: StreamReply,
) -> Result<(), StreamError> {
    let sent = async {
        writer.send(&answer).await?;
        writer.finish()
    };
    in_time(0, sent).await
}

/// Gives up a transfer of so many bytes that is slower than [`RATE_MIN`], or takes longer than
/// [`OBJECT_WITHIN`].
async fn in_time<T>(
    size: u64,
    transfer: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    let within = (PAUSE_MAX + Duration::from_secs(size / RATE_MIN)).min(OBJECT_WITHIN);
    tokio::time::timeout(within, transfer).await.unwrap_or_else(|_| {
        let late = format!("the transfer of {size} bytes took over {within:?}");
        Err(StreamError::Down(late))
    })
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
