//! The settings of a group, which hold on each of its workers. Never places a task, and never verifies a
//! signature.

use crate::{
    GroupName,
    record::{Record, Unknown},
    signature::{Signature, SignerKey},
};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The most keys of signers that a group may have.
pub const SIGNERS_MAX: usize = 16;

/// What the keys of groups in the access bucket begin with.
pub const GROUP: &str = "group";

/// The value under `group.NAME` in the access bucket. A group without one has the default settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The group.
    pub group: GroupName,
    /// The keys of which one must have signed the module of each task; empty if every module may run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub signers: BTreeSet<SignerKey>,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

impl Record for Group {
    fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    fn unknown_mut(&mut self) -> &mut Unknown {
        &mut self.unknown
    }
}

/// What has to be verified before a task may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureCheck<'a> {
    /// Nothing.
    None,
    /// That this key has made the signature of the module.
    Verify(&'a SignerKey, &'a Signature),
}

/// A group demands a signature that a module does not have. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the group {group} runs only modules that are signed by one of the keys {keys}: push it with --sign, and run it \
     by its name"
)]
pub struct NotSigned {
    group: GroupName,
    keys: String,
}

impl Group {
    /// A group with the default settings.
    pub fn new(group: GroupName) -> Self {
        Group { group, signers: BTreeSet::new(), unknown: Unknown::default() }
    }

    /// Whether a master that knows nothing of the group would decide the same.
    pub fn is_default(&self) -> bool {
        self.signers.is_empty() && self.unknown.is_empty()
    }

    /// What has to be verified of a module with this signature. Whoever makes a key chooses its id, so the id
    /// alone proves nothing.
    pub fn check<'a>(
        &'a self,
        signature: Option<&'a Signature>,
    ) -> Result<SignatureCheck<'a>, NotSigned> {
        if self.signers.is_empty() {
            return Ok(SignatureCheck::None);
        }
        let made = |signature: &'a Signature| {
            let key = self.signers.iter().find(|key| key.id == signature.key())?;
            Some(SignatureCheck::Verify(key, signature))
        };
        signature.and_then(made).ok_or_else(|| self.not_signed())
    }

    /// The refusal of a module that no key of the group has signed.
    pub fn not_signed(&self) -> NotSigned {
        let keys: Vec<String> = self.signers.iter().map(|key| format!("{}", key.id)).collect();
        NotSigned { group: self.group.clone(), keys: keys.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{KeyId, SignatureParts};

    fn key(id: u8, key: u8) -> SignerKey {
        SignerKey { id: KeyId([id; 8]), key: [key; 32] }
    }

    fn signature(by: u8) -> Signature {
        let parts = SignatureParts { of_bytes: [0; 64], comment: "", of_comment: [0; 64] };
        Signature::new(KeyId([by; 8]), parts).expect("a signature")
    }

    #[test]
    fn a_group_with_signers_demands_a_signature_of_one_of_them() {
        let mut group = Group::new("shops".parse().expect("a name"));
        let (by_one, by_three) = (signature(1), signature(3));
        assert_eq!(group.check(None), Ok(SignatureCheck::None));
        assert_eq!(group.check(Some(&by_three)), Ok(SignatureCheck::None));

        group.signers = [key(1, 7), key(2, 8)].into();
        assert_eq!(group.check(Some(&by_one)), Ok(SignatureCheck::Verify(&key(1, 7), &by_one)));
        for unsigned in [None, Some(&by_three)] {
            let refused = group.check(unsigned).expect_err("it is not signed");
            let refused = format!("{refused}");
            let keys = "the keys 0101010101010101, 0202020202020202";
            assert!(refused.contains("the group shops runs only"), "{refused}");
            assert!(refused.contains(keys), "{refused}");
        }
    }
}
