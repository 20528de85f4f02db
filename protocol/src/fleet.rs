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
//!   session has taken the lease over (see `liveness.rs`).

mod agenda;
mod backoff;
mod cancel;
mod command;
mod event;
mod explain;
mod guard;
mod home;
mod inquiries;
mod intern;
mod link;
mod liveness;
mod mass_silence;
mod masters;
mod memory;
mod objects;
mod overview;
mod peers;
mod place;
mod preempt;
mod reconcile;
mod record;
mod requests;
mod retry;
mod roll_call;
mod stamps;
mod submit;
mod task_state;
#[cfg(test)]
mod tests;
mod timers;
mod worker_events;
mod workers;
mod write_queue;

pub use event::{ClientReply, Config, Effect, Event, LinkId, Loaded, RequestId};
pub use memory::Memory;
pub use objects::ObjectAccess;
pub use overview::{GROUPS_MAX, GroupView, Overview, TaskCounts, WorkerGlance};

use agenda::Agenda;
use inquiries::Inquiries;
use peers::Peers;
use requests::Requests;
use stamps::Stamps;
use task_state::{OutcomeReport, Phase, Task};
use timers::{Timer, Timers};
use workers::{Worker, Workers};
use write_queue::WriteQueue;

use crate::{
    Nonce, TaskId, Time, WorkerId,
    message::{AttemptKey, HeldAttempt},
    subject::Bucket,
    task::TaskRecord,
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::time::Duration;

/// How long a master waits before it asks the registry again whether a write landed.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Debug)]
pub struct Fleet {
    config: Config,
    stamps: Stamps,
    /// Since when this session has loaded the whole registry; `None` before, and once the registry does
    /// not answer.
    registry_up: Option<Time>,
    guard: guard::Guard,
    roll: roll_call::RollCall,
    own: masters::Own,
    peers: Peers,
    mass_silence: mass_silence::MassSilence,
    tasks: BTreeMap<TaskId, Task>,
    interner: intern::Interner,
    workers: Workers,
    scheduler: place::Scheduler,
    agenda: Agenda,
    write_queue: WriteQueue,
    timers: Timers,
    requests: Requests,
    inquiries: Inquiries,
    end_rate: retry::Rate,
    tombstones: record::Tombstones,
    /// Effects that `observe` has decided and `plan` will return.
    outbox: Vec<Effect>,
}

impl Fleet {
    /// A master that has loaded nothing yet.
    pub fn new(config: Config) -> Self {
        let stamps = Stamps::new(config.session);
        let own = masters::Own::new(&config);
        Fleet {
            config,
            stamps,
            registry_up: None,
            guard: guard::Guard::default(),
            roll: roll_call::RollCall::default(),
            own,
            peers: Peers::default(),
            mass_silence: mass_silence::MassSilence::default(),
            tasks: BTreeMap::new(),
            interner: intern::Interner::default(),
            workers: Workers::default(),
            scheduler: place::Scheduler::default(),
            agenda: Agenda::default(),
            write_queue: WriteQueue::default(),
            timers: Timers::default(),
            requests: Requests::default(),
            inquiries: Inquiries::default(),
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
            Event::Clock(wall) => self.stamps.set_wall(now, wall),
            Event::LeaseSeen(lease, revision) => self.lease_seen(now, lease, revision),
            Event::LeaseGone(worker, revision) => self.lease_gone(now, worker, revision),
            Event::MasterSeen(lease, revision) => self.master_seen(now, lease, revision),
            Event::GuardSeen(guard, revision) => {
                self.roll.exists(Bucket::Masters, revision);
                self.guard_seen(now, guard, revision);
            }
            Event::GuardWritten { guard, answer } => self.guard_written(now, guard, answer),
            Event::StreamLags { bucket, lags } => self.stream_lags(bucket, lags),
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
            Event::Linked { worker, link, transport, entitlement, hello } => {
                self.linked(now, worker, (link, transport), entitlement, hello);
            }
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
        self.timers.next()
    }

    /// Handles the timers that are due.
    fn fire_timers(&mut self, now: Time, out: &mut Vec<Effect>) {
        while let Some(id) = self.timers.pop_queue_end(now) {
            self.agenda.task(id);
        }
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Own => {}
                Timer::Guard => self.guard_due(now, out),
                Timer::RollCall => self.roll_due(now),
                Timer::Master(session) => self.master_due(now, session, out),
                Timer::Group(name) => {
                    self.agenda.group(name);
                }
                Timer::Lease(worker) => self.lease_due(now, worker, out),
                Timer::Backoff(worker) => self.backoff_due(now, &worker),
                Timer::Task(task) => self.task_due(now, task, out),
                Timer::Inquiry(task) => {
                    if let Some(again) = self.inquiries.is_due(now, task) {
                        self.read_task(now, task, out);
                        self.timers.set(again, timer);
                    }
                }
            }
        }
    }

    fn task_due(&mut self, now: Time, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get(&id) else { return };
        match task.phase {
            Phase::Idle => {
                self.agenda.task(id);
            }
            Phase::Writing(_) => {}
            Phase::Asking => {
                self.read_task(now, id, out);
                // Again, until the read is answered.
                self.timers.set(now + ASK_AGAIN, Timer::Task(id));
            }
        }
    }

    /// Reads a record from the stream's leader.
    fn read_task(&mut self, now: Time, task: TaskId, out: &mut Vec<Effect>) {
        let read = self.inquiries.read(now, task, self.leader_lag());
        out.push(Effect::ReadTask { task, read });
    }

    /// Whether the current attempt of the task is this one, on this worker.
    pub fn holds(&self, worker: &WorkerId, key: AttemptKey) -> bool {
        self.tasks
            .get(&key.task)
            .and_then(|task| task.record.attempt())
            .is_some_and(|attempt| attempt.id == key.attempt && attempt.worker == *worker)
    }

    /// What is known of the worker of this name, which may be nothing yet.
    fn worker(&mut self, now: Time, id: &WorkerId) -> &mut Worker {
        self.workers.meet(now, id, self.config.timing.master())
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
        record.write = Nonce(self.stamps.next_nonce());
        record.writer = self.config.session;
        let patience = self.leader_lag();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.sends(now, patience);
        let record = Arc::new(record);
        task.phase = Phase::Writing(record.clone());
        self.write_queue.begin(id);
        out.push(Effect::WriteTask { expect: task.revision, record, keep });
    }
}
