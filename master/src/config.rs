//! The options of a master. Never a default for a choice that the operator has to make.

use crate::registry::{Keep, Site};
use muster_protocol::{GroupName, MasterId, lease::LeaseTiming, role::Role};
use muster_wire::{
    config_file::ConfigFile,
    http::HttpArgs,
    nats::NatsArgs,
    otlp::{Collector, Exporter, Origin},
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The largest size of a stream in MiB. In bytes it fits an `i64`, and it is more than any disk of
/// today.
const SIZE_MIB_MAX: u64 = 1 << 30;

/// The most days that anything is kept: ten years.
const DAYS_MAX: u64 = 3_650;

/// Run a master: it accepts tasks, assigns them to workers and keeps everything in NATS.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster master --name m1 --listen 0.0.0.0:7400 \\
      --ca tls/ca.pem --cert tls/m1.pem --key tls/m1.key
  muster cert master m1 --dir tls        makes these certificates")]
pub struct Config {
    /// The file with further options
    #[command(flatten)]
    pub file: ConfigFile,
    /// The name of this master
    #[arg(long, value_name = "NAME")]
    pub name: MasterId,
    /// The fleet it belongs to
    #[arg(long, env = "MUSTER_FLEET", default_value = "default", value_name = "NAME")]
    pub fleet: GroupName,
    /// The NATS that keeps the state of the fleet
    #[command(flatten)]
    pub nats: NatsArgs,
    /// The address to which workers connect: UDP, and TCP at the same port for workers to whom UDP is blocked
    #[arg(long, default_value = "0.0.0.0:7400", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The fleet's certificate authority
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// This master's certificate
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// The certificate's private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The authority's private key, so that workers can join by invitation and renew their certificates
    /// with this master
    #[arg(long, value_name = "FILE")]
    pub ca_key: Option<PathBuf>,
    /// How long the certificates of workers that have joined are valid, in seconds; they are renewed at half
    /// of it. A revoked worker is out after this time even where no master hears of it
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..=31_536_000))]
    pub certificate_s: u64,
    /// Where workers reach this master, so that invitations name it, and workers that join dial it [default:
    /// the address on which it listens, unless that is any address of the host]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// How long leases last: `standard` replaces a lost worker in 5 s, `fast` in 1 s, and `roaming`
    /// tolerates 15 s without contact
    #[arg(long, default_value = "standard", value_name = "PROFILE")]
    pub lease: LeaseTiming,
    /// How long it extends the leases of workers while NATS is away, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub outage_tolerance_s: u64,
    /// Send spans of tasks that have a trace to a collector, http://HOST:PORT, by OTLP over HTTP, when they end
    /// [default: where OTEL_EXPORTER_OTLP_ENDPOINT says, or not at all]
    #[arg(long, value_name = "URL")]
    pub otlp: Option<Collector>,
    /// Where it records its sessions, so that after a restart on the same machine it need not wait
    /// until its earlier lease has ended; no other master may use this directory
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How many copies of each stream NATS keeps
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub replicas: usize,
    /// How much disk space NATS reserves for events, in MiB; when it is full, the oldest are removed
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=SIZE_MIB_MAX))]
    pub events_size: u64,
    /// For how many days events are kept, as far as they fit
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    pub events_days: u64,
    /// How much disk space NATS reserves for the logs of tasks, in MiB; when it is full, the oldest
    /// are removed
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=SIZE_MIB_MAX))]
    pub logs_size: u64,
    /// For how many days logs are kept, as far as they fit. Records of finished tasks are kept for a day
    #[arg(long, default_value_t = 1, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    pub logs_days: u64,
    /// How much disk space NATS reserves for the audit, in MiB; when it is full, the oldest entries are
    /// removed
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=SIZE_MIB_MAX))]
    pub audit_size: u64,
    /// For how many days the audit is kept, as far as it fits
    #[arg(long, default_value_t = 400, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    pub audit_days: u64,
    /// How much disk space NATS reserves for inputs, outputs and checkpoints, in MiB; when it is full, nothing
    /// more is stored until objects expire. Clients may fill four fifths of it [default: no limit, nothing
    /// reserved]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=SIZE_MIB_MAX))]
    pub data_size: Option<u64>,
    /// What a user may do who has no roles of its own (`muster user set`): `none`, `read`, `submit`, `operate`
    /// or `admin`, in every group. Give all masters the same
    #[arg(long, default_value = "submit", value_name = "ROLE")]
    pub default_role: Role,
    /// A site whose events this fleet's registry copies: the name of the fleet there, and the JetStream
    /// domain of its nats-server if that has another name (repeatable)
    #[arg(long = "site", value_name = "NAME[=DOMAIN]")]
    pub sites: Vec<Site>,
    /// Serve a page for operators, metrics (/metrics) and health (/healthz, /readyz) over HTTP at this address, such
    /// as 127.0.0.1:8480. Everybody who reaches it sees all tasks with their inputs, results and logs, so it has to
    /// be an address of this host alone, unless --http-public is given [default: not at all]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Who may reach it
    #[command(flatten)]
    pub http_options: HttpArgs,
    /// A file whose first line is a token of at least 16 characters: a page that shows it may cancel tasks, and
    /// cordon, drain and uncordon workers [default: pages only show]
    #[arg(long, value_name = "FILE", requires = "http")]
    pub http_token_file: Option<PathBuf>,
    /// Write this file when the master serves
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Stop when standard input ends, so that it does not outlive the process that started it
    #[arg(long)]
    pub until_stdin_closes: bool,
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3_600)
}

impl Config {
    /// What sends spans, if they are to be sent.
    pub(crate) fn exporter(&self) -> std::io::Result<Option<Exporter>> {
        let (service, instance) = ("muster-master", self.name.to_string());
        let origin = Origin { service, instance, fleet: self.fleet.to_string() };
        Collector::chosen(self.otlp.as_ref())
            .map(|collector| Exporter::start(collector, origin))
            .transpose()
    }

    pub(crate) fn keep(&self) -> Keep {
        Keep {
            replicas: self.replicas,
            events_age: days(self.events_days),
            events_bytes: self.events_size * 1024 * 1024,
            logs_age: days(self.logs_days),
            logs_bytes: self.logs_size * 1024 * 1024,
            audit_age: days(self.audit_days),
            audit_bytes: self.audit_size * 1024 * 1024,
            data_bytes: self.data_size.map(|mib| mib * 1024 * 1024),
            sites: self.sites.clone().into(),
        }
    }

    /// Where workers reach this master, as far as that is known before it listens.
    pub(crate) fn address(&self) -> Option<String> {
        let is_one = !self.listen.ip().is_unspecified() && self.listen.port() != 0;
        self.advertise.clone().or_else(|| is_one.then(|| self.listen.to_string()))
    }

    pub(crate) fn timing(&self) -> LeaseTiming {
        // Cannot fail: the parser accepts only values in the safe range.
        self.lease.with_outage(Duration::from_secs(self.outage_tolerance_s)).unwrap_or(self.lease)
    }
}
