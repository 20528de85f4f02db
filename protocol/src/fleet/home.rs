//! A master as a home: extends the leases of its workers while they do not reach the registry. Never
//! extends after its own lease has ended, or after it has sent a `lost`.
//!
//! The home of a lease is one session of a master. The next session of the same process extends such
//! leases in the name of the earlier one, until it has loaded the registry. From then on it may declare
//! the earlier session lost, and its workers name the new session as their home.

use super::{Effect, Fleet, LinkId, workers::Worker};
use crate::{SessionId, Time, WorkerId, message::ToWorker};
use alloc::collections::BTreeMap;

/// The leases that a session of a master may extend, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extendable {
    /// The session of the master that the leases name as home.
    home: SessionId,
    /// The end of that session's own lease, on this machine's clock.
    until: Time,
    /// The session of each worker.
    leases: BTreeMap<WorkerId, SessionId>,
}

impl Fleet {
    /// A worker whose home is this master cannot reach the registry. If nothing was decided about its lease,
    /// this master allows an extension, and its own wait starts anew now. The worker counts from the time at
    /// which it asked.
    pub(super) fn extend_asked(
        &mut self,
        now: Time,
        id: WorkerId,
        link: LinkId,
        session: SessionId,
        renewal: u64,
    ) {
        let Some(home) = self.extends_as(now, &id, session) else { return };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.extended = now;
        }
        let message = ToWorker::Extended { session, home, renewal };
        self.outbox.push(Effect::Send { link, message });
    }

    /// The home as which this master may extend the lease of a worker's session now.
    fn extends_as(&self, now: Time, id: &WorkerId, session: SessionId) -> Option<SessionId> {
        let (home, until, lease) = if self.roll.is_loaded() {
            let home = self.own.session();
            (home, self.own.extends_until()?, extends(self.workers.get(id)?, home)?)
        } else {
            let earlier = self.config.memory.extendable.as_ref()?;
            (earlier.home, earlier.until, *earlier.leases.get(id)?)
        };
        (now < until && lease == session).then_some(home)
    }

    /// The leases that this process may extend until its next session has loaded the registry.
    pub(super) fn extendable(&self) -> Option<Extendable> {
        if !self.roll.is_loaded() {
            return self.config.memory.extendable.clone();
        }
        let (home, until) = (self.own.session(), self.own.extends_until()?);
        let leases = self
            .workers
            .iter()
            .filter_map(|(id, worker)| extends(worker, home).map(|session| (id.clone(), session)));
        Some(Extendable { home, until, leases: leases.collect() })
    }
}

/// The session of a worker whose lease names this home and may be extended.
fn extends(worker: &Worker, home: SessionId) -> Option<SessionId> {
    let lease = worker.held_lease().filter(|_| !worker.lost_sent)?;
    lease.home.as_ref().is_some_and(|named| named.session == home).then_some(lease.session)
}
