//! A master's state machine with a registry that accepts every write and workers that run every
//! dispatch. Only the calls of the state machine are timed, and they are the same calls that the master
//! makes. Never times the registry or the workers.

use muster_protocol::{
    Digest, Nonce, Revision, SessionId, TaskId, Time, WorkerId,
    api::{NewTask, Submit, Transport},
    entitlement::Entitlement,
    fleet::{Config, Effect, Event, Fleet, LinkId, Loaded},
    frame::FrameRange,
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

/// The most events before a plan: about as many as the master's loop takes at once.
pub const BATCH: usize = 1_000;

/// The time between two batches. Far shorter than on a real master, so that no timer fires in between.
const TICK: Duration = Duration::from_micros(100);

/// The reported duration of a run: so long that no worker gets more attempts than it has slots.
const RUN_US: u64 = 1_000_000;

/// A state machine, and the effects that are not answered yet.
pub struct FleetRig {
    fleet: Fleet,
    now: Time,
    renewed: Time,
    revision: Revision,
    submitted: u64,
    leases: Vec<Lease>,
    /// The tasks whose records wait to be written, in the order of the effects.
    writes: VecDeque<TaskId>,
    /// Attempts that were dispatched and have not ended.
    held: VecDeque<(LinkId, AttemptKey)>,
}

/// The labels of a worker, by its number.
pub type Labels = fn(usize) -> BTreeMap<String, String>;

/// No labels.
pub fn unlabelled(_: usize) -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// A typical no-op task: a module by name and digest, and a line of input.
pub fn noop(number: u64) -> TaskSpec {
    let module = ModuleRef { name: Some("noop:1".into()), digest: Digest([7; 32]) };
    TaskSpec::new(module, Data::Inline(format!("line {number}").into()))
}

/// The outcome of a run of it.
pub fn completed() -> Outcome {
    Outcome { run_us: RUN_US, cpu_us: 20, ..Outcome::bare(Verdict::Completed) }
}

/// The wall clock at the start; any value is fine.
const WALL: WallMillis = WallMillis(1_700_000_000_000);

impl FleetRig {
    /// A rig with these workers, each with a lease, a link and `slots` slots, and with an empty
    /// registry.
    pub fn new(workers: usize, slots: u32, labels: Labels) -> Self {
        let mut rig = FleetRig::unloaded(workers, slots, labels);
        rig.tell(vec![Event::Loaded(Loaded::default())]);
        for number in 0..workers {
            let linked = rig.linked(number);
            rig.tell(vec![linked]);
        }
        rig
    }

    /// A rig that knows the leases of these workers, but has no link and has not read the registry.
    fn unloaded(workers: usize, slots: u32, labels: Labels) -> Self {
        let me = "m1".parse().expect("a name");
        let (session, timing) = (SessionId(7), LeaseTiming::STANDARD);
        let now = Time::from_nanos(1_000_000_000_000);
        let lease = |number| lease(number, slots, labels(number));
        let mut rig = FleetRig {
            fleet: Fleet::new(Config::new(me, session, timing)),
            now,
            renewed: now,
            revision: 0,
            submitted: 0,
            leases: (0..workers).map(lease).collect(),
            writes: VecDeque::new(),
            held: VecDeque::new(),
        };
        rig.tell(vec![Event::Clock(WALL)]);
        rig.renew();
        rig
    }

    /// A master that starts with a registry in which `queued` tasks wait. Returns the rig, the time to
    /// read these tasks, and the time of the first plan.
    pub fn load(workers: usize, slots: u32, queued: u64) -> (Self, Duration, Duration) {
        let mut rig = FleetRig::unloaded(workers, slots, unlabelled);
        let mut learning = Duration::ZERO;
        for number in 0..queued {
            let record = TaskRecord::queued(rig.next_id(), Arc::new(noop(number)), WALL);
            let event = Event::TaskSeen(Box::new(as_json(&record)), rig.next_revision());
            let started = Instant::now();
            rig.fleet.observe(rig.now, event);
            learning += started.elapsed();
        }
        let planning = rig.tell(vec![Event::Loaded(Loaded::default())]);
        (rig, learning, planning)
    }

    /// Passes events to the state machine, and lets it plan once. Returns how long both took.
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

    /// Every worker renews its lease. Returns how long the state machine took.
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
        let hello = Hello { to, session, attempts, holds, version, frames: FrameRange::SPOKEN };
        let entitlement = Arc::new(Entitlement::any());
        let (link, transport) = (number as LinkId, Transport::Quic);
        Event::Linked { worker, link, transport, entitlement, hello }
    }

    /// A submission as the API decodes it.
    pub fn submission(&mut self, tasks: usize, spec: impl Fn(u64) -> TaskSpec) -> Event {
        let first = self.submitted;
        let new = |number| NewTask { id: self.next_id(), spec: Arc::new(spec(number)) };
        let submit = Submit { tasks: (first..first + tasks as u64).map(new).collect() };
        Event::Submitted { request: first, tasks: as_json(&submit).tasks }
    }

    /// Submits tasks. Tasks without a free slot are queued.
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

    /// The registry answers the oldest writes, at most [`BATCH`]. Returns how long the state machine
    /// took.
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

    /// The registry answers all writes, and the writes that follow from them. Returns how long the state
    /// machine took.
    pub fn answer_all(&mut self) -> Duration {
        let mut took = Duration::ZERO;
        while !self.writes.is_empty() {
            took += self.answer();
        }
        took
    }

    /// The oldest attempts end, at most `most`. Returns how long the state machine took.
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

    /// The queued tasks with these numbers are cancelled. Returns how long the state machine took,
    /// including their ends.
    pub fn cancel(&mut self, numbers: impl Iterator<Item = u64>) -> Duration {
        let asked = |number| Event::CancelAsked { request: number, task: id(number) };
        let took = self.tell(numbers.map(asked).collect());
        took + self.answer_all()
    }

    /// Another master of the fleet renews its lease, perhaps for the first time, and may then place the
    /// tasks that it owns. Returns how long the state machine took.
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
            connected_to: None,
            address: None,
            issues: false,
            renewed_at: WALL,
            unknown: Default::default(),
        };
        let revision = self.next_revision();
        self.tell(vec![Event::MasterSeen(lease, revision)])
    }

    /// The number of tasks that have not ended.
    pub fn open(&self) -> usize {
        self.fleet.tasks_open()
    }

    /// The number of attempts that have not ended.
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

/// The id of the task that was submitted with this number. It begins with a stamp, the same one for a
/// thousand tasks, and ends with bits that are not predictable.
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

/// A copy that was encoded and decoded, as if it came from the registry or a client: it shares no memory
/// with the original.
fn as_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_vec(value).expect("it has a form in JSON");
    serde_json::from_slice(&text).expect("what was written can be read")
}
