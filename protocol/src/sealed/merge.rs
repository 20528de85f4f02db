//! What a worker's policy becomes with the secrets that the registry keeps for the worker. Never replaces what the
//! policy's file says.

use crate::{
    entitlement::Entitlement,
    grant::{GRANTS_MAX, Policy, SecretName, SecretTerms},
    lease::Lease,
    limit::LEASE_DRAFT_MAX,
    record,
    signature::{KeyId, SignerKey},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

/// A policy with sealed secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The policy, as the lease tells it.
    pub policy: Policy,
    /// The keys of signers that it names.
    pub keys: BTreeMap<KeyId, SignerKey>,
    /// The sealed secrets in it.
    pub sealed: BTreeSet<SecretName>,
    /// Those that are not in it, and why.
    pub left_out: Vec<(SecretName, LeftOut)>,
}

/// Why a worker does not offer a secret that the registry keeps for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// Its operator has given it a secret of this name.
    #[error("the policy of this worker has a file of the same name, which counts")]
    File,
    /// It would be more than its certificate permits.
    #[error("the certificate of this worker does not permit it")]
    NotPermitted,
    /// A master has sent a rule that is none.
    #[error("{0}")]
    Rule(String),
    /// Whoever makes a key chooses its id.
    #[error("the policy of this worker names another key with the id {0}")]
    OtherKey(KeyId),
    /// Every renewal carries the policy.
    #[error(
        "the lease of this worker would be too large; name fewer modules, or keys instead of modules"
    )]
    Full,
}

/// Adds sealed secrets to the policy in `draft`, which is that of the file. `keys` are the keys of signers that the
/// file names.
pub fn merge(
    draft: &Lease,
    keys: &BTreeMap<KeyId, SignerKey>,
    entitlement: &Entitlement,
    terms: &[SecretTerms],
) -> Merged {
    let mut lease = draft.clone();
    let (mut keys, mut sealed, mut left_out) = (keys.clone(), BTreeSet::new(), Vec::new());
    for terms in terms {
        match with(&lease, &keys, entitlement, terms) {
            Ok((larger, all)) => {
                (lease, keys) = (larger, all);
                sealed.insert(terms.name.clone());
            }
            // A second mention of one that was taken in.
            Err(LeftOut::File) if sealed.contains(&terms.name) => {}
            Err(why) => left_out.push((terms.name.clone(), why)),
        }
    }
    Merged { policy: Policy::clone(&lease.offer.policy), keys, sealed, left_out }
}

/// A lease, and the keys that its policy names.
type Named = (Lease, BTreeMap<KeyId, SignerKey>);

/// The lease with one more secret in its policy.
fn with(
    lease: &Lease,
    keys: &BTreeMap<KeyId, SignerKey>,
    entitlement: &Entitlement,
    terms: &SecretTerms,
) -> Result<Named, LeftOut> {
    let name = terms.name.to_string();
    let (mut policy, mut keys) = (Policy::clone(&lease.offer.policy), keys.clone());
    if !policy.secrets.insert(name.clone()) {
        return Err(LeftOut::File);
    }
    if !entitlement.secrets.has(&name) {
        return Err(LeftOut::NotPermitted);
    }
    if policy.secrets.len() > GRANTS_MAX {
        return Err(LeftOut::Full);
    }
    if let Some(rule) = &terms.rule {
        rule.check().map_err(LeftOut::Rule)?;
        for &signer in &rule.signers {
            if keys.insert(signer.id, signer).is_some_and(|known| known != signer) {
                return Err(LeftOut::OtherKey(signer.id));
            }
        }
        policy.secret_modules.insert(name, rule.modules());
    }
    let mut lease = lease.clone();
    lease.offer.policy = Arc::new(policy);
    let size = record::write(&lease).map_or(usize::MAX, |text| text.len());
    if size > LEASE_DRAFT_MAX { Err(LeftOut::Full) } else { Ok((lease, keys)) }
}
