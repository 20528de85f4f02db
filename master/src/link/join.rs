//! A program that has no certificate and wants to join. Never lets it have more than one stream, one small
//! frame and a few seconds.

use super::{HANDSHAKE_MAX, LinkServer};
use crate::inbox::Input;
use muster_protocol::message::{JOIN_SIZE_MAX, Join, JoinReply};
use muster_wire::{
    frames::{self, FrameReader, FrameWriter, StreamError},
    link::Connection,
};
use std::time::Duration;
use tokio::sync::oneshot;

/// Programs that join at once. Each of them costs some reads and writes of the registry.
pub(super) const JOINS_MAX: usize = 8;

/// How long a program may take to read its answer.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// How long the registry may take.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);

impl LinkServer {
    /// Answers one request. An error means that the peer did not ask as it should.
    pub(super) async fn join(&self, connection: Connection) -> Result<(), StreamError> {
        connection.narrow(JOIN_SIZE_MAX as u32);
        let late = |_| StreamError::Down("it asked nothing in time".into());
        let asked = async {
            let (send, receive) = connection.accept_bi().await?;
            let encoding = frames::encoding(&connection);
            let mut reader = FrameReader::new(receive, encoding);
            let join = reader.next_within::<Join>(JOIN_SIZE_MAX).await?;
            Ok::<_, StreamError>((join, FrameWriter::new(send, encoding)))
        };
        let (join, mut writer) =
            tokio::time::timeout(HANDSHAKE_MAX, asked).await.map_err(late)??;
        let join = join.ok_or_else(|| StreamError::Down("it asked nothing".into()))?;
        let from = connection.remote_address();
        let (worker, version) = (join.worker.clone(), join.version.clone());
        let reply = match self.joins.try_acquire() {
            Ok(_place) => self.decide(join).await,
            Err(_) => JoinReply::Unavailable("many workers join at once; ask again".into()),
        };
        match &reply {
            JoinReply::Joined(joined) => {
                tracing::info!(%from, worker = %joined.worker, version, "a certificate was issued");
            }
            JoinReply::Wait => tracing::info!(%from, ?worker, "a worker waits to be approved"),
            JoinReply::Refused(why) | JoinReply::Unavailable(why) => {
                tracing::warn!(%from, ?worker, why, "a worker may not join");
            }
        }
        let was_refused = matches!(reply, JoinReply::Refused(_));
        writer.send(&reply).await?;
        writer.finish()?;
        // The program closes the connection when it has read the answer.
        let _ = tokio::time::timeout(READ_WITHIN, connection.closed()).await;
        if was_refused { Err(StreamError::Down("it was refused".into())) } else { Ok(()) }
    }

    async fn decide(&self, join: Join) -> JoinReply {
        let (reply, answer) = oneshot::channel();
        if self.inbox.send(Input::Join { join, reply }).await.is_err() {
            return JoinReply::Unavailable("the master stops".into());
        }
        match tokio::time::timeout(DECIDED_WITHIN, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => JoinReply::Unavailable("the master stops".into()),
            Err(_) => JoinReply::Unavailable("the registry did not answer".into()),
        }
    }
}
