//! The requests that tell a worker to do something. Never how it does that.

use crate::{WorkerId, message::WorkerCommand, upgrade::Wanted};
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
