//! What the worker's process can still reach once it runs, as the kernel's Landlock keeps it: what it
//! needs and nothing else. Never decides what a guest may have, which is less.
//!
//! A guest that broke out of the runtime would be code in this process. It would find the worker's
//! own state and key, and a network to dial: no other file to write, no program to start but the
//! worker's own, no TCP port to listen on, no process outside to send a signal to.
//!
//! A domain holds for the thread that enters it and for what that thread starts, so that it is entered
//! before there is any other thread, and by each life anew.

use crate::{
    config::{Config, Confine},
    policy,
};
use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use rustix::thread::set_no_new_privs;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// What is asked of the kernel: files since Linux 5.13, TCP ports since 6.7, signals and abstract
/// sockets since 6.12. Of what it does not have, nothing is enforced.
const WANTED: ABI = ABI::V6;

/// Where the system keeps what programs read. Whole directories, because files like `resolv.conf` are
/// replaced while a worker runs, and a rule is about a file and not about its name.
const SYSTEM: [&str; 15] = [
    // Libraries, and those that name resolution loads later; certificates of authorities.
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/etc",
    // Where `/etc/resolv.conf` leads to.
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/connman",
    // This process, this boot, and how many processors it may use.
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/urandom",
    "/dev/random",
];

/// Where certificates of authorities are, if someone has put them elsewhere.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The null device is written to by whoever starts a process without a standard stream.
const NULL: &str = "/dev/null";

/// What may be done in the state directory: files, directories and links, as guests' own scratch
/// space may have them. No devices, pipes or sockets, and nothing in it is a program.
const KEEP: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir
    | Refer
});

/// What writing a file so that its reader sees all or nothing takes.
const REPLACE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});

/// How far the kernel enforces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enforced {
    Fully,
    Partly,
    /// The kernel has no Landlock.
    Not,
    /// Nobody wanted it.
    Off,
}

impl Enforced {
    /// Says so in the log.
    pub(crate) fn tell(self) {
        match self {
            Enforced::Fully => tracing::info!("confined fully: files, TCP ports, signals"),
            Enforced::Partly => {
                tracing::warn!("confined partly: all of it takes Linux 6.12 with Landlock");
            }
            Enforced::Not => {
                tracing::warn!("confined not at all: the kernel has no Landlock, or not enabled");
            }
            Enforced::Off => tracing::info!("not confined, as was wanted"),
        }
    }
}

/// Confines the worker that `config` describes: this thread, and all that it will start.
pub(crate) fn worker(config: &Config) -> anyhow::Result<Enforced> {
    if config.confine == Confine::Off {
        return Ok(Enforced::Off);
    }
    set_no_new_privs(true).context("the kernel does not take away new privileges")?;
    let enforced = enter(&Files::of(config)).context("this process cannot be confined")?;
    if config.confine == Confine::Require && enforced != Enforced::Fully {
        bail!(
            "--confine require: the kernel does not enforce all of it, which takes Linux 6.12 with \
             Landlock among its security modules; update it, or start with --confine try"
        );
    }
    Ok(enforced)
}

/// Confines a process that needs nothing but what it has open. As far as the kernel can: what it
/// does besides is the caller's.
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
    /// Makes what has to be there for a rule to be about it. What cannot be made is not reached, and
    /// whoever needs it says so.
    fn of(config: &Config) -> Self {
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
        read.extend([config.ca.clone(), config.cert.clone(), config.key.clone()]);
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

/// This executable, which compiles as a child, and what loads it.
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
