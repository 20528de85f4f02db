//! Which objects a worker may read: those that its attempts name. Never reads one.

use super::Fleet;
use crate::{
    Digest, TaskId, WorkerId,
    message::ObjectStore,
    task::{Data, TaskRecord},
};
use alloc::vec::Vec;

/// Whether a worker may read an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectAccess {
    /// A task that it was given names the object.
    Named,
    /// Only if the object is the state of a checkpoint of one of these tasks, which it was given.
    IfStateOf(Vec<TaskId>),
}

impl Fleet {
    /// Whether the worker may read this object, as far as this master knows the attempts of the worker.
    pub fn object_access(
        &self,
        worker: &WorkerId,
        store: ObjectStore,
        digest: Digest,
    ) -> ObjectAccess {
        let tasks = || self.workers.get(worker).into_iter().flat_map(|entry| entry.tasks());
        let records = || tasks().filter_map(|id| self.tasks.get(&id)).map(|task| &task.record);
        if records().any(|record| names(record, store, digest)) {
            return ObjectAccess::Named;
        }
        ObjectAccess::IfStateOf(match store {
            ObjectStore::Modules => Vec::new(),
            ObjectStore::Data => tasks().collect(),
        })
    }
}

/// Whether the task's record names the object.
fn names(record: &TaskRecord, store: ObjectStore, digest: Digest) -> bool {
    match store {
        ObjectStore::Modules => record.spec.module.digest == digest,
        ObjectStore::Data => {
            matches!(record.spec.input, Data::Blob { digest: input, .. } if input == digest)
        }
    }
}
