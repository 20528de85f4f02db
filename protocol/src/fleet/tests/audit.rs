//! What must hold of a fleet's memory whatever has happened.

use super::*;

impl Fleet {
    /// What must hold after every plan: no task that nothing will look at again, no entry that
    /// nothing will remove.
    pub(super) fn audit(&self) {
        let settled = self.registry_up.is_some() && self.write_queue.has_room() && self.may_act();
        assert!(
            !settled || (self.agenda.dirty().is_empty() && self.write_queue.unstored().is_empty())
        );
        let writing = self.tasks.values().filter(|task| matches!(task.phase, Phase::Writing(_)));
        assert_eq!(self.write_queue.under_way(), writing.count(), "writes under way");
        let mut in_line = self.scheduler.audit();
        let timer = |wanted: &Timer| self.timers.has(wanted);
        for (&id, task) in &self.tasks {
            let waits = in_line.remove(&id);
            match (&task.phase, &task.record.state) {
                (Phase::Writing(_), _) => assert!(!waits, "{id} is in line while written"),
                (Phase::Asking, _) => assert!(timer(&Timer::Task(id)) && !waits, "{task:?}"),
                _ if self.agenda.dirty().contains(&id) || !settled => {}
                (Phase::Idle, TaskState::Queued { .. }) => {
                    assert!(waits || timer(&Timer::Task(id)), "nobody looks at {task:?}");
                }
                (Phase::Idle, TaskState::Dispatched(attempt)) => self.audit_held(id, task, attempt),
                (Phase::Idle, TaskState::Done { .. }) => panic!("{id} is over and still known"),
            }
        }
        assert!(in_line.is_empty(), "in line and not known: {in_line:?}");
        self.audit_workers();
    }

    fn audit_held(&self, id: TaskId, task: &Task, attempt: &Attempt) {
        assert!(task.report.is_none(), "an outcome that nobody commits: {task:?}");
        assert!(self.scheduler.is_dispatched(&task.record), "nobody would preempt {id}");
        let worker = self.workers.get(&attempt.worker).expect("the worker of an attempt is known");
        assert!(worker.share_of(id).is_some(), "its worker's loss would not be noticed: {task:?}");
        let timer = Timer::Lease(attempt.worker.clone());
        let waited_for = self.timers.has(&timer);
        let known = worker.lease.as_ref().is_some_and(|lease| lease.session == attempt.session);
        let home = worker.lease.as_ref().and_then(|lease| lease.home.as_ref());
        let home_waited_for = home.is_some_and(|home| {
            let timer = Timer::Master(home.session);
            self.timers.has(&timer)
                || self.peers.get(home.session).is_some_and(|peer| peer.is_declared())
        });
        assert!(
            waited_for || worker.declaring || home_waited_for || self.guard.stands(),
            "nobody waits for {:?}, known: {known}",
            worker
        );
    }

    fn audit_workers(&self) {
        self.workers.audit();
        for (name, worker) in self.workers.iter() {
            for id in worker.tasks() {
                let task = self.tasks.get(&id).expect("a worker's task is known");
                let given = match &task.phase {
                    Phase::Writing(intent) => intent.attempt(),
                    _ => None,
                };
                let held = [task.record.attempt(), given].into_iter().flatten();
                assert!(held.into_iter().any(|attempt| attempt.worker == *name), "{task:?}");
            }
        }
        self.requests.audit();
        self.inquiries.audit();
        for task in self.inquiries.tasks() {
            assert!(self.timers.has(&Timer::Inquiry(*task)));
        }
    }
}
