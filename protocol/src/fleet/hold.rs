//! When nothing may be given out, or nobody declared lost, for a while: the registry has forgotten
//! what it knew, or too many are silent at once. Never for ever.

use super::{ASK_AGAIN, Effect, Fleet, Timer, Worker};
use crate::{
    SessionId, Time, WorkerId,
    advisory::{Advisory, FailoverEvent, RegistryEvent},
    lease::{Lease, Standing},
    limit,
};
use alloc::{string::String, vec::Vec};
use core::time::Duration;

/// Too many workers silent at once: then it is more likely that this master cannot see them.
#[derive(Debug, Default)]
pub(super) struct Hold {
    since: Option<Time>,
    /// The result of the last look, and when it was taken.
    looked: Option<(Time, bool)>,
}

impl Fleet {
    /// All that is in the registry is known.
    pub(super) fn begin(&mut self, now: Time, rewound: bool) {
        self.registry_up = Some(now);
        if rewound {
            // Everything that ran under what the registry has forgotten must have ended before
            // anything is given out again: the last extension by a master that held its own lease
            // to its end, and then the longest lease of a worker.
            let waits = self.workers.values().map(|worker| worker.wait);
            let longest = waits.fold(self.config.timing.master(), Duration::max);
            let wait = self.config.timing.outage_wait() + longest;
            self.held_until = Some(now + wait);
            self.condemn_all();
            self.timers.insert((now + wait, Timer::Resume));
            self.outbox.push(Effect::Publish(Advisory::Registry {
                master: self.config.me.clone(),
                what: RegistryEvent::Rewound,
                reason: String::from(
                    "it has lost writes that it had acknowledged; every worker begins anew",
                ),
            }));
        }
    }

    /// Until when nothing is given to anyone, because the registry has forgotten what was.
    pub fn held_until(&self) -> Option<Time> {
        self.held_until
    }

    /// Whether nothing may be given to a worker now.
    pub(super) fn is_held(&self, now: Time) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Ends every session at once, because the registry has forgotten what they were given. What
    /// they run is waited for all the same (see [`Fleet::is_held`]).
    pub(super) fn condemn_all(&mut self) {
        let leases = self.workers.values().filter_map(|worker| worker.lease.as_ref());
        self.forgotten = leases.map(|lease| lease.session).collect();
        for id in self.workers.keys().cloned().collect::<Vec<_>>() {
            self.condemn_forgotten(&id);
        }
    }

    /// Ends a worker's session if the registry has forgotten what it was given.
    pub(super) fn condemn_forgotten(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let Some(lease) = worker.lease.as_ref() else { return };
        if lease.standing.is_held() && self.forgotten.contains(&lease.session) {
            // Not `lost`: on that word another master would act at once, whose own wait may be over
            // or that has not noticed, while this session may still run. A session that never was
            // takes its place; then the one before is waited for.
            let (expect, lease) = (worker.revision, lease.clone());
            let session = SessionId(self.mint());
            let lease = Lease { session, standing: Standing::Lost, succeeds: Vec::new(), ..lease };
            self.condemn(id);
            self.outbox.push(Effect::WriteLease { expect, lease, asked_by: None });
        }
    }

    /// Whether so many workers are silent that none is declared lost for now, and until when.
    pub(super) fn must_hold(&mut self, now: Time) -> Option<Time> {
        let over_half = match self.hold.looked {
            Some((at, over_half)) if at == now => over_half,
            _ => {
                let held = |worker: &&Worker| {
                    worker.lease.as_ref().is_some_and(|lease| lease.standing.is_held())
                };
                let all = self.workers.values().filter(held).count();
                // Not only those whose time is over: all fall silent at once, but not all renewed at
                // the same moment.
                let silent = |worker: &&Worker| now + worker.wait / 2 >= self.runs_out(worker);
                let silent = self.workers.values().filter(held).filter(silent).count();
                all >= limit::HOLD_WORKERS_MIN && silent * 2 > all
            }
        };
        self.hold.looked = Some((now, over_half));
        if !over_half {
            self.hold.since = None;
            return None;
        }
        if self.hold.since.is_none() {
            self.outbox.push(Effect::Publish(Advisory::Failover {
                master: self.config.me.clone(),
                what: FailoverEvent::Held,
                reason: String::from(
                    "over half of the workers are silent at once; none is declared lost for now",
                ),
            }));
        }
        let since = *self.hold.since.get_or_insert(now);
        let until = since + limit::HOLD_MAX;
        (now < until).then(|| until.min(now + ASK_AGAIN))
    }
}
