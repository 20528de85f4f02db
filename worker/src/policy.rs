//! The worker's own policy: the most that any task may be granted here. Only the operator of the host
//! ever writes it, and nothing of it is sent anywhere except for what it permits.

use anyhow::{Context as _, bail};
use muster_protocol::grant::{GRANTS_MAX, Grants, HttpRule, Policy, SCRATCH_MAX, TEXT_MAX};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The timeout of a compilation. Python, the largest guest known, takes half a minute on two busy
/// processors; an edge host may have a quarter of their speed.
const COMPILE_WITHIN: Duration = Duration::from_secs(120);

/// The memory limit of a compilation, in MiB. Python, the largest guest known, takes 600 MiB.
const COMPILE_MEMORY_MIB: u64 = 2_048;

/// The contents of a policy file. `setup/policy.toml` is an example with every key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    /// Whether tasks may have environment variables.
    env: Option<bool>,
    /// Whether tasks may have the machine's random numbers.
    random: Option<bool>,
    /// The finest clock that tasks may have, in nanoseconds.
    clock_ns: Option<u64>,
    /// The most scratch space of one attempt, in MiB.
    dir_mib: Option<u64>,
    /// The hosts to which tasks may send HTTP requests.
    http: BTreeSet<HttpRule>,
    /// The file of each secret, by the secret's name.
    secrets: BTreeMap<String, PathBuf>,
    /// The limits of compilation.
    compile: Compile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Compile {
    /// The timeout, in seconds.
    seconds: Option<u64>,
    /// The memory limit, in MiB.
    memory_mib: Option<u64>,
}

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
        let mut secrets = Secrets::default();
        for (name, path) in &file.secrets {
            let secret = secret(path).with_context(|| {
                format!("the secret {name} in {} cannot be read", path.display())
            })?;
            secrets.0.insert(name.clone(), secret);
        }
        // Refuse a name that no task could request: it would never match.
        let names = Grants { secrets: secrets.0.keys().cloned().collect(), ..Grants::default() };
        names.check().map_err(anyhow::Error::msg)?;
        Ok(Rules {
            policy: Policy {
                env: file.env.unwrap_or(default.policy.env),
                secrets: names.secrets,
                http: file.http,
                dir_bytes,
                clock_ns: file.clock_ns.unwrap_or(default.policy.clock_ns).max(1),
                random: file.random.unwrap_or(default.policy.random),
            },
            secrets,
            compile_within: within.unwrap_or(default.compile_within),
            compile_memory: memory.unwrap_or(default.compile_memory),
        })
    }

    /// The values of the secrets that a task requests; an error says which request the policy denies.
    pub(crate) fn grant(&self, grants: &Grants) -> Result<Secrets, String> {
        if let Some(denial) = self.policy.denies(&grants.requested()) {
            return Err(format!("the policy of this worker {denial}"));
        }
        let value = |name: &String| Some((name.clone(), self.secrets.0.get(name)?.clone()));
        Ok(Secrets(grants.secrets.iter().filter_map(value).collect()))
    }
}

/// A secret as its file has it, without the final line break that editors add.
fn secret(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.len() > TEXT_MAX || text.contains('\0') {
        bail!("it is longer than {TEXT_MAX} bytes or has a zero byte");
    }
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
        assert_eq!(rules.grant(&asks), Ok(Secrets([("KEY".into(), "hush".into())].into())));
        let asks = Grants { random: true, ..Grants::default() };
        assert_eq!(
            rules.grant(&asks),
            Err("the policy of this worker has no random numbers".into())
        );
        assert!(!format!("{rules:?}").contains("hush"));
        fs::remove_file(&path).expect("it is ours");
        let error = Rules::parse(&text).expect_err("the secret is gone");
        assert!(format!("{error:#}").contains("secret KEY"), "{error:#}");
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
        let all: File = toml::from_str(&all.replace("\n#API", "\nAPI")).expect("what it proposes");
        assert_eq!((all.http.len(), all.secrets.len()), (3, 1));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "http = ['http://example.com']",
            "htp = []",
            "dir_mib = 1000000",
            "[compile]\nseconds = 0",
            "[secrets]\n'A=B' = '/dev/null'",
        ] {
            assert!(Rules::parse(bad).is_err(), "{bad}");
        }
    }
}
