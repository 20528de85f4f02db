//! Roles: what a user of the client API may do in which group. Never decides who a user is: NATS says that.
//!
//! A user is somebody who logs in to NATS in another account than the registry's. The server that takes the
//! request names the user to masters, in a header that it sets itself ([`Actor::of`]). Whoever logs in to the
//! registry's own account may do everything there, with or without masters.

use crate::{
    Digest, GroupName,
    record::{Unknown, record},
    words::words,
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// The most groups in which a user has a role of its own.
pub const GROUPS_MAX: usize = 64;

/// The longest name of a user or of an account, in bytes. NATS' own public keys have 56.
pub const USER_SIZE_MAX: usize = 256;

/// What the keys of users in the access bucket begin with.
pub const USER: &str = "user";

words!(
    /// What a user may do in a group. Each role includes those before it.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Role {
        /// Nothing.
        None = "none",
        /// See tasks, their results and logs, workers, modules and events.
        Read = "read",
        /// Submit tasks and cancel them; store modules, if in all groups.
        Submit = "submit",
        /// Cordon and drain workers; remove modules, if in all groups.
        Operate = "operate",
        /// Let workers join, revoke them, keep secrets for them, give roles, and say whose modules may run;
        /// read the audit, if in all groups.
        Admin = "admin",
    }
);

/// A text is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: none, read, submit, operate or admin")]
pub struct NoRole(String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        let role = Role::ALL.into_iter().find(|role| role.word() == text);
        role.ok_or_else(|| NoRole(text.into()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The roles of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The role in every group that `groups` does not name.
    pub everywhere: Role,
    /// The role in each of these groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<GroupName, Role>,
}

/// A user may not do what a request asks for. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs the role {needs} {place}; you have {has} there")]
pub struct Forbidden {
    needs: Role,
    has: Role,
    place: String,
}

impl Rights {
    /// The same role in every group.
    pub fn everywhere(role: Role) -> Self {
        Rights { everywhere: role, groups: BTreeMap::new() }
    }

    /// The role in a group.
    pub fn role(&self, group: &str) -> Role {
        let own = self.groups.iter().find(|(name, _)| name.as_str() == group);
        own.map_or(self.everywhere, |(_, role)| *role)
    }

    /// Whether the user has at least this role in a group.
    pub fn has(&self, needs: Role, group: &str) -> bool {
        self.role(group) >= needs
    }

    /// Demands at least this role in a group.
    pub fn demand(&self, needs: Role, group: &str) -> Result<(), Forbidden> {
        let has = self.role(group);
        refuse(needs, has, || format!("in the group {group}"))
    }

    /// Demands at least this role in every group.
    pub fn demand_everywhere(&self, needs: Role) -> Result<(), Forbidden> {
        let least = self.groups.values().copied().fold(self.everywhere, Role::min);
        refuse(needs, least, || "in every group".into())
    }

    /// Demands at least this role in some group.
    pub fn demand_somewhere(&self, needs: Role) -> Result<(), Forbidden> {
        let most = self.groups.values().copied().fold(self.everywhere, Role::max);
        refuse(needs, most, || "in a group".into())
    }

    /// Demands what is needed to give a user these rights instead of those: the role `admin` wherever they
    /// differ.
    pub fn demand_change(&self, old: &Rights, new: &Rights) -> Result<(), Forbidden> {
        if old.everywhere != new.everywhere {
            return self.demand_everywhere(Role::Admin);
        }
        let groups = old.groups.keys().chain(new.groups.keys());
        let mut changed = groups.filter(|group| {
            let group = group.as_str();
            old.role(group) != new.role(group)
        });
        changed.try_for_each(|group| self.demand(Role::Admin, group.as_str()))
    }
}

/// As options of a command have it: `submit, operate@shops`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.everywhere)?;
        self.groups.iter().try_for_each(|(group, role)| write!(f, ", {role}@{group}"))
    }
}

fn refuse(needs: Role, has: Role, place: impl FnOnce() -> String) -> Result<(), Forbidden> {
    if has >= needs { Ok(()) } else { Err(Forbidden { needs, has, place: place() }) }
}

/// The value under `user.ID` in the access bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What NATS calls the user: the public key of an nkey or of a credentials file, or a user name.
    pub user: String,
    /// What people call the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// The roles; if absent, the user is forgotten, and has the role of an unknown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(User);

/// The last part of a user's key in the access bucket, from the SHA-256 of its name: a name may have
/// characters that a key may not.
pub fn user_id(name: Digest) -> String {
    name.hex()[..32].into()
}

/// Whether a text can be the name of a user.
pub fn is_user(text: &str) -> bool {
    (1..=USER_SIZE_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Who sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// The NATS account of the user; absent for the registry's own account, whose users NATS does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What NATS calls the user; absent if its account does not share that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What people call the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
}

/// What nats-server says about the sender of a request from another account: the header
/// `Nats-Request-Info`, as far as it is used here. The server replaces what a client has sent under this name.
#[derive(Deserialize)]
struct RequestInfo {
    acc: String,
    #[serde(default)]
    user: Option<String>,
}

/// The header in which nats-server names the sender of a request from another account.
pub const REQUEST_INFO: &str = "Nats-Request-Info";

impl Actor {
    /// Who sent a request from another account, by the header of that request. Without one that can be read,
    /// it is not known who.
    pub fn of(info: Option<&str>) -> Self {
        let info: Option<RequestInfo> = info.and_then(|info| serde_json::from_str(info).ok());
        let Some(RequestInfo { acc, user }) = info else {
            return Actor { account: Some(UNNAMED.into()), ..Actor::default() };
        };
        let user = user.filter(|user| is_user(user));
        let account = if is_user(&acc) { acc } else { UNNAMED.into() };
        Actor { account: Some(account), user, called: None }
    }

    /// Whether the request came from the registry's own account.
    pub fn is_of_registry(&self) -> bool {
        self.account.is_none()
    }
}

/// The name of an account that the server has not named.
const UNNAMED: &str = "?";

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor { called: Some(called), .. } => f.write_str(called),
            Actor { user: Some(user), .. } => f.write_str(user),
            Actor { account: Some(account), .. } => {
                write!(f, "somebody in the account {account}")
            }
            Actor { account: None, .. } => f.write_str("somebody in the registry's account"),
        }
    }
}

/// The table of roles in docs/PERMISSIONS.md.
pub fn table() -> String {
    let roles = Role::ALL.iter().map(|role| (role.word(), role.meaning()));
    "| role | what it permits in a group |\n|---|---|\n".to_string() + &crate::words::rows(roles)
}

#[cfg(test)]
mod tests;
