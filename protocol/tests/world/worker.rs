//! A worker of the walk: its lease, its mind and an engine that only pretends. The engine may
//! take as long to stop a run as the kernel allows, so that every margin is used up.

use super::{Asker, Coming as Any, TIMING, World, time};
use muster_protocol::{
    Nonce, SessionId, Time, WorkerId,
    attempts::{Attempts, Effect, Event, LinkId},
    lease::{CasAnswer, Holder, Lease, LeaseStep, Offer, Standing},
    message::{AttemptKey, ToMaster, ToWorker},
    task::{Outcome, Verdict},
    time::WallMillis,
};
use std::collections::{BTreeMap, BTreeSet};

/// Something that reaches a worker; the number is the life of the process it is meant for.
#[derive(Clone, Debug)]
pub enum Coming {
    Boot(u64),
    LeaseTick(u64, u64),
    MindTick(u64, u64),
    Mind(u64, Event),
    Told(u64, LinkId, ToWorker),
    Unlinked(u64, LinkId),
    Renewed(u64, SessionId, u64, CasAnswer<Lease>),
    KernelTimer(u64),
    /// A run of the engine is over, unless it was before.
    RunOver(u64, AttemptKey, u64, Event),
}

impl Coming {
    fn life(&self) -> u64 {
        match *self {
            Coming::Boot(life)
            | Coming::LeaseTick(life, _)
            | Coming::MindTick(life, _)
            | Coming::Mind(life, _)
            | Coming::Told(life, ..)
            | Coming::Unlinked(life, _)
            | Coming::Renewed(life, ..)
            | Coming::KernelTimer(life)
            | Coming::RunOver(life, ..) => life,
        }
    }
}

pub struct Worker {
    pub name: WorkerId,
    life: u64,
    sessions: u64,
    holder: Option<Holder>,
    mind: Attempts,
    links: BTreeSet<LinkId>,
    /// What the engine runs, each run with a number of its own.
    runs: BTreeMap<AttemptKey, u64>,
    /// Nothing of the process gets a turn before; guests run on.
    pub frozen_until: u64,
    over: bool,
    dial: bool,
    lease_due: u64,
    mind_due: u64,
    kernel_at: Time,
}

impl Worker {
    pub fn new(index: usize) -> Self {
        Worker {
            name: format!("w{index}").parse().expect("a name"),
            life: 0,
            sessions: 0,
            holder: None,
            mind: Attempts::new(2, "1".into()),
            links: BTreeSet::new(),
            runs: BTreeMap::new(),
            frozen_until: 0,
            over: false,
            dial: true,
            lease_due: 0,
            mind_due: 0,
            kernel_at: Time::ZERO,
        }
    }

    /// It takes the link it has for dead, which it may not be.
    pub fn dial_again(&mut self) {
        self.dial = true;
    }
}

impl World {
    pub fn worker(&mut self, at: usize, what: Coming) {
        let worker = &self.workers[at];
        if what.life() != worker.life {
            return;
        }
        // These happen whether or not the process gets a turn.
        let what = match what {
            Coming::KernelTimer(_) => return self.kernel_timer(at),
            Coming::RunOver(life, key, run, event) => {
                if worker.runs.get(&key) != Some(&run) {
                    return;
                }
                self.workers[at].runs.remove(&key);
                self.running.remove(&key.task);
                Coming::Mind(life, event)
            }
            what => what,
        };
        let worker = &self.workers[at];
        if self.now < worker.frozen_until {
            let wait = worker.frozen_until - self.now;
            return self.later(wait, Any::Worker(at, what));
        }
        match what {
            Coming::Boot(_) => self.begin_session(at),
            Coming::LeaseTick(_, due) if due == worker.lease_due => self.lease_tick(at),
            Coming::MindTick(_, due) if due == worker.mind_due => self.think(at),
            Coming::LeaseTick(..) | Coming::MindTick(..) => {}
            Coming::Mind(_, event) => self.tell(at, event),
            Coming::Told(_, _, ToWorker::Renewed { renewal, answer, .. }) => {
                self.renewed(at, renewal, answer);
            }
            Coming::Told(_, link, message) => self.tell(at, Event::Told(link, message)),
            Coming::Unlinked(_, link) => {
                self.workers[at].links.remove(&link);
                self.tell(at, Event::Unlinked(link));
            }
            Coming::Renewed(_, session, renewal, answer) => {
                let holder = self.workers[at].holder.as_ref();
                if holder.is_some_and(|holder| holder.session() == session) {
                    self.renewed(at, renewal, answer);
                }
            }
            Coming::KernelTimer(_) | Coming::RunOver(..) => unreachable!("handled before"),
        }
    }

    fn begin_session(&mut self, at: usize) {
        let worker = &self.workers[at];
        let found = self.leases.get(&worker.name).cloned();
        // Within a process the session before is known to be over; a new process knows it if it
        // got the state directory's lock, which it may not have.
        let proven = worker.over || self.chance.once_in(2);
        let worker = &mut self.workers[at];
        worker.sessions += 1;
        worker.over = false;
        let lease = Lease {
            worker: worker.name.clone(),
            session: SessionId(at as u64 * 1_000_000 + worker.sessions),
            renewal: 0,
            standing: Standing::Live,
            home_dir: Nonce(1),
            succeeds: found.as_ref().filter(|_| proven).map(|(lease, _)| lease.session),
            master_wait_ms: 0,
            offer: Offer { slots: 2, memory_bytes: u64::MAX, ..Offer::default() },
            renewed_at: WallMillis(0),
        };
        let expect = found.map_or(0, |(_, revision)| revision);
        worker.holder = Some(Holder::new(TIMING, lease, expect));
        self.lease_tick(at);
    }

    fn lease_tick(&mut self, at: usize) {
        let now = time(self.now);
        let life = self.workers[at].life;
        self.connect(at);
        let Some(holder) = &mut self.workers[at].holder else { return };
        match holder.plan(now, WallMillis(0)) {
            None => {}
            Some(LeaseStep::Write { expect, lease }) => {
                let link = self.workers[at].links.last().copied();
                if let Some(link) = link.filter(|_| self.chance.once_in(3)) {
                    self.send_up(link, ToMaster::Renew { expect, lease });
                } else {
                    let (session, renewal) = (lease.session, lease.renewal);
                    let unknown = Coming::Renewed(life, session, renewal, CasAnswer::Unknown);
                    let known = self.arrives(Any::Worker(at, unknown));
                    let asker = if known { Asker::Worker(at, life) } else { Asker::Nobody };
                    self.write_later(known, Any::WriteLease { expect, lease, asker });
                }
            }
            Some(LeaseStep::Over { .. }) => {
                let worker = &mut self.workers[at];
                worker.holder = None;
                worker.over = true;
                return self.tell(at, Event::SessionOver);
            }
        }
        self.schedule_lease(at);
    }

    fn schedule_lease(&mut self, at: usize) {
        let now = self.now;
        let worker = &mut self.workers[at];
        let Some(holder) = &worker.holder else { return };
        let due = now + holder.wakeup().since(time(now)).as_millis() as u64 + 1;
        worker.lease_due = due;
        let tick = Coming::LeaseTick(worker.life, due);
        self.later(due - now, Any::Worker(at, tick));
    }

    fn renewed(&mut self, at: usize, renewal: u64, answer: CasAnswer<Lease>) {
        let worker = &mut self.workers[at];
        let (life, Some(holder)) = (worker.life, &mut worker.holder) else { return };
        let before = holder.until();
        holder.answered(renewal, answer);
        let (session, until) = (holder.session(), holder.until());
        if until > before {
            // The lease has a thread of its own; its news may come late to the mind.
            let wait = self.soon() / 10;
            let news = Coming::Mind(life, Event::LeaseHeld { session, until });
            self.later(wait, Any::Worker(at, news));
            let kill = until + TIMING.kill_margin();
            self.workers[at].kernel_at = kill;
            let wait = kill.since(time(self.now)).as_millis() as u64;
            self.later(wait, Any::Worker(at, Coming::KernelTimer(life)));
        }
        self.schedule_lease(at);
    }

    fn connect(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        if worker.dial || worker.links.is_empty() {
            worker.dial = false;
            let life = worker.life;
            let link = self.dial(at, life);
            self.workers[at].links.insert(link);
            self.tell(at, Event::Linked(link));
        }
    }

    fn tell(&mut self, at: usize, event: Event) {
        self.workers[at].mind.observe(time(self.now), event);
        self.think(at);
    }

    fn think(&mut self, at: usize) {
        let mut out = Vec::new();
        let life = self.workers[at].life;
        self.workers[at].mind.plan(time(self.now), &mut out);
        for effect in out {
            self.act(at, effect);
        }
        if let Some(next) = self.workers[at].mind.wakeup() {
            assert!(next > time(self.now), "it would be woken without end");
            let due = self.now + next.since(time(self.now)).as_nanos().div_ceil(1_000_000) as u64;
            if due != self.workers[at].mind_due {
                self.workers[at].mind_due = due;
                self.later(due - self.now, Any::Worker(at, Coming::MindTick(life, due)));
            }
        }
    }

    fn act(&mut self, at: usize, effect: Effect) {
        let life = self.workers[at].life;
        match effect {
            Effect::Prepare { dispatch, .. } => {
                let key = dispatch.key;
                let event = if self.chance.once_in(10) {
                    Event::NotPrepared { key, for_good: false, reason: String::new() }
                } else {
                    Event::Prepared(key)
                };
                let wait = self.soon();
                self.later(wait, Any::Worker(at, Coming::Mind(life, event)));
            }
            Effect::Start(dispatch) => self.start(at, dispatch.key),
            Effect::Kill { key, .. } => {
                self.tally.fenced += 1;
                // It may take all the time that the kernel leaves; or it has just ended by itself.
                let wait = self.chance.below(TIMING.kill_margin().as_millis() as u64);
                if let Some(&run) = self.workers[at].runs.get(&key) {
                    let stopped = Coming::RunOver(life, key, run, Event::Stopped(key));
                    self.later(wait, Any::Worker(at, stopped));
                }
            }
            Effect::Send { link, message } => self.send_up(link, message),
            Effect::Quiet => {
                assert!(self.workers[at].runs.is_empty(), "quiet while something runs");
                self.begin_session(at);
            }
            Effect::Drop(_) => {}
        }
    }

    fn start(&mut self, at: usize, key: AttemptKey) {
        if let Some((other, held)) = self.running.insert(key.task, (at, key)) {
            panic!("at {} ms {key:?} starts on w{at} while {held:?} runs on w{other}", self.now);
        }
        self.tally.runs += 1;
        let run = self.tally.runs;
        self.workers[at].runs.insert(key, run);
        let verdict = if self.chance.once_in(4) {
            Verdict::Failed { code: 1, message: String::new() }
        } else {
            Verdict::Completed
        };
        let outcome = Outcome { run_us: 5_000, ..Outcome::bare(verdict) };
        let most = if self.chance.once_in(2) { 3_000 } else { 50 };
        let wait = self.chance.below(most);
        let life = self.workers[at].life;
        let ended = Coming::RunOver(life, key, run, Event::Ended { key, outcome });
        self.later(wait, Any::Worker(at, ended));
    }

    fn kernel_timer(&mut self, at: usize) {
        let worker = &self.workers[at];
        if time(self.now) >= worker.kernel_at && !worker.runs.is_empty() {
            self.crash(at);
        }
    }

    pub fn crash(&mut self, at: usize) {
        self.tally.crashes += 1;
        for key in core::mem::take(&mut self.workers[at].runs).into_keys() {
            self.running.remove(&key.task);
        }
        for link in core::mem::take(&mut self.workers[at].links) {
            self.cut(link);
        }
        let worker = &mut self.workers[at];
        worker.life += 1;
        worker.frozen_until = 0;
        worker.holder = None;
        worker.over = false;
        worker.kernel_at = Time::ZERO;
        worker.mind_due = 0;
        worker.mind = Attempts::new(2, "1".into());
        let life = worker.life;
        let wait = self.chance.below(1_500);
        self.later(wait, Any::Worker(at, Coming::Boot(life)));
    }
}
