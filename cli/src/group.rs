//! `muster group`: the settings of groups. Never makes a group: a group is what its workers and tasks name.

use crate::{
    client::{self, Client, ConnectArgs},
    output::{self, Cell, Format},
};
use clap::{Args, Subcommand};
use muster_protocol::{
    GroupName,
    api::{Endpoint, Groups, SetGroup},
    group::Group,
    signature::SignerKey,
};

/// A question or an order about groups.
#[derive(Subcommand)]
pub enum Command {
    /// List the groups that have settings of their own
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
                    signers_of(&group)
                ),
            })
        }
        Command::Ls => {
            let client = &client;
            let ask = |asked| async move { client.insist(Endpoint::GroupList, &asked).await };
            let groups = client::pages(ask, |page: Groups| (page.groups, page.more)).await?;
            if format == Format::Json {
                return output::json(&Groups { groups, more: None });
            }
            let row =
                |group: &Group| vec![Cell::new(group.group.as_str()), Cell::new(signers_of(group))];
            output::table(&["group", "signers"], &[], groups.iter().map(row).collect())
        }
    }
}

/// The ids of a group's keys.
fn signers_of(group: &Group) -> String {
    let ids: Vec<String> = group.signers.iter().map(|key| key.id.to_string()).collect();
    ids.join(", ")
}
