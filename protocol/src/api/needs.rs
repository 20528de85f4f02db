//! What the user of a request needs, and what the audit says of it. Never reads what is stored.

use super::Request;
use crate::{
    WorkerId,
    grant::SecretName,
    role::{Forbidden, Rights, Role},
    upgrade::Wanted,
};
use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

impl Request {
    /// Refuses a request that needs a role that its user does not have, as far as the request itself shows it. A
    /// master that reads a task, a worker or a user for it demands the role in the group of what it has read.
    pub fn demand(&self, rights: &Rights) -> Result<(), Forbidden> {
        match self {
            Request::Submit(asked) => asked
                .tasks
                .iter()
                .try_for_each(|task| rights.demand(Role::Submit, task.spec.group.as_str())),
            Request::List(asked) => match &asked.group {
                Some(group) => rights.demand(Role::Read, group),
                None => rights.demand_everywhere(Role::Read),
            },
            Request::Invite(asked) => {
                let groups = &asked.entitlement.groups;
                rights.demand_somewhere(Role::Admin)?;
                match groups.is_any() {
                    true => rights.demand_everywhere(Role::Admin),
                    false => {
                        groups.0.iter().try_for_each(|group| rights.demand(Role::Admin, group))
                    }
                }
            }
            Request::SetGroup(asked) => rights.demand(Role::Admin, asked.group.as_str()),
            Request::Get(_)
            | Request::Workers(_)
            | Request::Groups(_)
            | Request::Loads(_)
            | Request::Masters
            | Request::Modules(_)
            | Request::FindModule(_)
            | Request::Fetch(_)
            | Request::Events(_)
            | Request::Logs(_) => rights.demand_somewhere(Role::Read),
            Request::Cancel(_) | Request::Find(_) | Request::Put(_) => {
                rights.demand_somewhere(Role::Submit)
            }
            // A module's name is the same in all groups.
            Request::Register(_) => rights.demand_everywhere(Role::Submit),
            Request::Remove(_) => rights.demand_everywhere(Role::Operate),
            Request::Order(_) | Request::Members(_) => rights.demand_somewhere(Role::Operate),
            Request::Approve(_)
            | Request::Revoke(_)
            | Request::SetUpgrade(_)
            | Request::Users(_)
            | Request::SetUser(_)
            | Request::ForgetUser(_)
            | Request::SetSecret(_)
            | Request::Secrets(_)
            | Request::ForgetSecret(_) => rights.demand_somewhere(Role::Admin),
            Request::Audit(_) => rights.demand_everywhere(Role::Admin),
            Request::Who => Ok(()),
        }
    }

    /// What the audit says of the request: what it names. `None` if it only reads, or stores bytes that have
    /// no name yet.
    pub fn objects(&self) -> Option<Vec<String>> {
        let one = |kind: &str, name: &dyn core::fmt::Display| Some(vec![format!("{kind} {name}")]);
        match self {
            Request::Submit(asked) => {
                Some(asked.tasks.iter().map(|task| format!("task {}", task.id)).collect())
            }
            Request::Cancel(asked) => {
                Some(asked.ids.iter().map(|id| format!("task {id}")).collect())
            }
            Request::Order(asked) => Some(vec![
                format!("worker {}", asked.worker),
                asked.order.lease_state().word().into(),
            ]),
            Request::Invite(asked) => match &asked.worker {
                Some(worker) => one("worker", worker),
                None => Some(vec![format!("{} workers of any name", asked.uses)]),
            },
            Request::Approve(asked) | Request::Revoke(asked) => one("worker", &asked.worker),
            Request::SetUpgrade(asked) => {
                let program = match &asked.wanted {
                    Wanted::Program(program) => format!("program {}", program.digest),
                    Wanted::Before(digest) => format!("the program before {digest}"),
                };
                Some(vec![format!("worker {}", asked.worker), program])
            }
            Request::SetUser(asked) => {
                Some(vec![format!("user {}", asked.user), asked.rights.to_string()])
            }
            Request::ForgetUser(asked) => one("user", &asked.user),
            Request::SetSecret(asked) => Some(secret(&asked.name, &asked.worker)),
            Request::ForgetSecret(asked) => Some(secret(&asked.name, &asked.worker)),
            Request::SetGroup(asked) => {
                let mut objects = vec![format!("group {}", asked.group)];
                objects.extend(asked.signers.iter().map(|key| format!("signer {key}")));
                if asked.signers.is_empty() {
                    objects.push("any module".into());
                }
                Some(objects)
            }
            Request::Register(asked) => {
                Some(vec![module(&asked.name, asked.version.as_deref()), asked.digest.to_string()])
            }
            Request::Remove(asked) => Some(vec![module(&asked.name, asked.version.as_deref())]),
            Request::Get(_)
            | Request::List(_)
            | Request::Workers(_)
            | Request::Members(_)
            | Request::Users(_)
            | Request::Who
            | Request::Secrets(_)
            | Request::Groups(_)
            | Request::Loads(_)
            | Request::Audit(_)
            | Request::Masters
            | Request::Modules(_)
            | Request::FindModule(_)
            | Request::Find(_)
            | Request::Put(_)
            | Request::Fetch(_)
            | Request::Events(_)
            | Request::Logs(_) => None,
        }
    }
}

fn secret(name: &SecretName, worker: &WorkerId) -> Vec<String> {
    vec![format!("secret {name}"), format!("worker {worker}")]
}

fn module(name: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("module {name}:{version}"),
        None => format!("module {name}"),
    }
}
