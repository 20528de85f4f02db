//! Signs modules and verifies their signatures, as minisign does: Ed25519 of the BLAKE2b-512 of the bytes. Never
//! decides whose signature is needed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use blake2b_simd::Params;
use muster_protocol::signature::{KeyId, Signature, SignatureError, SignatureParts, SignerKey};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};

/// Whether the signature is by this key and of these bytes. Takes about a millisecond per megabyte.
pub fn is_valid(signature: &Signature, key: &SignerKey, bytes: &[u8]) -> bool {
    let Some(parts) = signature.parts() else { return false };
    let key_of_signer = UnparsedPublicKey::new(&ED25519, key.key);
    signature.key() == key.id
        && key_of_signer.verify(&hash(bytes), &parts.of_bytes).is_ok()
        && key_of_signer
            .verify(&commented(&parts.of_bytes, parts.comment), &parts.of_comment)
            .is_ok()
}

/// Why a text is no secret key that can sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// It is not in minisign's format.
    #[error("it is not a secret key in minisign's format")]
    Malformed,
    /// It can be used only with a password.
    #[error("it is protected by a password, which is not supported")]
    Encrypted,
}

/// A secret key. It is shown nowhere.
pub struct SecretKey {
    id: KeyId,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

const ALGORITHM: &[u8] = b"Ed";
const CHECKSUM: &[u8] = b"B2";
/// For a key without a password: no function derives another key, and its salt and costs are zero.
const NO_PASSWORD: &[u8] = &[0, 0];
const UNUSED: [u8; 48] = [0; 48];

impl SecretKey {
    /// A new key; `None` if the operating system gives no random bytes.
    pub fn generate() -> Option<Self> {
        let random = SystemRandom::new();
        let (mut id, mut seed) = ([0; 8], [0; 32]);
        random.fill(&mut id).ok()?;
        random.fill(&mut seed).ok()?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        Some(SecretKey { id: KeyId(id), seed, pair })
    }

    /// Reads minisign's file of a secret key that has no password.
    pub fn read(text: &str) -> Result<Self, SecretKeyError> {
        let line = text.lines().nth(1).ok_or(SecretKeyError::Malformed)?;
        let bytes = STANDARD.decode(line).map_err(|_| SecretKeyError::Malformed)?;
        SecretKey::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, SecretKeyError> {
        let malformed = SecretKeyError::Malformed;
        let (head, rest) = bytes.split_at_checked(6).ok_or(malformed.clone())?;
        if &head[..2] != ALGORITHM || &head[4..] != CHECKSUM {
            return Err(malformed);
        }
        if &head[2..4] != NO_PASSWORD {
            return Err(SecretKeyError::Encrypted);
        }
        let key = rest.get(UNUSED.len()..).ok_or(malformed.clone())?;
        let (id, key) = key.split_first_chunk::<8>().ok_or(malformed.clone())?;
        let (seed, key) = key.split_first_chunk::<32>().ok_or(malformed.clone())?;
        let (public, sum) = key.split_first_chunk::<32>().ok_or(malformed.clone())?;
        let id = KeyId(*id);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
        match pair {
            Ok(pair) if sum == checksum(id, seed, public) => {
                Ok(SecretKey { id, seed: *seed, pair })
            }
            _ => Err(malformed),
        }
    }

    /// The text of minisign's file, without a password.
    pub fn text(&self) -> String {
        let public = self.public().key;
        let mut bytes =
            [ALGORITHM, NO_PASSWORD, CHECKSUM, &UNUSED, &self.id.0, &self.seed].concat();
        bytes.extend(public);
        bytes.extend(checksum(self.id, &self.seed, &public));
        format!("untrusted comment: secret key {}\n{}\n", self.id, STANDARD.encode(bytes))
    }

    /// The public key.
    pub fn public(&self) -> SignerKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        SignerKey { id: self.id, key }
    }

    /// Signs bytes, with a comment that is signed as well.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> Result<Signature, SignatureError> {
        let signed = |bytes: &[u8]| {
            let mut signature = [0; 64];
            signature.copy_from_slice(self.pair.sign(bytes).as_ref());
            signature
        };
        let of_bytes = signed(&hash(bytes));
        let of_comment = signed(&commented(&of_bytes, comment));
        Signature::new(self.id, SignatureParts { of_bytes, comment, of_comment })
    }
}

fn hash(bytes: &[u8]) -> [u8; 64] {
    *blake2b_simd::blake2b(bytes).as_array()
}

fn commented(of_bytes: &[u8], comment: &str) -> Vec<u8> {
    [of_bytes, comment.as_bytes()].concat()
}

fn checksum(id: KeyId, seed: &[u8; 32], public: &[u8; 32]) -> [u8; 32] {
    let mut sum = [0; 32];
    let mut state = Params::new().hash_length(sum.len()).to_state();
    for part in [ALGORITHM, &id.0, seed, public] {
        state.update(part);
    }
    sum.copy_from_slice(state.finalize().as_bytes());
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the program minisign: the signature of `test`, as the documentation of its libraries has it.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==
";

    #[test]
    fn a_signature_of_minisign_is_valid_for_its_bytes_and_no_others() {
        let (key, signature) =
            (KEY.parse().expect("a key"), SIGNATURE.parse().expect("a signature"));
        assert!(is_valid(&signature, &key, b"test"));
        assert!(!is_valid(&signature, &key, b"Test"));
        let other = SIGNATURE.replace("file:test", "file:Test").parse().expect("a signature");
        assert!(!is_valid(&other, &key, b"test"), "the comment is signed");
    }

    #[test]
    fn a_new_key_signs_and_is_read_again() {
        let key = SecretKey::generate().expect("random bytes");
        let signature = key.sign(b"bytes", "of a module").expect("a signature");
        assert!(is_valid(&signature, &key.public(), b"bytes"));
        assert!(!is_valid(&signature, &key.public(), b"other"));
        let again = SecretKey::read(&key.text()).expect("a key");
        assert_eq!((again.public(), again.text()), (key.public(), key.text()));
        assert_eq!(again.sign(b"bytes", "of a module").as_ref(), Ok(&signature));
        let stranger = SecretKey::generate().expect("random bytes");
        assert!(!is_valid(&signature, &stranger.public(), b"bytes"));
        let posing = SignerKey { id: key.id, ..stranger.public() };
        assert!(!is_valid(&signature, &posing, b"bytes"), "an id is not enough");
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused() {
        let text = SecretKey::generate().expect("random bytes").text();
        let bytes = STANDARD.decode(text.lines().nth(1).expect("a key")).expect("base64");
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            SecretKey::from_bytes(&bytes).err()
        };
        assert_eq!(with(0, b'X'), Some(SecretKeyError::Malformed));
        assert_eq!(with(2, b'S'), Some(SecretKeyError::Encrypted));
        let last = bytes[bytes.len() - 1];
        assert_eq!(with(bytes.len() - 1, !last), Some(SecretKeyError::Malformed), "its checksum");
        assert_eq!(SecretKey::read("").err(), Some(SecretKeyError::Malformed));
    }
}
