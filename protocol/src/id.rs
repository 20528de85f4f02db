//! Names of things; never anything that could mean a place or a permission.

use alloc::{string::String, sync::Arc};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not the id it was taken for. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has another length, or a character that does not belong.
    #[error("not a {kind} id: expected {expected}")]
    Malformed {
        /// Which kind of id was wanted.
        kind: &'static str,
        /// The form it must have.
        expected: &'static str,
    },
}

/// Crockford's base 32: no I, L, O or U, so that an id can be read over the telephone.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode(mut value: u128, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
}

fn decode(text: &str, length: usize) -> Option<u128> {
    if text.len() != length {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|&letter| letter == byte.to_ascii_lowercase())?;
        value = value.checked_mul(32)?.checked_add(digit as u128)?;
    }
    Some(value)
}

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $number:ty, $kind:literal, $digits:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; $digits];
                encode(self.0.into(), &mut text);
                f.pad(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text, $digits)
                    .and_then(|value| <$number>::try_from(value).ok())
                    .map($name)
                    .ok_or(IdError::Malformed { kind: $kind, expected: $expected })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    <alloc::borrow::Cow<'de, str>>::deserialize(d)?.parse().map_err(de::Error::custom)
                } else {
                    <$number>::deserialize(d).map($name)
                }
            }
        }
    };
}

numeric_id!(
    /// A task: 48 bits of the submitter's wall clock in milliseconds, then 80 random bits, so that
    /// ids sort roughly by submission. Text: 26 letters of Crockford's base 32 (the ULID form).
    TaskId, u128, "task", 26, "26 letters or digits, as `muster task ls` prints them"
);
numeric_id!(
    /// Tasks that were submitted together and report to one listener. The same form as a task's id.
    BatchId, u128, "batch", 26, "26 letters or digits"
);
numeric_id!(
    /// One try at a task: a nonce minted at dispatch. Means something only beside its task.
    AttemptId, u64, "attempt", 13, "13 letters or digits"
);
numeric_id!(
    /// One life of a worker or master process: a nonce drawn at its start.
    SessionId, u64, "session", 13, "13 letters or digits"
);
numeric_id!(
    /// Recognises one's own write when its acknowledgement was lost.
    Nonce, u64, "nonce", 13, "13 letters or digits"
);

/// The longest name of a worker, master, group, fleet or module: one DNS label, because the
/// certificate carries it as one.
pub const NAME_SIZE_MAX: usize = 63;

/// What a name may look like, for error messages.
pub const NAME_FORM: &str =
    "1 to 63 lower-case letters, digits or '-', beginning and ending with a letter or digit";

/// Whether `text` can be a name: it is then safe as a DNS label, a NATS subject token and a file name.
pub fn is_name(text: &str) -> bool {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= NAME_SIZE_MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_name(text) {
                    Ok($name(text.into()))
                } else {
                    Err(IdError::Malformed { kind: $kind, expected: NAME_FORM })
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <alloc::borrow::Cow<'de, str>>::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name_id!(
    /// A worker, by the name in its certificate.
    WorkerId, "worker"
);
name_id!(
    /// A master, by the name in its certificate.
    MasterId, "master"
);
name_id!(
    /// A worker group: tasks name one, workers belong to one.
    GroupName, "group"
);

impl Default for GroupName {
    fn default() -> Self {
        GroupName("default".into())
    }
}

/// The SHA-256 of some bytes: a module, an input or an output. Text: `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The 64 hex digits alone, as object names have them.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }

    /// Reads 64 hex digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", &self.hex()[..12])
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("sha256:")
            .and_then(Digest::from_hex)
            .ok_or(IdError::Malformed { kind: "digest", expected: "sha256: and 64 hex digits" })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            <alloc::borrow::Cow<'de, str>>::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(d).map(Digest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn numeric_ids_survive_text() {
        for value in [0, 1, u128::MAX, 0x0190_0000_0000_1234_5678_9abc_def0_1234] {
            assert_eq!(TaskId(value).to_string().parse(), Ok(TaskId(value)));
        }
        for value in [0, 1, u64::MAX] {
            assert_eq!(AttemptId(value).to_string().parse(), Ok(AttemptId(value)));
        }
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in ["", "0", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "0123456789012345678901234u", "é"] {
            assert!(text.parse::<TaskId>().is_err(), "{text:?}");
        }
        assert!("zzzzzzzzzzzzz".parse::<AttemptId>().is_err(), "65 bits do not fit");
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "w1", "shop-42", "0"] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "ü", ">", "*", "a/b"] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name(&"a".repeat(63)) && !is_name(&"a".repeat(64)));
    }

    #[test]
    fn a_digest_survives_text() {
        let digest = Digest(core::array::from_fn(|i| i as u8 * 7));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:12".parse::<Digest>().is_err());
    }
}
