//! Keeps equal parts of tasks once. Every task arrives with its own copy of its group's name and
//! grants, from the client and from the registry. Never changes what a task asks for.

use crate::{GroupName, grant::Grants, task::TaskSpec};
use alloc::sync::Arc;

/// The parts of the latest task: tasks that follow each other mostly belong to one submission.
#[derive(Debug, Default)]
pub(super) struct Interner {
    group: GroupName,
    grants: Arc<Grants>,
}

impl Interner {
    /// Makes a specification that nobody else holds share its equal parts with the one before.
    pub(super) fn intern(&mut self, spec: &mut Arc<TaskSpec>) {
        let Some(spec) = Arc::get_mut(spec) else { return };
        if spec.group == self.group {
            spec.group = self.group.clone();
        } else {
            self.group = spec.group.clone();
        }
        if spec.grants == self.grants {
            spec.grants = self.grants.clone();
        } else {
            self.grants = spec.grants.clone();
        }
    }
}
