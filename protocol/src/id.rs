//! Ids and names. None of them is an address or a permission.

use alloc::{string::String, sync::Arc};
use core::{fmt, marker::PhantomData, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The sequence number, in a bucket's stream, of the newest value of a key. [`ABSENT`] where the key
/// does not exist.
pub type Revision = u64;

/// The revision to expect of a key that must not exist yet.
pub const ABSENT: Revision = 0;

/// The number of a link between a master and a worker, chosen by the process at one end. A reconnect gets another
/// number.
pub type LinkId = u64;

/// Why a text is not an id. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has another length, or a character that does not belong.
    #[error("not a {kind} id: expected {expected}")]
    Malformed {
        /// The kind of id.
        kind: &'static str,
        /// The form it must have.
        expected: &'static str,
    },
}

/// Crockford's base 32: no I, L, O or U, so that an id can be read over the telephone.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The entry in [`DIGITS`] of a byte that is not a digit.
const NONE: u8 = u8::MAX;

/// The digit that each byte stands for: every record has ten ids, and is read and written often.
const DIGITS: [u8; 256] = {
    let mut digits = [NONE; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        digits[ALPHABET[digit] as usize] = digit as u8;
        digits[ALPHABET[digit].to_ascii_uppercase() as usize] = digit as u8;
        digit += 1;
    }
    digits
};

fn encode<const N: usize>(mut value: u128) -> [u8; N] {
    let mut text = [0; N];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    text
}

fn decode(text: &str, length: usize) -> Option<u128> {
    if text.len() != length {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = DIGITS[usize::from(byte)];
        if digit == NONE || value.leading_zeros() < 5 {
            return None;
        }
        value = value << 5 | u128::from(digit);
    }
    Some(value)
}

/// The text of letters from [`ALPHABET`].
fn ascii(text: &[u8]) -> &str {
    core::str::from_utf8(text).expect("it has letters of an alphabet only")
}

/// Parses a value from text without copying the text.
fn from_text<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = IdError>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err = IdError>> de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    d.deserialize_str(Text(PhantomData))
}

/// Implements serde for a type that is a text in JSON: as it is displayed and parsed.
macro_rules! as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <alloc::string::String as serde::Deserialize>::deserialize(d)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use as_text;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $number:ty, $kind:literal, $digits:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(ascii(&encode::<$digits>(self.0.into())))
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
                if s.is_human_readable() {
                    s.serialize_str(ascii(&encode::<$digits>(self.0.into())))
                } else {
                    self.0.serialize(s)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    from_text(d)
                } else {
                    <$number>::deserialize(d).map($name)
                }
            }
        }
    };
}

numeric_id!(
    /// A task: 48 bits of the submitter's wall clock in milliseconds, then 80 random bits, so that
    /// ids sort roughly by submission. If the client names the task, the id is a hash of the name.
    /// Text: 26 letters of Crockford's base 32 (the ULID form).
    TaskId, u128, "task", 26, "26 letters or digits, as `muster task ls` prints them"
);
numeric_id!(
    /// A batch: tasks that were submitted together and report to one subscriber. The same form as a
    /// task's id.
    BatchId, u128, "batch", 26, "26 letters or digits"
);
numeric_id!(
    /// An attempt: a nonce drawn at dispatch. Unique only within its task.
    AttemptId, u64, "attempt", 13, "13 letters or digits"
);
numeric_id!(
    /// A session of a worker or master: a nonce drawn when the session begins.
    SessionId, u64, "session", 13, "13 letters or digits"
);
numeric_id!(
    /// Identifies a write, so that its writer recognises it when the acknowledgement was lost.
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
                from_text(d)
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

const DIGEST_PREFIX: &str = "sha256:";
const DIGEST_TEXT_SIZE: usize = DIGEST_PREFIX.len() + 64;
const HEX: &[u8; 16] = b"0123456789abcdef";

impl Digest {
    /// The 64 hex digits alone, as object names have them.
    pub fn hex(&self) -> String {
        ascii(&self.text()[DIGEST_PREFIX.len()..]).into()
    }

    fn text(&self) -> [u8; DIGEST_TEXT_SIZE] {
        let mut text = [0; DIGEST_TEXT_SIZE];
        let (prefix, digits) = text.split_at_mut(DIGEST_PREFIX.len());
        prefix.copy_from_slice(DIGEST_PREFIX.as_bytes());
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
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
        f.pad(ascii(&self.text()))
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
        text.strip_prefix(DIGEST_PREFIX)
            .and_then(Digest::from_hex)
            .ok_or(IdError::Malformed { kind: "digest", expected: "sha256: and 64 hex digits" })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(ascii(&self.text()))
        } else {
            self.0.serialize(s)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() { from_text(d) } else { <[u8; 32]>::deserialize(d).map(Digest) }
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
