//! Confines the worker's process by Landlock to the files, ports and processes that it needs. Never
//! decides what a guest may use, which is less.
//!
//! A guest that broke out of the runtime would be code in this process. It would find the worker's own
//! state and key, and a network to dial. It could write no other file, start no other program, listen
//! on no TCP port and signal no process outside.
//!
//! A Landlock domain holds for the thread that enters it and for everything that this thread starts. So
//! each worker process enters its domain before it has a second thread.

use crate::{
    config::{Config, Confine},
    policy,
};
use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use muster_wire::nats::Access;
use rustix::thread::set_no_new_privs;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// The Landlock features to use: files since Linux 5.13, TCP ports since 6.7, signals and abstract
/// sockets since 6.12. A kernel that lacks a feature does not enforce it.
const WANTED: ABI = ABI::V6;

/// Files of the system that programs read. Whole directories, because files like `resolv.conf` are
/// replaced while a worker runs, and a rule applies to a file and not to its name.
const SYSTEM: [&str; 15] = [
    // Libraries, including those that name resolution loads later; certificates of authorities.
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc",
    // The targets of the symbolic link `/etc/resolv.conf`.
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/connman",
    // This process, this boot, and how many processors this process may use.
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/urandom",
    "/dev/random",
];

/// Variables that name another place for certificates of authorities.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The null device: a process that is started without a standard stream gets this instead.
const NULL: &str = "/dev/null";

/// Rights in the state directory: files, directories and links, which guests' scratch directories need,
/// too. No devices, pipes or sockets, and no execution.
const KEEP: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir
    | Refer
});

/// The rights needed to write a file atomically: write a draft, then rename it.
const REPLACE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});

/// How far the kernel enforces the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enforced {
    Fully,
    Partly,
    /// The kernel has no Landlock.
    Not,
    /// The configuration says `off`.
    Off,
}

impl Enforced {
    /// Logs how far the kernel enforces the domain.
    pub(crate) fn tell(self) {
        match self {
            Enforced::Fully => tracing::info!("confined fully: files, TCP ports, signals"),
            Enforced::Partly => {
                tracing::warn!("confined partly: all of it takes Linux 6.12 with Landlock");
            }
            Enforced::Not => {
                tracing::warn!("confined not at all: the kernel has no Landlock, or not enabled");
            }
            Enforced::Off => tracing::info!("not confined, because of --confine off"),
        }
    }
}

/// Confines the worker that `config` describes: this thread, and all that it will start.
pub(crate) fn worker(config: &Config, nats: Option<&Access>) -> anyhow::Result<Enforced> {
    if config.confine == Confine::Off {
        return Ok(Enforced::Off);
    }
    set_no_new_privs(true).context("the kernel does not take away new privileges")?;
    let enforced = enter(&Files::of(config, nats)).context("this process cannot be confined")?;
    if config.confine == Confine::Require && enforced != Enforced::Fully {
        bail!(
            "--confine require: the kernel does not enforce all of it, which takes Linux 6.12 with \
             Landlock among its security modules; update it, or start with --confine try"
        );
    }
    Ok(enforced)
}

/// Confines a process that needs nothing but the files it has open, as far as the kernel can. Other
/// limits are up to the caller.
pub(crate) fn shut() -> Result<(), RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?;
    ruleset.create()?.restrict_self().map(|_| ())
}

/// The files that a worker needs.
#[derive(Default)]
struct Files {
    read: Vec<PathBuf>,
    run: Vec<PathBuf>,
    keep: Vec<PathBuf>,
    replace: Vec<PathBuf>,
    append: Vec<PathBuf>,
}

impl Files {
    /// Creates the state directory and the journal, since a rule needs an existing file. If that fails
    /// the file is not reachable, and the code that needs it reports the error.
    fn of(config: &Config, nats: Option<&Access>) -> Self {
        let _ = fs::create_dir_all(&config.state_dir);
        if let Some(journal) = &config.journal {
            let _ = File::options().append(true).create(true).open(journal);
        }
        let ready = config.ready_file.as_deref().map(|file| match file.parent() {
            Some(dir) if dir != Path::new("") => dir.into(),
            _ => PathBuf::from("."),
        });
        let mut read: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        read.extend(CERTIFICATES.iter().filter_map(|name| std::env::var_os(name).map(Into::into)));
        read.extend([&config.ca, &config.cert, &config.key].into_iter().flatten().cloned());
        let token = config.join.as_deref().and_then(|join| join.strip_prefix('@'));
        read.extend(token.map(PathBuf::from));
        read.extend(nats.into_iter().flat_map(Access::files).map(PathBuf::from));
        read.extend(config.policy.iter().flat_map(|path| policy::files(path)));
        Files {
            read,
            run: programs(),
            keep: vec![config.state_dir.clone()],
            replace: ready.into_iter().collect(),
            append: config.journal.iter().cloned().collect(),
        }
    }
}

/// This executable, since the worker compiles in a child, and the dynamic loader that loads it.
fn programs() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let loader = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let is_loader = |path: &&Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("ld-") || name.starts_with("ld.so")
    };
    let loader = loader.filter(is_loader).map(PathBuf::from).next();
    std::iter::once(PathBuf::from("/proc/self/exe")).chain(loader).collect()
}

fn enter(reach: &Files) -> Result<Enforced, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let status: RestrictionStatus = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(&reach.read, read))?
        .add_rules(path_beneath_rules(&reach.run, AccessFs::ReadFile | AccessFs::Execute))?
        .add_rules(path_beneath_rules(&reach.keep, KEEP))?
        .add_rules(path_beneath_rules(&reach.replace, REPLACE))?
        .add_rules(path_beneath_rules(&reach.append, AccessFs::WriteFile))?
        .add_rules(path_beneath_rules([NULL], AccessFs::ReadFile | AccessFs::WriteFile))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}

#[cfg(test)]
mod tests;
