//! Keeps the lease, on a thread that does nothing else. It executes what [`LeaseLoop`] decides and
//! never decides itself; no guest and no master can delay it.

use crate::{
    deadman::SharedDeadman,
    inbox::Input,
    journal::Journal,
    links::{LinkId, Links},
    upgrade::SharedReport,
};
use async_nats::HeaderMap;
use muster_protocol::{
    Revision,
    attempts::Event,
    lease::{Lease, LeaseEffect, LeaseEvent, LeaseLoop, LeaseTiming},
    message::ToMaster,
    record,
    registry::Holds,
    subject::{Bucket, Names},
};
use muster_wire::{cas, clock, nats, process};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// The settings of the lease thread.
pub(crate) struct Terms {
    pub timing: LeaseTiming,
    pub nats: Option<nats::Access>,
    pub names: Arc<Names>,
    /// The fields of this worker's lease that do not change.
    pub draft: Lease,
    pub journal: Journal,
    /// What the lease says of the worker's program.
    pub program: SharedReport,
    /// Up to which revision the worker holds attempts. The worker's loop writes it before it starts
    /// anything.
    pub holds: Arc<Mutex<Holds>>,
}

/// The inbox of the worker's loop. It is unbounded, but only few inputs can wait in it: some for each
/// renewal, and a new session begins only after the worker's loop has reported that the old one is
/// quiet.
pub(crate) type WorkerInbox = mpsc::UnboundedSender<Input>;

/// Starts the thread. It ends with the process, or once the lease was given back.
pub(crate) fn start(
    terms: Terms,
    deadman: SharedDeadman,
    links: Links,
    told: WorkerInbox,
) -> std::io::Result<mpsc::UnboundedSender<LeaseEvent>> {
    let (sender, events) = mpsc::unbounded_channel();
    let answers = sender.clone();
    let seed = process::random()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("lease".into()).spawn(move || {
        runtime.block_on(async move {
            let nats = Nats::open(&terms, answers.clone()).await;
            let lease = LeaseLoop::new(terms.timing, terms.draft.clone(), seed);
            let lease_loop = LeaseThread { terms, deadman, links, told, nats, answers, lease };
            lease_loop.keep(events).await;
        });
    })?;
    Ok(sender)
}

/// The direct connection to NATS.
struct Nats {
    context: nats::JetStream,
    key: cas::Key,
}

impl Nats {
    async fn open(terms: &Terms, events: mpsc::UnboundedSender<LeaseEvent>) -> Option<Self> {
        let access = terms.nats.as_ref()?;
        let refusals = nats::Refusals::default();
        let options = access
            .options(format!("muster-worker {}", terms.draft.worker))
            .retry_on_initial_connect()
            .event_callback(move |event| {
                refusals.hear_and_log(&event);
                if let Some(is_up) = is_up(&event) {
                    let _ = events.send(LeaseEvent::Direct(is_up));
                }
                std::future::ready(())
            });
        let client = access
            .connect(options)
            .await
            .inspect_err(
                |error| tracing::warn!(%error, "no direct connection to NATS; masters renew the lease"),
            )
            .ok()?;
        let key = cas::Key {
            stream: terms.names.stream(Bucket::Workers),
            subject: terms.names.key(Bucket::Workers, &terms.draft.worker),
        };
        Some(Nats { context: cas::context(client, access.domain()), key })
    }
}

/// Whether the direct connection is up or down after an event; `None` if the event says nothing about
/// that. Logs the event, too: the client retries for ever without a log of its own.
fn is_up(event: &async_nats::Event) -> Option<bool> {
    use async_nats::Event;
    match event {
        Event::Connected => {
            tracing::info!("the direct connection to NATS is open");
            Some(true)
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!("the direct connection to NATS is closed; masters renew the lease");
            Some(false)
        }
        Event::ClientError(error) => {
            tracing::warn!(%error, "no direct connection to NATS; masters renew the lease");
            None
        }
        _ => None,
    }
}

struct LeaseThread {
    terms: Terms,
    deadman: SharedDeadman,
    links: Links,
    told: WorkerInbox,
    nats: Option<Nats>,
    answers: mpsc::UnboundedSender<LeaseEvent>,
    lease: LeaseLoop,
}

impl LeaseThread {
    /// Runs the lease. Waits only for the next event or the next timer of the lease.
    async fn keep(mut self, mut events: mpsc::UnboundedReceiver<LeaseEvent>) {
        let mut effects = Vec::new();
        loop {
            // Read as late as possible: a renewal must cover every attempt that has started by then.
            let holds = *self.terms.holds.lock().expect("no holder of this lock panics");
            self.lease.observe(clock::boottime(), LeaseEvent::SetHolds(holds));
            if let Some(program) = self.terms.program.now() {
                self.lease.observe(clock::boottime(), LeaseEvent::SetProgram(program));
            }
            self.lease.plan(clock::boottime(), clock::wall(), &mut effects);
            for effect in effects.drain(..) {
                if self.carry_out(effect) {
                    return;
                }
            }
            tokio::select! {
                event = events.recv() => match event {
                    None => return,
                    Some(event) => self.lease.observe(clock::boottime(), event),
                },
                () = clock::sleep_until(self.lease.wakeup()) => {}
            }
        }
    }

    /// Executes one effect. Returns true once the lease was given back, and the thread can end.
    fn carry_out(&mut self, effect: LeaseEffect) -> bool {
        match effect {
            LeaseEffect::Renew { expect, lease, direct, links } => {
                self.renew(expect, lease, direct, &links);
            }
            LeaseEffect::AskHome { link, session, renewal } => {
                self.send(link, ToMaster::Extend { session, renewal });
            }
            LeaseEffect::MoveEnd { session, until } => match self.deadman.move_end(until) {
                Ok(()) => self.tell(Event::LeaseHeld { session, until }),
                Err(error) => {
                    tracing::error!(%error, "the kernel's timer cannot be moved, so a renewal of the lease does not count")
                }
            },
            LeaseEffect::Close { session, lapsed, by } => {
                self.deadman.close();
                if let Some(at) = lapsed {
                    self.terms.journal.lapsed(session, at);
                }
                match by {
                    // At its first try, a new process most often finds the lease of its predecessor.
                    Some(lease) if lapsed.is_none() => tracing::debug!(
                        standing = ?lease.state, by = %lease.session,
                        "another session has or had the lease"
                    ),
                    Some(lease) => tracing::warn!(
                        standing = ?lease.state, by = %lease.session, mine = %session,
                        "another session has the lease; this session is over"
                    ),
                    None => tracing::warn!(%session, "the lease lapsed; its runs are killed"),
                }
                self.tell(Event::SessionOver);
            }
            LeaseEffect::CloseQuietly => self.deadman.close(),
            LeaseEffect::Begin { session, succeeds, waits_for } => {
                if let Some(other) = waits_for {
                    tracing::error!(
                        worker = %other.worker, session = %other.session,
                        "another process holds this worker's lease; waiting until it is over"
                    );
                }
                tracing::info!(%session, ?succeeds, "a new session");
            }
            LeaseEffect::Released { in_time } => {
                if !in_time {
                    tracing::warn!("the lease could not be given back; it will run out");
                }
                let _ = self.told.send(Input::Released);
                return true;
            }
        }
        false
    }

    fn renew(&self, expect: Revision, lease: Lease, direct: bool, links: &[LinkId]) {
        // Every master that is asked tries the same write on the same key: it can only succeed once.
        for &link in links {
            self.send(link, ToMaster::Renew { expect, lease: lease.clone() });
        }
        let Some(nats) = self.nats.as_ref().filter(|_| direct) else { return };
        let (context, key, answers) =
            (nats.context.clone(), nats.key.clone(), self.answers.clone());
        tokio::spawn(async move {
            let Ok(value) = record::write(&lease) else { return };
            let (keep, headers) = (lease.state.keep(), HeaderMap::new());
            let sent = cas::send(&context, key, expect, value.into(), keep, headers).await;
            let answer = sent.answer(&context).await;
            let (session, renewal, direct) = (lease.session, lease.renewal, true);
            let _ = answers.send(LeaseEvent::Answered { session, renewal, answer, direct });
        });
    }

    fn send(&self, link: LinkId, message: ToMaster) {
        let links = self.links.lock().expect("no holder of this lock panics");
        if let Some(road) = links.get(&link) {
            let _ = road.frames.try_send(message);
        }
    }

    fn tell(&self, event: Event) {
        let _ = self.told.send(Input::Attempts(event));
    }
}
