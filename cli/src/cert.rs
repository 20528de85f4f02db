//! `muster cert`: creates the certificate authority of a fleet, and certificates for its masters and
//! workers. Never replaces an authority, and never makes a key readable for other users.

use crate::exit::Failure;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use muster_protocol::{GroupName, MasterId, WorkerId, subject::Names};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long an authority is valid: longer than the hosts that trust it are in use.
const CA_DAYS: u32 = 3_650;

/// How long a certificate is valid by default.
const LEAF_DAYS: u32 = 365;

/// Certificates are valid from a day ago on: clocks of edge hosts may be behind.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

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
    /// Make a worker's certificate: NAME.pem and NAME.key
    Worker {
        /// The name of the worker
        name: WorkerId,
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
        Command::Worker { name, leaf } => {
            let out = leaf.out.as_ref().unwrap_or(&leaf.dir);
            let files = worker(&leaf.dir, out, &names, &name, leaf.days)?;
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
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut params = params(&format!("Muster fleet {fleet}"), Vec::new(), CA_DAYS)?;
    // The authority may sign masters and workers, but no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).context("cannot make a certificate authority")?;
    write(dir, "ca.key", &key.serialize_pem(), 0o600)?;
    write(dir, "ca.pem", &cert.pem(), 0o644)
}

/// A master's certificate, signed by the authority in `dir`.
pub fn master(
    dir: &Path,
    out: &Path,
    names: &Names,
    name: &MasterId,
    days: u32,
) -> anyhow::Result<Files> {
    let host = names.master_host();
    let hosts = vec![format!("{name}.{host}"), host];
    leaf(dir, out, name.as_str(), hosts, ExtendedKeyUsagePurpose::ServerAuth, days)
}

/// A worker's certificate, signed by the authority in `dir`.
pub fn worker(
    dir: &Path,
    out: &Path,
    names: &Names,
    name: &WorkerId,
    days: u32,
) -> anyhow::Result<Files> {
    let hosts = vec![names.worker_host(name.as_str())];
    leaf(dir, out, name.as_str(), hosts, ExtendedKeyUsagePurpose::ClientAuth, days)
}

fn leaf(
    dir: &Path,
    out: &Path,
    name: &str,
    hosts: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    days: u32,
) -> anyhow::Result<Files> {
    if name == "ca" {
        return Err(Failure::user("the name ca is reserved for the certificate authority").into());
    }
    let ca = dir.join("ca.pem");
    let read = |file: &Path| {
        fs::read_to_string(file).map_err(|error| {
            Failure::user(format!("cannot read {}: {error}", file.display())).hint(format!(
                "make a certificate authority first: muster cert ca --dir {}",
                dir.display()
            ))
        })
    };
    let (ca_pem, ca_key) = (read(&ca)?, read(&dir.join("ca.key"))?);
    let ca_key =
        KeyPair::from_pem(&ca_key).context("the key of the certificate authority is malformed")?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key);
    let issuer = issuer.context("the certificate of the certificate authority is malformed")?;
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut params = params(name, hosts, days)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let cert = params.signed_by(&key, &issuer).context("cannot sign the certificate")?;
    let (key_file, cert_file) = (format!("{name}.key"), format!("{name}.pem"));
    write(out, &key_file, &key.serialize_pem(), 0o600)?;
    write(out, &cert_file, &cert.pem(), 0o644)?;
    Ok(Files { ca, cert: out.join(cert_file), key: out.join(key_file) })
}

fn params(name: &str, hosts: Vec<String>, days: u32) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(hosts).context("a name cannot be in a certificate")?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + now.saturating_sub(BEFORE);
    params.not_after = epoch + (now + Duration::from_secs(u64::from(days) * 24 * 3600));
    Ok(params)
}

/// Writes a file wholly or not at all, with this mode from its first byte on.
fn write(dir: &Path, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    let file = dir.join(name);
    let new = dir.join(format!(".{name}.new"));
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // A file left from an earlier try would keep its own mode.
        let _ = fs::remove_file(&new);
        let mut handle =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        handle.write_all(text.as_bytes())?;
        fs::rename(&new, &file)
    };
    write().map_err(|error: std::io::Error| {
        Failure::user(format!("cannot write {}: {error}", file.display())).into()
    })
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
        let files = worker(&dir, &dir, &names, &name, 30).expect("a certificate");
        worker(&dir, &dir, &names, &name, 30).expect("certificates can be made anew");
        for key in [dir.join("ca.key"), files.key] {
            let mode = fs::metadata(key).expect("made").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
