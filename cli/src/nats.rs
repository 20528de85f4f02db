//! `muster nats`: writes the configuration of a fleet's nats-servers, and the keys to log in. Never replaces
//! a key, and never makes one readable for other users.

use crate::{
    accounts::{Logins, NamedClient, accounts},
    exit::Failure,
    output,
};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use muster_protocol::{GroupName, WorkerId, subject::Names};
use muster_wire::process;
use nkeys::KeyPair;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The file with the accounts, which the file of each server includes.
const ACCOUNTS: &str = "accounts.conf";

/// Where a server of a cluster stores its data, on its own host.
const CLUSTER_STORE: &str = "/var/lib/nats";

/// What to make.
#[derive(Subcommand)]
pub enum Command {
    /// Write the configuration of one nats-server or of a cluster, and a key for each who logs in
    #[command(after_help = "Examples:
  muster nats config --dir nats
  muster nats config --dir nats --server n1=10.0.0.1 --server n2=10.0.0.2 --server n3=10.0.0.3
  muster nats config --dir nats --client alice --restricted-client bob
  muster nats config --dir nats --worker shop-42    a worker that also renews straight in NATS

The registry has an account of its own, which clients cannot reach: docs/PERMISSIONS.md.
The keys that are there stay; the configuration is written anew.")]
    Config(Config),
}

/// What to write.
#[derive(Args)]
pub struct Config {
    /// Where to write it
    #[arg(long)]
    dir: PathBuf,
    /// A server of a cluster: its name, and where the others reach it
    #[arg(long = "server", value_name = "NAME=HOST", value_parser = server)]
    servers: Vec<(String, String)>,
    /// A user of the client API with a key of its own (repeatable). Give all of them each time
    #[arg(long = "client", value_name = "NAME")]
    clients: Vec<WorkerId>,
    /// The same for a user who may not see every group: it does not hear what is published about tasks, and
    /// asks instead
    #[arg(long = "restricted-client", value_name = "NAME")]
    restricted: Vec<WorkerId>,
    /// A worker that renews its lease straight in NATS. Give all of them each time
    #[arg(long = "worker", value_name = "NAME")]
    workers: Vec<WorkerId>,
}

/// A server that is named as `NAME=HOST`.
pub fn server(text: &str) -> Result<(String, String), String> {
    let is_plain =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    match text.split_once('=') {
        Some((name, host)) if is_plain(name) && is_plain(host) && !name.contains(['/', '.']) => {
            Ok((name.into(), host.into()))
        }
        _ => Err("give its name and its host, such as n1=nats-1.example.com".into()),
    }
}

/// Runs the command.
pub fn run(command: Command, fleet: &GroupName) -> anyhow::Result<()> {
    let Command::Config(config) = command;
    check_servers(&config.servers)?;
    let names = Names::new(fleet.clone());
    let users =
        Users { clients: config.clients, restricted: config.restricted, workers: config.workers };
    users.check()?;
    let written = write_config(&config.dir, &names, &config.servers, &users)?;
    written.all().try_for_each(|file| output::line(&file.display().to_string()))?;
    for (name, user) in &written.named {
        output::line("")?;
        output::line(&format!("for {name}, whom NATS calls {user}:"))?;
        let key = written.key(&format!("client-{name}"));
        output::line(&format!(
            "  export MUSTER_NATS_NKEY={} MUSTER_NATS_INBOX_PREFIX=_INBOX_{name}",
            key.display()
        ))?;
    }
    Ok(())
}

/// The users that have a login of their own, besides those that every fleet has.
#[derive(Default)]
pub struct Users {
    /// Clients.
    pub clients: Vec<WorkerId>,
    /// Clients that hear nothing that is published.
    pub restricted: Vec<WorkerId>,
    /// Workers that renew straight in NATS.
    pub workers: Vec<WorkerId>,
}

impl Users {
    fn check(&self) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        let twice = self.clients.iter().chain(&self.restricted).find(|name| !seen.insert(*name));
        match twice {
            Some(name) => Err(Failure::user(format!("the client {name} is named twice")).into()),
            None => Ok(()),
        }
    }
}

/// Refuses a cluster of two.
pub fn check_servers(servers: &[(String, String)]) -> anyhow::Result<()> {
    if servers.len() == 2 {
        let text = "a cluster of two servers stops when one of them does: name one server or three";
        return Err(Failure::user(text).into());
    }
    Ok(())
}

/// The files of a fleet's NATS.
pub struct Written {
    dir: PathBuf,
    /// The configuration of each server.
    pub servers: Vec<PathBuf>,
    /// The accounts, which each server includes.
    pub accounts: PathBuf,
    /// The public key of clients.
    pub client: String,
    /// The clients with a key of their own, and their public keys.
    named: Vec<(WorkerId, String)>,
    keys: Vec<PathBuf>,
}

impl Written {
    /// The file with the key of `who`: `master`, `observer`, `client`, `client-NAME` or `worker-NAME`.
    pub fn key(&self, who: &str) -> PathBuf {
        key_file(&self.dir, who)
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.servers.iter().chain([&self.accounts]).chain(&self.keys)
    }
}

fn key_file(dir: &Path, who: &str) -> PathBuf {
    dir.join(format!("{who}.nk"))
}

/// Writes the configuration and the keys into `dir`.
pub fn write_config(
    dir: &Path,
    names: &Names,
    servers: &[(String, String)],
    users: &Users,
) -> anyhow::Result<Written> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| unwritable(dir, &error))?;
    let mut keys = Vec::new();
    let mut login = |who: &str| -> anyhow::Result<String> {
        let file = key_file(dir, who);
        let key = key(&file)?;
        keys.push(file);
        Ok(key.public_key())
    };
    let client = login("client")?;
    let hearing = users.clients.iter().map(|name| (name, true));
    let mut named = Vec::new();
    let mut clients = Vec::new();
    for (name, hears) in hearing.chain(users.restricted.iter().map(|name| (name, false))) {
        let user = login(&format!("client-{name}"))?;
        clients.push(NamedClient { name: name.clone(), login: format!("nkey: {user}"), hears });
        named.push((name.clone(), user));
    }
    let mut login = |who: &str| Ok::<_, anyhow::Error>(format!("nkey: {}", login(who)?));
    let logins = Logins {
        master: login("master")?,
        observer: login("observer")?,
        client: format!("nkey: {client}"),
        clients,
        workers: users
            .workers
            .iter()
            .map(|worker| Ok((worker.clone(), login(&format!("worker-{worker}"))?)))
            .collect::<anyhow::Result<_>>()?,
    };
    let file = dir.join(ACCOUNTS);
    write(&file, &accounts(names, &logins))?;
    let mut written =
        Written { dir: dir.into(), servers: Vec::new(), accounts: file, client, named, keys };
    let mut server = |name: &str, store: &Path, cluster: Option<&str>| {
        let file = dir.join(format!("{name}.conf"));
        write(&file, &server_config(name, store, cluster))?;
        written.servers.push(file);
        Ok::<_, anyhow::Error>(())
    };
    if servers.is_empty() {
        // Not relative to the folder in which nats-server is started.
        let store = std::path::absolute(dir.join("data")).unwrap_or_else(|_| dir.join("data"));
        server("nats", &store, None)?;
        return Ok(written);
    }
    let password = cluster_password(dir)?;
    for (name, _) in servers {
        let cluster = cluster_config(names, servers, name, &password);
        server(name, Path::new(CLUSTER_STORE), Some(&cluster))?;
    }
    Ok(written)
}

/// The configuration of one server.
fn server_config(name: &str, store: &Path, cluster: Option<&str>) -> String {
    let store = store.display();
    format!(
        "server_name: {name}\n\
         port: 4222\n\
         jetstream {{\n  store_dir: \"{store}\"\n  sync_interval: always\n}}\n\
         {}\
         include {ACCOUNTS}\n",
        cluster.unwrap_or_default()
    )
}

fn cluster_config(
    names: &Names,
    servers: &[(String, String)],
    own: &str,
    password: &str,
) -> String {
    let mut text = format!(
        "cluster {{\n  name: muster-{}\n  listen: \"0.0.0.0:6222\"\n  \
         authorization {{ user: route, password: \"{password}\" }}\n  routes: [\n",
        names.fleet()
    );
    for (_, host) in servers.iter().filter(|(name, _)| name != own) {
        let _ = writeln!(text, "    \"nats://route:{password}@{host}:6222\"");
    }
    text + "  ]\n}\n"
}

/// The password of the routes of a cluster: made once.
fn cluster_password(dir: &Path) -> anyhow::Result<String> {
    let file = dir.join("route.password");
    if let Some(known) = read(&file)? {
        return Ok(known);
    }
    let made = format!("{:016x}{:016x}", process::random()?, process::random()?);
    write(&file, &made)?;
    Ok(made)
}

/// The key in a file: made if there is none.
fn key(file: &Path) -> anyhow::Result<KeyPair> {
    if let Some(seed) = read(file)? {
        return KeyPair::from_seed(seed.trim()).map_err(|error| {
            let text = format!("{} is not the seed of an nkey: {error}", file.display());
            Failure::user(text).hint("move it away to make a new one").into()
        });
    }
    let key = KeyPair::new_user();
    let seed = key.seed().context("a new key has a seed")?;
    write(file, &(seed + "\n"))?;
    Ok(key)
}

/// The text of a file, if it exists.
fn read(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::user(format!("cannot read {}: {error}", file.display())).into()),
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    process::write_whole_as(file, text, 0o600).map_err(|error| unwritable(file, &error))
}

fn unwritable(file: &Path, error: &std::io::Error) -> anyhow::Error {
    Failure::user(format!("cannot write {}: {error}", file.display())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_stay_and_no_file_is_for_others() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dir = dir.path().join("nats");
        let names = Names::new(GroupName::default());
        let worker: WorkerId = "shop-42".parse().expect("a name");
        let make = |servers: &[(String, String)]| {
            let users = Users { workers: vec![worker.clone()], ..Users::default() };
            write_config(&dir, &names, servers, &users).expect("it is written")
        };
        let one = make(&[]);
        let text = |file: &str| fs::read_to_string(dir.join(file)).expect("it is there");
        let (accounts, seed) = (text("accounts.conf"), text("worker-shop-42.nk"));
        assert!(seed.starts_with("SU") && !accounts.contains(seed.trim()), "no secret");
        let lease = "\"$KV.muster_default_workers.shop-42\"";
        assert!(accounts.contains(lease), "{accounts}");
        let servers = ["n1=a", "n2=b", "n3=c"].map(|text| server(text).expect("a server"));
        let three = make(&servers);
        assert_eq!(text("accounts.conf"), accounts, "the same keys");
        assert!(text("n1.conf").contains("@b:6222") && !text("n1.conf").contains("@a:6222"));
        for file in one.all().chain(three.all()) {
            let mode = fs::metadata(file).expect("made").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
        for wrong in ["n1", "=a", "n1=", "a/b=c", "n1=a\"b"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }
}
