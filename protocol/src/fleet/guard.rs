//! The failover guard: after the registry has lost writes, nothing is dispatched until every run from
//! before has certainly ended. The guard is stored in the registry, so that it binds every master.
//! It is never lifted before one master has waited for the whole time.

use super::{ASK_AGAIN, Effect, Fleet, Memory, Timer};
use crate::{
    ABSENT, Nonce, Revision, SessionId, Time, WorkerId,
    advisory::{Advisory, RegistryEvent},
    lease::{CasAnswer, Lease, LeaseState},
    registry::{FailoverGuard, Mark},
    subject::Bucket,
};
use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::time::Duration;

/// What this master knows of the guard.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The newest known value, and when this process first saw its nonce.
    pub(super) known: Option<(FailoverGuard, Time)>,
    revision: Revision,
    /// Why a guard has to be raised, until the registry has it.
    owed: Option<String>,
    /// When the loss was noticed for which `owed` is raised.
    noticed: Time,
    /// A write of the guard is under way.
    writing: bool,
    /// Sessions of workers to which attempts may have been dispatched that the registry has forgotten.
    forgotten: BTreeSet<SessionId>,
    /// The revision up to which attempts were dispatched before the last guard of this session: those
    /// attempts are over.
    ended: Option<Mark>,
}

impl Guard {
    /// Until when the known guard is in force; `None` where there is none or it is lifted.
    fn until(&self) -> Option<Time> {
        let (guard, since) = self.known.as_ref().filter(|(guard, _)| !guard.lifted)?;
        Some(*since + Duration::from_millis(guard.wait_ms))
    }

    /// Whether the registry has a guard that is not lifted, and none is owed.
    pub(super) fn stands(&self) -> bool {
        self.owed.is_none() && self.until().is_some()
    }

    /// Whether a guard still has to be raised.
    pub(super) fn is_owed(&self) -> bool {
        self.owed.is_some()
    }
}

impl Fleet {
    /// The registry has this guard.
    pub(super) fn guard_seen(&mut self, now: Time, guard: FailoverGuard, revision: Revision) {
        if revision <= self.guard.revision {
            return;
        }
        self.guard.revision = revision;
        let same =
            |(known, since): &(FailoverGuard, Time)| (known.nonce == guard.nonce).then_some(*since);
        let remembered = self.config.memory.guard.as_ref().and_then(same);
        let since = self.guard.known.as_ref().and_then(same).or(remembered).unwrap_or(now);
        let (is_new, lifted) = (since == now, guard.lifted);
        self.guard.known = Some((guard, since));
        if lifted {
            if self.roll.is_loaded() && self.guard.owed.is_none() {
                self.guard_ends();
            }
            return;
        }
        if self.roll.is_loaded() {
            // Another master noticed a loss during this session: its guard replaces the owed one.
            self.guard.owed = None;
            if is_new {
                self.roll.drop_missed();
                self.end_all_sessions();
            }
        }
        self.schedule_guard(now);
    }

    /// The registry has been loaded. A guard that is in force, or that this process has seen in force,
    /// is kept.
    pub(super) fn load_guard(&mut self, now: Time) {
        if let Some((known, since)) = self.config.memory.guard.clone()
            && !known.lifted
            && now < since + Duration::from_millis(known.wait_ms)
            && self.guard.known.as_ref().is_none_or(|(found, _)| found.nonce != known.nonce)
        {
            self.raise_guard(
                now,
                String::from("it has lost the failover guard of an earlier loss"),
            );
        } else if self.guard.until().is_some_and(|until| now < until) {
            self.end_all_sessions();
            self.schedule_guard(now);
        } else if self.guard.until().is_some() {
            self.schedule_guard(now);
        }
    }

    /// The registry has lost writes: dispatch nothing from now on, and raise a guard for every master.
    pub(super) fn raise_guard(&mut self, now: Time, reason: String) {
        if self.guard.owed.is_some() {
            return;
        }
        self.outbox.push(Effect::Publish(Advisory::Registry {
            master: self.config.me.clone(),
            what: RegistryEvent::Rewound,
            reason: reason.clone(),
        }));
        self.guard.owed = Some(reason);
        self.guard.noticed = now;
        self.roll.drop_claims();
        self.end_all_sessions();
        self.timers.set(now, Timer::Guard);
    }

    /// How long runs from before a loss may go on: until the last home's own lease is over, and then
    /// for the longest wait that a worker's lease asks for.
    fn guard_wait(&self) -> Duration {
        let waits = self.workers.values().map(|worker| worker.wait);
        self.longest_home() + waits.fold(self.config.timing.master(), Duration::max)
    }

    /// Raises an owed guard, or lifts one whose time is over.
    pub(super) fn guard_due(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.guard.writing {
            return;
        }
        let guard = if let Some(reason) = self.guard.owed.clone() {
            FailoverGuard {
                nonce: Nonce(self.stamps.next_nonce()),
                raised_by: self.config.session,
                lifted: false,
                tasks: self.roll.end(Bucket::Tasks),
                wait_ms: self.guard_wait().as_millis() as u64 + 1,
                reason,
                raised_at: self.stamps.wall(now),
                unknown: Default::default(),
            }
        } else {
            match self.guard.until() {
                Some(until) if now >= until => {}
                Some(until) => {
                    self.timers.set(until, Timer::Guard);
                    return;
                }
                None => return,
            }
            self.guard_ends();
            let Some((known, _)) = &self.guard.known else { return };
            FailoverGuard { lifted: true, ..known.clone() }
        };
        self.guard.writing = true;
        out.push(Effect::WriteGuard { expect: self.guard.revision, guard });
    }

    pub(super) fn guard_written(
        &mut self,
        now: Time,
        guard: FailoverGuard,
        answer: CasAnswer<FailoverGuard>,
    ) {
        self.guard.writing = false;
        match answer {
            CasAnswer::Written(revision) if guard.lifted => {
                self.guard_seen(now, guard, revision);
            }
            CasAnswer::Written(revision) if revision > self.guard.revision => {
                self.guard.revision = revision;
                // The time counts from when the loss was noticed: from then on all sessions were being
                // ended.
                self.guard.known = Some((guard, self.guard.noticed));
                self.guard.owed = None;
                self.schedule_guard(now);
            }
            CasAnswer::Conflict(Some((found, revision))) if revision > self.guard.revision => {
                self.guard_seen(now, found, revision);
                self.timers.set(now + ASK_AGAIN, Timer::Guard);
            }
            CasAnswer::Gone(revision) => {
                self.guard.revision = revision;
                self.timers.set(now, Timer::Guard);
            }
            CasAnswer::Conflict(None) => {
                self.guard.revision = ABSENT;
                self.timers.set(now + ASK_AGAIN, Timer::Guard);
            }
            CasAnswer::Written(_) | CasAnswer::Conflict(_) | CasAnswer::Unknown => {
                self.timers.set(now + ASK_AGAIN, Timer::Guard);
            }
        }
    }

    fn schedule_guard(&mut self, now: Time) {
        if let Some(until) = self.guard.until() {
            self.timers.set(until.max(now), Timer::Guard);
        }
    }

    /// Every run from before the loss has ended.
    fn guard_ends(&mut self) {
        self.guard.ended = self.guard.known.as_ref().map(|(known, _)| known.tasks);
        self.roll_is_complete();
        self.look_at_everything();
    }

    /// What this session leaves to the next session of this process.
    pub fn memory(&self) -> Memory {
        let held = |(id, worker): (&WorkerId, &super::Worker)| {
            worker.held_lease().map(|_| (id.clone(), (worker.revision, worker.seen)))
        };
        let missed = self.roll.missed().iter().map(|(id, known)| (id.clone(), *known));
        Memory {
            guard: self.guard.known.clone(),
            over: self.peers_over(),
            leases: self.workers.iter().filter_map(held).chain(missed).collect(),
            missed_since: self.missed_since(),
            vouched: self.config.server.clone().filter(|_| self.has_vouched()),
            claims: self.open_claims(),
            owes_guard: !self.may_answer(),
            extendable: self.extendable(),
        }
    }

    /// Whether a guard is in force.
    pub(super) fn is_guarded(&self, now: Time) -> bool {
        self.guard.owed.is_some() || self.guard.until().is_some_and(|until| now < until)
    }

    /// Whether the attempt of a record with this revision was dispatched before a guard that has ended:
    /// then its run is over.
    pub(super) fn is_before_the_guard(&self, record: Revision) -> bool {
        self.guard.ended.is_some_and(|before| {
            before.stream == self.roll.stream(Bucket::Tasks) && record <= before.revision
        })
    }

    /// Ends every worker's session at once, because the registry has forgotten attempts of theirs.
    /// Nothing is dispatched until their runs have certainly ended.
    fn end_all_sessions(&mut self) {
        let leases = self.workers.values().filter_map(|worker| worker.lease.as_ref());
        let sessions: Vec<SessionId> = leases.map(|lease| lease.session).collect();
        self.guard.forgotten.extend(sessions);
        for id in self.workers.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.end_forgotten_session(&id);
        }
    }

    /// Ends a worker's session if the registry has forgotten attempts of it.
    pub(super) fn end_forgotten_session(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let Some(lease) = worker.lease.as_ref() else { return };
        if lease.state.is_held() && self.guard.forgotten.contains(&lease.session) {
            // Not `lost`: on `lost` another master would act at once, although its own wait may be over
            // or it has not noticed the loss, while this session still runs. A session that never
            // existed takes the lease over instead, and the session before is waited for.
            let (expect, lease) = (worker.revision, lease.clone());
            let session = SessionId(self.stamps.next_nonce());
            let lease = Lease { session, state: LeaseState::Lost, succeeds: Vec::new(), ..lease };
            self.begin_declare_lost(id);
            self.outbox.push(Effect::WriteLease { expect, lease, asked_by: None });
        }
    }
}
