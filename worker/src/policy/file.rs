//! The policy file as people write it. Never decides what is granted.

use muster_protocol::{Digest, GroupName, grant::HttpRule, signature::SignerKey};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

/// The contents of a policy file. `setup/policy.toml` is an example with every key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// Whether tasks may have environment variables.
    pub env: Option<bool>,
    /// Whether tasks may have the machine's random numbers.
    pub random: Option<bool>,
    /// The finest clock that tasks may have, in nanoseconds.
    pub clock_ns: Option<u64>,
    /// The most scratch space of one attempt, in MiB.
    pub dir_mib: Option<u64>,
    /// The hosts to which tasks may send HTTP requests.
    pub http: BTreeSet<HttpRule>,
    /// The secrets, by name.
    pub secrets: BTreeMap<String, SecretEntry>,
    /// The modules that may run.
    pub modules: Modules,
    /// The limits of compilation.
    pub compile: Compile,
}

/// A secret: the path of its file, or a table that also says who may have it.
#[derive(Debug)]
pub(super) struct SecretEntry {
    pub file: PathBuf,
    /// The modules that may have it. Without this and `signers`, every module may.
    pub modules: Option<BTreeSet<Digest>>,
    /// The keys of which one must have signed the module.
    pub signers: Option<BTreeSet<SignerKey>>,
    /// The groups of the worker in which it has the secret; every group if absent.
    pub groups: Option<BTreeSet<GroupName>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretTable {
    file: PathBuf,
    modules: Option<BTreeSet<Digest>>,
    signers: Option<BTreeSet<SignerKey>>,
    groups: Option<BTreeSet<GroupName>>,
}

impl<'de> Deserialize<'de> for SecretEntry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Written)
    }
}

/// Reads either form. An error names what is wrong in a table, which an untagged enum does not.
struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = SecretEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path of a file, or a table with `file`")
    }

    fn visit_str<E>(self, path: &str) -> Result<SecretEntry, E> {
        let (modules, signers, groups) = Default::default();
        Ok(SecretEntry { file: path.into(), modules, signers, groups })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretEntry, A::Error> {
        let table = SecretTable::deserialize(MapAccessDeserializer::new(map))?;
        let SecretTable { file, modules, signers, groups } = table;
        Ok(SecretEntry { file, modules, signers, groups })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Modules {
    /// The keys of which one must have signed each module; every module may run if absent.
    pub signers: Option<BTreeSet<SignerKey>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Compile {
    /// The timeout, in seconds.
    pub seconds: Option<u64>,
    /// The memory limit, in MiB.
    pub memory_mib: Option<u64>,
}
