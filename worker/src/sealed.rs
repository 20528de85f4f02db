//! The secrets that the registry keeps for this worker. Hears which there are, and gets their values for runs. Never
//! keeps a value for longer than its run.

use crate::{
    clock::boottime,
    gate::RunGate,
    link,
    links::Links,
    policy::{PresentRules, Rules, Secrets},
    seal_key::SealKey,
    signatures::Signatures,
};
use muster_protocol::{
    WorkerId,
    entitlement::Entitlement,
    frame::FrameRange,
    grant::{SecretName, SecretTerms},
    lease::{Lease, LeaseEvent},
    message::{HeldAttempt, StreamReply, StreamRequest},
    retry::SECRET,
    sealed::{Answered, LeftOut, Merged, merge},
    task::Verdict,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How often a worker asks which secrets there are, without the spread of up to a half: an operator who sets one waits
/// a minute at most.
const ASK_EVERY: Duration = Duration::from_secs(40);

/// How long to wait for a link, and after a master has not answered.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_AFTER_SILENCE: Duration = Duration::from_secs(5);

/// Gets the values of sealed secrets for runs; cheap to clone.
#[derive(Clone)]
pub(crate) struct SealedSecrets {
    pub worker: WorkerId,
    /// Absent in a worker that has not joined by an invitation: the registry keeps nothing for it.
    pub key: Option<Arc<SealKey>>,
    pub links: Links,
}

impl SealedSecrets {
    /// Adds the values of secrets to those that a run has. An error is the end of its attempt; `None` means that its
    /// gate has closed.
    pub(crate) async fn add(
        &self,
        gate: &RunGate,
        attempt: HeldAttempt,
        names: &[SecretName],
        mut secrets: Secrets,
    ) -> Option<Result<Secrets, Verdict>> {
        for name in names {
            match self.value(gate, attempt, name).await? {
                Ok(value) => secrets.0.insert(name.to_string(), value),
                Err(verdict) => return Some(Err(verdict)),
            };
        }
        Some(Ok(secrets))
    }

    /// Asks masters for a secret until one has decided, and decrypts it.
    async fn value(
        &self,
        gate: &RunGate,
        attempt: HeldAttempt,
        name: &SecretName,
    ) -> Option<Result<String, Verdict>> {
        let closed = |why: &str| Answered::closed(name, &self.worker, why);
        let Some(key) = &self.key else {
            return Some(Err(closed("is for a worker that has joined by an invitation")));
        };
        let asked = StreamRequest::Secret { attempt, name: name.clone() };
        let mut turn = 0;
        loop {
            let permit = gate.pass(boottime()).ok()?;
            let connection = link::in_turn_with(&self.links, FrameRange::WITH_SECRETS, turn);
            let answered = match connection {
                None => Answered::Again("no master is linked that knows such secrets".into()),
                Some(connection) => match link::question(permit, connection, &asked).await {
                    Ok(told) => Answered::by(name, told),
                    Err(error) => Answered::Again(error.to_string()),
                },
            };
            let cause = match answered {
                Answered::File(file) => {
                    return Some(key.open(&file).map_err(|error| closed(&error.to_string())));
                }
                Answered::Ends(verdict) => return Some(Err(verdict)),
                Answered::Again(cause) => cause,
            };
            turn += 1;
            let Some(wait) = u32::try_from(turn).ok().and_then(|failed| SECRET.after(failed))
            else {
                return Some(Err(Answered::none(name, &cause)));
            };
            tracing::debug!(%name, cause, "asking again for a secret");
            tokio::time::sleep(wait).await;
        }
    }
}

/// Hears from masters which secrets the registry keeps for this worker, and lets its policy have them.
pub(crate) struct Hearing {
    /// The policy of the file.
    pub file: Arc<Rules>,
    /// The lease with that policy.
    pub draft: Lease,
    pub entitlement: Entitlement,
    pub links: Links,
    pub rules: PresentRules,
    pub signatures: Signatures,
    pub lease: mpsc::UnboundedSender<LeaseEvent>,
}

impl Hearing {
    /// Asks when the process begins and then again and again, for ever.
    pub(crate) async fn keep_up(self) {
        let mut known = Vec::new();
        loop {
            let wait = match link::in_turn_with(&self.links, FrameRange::WITH_SECRETS, 0) {
                None => ASK_AGAIN,
                Some(connection) => {
                    match link::inquire(connection, &StreamRequest::SecretTerms).await {
                        Ok(StreamReply::SecretTerms(terms)) => {
                            if terms != known {
                                self.take(&terms);
                                known = terms;
                            }
                            ASK_EVERY
                        }
                        _ => ASK_AFTER_SILENCE,
                    }
                }
            };
            tokio::time::sleep(link::spread(wait)).await;
        }
    }

    /// The registry keeps these. The worker knows the keys and the policy before it offers them.
    fn take(&self, terms: &[SecretTerms]) {
        let merged = merge(&self.draft, &self.file.keys, &self.entitlement, terms);
        let Merged { sealed, left_out, policy, keys } = &merged;
        for (name, why) in left_out {
            match why {
                LeftOut::File => {
                    tracing::warn!(%name, "the registry keeps this secret, too: {why}")
                }
                why => tracing::warn!(%name, %why, "a secret of the registry is left out"),
            }
        }
        tracing::info!(?sealed, "the registry keeps these secrets for this worker");
        self.signatures.trust(keys);
        let offered = LeaseEvent::SetPolicy(Arc::new(policy.clone()));
        self.rules.replace(self.file.with_sealed(merged));
        let _ = self.lease.send(offered);
    }
}
