//! The lives of a master: one for each connection to the registry, each with a session and a mind of
//! its own. Never two at once, and never one that carries anything over but proof that the ones
//! before it are over.

use crate::{Config, Fact, Input, api, registry::Registry};
use anyhow::Context as _;
use muster_protocol::{
    Nonce, SessionId, Time,
    advisory::{Advisory, MasterEvent, RegistryEvent},
    fleet::{self, Effect, Event, Fleet},
    lease::{CasAnswer, Home},
    message::ToWorker,
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

/// The number of a life in this process.
pub(crate) type Life = u64;

/// How long to wait before the registry is looked for again: first, and at most.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// Which life it is, and what it needs to begin and to end.
pub(crate) struct Lives {
    config: Config,
    seeker: Seeker,
    life: Life,
    session: SessionId,
    machine: Nonce,
    /// Sessions that are over: those of this process, and those that its state directory proves.
    past: Vec<SessionId>,
    /// The renewal of the life before that was acknowledged last, and what the registry has of it.
    before: Option<(SessionId, u64)>,
    before_seen: Option<u64>,
    /// Until when everything that the registry has forgotten may still run. A life that begins
    /// before then has to wait as the one did that noticed.
    rewound_until: Time,
    /// The latest renewal of this life that was acknowledged.
    renewal: u64,
    unloaded: Vec<Bucket>,
    /// Whether other masters may write to the registry, as far as this life knows.
    company: watch::Sender<bool>,
    /// Whether this life has lost its registry.
    is_over: bool,
    /// Since when there is none that serves.
    down: Option<Time>,
    watches: JoinSet<()>,
    serving: Option<AbortHandle>,
    api: Option<api::Api>,
}

/// What looks for the registry.
#[derive(Clone)]
struct Seeker {
    config: Config,
    names: Arc<Names>,
    inbox: mpsc::Sender<Input>,
    state: Option<Arc<state::State>>,
    sessions: Arc<Mutex<Vec<SessionId>>>,
}

impl Seeker {
    /// Connects as this life, under a session that nobody has had.
    async fn connect(&self, life: Life) -> anyhow::Result<Registry> {
        let session = SessionId(process::random()?);
        if let Some(state) = self.state.clone() {
            let sessions = {
                let mut sessions = self.sessions.lock().expect("no holder of this lock panics");
                sessions.push(session);
                sessions.clone()
            };
            tokio::task::spawn_blocking(move || state.note(&sessions))
                .await?
                .context("the state directory cannot be written to")?;
        }
        let inbox = self.inbox.clone();
        let on_break = move || {
            let inbox = inbox.clone();
            tokio::spawn(async move { inbox.send(Input::Registry(life, Fact::Down)).await });
        };
        let (url, names) = (&self.config.nats, self.names.clone());
        let registry =
            Registry::open(url, names, session, life, self.config.replicas, on_break).await?;
        Ok(registry)
    }

    async fn seek(self, life: Life) {
        let mut wait = AGAIN_MIN;
        loop {
            match self.connect(life).await {
                Ok(registry) => {
                    let _ = self.inbox.send(Input::Connected(registry)).await;
                    return;
                }
                Err(cause) => tracing::debug!(%cause, "the registry is not reached"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }
}

impl Lives {
    pub(crate) fn new(
        config: &Config,
        names: Arc<Names>,
        state: Option<state::State>,
        inbox: mpsc::Sender<Input>,
    ) -> anyhow::Result<Self> {
        let past = state.as_ref().map(state::State::sessions).unwrap_or_default();
        let machine = state::machine().context("the kernel does not say which boot this is")?;
        let sessions = Arc::new(Mutex::new(past.clone()));
        let state = state.map(Arc::new);
        Ok(Lives {
            config: config.clone(),
            seeker: Seeker { config: config.clone(), names, inbox, state, sessions },
            life: 0,
            session: SessionId(0),
            machine,
            past,
            before: None,
            before_seen: None,
            rewound_until: Time::ZERO,
            renewal: 0,
            unloaded: Bucket::FOLLOWED.to_vec(),
            company: watch::Sender::new(true),
            is_over: false,
            down: None,
            watches: JoinSet::new(),
            serving: None,
            api: None,
        })
    }

    /// The first connection. An error is something that whoever started this master must change.
    pub(crate) async fn connect_first(&mut self) -> anyhow::Result<Registry> {
        let registry = self.seeker.connect(self.life).await?;
        self.session = registry.session();
        Ok(registry)
    }

    /// A mind for this life.
    pub(crate) fn mind(&self) -> Fleet {
        let mut fleet = Fleet::new(fleet::Config {
            me: self.config.name.clone(),
            session: self.session,
            succeeds: self.past.clone(),
            timing: self.config.timing(),
        });
        fleet.observe(clock::boottime(), Event::Clock(clock::wall()));
        fleet
    }

    pub(crate) fn is_now(&self, life: Life) -> bool {
        life == self.life && !self.is_over
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.is_over
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
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

    /// This life has lost its registry; the next is looked for.
    pub(crate) fn lost(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        tracing::warn!(session = %self.session, "the registry is out of reach; runs go on");
        self.down.get_or_insert(clock::boottime());
        self.stop_watching();
        tokio::spawn(self.seeker.clone().seek(self.life + 1));
    }

    fn stop_watching(&mut self) {
        self.watches.abort_all();
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        self.api = None;
    }

    /// The next life.
    pub(crate) fn begin(&mut self, registry: &Registry) {
        self.past.push(self.session);
        // A life that has not learned whether the registry lost writes leaves that to this one.
        if self.unloaded.is_empty() {
            self.before = Some((self.session, self.renewal));
        }
        self.before_seen = None;
        self.renewal = 0;
        self.is_over = false;
        self.life = registry.life();
        self.session = registry.session();
        self.unloaded = Bucket::FOLLOWED.to_vec();
    }

    /// Notes what was acknowledged, and what the registry has of the life before.
    pub(crate) fn heard(&mut self, event: &Event) {
        match event {
            Event::MasterWritten { lease, answer: CasAnswer::Written(_) }
                if lease.session == self.session =>
            {
                self.renewal = self.renewal.max(lease.renewal);
            }
            Event::MasterSeen(lease, _)
                if self.before.is_some_and(|(session, _)| session == lease.session) =>
            {
                self.before_seen = self.before_seen.max(Some(lease.renewal));
            }
            _ => {}
        }
    }

    /// A bucket is known. With the last of them: whether the registry has lost what it had
    /// acknowledged to the life before.
    pub(crate) fn loaded(&mut self, bucket: Bucket) -> Option<bool> {
        self.unloaded.retain(|left| *left != bucket);
        if !self.unloaded.is_empty() {
            return None;
        }
        let forgotten = self.before.is_some_and(|(_, renewal)| self.before_seen < Some(renewal));
        Some(forgotten || clock::boottime() < self.rewound_until)
    }

    /// This life gives nothing out before then; nor may one that follows it.
    pub(crate) fn hold_until(&mut self, until: Time) {
        self.rewound_until = until;
    }

    /// What workers are told of this life.
    pub(crate) fn welcome(&self) -> ToWorker {
        ToWorker::Welcome {
            master: Home { master: self.config.name.clone(), session: self.session },
            machine: self.machine,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// What the world is told when a life has begun.
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
        let (registry, seeker, life) = (registry.clone(), self.seeker.clone(), self.life);
        let serving = tokio::spawn(async move {
            let inbox = seeker.inbox.clone();
            match api::serve(&registry, &seeker.config, seeker.names, inbox.clone()).await {
                Ok(api) => {
                    let _ = inbox.send(Input::Served(api)).await;
                }
                Err(cause) => {
                    tracing::warn!(%cause, "clients cannot be answered");
                    let _ = inbox.send(Input::Registry(life, Fact::Down)).await;
                }
            }
        });
        self.serving = Some(serving.abort_handle());
    }

    pub(crate) fn served(&mut self, api: api::Api) {
        self.api = Some(api);
    }

    /// Says where it serves, to the log and to whoever waits for the file.
    pub(crate) fn tell_ready(&self, address: SocketAddr) -> anyhow::Result<()> {
        if let Some(path) = &self.config.ready_file {
            let ready = serde_json::json!({ "quic": address.to_string() }).to_string();
            process::write_whole(path, &ready)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        tracing::info!(master = %self.config.name, %address, session = %self.session, "serving");
        Ok(())
    }

    /// Takes no more requests.
    pub(crate) async fn stop_serving(&mut self) {
        if let Some(api) = self.api.take() {
            api.stop().await;
        }
    }
}
