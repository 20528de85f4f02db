//! A master's connections to the registry, one after the other: connect, follow the buckets, serve
//! clients. Never has two at once. [`Sessions`] decides what a session may conclude from the one before.

use crate::{
    api,
    config::Config,
    inbox::Input,
    registry::{Fact, Registry, RegistryError, SessionFact},
    sites, upkeep,
};
use anyhow::Context as _;
use async_nats::service::Service;
use muster_protocol::{
    Nonce, SessionId, Time,
    advisory::{Advisory, MasterEvent, RegistryEvent},
    fleet::{self, Effect, Event, Fleet, Loaded},
    frame::FrameRange,
    lease::Home,
    limit,
    message::ToWorker,
    registry::{Marks, ServerId},
    sessions::Sessions,
    subject::Bucket,
};
use muster_wire::{clock, nats::Access, process, state};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// Backoff between two tries to connect: the first, and the longest.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// The current connection, and the state that the next one needs.
pub(crate) struct Connection {
    config: Config,
    seeker: Seeker,
    sessions: Sessions,
    machine: Nonce,
    /// Whether other masters may write to the registry, as far as this session knows.
    company: watch::Sender<bool>,
    /// When the connection was lost, until another session serves.
    down: Option<Time>,
    watches: JoinSet<()>,
    serving: Option<AbortHandle>,
    api: Option<Service>,
}

/// Which server the next connection is made to, so that one server's failure concerns few masters.
pub(crate) struct ServerChoice {
    /// The servers of other masters.
    pub(crate) avoid: BTreeSet<ServerId>,
    /// How many servers are left to the masters that have lost the same one.
    pub(crate) skip: usize,
}

/// Connects to the registry.
#[derive(Clone)]
struct Seeker {
    config: Config,
    access: Access,
    served: api::Served,
    state: Option<Arc<state::StateDir>>,
    noted: Arc<Mutex<Vec<SessionId>>>,
    /// Whether this process has had a connection.
    was_connected: Arc<AtomicBool>,
}

impl Seeker {
    /// Connects under a new random session id.
    async fn connect(&self, avoid: &BTreeSet<ServerId>) -> anyhow::Result<Registry> {
        let session = SessionId(process::random()?);
        let inbox = self.served.inbox.clone();
        let on_break = move || {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                inbox.send(Input::Registry(SessionFact(session, Fact::Down))).await
            });
        };
        let (access, names) = (&self.access, self.served.names.clone());
        let keep = self.config.keep();
        let is_first = !self.was_connected.load(Ordering::Relaxed);
        let registry =
            Registry::open(access, names, session, keep, is_first, avoid, on_break).await?;
        self.was_connected.store(true, Ordering::Relaxed);
        // Note the session only after the connection is up, so that failed tries do not push earlier
        // sessions out of the note. Note it before the session can hold anything.
        if let Some(state) = self.state.clone() {
            let sessions = {
                let mut noted = self.noted.lock().expect("no holder of this lock panics");
                noted.push(session);
                noted.clone()
            };
            tokio::task::spawn_blocking(move || state.note(&sessions))
                .await?
                .context("the state directory cannot be written to")?;
        }
        Ok(registry)
    }

    /// Connects. Retries after every error unless `is_final` says that the error is final. Avoids some
    /// servers until each server has been tried.
    async fn persist(
        &self,
        mut avoid: BTreeSet<ServerId>,
        is_final: impl Fn(&anyhow::Error) -> bool,
    ) -> anyhow::Result<Registry> {
        let (mut wait, mut tried) = (AGAIN_MIN, 0);
        loop {
            if tried >= self.access.servers() {
                avoid.clear();
            }
            tried += 1;
            match self.connect(&avoid).await {
                Err(error) if matches!(error.downcast_ref(), Some(RegistryError::Shared)) => {
                    continue;
                }
                Err(error) if !is_final(&error) => {
                    let cause = format!("{error:#}");
                    tracing::warn!(cause, "the registry cannot be used yet; trying again");
                }
                result => return result,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    async fn seek(self, choice: ServerChoice) {
        self.access.skip(choice.skip);
        if let Ok(registry) = self.persist(choice.avoid, |_| false).await {
            let _ = self.served.inbox.send(Input::Connected(registry)).await;
        }
    }
}

impl Connection {
    pub(crate) fn new(
        config: &Config,
        access: Access,
        served: api::Served,
        state: Option<state::StateDir>,
    ) -> anyhow::Result<Self> {
        let proven = state.as_ref().map(state::StateDir::sessions).unwrap_or_default();
        let known: Option<Marks> = state.as_ref().and_then(|state| state.known());
        let machine = state::machine().context("the kernel gives no boot id")?;
        let noted = Arc::new(Mutex::new(proven.clone()));
        let state = state.map(Arc::new);
        Ok(Connection {
            config: config.clone(),
            seeker: Seeker {
                config: config.clone(),
                access,
                served,
                state,
                noted,
                was_connected: Arc::default(),
            },
            sessions: Sessions::new(proven, known.unwrap_or_default()),
            machine,
            company: watch::Sender::new(true),
            down: None,
            watches: JoinSet::new(),
            serving: None,
            api: None,
        })
    }

    /// Makes the first connection. Waits for a server that is not there yet, as after a break. An error
    /// means that the operator must change something.
    pub(crate) async fn connect_first(&mut self) -> anyhow::Result<Registry> {
        let is_passing =
            |error: &anyhow::Error| error.downcast_ref().is_some_and(RegistryError::is_passing);
        self.seeker.persist(BTreeSet::new(), |error| !is_passing(error)).await
    }

    /// Begins a session on a new connection. `before` is the fleet of the last session.
    pub(crate) fn begin(&mut self, registry: &Registry, before: Option<&Fleet>) -> Fleet {
        let memory = before.map(Fleet::memory).unwrap_or_default();
        self.sessions.begin(registry.session(), registry.ends(), memory);
        let mut fleet = Fleet::new(fleet::Config {
            me: self.config.name.clone(),
            session: registry.session(),
            succeeds: self.sessions.succeeds(),
            remembers: self.sessions.remembers(),
            memory: self.sessions.memory().clone(),
            server: registry.server(),
            connected_to: Some(registry.connected_to()),
            address: self.config.address(),
            issues: self.config.ca_key.is_some(),
            timing: self.config.timing(),
            leases_keep: limit::LEASE_KEEP,
        });
        fleet.observe(clock::boottime(), Event::Clock(clock::wall()));
        fleet
    }

    pub(crate) fn is_current(&self, session: SessionId) -> bool {
        self.sessions.is_current(session)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.sessions.is_up()
    }

    pub(crate) fn session(&self) -> SessionId {
        self.sessions.session().unwrap_or(SessionId(0))
    }

    /// Stores in the state directory how far the registry is known to reach.
    pub(crate) fn note_known(&self) {
        let Some(state) = self.seeker.state.clone() else { return };
        let known = *self.sessions.known();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = state.note_known(&known) {
                tracing::warn!(%error, "the state directory cannot be written to; make room in it");
            }
        });
    }

    /// Follows the buckets, from their present content.
    pub(crate) fn follow(&mut self, registry: &Registry) {
        self.company.send_replace(true);
        self.watches = registry.follow(&self.company.subscribe(), &self.seeker.served.inbox);
    }

    /// Notes whether other masters may write to the registry.
    pub(crate) fn meet(&self, company: bool) {
        self.company.send_if_modified(|known| std::mem::replace(known, company) != company);
    }

    /// The connection broke: stops everything that uses it, and looks for the next one.
    pub(crate) fn lost(&mut self, choice: ServerChoice) {
        if !self.sessions.broken() {
            return;
        }
        tracing::warn!(session = %self.session(), "the registry is out of reach; runs go on");
        self.down.get_or_insert(clock::boottime());
        self.stop_watching();
        tokio::spawn(self.seeker.clone().seek(choice));
    }

    fn stop_watching(&mut self) {
        self.watches.abort_all();
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        self.api = None;
    }

    /// Notes how far the registry reaches, by what this event shows.
    pub(crate) fn heard(&mut self, event: &Event) {
        self.sessions.heard(event);
    }

    /// A bucket is loaded. When it is the last one, returns what the session found in the registry.
    pub(crate) fn loaded(&mut self, bucket: Bucket) -> Option<Loaded> {
        self.sessions.loaded(bucket)
    }

    /// The message by which this session introduces itself to workers.
    pub(crate) fn welcome(&self) -> ToWorker {
        ToWorker::Welcome {
            master: Home { master: self.config.name.clone(), session: self.session() },
            machine: self.machine,
            version: env!("CARGO_PKG_VERSION").into(),
            frames: FrameRange::SPOKEN,
        }
    }

    /// The event to publish when a session begins to serve.
    pub(crate) fn greeting(&mut self) -> Vec<Effect> {
        let master = self.config.name.clone();
        vec![Effect::Publish(match self.down.take() {
            None => self.event(MasterEvent::Started, "it serves"),
            Some(since) => {
                let away = clock::boottime().since(since).as_secs_f32();
                let reason = format!("it did not answer for {away:.1} s; runs went on");
                Advisory::Registry { master, what: RegistryEvent::Degraded, reason }
            }
        })]
    }

    pub(crate) fn farewell(&self) -> Vec<Effect> {
        vec![Effect::Publish(self.event(MasterEvent::Stopped, "it was stopped"))]
    }

    fn event(&self, what: MasterEvent, reason: &str) -> Advisory {
        Advisory::Master { master: self.config.name.clone(), what, reason: reason.into() }
    }

    /// Begins to answer clients.
    pub(crate) fn begin_to_serve(&mut self, registry: &Registry) {
        let (registry, seeker) = (registry.clone(), self.seeker.clone());
        let session = registry.session();
        let serving = tokio::spawn(async move {
            let Seeker { config, served, .. } = seeker;
            let inbox = served.inbox.clone();
            served.audit.begin_session(&registry);
            match api::serve(&registry, &config, served).await {
                Ok(api) => {
                    let _ = inbox.send(Input::Served(api)).await;
                }
                Err(cause) => {
                    tracing::warn!(%cause, "clients cannot be answered");
                    let _ = inbox.send(Input::Registry(SessionFact(session, Fact::Down))).await;
                }
            }
        });
        self.serving = Some(serving.abort_handle());
    }

    /// Begins to keep the streams, and the objects and checkpoints that open tasks need.
    pub(crate) fn keep_up(&mut self, registry: &Registry) {
        self.watches.spawn(upkeep::keep_streams(registry.clone(), self.config.name.clone()));
        self.watches.spawn(upkeep::keep_up(registry.clone(), self.seeker.served.inbox.clone()));
        for site in &self.config.sites {
            let master = self.config.name.clone();
            self.watches.spawn(sites::watch(registry.clone(), site.clone(), master));
        }
    }

    pub(crate) fn served(&mut self, api: Service) {
        self.api = Some(api);
    }

    /// Reports the address on which this master serves: in the log, and in the ready file if one is
    /// configured.
    pub(crate) fn tell_ready(&self, address: SocketAddr) -> anyhow::Result<()> {
        if let Some(path) = &self.config.ready_file {
            let ready = serde_json::json!({ "quic": address.to_string() }).to_string();
            process::write_whole(path, &ready)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        tracing::info!(master = %self.config.name, %address, session = %self.session(), "serving");
        Ok(())
    }

    /// Takes no more requests of clients.
    pub(crate) async fn stop_serving(&mut self) {
        if let Some(api) = self.api.take() {
            let _ = api.stop().await;
        }
    }
}
