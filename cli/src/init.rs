//! `muster init`: makes what a fleet needs before its first start, in one directory: an authority, the
//! certificate of the first master, and the configuration of NATS. Never replaces a key.

use crate::{
    cert,
    nats::{self, Users, write_config},
    output::{self, Format},
};
use clap::Args;
use muster_protocol::{GroupName, MasterId, subject::Names};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Days that the master's certificate is valid.
const CERT_DAYS: u32 = 365;

/// The UDP and TCP port of the master in what is printed.
const QUIC_PORT: u16 = 7400;

/// What to make.
#[derive(Args)]
#[command(after_help = "Examples:
  muster init --dir fleet --host hq.example.com
  muster init --dir fleet --host hq.example.com --server n1=10.0.0.1 --server n2=10.0.0.2 --server n3=10.0.0.3

It prints the commands that start the fleet. Keys that are there stay, so it may be repeated.
For a fleet on this machine, to try it out: muster dev")]
pub struct Init {
    /// Where to make it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where workers reach the master
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The name of the master
    #[arg(long, value_name = "NAME", default_value = "m1")]
    master: MasterId,
    /// A nats-server of a cluster: its name, and where the others reach it (three of them) [default: one
    /// server, beside the master]
    #[arg(long = "server", value_name = "NAME=HOST", value_parser = nats::server)]
    servers: Vec<(String, String)>,
}

/// What was made.
pub struct Made {
    /// The master's certificate and key, and the authority's certificate.
    pub master: cert::Files,
    /// The authority's key.
    pub ca_key: PathBuf,
    /// The configuration and the keys of NATS.
    pub nats: nats::Written,
}

/// Makes what is missing in `dir`.
pub fn make(
    dir: &Path,
    names: &Names,
    fleet: &GroupName,
    master: &MasterId,
    servers: &[(String, String)],
    users: &Users,
) -> anyhow::Result<Made> {
    let tls = dir.join("tls");
    cert::ensure_ca(&tls, fleet)?;
    Ok(Made {
        master: cert::master(&tls, &tls, names, master, CERT_DAYS)?,
        ca_key: tls.join("ca.key"),
        nats: write_config(&dir.join("nats"), names, servers, users)?,
    })
}

impl Init {
    /// Makes it, and prints what to do next.
    pub fn run(self, fleet: &GroupName, format: Format) -> anyhow::Result<()> {
        nats::check_servers(&self.servers)?;
        let names = Names::new(fleet.clone());
        let Init { host, master, servers, .. } = &self;
        // What is printed may be pasted in another folder.
        let dir = &std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        let made = make(dir, &names, fleet, master, servers, &Users::default())?;
        let urls: Vec<String> = match servers.as_slice() {
            [] => vec!["nats://127.0.0.1:4222".into()],
            all => all.iter().map(|(_, host)| format!("nats://{host}:4222")).collect(),
        };
        let urls = urls.join(",");
        let login = |who: &str| made.nats.key(who).display().to_string();
        let fleet_option = match *fleet == GroupName::default() {
            true => String::new(),
            false => format!(" --fleet {fleet}"),
        };
        let replicas = if servers.is_empty() { "" } else { " --replicas 3" };
        let start_nats: Vec<String> = made
            .nats
            .servers
            .iter()
            .map(|file| format!("nats-server -c {}", file.display()))
            .collect();
        let start_master = format!(
            "muster master{fleet_option} --name {master} --nats {urls} --nats-nkey {} --listen 0.0.0.0:{QUIC_PORT} \
             --advertise {host}:{QUIC_PORT} --ca {} --cert {} --key {} --ca-key {} --state-dir {}{replicas}",
            login("master"),
            made.master.ca.display(),
            made.master.cert.display(),
            made.master.key.display(),
            made.ca_key.display(),
            dir.join(master.as_str()).display(),
        );
        let mut be_client =
            format!("export MUSTER_NATS={urls} MUSTER_NATS_NKEY={}", login("client"));
        if !fleet_option.is_empty() {
            be_client.push_str(&format!(" MUSTER_FLEET={fleet}"));
        }
        let invite = format!(
            "MUSTER_NATS_NKEY={} muster worker invite shop-42 --group shops",
            login("observer")
        );
        if format == Format::Json {
            return output::json(&json!({
                "start_nats": start_nats,
                "start_master": start_master,
                "be_client": be_client,
                "invite": invite,
            }));
        }
        let bold = anstyle::Style::new().bold();
        let many = if start_nats.len() > 1 { "each on its own host" } else { "beside the master" };
        let steps = [
            (format!("start NATS, {many}:"), start_nats),
            ("start the master:".into(), vec![start_master]),
            ("be a client:".into(), vec![be_client]),
            (
                "invite a worker as somebody who may do everything, and run what it prints on the worker's host:"
                    .into(),
                vec![invite],
            ),
        ];
        output::pieces(&[(bold, &format!("the fleet {fleet} is prepared in {}", dir.display()))])?;
        for (number, (what, commands)) in steps.iter().enumerate() {
            output::line("")?;
            output::line(&format!("{}. {what}", number + 1))?;
            commands.iter().try_for_each(|command| output::line(&format!("  {command}")))?;
        }
        output::line("")?;
        output::line(&format!(
            "Keep {} secret: whoever has it can make certificates of any master and worker.",
            made.ca_key.display()
        ))
    }
}
