//! The settings of groups, as the registry has them. Never decides what they mean.

use muster_protocol::{GroupName, group::Group};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Groups {
    known: Mutex<BTreeMap<GroupName, Group>>,
}

impl Groups {
    /// The registry has these settings of a group.
    pub(crate) fn heard(&self, group: Group) {
        match group.is_default() {
            true => self.known().remove(&group.group),
            false => self.known().insert(group.group.clone(), group),
        };
    }

    /// The settings of a group; `None` if they are the default.
    pub(crate) fn of(&self, group: &GroupName) -> Option<Group> {
        self.known().get(group).cloned()
    }

    /// The groups after a name that have settings of their own.
    pub(crate) fn after(&self, name: Option<&str>) -> Vec<Group> {
        let follows = |group: &&Group| name.is_none_or(|name| group.group.as_str() > name);
        self.known().values().filter(follows).cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<GroupName, Group>> {
        self.known.lock().expect("no holder of this lock panics")
    }
}
