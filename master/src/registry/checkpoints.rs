//! The checkpoints of attempts. Never kept for an attempt that its task's record does not name.

use super::{ObjectError, Registry};
use muster_protocol::{
    ABSENT, Revision, TaskId, WorkerId,
    checkpoint::{self, Asker, Checkpoint, Step},
    lease::CasAnswer,
    message::{AttemptKey, Told},
    subject::Bucket,
    task::Data,
};
use muster_wire::{cas, clock, nats};

/// Writes of one checkpoint that may meet another's before its worker is told to ask again.
const TRIES_MAX: u32 = 8;

/// What an attempt wants of its task's checkpoint.
pub(crate) enum Want {
    /// This is its state.
    Save { save: u64, state: Data },
    /// What did earlier ones leave?
    Resume,
}

impl Registry {
    /// Does what an attempt wants, if it is its task's current one and `worker` has it.
    pub(crate) async fn checkpoint(&self, worker: &WorkerId, key: AttemptKey, want: Want) -> Told {
        let at = self.key(Bucket::Checkpoints, key.task);
        // The revision of a mark that somebody's deletion has left, which reading does not show.
        let mut mark = None;
        for _ in 0..TRIES_MAX {
            // Looked at before every try: a write that met another's may have met a successor's.
            let asker = match self.read_task(key.task).await {
                Err(error) => return Told::Failed(error.to_string()),
                Ok(found) => found.and_then(|(record, _)| {
                    let attempt = record.attempt()?;
                    let (id, number) = (attempt.id, attempt.number);
                    let is_current = id == key.attempt && attempt.worker == *worker;
                    is_current.then_some(Asker { born: record.submitted_at, attempt: id, number })
                }),
            };
            let Some(asker) = asker else { return Told::Stale };
            let found: Option<(Checkpoint, Revision)> = match cas::read(&self.context, &at).await {
                Ok(found) => found,
                Err(error) => return Told::Failed(error.to_string()),
            };
            let (found, revision) = found.map_or((None, ABSENT), |(found, at)| (Some(found), at));
            let now = clock::wall();
            let step = match &want {
                Want::Save { save, state } => {
                    checkpoint::save(found.as_ref(), asker, *save, state.clone(), now)
                }
                Want::Resume => checkpoint::resume(found.as_ref(), asker, now),
            };
            let kept = match step {
                Step::Stale => return Told::Stale,
                Step::Done => found,
                Step::Write(new) => {
                    let expect = mark.take().unwrap_or(revision);
                    match self.write_checkpoint(&at, expect, &new).await {
                        CasAnswer::Written(_) => Some(new),
                        CasAnswer::Gone(revision) => {
                            mark = Some(revision);
                            continue;
                        }
                        CasAnswer::Conflict(_) | CasAnswer::Unknown => continue,
                    }
                }
            };
            return match want {
                Want::Save { .. } => Told::Stored,
                Want::Resume => kept.and_then(|kept| kept.state).map_or(Told::Missing, Told::State),
            };
        }
        Told::Failed("the registry does not keep the checkpoint now".into())
    }

    /// Writes a task's checkpoint anew unless it is young, and stores its state anew; it would expire.
    pub(super) async fn renew_checkpoint(&self, task: TaskId) -> Result<(), ObjectError> {
        let at = self.key(Bucket::Checkpoints, task);
        let unavailable = |error: cas::ReadError| ObjectError::Unavailable(error.to_string());
        let found = cas::read(&self.context, &at).await.map_err(unavailable)?;
        let Some((found, revision)): Option<(Checkpoint, Revision)> = found else { return Ok(()) };
        if let Some(Data::Blob { digest, .. }) = found.state {
            self.renew(digest).await?;
        }
        let now = clock::wall();
        if now.0.abs_diff(found.saved_at.0) > nats::YOUNG.as_millis() as u64 {
            // Where it has changed meanwhile it is young.
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
        let Ok(value) = serde_json::to_vec(new) else { return CasAnswer::Unknown };
        let (key, headers) = (at.clone(), async_nats::HeaderMap::new());
        let sent = cas::send(&self.context, key, expect, value.into(), None, headers).await;
        sent.answer(&self.context).await
    }
}
