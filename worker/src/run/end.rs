//! How a run ended. A run whose gate was closed must never have an outcome.

use muster_protocol::{
    lease::{KillReason, Permit},
    task::Outcome,
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd(Result<Outcome, KillReason>);

impl RunEnd {
    pub(super) fn outcome(_: Permit<'_>, outcome: Outcome) -> Self {
        RunEnd(Ok(outcome))
    }

    pub(super) fn killed(reason: KillReason) -> Self {
        RunEnd(Err(reason))
    }

    /// Its outcome. The output is inline whatever its size: who reports it must first store
    /// one that is larger than [`muster_protocol::limit::INLINE_SIZE_MAX`]. Guests that did not
    /// complete or fail by themselves have none. Or why its worker killed it; what the guest did by then
    /// counts for nothing.
    pub fn into_result(self) -> Result<Outcome, KillReason> {
        self.0
    }
}
