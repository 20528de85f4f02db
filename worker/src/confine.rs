//! Confines the worker's process by Landlock and seccomp to the files, ports, sockets and processes that
//! it needs. Never decides what a guest may use, which is less.
//!
//! A guest that broke out of the runtime would be code in this process. It would find the worker's own
//! state, the key of its certificate and the values of its secrets in memory, and could send UDP anywhere
//! and TCP to a few ports. It could write no other file, read no other program's files or arguments, start
//! no other program, listen on no TCP port but that of --http, reach no program by a Unix socket, and signal no process
//! outside.
//!
//! A Landlock domain and a filter hold for the thread that enters them and for everything that this thread
//! starts. So each worker process enters them before it has a second thread.

mod sockets;
mod system;

use crate::{
    config::{Config, Confine},
    policy::Rules,
};
use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, NetPort, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags,
    path_beneath_rules,
};
use muster_wire::{nats::Access, otlp::Collector};
use rustix::{
    process::geteuid,
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The Landlock features to use: files since Linux 5.13, TCP ports since 6.7, signals and abstract
/// sockets since 6.12. A kernel that lacks a feature does not enforce it.
const WANTED: ABI = ABI::V6;

/// The TCP port of servers of names, which are asked by TCP if an answer is too large for UDP.
const NAMES_PORT: u16 = 53;

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
            Enforced::Fully => tracing::info!("confined fully: files, sockets, TCP ports, signals"),
            Enforced::Partly => {
                tracing::warn!(
                    "confined partly: all of it takes Linux 6.12 with Landlock and seccomp"
                );
            }
            Enforced::Not => {
                tracing::warn!("confined not at all: the kernel has no Landlock, or not enabled");
            }
            Enforced::Off => tracing::info!("not confined, because of --confine off"),
        }
    }
}

/// A worker's confinement.
#[derive(Clone, Debug)]
pub(crate) struct Confined {
    /// How far the kernel enforces it.
    pub enforced: Enforced,
    resolver: Vec<PathBuf>,
}

impl Confined {
    /// The first file of name resolution that this process could read when it began and may not read any
    /// more, because another file was put in its place. Names cannot be resolved as the host says then.
    pub(crate) fn replaced(&self) -> Option<&Path> {
        self.resolver.iter().find(|path| system::is_denied(path)).map(PathBuf::as_path)
    }
}

/// Refuses to be root without `--allow-root`.
pub(crate) fn check_user(config: &Config) -> anyhow::Result<()> {
    if geteuid().is_root() && !config.allow_root {
        bail!(
            "a worker is not to run as root, since a guest that broke out of its sandbox would then be \
             root: start it as a user of its own who may write to {}, as deploy/systemd/muster-worker.service does, \
             or pass --allow-root",
            config.state_dir.display()
        );
    }
    Ok(())
}

/// Confines the worker that `config` describes: this thread, and all that it will start. Files that are
/// read only once were read before.
pub(crate) fn worker(
    config: &Config,
    nats: Option<&Access>,
    rules: &Rules,
    masters: &[String],
) -> anyhow::Result<Confined> {
    if config.confine == Confine::Off {
        return Ok(Confined { enforced: Enforced::Off, resolver: Vec::new() });
    }
    set_no_new_privs(true).context("the kernel does not take away new privileges")?;
    drop_capabilities().context("the kernel does not take away capabilities")?;
    let resolver = system::resolver();
    let reach = Reach::of(config, nats, rules, masters);
    system::pin();
    let enforced = enter(&reach).context("this process cannot be confined")?;
    if config.confine == Confine::Require && enforced != Enforced::Fully {
        bail!(
            "--confine require: the kernel does not enforce all of it, which takes Linux 6.12 with \
             Landlock among its security modules, and seccomp; update it, or start with --confine try"
        );
    }
    Ok(Confined { enforced, resolver })
}

/// Gives up what root may do beyond being the owner of its files. No program that is started gets it back,
/// since there are no new privileges.
fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    if capabilities(None)?.permitted == none {
        return Ok(());
    }
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
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

/// What a worker needs.
#[derive(Default)]
struct Reach {
    read: Vec<PathBuf>,
    run: Vec<PathBuf>,
    keep: Vec<PathBuf>,
    replace: Vec<PathBuf>,
    /// The TCP ports to connect to, at any address; `None` for all ports.
    ports: Option<BTreeSet<u16>>,
}

impl Reach {
    /// Creates the state directory, since a rule needs an existing one. If that fails the directory is not reachable, and
    /// the code that needs it reports the error.
    fn of(config: &Config, nats: Option<&Access>, rules: &Rules, masters: &[String]) -> Self {
        let _ = fs::create_dir_all(&config.state_dir);
        let ready = config.ready_file.as_deref().map(|file| match file.parent() {
            Some(dir) if dir != Path::new("") => dir.into(),
            _ => PathBuf::from("."),
        });
        let mut read = system::files();
        // Read again for each connection to NATS.
        read.extend(nats.into_iter().flat_map(Access::files).map(PathBuf::from));
        Reach {
            read,
            run: programs(),
            keep: vec![config.state_dir.clone()],
            replace: ready.into_iter().collect(),
            ports: ports(nats, rules, masters, config.collector().as_ref()),
        }
    }
}

/// The TCP ports of the NATS servers that are named, of the HTTP requests that the policy allows, of the collector of
/// traces, of servers of names, and of masters, which are reached by TCP where UDP is blocked.
fn ports(
    nats: Option<&Access>,
    rules: &Rules,
    masters: &[String],
    collector: Option<&Collector>,
) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::from([NAMES_PORT]);
    ports.extend(collector.map(Collector::port));
    let port = |master: &String| master.rsplit_once(':')?.1.parse::<u16>().ok();
    ports.extend(masters.iter().filter_map(port));
    ports.extend(nats.into_iter().flat_map(|nats| nats.address().servers()).map(|url| url.port()));
    for rule in &rules.policy.http {
        ports.extend(rule.ports()?);
    }
    Some(ports)
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

fn enter(reach: &Reach) -> Result<Enforced, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let net = match reach.ports {
        Some(_) => AccessNet::BindTcp | AccessNet::ConnectTcp,
        None => AccessNet::BindTcp.into(),
    };
    let port = |port: &u16| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp));
    let status: RestrictionStatus = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(net)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(&reach.read, read))?
        .add_rules(path_beneath_rules(&reach.run, AccessFs::ReadFile | AccessFs::Execute))?
        .add_rules(path_beneath_rules(&reach.keep, KEEP))?
        .add_rules(path_beneath_rules(&reach.replace, REPLACE))?
        .add_rules(path_beneath_rules([NULL], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(reach.ports.iter().flatten().map(port))?
        .restrict_self()?;
    let sockets = sockets::close();
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced if sockets => Enforced::Fully,
        RulesetStatus::NotEnforced if !sockets => Enforced::Not,
        _ => Enforced::Partly,
    })
}

#[cfg(test)]
mod tests;
