//! Secrets that the registry keeps for workers, each encrypted to the key of one worker: their records, who may have
//! which, and what a worker makes of them. Never a value that is not encrypted, and never encrypts or decrypts.
//!
//! A secret belongs to a worker as it has joined: to its key for secrets, and to the time from which its certificates
//! count. A worker that joins anew, after a theft or with another key, has none of the secrets that were set before.

mod merge;
mod question;

pub use merge::{LeftOut, Merged, merge};
pub use question::{Answered, Question};

use crate::{
    WorkerId, base64_text,
    enrolment::{Member, Recipient},
    grant::{SecretName, SecretRule, SecretTerms, TEXT_MAX},
    limit::{SEALED_SECRETS_MAX, SEALED_SIZE_MAX},
    record::{Unknown, record},
    time::WallMillis,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the keys of sealed secrets in the access bucket begin with.
pub const SEALED: &str = "sealed";

/// What a file of age begins with.
const AGE_FILE: &[u8] = b"age-encryption.org/v1\n";

/// The longest value of a variable fits, with the header that age adds.
const _: () = assert!(SEALED_SIZE_MAX >= TEXT_MAX + 1024);

/// The value under `sealed.WORKER.NAME` in the access bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The worker, which is the second part of the key.
    pub worker: WorkerId,
    /// The name, which is the third part.
    pub name: SecretName,
    /// The secret; absent if it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<SealedContent>,
    /// When it was set or forgotten, on the wall clock of the master that wrote it. For people.
    pub set_at: WallMillis,
    /// Who did that. For people.
    pub set_by: String,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// A secret, and for whom it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedContent {
    /// The key to which it is encrypted.
    pub recipient: Recipient,
    /// The [`since`](Member::since) of the member that it is for.
    pub joined: u64,
    /// The modules that may have it; every module if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<SecretRule>,
    /// The value, encrypted: a file of age.
    #[serde(with = "base64_text")]
    pub file: Bytes,
}

record!(SealedSecret);

/// Why a worker may not have a secret from the registry. The text continues a sentence after "the worker W".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSecret {
    /// Nobody has invited it.
    #[error("has not joined by an invitation: give it its secrets as files of its policy")]
    NotJoined,
    /// An operator has to approve it first.
    #[error("waits to be approved: muster worker approve")]
    Pending,
    /// It was revoked after it joined.
    #[error("is revoked")]
    Revoked,
    /// Its certificates do not permit the name.
    #[error(
        "has a certificate that does not permit the secret {0}: invite it again with --secret {0}"
    )]
    NotPermitted(SecretName),
    /// It is of an earlier version, or has not renewed its certificate since it was upgraded.
    #[error("has not told a key for secrets: upgrade it, and start it again")]
    NoKey,
}

/// Why a secret is not stored for a worker. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSet {
    /// The worker may not have it.
    #[error("the worker {0} {1}")]
    NotFor(WorkerId, NoSecret),
    /// It is encrypted to a key that the worker had before.
    #[error("the worker {0} has another key for secrets by now; repeat the command")]
    OtherKey(WorkerId),
    /// It has as many as a worker may have.
    #[error(
        "the worker {0} has {SEALED_SECRETS_MAX} secrets in the registry already; forget one first"
    )]
    Full(WorkerId),
}

/// The key to which a secret of this name is to be encrypted for a member.
pub fn key_for<'a>(member: &'a Member, name: &SecretName) -> Result<&'a Recipient, NoSecret> {
    if member.key.is_none() {
        return Err(NoSecret::NotJoined);
    }
    if member.revokes(Some(member.since)) {
        return Err(NoSecret::Revoked);
    }
    if member.pending {
        return Err(NoSecret::Pending);
    }
    if !member.entitlement.secrets.has(name.as_str()) {
        return Err(NoSecret::NotPermitted(name.clone()));
    }
    member.recipient.as_ref().ok_or(NoSecret::NoKey)
}

/// The content of a secret that is to be stored for a worker now. `member` is what the registry has of the worker,
/// and `others` is how many other secrets it keeps for it.
pub fn content_for(
    worker: &WorkerId,
    member: Option<&Member>,
    name: &SecretName,
    recipient: Recipient,
    rule: Option<SecretRule>,
    file: Bytes,
    others: usize,
) -> Result<SealedContent, NotSet> {
    let not_for = |why| NotSet::NotFor(worker.clone(), why);
    let member = member.ok_or_else(|| not_for(NoSecret::NotJoined))?;
    if *key_for(member, name).map_err(not_for)? != recipient {
        return Err(NotSet::OtherKey(worker.clone()));
    }
    if others >= SEALED_SECRETS_MAX {
        return Err(NotSet::Full(worker.clone()));
    }
    Ok(SealedContent { recipient, joined: member.since, rule, file })
}

/// Refuses bytes that can be no encrypted secret. What is in them, only the worker can see.
pub fn check_file(file: &[u8]) -> Result<(), String> {
    if file.len() > SEALED_SIZE_MAX {
        return Err(format!("an encrypted secret has at most {SEALED_SIZE_MAX} bytes"));
    }
    match file.starts_with(AGE_FILE) {
        true => Ok(()),
        false => {
            Err("the secret is not encrypted in the format of age (binary, not armored)"
                .to_string())
        }
    }
}

/// The key of a secret in the access bucket.
pub fn key(worker: &WorkerId, name: &SecretName) -> String {
    format!("{SEALED}.{worker}.{name}")
}

impl SealedSecret {
    /// The same without the encrypted value, as masters remember it.
    pub fn without_file(mut self) -> Self {
        if let Some(content) = &mut self.content {
            content.file = Bytes::new();
        }
        self
    }

    /// The content, if it is for the worker as it is a member now.
    pub fn content_of(&self, member: &Member) -> Option<&SealedContent> {
        let content = self.content.as_ref()?;
        let recipient = key_for(member, &self.name).ok()?;
        let is_for_it = member.worker == self.worker
            && *recipient == content.recipient
            && member.since == content.joined;
        is_for_it.then_some(content)
    }
}

/// The secrets that a worker hears of: those of these that are for it.
pub fn terms_for<'a>(
    member: Option<&Member>,
    secrets: impl Iterator<Item = &'a SealedSecret>,
) -> Vec<SecretTerms> {
    let Some(member) = member else { return Vec::new() };
    let terms = |secret: &SealedSecret| {
        let rule = secret.content_of(member)?.rule.clone();
        Some(SecretTerms { name: secret.name.clone(), rule })
    };
    secrets.filter_map(terms).take(SEALED_SECRETS_MAX).collect()
}

#[cfg(test)]
mod tests;
