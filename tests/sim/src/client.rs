//! The clients: they submit tasks until the submission is acknowledged, cancel some tasks, and send
//! commands to workers. Never take a request for done before a master has answered it.

use crate::{
    process::MasterIn,
    world::{MS, Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{
    Digest, TaskId, WorkerId,
    api::NewTask,
    fleet::{self, ClientReply, RequestId},
    lease::LeaseState,
    message::WorkerCommand,
    task::{Data, ModuleRef, OnWorkerLost, TaskSpec},
};
use std::{collections::BTreeMap, sync::Arc};

/// A request that waits for its answer.
#[derive(Clone, Debug)]
enum Asked {
    Submission(usize),
    Cancel(TaskId),
    Order(WorkerId, LeaseState),
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    batches: Vec<(Vec<NewTask>, bool)>,
    asked: BTreeMap<RequestId, Asked>,
    requests: RequestId,
    tasks: u128,
}

impl Clients {
    /// Whether every submission was answered.
    pub fn all_answered(&self) -> bool {
        self.batches.iter().all(|(_, answered)| *answered)
    }
}

impl World {
    /// Schedules the submission of one batch of `count` tasks, each changed by `change`.
    pub fn will_submit(&mut self, at: Nanos, count: u64, change: impl Fn(&mut TaskSpec)) -> usize {
        let mut tasks = Vec::new();
        for _ in 0..count {
            self.clients.tasks += 1;
            let module = ModuleRef { name: None, digest: Digest([self.rng.below(2) as u8; 32]) };
            let mut spec = TaskSpec::new(module, Data::EMPTY);
            spec.retry.attempts_max = 3;
            spec.retry.backoff_ms = 200;
            change(&mut spec);
            tasks.push(NewTask { id: TaskId(self.clients.tasks), spec: Arc::new(spec) });
        }
        self.clients.batches.push((tasks, false));
        let batch = self.clients.batches.len() - 1;
        self.at(at, SimEvent::Submit(batch));
        batch
    }

    /// Schedules the submission of a task under an id that was used before: the same task, or another
    /// one.
    pub fn will_submit_again(&mut self, at: Nanos, id: TaskId) {
        let Some((record, _)) = self.registry.tasks.get(&id) else { return };
        let mut spec = TaskSpec::clone(&record.spec);
        if self.rng.once_in(2) {
            spec.args.push("again".into());
        }
        let task = NewTask { id, spec: Arc::new(spec) };
        self.clients.batches.push((vec![task], false));
        let batch = self.clients.batches.len() - 1;
        self.at(at, SimEvent::Submit(batch));
    }

    /// Schedules the submissions of the whole world, with tasks of all kinds, at random times.
    pub fn will_submit_all(&mut self) {
        for _ in 0..self.setting.batches {
            let at = self.rng.below(self.setting.lasts * 9 / 10);
            let count = 1 + self.rng.below(3);
            let priority = self.rng.pick(&[10, 30, 50, 50, 70]);
            let fails = self.rng.once_in(7);
            let batch = self.will_submit(at, count, |spec| {
                spec.priority = priority;
                if fails {
                    spec.on_worker_lost = OnWorkerLost::Fail;
                }
            });
            if self.rng.once_in(6) {
                let id = self.clients.batches[batch].0[0].id;
                let wait = self.rng.between(MS, 4 * SECOND);
                self.at(at + wait, SimEvent::Cancel(id));
            }
        }
    }

    fn somebody(&mut self) -> usize {
        self.rng.below(self.masters.len() as u64) as usize
    }

    fn ask_master(
        &mut self,
        master: usize,
        asked: Asked,
        event: impl FnOnce(RequestId) -> fleet::Event,
    ) {
        if !self.masters[master].process.alive || !self.registry_is_up() {
            return;
        }
        self.clients.requests += 1;
        let request = self.clients.requests;
        self.clients.asked.insert(request, asked);
        let wait = self.soon();
        let incarnation = self.masters[master].process.incarnation;
        let news = MasterIn::Fact(Box::new(event(request)));
        self.later(wait, SimEvent::Master(master, incarnation, news));
    }

    /// Submits a batch again until it is acknowledged.
    pub fn submit(&mut self, batch: usize) {
        if self.clients.batches[batch].1 {
            return;
        }
        let again = self.rng.between(600 * MS, 3 * SECOND);
        self.later(again, SimEvent::Submit(batch));
        // An impatient client asks two masters at once.
        let times = if self.setting.disorder && self.rng.once_in(6) { 2 } else { 1 };
        for _ in 0..times {
            let master = self.somebody();
            let tasks = self.clients.batches[batch].0.clone();
            self.ask_master(master, Asked::Submission(batch), |request| fleet::Event::Submitted {
                request,
                tasks,
            });
        }
    }

    /// Asks a master to cancel a task.
    pub fn cancel(&mut self, task: TaskId) {
        let master = self.somebody();
        self.ask_master(master, Asked::Cancel(task), |request| fleet::Event::CancelAsked {
            request,
            task,
        });
    }

    /// Sends a command for a worker to every master; one of them is enough.
    pub fn order(&mut self, worker: usize, order: WorkerCommand) {
        let name = self.workers[worker].name.clone();
        let master = self.somebody();
        let asked = Asked::Order(name.clone(), order.lease_state());
        self.ask_master(master, asked, |request| fleet::Event::CommandAsked {
            request,
            worker: name,
            command: order,
        });
    }

    /// After healing, every worker takes tasks again.
    pub fn uncordon_all(&mut self) {
        for at in 0..self.workers.len() {
            let lease = self.registry.workers.get(&self.workers[at].name);
            let closed = lease.is_some_and(|(lease, _)| {
                matches!(lease.state, LeaseState::Cordoned | LeaseState::Draining)
            });
            if closed {
                self.order(at, WorkerCommand::Uncordon);
            }
        }
        self.later(SECOND, SimEvent::UncordonAll);
    }

    /// Checks that the registry has stored the submitted tasks under their ids.
    fn an_id_names_one_task(&mut self, batch: usize) {
        for NewTask { id, spec } in self.clients.batches[batch].0.clone() {
            let record = self.registry.tasks.get(&id);
            let differs = record.and_then(|(record, _)| record.spec.difference(&spec));
            if let Some(what) = differs.filter(|_| !self.has_lost()) {
                self.violate("an_id_names_one_task", || format!("{id}: its {what}"));
            }
        }
    }

    /// A master answers a request.
    pub fn replied(&mut self, request: RequestId, answer: ClientReply) {
        let Some(asked) = self.clients.asked.remove(&request) else { return };
        match (asked, answer) {
            (Asked::Submission(batch), ClientReply::Stored(_)) => {
                let tasks: Vec<TaskId> =
                    self.clients.batches[batch].0.iter().map(|task| task.id).collect();
                self.an_id_names_one_task(batch);
                self.acknowledged(&tasks);
                // The answer may be lost on the way; then the client submits again.
                if self.healing || !self.setting.disorder || !self.rng.once_in(10) {
                    self.clients.batches[batch].1 = true;
                }
            }
            // Another task has this id, and the submitter now knows it.
            (Asked::Submission(batch), ClientReply::Differs(..)) => {
                self.clients.batches[batch].1 = true
            }
            (Asked::Cancel(task), ClientReply::CancelStored) => {
                let record = self.registry.tasks.get(&task);
                let kept = record.is_some_and(|(record, _)| record.cancel || record.is_done());
                if !kept && !self.has_lost() && !self.checker.is_excused(task) {
                    self.violate("an_acknowledged_cancel_is_kept", || format!("{task}"));
                }
            }
            (Asked::Order(worker, standing), ClientReply::Obeyed) => {
                self.counters.obeyed += 1;
                if !self.checker.has_stood(worker.as_str(), standing) {
                    self.violate("an_acknowledged_order_was_in_the_lease", || worker.to_string());
                }
            }
            _ => {}
        }
    }
}
