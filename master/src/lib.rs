//! The master accepts tasks, dispatches them to workers, and replaces lost workers. Keeps no state that
//! is not in the registry, and never waits for work in its loop.
//!
//! One loop owns the [`Fleet`]: it drains the inbox, lets the fleet plan once, and hands the effects to
//! the executor. Everything else reports to the inbox: the registry's watches and answers, the links of
//! workers, the requests of clients.
//!
//! A master has a session for each connection to the registry (see `connection`). When the connection
//! breaks, the fleet of that session only keeps workers alive; a new session begins with the next
//! connection.

// The print macros panic when nobody reads the output. Use `muster_wire::log` instead.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod api;
mod audit;
mod changes;
mod config;
mod connection;
mod enrol;
mod executor;
mod groups;
mod http;
mod inbox;
mod link;
mod metrics;
mod publisher;
mod registry;
mod sites;
mod upkeep;
mod users;

pub use config::Config;

use anyhow::Context as _;
use connection::{Connection, ServerChoice};
use inbox::{INBOX_MAX, Input, Known};
use muster_protocol::{
    fleet::{Event, Fleet, Loaded, ObjectAccess},
    message::StreamReply,
    subject::Names,
};
use muster_wire::{clock, notify::Notifier, state, tls};
use registry::{Fact, Registry, SessionFact};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// Inputs that the loop takes before it plans.
const DRAIN_MAX: usize = 1_024;

/// How often the loop tells the fleet the wall clock, for timestamps that people read.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// How long a stopping master waits for its last writes.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs a master as a process of its own until it is told to stop.
pub fn main(config: Config) -> ExitCode {
    let told = match config.until_stdin_closes {
        true => muster_wire::process::StopSource::BySignalsOrInput,
        false => muster_wire::process::StopSource::BySignals,
    };
    // Half of the processors: the other half serves nats-server, which often runs on the same host.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (processors / 2).max(1);
    muster_wire::process::run("muster-master", told, threads, |stop| run(config, stop))
}

/// Runs a master until `stop` says so.
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let files =
        tls::Files { ca: config.ca.clone(), cert: config.cert.clone(), key: config.key.clone() };
    let access = config.nats.access()?;
    registry::Site::check(&config.sites, &config.fleet)?;
    let state = config.state_dir.as_deref().map(state::StateDir::open).transpose()?;
    let names = Arc::new(Names::new(config.fleet.clone()));
    let listeners = link::Listeners::open(config.listen, &files)?;
    let listens = listeners.address().context("the UDP address is unknown")?;
    let config = Config { listen: listens, ..config };
    let registrar = Arc::new(enrol::Registrar::new(&config, names.clone())?);
    let users = Arc::new(users::Users::new(config.default_role));
    let groups = Arc::<groups::Groups>::default();
    let http = http::Server::open(&config)?;
    let changes = http.is_some().then(changes::Changes::default);
    let present = api::Present::default();
    let traces = config.exporter()?;
    let metrics = http.is_some().then(|| metrics::Metrics::new(config.name.as_str()));
    let audit = audit::Audit::new(config.name.clone());
    let (inbox, mut inputs) = mpsc::channel(INBOX_MAX);
    let served = api::Served {
        names: names.clone(),
        registrar: registrar.clone(),
        users: users.clone(),
        groups: groups.clone(),
        audit: audit.clone(),
        inbox: inbox.clone(),
        present: present.clone(),
    };
    let mut connection = Connection::new(&config, access, served, state)?;
    if let (Some(http), Some(metrics), Some(changes)) = (http, metrics.clone(), changes.clone()) {
        let identity = http::Identity {
            fleet: config.fleet.to_string(),
            master: config.name.to_string(),
            version: env!("CARGO_PKG_VERSION"),
        };
        http.serve(http::Parts { metrics, changes, present, inbox: inbox.clone(), identity })?;
    }
    let first = tokio::select! {
        first = connection.connect_first() => first?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let mut master = Master {
        fleet: connection.begin(&first, None),
        known: Known::default(),
        registrar,
        users,
        groups,
        executor: executor::Executor::new(first, inbox.clone(), metrics, changes, traces),
        workers: link::Workers::new(listeners.clone(), names, inbox),
        connection,
        ready: Some(listens),
        manager: Notifier::to_manager(),
    };
    master.serve(&mut inputs, stop).await?;
    tracing::info!("stopping");
    master.manager.stopping();
    master.finish(&mut inputs).await;
    listeners.close();
    audit.flush().await;
    master.executor.flush().await;
    Ok(())
}

struct Master {
    fleet: Fleet,
    known: Known,
    registrar: Arc<enrol::Registrar>,
    users: Arc<users::Users>,
    groups: Arc<groups::Groups>,
    connection: Connection,
    executor: executor::Executor,
    workers: link::Workers,
    /// The address on which the master listens, until the master has reported that it is ready.
    ready: Option<std::net::SocketAddr>,
    manager: Notifier,
}

impl Master {
    async fn serve(
        &mut self,
        inputs: &mut mpsc::Receiver<Input>,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        self.connection.follow(self.executor.registry());
        self.manager.ready();
        let mut clock_due = tokio::time::interval(CLOCK_EVERY);
        let mut batch = Vec::with_capacity(DRAIN_MAX);
        loop {
            let wakeup = self.fleet.wakeup();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                _ = clock_due.tick() => {
                    self.fleet.observe(clock::boottime(), Event::Clock(clock::wall()));
                    self.connection.note_known();
                }
                count = inputs.recv_many(&mut batch, DRAIN_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                () = clock::sleep_until(wakeup) => {}
            }
            for input in batch.drain(..) {
                self.take(input)?;
            }
            self.act();
            self.manager.alive(clock::boottime());
            self.manager.status(match self.fleet.is_up() {
                true => "it serves",
                false => "it waits for the registry",
            });
        }
    }

    /// Gives the lease back and waits for the writes that are under way. Takes no new facts from workers
    /// or clients.
    async fn finish(&mut self, inputs: &mut mpsc::Receiver<Input>) {
        if !self.connection.is_up() {
            return;
        }
        self.executor.execute(self.connection.farewell());
        self.connection.stop_serving().await;
        self.fleet.observe(clock::boottime(), Event::Stopping);
        self.act();
        let settle = async {
            while self.executor.is_busy() || !self.executor.is_released() {
                let Some(input) = inputs.recv().await else { return };
                if matches!(input, Input::Registry(..)) && self.take(input).is_err() {
                    return;
                }
                self.act();
            }
        };
        if tokio::time::timeout(STOP_WITHIN, settle).await.is_err() {
            tracing::warn!(
                "stopped before the last writes were answered; it is not known whether the registry has them"
            );
        }
    }

    fn take(&mut self, input: Input) -> anyhow::Result<()> {
        let now = clock::boottime();
        match input {
            Input::Registry(SessionFact(session, fact)) if self.connection.is_current(session) => {
                self.learn(fact)?;
            }
            Input::Registry(..) => {}
            Input::Connected(registry) => self.begin_session(registry),
            Input::Served(service) => {
                self.connection.served(service);
                if let Some(address) = self.ready.take() {
                    self.connection.tell_ready(address)?;
                }
            }
            Input::Fleet(event) => self.fleet.observe(now, event),
            Input::LinkOpened { worker, link, handle } => {
                tracing::info!(%worker, link, "linked");
                self.executor.opened(link, handle);
                self.executor.welcome(link, self.connection.welcome());
            }
            Input::LinkClosed { worker, link } => {
                tracing::info!(%worker, link, "unlinked");
                self.executor.closed(link);
                self.fleet.observe(now, Event::Unlinked { worker, link });
            }
            Input::Log(chunk) => self.executor.publisher().log(chunk),
            Input::LogMax { worker, key, reply } => match self.fleet.log_max(&worker, key) {
                Some(bytes) => drop(reply.send(Some(bytes))),
                None => self.executor.log_max(worker, key, reply),
            },
            Input::Progress { worker, key, done, total } => {
                if self.fleet.holds(&worker, key) {
                    self.executor.publisher().progress(key.task, done, total);
                }
            }
            Input::Fetch { worker, store, digest, reply } => {
                let access = match self.known.is_program_for(&worker, store, digest) {
                    true => ObjectAccess::Named,
                    false => self.fleet.object_access(&worker, store, digest),
                };
                self.executor.fetch(access, store, digest, reply);
            }
            Input::Keep { worker, digest, bytes, reply } => {
                self.executor.keep(worker, digest, bytes, reply);
            }
            Input::Join { join, reply } => {
                let masters = self.fleet.addresses();
                self.executor.join(self.registrar.clone(), masters, join, reply);
            }
            Input::Checkpoint { request, reply } => self.executor.checkpoint(request, reply),
            Input::SecretTerms { worker, reply } => {
                let _ = reply.send(StreamReply::SecretTerms(self.known.terms_for(&worker)));
            }
            Input::Upgrade { worker, reply } => {
                let upgrade = self.known.upgrade_of(&worker).cloned();
                let _ = reply.send(upgrade.map_or(StreamReply::Missing, StreamReply::Upgrade));
            }
            Input::Secret { question, reply } => self.executor.secret(question, reply),
            Input::Submit { tasks, reply } => {
                let request = self.executor.ask(reply);
                self.fleet.observe(now, Event::Submitted { request, tasks });
            }
            Input::Cancel { task, reply } => {
                let request = self.executor.ask(reply);
                self.fleet.observe(now, Event::CancelAsked { request, task });
            }
            Input::Order { worker, order, reply } => {
                let request = self.executor.ask(reply);
                self.fleet.observe(now, Event::CommandAsked { request, worker, command: order });
            }
            Input::Look(look) => look(&self.fleet, &self.known),
        }
        Ok(())
    }

    /// Handles a fact from the registry of the current session.
    fn learn(&mut self, fact: Fact) -> anyhow::Result<()> {
        match fact {
            Fact::Fleet(event) => {
                self.executor.heard(&event);
                self.connection.heard(&event);
                self.fleet.observe(clock::boottime(), event);
            }
            Fact::Loaded(bucket) => {
                if let Some(loaded) = self.connection.loaded(bucket) {
                    self.loaded(loaded);
                }
            }
            Fact::ModuleSeen(entry) if entry.versions.is_empty() => {
                self.known.modules.remove(&entry.name);
            }
            Fact::ModuleSeen(entry) => {
                self.known.modules.insert(entry.name.clone(), entry);
            }
            Fact::MemberSeen(member) => {
                self.workers.heard(&member);
                self.known.members.insert(member.worker.clone(), member);
            }
            Fact::UserSeen(user) => self.users.heard(user),
            Fact::SecretSeen(secret) => self.known.heard_secret(secret),
            Fact::SecretGone(key) => drop(self.known.secrets.remove(&key)),
            Fact::UpgradeSeen(upgrade) => self.known.heard_upgrade(upgrade),
            Fact::GroupSeen(group) => self.groups.heard(group),
            Fact::ModuleGone(name) => {
                self.known.modules.remove(&name);
            }
            Fact::Down => self.lose_registry(),
        }
        Ok(())
    }

    /// Everything in the registry is known. From now on the fleet can decide, and this master serves.
    fn loaded(&mut self, loaded: Loaded) {
        self.fleet.observe(clock::boottime(), Event::Loaded(loaded));
        self.connection.note_known();
        tracing::info!(
            session = %self.connection.session(), open = self.fleet.tasks_open(),
            modules = self.known.modules.len(), "loaded"
        );
        self.executor.execute(self.connection.greeting());
        self.workers.accept();
        self.executor.welcome_all(&self.connection.welcome());
        self.connection.keep_up(self.executor.registry());
        self.connection.begin_to_serve(self.executor.registry());
    }

    /// The registry is out of reach. Only work that does not need it goes on.
    fn lose_registry(&mut self) {
        let (avoid, skip) = (self.fleet.servers_of_others(), self.fleet.sharers_before());
        self.fleet.observe(clock::boottime(), Event::RegistryDown);
        self.connection.lost(ServerChoice { avoid, skip });
    }

    fn begin_session(&mut self, registry: Registry) {
        self.fleet = self.connection.begin(&registry, Some(&self.fleet));
        // Who was revoked stays so, and users and groups keep what they have, also if the registry has forgotten
        // it. Workers keep their secrets while it is read again.
        self.known.modules.clear();
        self.executor.begin_session(registry);
        self.connection.follow(self.executor.registry());
    }

    fn act(&mut self) {
        let mut effects = Vec::new();
        self.fleet.plan(clock::boottime(), &mut effects);
        self.connection.meet(self.fleet.has_company());
        if self.executor.execute(effects) {
            tracing::warn!(
                session = %self.connection.session(),
                "declared lost by another master, or not answered by the registry"
            );
            self.lose_registry();
        }
    }
}
