//! The worker's own policy: the most that any task may be granted here. Only the operator of the host
//! ever writes it, and nothing of it is sent anywhere except for what it permits.

mod file;

use anyhow::{Context as _, bail};
use file::{File, SecretEntry};
use muster_protocol::{
    Digest, GroupName,
    grant::{GRANTS_MAX, Grants, ModuleRule, Policy, SCRATCH_MAX, SecretName, check_value},
    limit::SIGNERS_MAX,
    sealed::Merged,
    signature::{KeyId, SignerKey},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The timeout of a compilation. Python, the largest guest known, takes half a minute on two busy
/// processors; an edge host may have a quarter of their speed.
const COMPILE_WITHIN: Duration = Duration::from_secs(120);

/// The memory limit of a compilation, in MiB. Python, the largest guest known, takes 600 MiB.
const COMPILE_MEMORY_MIB: u64 = 2_048;

/// The values of secrets by name. They are shown nowhere; only a guest gets them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A worker's policy, with the values of its secrets.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The part of the policy that the lease tells masters.
    pub policy: Policy,
    secrets: Secrets,
    /// The secrets in it that the registry keeps: their values are not here.
    sealed: BTreeSet<SecretName>,
    /// The groups in which the worker has a secret, by the secret's name; in every group without an entry.
    groups: BTreeMap<String, BTreeSet<GroupName>>,
    /// The keys that the policy names. No two have the same id.
    pub(crate) keys: BTreeMap<KeyId, SignerKey>,
    /// The timeout of a compilation.
    pub compile_within: Duration,
    /// The memory limit of a compilation, in bytes.
    pub compile_memory: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            policy: Policy::default(),
            secrets: Secrets::default(),
            sealed: BTreeSet::new(),
            groups: BTreeMap::new(),
            keys: BTreeMap::new(),
            compile_within: COMPILE_WITHIN,
            compile_memory: COMPILE_MEMORY_MIB << 20,
        }
    }
}

impl Rules {
    /// Reads a policy file, and the files of its secrets. Later changes of these files have no effect.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("the policy {} cannot be read", path.display()))?;
        Rules::parse(&text).with_context(|| format!("the policy {} is wrong", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        if file.http.len() > GRANTS_MAX || file.secrets.len() > GRANTS_MAX {
            bail!("it may name at most {GRANTS_MAX} hosts and as many secrets");
        }
        let default = Rules::default();
        let dir_bytes = file.dir_mib.unwrap_or(0).saturating_mul(1 << 20);
        if dir_bytes > SCRATCH_MAX {
            bail!("dir_mib may be at most {}", SCRATCH_MAX >> 20);
        }
        let within = file.compile.seconds.map(Duration::from_secs);
        let memory = file.compile.memory_mib.map(|mib| mib.saturating_mul(1 << 20));
        if within.is_some_and(|within| within.is_zero()) || memory == Some(0) {
            bail!("compilation needs some time and some memory");
        }
        let (mut secrets, mut secret_modules) = (Secrets::default(), BTreeMap::new());
        let (mut groups, mut keys) = (BTreeMap::new(), Keys::default());
        for (name, SecretEntry { file, modules, signers, groups: of }) in file.secrets {
            let value = secret(&file).with_context(|| {
                format!("the secret {name} in {} cannot be read", file.display())
            })?;
            let is_for_all = modules.is_none() && signers.is_none();
            let named = || format!("the secret {name}");
            let digests = some(modules).with_context(named)?;
            let signers = keys.named(signers).with_context(named)?;
            if !is_for_all {
                secret_modules.insert(name.clone(), ModuleRule { digests, signers });
            }
            let of = some(of).with_context(named)?;
            if !of.is_empty() {
                groups.insert(name.clone(), of);
            }
            secrets.0.insert(name, value);
        }
        let signers = keys.named(file.modules.signers).context("[modules]")?;
        // Refuse a name that no task could request: it would never match.
        let names = Grants { secrets: secrets.0.keys().cloned().collect(), ..Grants::default() };
        names.check().map_err(anyhow::Error::msg)?;
        Ok(Rules {
            policy: Policy {
                env: file.env.unwrap_or(default.policy.env),
                secrets: names.secrets,
                secret_modules,
                signers,
                http: file.http,
                dir_bytes,
                clock_ns: file.clock_ns.unwrap_or(default.policy.clock_ns).max(1),
                random: file.random.unwrap_or(default.policy.random),
            },
            secrets,
            sealed: BTreeSet::new(),
            groups,
            keys: keys.0,
            compile_within: within.unwrap_or(default.compile_within),
            compile_memory: memory.unwrap_or(default.compile_memory),
        })
    }

    /// The same for a worker of this group: without the secrets of other groups.
    pub(crate) fn within(mut self, group: &GroupName) -> Self {
        for (name, groups) in std::mem::take(&mut self.groups) {
            if !groups.contains(group) {
                self.secrets.0.remove(&name);
                self.policy.secrets.remove(&name);
                self.policy.secret_modules.remove(&name);
            }
        }
        self
    }

    /// The same with secrets that the registry keeps.
    pub(crate) fn with_sealed(&self, merged: Merged) -> Self {
        let Merged { policy, keys, sealed, .. } = merged;
        Rules { policy, keys, sealed, ..self.clone() }
    }

    /// Why the policy denies an attempt; `None` if it does not. The signer of the module is verified.
    pub(crate) fn denies(
        &self,
        grants: &Grants,
        module: Digest,
        signer: Option<KeyId>,
    ) -> Option<String> {
        let denial = self.policy.denies(&grants.requested(module, signer))?;
        Some(format!("the policy of this worker {denial}"))
    }

    /// The secrets that a task requests; an error says what the policy denies. The signer of the module is verified.
    pub(crate) fn grant(
        &self,
        grants: &Grants,
        module: Digest,
        signer: Option<KeyId>,
    ) -> Result<GrantedSecrets, String> {
        if let Some(denial) = self.denies(grants, module, signer) {
            return Err(denial);
        }
        let value = |name: &String| Some((name.clone(), self.secrets.0.get(name)?.clone()));
        let values = Secrets(grants.secrets.iter().filter_map(value).collect());
        let is_asked = |name: &&SecretName| grants.secrets.contains(name.as_str());
        let sealed = self.sealed.iter().filter(is_asked).cloned().collect();
        Ok(GrantedSecrets { values, sealed })
    }
}

/// The secrets that a run is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrantedSecrets {
    /// Those of files, with their values.
    pub values: Secrets,
    /// Those that the registry keeps.
    pub sealed: Vec<SecretName>,
}

/// The policy that holds now: that of the file, with the secrets that the registry keeps. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PresentRules(Arc<Mutex<Arc<Rules>>>);

impl PresentRules {
    pub(crate) fn new(rules: Rules) -> Self {
        PresentRules(Arc::new(Mutex::new(Arc::new(rules))))
    }

    pub(crate) fn now(&self) -> Arc<Rules> {
        self.0.lock().expect("no holder of this lock panics").clone()
    }

    pub(crate) fn replace(&self, rules: Rules) {
        *self.0.lock().expect("no holder of this lock panics") = Arc::new(rules);
    }
}

/// The keys that a policy names, by their ids.
#[derive(Default)]
struct Keys(BTreeMap<KeyId, SignerKey>);

impl Keys {
    /// Takes in a list of keys. Returns their ids.
    fn named(&mut self, keys: Option<BTreeSet<SignerKey>>) -> anyhow::Result<BTreeSet<KeyId>> {
        let mut ids = BTreeSet::new();
        for key in some(keys)? {
            if self.0.insert(key.id, key).is_some_and(|other| other != key) {
                bail!("two keys have the id {}: one of their signers has to make another", key.id);
            }
            ids.insert(key.id);
        }
        Ok(ids)
    }
}

/// A list that is absent or has entries. An empty list would let nobody in, or everybody: it is refused.
fn some<T: Ord>(list: Option<BTreeSet<T>>) -> anyhow::Result<BTreeSet<T>> {
    match list {
        None => Ok(BTreeSet::new()),
        Some(list) if (1..=SIGNERS_MAX).contains(&list.len()) => Ok(list),
        Some(list) => bail!("a list has 1 to {SIGNERS_MAX} entries, not {}", list.len()),
    }
}

/// A secret as its file has it, without the final line break that editors add.
fn secret(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    check_value(text).map_err(|why| anyhow::anyhow!("it {why}"))?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_it_says_and_nothing_more() {
        let rules = Rules::parse("").expect("an empty policy");
        assert_eq!(rules.policy, Policy::default());
        let path = std::env::temp_dir().join(format!("muster-secret-{}", std::process::id()));
        fs::write(&path, "hush\n").expect("it is ours");
        let text = format!(
            "random = false\ndir_mib = 1\nhttp = ['*.example.com', '10.0.0.0/8:*']\n\
             [secrets]\nKEY = '{}'\n[compile]\nseconds = 5\n",
            path.display()
        );
        let rules = Rules::parse(&text).expect("a policy");
        assert!(rules.policy.env && !rules.policy.random);
        assert_eq!((rules.policy.dir_bytes, rules.policy.http.len()), (1 << 20, 2));
        assert_eq!(rules.compile_within, Duration::from_secs(5));
        let asks = Grants { secrets: ["KEY".into()].into(), ..Grants::default() };
        let hush = Secrets([("KEY".into(), "hush".into())].into());
        let granted = GrantedSecrets { values: hush, sealed: Vec::new() };
        assert_eq!(rules.grant(&asks, MODULE, None), Ok(granted));
        let asks = Grants { random: true, ..Grants::default() };
        assert_eq!(
            rules.grant(&asks, MODULE, None),
            Err("the policy of this worker has no random numbers".into())
        );
        assert!(!format!("{rules:?}").contains("hush"));
        fs::remove_file(&path).expect("it is ours");
        let error = Rules::parse(&text).expect_err("the secret is gone");
        assert!(format!("{error:#}").contains("secret KEY"), "{error:#}");
    }

    const MODULE: Digest = Digest([1; 32]);
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn a_secret_is_for_the_modules_signers_and_groups_that_its_table_names() {
        let text = format!(
            "[secrets]
            ALL = '/dev/null'
            ONE = {{ file = '/dev/null', modules = ['{MODULE}'] }}
            SIGNED = {{ file = '/dev/null', signers = ['{KEY}'] }}
            SHOPS = {{ file = '/dev/null', groups = ['shops'] }}"
        );
        let rules = Rules::parse(&text).expect("a policy");
        let signer = KEY.parse::<SignerKey>().expect("a key").id;
        let shops: GroupName = "shops".parse().expect("a name");
        let given = |rules: &Rules, name: &str, module, signer| {
            let asks = Grants { secrets: [name.into()].into(), ..Grants::default() };
            rules.grant(&asks, module, signer).is_ok()
        };
        let other = Digest([2; 32]);
        for (name, module, signer, is_given) in [
            ("ALL", other, None, true),
            ("ONE", MODULE, None, true),
            ("ONE", other, Some(signer), false),
            ("SIGNED", other, Some(signer), true),
            ("SIGNED", other, None, false),
        ] {
            assert_eq!(given(&rules, name, module, signer), is_given, "{name} {module:?}");
        }
        let of_shops = rules.clone().within(&shops);
        assert!(given(&of_shops, "SHOPS", other, None));
        let of_default = rules.within(&GroupName::default());
        assert!(
            !given(&of_default, "SHOPS", other, None) && given(&of_default, "ALL", other, None)
        );
        assert!(!of_default.policy.secrets.contains("SHOPS"), "masters are not told of it either");
    }

    #[test]
    fn a_policy_names_the_signers_of_all_modules() {
        let rules = Rules::parse(&format!("[modules]\nsigners = ['{KEY}']")).expect("a policy");
        let signer = KEY.parse::<SignerKey>().expect("a key").id;
        assert!(rules.grant(&Grants::default(), MODULE, Some(signer)).is_ok());
        let denial = rules.grant(&Grants::default(), MODULE, None).expect_err("it is not signed");
        assert!(denial.contains("demands a module that is signed"), "{denial}");
    }

    #[test]
    fn the_example_is_the_default_and_explains_every_key() {
        let text = include_str!("../../setup/policy.toml");
        let example = Rules::parse(text).expect("a policy");
        let default = Rules::default();
        assert_eq!(example.policy, default.policy);
        assert_eq!(example.compile_within, default.compile_within);
        assert_eq!(example.compile_memory, default.compile_memory);
        for key in ["env", "random", "clock_ns", "dir_mib", "http", "seconds", "memory_mib"] {
            let value = format!("\n{key} = ");
            assert!(text.contains(&value), "{key} is not in the example");
        }
        let all = text.replace("\nhttp = []", "").replace("\n#http", "\nhttp");
        let all = all.replace("\n#API", "\nAPI").replace("\n#signers", "\nsigners");
        let all: File = toml::from_str(&all).expect("what it proposes");
        assert_eq!((all.http.len(), all.secrets.len()), (3, 2));
        assert_eq!(all.modules.signers.map(|signers| signers.len()), Some(1));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "http = ['http://example.com']",
            "htp = []",
            "dir_mib = 1000000",
            "[compile]\nseconds = 0",
            "[secrets]\n'A=B' = '/dev/null'",
            "[secrets]\nA = { file = '/dev/null', modules = [] }",
            "[secrets]\nA = { file = '/dev/null', groups = [] }",
            "[secrets]\nA = { file = '/dev/null', module = ['x'] }",
            "[secrets]\nA = { modules = ['sha256:00'] }",
            "[modules]\nsigners = ['x']",
            "[modules]\nsigners = []",
            // Two keys of one id.
            "[modules]\nsigners = ['RWQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 'RWQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB']",
        ] {
            assert!(Rules::parse(bad).is_err(), "{bad}");
        }
    }
}
