//! The master's side of a worker's lease: decides which worker is lost. Never takes a task from a
//! worker before the registry says that the session which holds it is over.
//!
//! M1: a master may declare a worker lost only after `wait` has passed since it saw the newest renewal,
//! all of it with the registry in reach. M2: before a task is dispatched again, a
//! compare-and-set must have replaced exactly that renewal by `lost`.

use super::{ASK_AGAIN, Effect, Fleet, LinkId, Timer, worker_events, workers::Worker};
use crate::{
    ABSENT, Revision, SessionId, TaskId, Time, WorkerId,
    advisory::{Advisory, WorkerEvent},
    lease::{CasAnswer, Lease, LeaseState},
    limit,
    message::ToWorker,
    subject::Bucket,
    task::{Attempt, mix},
};
use alloc::{string::String, vec::Vec};
use core::time::Duration;

impl Fleet {
    pub(super) fn lease_seen(&mut self, now: Time, lease: Lease, revision: Revision) {
        let id = lease.worker.clone();
        let speaks = self.speaks_for(&id);
        let answers = lease.state.is_held() && self.roll.is_later(Bucket::Workers, revision);
        self.roll.exists(Bucket::Workers, revision);
        let worker = self.worker(now, &id);
        if revision <= worker.revision {
            return;
        }
        if answers {
            worker.answered = Some(lease.session);
            self.claim(now, Bucket::Tasks, lease.holds);
        }
        let worker = self.worker(now, &id);
        let old = worker.lease.take();
        let same_session = old.as_ref().is_some_and(|old| old.session == lease.session);
        if !same_session {
            worker.session_seen = now;
        }
        worker.revision = revision;
        worker.seen = now;
        worker.wait = worker.wait.max(lease.master_wait());
        (worker.lost_sent, worker.declaring, worker.declared_here) = (false, false, false);
        let due = now + worker.wait;
        let standing_changed = old.as_ref().is_none_or(|old| old.state != lease.state);
        worker.lease = Some(lease.clone());
        worker.look_at_entitlement();
        self.obeyed(&id, lease.state);
        if self.registry_up.is_some() && speaks {
            let stands = worker_events::of_state(old.as_ref(), &lease);
            let feels = worker_events::of_health(old.as_ref(), &lease);
            let runs = worker_events::of_program(old.as_ref(), &lease);
            for (what, reason) in stands.into_iter().chain(feels).chain(runs) {
                self.tell(&lease, what, &reason);
            }
        }
        if let Some(old) = old
            && old.offer != lease.offer
        {
            self.scheduler.unlist(&old.offer.group, &id);
        }
        // Also for a lease that is over: earlier sessions may not be, while their leases are waited
        // for.
        self.timers.set(due, Timer::Lease(id.clone()));
        if !same_session || standing_changed {
            self.reconsider(&id);
        }
        self.reindex(&id);
        self.end_forgotten_session(&id);
    }

    /// The registry has no lease for a worker to which attempts were dispatched. The only way to be
    /// sure that the worker gets no lease is to write `lost` there.
    pub(super) fn lease_gone(&mut self, now: Time, id: WorkerId, revision: Revision) {
        self.roll.exists(Bucket::Workers, revision);
        let worker = self.worker(now, &id);
        if revision != ABSENT && revision < worker.revision {
            return;
        }
        let old = worker.lease.take();
        worker.revision = revision;
        worker.seen = now;
        (worker.lost_sent, worker.declaring, worker.declared_here) = (false, false, false);
        let due = now + worker.wait;
        self.timers.set(due, Timer::Lease(id.clone()));
        if let Some(old) = old {
            self.scheduler.unlist(&old.offer.group, &id);
            self.reindex(&id);
        }
    }

    /// When a worker's lease has certainly run out, as far as this master knows.
    pub(super) fn runs_out(&self, worker: &Worker) -> Time {
        let healthy = self.registry_up.unwrap_or(Time::NEVER);
        worker.seen.max(worker.extended).max(healthy) + worker.wait
    }

    /// A worker's lease may have run out; or the timer was set for an earlier renewal.
    pub(super) fn lease_due(&mut self, now: Time, id: WorkerId, out: &mut Vec<Effect>) {
        self.reconsider_previous_sessions(now, &id);
        let Some(worker) = self.workers.get(&id) else { return };
        let due = self.runs_out(worker);
        if now < due {
            self.timers.set(due, Timer::Lease(id));
            return;
        }
        if worker.declaring {
            return;
        }
        let lease = match &worker.lease {
            Some(lease) if lease.state.is_held() => {
                Lease { state: LeaseState::Lost, ..lease.clone() }
            }
            Some(_) => {
                let keep = worker.seen + self.config.leases_keep;
                if !worker.is_idle() {
                    return self.reconsider(&id);
                }
                // Names that never come back are forgotten eventually.
                if now >= keep {
                    self.workers.forget(&id);
                } else {
                    self.timers.set(keep, Timer::Lease(id));
                }
                return;
            }
            None => match self.session_of_tasks(&id) {
                Some(session) => vacancy(id.clone(), session, worker.wait),
                None => return self.dismiss(&id),
            },
        };
        let (expect, wait) = (worker.revision, worker.wait);
        // The home of a lease that has vanished may extend it until the home's own lease has ended.
        let from = match &worker.lease {
            None => Some(worker.seen + self.longest_home()),
            Some(lease) => self.may_declare_from(now, lease.home.clone().as_ref()),
        };
        // When the home is declared lost, the timer is set again.
        let Some(from) = from else { return };
        let healthy = self.registry_up.unwrap_or(Time::NEVER);
        let from = if from == Time::ZERO { from } else { from.max(healthy) + wait };
        let again = if now < from { Some(from) } else { self.failovers_paused_until(now) };
        if let Some(again) = again {
            self.timers.set(again, Timer::Lease(id));
            return;
        }
        self.begin_declare_lost(&id);
        out.push(Effect::WriteLease { expect, lease, asked_by: None });
    }

    /// A `lost` is being sent: nothing is dispatched to the worker and its lease is not extended, until
    /// a newer value of it is known.
    pub(super) fn begin_declare_lost(&mut self, id: &WorkerId) {
        if let Some(worker) = self.workers.get_mut(id) {
            (worker.lost_sent, worker.declaring) = (true, true);
        }
        self.reindex(id);
    }

    /// Forgets a worker that has no lease, no link and no task.
    pub(super) fn dismiss(&mut self, id: &WorkerId) {
        if self.workers.get(id).is_some_and(|worker| worker.lease.is_none()) {
            self.workers.forget(id);
        }
    }

    pub(super) fn lease_written(
        &mut self,
        now: Time,
        lease: Lease,
        asked_by: Option<LinkId>,
        answer: CasAnswer<Lease>,
    ) {
        let id = lease.worker.clone();
        if let Some(link) = asked_by {
            let (session, renewal) = (lease.session, lease.renewal);
            let message = ToWorker::Renewed { session, renewal, answer: answer.clone() };
            self.outbox.push(Effect::Send { link, message });
        } else {
            let worker = self.worker(now, &id);
            worker.declaring = false;
            if answer == CasAnswer::Unknown {
                self.timers.set(now + ASK_AGAIN, Timer::Lease(id.clone()));
            }
        }
        match answer {
            CasAnswer::Written(revision) => {
                let declared = asked_by.is_none();
                let is_news = self.workers.get(&id).is_none_or(|known| known.revision < revision);
                self.lease_seen(now, lease.clone(), revision);
                // The watch may have delivered it before: it is this master's write all the same.
                if declared && self.worker(now, &id).revision == revision {
                    self.worker(now, &id).declared_here = true;
                    self.reconsider(&id);
                }
                if declared && is_news && !self.speaks_for(&id) {
                    self.tell(&lease, WorkerEvent::Lost, worker_events::LOST);
                }
            }
            CasAnswer::Conflict(Some((found, revision))) => {
                let is_news = self.workers.get(&id).is_none_or(|known| known.revision < revision);
                self.lease_seen(now, found, revision);
                if asked_by.is_none() && !is_news {
                    // The server that answered was behind: the write conflicted with a newer value than
                    // this.
                    self.timers.set(now + ASK_AGAIN, Timer::Lease(id));
                }
            }
            CasAnswer::Conflict(None) if asked_by.is_none() => self.lease_gone(now, id, ABSENT),
            CasAnswer::Gone(revision) if asked_by.is_none() => self.lease_gone(now, id, revision),
            CasAnswer::Conflict(None) | CasAnswer::Gone(_) | CasAnswer::Unknown => {}
        }
    }

    /// A worker renews through this master: the same compare-and-set on the same key. A worker may
    /// write only its own lease, and only a master writes `lost`.
    pub(super) fn renew_asked(
        &mut self,
        worker: WorkerId,
        link: LinkId,
        expect: Revision,
        lease: Lease,
    ) {
        if lease.worker != worker || lease.state == LeaseState::Lost {
            return;
        }
        self.outbox.push(Effect::WriteLease { expect, lease, asked_by: Some(link) });
    }

    /// Whether every run of the attempt's session has certainly stopped.
    ///
    /// `record` is the revision of the record that names the attempt.
    pub(super) fn is_over(&self, now: Time, attempt: &Attempt, record: Revision) -> bool {
        if self.is_guarded(now) {
            return false;
        }
        let Some(worker) = self.workers.get(&attempt.worker) else { return false };
        let Some(lease) = &worker.lease else { return false };
        if lease.session == attempt.session {
            return matches!(lease.state, LeaseState::Released | LeaseState::Lost);
        }
        if self.is_before_the_guard(record) {
            return true;
        }
        // The task record arrived before the worker's lease; wait for the lease. Revisions of a deleted
        // stream cannot be compared.
        let comparable = attempt.lease_stream == self.roll.stream(Bucket::Workers);
        if comparable && worker.revision < attempt.lease {
            return false;
        }
        // Another session has taken the key over since, so no renewal of this session can succeed any
        // more. Either it was proven over, or it is over once its last renewal has run out.
        lease.succeeds.contains(&attempt.session) || now >= self.previous_sessions_run_out(worker)
    }

    /// When sessions before the present one that are not proven over have certainly run out: their home
    /// may have been another master, which may have been cut off.
    fn previous_sessions_run_out(&self, worker: &Worker) -> Time {
        let healthy = self.registry_up.unwrap_or(Time::NEVER);
        worker.session_seen.max(healthy) + self.longest_home() + worker.wait
    }

    /// From when on this master may move a task away from a worker that is lost: at once if this master
    /// declared it, or if it owns the task and no other master declared it.
    pub(super) fn moved_from(&self, task: TaskId, attempt: &Attempt) -> Time {
        let Some(worker) = self.workers.get(&attempt.worker) else { return Time::ZERO };
        let lost = worker.lease.as_ref().is_some_and(|lease| lease.state == LeaseState::Lost);
        let first = if lost {
            worker.declared_here || self.peers.fresh().next().is_none()
        } else {
            self.is_mine(task)
        };
        if first {
            return Time::ZERO;
        }
        // Not from the newest renewal: a session that took the key over renews it, too.
        let over = match &worker.lease {
            Some(lease) if lease.session == attempt.session => worker.seen,
            Some(lease) if lease.succeeds.contains(&attempt.session) => worker.session_seen,
            _ => self.previous_sessions_run_out(worker),
        };
        over + limit::PATIENCE
    }

    /// Whether the session of this attempt gave its lease back, which is no fault of the task.
    pub(super) fn has_left(&self, attempt: &Attempt) -> bool {
        let lease = self.workers.get(&attempt.worker).and_then(|worker| worker.lease.as_ref());
        lease.is_some_and(|lease| {
            lease.session == attempt.session && lease.state == LeaseState::Released
        })
    }

    /// Makes the master reconsider every task of a worker.
    fn reconsider(&mut self, id: &WorkerId) {
        if let Some(worker) = self.workers.get(id) {
            self.agenda.tasks(worker.tasks());
        }
    }

    /// Makes the master reconsider the attempts of a worker's earlier sessions.
    fn reconsider_previous_sessions(&mut self, now: Time, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let due = self.previous_sessions_run_out(worker);
        let session = worker.lease.as_ref().map(|lease| lease.session);
        let earlier = worker.tasks().filter(|task| {
            let attempt = self.tasks.get(task).and_then(|task| task.record.attempt());
            attempt.is_some_and(|attempt| Some(attempt.session) != session)
        });
        let earlier: Vec<_> = earlier.collect();
        if now < due && !earlier.is_empty() {
            self.timers.set(due, Timer::Lease(id.clone()));
        }
        self.agenda.tasks(earlier);
    }

    fn session_of_tasks(&self, id: &WorkerId) -> Option<SessionId> {
        let worker = self.workers.get(id)?;
        worker.tasks().find_map(|task| {
            let attempt = self.tasks.get(&task)?.record.attempt()?;
            (attempt.worker == *id).then_some(attempt.session)
        })
    }

    /// Whether this master publishes events about the worker.
    fn speaks_for(&self, id: &WorkerId) -> bool {
        self.is_owner(id.as_str().bytes().fold(0, |sum, byte| mix(sum ^ u64::from(byte))))
    }

    fn tell(&mut self, lease: &Lease, what: WorkerEvent, reason: &str) {
        self.outbox.push(Effect::Publish(Advisory::Worker {
            worker: lease.worker.clone(),
            group: lease.offer.group.clone(),
            what,
            session: lease.session,
            reason: String::from(reason),
        }));
    }
}

/// The value that takes a vanished lease's key, so that the session that held it cannot write it.
fn vacancy(worker: WorkerId, session: SessionId, wait: Duration) -> Lease {
    let master_wait_ms = wait.as_millis() as u64;
    Lease { state: LeaseState::Lost, master_wait_ms, ..Lease::new(worker, session) }
}
