//! The names of secrets that the registry keeps for workers, and which modules may have them. Never a value.

use super::{ModuleRule, TEXT_MAX};
use crate::{
    Digest,
    id::as_text,
    limit::SIGNERS_MAX,
    signature::{KeyId, SignerKey},
};
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    sync::Arc,
};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// The longest name of such a secret, in bytes. It is part of a key in the registry.
const NAME_SIZE_MAX: usize = 64;

/// The name of a secret that the registry keeps: a name of a variable for every shell, and one token of a subject
/// of NATS. Secrets in files may have other names, too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(Arc<str>);

/// A text is no [`SecretName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a secret: 1 to {NAME_SIZE_MAX} letters, digits or '_', and no digit at the \
     beginning"
)]
pub struct NotASecretName(String);

impl SecretName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = NotASecretName;

    fn from_str(text: &str) -> Result<Self, NotASecretName> {
        let begins = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match begins && text.len() <= NAME_SIZE_MAX && text.bytes().all(allowed) {
            true => Ok(SecretName(text.into())),
            false => Err(NotASecretName(text.chars().take(NAME_SIZE_MAX).collect())),
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(SecretName);

/// Refuses a value that cannot be that of a variable. The error continues a sentence after "the secret".
pub fn check_value(value: &str) -> Result<(), String> {
    match value.len() > TEXT_MAX || value.contains('\0') {
        true => Err(format!("is longer than {TEXT_MAX} bytes or has a zero byte")),
        false => Ok(()),
    }
}

/// Which modules may have a secret: those with one of these digests, and those that one of these keys has signed.
/// The keys are whole, so that the worker can verify the signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretRule {
    /// The digests.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub digests: BTreeSet<Digest>,
    /// The keys.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub signers: BTreeSet<SignerKey>,
}

impl SecretRule {
    /// Refuses a rule that names no module, too many of them, or two keys of one id. The error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let SecretRule { digests, signers } = self;
        if digests.is_empty() && signers.is_empty() {
            return Err(
                "a rule names at least one module or one key; without a rule, every module \
                        may have the secret"
                    .into(),
            );
        }
        if digests.len() > SIGNERS_MAX || signers.len() > SIGNERS_MAX {
            return Err(format!("a rule names at most {SIGNERS_MAX} modules and as many keys"));
        }
        let mut ids = BTreeSet::new();
        match signers.iter().find(|key| !ids.insert(key.id)) {
            Some(twice) => Err(format!("two keys have the id {}", twice.id)),
            None => Ok(()),
        }
    }

    /// The same with the ids of the keys, as a policy has it.
    pub fn modules(&self) -> ModuleRule {
        let signers = self.signers.iter().map(|key| key.id).collect();
        ModuleRule { digests: self.digests.clone(), signers }
    }

    /// Whether a module may have the secret. `signer` is the key that signed it: a master takes what the
    /// signature says, a worker has verified it.
    pub fn permits(&self, module: Digest, signer: Option<KeyId>) -> bool {
        self.modules().permits(Some(module), signer)
    }
}

/// As people read it: digests, and the ids of keys.
impl fmt::Display for SecretRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digests = self.digests.iter().map(ToString::to_string);
        let signers = self.signers.iter().map(|key| format!("signed by {}", key.id));
        for (number, named) in digests.chain(signers).enumerate() {
            write!(f, "{}{named}", if number == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A secret that the registry keeps for a worker, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretTerms {
    /// Its name.
    pub name: SecretName,
    /// The modules that may have it; every module if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<SecretRule>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_token_and_a_variable() {
        for good in ["A", "api_key", "_", "API_KEY_2", &"K".repeat(64)] {
            assert_eq!(good.parse::<SecretName>().map(|name| name.to_string()), Ok(good.into()));
        }
        for bad in ["", "2FA", "A.B", "A>", "*", "A B", "A-B", "A=B", "Ä", "A\0", &"K".repeat(65)]
        {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }

    fn key(id: u8, key: u8) -> SignerKey {
        SignerKey { id: KeyId([id; 8]), key: [key; 32] }
    }

    #[test]
    fn a_rule_names_some_modules_and_not_many() {
        let rule = |digests: usize, signers: &[SignerKey]| SecretRule {
            digests: (0..digests).map(|number| Digest([number as u8; 32])).collect(),
            signers: signers.iter().copied().collect(),
        };
        let many: alloc::vec::Vec<SignerKey> = (0..17).map(|id| key(id, id)).collect();
        for (rule, wrong) in [
            (rule(1, &[]), ""),
            (rule(SIGNERS_MAX, &many[..SIGNERS_MAX]), ""),
            (rule(0, &[]), "at least one"),
            (rule(SIGNERS_MAX + 1, &[]), "at most"),
            (rule(0, &many), "at most"),
            (rule(0, &[key(1, 1), key(1, 2)]), "two keys have the id"),
        ] {
            match rule.check() {
                Ok(()) => assert!(wrong.is_empty(), "{rule}"),
                Err(said) => assert!(!wrong.is_empty() && said.contains(wrong), "{said}"),
            }
        }
    }

    #[test]
    fn a_rule_permits_what_it_names() {
        let rule = SecretRule { digests: [Digest([1; 32])].into(), signers: [key(7, 1)].into() };
        for (module, signer, permitted) in [
            (1, None, true),
            (2, None, false),
            (2, Some(KeyId([7; 8])), true),
            (2, Some(KeyId([8; 8])), false),
            (1, Some(KeyId([8; 8])), true),
        ] {
            assert_eq!(
                rule.permits(Digest([module; 32]), signer),
                permitted,
                "{module} {signer:?}"
            );
        }
    }
}
