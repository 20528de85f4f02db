//! What one session of a master leaves to the next session. Never decides what follows from it
//! (`sessions` does).

use super::home::Extendable;
use crate::{
    Revision, SessionId, Time, WorkerId,
    registry::{FailoverGuard, Mark, ServerId},
    subject::Bucket,
};
use alloc::{collections::BTreeMap, vec::Vec};

/// What one session of a master leaves to the next session of the same process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The newest guard that was seen, and when it was first seen.
    pub guard: Option<(FailoverGuard, Time)>,
    /// Sessions of masters that are over, and when this was first known.
    pub over: BTreeMap<SessionId, Time>,
    /// The revision of each worker's lease that was held, and when it was first seen.
    pub leases: BTreeMap<WorkerId, (Revision, Time)>,
    /// Since when the registry shows older leases than these, if it did when the session was declared lost.
    pub missed_since: Option<Time>,
    /// The process of the registry's server in which the session completed its roll call, if it did.
    pub vouched: Option<ServerId>,
    /// What the registry lacked when the session was declared lost, and since when: a new session does
    /// not restart the patience with a leader that is behind.
    pub claims: Vec<(Bucket, Mark, Time)>,
    /// Whether the registry lacked something, and no guard for it is in the registry yet.
    pub owes_guard: bool,
    /// The leases that the next session may extend until it has loaded the registry.
    pub extendable: Option<Extendable>,
}
