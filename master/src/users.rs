//! The users of the client API and their roles, as the registry has them. Never decides what a role permits.

use muster_protocol::{
    api::Caller,
    role::{Actor, REQUEST_INFO, Rights, Role, User},
    subject::is_from_another_account,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

/// See the [module](self).
pub(crate) struct Users {
    /// The rights of a user that has none of its own.
    default: Rights,
    /// By what NATS calls them.
    known: Mutex<BTreeMap<String, User>>,
}

impl Users {
    pub(crate) fn new(default: Role) -> Self {
        Users { default: Rights::everywhere(default), known: Mutex::default() }
    }

    /// The registry has this of a user.
    pub(crate) fn heard(&self, user: User) {
        let mut known = self.known();
        match user.rights {
            Some(_) => known.insert(user.user.clone(), user),
            None => known.remove(&user.user),
        };
    }

    /// Who sent a request, and what that user may do.
    pub(crate) fn caller(&self, request: &async_nats::Message) -> Caller {
        let reply = request.reply.as_deref().unwrap_or_default();
        if !is_from_another_account(reply) {
            let rights = Rights::everywhere(Role::Admin);
            return Caller { actor: Actor::default(), rights };
        }
        let headers = request.headers.as_ref();
        let mut infos = headers.into_iter().flat_map(|headers| headers.get_all(REQUEST_INFO));
        // The server leaves only its own. If there were several, one might be the client's.
        let info = infos.next().filter(|_| infos.next().is_none());
        let mut actor = Actor::of(info.map(|info| info.as_str()));
        let known = self.known();
        let user = actor.user.as_ref().and_then(|user| known.get(user));
        actor.called = user.and_then(|user| user.called.clone());
        let rights = user.and_then(|user| user.rights.clone());
        Caller { actor, rights: rights.unwrap_or_else(|| self.default.clone()) }
    }

    /// The users after a name.
    pub(crate) fn after(&self, name: Option<&str>) -> Vec<User> {
        let follows = |user: &&User| name.is_none_or(|name| user.user.as_str() > name);
        self.known().values().filter(follows).cloned().collect()
    }

    /// The rights of a user that the registry has these of.
    pub(crate) fn rights(&self, known: Option<&User>) -> Rights {
        known.and_then(|user| user.rights.clone()).unwrap_or_else(|| self.default.clone())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, User>> {
        self.known.lock().expect("no holder of this lock panics")
    }
}
