//! Preemption: a run of much lower priority is stopped to make room for a more urgent task, and the
//! stopped task is queued again. It is never queued before the worker has confirmed the stop, or is
//! lost.

use super::{Effect, Fleet, place::Need};
use crate::{
    ABSENT, GroupName, TaskId,
    limit::PREEMPT_GAP,
    message::{AttemptKey, ToWorker},
    task::TaskRecord,
};
use alloc::vec::Vec;
use core::cmp::Reverse;

impl Fleet {
    /// Stops one run for the task at the head of the queue, if the task fits no free slot.
    pub(super) fn preempt_for(&mut self, name: &GroupName, id: TaskId, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let record = task.record.clone();
        let Some(below) = record.spec.priority.checked_sub(PREEMPT_GAP) else { return };
        // One at a time: wait until the run that is being stopped has freed its slot.
        if self.preempted.get(&id).is_some_and(|victim| self.is_current(*victim)) {
            return;
        }
        self.preempted.remove(&id);
        let Some(group) = self.groups.get(name) else { return };
        let need = Need::of(&record.spec);
        let taken: Vec<TaskId> = self.preempted.values().map(|victim| victim.task).collect();
        let victims = group.given.iter().take_while(|(priority, ..)| *priority <= below);
        let victim = victims
            .map(|&(_, _, id)| id)
            .find(|victim| !taken.contains(victim) && self.is_pushed_aside(*victim, &need));
        let Some(victim) = victim else { return };
        let Some(attempt) = self.tasks.get(&victim).and_then(|task| task.record.attempt()) else {
            return;
        };
        let key = AttemptKey { task: victim, attempt: attempt.id };
        let links = self.workers.get(&attempt.worker).map(|worker| &worker.links);
        let Some(link) = links.and_then(|links| links.newest_of(attempt.session)) else { return };
        self.preempted.insert(id, key);
        let revision = self.tasks.get(&victim).map_or(ABSENT, |task| task.revision);
        out.push(Effect::Send { link, message: ToWorker::Preempt { key, revision } });
    }

    /// Whether stopping this task's run would make room for the need, and the worker can be told to
    /// stop it.
    fn is_pushed_aside(&self, id: TaskId, need: &Need) -> bool {
        let Some(task) = self.tasks.get(&id).filter(|task| task.is_idle()) else { return false };
        let Some(attempt) = task.record.attempt().filter(|_| task.report.is_none()) else {
            return false;
        };
        let Some(worker) = self.workers.get(&attempt.worker) else { return false };
        worker.open_lease().is_some_and(|lease| {
            lease.session == attempt.session && need.fits(&lease.offer) && !task.record.cancel
        })
    }

    fn is_current(&self, key: AttemptKey) -> bool {
        let attempt = self.tasks.get(&key.task).and_then(|task| task.record.attempt());
        attempt.is_some_and(|attempt| attempt.id == key.attempt)
    }

    /// Updates the index of dispatched tasks of a group when a record replaces another.
    pub(super) fn given(&mut self, old: Option<&TaskRecord>, new: Option<&TaskRecord>) {
        let entry = |record: Option<&TaskRecord>| {
            let record = record.filter(|record| record.attempt().is_some())?;
            let submitted_at = Reverse(record.submitted_at.0);
            Some((record.spec.group.clone(), (record.spec.priority, submitted_at, record.id)))
        };
        let new = entry(new);
        let old = entry(old).filter(|old| new.as_ref() != Some(old));
        if let Some((name, new)) = new {
            self.groups.entry(name).or_default().given.insert(new);
        }
        if let Some((name, old)) = old
            && let Some(group) = self.groups.get_mut(&name)
        {
            group.given.remove(&old);
            if group.is_empty() {
                self.groups.remove(&name);
            }
        }
    }
}
