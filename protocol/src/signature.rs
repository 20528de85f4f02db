//! Signatures of modules and the keys of their signers, in the text formats of minisign. Reads and writes
//! them only: `muster_module::signing` signs and verifies.

use crate::{id::as_text, limit::SIGNATURE_SIZE_MAX};
use alloc::{format, sync::Arc};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use core::{fmt, str::FromStr};

/// The algorithm of a key: Ed25519.
const KEY_ALGORITHM: [u8; 2] = *b"Ed";

/// The algorithm of a signature: Ed25519 of the BLAKE2b-512 of the bytes. The older one, of the bytes
/// themselves, is refused.
const PREHASHED: [u8; 2] = *b"ED";

const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// Why a text is no key or no signature. Nothing was verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is too long.
    #[error("a signature has at most {SIGNATURE_SIZE_MAX} bytes, this one has {0}")]
    Size(usize),
    /// It is not in minisign's format.
    #[error("it is not {0} in minisign's format")]
    Malformed(&'static str),
    /// It is of an algorithm that is not supported.
    #[error("it was made without hashing the bytes first, as old versions of minisign do")]
    Legacy,
}

/// Names the key of a signer. As text: 16 hex digits, as minisign shows them. Whoever makes a key chooses its
/// id, so an id alone proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for KeyId {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
        let number = number.ok_or(SignatureError::Malformed("the id of a key"))?;
        Ok(KeyId(number.to_le_bytes()))
    }
}

/// The public key of a signer. As text: the line `RW…` of minisign's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignerKey {
    /// Its id.
    pub id: KeyId,
    /// The public key of Ed25519.
    pub key: [u8; 32],
}

impl fmt::Display for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 42];
        bytes[..2].copy_from_slice(&KEY_ALGORITHM);
        bytes[2..10].copy_from_slice(&self.id.0);
        bytes[10..].copy_from_slice(&self.key);
        f.write_str(&STANDARD.encode(bytes))
    }
}

impl FromStr for SignerKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let malformed = SignatureError::Malformed("a public key (RW…)");
        let bytes = decode::<42>(text.trim()).ok_or_else(|| malformed.clone())?;
        let (algorithm, rest) = bytes.split_first_chunk::<2>().ok_or_else(|| malformed.clone())?;
        let (id, key) = rest.split_first_chunk::<8>().ok_or_else(|| malformed.clone())?;
        match key.try_into() {
            Ok(key) if *algorithm == KEY_ALGORITHM => Ok(SignerKey { id: KeyId(*id), key }),
            _ => Err(malformed),
        }
    }
}

/// A signature of a module: the text of minisign's signature file. It is well-formed; whether it is valid, only
/// who has the bytes and the key can tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    text: Arc<str>,
    key: KeyId,
}

/// The parts of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureParts<'a> {
    /// Of the BLAKE2b-512 of the signed bytes.
    pub of_bytes: [u8; 64],
    /// What the signer says about the bytes.
    pub comment: &'a str,
    /// Of `of_bytes`, followed by `comment`.
    pub of_comment: [u8; 64],
}

impl Signature {
    /// Puts a signature together. The comment has no line break and at most a few hundred bytes.
    pub fn new(key: KeyId, parts: SignatureParts<'_>) -> Result<Self, SignatureError> {
        let mut signed = [0; 74];
        signed[..2].copy_from_slice(&PREHASHED);
        signed[2..10].copy_from_slice(&key.0);
        signed[10..].copy_from_slice(&parts.of_bytes);
        let (signed, comment) = (STANDARD.encode(signed), parts.comment);
        let of_comment = STANDARD.encode(parts.of_comment);
        format!("{UNTRUSTED}signature by key {key}\n{signed}\n{TRUSTED}{comment}\n{of_comment}\n")
            .parse()
    }

    /// The id of the key that it claims to be made with.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The text of the signature file.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its parts.
    pub fn parts(&self) -> Option<SignatureParts<'_>> {
        parts(&self.text).ok().map(|(_, parts)| parts)
    }
}

fn parts(text: &str) -> Result<(KeyId, SignatureParts<'_>), SignatureError> {
    let malformed = || SignatureError::Malformed("a signature");
    let mut lines = text.lines();
    let mut line = || lines.next().ok_or_else(malformed);
    let untrusted = line()?;
    let signed = decode::<74>(line()?).ok_or_else(malformed)?;
    let comment = line()?.strip_prefix(TRUSTED).ok_or_else(malformed)?;
    let of_comment = decode::<64>(line()?).ok_or_else(malformed)?;
    if !untrusted.starts_with(UNTRUSTED) || lines.next().is_some() {
        return Err(malformed());
    }
    let (algorithm, rest) = signed.split_first_chunk::<2>().ok_or_else(malformed)?;
    let (key, of_bytes) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
    let of_bytes = of_bytes.try_into().map_err(|_| malformed())?;
    match *algorithm {
        PREHASHED => Ok((KeyId(*key), SignatureParts { of_bytes, comment, of_comment })),
        KEY_ALGORITHM => Err(SignatureError::Legacy),
        _ => Err(malformed()),
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        if text.len() > SIGNATURE_SIZE_MAX {
            return Err(SignatureError::Size(text.len()));
        }
        let (key, _) = parts(text)?;
        Ok(Signature { text: text.into(), key })
    }
}

fn decode<const SIZE: usize>(text: &str) -> Option<[u8; SIZE]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

as_text!(KeyId);
as_text!(SignerKey);
as_text!(Signature);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    /// Made by the program minisign, as its documentation shows them.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==
";

    #[test]
    fn what_minisign_writes_is_read() {
        let key: SignerKey = KEY.parse().expect("a key");
        assert_eq!((key.to_string(), key.id.to_string()), (KEY.into(), "E7620F1842B4E81F".into()));
        assert_eq!(key.id.to_string().parse(), Ok(key.id));
        let signature: Signature = SIGNATURE.parse().expect("a signature");
        assert_eq!(signature.key(), key.id);
        let parts = signature.parts().expect("its parts");
        assert_eq!(parts.comment, "timestamp:1633700835\tfile:test\tprehashed");
        let again = Signature::new(key.id, parts).expect("a signature");
        assert_eq!(again.parts(), Some(parts));
        let json = serde_json::to_string(&signature).expect("JSON");
        assert_eq!(serde_json::from_str::<Signature>(&json).ok(), Some(signature));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let old = SIGNATURE.replace("RUQf6", "RWQf6");
        assert_eq!(old.parse::<Signature>(), Err(SignatureError::Legacy));
        let long = SIGNATURE.replace("file:test", &"x".repeat(SIGNATURE_SIZE_MAX));
        assert!(matches!(long.parse::<Signature>(), Err(SignatureError::Size(_))));
        for bad in [
            String::new(),
            SIGNATURE.replace("Zwo=", "Zwo"),
            SIGNATURE.replace("RUQf6", "RXQf6"),
            SIGNATURE.replace("trusted comment", "comment"),
            format!("{SIGNATURE}more\n"),
        ] {
            assert!(bad.parse::<Signature>().is_err(), "{bad}");
        }
        for bad in ["", "RWQf6", &KEY.replace("RW", "RX"), "E7620F1842B4E81"] {
            assert!(bad.parse::<SignerKey>().is_err() && bad.parse::<KeyId>().is_err(), "{bad}");
        }
    }
}
