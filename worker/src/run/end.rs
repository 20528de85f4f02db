//! How a run ended. Never an outcome for a run whose gate was closed.

use crate::mask::Masks;
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

    /// The same, without the values of secrets.
    pub(super) async fn masked(self, masks: Masks) -> Self {
        match self.0 {
            Ok(outcome) => RunEnd(Ok(masks.hide_in(outcome).await)),
            killed => RunEnd(killed),
        }
    }

    /// The outcome. Its output is inline, whatever its size: the caller must first store an output that is
    /// larger than [`muster_protocol::limit::INLINE_SIZE_MAX`]. The output is empty unless the guest
    /// completed or failed by itself. Or why the worker killed the run: then nothing that the guest did
    /// counts.
    pub fn into_result(self) -> Result<Outcome, KillReason> {
        self.0
    }
}
