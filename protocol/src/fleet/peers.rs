//! The other masters, as far as they are known. Never decides what follows from that.
//!
//! Invariant: every master that counts as renewing in time is a known master.

use crate::{ABSENT, MasterId, Revision, SessionId, Time, lease::MasterLease};
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

/// What this master knows of another master's session, or of an earlier session of its own.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: MasterId,
    pub(super) lease: Option<MasterLease>,
    pub(super) revision: Revision,
    pub(super) seen: Time,
    pub(super) declaring: bool,
    /// When this master first knew that the session extends no leases any more.
    pub(super) over: Option<Time>,
    /// Whether the session has answered the roll call.
    pub(super) answered: bool,
}

impl Peer {
    pub(super) fn unknown(name: MasterId, now: Time) -> Self {
        Peer {
            name,
            lease: None,
            revision: ABSENT,
            seen: now,
            declaring: false,
            over: None,
            answered: false,
        }
    }

    /// Whether the session has answered the roll call, or has been over for so long that nothing which
    /// it dispatched can still run unless the registry knows of it.
    pub(super) fn has_answered(&self, now: Time, wait: Duration) -> bool {
        self.answered || self.over.is_some_and(|over| now >= over + wait)
    }

    pub(super) fn lease(&self) -> Option<&MasterLease> {
        self.lease.as_ref()
    }

    /// Whether a `lost` for this session has been sent and is not answered.
    #[cfg(test)]
    pub(super) fn is_declared(&self) -> bool {
        self.declaring
    }

    pub(super) fn is_live(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.state.is_held())
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<SessionId, Peer>,
    /// The sessions that renew their leases in time.
    fresh: BTreeSet<SessionId>,
}

impl Peers {
    pub(super) fn get(&self, session: SessionId) -> Option<&Peer> {
        self.known.get(&session)
    }

    pub(super) fn get_mut(&mut self, session: &SessionId) -> Option<&mut Peer> {
        self.known.get_mut(session)
    }

    /// A known session, added if it is new.
    pub(super) fn meet(&mut self, session: SessionId, unknown: impl FnOnce() -> Peer) -> &mut Peer {
        self.known.entry(session).or_insert_with(unknown)
    }

    /// Every known session.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionId, &Peer)> {
        self.known.iter()
    }

    /// The sessions that renew their leases in time.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &SessionId> {
        self.fresh.iter()
    }

    /// Whether another master renews its lease in time, as far as this master sees.
    pub(super) fn is_fresh(&self, session: SessionId) -> bool {
        self.fresh.contains(&session)
    }

    /// Notes whether a session renews its lease in time. Returns whether that has changed.
    pub(super) fn set_fresh(&mut self, session: SessionId, is_fresh: bool) -> bool {
        match is_fresh && self.known.contains_key(&session) {
            true => self.fresh.insert(session),
            false => self.fresh.remove(&session),
        }
    }
}
