//! Saves and reads checkpoints for attempts. Never decides whether a checkpoint is kept;
//! `muster_protocol::checkpoint` does.

use super::{ObjectError, Registry};
use muster_protocol::{
    Digest, Revision, TaskId,
    checkpoint::{Checkpoint, Next, Request},
    lease::CasAnswer,
    message::StreamReply,
    record,
    subject::Bucket,
    task::Data,
};
use muster_wire::{cas, clock, nats};

impl Registry {
    /// Carries out a checkpoint request of an attempt, if the attempt is the task's current one.
    pub(crate) async fn checkpoint(&self, mut request: Request) -> StreamReply {
        let task = request.attempt().key.task;
        let at = self.key(Bucket::Checkpoints, task);
        loop {
            let record = match self.read_task(task).await {
                Ok(record) => record,
                Err(error) => return StreamReply::Failed(error.to_string()),
            };
            let found = match cas::read(&self.context, &at).await {
                Ok(found) => found,
                Err(error) => return StreamReply::Failed(error.to_string()),
            };
            let record = record.as_ref().map(|(record, revision)| (&**record, *revision));
            match request.looked(record, found, clock::wall()) {
                Next::Answer(told) => return told,
                Next::Write { expect, checkpoint } => {
                    let answer = self.write_checkpoint(&at, expect, &checkpoint).await;
                    if let Some(told) = request.written(*checkpoint, answer) {
                        return told;
                    }
                }
            }
        }
    }

    /// Whether an object is the state of the checkpoint of one of these tasks.
    pub(super) async fn is_state_of(
        &self,
        tasks: &[TaskId],
        digest: Digest,
    ) -> Result<bool, ObjectError> {
        for &task in tasks {
            let found = self.read_checkpoint(task).await?;
            let state = found.and_then(|(checkpoint, _)| checkpoint.state);
            if matches!(state, Some(Data::Blob { digest: of, .. }) if of == digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read_checkpoint(
        &self,
        task: TaskId,
    ) -> Result<Option<(Checkpoint, Revision)>, ObjectError> {
        let found = cas::read(&self.context, &self.key(Bucket::Checkpoints, task)).await;
        found.map_err(|error| ObjectError::Unavailable(error.to_string()))
    }

    /// Renews a task's checkpoint and the object of its state before they expire, unless they are young.
    pub(crate) async fn renew_checkpoint(&self, task: TaskId) -> Result<(), ObjectError> {
        let at = self.key(Bucket::Checkpoints, task);
        let Some((found, revision)) = self.read_checkpoint(task).await? else { return Ok(()) };
        if let Some(Data::Blob { digest, .. }) = found.state {
            self.renew(digest).await?;
        }
        let now = clock::wall();
        if now.0.abs_diff(found.saved_at.0) > nats::YOUNG.as_millis() as u64 {
            // After a conflict, the checkpoint has just been written, so it is young.
            self.write_checkpoint(&at, revision, &Checkpoint { saved_at: now, ..found }).await;
        }
        Ok(())
    }

    async fn write_checkpoint(
        &self,
        at: &cas::Key,
        expect: Revision,
        new: &Checkpoint,
    ) -> CasAnswer<Checkpoint> {
        let Ok(value) = record::write(new) else { return CasAnswer::Unknown };
        let (key, headers) = (at.clone(), async_nats::HeaderMap::new());
        let sent = cas::send(&self.context, key, expect, value.into(), None, headers).await;
        sent.answer(&self.context).await
    }
}
