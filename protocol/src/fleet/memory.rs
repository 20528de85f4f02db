//! What one session of a master leaves to the next. Never what the next one makes of it (that is `sessions`).

use crate::{
    Revision, SessionId, Time, WorkerId,
    registry::{FailoverGuard, Mark, ServerId},
    subject::Bucket,
};
use alloc::{collections::BTreeMap, vec::Vec};

/// What one session of a master leaves to the next one of the same process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The newest guard that was seen, and when it was first seen.
    pub guard: Option<(FailoverGuard, Time)>,
    /// Sessions of masters that are over, and since when that is known.
    pub over: BTreeMap<SessionId, Time>,
    /// The revision of each worker's lease that was held, and when that was first seen.
    pub leases: BTreeMap<WorkerId, (Revision, Time)>,
    /// The life of the registry's server in which the session completed its roll call, if it did.
    pub vouched: Option<ServerId>,
    /// What the registry lacked when the session was declared lost, and since when: a leader that is
    /// behind is not that for longer because this process has begun anew.
    pub claims: Vec<(Bucket, Mark, Time)>,
    /// Whether the registry lacked something, and no guard that answers it is in the registry yet.
    pub owes_guard: bool,
}
