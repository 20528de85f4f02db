//! A worker's question for the encrypted value of a secret, for a run. Never answers it for an attempt that was not
//! granted the secret.

use super::SealedSecret;
use crate::{
    ABSENT, Revision, WorkerId,
    enrolment::Member,
    grant::SecretName,
    message::{HeldAttempt, StreamReply},
    signature::Signature,
    task::{TaskRecord, Verdict},
};
use alloc::{format, string::String};
use bytes::Bytes;

/// See the [module](self).
///
/// Read the record of the task, the member and the secret, each from its stream's leader, and pass them to
/// [`answer`](Question::answer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    worker: WorkerId,
    attempt: HeldAttempt,
    name: SecretName,
}

impl Question {
    /// A question of `worker`, as its certificate names it.
    pub fn new(worker: WorkerId, attempt: HeldAttempt, name: SecretName) -> Self {
        Question { worker, attempt, name }
    }

    /// The worker that asks.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// The attempt for which it asks.
    pub fn attempt(&self) -> HeldAttempt {
        self.attempt
    }

    /// The secret.
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// The answer, where the leaders show this.
    pub fn answer(
        &self,
        record: Option<(&TaskRecord, Revision)>,
        member: Option<&Member>,
        secret: Option<&SealedSecret>,
    ) -> StreamReply {
        // The leader of the stream may be behind, and not have the record that dispatched the attempt.
        if record.map_or(ABSENT, |(_, revision)| revision) < self.attempt.revision {
            return StreamReply::Behind;
        }
        let current = record.filter(|(record, _)| self.is_of(record));
        let Some((record, _)) = current else { return StreamReply::Stale };
        let (name, worker) = (&self.name, &self.worker);
        let refuse = |why: String| StreamReply::Refused(why);
        if !record.spec.grants.secrets.contains(name.as_str()) {
            return refuse(format!("its task does not ask for the secret {name}"));
        }
        let secret = secret.filter(|secret| secret.name == *name);
        let content = member.zip(secret).and_then(|(member, secret)| secret.content_of(member));
        let Some(content) = content else {
            return refuse(format!(
                "the registry keeps no secret {name} for the worker {worker} as it is now: let an admin set it \
                 (muster secret set {name} --worker {worker}), and submit the task again"
            ));
        };
        let signer = record.spec.signature.as_ref().map(Signature::key);
        let permits = |rule: &super::SecretRule| rule.permits(record.spec.module.digest, signer);
        if !content.rule.as_ref().is_none_or(permits) {
            return refuse(format!(
                "the registry keeps the secret {name} of the worker {worker} for other modules: use one of them, \
                 or let an admin set it again for this one (muster secret set {name} --module or --signer)"
            ));
        }
        StreamReply::Sealed(content.file.clone())
    }

    /// Whether the record names the attempt as the task's current one, on this worker.
    fn is_of(&self, record: &TaskRecord) -> bool {
        record.id == self.attempt.key.task
            && record.attempt().is_some_and(|current| {
                current.id == self.attempt.key.attempt && current.worker == self.worker
            })
    }
}

/// What an answer means for the run that waits for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// The encrypted value.
    File(Bytes),
    /// The run does not begin, and its attempt ends so.
    Ends(Verdict),
    /// Ask again, for this reason.
    Again(String),
}

impl Answered {
    /// What an answer of a master means.
    pub fn by(name: &SecretName, told: StreamReply) -> Self {
        match told {
            StreamReply::Sealed(file) => Answered::File(file),
            // As where the policy does not have a secret.
            StreamReply::Refused(message) => Answered::Ends(Verdict::Rejected { message }),
            // If the run merely stopped, it would be dispatched to its worker again.
            StreamReply::Stale => Answered::Ends(Verdict::Returned {
                reason: format!(
                    "its secret {name} was refused, because it was not the task's current attempt"
                ),
            }),
            StreamReply::Failed(cause) => Answered::Again(cause),
            StreamReply::Behind => Answered::Again("the registry is behind".into()),
            StreamReply::Size(_)
            | StreamReply::Stored
            | StreamReply::State(_)
            | StreamReply::Missing
            | StreamReply::SecretTerms(_)
            | StreamReply::Upgrade(_) => Answered::Again("the master's answer is not valid".into()),
        }
    }

    /// The end of an attempt that got no answer which decides, the last of which was `cause`: another worker may
    /// be luckier.
    pub fn none(name: &SecretName, cause: &str) -> Verdict {
        Verdict::Returned { reason: format!("the secret {name} could not be had: {cause}") }
    }

    /// The end of an attempt whose secret this worker cannot decrypt, for this reason.
    pub fn closed(name: &SecretName, worker: &WorkerId, why: &str) -> Verdict {
        let message = format!(
            "the secret {name} cannot be used by the worker {worker}: it {why}; let an admin set it again (muster \
             secret set {name} --worker {worker}), and submit the task again"
        );
        Verdict::Rejected { message }
    }
}
