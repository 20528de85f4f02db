//! The master's state machine, run against a registry of two maps: events in, effects out as lines.
//! No sleeps: time is a number that a test moves.

mod alone;
mod audit;
mod cancel;
mod home;
mod inquiries;
mod liveness;
mod masters;
mod memory;
mod objects;
mod outcome;
mod place;
mod restart;
mod roll_call;
mod store;
mod submit;

use super::*;
use crate::{
    ABSENT, AttemptId, Digest, Revision, SessionId,
    advisory::Advisory,
    api::{NewTask, Transport},
    entitlement::Entitlement,
    lease::{CasAnswer, Lease, LeaseState, LeaseTiming, Offer},
    limit,
    message::{Dispatch, HeldAttempt, Hello, ToWorker},
    registry::{FailoverGuard, Mark, Marks, ServerId},
    sessions::Memory,
    task::{Attempt, Data, ModuleRef, OnWorkerLost, Outcome, TaskSpec, TaskState, Verdict},
    time::WallMillis,
};
use alloc::{
    boxed::Box,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec,
};

/// One fleet, and the registry it believes in.
pub(super) struct World {
    pub fleet: Fleet,
    pub now: Time,
    /// What the registry holds; a test may change it, as another master would.
    pub tasks: BTreeMap<TaskId, (TaskRecord, Revision)>,
    pub leases: BTreeMap<WorkerId, (Lease, Revision)>,
    pub revision: Revision,
    /// Task writes that nobody has answered, and those whose answer was lost on the way there.
    pub writes: BTreeMap<TaskId, (Revision, Arc<TaskRecord>)>,
    ghosts: BTreeMap<TaskId, (Revision, Arc<TaskRecord>)>,
    pub lease_writes: BTreeMap<WorkerId, (Revision, Lease, Option<LinkId>)>,
    /// The guard that was last to be written.
    pub guard: Option<FailoverGuard>,
    /// Whether the registry leaves the renewals of the master's own lease unanswered.
    pub is_silent: bool,
    /// How many attempts the worker may hold, as the dispatch of each task says.
    pub held_max: BTreeMap<TaskId, u32>,
    /// What the certificates of links permit that come up from now on.
    pub entitlement: Arc<Entitlement>,
    /// Attempts by the order in which they were first seen: A, B, C, …
    attempts: Vec<AttemptId>,
    /// What the world was told since [`World::news`] was last asked for.
    news: Vec<String>,
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// How long a master waits by default.
pub(super) const WAIT: Duration = LeaseTiming::STANDARD.master();

pub(super) fn name(text: &str) -> WorkerId {
    text.parse().expect("a name")
}

pub(super) fn spec() -> TaskSpec {
    TaskSpec::new(ModuleRef { name: None, digest: Digest([1; 32]) }, Data::EMPTY)
}

pub(super) fn new_task(id: u128, change: impl FnOnce(&mut TaskSpec)) -> NewTask {
    let mut spec = spec();
    change(&mut spec);
    NewTask { id: TaskId(id), spec: Arc::new(spec) }
}

pub(super) fn outcome(verdict: Verdict) -> Outcome {
    Outcome { run_us: 1_000_000, ..Outcome::bare(verdict) }
}

pub(super) fn config(session: u64) -> Config {
    let me = "m1".parse().expect("a name");
    let (timing, session) = (LeaseTiming::STANDARD, SessionId(session));
    Config {
        me,
        session,
        succeeds: Vec::new(),
        remembers: Vec::new(),
        memory: Memory { vouched: Some(server()), ..Memory::default() },
        server: Some(server()),
        connected_to: Some(server()),
        address: None,
        issues: false,
        timing,
        leases_keep: crate::limit::LEASE_KEEP,
    }
}

/// The process of the registry's server, unless a test says otherwise.
pub(super) fn server() -> ServerId {
    ServerId("server".into())
}

pub(super) fn failed() -> Outcome {
    outcome(Verdict::Failed { code: 1, message: String::new() })
}

#[track_caller]
pub(super) fn check(lines: Vec<String>, want: &[&str]) {
    assert_eq!(lines, want);
}

impl World {
    /// Connected to an empty registry for long.
    pub fn new() -> Self {
        let mut world = World::unloaded();
        world.see(Event::Loaded(world.found()));
        world.now = world.now + SECOND * 60;
        world
    }

    pub fn unloaded() -> Self {
        World {
            fleet: Fleet::new(config(7)),
            now: Time::from_nanos(1_000_000_000_000),
            tasks: BTreeMap::new(),
            leases: BTreeMap::new(),
            revision: 0,
            writes: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            lease_writes: BTreeMap::new(),
            guard: None,
            is_silent: false,
            held_max: BTreeMap::new(),
            entitlement: Arc::new(Entitlement::any()),
            attempts: Vec::new(),
            news: Vec::new(),
        }
    }

    /// A restarted master on the same registry; it has listed all and been linked by nobody.
    pub fn restart(&mut self) -> Vec<String> {
        self.fleet = Fleet::new(config(8));
        self.writes.clear();
        self.lease_writes.clear();
        let mut lines = Vec::new();
        for (lease, revision) in self.leases.clone().into_values() {
            lines.extend(self.see(Event::LeaseSeen(lease, revision)));
        }
        for (record, revision) in self.tasks.clone().into_values() {
            lines.extend(self.see(Event::TaskSeen(Box::new(record), revision)));
        }
        lines.extend(self.see(Event::Loaded(self.found())));
        lines
    }

    /// What a session finds in the registry.
    pub fn found(&self) -> Loaded {
        let mut ends = Marks::default();
        for bucket in Bucket::FOLLOWED {
            ends.raise(bucket, self.revision);
        }
        Loaded { ends, known: Marks::default() }
    }

    pub fn see(&mut self, event: Event) -> Vec<String> {
        self.fleet.observe(self.now, event);
        self.plan()
    }

    /// Lets time pass, stopping wherever the fleet wants to be called.
    pub fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut lines = Vec::new();
        while let Some(at) = self.fleet.wakeup().filter(|&at| at <= end) {
            assert!(at > self.now, "a wakeup that planning does not reconcile: it would spin");
            self.now = at;
            lines.extend(self.plan());
        }
        self.now = end;
        lines
    }

    pub fn plan(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.fleet.plan(self.now, &mut out);
        let mut lines = Vec::new();
        for effect in out {
            match &effect {
                // Its own lease is renewed as long as there is a registry.
                Effect::WriteMaster { lease, .. } if lease.master.as_str() == "m1" => {
                    let answer = match self.is_silent {
                        true => CasAnswer::Unknown,
                        false => CasAnswer::Written(lease.renewal),
                    };
                    let written = Event::MasterWritten { lease: lease.clone(), answer };
                    self.fleet.observe(self.now, written);
                    continue;
                }
                Effect::WriteTask { expect, record, .. } => {
                    let old = self.writes.insert(record.id, (*expect, record.clone()));
                    assert!(old.is_none(), "two writes of one task at once");
                }
                Effect::WriteLease { expect, lease, asked_by } => {
                    let write = (*expect, lease.clone(), *asked_by);
                    self.lease_writes.insert(lease.worker.clone(), write);
                }
                Effect::WriteGuard { guard, .. } => self.guard = Some(guard.clone()),
                _ => {}
            }
            let line = self.say(&effect);
            match effect {
                Effect::Publish(_) => self.news.push(line),
                _ => lines.push(line),
            }
        }
        self.fleet.audit();
        lines
    }

    pub fn news(&mut self) -> Vec<String> {
        core::mem::take(&mut self.news)
    }

    fn letter(&mut self, id: AttemptId) -> char {
        let at = self.attempts.iter().position(|&known| known == id).unwrap_or_else(|| {
            self.attempts.push(id);
            self.attempts.len() - 1
        });
        if at < 26 { char::from(b'A' + at as u8) } else { '…' }
    }

    /// The attempt that a letter stands for.
    pub fn key(&self, task: u128, letter: char) -> AttemptKey {
        let attempt = self.attempts[(letter as u8 - b'A') as usize];
        AttemptKey { task: TaskId(task), attempt }
    }

    fn say(&mut self, effect: &Effect) -> String {
        match effect {
            Effect::WriteTask { expect, record, .. } => {
                let state = match &record.state {
                    TaskState::Dispatched(attempt) => {
                        format!("{} at {}", self.letter(attempt.id), attempt.worker)
                    }
                    state => state.word().to_string(),
                };
                let cancel =
                    if record.cancel && !record.is_done() { ", to be cancelled" } else { "" };
                format!("write t{}@{expect}: {state}{cancel}", record.id.0)
            }
            Effect::ReadTask { task, .. } => format!("read t{}", task.0),
            Effect::ReadEnd { bucket, .. } => format!("read the end of {}", bucket.word()),
            Effect::WriteGuard { expect, guard } => {
                format!("guard@{expect}: {}", if guard.lifted { "lifted" } else { "raised" })
            }
            Effect::WriteLease { expect, lease, .. } => {
                format!("lease {}@{expect}: {:?}", lease.worker, lease.state)
            }
            Effect::WriteMaster { expect, lease } => {
                format!("master {}@{expect}: {:?}", lease.session.0, lease.state)
            }
            Effect::BeginAnew => "begin anew".into(),
            Effect::Released => "released".into(),
            Effect::Send { link, message } => format!("link {link}: {}", self.say_sent(message)),
            Effect::CloseLink { link, worker, .. } => format!("close link {link} of {worker}"),
            Effect::Reply { request, answer } => format!("reply {request}: {answer:?}"),
            Effect::Tell { ended, .. } => {
                format!("tell t{}: {}", ended.task.0, ended.outcome.verdict.word())
            }
            Effect::Publish(advisory) => {
                let (_, about, what, id) = advisory.tokens();
                let id = match advisory {
                    Advisory::Tasks { tasks, .. } => format!("t{}", tasks[0].task.0),
                    _ => id,
                };
                format!("{about} {id} {what}")
            }
        }
    }

    fn say_sent(&mut self, message: &ToWorker) -> String {
        if let ToWorker::Dispatch(Dispatch { key, held_max, .. }) = message {
            self.held_max.insert(key.task, *held_max);
        }
        let mut name = |key: &AttemptKey| format!("t{} {}", key.task.0, self.letter(key.attempt));
        match message {
            ToWorker::Dispatch(Dispatch { key, .. }) => format!("dispatch {}", name(key)),
            ToWorker::Revoke { key, .. } => format!("revoke {}", name(key)),
            ToWorker::Preempt { key, .. } => format!("preempt {}", name(key)),
            ToWorker::Ack { key, committed: true } => format!("ack {}", name(key)),
            ToWorker::Ack { key, .. } => format!("refuse {}", name(key)),
            ToWorker::Renewed { answer, .. } => format!("renewed {answer:?}"),
            other => format!("{other:?}"),
        }
    }

    // What the registry does.

    pub fn next(&mut self) -> Revision {
        self.revision += 1;
        self.revision
    }

    /// Compares and sets a record.
    pub fn cas(&mut self, expect: Revision, record: &TaskRecord) -> CasAnswer<Box<TaskRecord>> {
        let found = self.tasks.get(&record.id).cloned();
        if found.as_ref().map_or(ABSENT, |&(_, revision)| revision) != expect {
            return CasAnswer::Conflict(found.map(|(record, at)| (Box::new(record), at)));
        }
        let revision = self.next();
        self.tasks.insert(record.id, (record.clone(), revision));
        CasAnswer::Written(revision)
    }

    /// The registry carries out a waiting write and answers.
    pub fn ok(&mut self, task: u128) -> Vec<String> {
        let task = TaskId(task);
        let (expect, record) = self.writes.remove(&task).expect("a write is under way");
        let answer = self.cas(expect, &record);
        self.see(Event::TaskWritten { task, answer })
    }

    /// The answer is lost: the write has landed, or is still on its way.
    pub fn unsure(&mut self, task: u128, landed: bool) -> Vec<String> {
        let task = TaskId(task);
        let (expect, record) = self.writes.remove(&task).expect("a write is under way");
        if landed {
            self.cas(expect, &record);
        } else {
            self.ghosts.insert(task, (expect, record));
        }
        self.see(Event::TaskWritten { task, answer: CasAnswer::Unknown })
    }

    /// A write whose answer was given up arrives at last. Whether it was taken.
    pub fn ghost(&mut self, task: u128) -> bool {
        let (expect, record) = self.ghosts.remove(&TaskId(task)).expect("a write was given up");
        matches!(self.cas(expect, &record), CasAnswer::Written(_))
    }

    /// The leader's answer to a read.
    pub fn read(&mut self, task: u128) -> Vec<String> {
        let task = TaskId(task);
        let found = self.tasks.get(&task).cloned().map(|(record, at)| (Box::new(record), at));
        let read = self.fleet.inquiries.latest_read();
        self.see(Event::TaskRead { task, read, found })
    }

    /// What the watch has to say of a task.
    pub fn watch(&mut self, task: u128) -> Vec<String> {
        let (record, revision) = self.tasks[&TaskId(task)].clone();
        self.see(Event::TaskSeen(Box::new(record), revision))
    }

    /// Another master writes this.
    pub fn other_writes(&mut self, task: u128, change: impl FnOnce(&mut TaskRecord)) {
        let (mut record, revision) = self.tasks[&TaskId(task)].clone();
        record.write = Nonce(u64::MAX - revision);
        change(&mut record);
        self.cas(revision, &record);
    }

    /// The registry carries out a waiting lease write and answers.
    pub fn lease_ok(&mut self, worker: &str) -> Vec<String> {
        let (expect, lease, asked_by) =
            self.lease_writes.remove(&name(worker)).expect("a lease write is under way");
        let found = self.leases.get(&lease.worker).cloned();
        let answer = if found.as_ref().map_or(ABSENT, |&(_, revision)| revision) == expect {
            let revision = self.next();
            self.leases.insert(lease.worker.clone(), (lease.clone(), revision));
            CasAnswer::Written(revision)
        } else {
            CasAnswer::Conflict(found)
        };
        self.see(Event::LeaseWritten { lease, asked_by, answer })
    }

    /// The answer to a lease write is lost; the write has landed or never will.
    pub fn lease_unsure(&mut self, worker: &str, landed: bool) -> Vec<String> {
        let (_, lease, asked_by) =
            self.lease_writes.remove(&name(worker)).expect("a lease write is under way");
        if landed {
            let revision = self.next();
            self.leases.insert(lease.worker.clone(), (lease.clone(), revision));
        }
        self.see(Event::LeaseWritten { lease, asked_by, answer: CasAnswer::Unknown })
    }

    // What workers do.

    /// A worker writes its lease; nobody has seen it yet.
    pub fn renews(&mut self, worker: &str, session: u64, change: impl FnOnce(&mut Lease)) {
        let mut lease = Lease {
            home_dir: Nonce(1),
            master_wait_ms: WAIT.as_millis() as u64,
            offer: Offer { slots: 1, memory_bytes: u64::MAX, ..Offer::default() },
            ..Lease::new(name(worker), SessionId(session))
        };
        change(&mut lease);
        let revision = self.next();
        self.leases.insert(lease.worker.clone(), (lease, revision));
    }

    /// The watch shows a worker's lease.
    pub fn watch_lease(&mut self, worker: &str) -> Vec<String> {
        let (lease, revision) = self.leases[&name(worker)].clone();
        self.see(Event::LeaseSeen(lease, revision))
    }

    pub fn link(
        &mut self,
        worker: &str,
        session: u64,
        link: LinkId,
        has: &[AttemptKey],
    ) -> Vec<String> {
        let hello = Hello {
            to: self.fleet.config.session,
            session: SessionId(session),
            attempts: has.iter().map(|&key| HeldAttempt { key, revision: 0 }).collect(),
            holds: Mark::default(),
            version: String::new(),
            frames: Default::default(),
        };
        let (worker, transport) = (name(worker), Transport::Quic);
        let entitlement = self.entitlement.clone();
        self.see(Event::Linked { worker, link, transport, entitlement, hello })
    }

    pub fn unlink(&mut self, worker: &str, link: LinkId) -> Vec<String> {
        self.see(Event::Unlinked { worker: name(worker), link })
    }

    /// A worker with a lease and a link, and one slot unless `change` says otherwise.
    pub fn join(
        &mut self,
        worker: &str,
        session: u64,
        link: LinkId,
        change: impl FnOnce(&mut Lease),
    ) {
        self.renews(worker, session, change);
        let lines = self.watch_lease(worker);
        check(lines, &[]);
        self.link(worker, session, link, &[]);
        self.news();
    }

    pub fn finish(
        &mut self,
        worker: &str,
        link: LinkId,
        key: AttemptKey,
        end: Outcome,
    ) -> Vec<String> {
        let (worker, revision, outcome) = (name(worker), 0, end);
        self.see(Event::Finished { worker, link, key, revision, outcome })
    }

    // What clients do.

    pub fn submit(&mut self, request: RequestId, tasks: Vec<NewTask>) -> Vec<String> {
        self.see(Event::Submitted { request, tasks })
    }

    /// One task of the default kind, submitted, and placed if there is room.
    pub fn run(&mut self, task: u128, change: impl FnOnce(&mut TaskSpec)) -> Vec<String> {
        self.submit(100 + task as u64, vec![new_task(task, change)]);
        self.ok(task)
    }

    pub fn cancel(&mut self, request: RequestId, task: u128) -> Vec<String> {
        self.see(Event::CancelAsked { request, task: TaskId(task) })
    }

    /// Everything has been said and done: nothing may be left in memory but the workers.
    #[track_caller]
    pub fn empty(&self) {
        let fleet = &self.fleet;
        assert!(fleet.tasks.is_empty(), "tasks: {:?}", fleet.tasks);
        assert!(fleet.requests.is_empty() && fleet.inquiries.tasks().next().is_none());
        assert!(
            fleet.write_queue.unstored().is_empty()
                && fleet.agenda.dirty().is_empty()
                && fleet.write_queue.under_way() == 0
        );
        assert!(fleet.scheduler.audit().is_empty(), "{:?}", fleet.scheduler);
        assert!(fleet.workers.values().all(|worker| worker.has_no_task()));
    }
}
