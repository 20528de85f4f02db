//! The master's state machine: it knows the tasks, the workers and the other masters, and decides which
//! worker runs which task and which worker is lost. Never does I/O, and keeps nothing that the registry
//! does not also hold.
//!
//! The contract: pass every event to [`Fleet::observe`] in the order in which it was learned; then call
//! [`Fleet::plan`] once and execute the effects in order. Call it again after more events, or when
//! [`Fleet::wakeup`] is reached. The result of an effect comes back as an event. A lost effect loses no
//! task, since every decision is derived from the task's record.
//!
//! Three rules hold on every path through this module:
//! - a [`Effect::WriteTask`] names the revision it replaces;
//! - a [`Dispatch`](crate::message::Dispatch) is planned only for an attempt that the known record names;
//! - a task is taken from a worker only after the worker's lease says `lost` or `released`, or another
//!   session has taken the lease over (see [`worker_lease`](self)).

mod backoff;
mod cancel;
mod command;
mod event;
mod explain;
mod guard;
mod intern;
mod link;
mod mass_silence;
mod masters;
mod place;
mod preempt;
mod reconcile;
mod record;
mod retry;
mod roll_call;
mod submit;
mod task_state;
#[cfg(test)]
mod tests;
mod worker_events;
mod worker_lease;

pub use event::{ClientReply, Config, Effect, Event, LinkId, Loaded, RequestId};
use task_state::{OutcomeReport, Phase, Task};

use crate::{
    ABSENT, GroupName, Nonce, Revision, SessionId, TaskId, Time, WorkerId,
    lease::Lease,
    limit,
    message::{AttemptKey, HeldAttempt},
    run_estimate::RunEstimate,
    subject::Bucket,
    task::{TaskRecord, mix},
    time::WallMillis,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

/// How long a master waits before it asks the registry again whether a write landed.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Debug)]
pub struct Fleet {
    config: Config,
    /// The wall clock at the boot clock's zero, in milliseconds; changes when the wall clock is set.
    wall_at_zero: i64,
    nonces: u64,
    /// Since when this session has loaded the whole registry; `None` before, and once the registry does
    /// not answer.
    registry_up: Option<Time>,
    guard: guard::Guard,
    roll: roll_call::RollCall,
    own: masters::Own,
    peers: BTreeMap<SessionId, masters::Peer>,
    /// The other masters that renew their leases in time.
    fresh: BTreeSet<SessionId>,
    /// How many workers are linked to this master.
    linked: usize,
    mass_silence: mass_silence::MassSilence,
    tasks: BTreeMap<TaskId, Task>,
    interner: intern::Interner,
    workers: BTreeMap<WorkerId, Worker>,
    groups: BTreeMap<GroupName, place::Group>,
    /// Tasks for which `reconcile` has to decide something.
    dirty: BTreeSet<TaskId>,
    /// Groups for which `place` has to run: a worker's slot may be free, or a task has arrived.
    open: BTreeSet<GroupName>,
    /// Submitted tasks that are not in the registry yet.
    unstored: BTreeSet<TaskId>,
    writing: usize,
    timers: BTreeSet<(Time, Timer)>,
    /// When the queueing time of each queued task is over.
    queue_ends: BTreeSet<(Time, TaskId)>,
    /// Unanswered submissions: how many tasks each has, and how many of them are not stored yet.
    requests: BTreeMap<RequestId, (u64, u64)>,
    inquiries: BTreeMap<TaskId, Vec<link::Inquiry>>,
    /// How many reads of records were requested so far.
    reads: u64,
    /// The run that is being stopped to make room, by the queued task it makes room for.
    preempted: BTreeMap<TaskId, AttemptKey>,
    end_rate: retry::Rate,
    tombstones: record::Tombstones,
    /// Effects that `observe` has decided and `plan` will return.
    outbox: Vec<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// This master's own lease has to be renewed.
    Own,
    /// Another master may be silent, or its lease over.
    Master(SessionId),
    /// The failover guard has to be raised or lifted.
    Guard,
    /// An answer to the roll call, or the end of a stream, is missing.
    RollCall,
    /// This master takes over a group's unowned tasks after the takeover delay.
    Group(GroupName),
    /// A worker's lease may be over.
    Lease(WorkerId),
    /// The backoff of a worker that returned attempts is over.
    Backoff(WorkerId),
    /// The delay of a task is over, or the registry has to be asked about its write.
    Task(TaskId),
    /// The task of an inquiry has to be read again.
    Inquiry(TaskId),
}

/// What this master knows of a worker.
#[derive(Debug)]
struct Worker {
    lease: Option<Lease>,
    revision: Revision,
    /// When this master first saw the newest lease value.
    seen: Time,
    /// When this master first saw the current session.
    session_seen: Time,
    /// When this master, as the worker's home, last extended the lease.
    extended: Time,
    /// The longest wait that any lease of this worker has asked for.
    wait: Duration,
    /// The session of the worker that has answered the roll call.
    answered: Option<SessionId>,
    /// This master has sent a `lost` against the newest lease value; the write may land at any time.
    lost_sent: bool,
    /// That write is not answered yet.
    declaring: bool,
    /// Whether this master declared the newest lease value lost.
    declared_here: bool,
    /// Requests that wait until the worker has obeyed a command, and the lease state that shows it.
    commands: Vec<(RequestId, crate::lease::LeaseState)>,
    links: link::WorkerLinks,
    /// Tasks that are dispatched to it or being dispatched, and whose outcome is not known.
    tasks: BTreeSet<TaskId>,
    run_estimate: RunEstimate,
    backoff: backoff::WorkerBackoff,
}

impl Fleet {
    /// A master that has loaded nothing yet.
    pub fn new(config: Config) -> Self {
        let nonces = config.session.0;
        let own = masters::Own::new(&config);
        Fleet {
            config,
            wall_at_zero: 0,
            nonces,
            registry_up: None,
            guard: guard::Guard::default(),
            roll: roll_call::RollCall::default(),
            own,
            peers: BTreeMap::new(),
            fresh: BTreeSet::new(),
            linked: 0,
            mass_silence: mass_silence::MassSilence::default(),
            tasks: BTreeMap::new(),
            interner: intern::Interner::default(),
            workers: BTreeMap::new(),
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            open: BTreeSet::new(),
            unstored: BTreeSet::new(),
            writing: 0,
            timers: BTreeSet::new(),
            queue_ends: BTreeSet::new(),
            requests: BTreeMap::new(),
            inquiries: BTreeMap::new(),
            reads: 0,
            preempted: BTreeMap::new(),
            end_rate: retry::Rate::default(),
            tombstones: record::Tombstones::default(),
            outbox: Vec::new(),
        }
    }

    /// Takes in one event.
    pub fn observe(&mut self, now: Time, event: Event) {
        match event {
            Event::RegistryDown => self.registry_up = None,
            Event::Loaded(loaded) => self.begin(now, loaded),
            Event::Stopping => self.stopping(),
            Event::Clock(wall) => {
                self.wall_at_zero = wall.0 as i64 - (now.as_nanos() / 1_000_000) as i64;
            }
            Event::LeaseSeen(lease, revision) => self.lease_seen(now, lease, revision),
            Event::LeaseGone(worker, revision) => self.lease_gone(now, worker, revision),
            Event::MasterSeen(lease, revision) => self.master_seen(now, lease, revision),
            Event::GuardSeen(guard, revision) => {
                self.roll.exists(Bucket::Masters, revision);
                self.guard_seen(now, guard, revision);
            }
            Event::GuardWritten { guard, answer } => self.guard_written(now, guard, answer),
            Event::EndRead { bucket, read, end } => self.end_read(now, bucket, read, end),
            Event::MasterGone(session) => self.master_gone(now, session),
            Event::MasterWritten { lease, answer } => self.master_written(now, lease, answer),
            Event::LeaseWritten { lease, asked_by, answer } => {
                self.lease_written(now, lease, asked_by, answer);
            }
            Event::RenewAsked { worker, link, expect, lease } => {
                self.renew_asked(worker, link, expect, lease);
            }
            Event::ExtendAsked { worker, link, session, renewal } => {
                self.extend_asked(now, worker, link, session, renewal);
            }
            Event::CommandAsked { request, worker, command: order } => {
                self.command_asked(request, worker, order);
            }
            Event::TaskSeen(record, revision) => {
                self.roll.exists(Bucket::Tasks, revision);
                let mut record = *record;
                self.interner.intern(&mut record.spec);
                self.task_seen(now, Arc::new(record), revision);
                self.tombstones.caught_up(revision);
            }
            Event::TaskRead { task, read, found } => self.task_answered(now, task, read, found),
            Event::TaskWritten { task, answer } => self.task_written(now, task, answer),
            Event::Linked { worker, link, hello } => self.linked(now, worker, link, hello),
            Event::Unlinked { worker, link } => self.unlinked(worker, link),
            Event::Finished { worker, link, key, revision, outcome } => {
                self.finished(now, worker, link, HeldAttempt { key, revision }, outcome);
            }
            Event::Submitted { request, tasks } => self.submitted(now, request, tasks),
            Event::CancelAsked { request, task } => self.cancel_asked(request, task),
        }
    }

    /// Decides from all events so far, and appends the effects to `out`.
    pub fn plan(&mut self, now: Time, out: &mut Vec<Effect>) {
        out.append(&mut self.outbox);
        if self.registry_up.is_none() {
            return;
        }
        self.fire_timers(now, out);
        self.call_roll(now, out);
        self.renew_own(now, out);
        if self.may_act() {
            self.reconcile(now, out);
            self.place(now, out);
            self.store_the_rest(now, out);
        }
        out.append(&mut self.outbox);
    }

    /// When [`plan`](Fleet::plan) has to be called again if no event comes before.
    pub fn wakeup(&self) -> Option<Time> {
        self.registry_up?;
        let (timer, queue) = (self.timers.first(), self.queue_ends.first());
        timer.map(|&(at, _)| at).into_iter().chain(queue.map(|&(at, _)| at)).min()
    }

    /// Handles the timers that are due.
    fn fire_timers(&mut self, now: Time, out: &mut Vec<Effect>) {
        while let Some(&(at, id)) = self.queue_ends.first()
            && at <= now
        {
            self.queue_ends.pop_first();
            self.dirty.insert(id);
        }
        while let Some((at, timer)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, timer));
                return;
            }
            match timer {
                Timer::Own => {}
                Timer::Guard => self.guard_due(now, out),
                Timer::RollCall => self.roll_due(),
                Timer::Master(session) => self.master_due(now, session, out),
                Timer::Group(name) => {
                    self.open.insert(name);
                }
                Timer::Lease(worker) => self.lease_due(now, worker, out),
                Timer::Backoff(worker) => self.backoff_due(now, &worker),
                Timer::Task(task) => self.task_due(now, task, out),
                Timer::Inquiry(task) => {
                    if self.inquiries.contains_key(&task) {
                        self.read_task(now, task, Timer::Inquiry(task), out);
                    }
                }
            }
        }
    }

    fn task_due(&mut self, now: Time, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get(&id) else { return };
        match task.phase {
            Phase::Idle => {
                self.dirty.insert(id);
            }
            Phase::Writing(_) => {}
            Phase::Asking => self.read_task(now, id, Timer::Task(id), out),
        }
    }

    /// Reads a record from the stream's leader, and again until the read is answered.
    fn read_task(&mut self, now: Time, task: TaskId, again: Timer, out: &mut Vec<Effect>) {
        self.reads += 1;
        let patience = self.leader_lag();
        for inquiry in self.inquiries.get_mut(&task).into_iter().flatten() {
            if now >= inquiry.since + patience {
                inquiry.first.get_or_insert(self.reads);
            }
        }
        out.push(Effect::ReadTask { task, read: self.reads });
        self.timers.insert((now + ASK_AGAIN, again));
    }

    /// Whether the current attempt of the task is this one, on this worker.
    fn holds(&self, worker: &WorkerId, key: AttemptKey) -> bool {
        self.tasks
            .get(&key.task)
            .and_then(|task| task.record.attempt())
            .is_some_and(|attempt| attempt.id == key.attempt && attempt.worker == *worker)
    }

    fn worker(&mut self, now: Time, id: &WorkerId) -> &mut Worker {
        let wait = self.config.timing.master();
        self.workers.entry(id.clone()).or_insert_with(|| Worker {
            lease: None,
            revision: ABSENT,
            seen: now,
            session_seen: now,
            extended: Time::ZERO,
            wait,
            answered: None,
            lost_sent: false,
            declaring: false,
            declared_here: false,
            commands: Vec::new(),
            links: link::WorkerLinks::default(),
            tasks: BTreeSet::new(),
            run_estimate: RunEstimate::default(),
            backoff: backoff::WorkerBackoff::default(),
        })
    }

    fn wall(&self, now: Time) -> WallMillis {
        WallMillis((self.wall_at_zero + (now.as_nanos() / 1_000_000) as i64).max(0) as u64)
    }

    /// The next nonce of this master: a well-mixed sequence from its seed.
    fn next_nonce(&mut self) -> u64 {
        self.nonces = self.nonces.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.nonces)
    }

    /// Starts the write that replaces the task's known record by `record`.
    fn write(
        &mut self,
        now: Time,
        id: TaskId,
        mut record: TaskRecord,
        keep: Option<Duration>,
        out: &mut Vec<Effect>,
    ) {
        record.write = Nonce(self.next_nonce());
        record.writer = self.config.session;
        let patience = self.leader_lag();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.sends(now, patience);
        let record = Arc::new(record);
        task.phase = Phase::Writing(record.clone());
        self.writing += 1;
        self.unstored.remove(&id);
        out.push(Effect::WriteTask { expect: task.revision, record, keep });
    }

    fn may_write(&self) -> bool {
        self.writing < limit::WRITES_MAX
    }
}
