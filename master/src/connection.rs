//! A master's connections to the registry: looked for, followed, and served from, one after the other.
//! Never two at once. What one session may conclude from the one before is decided by [`Sessions`].

use crate::{
    api,
    config::Config,
    inbox::Input,
    registry::{Fact, Registry, RegistryError, Said},
    upkeep,
};
use anyhow::Context as _;
use async_nats::service::Service;
use muster_protocol::{
    Nonce, SessionId, Time,
    advisory::{Advisory, MasterEvent, RegistryEvent},
    fleet::{self, Effect, Event, Fleet, Loaded},
    lease::Home,
    limit,
    message::ToWorker,
    registry::Marks,
    sessions::Sessions,
    subject::{Bucket, Names},
};
use muster_wire::{clock, process, state};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

/// How long to wait before the registry is looked for again: first, and at most.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// The connection of now, and what the next one needs.
pub(crate) struct Connection {
    config: Config,
    seeker: Seeker,
    sessions: Sessions,
    machine: Nonce,
    /// Whether other masters may write to the registry, as far as this session knows.
    company: watch::Sender<bool>,
    /// Since when there is none that serves.
    down: Option<Time>,
    watches: JoinSet<()>,
    serving: Option<AbortHandle>,
    api: Option<Service>,
}

/// What looks for the registry.
#[derive(Clone)]
struct Seeker {
    config: Config,
    names: Arc<Names>,
    inbox: mpsc::Sender<Input>,
    state: Option<Arc<state::StateDir>>,
    noted: Arc<Mutex<Vec<SessionId>>>,
}

impl Seeker {
    /// Connects under a session that nobody has had.
    async fn connect(&self) -> anyhow::Result<Registry> {
        let session = SessionId(process::random()?);
        let inbox = self.inbox.clone();
        let on_break = move || {
            let inbox = inbox.clone();
            tokio::spawn(
                async move { inbox.send(Input::Registry(Said(session, Fact::Down))).await },
            );
        };
        let (address, names) = (&self.config.nats, self.names.clone());
        let keep = self.config.keep();
        let registry = Registry::open(address, names, session, keep, on_break).await?;
        // Once there is a connection, so that those that fail leave the earlier sessions noted; and
        // before the session holds anything.
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

    /// Connects, and tries again after every failure but one that `is_final`.
    async fn persist(&self, is_final: impl Fn(&anyhow::Error) -> bool) -> anyhow::Result<Registry> {
        let mut wait = AGAIN_MIN;
        loop {
            match self.connect().await {
                Err(error) if !is_final(&error) => {
                    let cause = format!("{error:#}");
                    tracing::warn!(cause, "the registry is not reached; trying on");
                }
                result => return result,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    async fn seek(self) {
        if let Ok(registry) = self.persist(|_| false).await {
            let _ = self.inbox.send(Input::Connected(registry)).await;
        }
    }
}

impl Connection {
    pub(crate) fn new(
        config: &Config,
        names: Arc<Names>,
        state: Option<state::StateDir>,
        inbox: mpsc::Sender<Input>,
    ) -> anyhow::Result<Self> {
        let proven = state.as_ref().map(state::StateDir::sessions).unwrap_or_default();
        let known: Option<Marks> = state.as_ref().and_then(|state| state.known());
        let machine = state::machine().context("the kernel does not say which boot this is")?;
        let noted = Arc::new(Mutex::new(proven.clone()));
        let state = state.map(Arc::new);
        Ok(Connection {
            config: config.clone(),
            seeker: Seeker { config: config.clone(), names, inbox, state, noted },
            sessions: Sessions::new(proven, known.unwrap_or_default()),
            machine,
            company: watch::Sender::new(true),
            down: None,
            watches: JoinSet::new(),
            serving: None,
            api: None,
        })
    }

    /// The first connection. A server that is not there yet is waited for, as after a break; an error is
    /// something that whoever started this master must change.
    pub(crate) async fn connect_first(&mut self) -> anyhow::Result<Registry> {
        let is_passing =
            |error: &anyhow::Error| error.downcast_ref().is_some_and(RegistryError::is_passing);
        self.seeker.persist(|error| !is_passing(error)).await
    }

    /// Begins a session on a connection; `before` is the fleet of the last one.
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

    /// Keeps in the state directory how far the registry is known to reach.
    pub(crate) fn note_known(&self) {
        let Some(state) = self.seeker.state.clone() else { return };
        let known = *self.sessions.known();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = state.note_known(&known) {
                tracing::warn!(%error, "the state directory cannot be written to; make room in it");
            }
        });
    }

    /// Follows the buckets from what is in them now.
    pub(crate) fn follow(&mut self, registry: &Registry) {
        self.company.send_replace(true);
        self.watches = registry.follow(&self.company.subscribe(), &self.seeker.inbox);
    }

    /// Notes whether this master is one of several.
    pub(crate) fn meet(&self, company: bool) {
        self.company.send_if_modified(|known| std::mem::replace(known, company) != company);
    }

    /// The connection is broken; the next one is looked for.
    pub(crate) fn lost(&mut self) {
        if !self.sessions.broken() {
            return;
        }
        tracing::warn!(session = %self.session(), "the registry is out of reach; runs go on");
        self.down.get_or_insert(clock::boottime());
        self.stop_watching();
        tokio::spawn(self.seeker.clone().seek());
    }

    fn stop_watching(&mut self) {
        self.watches.abort_all();
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        self.api = None;
    }

    /// Takes note of how far the registry is known to reach.
    pub(crate) fn heard(&mut self, event: &Event) {
        self.sessions.heard(event);
    }

    /// A bucket is known; with the last of them, all that a fleet has to know of the registry.
    pub(crate) fn loaded(&mut self, bucket: Bucket) -> Option<Loaded> {
        self.sessions.loaded(bucket)
    }

    /// What workers are told of this session.
    pub(crate) fn welcome(&self) -> ToWorker {
        ToWorker::Welcome {
            master: Home { master: self.config.name.clone(), session: self.session() },
            machine: self.machine,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// What the world is told when a session has begun.
    pub(crate) fn greeting(&mut self) -> Vec<Effect> {
        let master = self.config.name.clone();
        vec![Effect::Publish(match self.down.take() {
            None => self.news(MasterEvent::Started, "it serves"),
            Some(since) => {
                let away = clock::boottime().since(since).as_secs_f32();
                let reason = format!("it did not answer for {away:.1} s; runs went on");
                Advisory::Registry { master, what: RegistryEvent::Degraded, reason }
            }
        })]
    }

    pub(crate) fn farewell(&self) -> Vec<Effect> {
        vec![Effect::Publish(self.news(MasterEvent::Stopped, "it was told to"))]
    }

    fn news(&self, what: MasterEvent, reason: &str) -> Advisory {
        Advisory::Master { master: self.config.name.clone(), what, reason: reason.into() }
    }

    /// Begins to answer clients.
    pub(crate) fn begin_to_serve(&mut self, registry: &Registry) {
        let (registry, seeker) = (registry.clone(), self.seeker.clone());
        let session = registry.session();
        let serving = tokio::spawn(async move {
            let inbox = seeker.inbox.clone();
            match api::serve(&registry, &seeker.config, seeker.names, inbox.clone()).await {
                Ok(api) => {
                    let _ = inbox.send(Input::Served(api)).await;
                }
                Err(cause) => {
                    tracing::warn!(%cause, "clients cannot be answered");
                    let _ = inbox.send(Input::Registry(Said(session, Fact::Down))).await;
                }
            }
        });
        self.serving = Some(serving.abort_handle());
    }

    /// Begins to keep from expiring what open tasks need.
    pub(crate) fn keep_up(&mut self, registry: &Registry) {
        self.watches.spawn(upkeep::keep_up(registry.clone(), self.seeker.inbox.clone()));
    }

    pub(crate) fn served(&mut self, api: Service) {
        self.api = Some(api);
    }

    /// Says where it serves, to the log and to whoever waits for the file.
    pub(crate) fn tell_ready(&self, address: SocketAddr) -> anyhow::Result<()> {
        if let Some(path) = &self.config.ready_file {
            let ready = serde_json::json!({ "quic": address.to_string() }).to_string();
            process::write_whole(path, &ready)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        tracing::info!(master = %self.config.name, %address, session = %self.session(), "serving");
        Ok(())
    }

    /// Takes no more requests.
    pub(crate) async fn stop_serving(&mut self) {
        if let Some(api) = self.api.take() {
            let _ = api.stop().await;
        }
    }
}
