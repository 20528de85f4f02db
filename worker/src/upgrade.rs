//! Upgrades of this worker's program: asks masters for one, fetches its program, and leaves it for the supervisor.
//! Never starts a program, and its verification decides nothing: the supervisor's does.

use crate::{
    compile::Compiler,
    inbox::Input,
    link::{self, ObjectError},
    links::Links,
    local, object,
    policy::Secrets,
    programs::{self, Present},
};
use bytes::Bytes;
use muster_protocol::{
    TaskId,
    attempts::Event,
    frame::FrameRange,
    message::{ObjectStore, StreamReply, StreamRequest},
    record,
    signature::SignerKey,
    task::Verdict,
    upgrade::{Program, ProgramReport, UPGRADE_SIZE_MAX, Upgrade, Wanted, follows},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::spawn_blocking};

/// How often a worker asks for its upgrade, without the spread of up to a half.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// How long to wait for a link.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A program that could not be fetched is tried again after [`ASK_EVERY`], then after twice that time, and so on. The wait
/// is doubled this many times at most, because each try may send much over a bad line.
const DOUBLED_MAX: u32 = 5;

/// The smallest program for the sandbox, `(module (func (export "_start")))`: the test run.
const TEST_MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

/// What the lease says of this worker's program; `None` in a worker that takes no upgrades. Clones share it: the lease
/// thread reads it for each renewal.
#[derive(Clone, Default)]
pub(crate) struct SharedReport(Arc<Mutex<Option<ProgramReport>>>);

impl SharedReport {
    pub(crate) fn new(report: Option<ProgramReport>) -> Self {
        SharedReport(Arc::new(Mutex::new(report)))
    }

    pub(crate) fn now(&self) -> Option<ProgramReport> {
        self.report().clone()
    }

    /// Counts a run that has ended by itself or at a limit.
    pub(crate) fn heard(&self, event: &Event) {
        let Event::Ended { outcome, .. } = event else { return };
        if let Some(report) = self.report().as_mut().filter(|_| outcome.is_of_run()) {
            report.runs += 1;
            report.runs_failed += u64::from(outcome.verdict != Verdict::Completed);
        }
    }

    /// The worker runs what the upgrade of this number asked for.
    pub(crate) fn carried_out(&self, number: u64) {
        self.change(|report| (report.number, report.failed) = (number, None));
    }

    fn change(&self, change: impl FnOnce(&mut ProgramReport)) {
        self.report().as_mut().map(change);
    }

    fn report(&self) -> MutexGuard<'_, Option<ProgramReport>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// Asks for upgrades until there is one to carry out.
pub(crate) struct Upgrades {
    pub present: Present,
    pub report: SharedReport,
    pub signers: Vec<SignerKey>,
    /// The worker's state directory.
    pub state: PathBuf,
    pub links: Links,
    pub inbox: mpsc::Sender<Input>,
}

/// What became of an upgrade.
enum Taken {
    /// The worker runs what it shall run.
    Runs,
    /// Its program is left for the supervisor.
    Left,
    /// It is given up, for this reason.
    Failed(String),
    /// Its program could not be fetched or left, for this reason.
    Later(String),
}

/// When an upgrade that could not be begun is tried again.
#[derive(Default)]
struct Later {
    number: u64,
    failed: u32,
    until: Option<Instant>,
}

impl Later {
    fn waits(&self, number: u64) -> bool {
        self.number == number && self.until.is_some_and(|until| Instant::now() < until)
    }

    /// It could not be begun once more. Returns how long it waits now.
    fn failed(&mut self, number: u64) -> Duration {
        self.failed = if self.number == number { DOUBLED_MAX.min(self.failed + 1) } else { 0 };
        self.number = number;
        let wait = ASK_EVERY * 2_u32.pow(self.failed);
        self.until = Some(Instant::now() + wait);
        wait
    }
}

impl Upgrades {
    /// Asks again and again, until the worker has to be restarted for an upgrade.
    pub(crate) async fn keep_up(self) {
        let (mut turn, mut later) = (0, Later::default());
        loop {
            let connection = link::in_turn_with(&self.links, FrameRange::WITH_UPGRADES, turn);
            let wait = match connection {
                None => ASK_AGAIN,
                Some(connection) => {
                    // A master that has lost the registry may not know of an upgrade.
                    turn += 1;
                    match link::inquire(connection, &StreamRequest::Upgrade).await {
                        Ok(StreamReply::Upgrade(upgrade)) => {
                            if self.hear(&upgrade, &mut later).await {
                                let deadline = upgrade.deadline();
                                let _ = self.inbox.send(Input::Upgrade { deadline }).await;
                                return;
                            }
                        }
                        Ok(_) => {}
                        Err(error) => {
                            tracing::debug!(%error, "a master did not say which program to run")
                        }
                    }
                    ASK_EVERY
                }
            };
            tokio::time::sleep(link::spread(wait)).await;
        }
    }

    /// There is this upgrade. Returns whether its program is left for the supervisor.
    async fn hear(&self, upgrade: &Upgrade, later: &mut Later) -> bool {
        if !self.is_to_do(upgrade) || later.waits(upgrade.number) {
            return false;
        }
        let number = upgrade.number;
        match self.take(upgrade).await {
            Taken::Left => return true,
            Taken::Runs => self.report.carried_out(number),
            Taken::Failed(reason) => {
                tracing::error!(number, reason, "an upgrade is given up");
                self.report.change(|report| report.fails(number, reason));
            }
            Taken::Later(error) => {
                let again_in = later.failed(number);
                tracing::warn!(error, ?again_in, "an upgrade cannot be begun");
            }
        }
        false
    }

    /// Whether an upgrade is neither carried out, nor given up, nor on trial.
    fn is_to_do(&self, upgrade: &Upgrade) -> bool {
        let on_trial = |number: u64| self.present.trial.is_some_and(|trial| number < trial);
        let report = self.report.now();
        // The supervisor would not take one whose number does not follow.
        report.is_some_and(|report| {
            follows(report.number, upgrade.number) && !on_trial(report.number)
        })
    }

    async fn take(&self, upgrade: &Upgrade) -> Taken {
        let size = record::write(upgrade).map_or(usize::MAX, |text| text.len());
        if size > UPGRADE_SIZE_MAX {
            return Taken::Failed(format!("it has {size} bytes, the limit is {UPGRADE_SIZE_MAX}"));
        }
        let runs = self.present.report.digest;
        let bytes = match &upgrade.wanted {
            Wanted::Before(of) if runs != Some(*of) => return Taken::Runs,
            Wanted::Program(program) if runs == Some(program.digest) => return Taken::Runs,
            Wanted::Program(program) if !self.present.kept.contains(&program.digest) => {
                match self.fetch(program).await {
                    Ok(bytes) => Some(bytes),
                    Err(not_taken) => return not_taken,
                }
            }
            Wanted::Before(_) | Wanted::Program(_) => None,
        };
        let (state, upgrade) = (self.state.clone(), upgrade.clone());
        let leave = move || programs::leave(&state, &upgrade, bytes.as_deref());
        match spawn_blocking(leave).await {
            Ok(Ok(())) => Taken::Left,
            Ok(Err(error)) => Taken::Later(format!("{error:#}")),
            Err(error) => Taken::Later(error.to_string()),
        }
    }

    /// The bytes of a program, verified, so that no run is disturbed for a program that the supervisor would refuse.
    async fn fetch(&self, program: &Program) -> Result<Bytes, Taken> {
        program.check().map_err(Taken::Failed)?;
        let signer = programs::signer(program, &self.signers);
        signer.map_err(|error| Taken::Failed(error.to_string()))?;
        tracing::info!(program = %program.digest, size = program.size, "the program of an upgrade is fetched");
        let (store, digest) = (ObjectStore::Data, program.digest);
        let bytes = object::get(&self.links, None, store, digest, program.size).await;
        let bytes = bytes.map_err(|error| match error {
            ObjectError::Missing { .. } => Taken::Failed(
                "the fleet does not have the program any more; upgrade it again".into(),
            ),
            error => Taken::Later(error.to_string()),
        })?;
        let (of, signers, whole) = (program.clone(), self.signers.clone(), bytes.clone());
        match spawn_blocking(move || programs::verify(&of, &signers, &whole)).await {
            Ok(Ok(())) => Ok(bytes),
            Ok(Err(error)) => Err(Taken::Failed(format!("{error:#}"))),
            Err(error) => Err(Taken::Later(error.to_string())),
        }
    }
}

/// The test run of a program on trial: compiles and runs the smallest guest. It has no lease yet, and takes no tasks.
pub(crate) async fn test_run(compiler: &Compiler) -> anyhow::Result<()> {
    let spec = serde_json::from_value(serde_json::json!({
        "module": { "digest": muster_module::digest(TEST_MODULE) },
    }))?;
    let task = local::Task {
        id: TaskId(0),
        wasm: Bytes::from_static(TEST_MODULE),
        input: Bytes::new(),
        spec,
        secrets: Secrets::default(),
    };
    let outcome = local::run(compiler, task, |_| {}).await?;
    match outcome.verdict {
        Verdict::Completed => Ok(()),
        verdict => {
            anyhow::bail!("the test run ended otherwise than it should: {}", verdict.reason())
        }
    }
}
