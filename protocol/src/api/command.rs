//! The requests that tell a worker to do something. Never how it does that.

use crate::{
    Digest, WorkerId,
    message::WorkerCommand,
    upgrade::{ProgramReport, Upgrade, Wanted},
};
use serde::{Deserialize, Serialize};

/// Send a command to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandWorker {
    /// The name of the worker that shall carry out the command.
    pub worker: WorkerId,
    /// What the worker shall do.
    pub order: WorkerCommand,
}

/// Let a worker run another program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUpgrade {
    /// The worker.
    pub worker: WorkerId,
    /// What it shall run. A program has to be in the data store.
    pub wanted: Wanted,
    /// How long its runs may go on before it is restarted, in milliseconds; at most
    /// [`DRAIN_MAX`](crate::limit::DRAIN_MAX).
    pub deadline_ms: u64,
}

/// An upgrade as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeView {
    /// Its number.
    pub number: u64,
    /// The program that the worker shall run; absent if it shall go back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Digest>,
}

impl UpgradeView {
    /// Whether a worker that reports this has yet to carry it out.
    pub fn is_pending(&self, report: &ProgramReport) -> bool {
        report.number < self.number
    }
}

impl From<&Upgrade> for UpgradeView {
    fn from(upgrade: &Upgrade) -> Self {
        let program = upgrade.program().map(|program| program.digest);
        UpgradeView { number: upgrade.number, program }
    }
}
