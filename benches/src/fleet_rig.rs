//! A master's mind between a registry that takes every write and workers that do as they are told.
//! Never in the time that is measured: only the mind is, by the same calls that the master makes.

use muster_protocol::{
    Digest, Nonce, Revision, SessionId, TaskId, Time, WorkerId,
    api::{NewTask, Submit},
    fleet::{Config, Effect, Event, Fleet, LinkId, Loaded},
    lease::{CasAnswer, Lease, LeaseTiming, MasterLease, Offer},
    message::{AttemptKey, Dispatch, Hello, ToWorker},
    task::{Data, ModuleRef, Outcome, TaskRecord, TaskSpec, Verdict},
    time::WallMillis,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Most facts that are told before a plan: about as many as the master's loop takes in at once.
pub const BATCH: usize = 1_000;

/// What passes between two batches: far less than at any real pace, so that no timer rings in between.
const TICK: Duration = Duration::from_micros(100);

/// How long runs are said to take: so long that no worker is given more than it has slots.
const RUN_US: u64 = 1_000_000;

/// A mind, and what it waits for.
pub struct FleetRig {
    fleet: Fleet,
    now: Time,
    renewed: Time,
    revision: Revision,
    submitted: u64,
    leases: Vec<Lease>,
    /// Tasks of which a record is to be written, in the order in which they were.
    writes: VecDeque<TaskId>,
    /// Attempts that workers were sent and have not ended.
    held: VecDeque<(LinkId, AttemptKey)>,
}

/// What labels a worker has, by its number.
pub type Labels = fn(usize) -> BTreeMap<String, String>;

/// No labels.
pub fn unlabelled(_: usize) -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// A no-op task as most are submitted: a module by name and digest, and a line of input.
pub fn noop(number: u64) -> TaskSpec {
    let module = ModuleRef { name: Some("noop:1".into()), digest: Digest([7; 32]) };
    TaskSpec::new(module, Data::Inline(format!("line {number}").into()))
}

/// What a run of it comes to.
pub fn completed() -> Outcome {
    Outcome { run_us: RUN_US, cpu_us: 20, ..Outcome::bare(Verdict::Completed) }
}

/// The wall clock at the start of the mind's; any will do.
const WALL: WallMillis = WallMillis(1_700_000_000_000);

impl FleetRig {
    /// Knows these workers, each with a lease, a link and so many slots, and nothing else.
    pub fn new(workers: usize, slots: u32, labels: Labels) -> Self {
        let mut mind = FleetRig::unloaded(workers, slots, labels);
        mind.tell(vec![Event::Loaded(Loaded::default())]);
        for number in 0..workers {
            let linked = mind.linked(number);
            mind.tell(vec![linked]);
        }
        mind
    }

    /// Knows the leases of these workers, and neither all that is in the registry nor a link.
    fn unloaded(workers: usize, slots: u32, labels: Labels) -> Self {
        let me = "m1".parse().expect("a name");
        let (session, timing) = (SessionId(7), LeaseTiming::STANDARD);
        let now = Time::from_nanos(1_000_000_000_000);
        let lease = |number| lease(number, slots, labels(number));
        let mut mind = FleetRig {
            fleet: Fleet::new(Config::new(me, session, timing)),
            now,
            renewed: now,
            revision: 0,
            submitted: 0,
            leases: (0..workers).map(lease).collect(),
            writes: VecDeque::new(),
            held: VecDeque::new(),
        };
        mind.tell(vec![Event::Clock(WALL)]);
        mind.renew();
        mind
    }

    /// The master begins anew with a registry in which so many tasks wait: how long it took it to
    /// learn of them, and then to plan for the first time.
    pub fn load(workers: usize, slots: u32, queued: u64) -> (Self, Duration, Duration) {
        let mut mind = FleetRig::unloaded(workers, slots, unlabelled);
        let mut learning = Duration::ZERO;
        for number in 0..queued {
            let record = TaskRecord::queued(mind.next_id(), Arc::new(noop(number)), WALL);
            let event = Event::TaskSeen(Box::new(as_json(&record)), mind.next_revision());
            let started = Instant::now();
            mind.fleet.observe(mind.now, event);
            learning += started.elapsed();
        }
        let planning = mind.tell(vec![Event::Loaded(Loaded::default())]);
        (mind, learning, planning)
    }

    /// Tells facts and lets it plan once: how long both took.
    pub fn tell(&mut self, events: Vec<Event>) -> Duration {
        self.now = self.now + TICK;
        let mut effects = Vec::new();
        let started = Instant::now();
        for event in events {
            self.fleet.observe(self.now, event);
        }
        self.fleet.plan(self.now, &mut effects);
        let took = started.elapsed();
        for effect in effects {
            self.carry_out(effect);
        }
        if self.now.since(self.renewed) >= LeaseTiming::STANDARD.renew_every() {
            self.renew();
        }
        took
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::WriteTask { record, .. } => self.writes.push_back(record.id),
            Effect::WriteMaster { lease, .. } => {
                let answer = CasAnswer::Written(self.next_revision());
                self.fleet.observe(self.now, Event::MasterWritten { lease, answer });
            }
            Effect::WriteLease { lease, .. } => panic!("{} was thought lost", lease.worker),
            Effect::Send { link, message: ToWorker::Dispatch(Dispatch { key, .. }) } => {
                self.held.push_back((link, key));
            }
            _ => {}
        }
    }

    /// Every worker renews its lease: how long it took to hear of it.
    pub fn renew(&mut self) -> Duration {
        self.renewed = self.now;
        let mut took = Duration::ZERO;
        for first in (0..self.leases.len()).step_by(BATCH) {
            let last = self.leases.len().min(first + BATCH);
            let events = (first..last).map(|number| self.renewal(number)).collect();
            took += self.tell(events);
        }
        took
    }

    fn renewal(&mut self, number: usize) -> Event {
        let revision = self.next_revision();
        let lease = &mut self.leases[number];
        lease.renewal += 1;
        Event::LeaseSeen(as_json(lease), revision)
    }

    fn linked(&self, number: usize) -> Event {
        let lease = &self.leases[number];
        let (worker, session) = (lease.worker.clone(), lease.session);
        let to = SessionId(7);
        let (attempts, holds, version) = (Vec::new(), Default::default(), String::new());
        let hello = Hello { to, session, attempts, holds, version };
        Event::Linked { worker, link: number as LinkId, hello }
    }

    /// A submission, as the API reads it.
    pub fn submission(&mut self, tasks: usize, spec: impl Fn(u64) -> TaskSpec) -> Event {
        let first = self.submitted;
        let new = |number| NewTask { id: self.next_id(), spec: Arc::new(spec(number)) };
        let submit = Submit { tasks: (first..first + tasks as u64).map(new).collect() };
        Event::Submitted { request: first, tasks: as_json(&submit).tasks }
    }

    /// So many tasks are submitted, and those for which there is no room wait.
    pub fn fill(&mut self, tasks: usize) {
        let mut left = tasks;
        while left > 0 {
            let some = left.min(BATCH);
            let submission = self.submission(some, noop);
            self.tell(vec![submission]);
            self.answer_all();
            left -= some;
        }
    }

    /// The registry answers the oldest writes, at most [`BATCH`]: how long it took.
    fn answer(&mut self) -> Duration {
        let some = self.writes.len().min(BATCH);
        let events = (0..some).filter_map(|_| {
            let task = self.writes.pop_front()?;
            let answer = CasAnswer::Written(self.next_revision());
            Some(Event::TaskWritten { task, answer })
        });
        let events = events.collect();
        self.tell(events)
    }

    /// The registry answers all writes, and those that follow from that.
    pub fn answer_all(&mut self) -> Duration {
        let mut took = Duration::ZERO;
        while !self.writes.is_empty() {
            took += self.answer();
        }
        took
    }

    /// The oldest of the attempts under way end, at most so many: how long it took.
    pub fn finish(&mut self, most: usize) -> Duration {
        let some = self.held.len().min(most);
        let ended: Vec<_> = self.held.drain(..some).collect();
        let finished = |(link, key): (LinkId, AttemptKey)| {
            let worker = self.leases[link as usize].worker.clone();
            Event::Finished { worker, link, key, revision: 0, outcome: completed() }
        };
        let events = ended.into_iter().map(finished).collect();
        self.tell(events)
    }

    /// The tasks of these numbers are cancelled that have not begun: how long it took, with their ends.
    pub fn cancel(&mut self, numbers: impl Iterator<Item = u64>) -> Duration {
        let asked = |number| Event::CancelAsked { request: number, task: id(number) };
        let took = self.tell(numbers.map(asked).collect());
        took + self.answer_all()
    }

    /// Another master of the fleet renews its lease, or does for the first time, and may place what
    /// is its own: how long it took.
    pub fn hear_of_a_master(&mut self) -> Duration {
        let lease = MasterLease {
            master: "m2".parse().expect("a name"),
            session: SessionId(8),
            renewal: 1,
            state: muster_protocol::lease::LeaseState::Live,
            wait_ms: LeaseTiming::STANDARD.outage_wait().as_millis() as u64,
            workers: 1,
            remembers: Vec::new(),
            vouches: None,
            renewed_at: WALL,
        };
        let revision = self.next_revision();
        self.tell(vec![Event::MasterSeen(lease, revision)])
    }

    /// Tasks that are not over.
    pub fn open(&self) -> usize {
        self.fleet.tasks_open()
    }

    /// Attempts under way.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn next_revision(&mut self) -> Revision {
        self.revision += 1;
        self.revision
    }

    fn next_id(&mut self) -> TaskId {
        self.submitted += 1;
        id(self.submitted - 1)
    }
}

/// The id of the task that was submitted as this number: a stamp in front, a thousand tasks in a
/// millisecond, and then what no one could foresee.
fn id(number: u64) -> TaskId {
    let stamp = u128::from(WALL.0 + number / BATCH as u64) << 80;
    let drawn = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 16;
    TaskId(stamp | drawn)
}

fn lease(number: usize, slots: u32, labels: BTreeMap<String, String>) -> Lease {
    let worker: WorkerId = format!("w{number:05}").parse().expect("a name");
    let offer = Offer {
        labels,
        slots,
        memory_bytes: u64::MAX,
        version: env!("CARGO_PKG_VERSION").into(),
        ..Offer::default()
    };
    Lease {
        home_dir: Nonce(number as u64),
        master_wait_ms: LeaseTiming::STANDARD.master().as_millis() as u64,
        offer,
        ..Lease::new(worker, SessionId(number as u64 + 1))
    }
}

/// A value as it comes from the registry or a client: nothing in it is shared with another.
fn as_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_vec(value).expect("it has a form in JSON");
    serde_json::from_slice(&text).expect("what was written can be read")
}
