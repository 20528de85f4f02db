//! The key to which the secrets of this worker are encrypted in the registry. It is made once, when the worker joins,
//! and never leaves the state directory.

use age::{secrecy::ExposeSecret as _, x25519};
use anyhow::Context as _;
use muster_protocol::{enrolment::Recipient, grant::check_value};
use muster_wire::process;
use std::{fs, io::ErrorKind, path::Path};

/// The file of the key, beside that of the key for TLS.
const FILE: &str = "secrets.key";

/// See the [module](self).
pub(crate) struct SealKey {
    identity: x25519::Identity,
    recipient: Recipient,
}

/// A value cannot be used. The text continues a sentence after the name of the secret and "it".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOpened {
    /// It is for another key, or was changed.
    #[error("is not encrypted to the present key of this worker, or it was changed")]
    OtherKey,
    /// It cannot be the value of a variable.
    #[error("{0}")]
    Value(String),
}

impl SealKey {
    /// The key in this directory, which is made if there is none.
    pub(crate) fn read_or_make(dir: &Path) -> anyhow::Result<Self> {
        let file = dir.join(FILE);
        let identity = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|why: &str| {
                anyhow::anyhow!(
                    "{} is damaged ({why}); remove it, and let an admin set the secrets of this worker again",
                    file.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let identity = x25519::Identity::generate();
                process::write_whole_as(&file, identity.to_string().expose_secret(), 0o600)
                    .with_context(|| format!("{} cannot be written to", file.display()))?;
                identity
            }
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        SealKey::of(identity)
    }

    fn of(identity: x25519::Identity) -> anyhow::Result<Self> {
        let recipient = identity.to_public().to_string().parse()?;
        Ok(SealKey { identity, recipient })
    }

    /// Its public half.
    pub(crate) fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// The value in an age file.
    pub(crate) fn open(&self, file: &[u8]) -> Result<String, NotOpened> {
        let value = age::decrypt(&self.identity, file).map_err(|_| NotOpened::OtherKey)?;
        let value = String::from_utf8(value);
        let value = value.map_err(|_| NotOpened::Value("is not UTF-8".into()))?;
        check_value(&value).map_err(NotOpened::Value)?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{grant::TEXT_MAX, limit::SEALED_SIZE_MAX, sealed::check_file};
    use std::os::unix::fs::PermissionsExt as _;

    fn key() -> SealKey {
        SealKey::of(x25519::Identity::generate()).expect("a key")
    }

    fn sealed(key: &SealKey, value: &[u8]) -> Vec<u8> {
        age::encrypt(&key.identity.to_public(), value).expect("encrypted")
    }

    #[test]
    fn only_the_key_that_a_value_is_for_opens_it() {
        let (mine, other) = (key(), key());
        let file = sealed(&mine, b"correct horse");
        assert_eq!(check_file(&file), Ok(()));
        assert_eq!(mine.open(&file).as_deref(), Ok("correct horse"));
        assert_eq!(other.open(&file), Err(NotOpened::OtherKey));
        assert_eq!(mine.open(b"age-encryption.org/v1\n"), Err(NotOpened::OtherKey));
        for at in [30, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(mine.open(&changed), Err(NotOpened::OtherKey), "{at}");
        }
        for bad in [&b"a\0b"[..], &[0xff], &[b'x'; TEXT_MAX + 1]] {
            assert!(matches!(mine.open(&sealed(&mine, bad)), Err(NotOpened::Value(_))));
        }
    }

    #[test]
    fn the_longest_value_fits_what_the_registry_keeps() {
        let key = key();
        // age adds a stanza of a random length.
        for _ in 0..200 {
            let file = sealed(&key, &[b'x'; TEXT_MAX]);
            assert!(file.len() <= SEALED_SIZE_MAX, "{} bytes", file.len());
            assert!(key.open(&file).is_ok());
        }
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = std::env::temp_dir().join(format!("muster-seal-key-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("it is ours");
        let first = SealKey::read_or_make(&dir).expect("made");
        let again = SealKey::read_or_make(&dir).expect("read");
        assert_eq!(first.recipient(), again.recipient());
        let mode = fs::metadata(dir.join(FILE)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.join(FILE), "AGE-SECRET-KEY-1").expect("it is ours");
        let error = SealKey::read_or_make(&dir).err().expect("damaged");
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert!(!error.to_string().contains("SECRET-KEY"), "{error}");
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}
