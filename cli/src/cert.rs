//! `muster cert`: creates the certificate authority of a fleet, and certificates for its masters and
//! workers. Never replaces an authority, and never makes a key readable for other users.

use crate::{entitlement::EntitlementArgs, exit::Failure};
use clap::{Args, Subcommand};
use muster_protocol::{GroupName, MasterId, WorkerId, entitlement::Entitlement, subject::Names};
use muster_wire::{
    authority::{self, Authority, AuthorityError, Issued},
    process,
};
use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a certificate is valid by default.
const LEAF_DAYS: u32 = 365;

/// What to make.
#[derive(Subcommand)]
pub enum Command {
    /// Make a certificate authority: ca.pem for every host, and ca.key, which you keep secret
    Ca {
        /// Where to write them
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make a master's certificate: NAME.pem and NAME.key
    Master {
        /// The name of the master
        name: MasterId,
        #[command(flatten)]
        leaf: Leaf,
    },
    /// Make a worker's certificate: NAME.pem and NAME.key. It says what the worker may offer to tasks
    #[command(after_help = "Examples:
  muster cert worker shop-42 --dir tls --group shops --label region=eu
  muster cert worker vault-1 --dir tls --group vault --secret API_KEY --slots 4
  muster cert worker test --dir tls --group '*' --label '*' --secret '*'    permits everything")]
    Worker {
        /// The name of the worker
        name: WorkerId,
        #[command(flatten)]
        entitlement: EntitlementArgs,
        #[command(flatten)]
        leaf: Leaf,
    },
}

/// Where a certificate comes from and goes to.
#[derive(Args)]
pub struct Leaf {
    /// The directory of the certificate authority
    #[arg(long)]
    dir: PathBuf,
    /// Where to write them [default: the directory of the certificate authority]
    #[arg(long)]
    out: Option<PathBuf>,
    /// How many days it is valid
    #[arg(long, value_name = "N", default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
}

/// The files that a daemon needs.
#[derive(Clone, Debug)]
pub struct Files {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The daemon's certificate.
    pub cert: PathBuf,
    /// The daemon's key.
    pub key: PathBuf,
}

/// Runs the command.
pub fn run(command: Command, fleet: &GroupName) -> anyhow::Result<()> {
    let names = Names::new(fleet.clone());
    let made = match command {
        Command::Ca { dir } => {
            if dir.join("ca.key").exists() {
                let text = format!("{} already has a certificate authority", dir.display());
                let hint =
                    "every certificate of the fleet depends on it; to make a new one, move it away";
                return Err(Failure::user(text).hint(hint).into());
            }
            make_ca(&dir, fleet)?;
            vec![dir.join("ca.pem"), dir.join("ca.key")]
        }
        Command::Master { name, leaf } => {
            let out = leaf.out.as_ref().unwrap_or(&leaf.dir);
            let files = master(&leaf.dir, out, &names, &name, leaf.days)?;
            vec![files.cert, files.key]
        }
        Command::Worker { name, entitlement, leaf } => {
            let out = leaf.out.as_ref().unwrap_or(&leaf.dir);
            let files =
                worker(&leaf.dir, out, &names, &name, &entitlement.entitlement(), leaf.days)?;
            vec![files.cert, files.key]
        }
    };
    made.iter().try_for_each(|file| crate::output::line(&file.display().to_string()))
}

/// The authority in `dir`; made if there is none.
pub fn ensure_ca(dir: &Path, fleet: &GroupName) -> anyhow::Result<()> {
    if dir.join("ca.pem").exists() && dir.join("ca.key").exists() {
        return Ok(());
    }
    make_ca(dir, fleet)
}

fn make_ca(dir: &Path, fleet: &GroupName) -> anyhow::Result<()> {
    let made = authority::make(fleet)?;
    write(dir, "ca.key", &made.key, 0o600)?;
    write(dir, "ca.pem", &made.cert, 0o644)
}

/// The authority in `dir`.
fn authority_in(dir: &Path) -> anyhow::Result<Authority> {
    Authority::read(&dir.join("ca.pem"), &dir.join("ca.key")).map_err(|error| {
        let failure = Failure::user(error.to_string());
        let make =
            format!("make a certificate authority first: muster cert ca --dir {}", dir.display());
        if matches!(error, AuthorityError::File { .. }) { failure.hint(make) } else { failure }
            .into()
    })
}

/// A master's certificate, signed by the authority in `dir`.
pub fn master(
    dir: &Path,
    out: &Path,
    names: &Names,
    name: &MasterId,
    days: u32,
) -> anyhow::Result<Files> {
    let issued = authority_in(dir)?.master(names, name, lasting(days))?;
    files(dir, out, name.as_str(), &issued)
}

/// A worker's certificate, signed by the authority in `dir`.
pub fn worker(
    dir: &Path,
    out: &Path,
    names: &Names,
    name: &WorkerId,
    entitlement: &Entitlement,
    days: u32,
) -> anyhow::Result<Files> {
    let issued = authority_in(dir)?.worker(names, name, entitlement, lasting(days));
    let issued = issued.map_err(|error| Failure::user(error.to_string()))?;
    files(dir, out, name.as_str(), &issued)
}

fn lasting(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}

fn files(dir: &Path, out: &Path, name: &str, issued: &Issued) -> anyhow::Result<Files> {
    if name == "ca" {
        return Err(Failure::user("the name ca is reserved for the certificate authority").into());
    }
    let (key_file, cert_file) = (format!("{name}.key"), format!("{name}.pem"));
    write(out, &key_file, &issued.key, 0o600)?;
    write(out, &cert_file, &issued.cert, 0o644)?;
    Ok(Files { ca: dir.join("ca.pem"), cert: out.join(cert_file), key: out.join(key_file) })
}

/// Writes a file wholly or not at all, with this mode from its first byte on.
fn write(dir: &Path, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    let file = dir.join(name);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| process::write_whole_as(&file, text, mode))
        .map_err(|error| Failure::user(format!("cannot write {}: {error}", file.display())).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_secret_and_authorities_stay() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (dir, fleet) = (dir.path().join("tls"), GroupName::default());
        ensure_ca(&dir, &fleet).expect("a new authority");
        let first = fs::read(dir.join("ca.pem")).expect("made");
        ensure_ca(&dir, &fleet).expect("the same authority");
        assert_eq!(fs::read(dir.join("ca.pem")).expect("still there"), first);
        assert!(run(Command::Ca { dir: dir.clone() }, &fleet).is_err(), "never replaced");

        let names = Names::new(fleet);
        let name = "w1".parse().expect("a name");
        let make = || worker(&dir, &dir, &names, &name, &Entitlement::any(), 30);
        let files = make().expect("a certificate");
        make().expect("certificates can be made anew");
        for key in [dir.join("ca.key"), files.key] {
            let mode = fs::metadata(key).expect("made").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
