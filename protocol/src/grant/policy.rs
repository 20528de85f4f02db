//! What a worker's policy allows, and what of a task it looks at. A worker decides by it before each run, and
//! masters by the copy in its lease before they place a task there.

use super::{CLOCK_DEFAULT, Grants, HttpRule};
use crate::{Digest, signature::KeyId};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// The grants that a task asks for, and its module, as far as they decide where it may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestedGrants {
    env: bool,
    secrets: BTreeSet<String>,
    http: BTreeSet<HttpRule>,
    dir_bytes: u64,
    /// Absent if the coarse clock is enough, which no policy denies.
    finer_ns: Option<u64>,
    random: bool,
    /// Absent where the module is not asked about.
    module: Option<RequestedModule>,
}

/// A module, as far as policies look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RequestedModule {
    /// Its digest; absent where the task asks for no secret, since nothing else depends on it. Tasks that ask for
    /// the same are placed as one class.
    digest: Option<Digest>,
    /// The key that signed it.
    signer: Option<KeyId>,
}

impl Grants {
    /// The part that a policy may deny: everything but the values of variables, and the module. `signer` is the
    /// key that signed the module: a master takes what the signature says, a worker has verified it.
    pub fn requested(&self, module: Digest, signer: Option<KeyId>) -> RequestedGrants {
        let digest = (!self.secrets.is_empty()).then_some(module);
        RequestedGrants {
            env: !self.env.is_empty(),
            secrets: self.secrets.clone(),
            http: self.http.clone(),
            dir_bytes: self.dir_bytes,
            finer_ns: (self.clock_ns < CLOCK_DEFAULT.as_nanos() as u64).then_some(self.clock_ns),
            random: self.random,
            module: Some(RequestedModule { digest, signer }),
        }
    }
}

/// Which modules: those with one of these digests, and those that one of these keys has signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct ModuleRule {
    /// The digests.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub digests: BTreeSet<Digest>,
    /// The keys of signers.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub signers: BTreeSet<KeyId>,
}

impl ModuleRule {
    /// Whether it names a module that one of these keys has signed; a digest that is absent is not asked about.
    pub(super) fn permits(&self, digest: Option<Digest>, signer: Option<KeyId>) -> bool {
        digest.is_some_and(|digest| self.digests.contains(&digest))
            || signer.is_some_and(|signer| self.signers.contains(&signer))
    }

    fn names(&self, module: &RequestedModule) -> bool {
        self.permits(module.digest, module.signer)
    }
}

/// What a worker grants to tasks. It is part of the worker's lease, so that masters place tasks
/// accordingly. The worker checks the policy again before each run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Whether tasks may have environment variables.
    pub env: bool,
    /// The secrets it keeps for tasks.
    pub secrets: BTreeSet<String>,
    /// The modules that may have a secret, by its name. A secret that is not named here is for every module.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_modules: BTreeMap<String, ModuleRule>,
    /// The keys of which one must have signed a module; empty if every module may run.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub signers: BTreeSet<KeyId>,
    /// Where tasks may send HTTP requests.
    pub http: BTreeSet<HttpRule>,
    /// The most scratch space of one attempt, in bytes.
    pub dir_bytes: u64,
    /// The finest clock, in nanoseconds.
    pub clock_ns: u64,
    /// Whether tasks may have the machine's random numbers.
    pub random: bool,
}

/// The policy of a worker without a policy file: nothing that reaches beyond the sandbox.
impl Default for Policy {
    fn default() -> Self {
        Policy {
            env: true,
            secrets: BTreeSet::new(),
            secret_modules: BTreeMap::new(),
            signers: BTreeSet::new(),
            http: BTreeSet::new(),
            dir_bytes: 0,
            clock_ns: 1_000,
            random: true,
        }
    }
}

impl Policy {
    /// Why the policy denies the module, or the grants that a task asks for, as a text that continues a
    /// sentence after "the policy"; `None` if it denies nothing.
    pub fn denies(&self, wants: &RequestedGrants) -> Option<String> {
        if let Some(module) = &wants.module
            && let Some(denial) = self.denies_module(module)
        {
            return Some(denial);
        }
        if wants.env && !self.env {
            return Some("has no environment variables".into());
        }
        if let Some(secret) = wants.secrets.iter().find(|secret| !self.secrets.contains(*secret)) {
            return Some(format!("has no secret {secret}"));
        }
        if let Some(secret) = self.kept_from(wants) {
            return Some(format!(
                "keeps the secret {secret} for other modules: use one of them, or let the operator of the \
                 worker add the digest of this module or the key of its signer there"
            ));
        }
        if let Some(rule) = wants.http.iter().find(|rule| !self.permits(rule)) {
            return Some(format!("does not allow HTTP to {rule}"));
        }
        if wants.dir_bytes > self.dir_bytes {
            return Some(match self.dir_bytes {
                0 => "has no scratch directories".into(),
                most => format!(
                    "allows a scratch directory of {most} bytes, not of {}",
                    wants.dir_bytes
                ),
            });
        }
        if let Some(finer) = wants.finer_ns.filter(|&finer| finer < self.clock_ns) {
            let most = self.clock_ns;
            return Some(format!("allows a clock of {most} ns, not of {finer} ns"));
        }
        if wants.random && !self.random {
            return Some("has no random numbers".into());
        }
        None
    }

    /// Why the policy denies a module, whatever its task asks for.
    fn denies_module(&self, module: &RequestedModule) -> Option<String> {
        let signed = |signer: KeyId| self.signers.contains(&signer);
        if self.signers.is_empty() || module.signer.is_some_and(signed) {
            return None;
        }
        let keys: Vec<String> = self.signers.iter().map(|key| format!("{key}")).collect();
        Some(format!(
            "demands a module that is signed by one of the keys {}: push it with --sign, and run it by its name",
            keys.join(", ")
        ))
    }

    /// The first secret that the task asks for and that its module may not have.
    fn kept_from<'a>(&self, wants: &'a RequestedGrants) -> Option<&'a String> {
        let may_have = |secret: &String| {
            let rule = self.secret_modules.get(secret);
            let named =
                |rule| wants.module.as_ref().is_some_and(|module| ModuleRule::names(rule, module));
            rule.is_none_or(named)
        };
        wants.secrets.iter().find(|secret| !may_have(secret))
    }

    fn permits(&self, rule: &HttpRule) -> bool {
        self.http.iter().any(|mine| mine.covers(rule))
    }
}
