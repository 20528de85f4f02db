//! The executor: it carries out the effects that the state machine decided on. Every effect is handed
//! off here, and its result comes back as an event; nothing here waits or decides.

mod carry;

use crate::{
    artifact::{ArtifactError, Artifacts},
    checkpoint::Checkpoints,
    code::CodeCache,
    compile::Compiler,
    deadman::{DeadmanError, SharedDeadman},
    engine::Engine,
    gate::RunGate,
    inbox::Input,
    inputs::Inputs,
    journal::Journal,
    links::{LinkHandle, LinkId, Links},
    policy::{PresentRules, Secrets},
    run::{self, RunSpec},
    sandbox::{GuestReport, Surroundings},
    sealed::SealedSecrets,
    shortage::{self, LoggedCauses, Shortages},
    signatures::{NotVerified, Signatures},
    tracer::Tracer,
};
use carry::{Stores, bring, get, pass_on, provide, unless_closed};
use muster_protocol::{
    WorkerId,
    attempts::{Effect, Event, waited},
    lease::{LeaseEvent, LeaseState},
    message::{AttemptKey, Dispatch, ToMaster},
    registry::Holds,
    task::{Data, Outcome, Verdict},
};
use std::{
    collections::HashMap,
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Runtime, sync::mpsc, task::AbortHandle};

/// Reports of guests that may wait; further reports are dropped.
const REPORTS_MAX: usize = 4 * 1024;

/// The niceness of guests' threads. Guests yield to the threads that hold the lease and carry frames,
/// and to other programs of the host: where both want a processor, a guest's thread gets a third of the
/// weight of an ordinary thread.
const GUESTS_NICENESS: i32 = 5;

/// Threads for the blocking work of guests: files, and name lookups. With more of them, a worker could
/// exceed the number of threads that the shipped systemd unit allows.
const GUESTS_BLOCKING_MAX: usize = 64;

/// How long an attempt that could not start is kept before it is returned. A master may dispatch its
/// task to this worker again at once, and a shortage of the host usually lasts longer than that.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);

/// What the executor shares with the other parts of the worker.
pub(crate) struct Shared {
    /// The name of this worker.
    pub worker: WorkerId,
    pub rules: PresentRules,
    pub signatures: Signatures,
    pub sealed: SealedSecrets,
    /// The directory in which runs have their scratch directories.
    pub scratch: PathBuf,
    pub deadman: SharedDeadman,
    pub journal: Journal,
    pub wants: Shortages,
    pub draining: Arc<AtomicBool>,
    pub links: Links,
    pub inbox: mpsc::Sender<Input>,
    pub lease: mpsc::UnboundedSender<LeaseEvent>,
    /// Up to which revision this worker holds attempts; the lease thread reads it for each renewal.
    pub holds: Arc<Mutex<Holds>>,
}

/// Carries out the effects of the worker's loop.
pub(crate) struct Executor {
    worker: WorkerId,
    engine: Engine,
    stores: Stores,
    shared: Shared,
    /// A file that exists while the worker takes no new attempts.
    cordon: PathBuf,
    gates: HashMap<AttemptKey, RunGate>,
    /// The preparations that are under way, until they end or are no longer needed.
    preparing: HashMap<AttemptKey, AbortHandle>,
    reports: mpsc::Sender<GuestReport>,
    /// The logged reasons of attempts that could not start.
    said: LoggedCauses,
    tracer: Tracer,
    /// The guests' own threads. The worker does not wait for them when it ends: a guest must not delay
    /// that.
    guests: Option<Runtime>,
}

impl Executor {
    pub(crate) fn new(
        engine: Engine,
        code: Option<CodeCache>,
        shared: Shared,
        cordon: PathBuf,
        tracer: Tracer,
    ) -> std::io::Result<Self> {
        let guests = tokio::runtime::Builder::new_multi_thread()
            .thread_name("guest")
            .worker_threads(std::thread::available_parallelism().map_or(1, usize::from))
            .max_blocking_threads(GUESTS_BLOCKING_MAX)
            .on_thread_start(|| {
                // A guest's thread that cannot lower its priority still runs guests.
                let _ = rustix::process::nice(GUESTS_NICENESS);
            })
            .enable_all()
            .build()?;
        let (reports, heard) = mpsc::channel(REPORTS_MAX);
        tokio::spawn(pass_on(heard, shared.links.clone()));
        Ok(Executor {
            worker: shared.worker.clone(),
            stores: Stores {
                artifacts: Artifacts::new(engine.clone(), Compiler::new(&shared.rules.now()), code),
                inputs: Inputs::new(),
                signatures: shared.signatures.clone(),
                sealed: shared.sealed.clone(),
                rules: shared.rules.clone(),
            },
            engine,
            cordon,
            gates: HashMap::new(),
            preparing: HashMap::new(),
            reports,
            said: LoggedCauses::new(shared.wants.clone()),
            tracer,
            guests: Some(guests),
            shared,
        })
    }

    /// The artifacts that this executor compiles and keeps.
    pub(crate) fn artifacts(&self) -> Artifacts {
        self.stores.artifacts.clone()
    }

    /// Whether the worker was cordoned or drained before this process started.
    pub(crate) fn was_cordoned(&self) -> bool {
        self.cordon.exists()
    }

    /// Puts the lease state into the lease, and stores it so that it survives a restart.
    fn stand(&self, standing: LeaseState) {
        tracing::info!(standing = standing.word(), "ordered");
        self.shared.draining.store(standing == LeaseState::Draining, Ordering::SeqCst);
        let kept = if standing == LeaseState::Live {
            match std::fs::remove_file(&self.cordon) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            std::fs::write(&self.cordon, standing.word())
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the command is in effect, but would be forgotten at a restart");
            self.shared.wants.failed(&error);
        }
        let _ = self.shared.lease.send(LeaseEvent::SetState(standing));
    }

    /// Forgets the gates of runs that have ended, and preparations that are done.
    pub(crate) fn heard(&mut self, event: &Event) {
        self.tracer.heard(event);
        match event {
            Event::Ended { key, .. } | Event::Stopped(key) => drop(self.gates.remove(key)),
            Event::Prepared(key) | Event::NotPrepared { key, .. } => {
                self.preparing.remove(key);
            }
            _ => {}
        }
    }

    pub(crate) fn execute(&mut self, effects: Vec<Effect>, stopping: bool) {
        for effect in effects {
            match effect {
                Effect::Prepare { dispatch, link } => self.prepare(dispatch, link),
                Effect::Start(dispatch) => self.start(dispatch),
                Effect::Kill { key, why } => {
                    tracing::info!(task = %key.task, attempt = %key.attempt, ?why, "killing a run");
                    self.tracer.killed(key, why);
                    if let Some(gate) = self.gates.get(&key) {
                        gate.kill(why.into());
                    }
                }
                Effect::Recall(key) => {
                    if let Some(gate) = self.gates.get(&key) {
                        gate.recall();
                    }
                }
                Effect::Drop(key) => {
                    // Abort it: other attempts can use the space and the place for which it waits.
                    if let Some(work) = self.preparing.remove(&key) {
                        work.abort();
                    }
                    self.stores.inputs.drop(key);
                }
                Effect::SetHolds(holds) => {
                    *self.shared.holds.lock().expect("no holder of this lock panics") = holds;
                }
                Effect::SetLeaseState(standing) => self.stand(standing),
                Effect::Send { link, message } => self.send(link, message),
                Effect::Quiet => {
                    let next = if stopping { LeaseEvent::Release } else { LeaseEvent::Quiet };
                    let _ = self.shared.lease.send(next);
                }
            }
        }
    }

    fn road(&self, link: LinkId) -> Option<LinkHandle> {
        self.shared.links.lock().expect("no holder of this lock panics").get(&link).cloned()
    }

    fn send(&self, link: LinkId, message: ToMaster) {
        let Some(road) = self.road(link) else { return };
        if road.frames.try_send(message).is_err() {
            // The queue is full and the message is lost. Close the link: on the next one, the worker
            // tells the master everything it must know.
            road.connection.close(0, b"it does not listen");
        }
    }

    fn prepare(&mut self, dispatch: Arc<Dispatch>, link: LinkId) {
        let key = dispatch.key;
        let connection = self.road(link).map(|road| road.connection);
        let (stores, inbox) = (self.stores.clone(), self.shared.inbox.clone());
        let (links, said) = (self.shared.links.clone(), self.said.clone());
        let work = tokio::spawn(async move {
            let result = get(&stores, &links, connection, &dispatch).await;
            let event = match result {
                Ok(()) => Event::Prepared(key),
                Err(error) => {
                    let for_good = matches!(error, ArtifactError::Rejected(_));
                    let reason = error.to_string();
                    say(&said, key, &reason, for_good);
                    Event::NotPrepared { key, for_good, reason }
                }
            };
            let _ = inbox.send(Input::Attempts(event)).await;
        });
        if let Some(earlier) = self.preparing.insert(key, work.abort_handle()) {
            earlier.abort();
        }
    }

    fn start(&mut self, dispatch: Arc<Dispatch>) {
        let key = dispatch.key;
        let kept = self.stores.inputs.take(key);
        let input = match (&dispatch.input, &kept) {
            (Data::Inline(bytes), _) => bytes.clone(),
            (Data::Blob { .. }, Some(kept)) => kept.bytes(),
            // Nothing runs without its input.
            (Data::Blob { .. }, None) => {
                return self.gives_back(key, "its input was not available any more".into());
            }
        };
        // The timer is armed before anything of the guest exists.
        let held = match self.shared.deadman.hold() {
            Ok(held) => held,
            Err(error) => return self.not_started(key, error),
        };
        let (module, signature) = (dispatch.module, dispatch.signature.as_ref());
        let ready = match self.stores.signatures.signer(module, signature) {
            Ok(signer) => match self.shared.rules.now().grant(&dispatch.grants, module, signer) {
                Ok(secrets) => self.stores.artifacts.ready(module).zip(Some(secrets)),
                Err(message) => return self.ends(key, Verdict::Rejected { message }),
            },
            Err(NotVerified) => None,
        };
        let gate = RunGate::new(self.shared.deadman.end());
        self.gates.insert(key, gate.clone());
        let mut order = RunSpec {
            key,
            number: dispatch.number,
            worker: self.worker.clone(),
            input,
            args: dispatch.args.clone(),
            limits: dispatch.limits,
            grants: dispatch.grants.clone(),
            secrets: Secrets::default(),
            scratch: Some(self.shared.scratch.clone()),
            trace: dispatch.trace,
        };
        self.tracer.started(&dispatch);
        let surroundings = Surroundings {
            reports: self.reports.clone(),
            draining: self.shared.draining.clone(),
            journal: self.shared.journal.clone(),
            checkpoints: Checkpoints::in_fleet(self.shared.links.clone(), dispatch.revision),
        };
        let (engine, links, inbox) =
            (self.engine.clone(), self.shared.links.clone(), self.shared.inbox.clone());
        let stores = self.stores.clone();
        let said = self.said.clone();
        let Some(guests) = &self.guests else { return };
        guests.spawn(async move {
            // Bound first, so that both are dropped last, however this task ends.
            let (held, _kept) = (held, kept);
            let (program, secrets) = match ready {
                Some((program, secrets)) if secrets.sealed.is_empty() => (program, secrets.values),
                ready => {
                    let providing = provide(&stores, &links, &gate, &dispatch, ready);
                    match unless_closed(&gate, providing).await.flatten() {
                        None => {
                            drop(held);
                            let _ = inbox.send(Input::Attempts(Event::Stopped(key))).await;
                            return;
                        }
                        Some(Ok(provided)) => provided,
                        Some(Err(verdict)) => {
                            return tell_end(&inbox, &said, key, Outcome::bare(verdict)).await;
                        }
                    }
                }
            };
            order.secrets = secrets;
            let ended = run::run(&engine, &program, order, gate.clone(), surroundings).await;
            drop(held);
            let outcome = match ended.into_result() {
                Err(_) => None,
                Ok(outcome) => bring(outcome, &links, &gate).await,
            };
            match outcome {
                // That is no shortage of the host.
                Some(outcome) if outcome == waited() => {
                    drop(inbox.send(Input::Attempts(Event::Ended { key, outcome })).await);
                }
                Some(outcome) => tell_end(&inbox, &said, key, outcome).await,
                None => drop(inbox.send(Input::Attempts(Event::Stopped(key))).await),
            }
        });
    }
}

impl Executor {
    /// Reports that an attempt has ended without a run.
    fn ends(&self, key: AttemptKey, verdict: Verdict) {
        let event = Event::Ended { key, outcome: Outcome::bare(verdict) };
        let inbox = self.shared.inbox.clone();
        tokio::spawn(async move { inbox.send(Input::Attempts(event)).await });
    }

    /// Returns an attempt that could not start for a reason that concerns this worker alone.
    fn gives_back(&self, key: AttemptKey, reason: String) {
        let outcome = Outcome::bare(Verdict::Returned { reason });
        let (inbox, said) = (self.shared.inbox.clone(), self.said.clone());
        tokio::spawn(async move { tell_end(&inbox, &said, key, outcome).await });
    }

    /// Reports an attempt that the deadman did not let start: stopped if the lease ended, else
    /// returned.
    fn not_started(&self, key: AttemptKey, error: DeadmanError) {
        match error {
            DeadmanError::Lapsed => {
                let inbox = self.shared.inbox.clone();
                let event = Event::Stopped(key);
                tokio::spawn(async move { inbox.send(Input::Attempts(event)).await });
            }
            DeadmanError::Timer(errno) => {
                let cause = shortage::explain(&std::io::Error::from(errno));
                let reason = format!("the kernel's timer could not be set: {cause}");
                self.gives_back(key, reason);
            }
        }
    }
}

/// Reports the end of an attempt to the state machine. An attempt that is returned is logged with its
/// reason, and reported only after [`GIVE_BACK_AFTER`].
async fn tell_end(
    inbox: &mpsc::Sender<Input>,
    said: &LoggedCauses,
    key: AttemptKey,
    outcome: Outcome,
) {
    if let Verdict::Returned { reason } = &outcome.verdict {
        say(said, key, reason, false);
        tokio::time::sleep(GIVE_BACK_AFTER).await;
    }
    let _ = inbox.send(Input::Attempts(Event::Ended { key, outcome })).await;
}

/// Logs why an attempt cannot run: each cause once in a while, however many attempts it concerns. If
/// the cause is a shortage of the host, the lease says so, too.
fn say(said: &LoggedCauses, key: AttemptKey, cause: &str, for_good: bool) {
    let task = key.task;
    if !for_good {
        said.wants.named(cause);
    }
    if said.is_news(cause) {
        tracing::warn!(%task, cause, for_good, "an attempt cannot run here");
    } else {
        tracing::debug!(%task, cause, for_good, "an attempt cannot run here");
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}
