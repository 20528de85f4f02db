//! Keeping the lease, on a thread of its own that does nothing else. The stamp of a renewal is
//! taken before it is sent; nothing that a guest or a master does can delay one.
//!
//! A renewal goes straight to NATS where this worker may reach it, and through a master where it
//! may not or where NATS did not answer: the same compare-and-set on the same key either way.

use crate::{Input, LeaseInput, LinkId, Links, deadman::Deadman, journal::Journal};
use async_nats::{HeaderMap, connection::State, jetstream::Context};
use muster_protocol::{
    ABSENT, Revision, SessionId, Time,
    attempts::Event,
    lease::{CasAnswer, Holder, Home, Lease, LeaseStep, LeaseTiming, Standing},
    message::ToMaster,
    subject::{Bucket, Names},
};
use muster_wire::{cas, clock, nats, process};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How long a stopping worker waits until its lease is given back.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// How long to wait before trying again to take a lease that another process holds.
const TAKE_AGAIN: Duration = Duration::from_secs(1);

/// What the lease is about.
pub(crate) struct Terms {
    pub timing: LeaseTiming,
    pub nats: Option<String>,
    pub names: Arc<Names>,
    /// The first session's lease.
    pub draft: Lease,
    pub journal: Journal,
}

/// Starts the thread. It ends with the process, or once the lease was given back.
pub(crate) fn start(
    terms: Terms,
    deadman: Deadman,
    links: Links,
    inbox: mpsc::Sender<Input>,
) -> std::io::Result<mpsc::UnboundedSender<LeaseInput>> {
    let (sender, inputs) = mpsc::unbounded_channel();
    let connected = sender.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("lease".into()).spawn(move || {
        runtime.block_on(async move {
            let (answers, answered) = mpsc::unbounded_channel();
            let nats = Nats::open(&terms, connected).await;
            let holder = Holder::new(terms.timing, terms.draft.clone(), ABSENT);
            let masters = BTreeMap::new();
            let keeper = Keeper {
                terms,
                deadman,
                links,
                inbox,
                nats,
                answers,
                holder,
                nats_silent: 0,
                masters,
            };
            keeper.keep(inputs, answered).await;
        });
    })?;
    Ok(sender)
}

/// The way straight to NATS.
struct Nats {
    client: async_nats::Client,
    context: Context,
    key: cas::Key,
}

impl Nats {
    async fn open(terms: &Terms, connected: mpsc::UnboundedSender<LeaseInput>) -> Option<Self> {
        let url = terms.nats.as_deref()?;
        let client = nats::options(format!("muster-worker {}", terms.draft.worker), url)
            .retry_on_initial_connect()
            .event_callback(move |event| {
                if matches!(event, async_nats::Event::Connected) {
                    let _ = connected.send(LeaseInput::Reachable);
                }
                std::future::ready(())
            })
            .connect(url)
            .await
            .inspect_err(
                |error| tracing::warn!(%error, "no way straight to NATS; masters renew the lease"),
            )
            .ok()?;
        let key = cas::Key {
            stream: terms.names.stream(Bucket::Workers),
            subject: terms.names.key(Bucket::Workers, &terms.draft.worker),
        };
        Some(Nats { context: cas::context(client.clone()), client, key })
    }

    fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

struct Keeper {
    terms: Terms,
    deadman: Deadman,
    links: Links,
    inbox: mpsc::Sender<Input>,
    nats: Option<Nats>,
    answers: mpsc::UnboundedSender<(SessionId, u64, CasAnswer<Lease>)>,
    holder: Holder,
    /// Renewals sent straight to NATS since it last answered one.
    nats_silent: u32,
    /// Who has said to be at the other end of each link, and whether that is on this machine.
    masters: BTreeMap<LinkId, (Home, bool)>,
}

impl Keeper {
    async fn keep(
        mut self,
        mut inputs: mpsc::UnboundedReceiver<LeaseInput>,
        mut answered: mpsc::UnboundedReceiver<(SessionId, u64, CasAnswer<Lease>)>,
    ) {
        let mut over: Option<Option<(Lease, Revision)>> = None;
        let mut release_by = None;
        loop {
            if over.is_none() {
                match self.holder.plan(clock::boottime(), clock::wall()) {
                    Some(LeaseStep::Write { expect, lease, doubtful, ask }) => {
                        self.ask(ask, &lease);
                        self.renew(expect, lease, doubtful);
                    }
                    Some(LeaseStep::Over { by }) => {
                        self.session_over(&by).await;
                        over = Some(by);
                    }
                    None => {}
                }
            }
            let wakeup = over.is_none().then(|| self.holder.wakeup().min(self.fence()));
            tokio::select! {
                Some((session, renewal, answer)) = answered.recv() => {
                    if answer != CasAnswer::Unknown {
                        self.nats_silent = 0;
                    }
                    self.answered(session, renewal, answer, over.is_some()).await;
                }
                input = inputs.recv() => match input {
                    None => return,
                    Some(LeaseInput::Renewed { session, renewal, answer }) => {
                        self.answered(session, renewal, answer, over.is_some()).await;
                    }
                    Some(LeaseInput::Linked { link, master, near }) => {
                        self.linked(link, master, near);
                    }
                    Some(LeaseInput::Unlinked(link)) => self.unlinked(link),
                    Some(LeaseInput::Reachable) => self.holder.hurry(),
                    Some(LeaseInput::Extended { session, home, renewal }) => {
                        self.extended(session, home, renewal, over.is_some()).await;
                    }
                    Some(LeaseInput::Anew) => {
                        let by = over.take().unwrap_or_default();
                        if !self.begin(by).await {
                            return;
                        }
                    }
                    Some(LeaseInput::Stand(standing)) => {
                        // Of the sessions that follow, too.
                        self.terms.draft.standing = standing;
                        self.holder.stand(standing);
                    }
                    Some(LeaseInput::Release) => {
                        self.deadman.close();
                        self.holder.stand(Standing::Released);
                        release_by = Some(clock::boottime() + RELEASE_WITHIN);
                    }
                },
                () = clock::sleep_until(wakeup) => {}
                () = clock::sleep_until(release_by), if release_by.is_some() => {
                    tracing::warn!("the lease could not be given back; it will run out");
                    let _ = self.inbox.send(Input::Released).await;
                    return;
                }
            }
            if release_by.is_some() && (self.holder.is_released() || over.is_some()) {
                let _ = self.inbox.send(Input::Released).await;
                return;
            }
        }
    }

    /// When the lease runs out, if it is held.
    fn fence(&self) -> Time {
        let until = self.holder.until();
        if until == Time::ZERO { Time::NEVER } else { until }
    }

    fn linked(&mut self, link: LinkId, master: Home, near: bool) {
        self.unlinked(link);
        self.holder.linked(master.clone(), near);
        self.holder.hurry();
        self.masters.insert(link, (master, near));
    }

    fn unlinked(&mut self, link: LinkId) {
        if let Some((master, _)) = self.masters.remove(&link)
            && !self.masters.values().any(|(other, _)| *other == master)
        {
            self.holder.unlinked(master.session);
        }
    }

    /// Asks the home to extend the lease meanwhile.
    fn ask(&self, home: Option<Home>, lease: &Lease) {
        let Some(home) = home else { return };
        let link = self.masters.iter().find(|(_, (master, _))| *master == home);
        let links = self.links.lock().expect("no holder of this lock panics");
        if let Some(road) = link.and_then(|(link, _)| links.get(link)) {
            let (session, renewal) = (lease.session, lease.renewal);
            let _ = road.frames.try_send(ToMaster::Extend { session, renewal });
        }
    }

    /// Sends a renewal on the way that answers, and on both where the last one got no answer.
    fn renew(&mut self, expect: Revision, lease: Lease, doubtful: bool) {
        let nats = self.nats.as_ref().filter(|nats| nats.is_up());
        // As long as NATS itself is silent its answers through masters say nothing about it.
        if nats.is_none() || doubtful || self.nats_silent > 0 {
            let links = self.links.lock().expect("no holder of this lock panics");
            // Every master is asked: the same write on the same key can only succeed once.
            for road in links.values() {
                let _ = road.frames.try_send(ToMaster::Renew { expect, lease: lease.clone() });
            }
        }
        let Some(nats) = nats else { return };
        self.nats_silent += 1;
        let (context, key, answers) =
            (nats.context.clone(), nats.key.clone(), self.answers.clone());
        tokio::spawn(async move {
            let Ok(value) = serde_json::to_vec(&lease) else { return };
            let sent = cas::send(&context, key, expect, value.into(), None, HeaderMap::new()).await;
            let _ = answers.send((lease.session, lease.renewal, sent.answer(&context).await));
        });
    }

    async fn answered(
        &mut self,
        session: SessionId,
        renewal: u64,
        answer: CasAnswer<Lease>,
        is_over: bool,
    ) {
        if session != self.holder.session() {
            return;
        }
        let before = self.holder.until();
        self.holder.answered(clock::boottime(), renewal, answer);
        self.held(before, is_over).await;
    }

    async fn extended(&mut self, session: SessionId, home: SessionId, renewal: u64, is_over: bool) {
        if session != self.holder.session() {
            return;
        }
        let before = self.holder.until();
        self.holder.extended(clock::boottime(), home, renewal);
        self.held(before, is_over).await;
    }

    /// Passes on that the lease has become longer, if it has.
    async fn held(&mut self, before: Time, is_over: bool) {
        let (session, until) = (self.holder.session(), self.holder.until());
        // Once a session is over, what it hears late opens nothing any more.
        if until > before && !is_over && !self.holder.is_released() {
            match self.deadman.extend(until) {
                Ok(()) => self.tell(Event::LeaseHeld { session, until }).await,
                Err(error) => tracing::error!(%error, "the lease was renewed in vain"),
            }
        }
    }

    async fn session_over(&mut self, by: &Option<(Lease, Revision)>) {
        // From here on no gate of this session opens again.
        self.deadman.close();
        let until = self.holder.until();
        if self.holder.is_held() {
            let session = self.holder.session();
            self.terms.journal.lapsed(session, until.min(clock::boottime()));
        }
        match by {
            // What a new process meets at its first try is most often its predecessor's.
            Some((lease, _)) if !self.holder.is_held() => tracing::debug!(
                standing = ?lease.standing, by = %lease.session, "somebody has or had the lease"
            ),
            Some((lease, _)) => tracing::warn!(
                standing = ?lease.standing, by = %lease.session, mine = %self.holder.session(),
                "the lease is another's; this session is over"
            ),
            None => {
                tracing::warn!(session = %self.holder.session(), "the lease lapsed; its runs are killed")
            }
        }
        self.tell(Event::SessionOver).await;
    }

    /// Begins a session, once nothing of the last one runs. Returns whether to go on.
    async fn begin(&mut self, by: Option<(Lease, Revision)>) -> bool {
        let mut lease = self.terms.draft.clone();
        let Ok(session) = process::random() else { return false };
        lease.session = SessionId(session);
        let expect = match by {
            // It lapsed here, and nobody has taken it: it is this process' own to succeed.
            None => {
                if self.holder.is_held() {
                    lease.succeed(self.holder.lease());
                    lease.fenced = true;
                } else {
                    tokio::time::sleep(TAKE_AGAIN).await;
                }
                self.holder.revision()
            }
            Some((old, revision)) => {
                let over = matches!(old.standing, Standing::Lost | Standing::Released);
                // This process has the lock of the directory that the lease names, so whoever
                // wrote that is dead.
                let dead = old.home_dir == self.terms.draft.home_dir;
                if over || dead {
                    lease.succeed(&old);
                    lease.fenced = old.session == self.holder.session();
                    revision
                } else {
                    tracing::error!(
                        worker = %old.worker, session = %old.session,
                        "another process holds this worker's lease; waiting until it is over"
                    );
                    tokio::time::sleep(TAKE_AGAIN).await;
                    ABSENT
                }
            }
        };
        tracing::info!(session = %lease.session, expect, succeeds = ?lease.succeeds, "a new session");
        self.holder = Holder::new(self.terms.timing, lease, expect);
        for (master, near) in self.masters.values() {
            self.holder.linked(master.clone(), *near);
        }
        true
    }

    async fn tell(&self, event: Event) {
        let _ = self.inbox.send(Input::Attempts(event)).await;
    }
}
