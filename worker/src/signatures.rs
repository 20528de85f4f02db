//! Which key has signed a module, verified over the bytes of the module. Never takes a master's word for it.

use crate::artifact::{ArtifactError, digest_of};
use bytes::Bytes;
use muster_module::signing;
use muster_protocol::{
    Digest,
    signature::{KeyId, Signature, SignerKey},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

/// Results that are remembered, of a KiB each. A full set is cleared and filled again.
const VERIFIED_MAX: usize = 1_024;

/// Modules that are held to verify their signatures, until they are compiled: at most 64 MiB each.
const HELD_MAX: usize = 2;

/// The signature was not verified yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotVerified;

/// A module whose signature was just verified.
pub(crate) struct Verified {
    /// The key that signed it, if it is one of the policy's.
    pub signer: Option<KeyId>,
    pub bytes: Bytes,
    _held: OwnedSemaphorePermit,
}

/// The key that has made a signature of a module, if it is valid and the key is one of the policy's.
type Verdicts = HashMap<(Digest, Signature), Option<KeyId>>;

/// The signatures that this worker has verified; cheap to clone.
#[derive(Clone)]
pub(crate) struct Signatures {
    known: Arc<Mutex<Known>>,
    held: Arc<Semaphore>,
}

struct Known {
    /// The keys of the policy. Signatures by other keys prove nothing.
    keys: BTreeMap<KeyId, SignerKey>,
    /// What was found with these keys.
    verified: Verdicts,
}

impl Signatures {
    /// None yet. Only signatures by these keys are verified.
    pub(crate) fn new(keys: BTreeMap<KeyId, SignerKey>) -> Self {
        Signatures {
            known: Arc::new(Mutex::new(Known { keys, verified: HashMap::new() })),
            held: Arc::new(Semaphore::new(HELD_MAX)),
        }
    }

    /// From now on only signatures by these keys are verified.
    pub(crate) fn trust(&self, keys: &BTreeMap<KeyId, SignerKey>) {
        let mut known = self.known();
        if known.keys != *keys {
            *known = Known { keys: keys.clone(), verified: HashMap::new() };
        }
    }

    /// The key of the policy that has signed a module; `None` if there is no such key.
    pub(crate) fn signer(
        &self,
        module: Digest,
        signature: Option<&Signature>,
    ) -> Result<Option<KeyId>, NotVerified> {
        let known = self.known();
        let Some(signature) = signature.filter(|found| known.keys.contains_key(&found.key()))
        else {
            return Ok(None);
        };
        known.verified.get(&(module, signature.clone())).copied().ok_or(NotVerified)
    }

    /// Fetches a module and verifies its signature.
    pub(crate) async fn verify<F>(
        &self,
        module: Digest,
        signature: &Signature,
        fetch: impl FnOnce() -> F,
    ) -> Result<Verified, ArtifactError>
    where
        F: Future<Output = Result<Bytes, ArtifactError>>,
    {
        let held = self.held.clone().acquire_owned().await.expect("the semaphore is never closed");
        let bytes = fetch().await?;
        if digest_of(bytes.clone()).await != Some(module) {
            return Err(ArtifactError::NotHad(format!(
                "the bytes that were received are not {module}"
            )));
        }
        let key = self.known().keys.get(&signature.key()).copied();
        let (of, signed) = (bytes.clone(), signature.clone());
        // On a blocking thread: hashing a large module takes a while.
        let verifying = spawn_blocking(move || {
            key.filter(|key| signing::is_valid(&signed, key, &of)).map(|key| key.id)
        });
        let stops = |_| ArtifactError::NotHad("the worker stops".into());
        let signer = verifying.await.map_err(stops)?;
        if signer.is_none() {
            tracing::warn!(?module, key = %signature.key(), "the signature of a module is not valid");
        }
        self.remember(key, module, signature, signer);
        Ok(Verified { signer, bytes, _held: held })
    }

    /// Remembers what was found with a key, if the policy names the same key still.
    fn remember(
        &self,
        key: Option<SignerKey>,
        module: Digest,
        signature: &Signature,
        signer: Option<KeyId>,
    ) {
        let mut known = self.known();
        if known.keys.get(&signature.key()).copied() != key {
            return;
        }
        if known.verified.len() >= VERIFIED_MAX {
            known.verified.clear();
        }
        known.verified.insert((module, signature.clone()), signer);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::signature::SignerKey;
    use signing::SecretKey;

    fn signatures(key: &SignerKey) -> Signatures {
        Signatures::new([(key.id, *key)].into())
    }

    /// The signer that a worker finds, which gets these bytes as a module.
    fn found(
        of: &Signatures,
        module: Digest,
        signature: &Signature,
        bytes: &'static [u8],
    ) -> Result<Option<KeyId>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let fetch = || async { Ok(Bytes::from_static(bytes)) };
        let verified = runtime.block_on(of.verify(module, signature, fetch));
        verified.map(|verified| verified.signer).map_err(|error| error.to_string())
    }

    #[test]
    fn a_signature_counts_only_for_its_bytes_and_its_key() {
        let key = SecretKey::generate().expect("random bytes");
        let (bytes, other): (&[u8], &[u8]) = (b"a module", b"another");
        let digest = muster_module::digest(bytes);
        let good = key.sign(bytes, "it").expect("a signature");
        let of_others = key.sign(other, "another").expect("a signature");
        let signatures = signatures(&key.public());
        let signer = Some(key.public().id);
        assert_eq!(signatures.signer(digest, None), Ok(None));
        assert_eq!(signatures.signer(digest, Some(&good)), Err(NotVerified));
        assert_eq!(found(&signatures, digest, &good, bytes), Ok(signer));
        assert_eq!(signatures.signer(digest, Some(&good)), Ok(signer));
        assert_eq!(found(&signatures, digest, &of_others, bytes), Ok(None));
        assert_eq!(signatures.signer(digest, Some(&of_others)), Ok(None));
        let changed = found(&signatures, digest, &good, other).expect_err("other bytes");
        assert!(changed.contains("are not sha256:"), "{changed}");
    }

    #[test]
    fn what_was_found_with_a_key_counts_only_while_the_policy_names_it() {
        let key = SecretKey::generate().expect("random bytes");
        let digest = muster_module::digest(b"a module");
        let signed = key.sign(b"a module", "it").expect("a signature");
        let signatures = signatures(&key.public());
        let signer = Some(key.public().id);
        assert_eq!(found(&signatures, digest, &signed, b"a module"), Ok(signer));
        signatures.trust(&[(key.public().id, key.public())].into());
        assert_eq!(signatures.signer(digest, Some(&signed)), Ok(signer), "the same keys");
        signatures.trust(&BTreeMap::new());
        assert_eq!(signatures.signer(digest, Some(&signed)), Ok(None));
        // Another key with the same id.
        let other = SignerKey { key: [9; 32], ..key.public() };
        signatures.trust(&[(other.id, other)].into());
        assert_eq!(signatures.signer(digest, Some(&signed)), Err(NotVerified));
        assert_eq!(found(&signatures, digest, &signed, b"a module"), Ok(None));
    }

    #[test]
    fn a_key_that_the_policy_does_not_name_signs_nothing() {
        let keys = [(); 2].map(|()| SecretKey::generate().expect("random bytes"));
        let signatures = signatures(&keys[0].public());
        let digest = muster_module::digest(b"a module");
        let strange = keys[1].sign(b"a module", "it").expect("a signature");
        assert_eq!(signatures.signer(digest, Some(&strange)), Ok(None), "nothing is fetched");
    }
}
