//! A fleet for hostile guests: one worker, which also runs the short tasks of a neighbour, which are
//! timed. The guests are uploaded without any check of the command, as an attacker would upload them.

use super::Guest;
use crate::{Fleet, fleet::text};
use anyhow::Context as _;
use async_nats::jetstream;
use futures::StreamExt as _;
use muster_protocol::{
    BatchId, Digest, TaskId,
    api::{Endpoint, NewTask, Submit, TaskEnded},
    task::{Data, Limits, ModuleRef, Outcome, TaskSpec},
};
use muster_wire::objects::Objects;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The slots of the worker: one for the guest, one for the neighbour, and two spare ones.
const SLOTS: &str = "4";

/// How long to wait for the end of a guest. Most of that is for its compilation.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// The worker's limit on the time to compile, in seconds.
const COMPILE_SECONDS: u64 = 3;

/// The number of the neighbour's tasks that are timed after each guest, while nothing else runs.
const QUIET: usize = 40;

/// The number of the neighbour's tasks that are timed beside an ordinary program.
const CONTROL: usize = 2_000;

/// The fleet, with the times of the neighbour's tasks.
pub struct HostileFleet {
    fleet: Fleet,
    client: async_nats::Client,
    noop: Digest,
    ids: Arc<AtomicU64>,
    worker: i32,
    /// The durations of the neighbour's tasks, while nothing else runs.
    pub quiet: Vec<Duration>,
    /// The durations of the neighbour's tasks, beside a hostile guest.
    pub beside: Vec<Duration>,
}

impl HostileFleet {
    /// Starts the fleet, and times the neighbour's tasks for the first time.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn new() -> anyhow::Result<Self> {
        let mut fleet = Fleet::registry();
        fleet.start_master("m1");
        let policy = fleet.path("policy.toml");
        let rules = format!("dir_mib = 64\n[compile]\nseconds = {COMPILE_SECONDS}\n");
        std::fs::write(&policy, rules)?;
        fleet.start_worker("w1", &["--slots", SLOTS, "--policy", text(&policy)]);
        fleet.push("noop");
        let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
        let noop = modules["modules"][0]["versions"][0]["digest"].as_str().context("a digest")?;
        let client = async_nats::connect(fleet.nats_url()).await?;
        let worker = fleet.child_pid("w1").context("the worker's process")?;
        let (noop, ids) = (noop.parse()?, Arc::new(AtomicU64::new(1)));
        let (quiet, beside) = (Vec::new(), Vec::new());
        let mut field = HostileFleet { fleet, client, noop, ids, worker, quiet, beside };
        // In the first round nothing is compiled yet.
        field.neighbour(QUIET, &AtomicBool::new(false)).await?;
        field.quiet = field.neighbour(QUIET, &AtomicBool::new(false)).await?;
        Ok(field)
    }

    /// Runs a guest beside the neighbour. Returns the outcome of the guest.
    ///
    /// # Errors
    ///
    /// When the guest did not end, or the neighbour's tasks did not.
    pub async fn fight(&mut self, guest: &Guest) -> anyhow::Result<Outcome> {
        let store = self.fleet.names().module_store();
        let store = Objects::open(&jetstream::new(self.client.clone()), &store).await?;
        let digest = muster_module::digest(&guest.bytes);
        store.put(digest, guest.bytes.clone().into()).await?;
        let spec = self.spec(digest, guest.limits, guest.grants.clone());
        let over = AtomicBool::new(false);
        let (ended, beside) = tokio::join!(
            async {
                let ended = self.run(spec, ENDS_WITHIN).await;
                over.store(true, Ordering::SeqCst);
                ended
            },
            self.neighbour(usize::MAX, &over),
        );
        self.beside.extend(beside?);
        let quiet = self.neighbour(QUIET, &AtomicBool::new(false)).await?;
        self.quiet.extend(quiet);
        ended
    }

    /// The durations of the neighbour's tasks beside an ordinary program of this machine that only
    /// computes. No sandbox could do better.
    ///
    /// # Errors
    ///
    /// When the tasks did not end.
    pub async fn beside_a_program(&self) -> anyhow::Result<Vec<Duration>> {
        let over = Arc::new(AtomicBool::new(false));
        let program = {
            let over = over.clone();
            std::thread::spawn(move || while !over.load(Ordering::Relaxed) {})
        };
        let took = self.neighbour(CONTROL, &AtomicBool::new(false)).await;
        over.store(true, Ordering::Relaxed);
        program.join().map_err(|_| anyhow::anyhow!("it counts nothing and cannot fail"))?;
        took
    }

    /// Whether the worker's process is still the same as at the beginning.
    pub fn has_survived(&self) -> bool {
        self.fleet.child_pid("w1") == Some(self.worker)
    }

    /// The most memory that the worker's process ever used, in bytes.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn memory_most(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.worker))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>()?;
        Ok(kib * 1024)
    }

    /// The worker's log.
    pub fn log(&self) -> String {
        self.fleet.log("w1")
    }

    /// Runs the neighbour's tasks one after another, until there were `count` of them or until `over` is
    /// true.
    async fn neighbour(&self, count: usize, over: &AtomicBool) -> anyhow::Result<Vec<Duration>> {
        let spec = self.spec(self.noop, Limits::default(), Default::default());
        let mut took = Vec::new();
        while took.len() < count && !over.load(Ordering::SeqCst) {
            let began = Instant::now();
            let outcome = self.run(spec.clone(), ENDS_WITHIN).await.context("the neighbour")?;
            anyhow::ensure!(outcome.verdict.word() == "completed", "the neighbour: {outcome:?}");
            took.push(began.elapsed());
        }
        Ok(took)
    }

    fn spec(
        &self,
        digest: Digest,
        limits: Limits,
        grants: muster_protocol::grant::Grants,
    ) -> Arc<TaskSpec> {
        let module = ModuleRef { name: None, digest };
        let spec = TaskSpec::new(module, Data::Inline("hello".into()));
        Arc::new(TaskSpec { limits, grants: Arc::new(grants), ..spec })
    }

    async fn run(&self, spec: Arc<TaskSpec>, within: Duration) -> anyhow::Result<Outcome> {
        let id = TaskId(u128::from(self.ids.fetch_add(1, Ordering::Relaxed)));
        let names = self.fleet.names();
        let mut ended = self.client.subscribe(names.done(BatchId(id.0))).await?;
        self.client.flush().await?;
        let body = serde_json::to_vec(&Submit { tasks: vec![NewTask { id, spec }] })?;
        let answer = self.client.request(names.api(Endpoint::TaskSubmit), body.into()).await?;
        if let Some(refusal) = answer.headers.and_then(|all| all.get("Nats-Service-Error").cloned())
        {
            anyhow::bail!("it was not accepted: {refusal}");
        }
        let news = tokio::time::timeout(within, ended.next()).await.context("no end")?;
        let news: Vec<TaskEnded> = serde_json::from_slice(&news.context("no news")?.payload)?;
        let outcome = news.into_iter().find(|ended| ended.task == id).context("another's end")?;
        ended.unsubscribe().await?;
        Ok(Outcome::clone(&outcome.outcome))
    }
}
