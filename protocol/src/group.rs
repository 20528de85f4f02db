//! The settings of a group, which hold for each task that is submitted to it. Never places a task, and never verifies
//! a signature.

use crate::{
    GroupName,
    record::{Unknown, record},
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

record!(Group);

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

    /// The key that must have made the signature of a module, which has to be verified before a task may be stored:
    /// whoever makes a key chooses its id, so the id alone proves nothing. `None` if every module may run.
    pub fn signer(&self, signature: Option<&Signature>) -> Result<Option<&SignerKey>, NotSigned> {
        if self.signers.is_empty() {
            return Ok(None);
        }
        let id = signature.map(Signature::key);
        let key = self.signers.iter().find(|key| Some(key.id) == id);
        key.map(Some).ok_or_else(|| self.not_signed())
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
        assert_eq!(group.signer(None), Ok(None));
        assert_eq!(group.signer(Some(&by_three)), Ok(None));

        group.signers = [key(1, 7), key(2, 8)].into();
        assert_eq!(group.signer(Some(&by_one)), Ok(Some(&key(1, 7))));
        for unsigned in [None, Some(&by_three)] {
            let refused = group.signer(unsigned).expect_err("it is not signed");
            let refused = format!("{refused}");
            let keys = "the keys 0101010101010101, 0202020202020202";
            assert!(refused.contains("the group shops runs only"), "{refused}");
            assert!(refused.contains(keys), "{refused}");
        }
    }
}
