//! The master: it accepts tasks, gives them to workers, and replaces lost workers. It keeps
//! nothing that is not in the registry, and this loop never waits for work.
//!
//! One loop owns the [`Fleet`]: it drains what has come, lets the fleet plan once, and hands the
//! effects off. Everything else reports to its inbox: the registry's watches and answers, the
//! links of workers, the requests of clients.

mod api;
mod config;
mod link;
mod perform;
mod registry;

pub use config::Config;

use anyhow::Context as _;
use muster_protocol::{
    Digest, SessionId, WorkerId,
    advisory::{Advisory, MasterEvent},
    api::{ModuleEntry, NewTask},
    fleet::{self, Answer, Effect, Event, Fleet},
    message::{AttemptKey, LogChunk, Shelf, ToWorker},
    subject::{Bucket, Names},
};
use muster_wire::{clock, quic, tls};
use registry::{ObjectError, Registry};
use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};

/// What may wait for the loop. Beyond it senders wait, and with them whoever sends to them.
const INBOX_MAX: usize = 16 * 1024;

/// What the loop takes in before it plans.
const DRAIN_MAX: usize = 1_024;

/// How often the fleet is told the wall clock, for the stamps that people read.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// How long a stopping master waits for its last writes.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The named modules.
type Modules = BTreeMap<String, ModuleEntry>;

/// A look at what the loop knows.
type Look = Box<dyn FnOnce(&Fleet, &Modules) + Send + Sync>;

/// Something that the loop must know or do.
#[expect(clippy::large_enum_variant, reason = "nearly every input is a fact for the fleet")]
enum Input {
    /// A fact for the fleet.
    Fleet(Event),
    /// A bucket's content has been observed.
    Loaded(Bucket),
    /// A module name has these versions.
    ModuleSeen(ModuleEntry),
    /// A module name is gone.
    ModuleGone(String),
    /// A link is up; frames for its worker go to this sender.
    LinkOpened { worker: WorkerId, link: fleet::LinkId, frames: mpsc::Sender<ToWorker> },
    /// A link is down.
    LinkClosed { worker: WorkerId, link: fleet::LinkId },
    /// What a guest wrote for people.
    Log(LogChunk),
    /// How far a run is.
    Progress { key: AttemptKey, done: u64, total: u64 },
    /// A worker wants an object.
    Fetch {
        shelf: Shelf,
        digest: Digest,
        reply: oneshot::Sender<Result<Option<bytes::Bytes>, ObjectError>>,
    },
    /// A worker brings an object.
    Keep { digest: Digest, bytes: bytes::Bytes, reply: oneshot::Sender<Result<(), ObjectError>> },
    /// A client submits tasks that have been checked.
    Submit { tasks: Vec<NewTask>, reply: oneshot::Sender<Answer> },
    /// A client wants a task cancelled.
    Cancel { task: muster_protocol::TaskId, reply: oneshot::Sender<Answer> },
    /// A client wants to see something.
    Look(Look),
}

/// Runs a master as a process of its own until it is told to stop.
pub fn main(config: Config) -> ExitCode {
    let told = match config.until_stdin_closes {
        true => muster_wire::process::Told::BySignalsOrInput,
        false => muster_wire::process::Told::BySignals,
    };
    muster_wire::process::run("muster-master", told, |stop| run(config, stop))
}

/// Runs a master until `stop` says so.
pub async fn run(config: Config, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let files =
        tls::Files { ca: config.ca.clone(), cert: config.cert.clone(), key: config.key.clone() };
    let quic = quic::server(tls::server(&files)?).context("QUIC cannot be set up")?;
    let names = Arc::new(Names::new(config.fleet.clone()));
    let session = SessionId(muster_wire::process::random()?);
    let (inbox, inputs) = mpsc::channel(INBOX_MAX);
    let registry =
        Registry::open(&config.nats, names.clone(), session, config.replicas, inbox.clone())
            .await?;
    let fleet = Fleet::new(fleet::Config {
        me: config.name.clone(),
        timing: config.lease,
        seed: session.0,
    });
    let mut master = Master {
        fleet,
        modules: BTreeMap::new(),
        unloaded: Bucket::ALL.to_vec(),
        hands: perform::Hands::new(registry.clone(), inbox.clone()),
    };
    registry.follow(inbox.clone());
    let mut inputs = inputs;
    if !master.load(&mut inputs, stop.clone()).await? {
        return Ok(());
    }

    let endpoint = quinn::Endpoint::server(quic, config.listen)
        .with_context(|| format!("UDP {} cannot be listened on", config.listen))?;
    let address = endpoint.local_addr().context("the UDP address is unknown")?;
    tokio::spawn(link::accept(endpoint.clone(), config.name.clone(), names.clone(), inbox.clone()));
    let service = api::serve(&registry, &config, names, inbox).await?;
    if let Some(path) = &config.ready_file {
        let ready = serde_json::json!({ "quic": address.to_string() }).to_string();
        muster_wire::process::write_whole(path, &ready)?;
    }
    tracing::info!(master = %config.name, %address, %session, "serving");
    master.announce(&config, MasterEvent::Started, "it serves");

    master.serve(&mut inputs, stop).await;

    tracing::info!("stopping");
    master.announce(&config, MasterEvent::Stopped, "it was told to");
    service.stop().await;
    master.finish(&mut inputs).await;
    endpoint.close(0u32.into(), b"stopping");
    registry.flush().await;
    Ok(())
}

struct Master {
    fleet: Fleet,
    modules: Modules,
    unloaded: Vec<Bucket>,
    hands: perform::Hands,
}

impl Master {
    /// Takes in what the registry holds.
    /// Returns whether it was not told to stop meanwhile.
    async fn load(
        &mut self,
        inputs: &mut mpsc::Receiver<Input>,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<bool> {
        let now = clock::boottime();
        self.fleet.observe(now, Event::Clock(clock::wall()));
        self.fleet.observe(now, Event::RegistryUp);
        while !self.unloaded.is_empty() {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(false),
                input = inputs.recv() => {
                    self.take(input.context("the registry's watches are gone")?);
                }
            }
        }
        self.fleet.observe(clock::boottime(), Event::Loaded);
        tracing::info!(open = self.fleet.tasks_open(), modules = self.modules.len(), "loaded");
        Ok(true)
    }

    async fn serve(&mut self, inputs: &mut mpsc::Receiver<Input>, mut stop: watch::Receiver<bool>) {
        let mut clock_due = tokio::time::interval(CLOCK_EVERY);
        let mut batch = Vec::with_capacity(DRAIN_MAX);
        loop {
            let wakeup = self.fleet.wakeup();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                _ = clock_due.tick() => {
                    self.fleet.observe(clock::boottime(), Event::Clock(clock::wall()));
                }
                count = inputs.recv_many(&mut batch, DRAIN_MAX) => {
                    if count == 0 {
                        return;
                    }
                }
                () = clock::sleep_until(wakeup) => {}
            }
            for input in batch.drain(..) {
                self.take(input);
            }
            self.act();
        }
    }

    /// Lets writes that are under way come to their end; begins none for new facts of workers.
    async fn finish(&mut self, inputs: &mut mpsc::Receiver<Input>) {
        let settle = async {
            while self.hands.is_busy() {
                let Some(input) = inputs.recv().await else { return };
                self.take(input);
                self.act();
            }
        };
        if tokio::time::timeout(STOP_WITHIN, settle).await.is_err() {
            tracing::warn!(
                "stopped before the last writes were answered; they are in the registry or not"
            );
        }
    }

    fn take(&mut self, input: Input) {
        let now = clock::boottime();
        match input {
            Input::Fleet(event) => {
                self.hands.heard(&event);
                self.fleet.observe(now, event);
            }
            Input::Loaded(bucket) => self.unloaded.retain(|left| *left != bucket),
            Input::ModuleSeen(entry) if entry.versions.is_empty() => {
                self.modules.remove(&entry.name);
            }
            Input::ModuleSeen(entry) => {
                self.modules.insert(entry.name.clone(), entry);
            }
            Input::ModuleGone(name) => {
                self.modules.remove(&name);
            }
            Input::LinkOpened { worker, link, frames } => {
                tracing::info!(%worker, link, "linked");
                self.hands.opened(link, frames);
            }
            Input::LinkClosed { worker, link } => {
                tracing::info!(%worker, link, "unlinked");
                self.hands.closed(link);
                self.fleet.observe(now, Event::Unlinked { worker, link });
            }
            Input::Log(chunk) => self.hands.log(chunk),
            Input::Progress { key, done, total } => self.hands.progress(key.task, done, total),
            Input::Fetch { shelf, digest, reply } => self.hands.fetch(shelf, digest, reply),
            Input::Keep { digest, bytes, reply } => self.hands.keep(digest, bytes, reply),
            Input::Submit { tasks, reply } => {
                let request = self.hands.ask(reply);
                self.fleet.observe(now, Event::Submitted { request, tasks });
            }
            Input::Cancel { task, reply } => {
                let request = self.hands.ask(reply);
                self.fleet.observe(now, Event::CancelAsked { request, task });
            }
            Input::Look(look) => look(&self.fleet, &self.modules),
        }
    }

    fn act(&mut self) {
        let mut effects = Vec::new();
        self.fleet.plan(clock::boottime(), &mut effects);
        self.hands.perform(effects);
    }

    fn announce(&mut self, config: &Config, what: MasterEvent, reason: &str) {
        let advisory =
            Advisory::Master { master: config.name.clone(), what, reason: reason.into() };
        self.hands.perform(vec![Effect::Publish(advisory)]);
    }
}
