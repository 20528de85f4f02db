//! The options of a worker. Never a default for a choice that the operator has to make.

use crate::{
    journal, memory,
    policy::Rules,
    programs::{Present, Programs},
};
use anyhow::Context as _;
use muster_protocol::{
    GroupName, WorkerId, enrolment::Token, entitlement::Entitlement, lease::LeaseTiming, limit,
    signature::SignerKey, subject::Names,
};
use muster_wire::{
    config_file::ConfigFile,
    http::{HttpArgs, Listener},
    nats::{Access, AccessError, NatsArgs},
    otlp::{Collector, Exporter, Origin},
};
use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// The most memory of one run unless the options say otherwise, in MiB.
const MEMORY_MIB: u64 = 1024;

/// Whether a worker confines itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Confine {
    /// Confine it fully; do not start if the kernel cannot enforce all of it
    Require,
    /// Confine it as far as the kernel can, and log how far that is
    Try,
    /// Do not confine it
    Off,
}

/// Run a worker: it connects to its masters and runs the tasks that they assign to it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster worker --join @token --state-dir /var/lib/muster
  muster worker invite shop-42                prints such a token, where masters can be reached
  muster worker --name shop-42 --master hq.example.com:7400 \\
      --ca ca.pem --cert shop-42.pem --key shop-42.key --state-dir /var/lib/muster
  muster cert worker shop-42 --dir tls        makes these certificates

A worker needs one outgoing UDP port, or the same TCP port where UDP is blocked, and nothing else.
With --nats it also renews its lease straight in NATS; then its runs go on when it has lost all its
masters.")]
pub struct Config {
    /// The file with further options
    #[command(flatten)]
    pub file: ConfigFile,
    /// Join the fleet with a token of `muster worker invite`: the token, or @FILE with it. A worker that has
    /// joined before does not need it any more, and ignores it
    #[arg(long, env = "MUSTER_JOIN", hide_env_values = true, value_name = "TOKEN")]
    pub join: Option<String>,
    /// The name of this worker, as in its certificate; a worker that joins has it from its token
    #[arg(long, value_name = "NAME")]
    pub name: Option<WorkerId>,
    /// The fleet that this worker belongs to; a worker that joins has it from its token
    #[arg(long, env = "MUSTER_FLEET", default_value = "default", value_name = "NAME")]
    pub fleet: GroupName,
    /// A master to connect to; repeat this for every master. A worker that joins knows its masters
    #[arg(long = "master", value_name = "HOST:PORT", value_parser = host_port)]
    pub masters: Vec<String>,
    /// The NATS in which it also renews its lease itself, if the command line names one
    #[command(flatten)]
    pub nats: NatsArgs,
    /// The group whose tasks this worker runs [default: the only one that its certificate permits, or
    /// `default`]
    #[arg(long, value_name = "NAME")]
    pub group: Option<GroupName>,
    /// A label that tasks may select (repeatable) [default: those that its certificate permits]
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// How many tasks it runs at once [default: one for each processor, as far as its certificate permits]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub slots: Option<u32>,
    /// The maximum memory of one run, in MiB [default: 1024, as far as its certificate permits]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub memory_mib: Option<u64>,
    /// The maximum memory of all runs together, in MiB; set it where several programs share the host
    /// [default: what the host and its control groups allow, without a quarter or 2 GiB]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_073_741_824))]
    pub memory_total_mib: Option<u64>,
    /// How much compiled code to keep on disk, in MiB; 0 for none
    #[arg(long, default_value_t = 512, value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(..=1_048_576))]
    pub code_cache_mib: u64,
    /// A TOML file that says which grants tasks may have here; setup/policy.toml is an example
    /// [default: random numbers, variables and a clock of 1 µs; no secrets, no HTTP, no directory]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Where it keeps its state between restarts; no other worker may use this directory
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The fleet's certificate authority
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// This worker's certificate
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    pub cert: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", requires_all = ["ca", "cert"])]
    pub key: Option<PathBuf>,
    /// How long the lease lasts without contact: `standard` 4 s, `fast` 0.6 s, `roaming` 15 s
    #[arg(long, default_value = "standard", value_name = "PROFILE")]
    pub lease: LeaseTiming,
    /// How long a worker that is stopped lets its runs finish, in seconds
    #[arg(long, default_value_t = 8, value_name = "SECONDS")]
    pub grace_s: u64,
    /// Append lines of JSON to this file that record what really ran, with the time of
    /// `CLOCK_BOOTTIME`: one line for each attempt received, and for each start, effect and end of a
    /// run, and each lapse of the lease. If lines could not be written, a line `gap` says so
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// The size at which the lines of the journal are moved to a file with `.1` after its name, in MiB. They take the
    /// place of those that were moved before; 0 for never
    #[arg(long, default_value_t = 256, value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(..=1_048_576))]
    pub journal_mib: u64,
    /// Serve metrics (/metrics) and health (/healthz, /readyz) over HTTP at this address, such as 127.0.0.1:8481. It has
    /// to be an address of this host alone, unless --http-public is given [default: not at all]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Who may reach it
    #[command(flatten)]
    pub http_options: HttpArgs,
    /// Send spans of runs whose tasks have a trace to a collector, http://HOST:PORT, by OTLP over HTTP
    /// [default: where OTEL_EXPORTER_OTLP_ENDPOINT says, or not at all]
    #[arg(long, value_name = "URL")]
    pub otlp: Option<Collector>,
    /// Write this file when it has a lease and a link, also after each restart: JSON with the id of
    /// its process
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Take the upgrades of `muster worker upgrade`, and keep their programs in this directory. It must be apart
    /// from --state-dir
    #[arg(long, value_name = "DIR", requires = "upgrade_signers", conflicts_with = "unsupervised")]
    pub upgrades: Option<PathBuf>,
    /// A public key, RW… of `muster module key`, whose owner may sign programs (repeatable)
    #[arg(long = "upgrade-signer", value_name = "KEY", requires = "upgrades")]
    pub upgrade_signers: Vec<SignerKey>,
    /// How long the program of an upgrade may take until it has a lease, a link and a test run, in seconds. Then
    /// the program before it runs again
    #[arg(long, default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub upgrade_within_s: u64,
    /// Let the kernel (Landlock, seccomp) restrict this process to the files, sockets, ports and
    /// processes that it needs
    #[arg(long, default_value = "try", value_name = "HOW")]
    pub confine: Confine,
    /// Run although the user is root. Without it, a worker that root starts ends with exit code 2
    #[arg(long)]
    pub allow_root: bool,
    /// Stop when standard input ends, so that it does not outlive the process that started it
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// Do not restart it after a crash, because something else does
    #[arg(long)]
    pub unsupervised: bool,
    /// The id of the supervisor, which passes this option
    #[arg(long, hide = true, value_name = "PID")]
    pub supervised_by: Option<i32>,
    /// What the supervisor knows of the program, if the worker takes upgrades
    #[arg(long, hide = true, value_name = "JSON")]
    pub program: Option<Present>,
    /// Whether the supervisor reads how the worker is, and passes it on to the service manager
    #[arg(long, hide = true)]
    pub reports: bool,
}

impl Config {
    /// The NATS in which the worker renews its lease itself; `None` unless the command line names one.
    /// The environment alone does not count: its variables are also those of the command.
    pub(crate) fn direct_nats(&self) -> Result<Option<Access>, AccessError> {
        self.nats.is_on_command_line().then(|| self.nats.access()).transpose()
    }

    /// The socket for HTTP, if it is to be served.
    pub(crate) fn http_listener(&self) -> anyhow::Result<Option<Listener>> {
        let open = |address| Listener::open(address, &self.http_options);
        self.http.map(open).transpose()
    }

    /// Its programs, if it takes upgrades.
    pub(crate) fn programs(&self, installed: PathBuf) -> anyhow::Result<Option<Programs>> {
        let open = |dir: &PathBuf| {
            let ready_file = self.ready_file.as_deref();
            let signers = self.upgrade_signers.clone();
            Programs::open(dir, &self.state_dir, ready_file, signers, installed)
        };
        self.upgrades.as_ref().map(open).transpose()
    }

    /// How long the program of an upgrade may take to prove itself.
    pub(crate) fn trial(&self) -> Duration {
        Duration::from_secs(self.upgrade_within_s)
    }

    /// Where spans are sent, if they are to be sent.
    pub(crate) fn collector(&self) -> Option<Collector> {
        Collector::chosen(self.otlp.as_ref())
    }

    /// What sends spans, if they are to be sent.
    pub(crate) fn exporter(
        &self,
        worker: &WorkerId,
        names: &Names,
    ) -> std::io::Result<Option<Exporter>> {
        let (service, instance) = ("muster-worker", worker.to_string());
        let origin = Origin { service, instance, fleet: names.fleet().into() };
        self.collector().map(|collector| Exporter::start(collector, origin)).transpose()
    }

    /// The token with which it joins.
    pub(crate) fn token(&self) -> anyhow::Result<Option<Token>> {
        let Some(text) = &self.join else { return Ok(None) };
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .with_context(|| format!("the token {path} cannot be read"))
        };
        let text = text.strip_prefix('@').map_or_else(|| Ok(text.clone()), read)?;
        Ok(Some(text.parse().context("--join")?))
    }

    /// The options of a worker with this certificate: what they leave open is what it permits.
    pub(crate) fn entitled(self, to: &Entitlement) -> Self {
        let labels = if self.labels.is_empty() { to.only_labels() } else { self.labels() };
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let slots = to.slots.map_or(processors, |most| most.min(processors));
        let memory = to.memory.map_or(MEMORY_MIB, |most| (most >> 20).clamp(1, MEMORY_MIB));
        Config {
            group: self.group.or_else(|| to.only_group()),
            labels: labels.into_iter().collect(),
            slots: self.slots.or(Some(slots)),
            memory_mib: self.memory_mib.or(Some(memory)),
            ..self
        }
    }

    pub(crate) fn group(&self) -> GroupName {
        self.group.clone().unwrap_or_default()
    }

    pub(crate) fn slots(&self) -> u32 {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.slots.unwrap_or(processors as u32)
    }

    /// The files of the journal, if there is to be one.
    pub(crate) fn journal(&self) -> anyhow::Result<Option<journal::Files>> {
        let Some(path) = &self.journal else { return Ok(None) };
        let max = Some(self.journal_mib * 1024 * 1024).filter(|max| *max > 0);
        let files = journal::Files::open(path, max);
        let failed = || format!("the journal {} cannot be written to", path.display());
        files.map(Some).with_context(failed)
    }

    pub(crate) fn rules(&self) -> anyhow::Result<Rules> {
        self.policy.as_deref().map_or_else(|| Ok(Rules::default()), Rules::read)
    }

    /// The most memory of one run, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let one = (self.memory_mib.unwrap_or(MEMORY_MIB) * 1024 * 1024).min(limit::MEMORY_MAX);
        // Also for masters that do not know the total.
        self.memory_total().map_or(one, |total| total.min(one))
    }

    /// The most memory of all runs together, in bytes; `None` if the system does not show its memory.
    pub(crate) fn memory_total(&self) -> Option<u64> {
        let given = self.memory_total_mib.map(|mib| mib * 1024 * 1024);
        given.or_else(|| memory::for_runs(Path::new("/")))
    }

    pub(crate) fn code_cache_bytes(&self) -> u64 {
        self.code_cache_mib * 1024 * 1024
    }

    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s)
    }
}

/// Checks only the form of the address: names are resolved at each dial.
fn host_port(text: &str) -> Result<String, String> {
    let form = "a master is written HOST:PORT, an IPv6 address as [ADDRESS]:PORT";
    let (host, port) = text.rsplit_once(':').ok_or(form)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_good = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '@', ' ']),
    };
    match port.parse::<u16>() {
        Ok(1..) if host_is_good => Ok(text.into()),
        _ => Err(form.into()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a label is written KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_has_a_host_and_a_port() {
        for good in ["hq.example.com:7400", "10.0.0.1:1", "[::1]:7400"] {
            assert_eq!(host_port(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "hq", "hq:", ":7400", "hq:0", "hq:70000", "::1:7400", "[hq]:1", "quic://hq:7400"]
        {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }
}
