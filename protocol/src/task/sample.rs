//! A task and its attempts for tests of what records say.

use super::{Attempt, Data, ModuleRef, TaskRecord, TaskSpec};
use crate::{
    AttemptId, Digest, SessionId, TaskId, record::Unknown, registry::StreamId, time::WallMillis,
};
use alloc::{format, sync::Arc};

/// A task that was submitted at this time.
pub fn queued(submitted_ms: u64) -> TaskRecord {
    let module = ModuleRef { name: None, digest: Digest([0; 32]) };
    let spec = Arc::new(TaskSpec::new(module, Data::EMPTY));
    TaskRecord::queued(TaskId(1), spec, WallMillis(submitted_ms))
}

/// The attempt with this number, on the worker `wNUMBER`.
pub fn attempt(number: u32, dispatched_ms: u64) -> Attempt {
    Attempt {
        id: AttemptId(number.into()),
        number,
        worker: format!("w{number}").parse().expect("a name"),
        session: SessionId(1),
        lease: 1,
        lease_stream: StreamId(1),
        dispatched_at: WallMillis(dispatched_ms),
        alone: false,
        to_silent: false,
        unknown: Unknown::default(),
    }
}
