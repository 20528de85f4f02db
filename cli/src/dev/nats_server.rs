//! The nats-server of `muster dev`: found on this machine, started on loopback. Never downloads it:
//! `setup/nats-server` does.

use super::child::Child;
use crate::{check, exit::Failure, nats::Written};
use anyhow::Context as _;
use serde::Deserialize;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Where `setup/nats-server` puts it: in a work tree that is the current directory, above it, or above
/// this executable.
const LOCAL: &str = ".muster/bin/nats-server";

/// A server is ready in about 20 ms; a large store on a slow disk takes seconds to recover.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What the server writes about the ports it chose.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// The executable.
pub fn find() -> anyhow::Result<PathBuf> {
    let mut old = None;
    for file in candidates() {
        match version(&file) {
            Some(version) if check::is_at_least(&version, check::NATS_VERSION_MIN) => {
                return Ok(file);
            }
            Some(version) => old = old.or(Some((file, version))),
            None => {}
        }
    }
    let (major, minor) = check::NATS_VERSION_MIN;
    let text = match old {
        Some((file, version)) => {
            format!("{} has version {version}, {major}.{minor} or newer is needed", file.display())
        }
        None => match named() {
            Some(file) => format!("MUSTER_NATS_SERVER={} is not a nats-server", file.display()),
            None => "there is no nats-server on this machine".into(),
        },
    };
    let hint = "fetch one with setup/nats-server, or name one in MUSTER_NATS_SERVER";
    Err(Failure::user(text).hint(hint).into())
}

/// The files to try, in order of preference.
fn candidates() -> Vec<PathBuf> {
    if let Some(named) = named() {
        // If a server is named, use no other.
        return vec![named];
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|dir| dir.join("nats-server"));
    let here = env::current_dir().unwrap_or_default();
    let exe = env::current_exe().unwrap_or_default();
    let above = here.ancestors().chain(exe.ancestors()).map(|dir| dir.join(LOCAL));
    in_path.chain(above).filter(|file| file.is_file()).collect()
}

fn named() -> Option<PathBuf> {
    let named = env::var_os("MUSTER_NATS_SERVER").filter(|file| !file.is_empty());
    named.map(PathBuf::from)
}

/// Extracts `2.15.1` from `nats-server: v2.15.1`.
fn version(file: &Path) -> Option<String> {
    let output = Command::new(file).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.trim().strip_prefix("nats-server: v")?;
    Some(version.to_owned())
}

/// Starts the server with its data under `dir`; returns its URL. Who connects without a login is a client.
pub async fn start(
    exe: &Path,
    server: &Path,
    dir: &Path,
    written: &Written,
) -> anyhow::Result<(Child, String)> {
    let dir = dir.join("nats");
    let ports = dir.join("ports");
    let _ = fs::remove_dir_all(&ports);
    fs::create_dir_all(&ports).with_context(|| format!("cannot make {}", ports.display()))?;
    let config = dir.join("dev.conf");
    let text = format!("no_auth_user: {}\ninclude accounts.conf\n", written.client);
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    // nats-server does not read its standard input, so `muster tether` ends it with its parent. `exec`
    // keeps the process and its id.
    let mut command = Command::new(exe);
    command.args(["tether", &std::process::id().to_string(), "--"]).arg(server);
    command.args(["--addr", "127.0.0.1", "--port", "-1", "--jetstream"]);
    command.arg("--config").arg(&config);
    command.arg("--store_dir").arg(dir.join("data"));
    command.arg("--ports_file_dir").arg(&ports);
    let mut child = Child::spawn("nats-server", &mut command, &dir.join("log"))?;
    // The server names the file after its executable and its process id.
    let program = server.file_name().unwrap_or_default().to_string_lossy();
    let file = ports.join(format!("{program}_{}.ports", child.pid()));
    let text = child.await_file(&file, READY_WITHIN).await?;
    let ports: Ports = serde_json::from_str(&text).context("nats-server's ports are malformed")?;
    let url = ports.nats.into_iter().next().context("nats-server listens on no port")?;
    Ok((child, url))
}
