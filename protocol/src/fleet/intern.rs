//! What tasks have alike is kept once: each comes with a group's name and grants of its own, as clients
//! and the registry say both anew with every task. Never changes what a task asks for.

use crate::{GroupName, grant::Grants, task::TaskSpec};
use alloc::sync::Arc;

/// What the latest task had: those that follow each other are mostly of one submission.
#[derive(Debug, Default)]
pub(super) struct Interner {
    group: GroupName,
    grants: Arc<Grants>,
}

impl Interner {
    /// Lets a specification that nobody else holds share what it has alike with the one before.
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
