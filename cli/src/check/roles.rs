//! Checks what the user of this command may do. Never checks the fleet.

use super::{Finding, answer};
use crate::client::Client;
use muster_protocol::{
    api::{Caller, Endpoint},
    role::Role,
};
use serde_json::json;

/// Who this command is for the masters. `None` if none answers, or if all are of an earlier version, which knows
/// no users.
pub(super) async fn caller(client: &Client) -> Option<Caller> {
    let nothing = json!({});
    answer(client.ask::<Caller>(Endpoint::UserSelf, &nothing)).await.ok()
}

pub(super) fn look(Caller { actor, rights }: &Caller, findings: &mut Vec<Finding>) {
    let finding = match rights.demand_everywhere(Role::Read) {
        Ok(()) if actor.is_of_registry() => {
            let detail = "you log in to the registry's account, and may do everything";
            Finding::ok("roles", detail)
        }
        Ok(()) => Finding::ok("roles", format!("you are {actor}, and have: {rights}")),
        Err(forbidden) => {
            let detail =
                format!("you are {actor}, and have: {rights}; to check the fleet, {forbidden}");
            Finding::warn("roles", detail).hint("ask an admin: muster user set")
        }
    };
    findings.push(finding);
}
