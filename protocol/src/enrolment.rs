//! How workers join a fleet: invitations, the members that have joined, and what a master decides when a
//! worker knocks. Never signs anything, and never keeps the secret of an invitation.
//!
//! An operator makes an invitation. Its token goes to the host of the worker, on whatever way; its secret
//! is in the token and nowhere else. The worker makes a key, and shows the token and a request for a
//! certificate of that key to a master. The master counts the use of the invitation first, then writes the
//! member, and signs last. A worker that got no answer asks again with the same key, and is not counted
//! again.

mod recipient;
mod token;

pub use recipient::{NotARecipient, Recipient};
pub use token::{NotAToken, Token};

use crate::{
    Digest, WorkerId,
    entitlement::Entitlement,
    record::{Unknown, record},
};
use alloc::{boxed::Box, collections::BTreeMap, string::String};
use serde::{Deserialize, Serialize};

/// The most workers that one invitation lets in.
pub const USES_MAX: u32 = 1_000;

/// The longest time for which an invitation is good, in seconds.
pub const INVITATION_MAX_S: u64 = 30 * 24 * 3600;

/// How long a used invitation is remembered after its end, in seconds: a worker that waits for an operator
/// may still come back.
pub const REMEMBERED_S: u64 = 7 * 24 * 3600;

/// How far the clocks of those who issue certificates may differ, in seconds. A revocation refuses
/// certificates that seem to be issued up to this long after it.
pub const CLOCKS_DIFFER_S: u64 = 60;

/// The length of an invitation's secret, in bytes.
pub const SECRET_SIZE: usize = 16;

/// The longest token, in characters.
pub const TOKEN_SIZE_MAX: usize = 4 * 1024;

/// The most addresses in a token.
pub const ADDRESSES_MAX: usize = 16;

/// The value under `invitation.ID` in the access bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id: the first 16 hex digits of the SHA-256 of the secret.
    pub id: String,
    /// The SHA-256 of the secret.
    pub secret: Digest,
    /// The worker that is invited; any name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// What the workers may offer.
    pub entitlement: Entitlement,
    /// Until when new workers may join, in seconds since 1970.
    pub ends: u64,
    /// How many workers may still join.
    pub uses: u32,
    /// Whether an operator has to approve each worker.
    #[serde(default)]
    pub approve: bool,
    /// The workers that have joined.
    #[serde(default)]
    pub used_by: BTreeMap<WorkerId, Use>,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// One use of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The fingerprint of the worker's key.
    pub key: Digest,
    /// The [`since`](Member::since) of the member that it lets in.
    pub since: u64,
}

impl Use {
    /// What to do for the worker that has used the invitation, if its member is written. The name may have
    /// been revoked since, or may belong to another key by now.
    fn completed(
        self,
        worker: &WorkerId,
        member: Option<&Member>,
    ) -> Result<Option<Admission>, Refused> {
        let Some(member) = member else { return Ok(None) };
        if member.revokes(Some(self.since)) {
            return Err(Refused::Revoked(worker.clone()));
        }
        if member.key != Some(self.key) {
            // That of an earlier invitation, if it is older than this use.
            let is_earlier = member.since <= self.since;
            return if is_earlier { Ok(None) } else { Err(Refused::Taken(worker.clone())) };
        }
        let member = member.clone();
        Ok(Some(match member.pending {
            true => Admission::Wait(member),
            false => Admission::Certify(member),
        }))
    }
}

record!(Invitation);

/// The value under `member.NAME` in the access bucket: a worker that has joined, or whose certificates are
/// revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The worker, which is the last part of the key.
    pub worker: WorkerId,
    /// The fingerprint of the worker's key; absent if the worker has not joined by an invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The key to which its secrets are encrypted; absent if the worker has told none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Recipient>,
    /// What its certificates permit.
    #[serde(default)]
    pub entitlement: Entitlement,
    /// Whether an operator has to approve it before it gets a certificate.
    #[serde(default)]
    pub pending: bool,
    /// Certificates that were issued up to this time are refused, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// From when its certificates count as issued, in seconds since 1970: when it joined, and after every
    /// revocation before that.
    pub since: u64,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(Member);

/// What the keys of the access bucket begin with.
pub const INVITATION: &str = "invitation";
/// See [`INVITATION`].
pub const MEMBER: &str = "member";

/// What a worker shows that wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knock {
    /// The secret of the invitation.
    pub secret: Digest,
    /// The name that it wants; the invitation's if absent.
    pub worker: Option<WorkerId>,
    /// The fingerprint of its key.
    pub key: Digest,
    /// The key to which its secrets are encrypted, if it has told one.
    pub recipient: Option<Recipient>,
}

/// What a master does for a worker that knocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Write the invitation, then the member; then ask again.
    Admit(Box<Invitation>, Member),
    /// Issue a certificate for this member.
    Certify(Member),
    /// Tell the worker to ask again: an operator has to approve it.
    Wait(Member),
}

/// Why a worker may not join. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no invitation with this secret, or not any more.
    #[error("the token is not valid: it has ended, or belongs to another fleet")]
    Unknown,
    /// The time of the invitation is over.
    #[error("the token has ended; ask for another one: muster worker invite")]
    Ended,
    /// It has let in as many workers as it may.
    #[error("the token has been used; ask for another one: muster worker invite")]
    Used,
    /// It is for another worker.
    #[error("the token is for the worker {0}")]
    Name(WorkerId),
    /// It is for any worker, and the worker did not say which one it is.
    #[error("the token does not name the worker: choose a name with --name")]
    NoName,
    /// There is a worker of this name, with another key.
    #[error(
        "there is a worker {0} already, with another key: choose another name, or let an operator invite \
         this one by its name"
    )]
    Taken(WorkerId),
    /// An operator has revoked the worker after it joined.
    #[error("the worker {0} has been revoked; let an operator invite it again")]
    Revoked(WorkerId),
}

impl Invitation {
    /// What to do for a worker that knocks now, in seconds since 1970. `member` is what the registry has
    /// under the name that [`Invitation::name`] gives.
    pub fn admit(
        &self,
        knock: &Knock,
        member: Option<&Member>,
        now: u64,
    ) -> Result<Admission, Refused> {
        let worker = self.name(knock)?;
        let used = match self.used_by.get(&worker).copied() {
            Some(used) if used.key == knock.key => {
                if let Some(admission) = used.completed(&worker, member)? {
                    return Ok(admission);
                }
                used
            }
            other => self.first_use(&worker, knock, other.is_some(), member, now)?,
        };
        let mut invitation = self.clone();
        if invitation.used_by.insert(worker.clone(), used).is_none() {
            invitation.uses -= 1;
        }
        let member = Member {
            worker,
            key: Some(used.key),
            recipient: knock.recipient.clone(),
            entitlement: self.entitlement.clone(),
            pending: self.approve,
            since: used.since,
            revoked: member.and_then(|member| member.revoked),
            unknown: member.map(|member| member.unknown.clone()).unwrap_or_default(),
        };
        Ok(Admission::Admit(Box::new(invitation), member))
    }

    /// A worker shows this invitation for the first time. `is_used` says whether another key has joined with
    /// it under the same name.
    fn first_use(
        &self,
        worker: &WorkerId,
        knock: &Knock,
        is_used: bool,
        member: Option<&Member>,
        now: u64,
    ) -> Result<Use, Refused> {
        if now >= self.ends {
            return Err(Refused::Ended);
        }
        if self.uses == 0 {
            return Err(Refused::Used);
        }
        // An invitation of any name takes nobody's name. One for this worker replaces its key.
        let is_taken = is_used || member.is_some_and(|member| member.key != Some(knock.key));
        if self.worker.is_none() && is_taken {
            return Err(Refused::Taken(worker.clone()));
        }
        let revoked = member.and_then(|member| member.revoked);
        Ok(Use { key: knock.key, since: revoked.map_or(now, |at| now.max(at + 1)) })
    }

    /// The name that a worker gets that knocks.
    pub fn name(&self, knock: &Knock) -> Result<WorkerId, Refused> {
        if self.secret != knock.secret {
            return Err(Refused::Unknown);
        }
        match (&self.worker, &knock.worker) {
            (Some(mine), Some(asked)) if mine != asked => Err(Refused::Name(mine.clone())),
            (Some(mine), _) => Ok(mine.clone()),
            (None, Some(asked)) => Ok(asked.clone()),
            (None, None) => Err(Refused::NoName),
        }
    }
}

impl Member {
    /// A worker that is revoked now, in seconds since 1970, after it joined or not.
    pub fn revoked(worker: WorkerId, known: Option<Member>, now: u64) -> Self {
        let known = known.unwrap_or_else(|| Member {
            worker,
            key: None,
            recipient: None,
            entitlement: Entitlement::default(),
            pending: false,
            revoked: None,
            since: 0,
            unknown: Unknown::default(),
        });
        let revoked = (now + CLOCKS_DIFFER_S).max(known.revoked.unwrap_or(0));
        Member { revoked: Some(revoked), ..known }
    }

    /// The worker, once an operator has approved it.
    pub fn approved(self) -> Result<Self, Refused> {
        if self.key.is_none() || self.revokes(Some(self.since)) {
            return Err(Refused::Revoked(self.worker));
        }
        Ok(Member { pending: false, ..self })
    }

    /// The member, once the worker with this key has told to which key its secrets are to be encrypted.
    pub fn with_recipient(&self, key: Digest, told: &Recipient) -> Self {
        let recipient = match self.key == Some(key) {
            true => Some(told.clone()),
            false => self.recipient.clone(),
        };
        Member { recipient, ..self.clone() }
    }

    /// Whether a certificate that was issued at this time is revoked. One that does not say when it was
    /// issued is, after any revocation.
    pub fn revokes(&self, issued: Option<u64>) -> bool {
        self.revoked.is_some_and(|at| issued.is_none_or(|issued| issued <= at))
    }

    /// Whether a worker with this certificate may have another one, for the key with this fingerprint. The
    /// error continues a sentence after "the worker".
    pub fn may_renew(&self, issued: Option<u64>, key: Digest) -> Result<(), &'static str> {
        if self.revokes(issued) {
            return Err("has been revoked");
        }
        if self.pending {
            return Err("has to be approved first");
        }
        match self.key {
            Some(known) if known == key => Ok(()),
            Some(_) => Err("has another key by now"),
            None => Err(
                "has not joined by an invitation: make its certificates with `muster cert worker`",
            ),
        }
    }
}

/// The id of the invitation whose secret has this digest.
pub fn invitation_id(secret: Digest) -> String {
    secret.hex()[..16].into()
}

#[cfg(test)]
mod tests;
