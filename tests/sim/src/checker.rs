//! The invariants, checked in true time and in the order of the registry's writes. The checker sees
//! everything, and never passes anything on to a process.

pub mod answers;
pub mod checkpoints;
pub mod moves;

use crate::{
    process::guest::Run,
    world::{MS, World},
};
use muster_protocol::{
    AttemptId, SessionId, TaskId, Time,
    lease::{Lease, LeaseState, MasterLease, Permit},
    message::{AttemptKey, ToWorker},
    registry::FailoverGuard,
    task::{Data, TaskRecord, TaskState, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};

/// Attempts that a task may have in a world without faults: a worker that cannot prepare an attempt
/// returns some, each master tries that worker, and urgent tasks preempt others.
const ATTEMPTS_FREE: u64 = 12;

/// One more attempt is allowed for every this many faults and preempted runs of the world: most of them
/// hit other tasks.
const FAULTS_PER_ATTEMPT: u64 = 4;

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What happened, and when in true time.
    pub what: String,
}

/// The state of the checker.
#[derive(Debug, Default)]
pub struct Checker {
    /// The reading of the worker's boot clock before each renewal was sent.
    stamps: BTreeMap<(SessionId, u64), Time>,
    /// The latest end of each session's lease, by the renewals that the registry accepted and the
    /// extensions that a home sent.
    ends: BTreeMap<SessionId, Time>,
    /// The attempts that any record has named, and their checkpoints.
    pub checkpoints: checkpoints::Checkpoints,
    /// Tasks whose submission was acknowledged.
    pub accepted: BTreeSet<TaskId>,
    /// Tasks that the registry itself has lost.
    exempt: BTreeSet<TaskId>,
    /// Tasks whose records were deleted after their full retention time.
    expired: BTreeSet<TaskId>,
    /// Each worker with every lease state that its lease has had.
    stood: BTreeSet<(String, &'static str)>,
    /// Dispatches, and how the workers answered them.
    pub answers: answers::Answers,
    /// Tasks that were dispatched to a worker that cannot run them.
    moves: moves::Moves,
}

impl Checker {
    /// Notes that the registry has lost this task.
    pub fn exempt(&mut self, id: TaskId) {
        self.exempt.insert(id);
    }

    /// Whether the record of this task may be missing.
    pub fn is_excused(&self, id: TaskId) -> bool {
        self.exempt.contains(&id) || self.expired.contains(&id)
    }

    /// Notes the stamp of a renewal that is being sent.
    pub fn renewal_sent(&mut self, session: SessionId, renewal: u64, boottime: Time) {
        self.stamps.insert((session, renewal), boottime);
    }

    /// Whether the worker's lease was ever in this state.
    pub fn has_stood(&self, worker: &str, standing: LeaseState) -> bool {
        self.stood.contains(&(worker.into(), standing.word()))
    }
}

impl World {
    /// Reports a violation. Only the first one of a world is kept.
    pub fn violate(&mut self, invariant: &'static str, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let at = self.now as f64 / MS as f64;
            let what = format!("at {at:.3} ms: {}", what());
            self.violation = Some(Violation { invariant, what });
        }
    }

    /// Whether the runs of a worker make progress, or may do so at any moment.
    fn runs_now(&self, worker: usize) -> bool {
        // A stopped process may be continued at any moment. A sleeping machine executes nothing, and
        // when it wakes the kernel's timer fires before any process runs.
        !self.machines[self.workers[worker].process.machine].is_asleep(self.now)
    }

    /// An attempt starts to run.
    pub fn run_starts(&mut self, at: usize, key: AttemptKey, run: &Run) {
        self.checker.answers.runs(at, key);
        self.no_dispatch_before_its_store(key.attempt, "run");
        self.at_most_one_attempt_of_a_task_runs_at_any_moment(at, key.task, run.number);
    }

    /// A machine has woken up, and its runs make progress again.
    pub fn woken(&mut self, machine: usize) {
        for at in 0..self.workers.len() {
            if self.workers[at].process.machine != machine {
                continue;
            }
            for (key, run) in self.workers[at].runs.clone() {
                self.at_most_one_attempt_of_a_task_runs_at_any_moment(at, key.task, run.number);
            }
        }
    }

    fn at_most_one_attempt_of_a_task_runs_at_any_moment(
        &mut self,
        at: usize,
        task: TaskId,
        number: u64,
    ) {
        for other in 0..self.workers.len() {
            let same = |(key, run): &(&AttemptKey, &Run)| key.task == task && run.number != number;
            let beside = self.workers[other].runs.iter().find(same).map(|(key, _)| *key);
            if let Some(beside) = beside
                && self.runs_now(other)
                && self.runs_now(at)
            {
                self.violate("at_most_one_attempt_of_a_task_runs_at_any_moment", || {
                    format!("{task} runs on worker {at}, and as {beside:?} on worker {other}")
                });
            }
        }
    }

    /// A guest has an effect.
    pub fn effect(&mut self, _: Permit<'_>, at: usize, key: AttemptKey, run: &Run) {
        self.counters.effects += 1;
        self.no_effect_after_the_lease_ends(at, key, run);
        let record = self.registry.tasks.values.get(&key.task);
        let current = record.and_then(|(record, _)| record.attempt()).map(|attempt| attempt.id);
        if current != Some(key.attempt) && !self.has_lost() {
            self.violate("no_effect_of_an_attempt_that_is_not_current", || {
                format!("{key:?} on worker {at}; current is {current:?}")
            });
        }
    }

    fn no_effect_after_the_lease_ends(&mut self, at: usize, key: AttemptKey, run: &Run) {
        let boottime = self.machines[self.workers[at].process.machine].boottime(self.now);
        let end = self.checker.ends.get(&run.session).copied().unwrap_or(Time::ZERO);
        if boottime >= end {
            let late = boottime.since(end);
            self.violate("no_effect_after_the_lease_ends", || {
                format!("{key:?} on worker {at}, {late:?} after the end")
            });
        }
    }

    fn no_dispatch_before_its_store(&mut self, attempt: AttemptId, what: &str) {
        if !self.checker.checkpoints.knows(attempt) {
            self.violate("no_dispatch_before_its_store", || {
                format!("{what} of {attempt:?}, which no record has named")
            });
        }
    }

    /// A master sends a message to a worker.
    pub fn master_says(&mut self, at: usize, message: &ToWorker) {
        match message {
            ToWorker::Dispatch(dispatch) => {
                self.no_dispatch_before_its_store(dispatch.key.attempt, "dispatch");
            }
            ToWorker::Preempt { .. } => self.counters.preempted += 1,
            ToWorker::Ack { key, committed: false } => {
                self.no_outcome_of_the_current_attempt_is_refused(*key);
            }
            ToWorker::Extended { session, renewal, home } => {
                self.counters.extended += 1;
                let is_earlier = self.masters[at].session() != Some(*home);
                self.counters.extended_for_earlier += u64::from(is_earlier);
                self.lease_goes_on(*session, *renewal);
            }
            _ => {}
        }
    }

    /// Whether the registry has lost anything that it acknowledged.
    pub fn has_lost(&self) -> bool {
        self.counters.rollbacks > 0 || self.counters.made_anew > 0
    }

    fn no_outcome_of_the_current_attempt_is_refused(&mut self, key: AttemptKey) {
        let record = self.registry.tasks.values.get(&key.task);
        let current = record.and_then(|(record, _)| record.attempt());
        if current.is_some_and(|attempt| attempt.id == key.attempt) && !self.has_lost() {
            self.violate("no_outcome_of_the_current_attempt_is_refused", || format!("{key:?}"));
        }
    }

    /// The registry has accepted a failover guard.
    pub fn guard_committed(&mut self, guard: &FailoverGuard) {
        self.say(|_| format!("registry: guard lifted={} ({})", guard.lifted, guard.reason));
        self.counters.guards += u64::from(!guard.lifted);
        self.moves_guarded(guard);
        if !guard.lifted && !self.has_lost() {
            self.violate("no_hold_without_a_loss", || guard.reason.clone());
        }
    }

    fn attempts_of_a_task_are_bounded_by_its_faults(&mut self, record: &TaskRecord) {
        let faults = self.counters.faults + self.counters.preempted;
        let most = ATTEMPTS_FREE + faults / FAULTS_PER_ATTEMPT;
        if u64::from(record.attempts) > most {
            self.violate("attempts_of_a_task_are_bounded_by_its_faults", || {
                format!("{}: attempt {} after {faults} faults", record.id, record.attempts)
            });
        }
    }

    fn lease_goes_on(&mut self, session: SessionId, renewal: u64) {
        if let Some(&stamp) = self.checker.stamps.get(&(session, renewal)) {
            let end = stamp + self.setting.timing.worker();
            let known = self.checker.ends.entry(session).or_insert(end);
            *known = end.max(*known);
        }
    }

    /// The registry has accepted a worker's lease.
    pub fn lease_committed(&mut self, old: Option<Lease>, new: &Lease) {
        self.checker.stood.insert((new.worker.to_string(), new.state.word()));
        if new.state.is_held() {
            self.lease_goes_on(new.session, new.renewal);
        }
        let Some(old) = old else { return };
        let same = old.session == new.session;
        if !same && new.state.is_held() {
            self.moves_session_began();
        }
        // After a rollback the registry assigns revisions again, and a late write may match one by
        // chance. Its session is then ended again before the guard is lifted.
        let again = same && !old.state.is_held() && new.state.is_held();
        if again && !self.has_lost() {
            self.violate("a_session_that_is_over_never_holds_again", || format!("{new:?}"));
        }
        self.counters.home_switches +=
            u64::from(same && old.home.is_some() && old.home != new.home);
        if old.home != new.home {
            self.say(|_| {
                let home = new.home.as_ref().map(|home| (&home.master, home.session));
                format!("registry: the home of {} is {home:?}", new.worker)
            });
        }
        self.counters.released += u64::from(new.state == LeaseState::Released);
        if new.state == LeaseState::Lost && old.state.is_held() {
            self.counters.lost += 1;
            self.say(|_| format!("registry: {} is lost ({})", new.worker, new.session));
        }
    }

    /// The registry has accepted a master's lease.
    pub fn master_committed(&mut self, new: &MasterLease) {
        if new.state == LeaseState::Lost {
            self.counters.masters_lost += 1;
            self.say(|_| format!("registry: {} is lost ({})", new.master, new.session));
        }
    }

    /// The registry has accepted a task record.
    pub fn task_committed(&mut self, old: Option<std::sync::Arc<TaskRecord>>, new: &TaskRecord) {
        self.say(|_| {
            let attempt = new.attempt().map(|attempt| format!(" at {}", attempt.worker));
            let past = new.history.last().filter(|_| attempt.is_none());
            let past = past.map(|past| format!(" after {}: {}", past.attempt.worker, past.reason));
            let why = attempt.or(past).unwrap_or_default();
            format!("registry: {} is {}{why}", new.id, new.state.word())
        });
        if let Some(attempt) = new.attempt() {
            self.checker.checkpoints.names(new, attempt);
        }
        let old = old.as_deref();
        self.moves_committed(new);
        self.attempts_of_a_task_are_bounded_by_its_faults(new);
        self.one_outcome_is_committed_per_task(old, new);
        let Some(old) = old else {
            self.counters.ids_used_again += u64::from(self.checker.expired.remove(&new.id));
            return;
        };
        let taken = old
            .attempt()
            .filter(|attempt| new.attempt().is_none_or(|current| current.id != attempt.id));
        if let Some(taken) = taken {
            let key = AttemptKey { task: new.id, attempt: taken.id };
            self.an_attempt_is_taken_only_after_its_run_has_stopped(key);
            let past = new.history.last().filter(|past| past.attempt.id == taken.id);
            self.counters.redispatched += u64::from(past.is_some_and(|past| past.lost));
            let back = past.is_some_and(|past| past.reason.starts_with("given back"));
            self.counters.returned += u64::from(back);
        }
        let again = old.cancel && old.attempt().is_none() && new.attempt().is_some();
        if again {
            self.violate("a_cancelled_task_is_not_given_out", || format!("{}", new.id));
        }
    }

    fn one_outcome_is_committed_per_task(&mut self, old: Option<&TaskRecord>, new: &TaskRecord) {
        if old.is_some_and(TaskRecord::is_done) {
            self.violate("one_outcome_is_committed_per_task", || format!("{} again", new.id));
        }
        let TaskState::Done { outcome, attempt, .. } = &new.state else { return };
        self.counters.outcomes += 1;
        self.counters.cancelled += u64::from(outcome.verdict == Verdict::Cancelled);
        let Some(attempt) = attempt else { return };
        self.a_refused_checkpoint_ends_no_task(attempt, outcome);
        let held = old.and_then(TaskRecord::attempt).is_some_and(|old| old.id == attempt.id);
        let own = match &outcome.output {
            Data::Inline(bytes) if bytes.is_empty() => true,
            Data::Inline(bytes) => bytes[..] == attempt.id.0.to_be_bytes()[..],
            Data::Blob { .. } => false,
        };
        if !held || !own {
            self.violate("one_outcome_is_committed_per_task", || {
                format!("{}: the outcome is not that of its attempt {:?}", new.id, attempt.id)
            });
        }
    }

    fn an_attempt_is_taken_only_after_its_run_has_stopped(&mut self, key: AttemptKey) {
        for at in 0..self.workers.len() {
            if self.workers[at].runs.contains_key(&key) && self.runs_now(at) {
                self.violate("an_attempt_is_taken_only_after_its_run_has_stopped", || {
                    format!("{key:?} still runs on worker {at}")
                });
            }
        }
    }

    /// A submission was acknowledged.
    pub fn acknowledged(&mut self, tasks: &[TaskId]) {
        for &id in tasks {
            self.counters.accepted += u64::from(self.checker.accepted.insert(id));
            self.no_acknowledged_task_is_lost(id);
        }
    }

    /// A record has expired. A record that expires before its task has ended loses that task.
    pub fn record_expired(&mut self, id: TaskId, was_over: bool) {
        if was_over {
            self.checker.expired.insert(id);
        } else if self.checker.accepted.contains(&id) {
            self.no_acknowledged_task_is_lost(id);
        }
    }

    fn no_acknowledged_task_is_lost(&mut self, id: TaskId) {
        let lost = !self.registry.tasks.values.contains_key(&id);
        if lost && !self.checker.is_excused(id) {
            self.violate("no_acknowledged_task_is_lost", || format!("{id}"));
        }
    }

    /// Tasks that were accepted and have not ended.
    pub fn open_tasks(&self) -> impl Iterator<Item = TaskId> {
        let open = move |id: &&TaskId| {
            let record = self.registry.tasks.values.get(id);
            match record {
                Some((record, _)) => !record.is_done() && !self.checker.exempt.contains(id),
                None => !self.checker.is_excused(**id),
            }
        };
        self.checker.accepted.iter().filter(open).copied()
    }

    /// Checks at the end of the world that every acknowledged task is there and has ended.
    pub fn every_task_ends_after_healing(&mut self) {
        for id in self.checker.accepted.clone() {
            self.no_acknowledged_task_is_lost(id);
        }
        let open: Vec<TaskId> = self.open_tasks().collect();
        if !open.is_empty() || !self.clients.all_answered() {
            let records = open.iter().filter_map(|id| self.registry.tasks.get(id));
            let states: Vec<String> =
                records.map(|(record, _)| format!("{} {:?}", record.id, record.state)).collect();
            self.violate("every_task_ends_after_healing", || states.join("; "));
        }
    }
}
