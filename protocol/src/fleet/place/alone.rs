//! Suspects: tasks that were lost with their workers so often that they may be the cause. A suspect runs
//! where nothing else runs, so that no other task is lost with it. If every worker has attempts, one is
//! kept free: the record of the suspect names it, and no master places anything there. So a suspect waits
//! at most for the runs of one worker, each of which has a time limit.
//!
//! A master keeps one worker of a group free at a time, and only for tasks that it owns. Suspects that
//! wait behind that take what becomes empty meanwhile. Never stops a run.

use super::{Effect, Fleet, Need};
use crate::{
    GroupName, TaskId, Time, WorkerId,
    lease::Lease,
    task::{KeptWorker, TaskState},
};
use alloc::vec::Vec;

impl Fleet {
    /// Places suspects whose kept worker has no attempt any more.
    pub(super) fn place_kept(&mut self, now: Time, name: &GroupName, out: &mut Vec<Effect>) {
        let kept = self.scheduler.group(name).map_or_else(Vec::new, |group| group.kept());
        for (id, kept) in kept {
            let Some(worker) = self.workers.get(&kept.worker) else { continue };
            let is_first = worker.is_kept_for(kept.session) == Some(id);
            if !is_first || !worker.has_no_task() || self.lease_kept(id, &kept).is_none() {
                continue;
            }
            if !self.write_queue.has_room() {
                self.agenda.group(name.clone());
                return;
            }
            self.assign(now, id, kept.worker, out);
        }
    }

    /// Every worker that fits the suspect has attempts: keep one of them free, unless one is kept already.
    pub(super) fn keep_a_worker(
        &mut self,
        now: Time,
        name: &GroupName,
        need: &Need,
        id: TaskId,
        out: &mut Vec<Effect>,
    ) {
        let Some(group) = self.scheduler.group(name) else { return };
        if group.kept().iter().any(|(id, kept)| self.lease_kept(*id, kept).is_some()) {
            return;
        }
        let Some(worker) = group.candidates().choose_to_keep(need).cloned() else { return };
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        let Some(session) = entry.lease.as_ref().map(|lease| lease.session) else { return };
        let Some(task) = self.tasks.get(&id) else { return };
        let kept = Some(KeptWorker { worker: worker.clone(), session });
        let record = task.record.in_state(TaskState::Queued { wait_ms: 0, kept });
        // From now on, and not only once it is stored.
        entry.keep_for(id, session);
        self.dequeue(id);
        self.reindex(&worker);
        self.write(now, id, record, None, out);
    }

    /// The lease under which the kept worker may still be given the task; `None` if it may not.
    pub(in crate::fleet) fn lease_kept(&self, id: TaskId, kept: &KeptWorker) -> Option<&Lease> {
        let task = self.tasks.get(&id)?;
        let lease = self.workers.get(&kept.worker)?.open_lease()?;
        let fits = Need::of(&task.record).fits(&lease.offer);
        (lease.session == kept.session && fits).then_some(lease)
    }

    /// The record of a task names another worker that is kept free, or none.
    pub(in crate::fleet) fn kept_changed(
        &mut self,
        now: Time,
        id: TaskId,
        old: Option<&KeptWorker>,
        new: Option<&KeptWorker>,
    ) {
        if let Some(old) = old
            && Some(old) != new
        {
            self.keep_no_more(&old.worker, id);
        }
        if let Some(new) = new {
            self.worker(now, &new.worker).keep_for(id, new.session);
            self.reindex(&new.worker);
        }
    }

    /// A worker is not kept free for the task any more.
    pub(in crate::fleet) fn keep_no_more(&mut self, worker: &WorkerId, id: TaskId) {
        if let Some(entry) = self.workers.get_mut(worker) {
            entry.keep_no_more(id);
            self.reindex(worker);
        }
    }

    /// Something has changed about a worker: the suspects for which it is kept free may be placed there,
    /// or need another one.
    pub(super) fn reconsider_kept(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let waiting = worker.kept_for().filter_map(|task| self.tasks.get(&task));
        let groups: Vec<_> = waiting.map(|task| task.record.spec.group.clone()).collect();
        self.agenda.groups(&groups);
    }
}
