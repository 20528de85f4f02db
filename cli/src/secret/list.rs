//! The table of `muster secret ls`: workers and secrets, and which workers lack one. Never decides which may have one.

use crate::output::{self, Cell, Format};
use muster_protocol::{
    WorkerId,
    api::SecretView,
    enrolment::Member,
    grant::{SecretName, SecretRule},
    sealed::key_for,
};
use serde_json::json;
use std::collections::BTreeSet;

/// A worker that may have a secret, which the registry does not keep for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
struct Lack {
    name: SecretName,
    worker: WorkerId,
}

/// The workers that may have one of these secrets, and have none that they can use.
fn lacking(secrets: &[SecretView], members: &[Member]) -> BTreeSet<Lack> {
    let names: BTreeSet<&SecretName> = secrets.iter().map(|view| &view.name).collect();
    let has = |name: &SecretName, worker: &WorkerId| {
        secrets.iter().any(|view| view.usable && view.name == *name && view.worker == *worker)
    };
    let lacks = |name: &SecretName, member: &Member| {
        key_for(member, name).is_ok() && !has(name, &member.worker)
    };
    let lack = |name: &SecretName, member: &Member| {
        let (name, worker) = (name.clone(), member.worker.clone());
        lacks(&name, member).then_some(Lack { name, worker })
    };
    names
        .into_iter()
        .flat_map(|name| members.iter().filter_map(move |member| lack(name, member)))
        .collect()
}

/// Prints them.
pub fn show(secrets: &[SecretView], members: &[Member], format: Format) -> anyhow::Result<()> {
    let lacking = lacking(secrets, members);
    if format == Format::Json {
        return output::json(&json!({ "secrets": secrets, "lacking": lacking }));
    }
    let mut rows: Vec<(&SecretName, &WorkerId, Vec<Cell>)> = Vec::new();
    for view in secrets {
        let modules = view.rule.as_ref().map_or("any".into(), SecretRule::to_string);
        let state = if view.usable { "kept" } else { "for an earlier key" };
        let (set, by) = (output::ago(view.set_at), &view.set_by);
        let cells = [state.into(), set, by.clone(), modules];
        rows.push((&view.name, &view.worker, row(&view.name, &view.worker, cells)));
    }
    let is_listed = |lack: &&Lack| {
        secrets.iter().all(|view| (&view.name, &view.worker) != (&lack.name, &lack.worker))
    };
    for Lack { name, worker } in lacking.iter().filter(is_listed) {
        let cells = ["lacks it", "-", "-", "-"].map(String::from);
        rows.push((name, worker, row(name, worker, cells)));
    }
    rows.sort_by_key(|&(name, worker, _)| (name.clone(), worker.clone()));
    let headers = ["secret", "worker", "state", "set", "by", "modules"];
    let rows = rows.into_iter().map(|(.., row)| row).collect();
    output::table(&headers, &["modules", "by", "set"], rows)
}

fn row(name: &SecretName, worker: &WorkerId, cells: [String; 4]) -> Vec<Cell> {
    let first = [name.to_string(), worker.to_string()];
    first.into_iter().chain(cells).map(Cell::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{Digest, entitlement::Entitlement, time::WallMillis};

    #[test]
    fn a_worker_lacks_what_it_may_have_and_cannot_use() {
        let recipient = "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq";
        let member = |name: &str, told: bool| Member {
            worker: name.parse().expect("a name"),
            key: Some(Digest([1; 32])),
            recipient: told.then(|| recipient.parse().expect("a key")),
            entitlement: Entitlement::any(),
            pending: false,
            revoked: None,
            since: 1,
            unknown: Default::default(),
        };
        let view = |name: &str, worker: &str, usable| SecretView {
            worker: worker.parse().expect("a name"),
            name: name.parse().expect("a name"),
            rule: None,
            set_at: WallMillis(1),
            set_by: "alice".into(),
            usable,
        };
        let members = [member("a", true), member("b", true), member("old", false)];
        let secrets = [view("KEY", "a", true), view("KEY", "b", false), view("OTHER", "b", true)];
        let lacking = lacking(&secrets, &members);
        let lacking: Vec<String> =
            lacking.iter().map(|lack| format!("{} {}", lack.name, lack.worker)).collect();
        assert_eq!(lacking, ["KEY b", "OTHER a"]);
    }
}
