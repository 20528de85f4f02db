//! `muster group`: the settings of groups. Never makes a group: a group is what its workers and tasks name.

use crate::{
    client::{self, Client, ConnectArgs},
    exit::{self, Failure},
    output::{self, Cell, Format},
    quantity,
};
use clap::{Args, Subcommand};
use muster_protocol::{
    GroupName,
    api::{Endpoint, GroupLoad, GroupLoads, Groups, SetGroup},
    group::Group,
    lease::LeaseState,
    signature::SignerKey,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A question or an order about groups.
#[derive(Subcommand)]
pub enum Command {
    /// List the groups: their workers, their queues, and who signs their modules
    #[command(alias = "list")]
    Ls,
    /// Give a group these settings, in place of those that it has
    #[command(after_help = "Examples:
  muster group set shops --signer RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3
  muster group set shops --any-module

Masters then refuse a task in the group unless one of the keys has signed its module. They verify the signature over
the stored bytes. Tasks that were stored before run. `muster module key` makes a key.")]
    Set(Set),
}

/// Which group, and which settings.
#[derive(Args)]
pub struct Set {
    /// The group
    group: GroupName,
    /// A public key (RW…) whose owner signs the modules that may run in the group (repeatable)
    #[arg(long = "signer", value_name = "KEY", required_unless_present = "any_module")]
    signers: Vec<SignerKey>,
    /// Let every module run in the group
    #[arg(long, conflicts_with = "signers")]
    any_module: bool,
}

/// Answers the question.
pub async fn run(command: Command, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    let client = Client::connect(connect).await?;
    match command {
        Command::Set(Set { group, signers, any_module: _ }) => {
            let asked = SetGroup { group, signers: signers.into_iter().collect() };
            let group: Group = client.insist(Endpoint::GroupSet, &asked).await?;
            if format == Format::Json {
                return output::json(&group);
            }
            output::line(&match group.signers.is_empty() {
                true => format!("every module may run in the group {}", group.group),
                false => format!(
                    "the group {} runs only modules that are signed by {}",
                    group.group,
                    signers_of(&group.signers)
                ),
            })
        }
        Command::Ls => {
            let client = &client;
            let ask = |asked| async move { client.insist(Endpoint::GroupList, &asked).await };
            let settings = client::pages(ask, |page: Groups| (page.groups, page.more)).await?;
            let ask = |asked| async move {
                let loads = client.insist_if_served(Endpoint::GroupLoad, &asked).await?;
                let hint = "upgrade the masters to this version";
                loads.ok_or_else(|| {
                    Failure::user("no master knows the load of groups").hint(hint).into()
                })
            };
            let loads = client::loads(None, ask).await;
            let GroupLoads { groups: loads, others_queued, .. } =
                loads.map_err(|error: anyhow::Error| error)?;
            let groups = rows(settings, loads);
            if format == Format::Json {
                return output::json(&serde_json::json!({ "groups": groups }));
            }
            let headers = [
                "group",
                "live",
                "slots",
                "running",
                "queued",
                "oldest",
                "why it waits",
                "signers",
            ];
            output::table(&headers, &["slots", "signers"], groups.iter().map(cells).collect())?;
            if others_queued > 0 {
                exit::warn(&format!(
                    "{others_queued} more tasks wait in further groups without a worker"
                ));
            }
            Ok(())
        }
    }
}

/// What a group has to do, and its settings.
#[derive(Serialize)]
struct GroupRow {
    #[serde(flatten)]
    load: GroupLoad,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    signers: BTreeSet<SignerKey>,
}

/// A row for each group that has a worker, tasks or settings of its own, in the order of the names.
fn rows(settings: Vec<Group>, loads: Vec<GroupLoad>) -> Vec<GroupRow> {
    let row = |load: GroupLoad| (load.group.clone(), GroupRow { load, signers: BTreeSet::new() });
    let mut rows: BTreeMap<GroupName, GroupRow> = loads.into_iter().map(row).collect();
    for Group { group, signers, .. } in settings {
        let bare = || GroupLoad { group: group.clone(), ..GroupLoad::default() };
        rows.entry(group.clone()).or_insert_with(|| row(bare()).1).signers = signers;
    }
    rows.into_values().collect()
}

fn cells(GroupRow { load, signers }: &GroupRow) -> Vec<Cell> {
    let live = load.workers.get(&LeaseState::Live).copied().unwrap_or(0);
    vec![
        Cell::new(load.group.as_str()),
        Cell::new(live),
        Cell::new(load.slots),
        Cell::new(load.dispatched),
        Cell::new(load.queued),
        Cell::new(load.waited().map_or(String::new(), quantity::show_duration)),
        Cell::new(load.next.as_ref().map_or("", |next| &next.why)),
        Cell::new(signers_of(signers)),
    ]
}

/// The ids of keys.
fn signers_of(signers: &BTreeSet<SignerKey>) -> String {
    let ids: Vec<String> = signers.iter().map(|key| key.id.to_string()).collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_row_if_it_has_a_load_or_settings() {
        let name = |name: &str| name.parse::<GroupName>().expect("a name");
        let load = |of: &str| GroupLoad { group: name(of), queued: 7, ..GroupLoad::default() };
        let rows =
            rows(vec![Group::new(name("b")), Group::new(name("a"))], vec![load("b"), load("c")]);
        let seen = |row: &GroupRow| (row.load.group.to_string(), row.load.queued);
        let seen: Vec<_> = rows.iter().map(seen).collect();
        assert_eq!(seen, [("a".into(), 0), ("b".into(), 7), ("c".into(), 7)]);
    }
}
