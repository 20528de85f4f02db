//! Preemption: a run of much lower priority is stopped to make room for a more urgent task, and the
//! stopped task is queued again. It is never queued before the worker has confirmed the stop, or is
//! lost.

use super::{Effect, Fleet, place::Need, workers::Worker};
use crate::{
    ABSENT, GroupName, TaskId,
    limit::PREEMPT_GAP,
    message::{AttemptKey, ToWorker},
    task::KeptWorker,
};
use alloc::vec::Vec;

impl Fleet {
    /// Stops one run for the task at the head of the queue, if the task fits no free slot.
    pub(super) fn preempt_for(&mut self, name: &GroupName, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let record = task.record.clone();
        let Some(below) = record.spec.priority.checked_sub(PREEMPT_GAP) else { return };
        // One at a time: wait until the run that is being stopped has freed its slot.
        if self.scheduler.victim_of(id).is_some_and(|victim| self.is_current(victim)) {
            return;
        }
        self.scheduler.needs_no_room(id);
        let Some(group) = self.scheduler.group(name) else { return };
        let need = Need::of(&record);
        let kept = record.kept();
        let victims = group.dispatched().take_while(|(priority, ..)| *priority <= below);
        let victim = victims.map(|&(_, _, id)| id).find(|&victim| {
            !self.scheduler.is_victim(victim) && self.may_make_room(victim, &need, kept)
        });
        let Some(victim) = victim else { return };
        let Some(attempt) = self.tasks.get(&victim).and_then(|task| task.record.attempt()) else {
            return;
        };
        let key = AttemptKey { task: victim, attempt: attempt.id };
        let links = self.workers.get(&attempt.worker).map(Worker::links);
        let Some(link) = links.and_then(|links| links.newest_of(attempt.session)) else { return };
        self.scheduler.makes_room(id, key);
        let revision = self.tasks.get(&victim).map_or(ABSENT, |task| task.revision);
        out.push(Effect::Send { link, message: ToWorker::Preempt { key, revision } });
    }

    /// Whether stopping this task's run would make room for the need, and the worker can be told to
    /// stop it. For a suspect, runs are stopped on the worker that is `kept` free for it.
    fn may_make_room(&self, id: TaskId, need: &Need, kept: Option<&KeptWorker>) -> bool {
        let Some(task) = self.tasks.get(&id).filter(|task| task.is_idle()) else { return false };
        let Some(attempt) = task.record.attempt().filter(|_| task.report.is_none()) else {
            return false;
        };
        let Some(worker) = self.workers.get(&attempt.worker) else { return false };
        worker.open_lease().is_some_and(|lease| {
            let has_room = match need.is_alone() {
                true => kept.is_some_and(|kept| {
                    kept.worker == attempt.worker && kept.session == lease.session
                }),
                false => {
                    let free = worker.memory_free(lease, worker.share_of(id));
                    need.memory_bytes() <= free
                        && worker.is_kept_for(lease.session).is_none()
                        && !worker.has_alone_but(id)
                }
            };
            lease.session == attempt.session
                && need.fits(&lease.offer)
                && has_room
                && !task.record.cancel
        })
    }

    fn is_current(&self, key: AttemptKey) -> bool {
        let attempt = self.tasks.get(&key.task).and_then(|task| task.record.attempt());
        attempt.is_some_and(|attempt| attempt.id == key.attempt)
    }
}
