//! `muster user`: the users of the client API and their roles. Never makes a user: NATS knows who they are.

use crate::{
    client::{self, Client, ConnectArgs},
    exit::Failure,
    output::{self, Cell, Format},
};
use clap::{Args, Subcommand};
use muster_protocol::{
    GroupName,
    api::{Caller, Endpoint, NameUser, SetUser, Users},
    role::{Rights, Role, User},
};
use nkeys::KeyPair;
use serde_json::json;
use std::{collections::BTreeMap, fs, str::FromStr};

/// A question or an order about users.
#[derive(Subcommand)]
pub enum Command {
    /// Say who you are for the masters, and what you may do
    Whoami,
    /// List the users that have roles of their own
    #[command(alias = "list")]
    Ls,
    /// Give a user these roles, in place of those that the user has
    #[command(after_help = "Examples:
  muster user set UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4 --called alice --role operate
  muster user set @nats/client-bob.nk --called bob --role submit@shops --role read@gateways

The roles, of which each includes those before it: none, read, submit, operate, admin.
docs/PERMISSIONS.md says what each permits.")]
    Set(Set),
    /// Take the roles of a user, who then has the default role of the masters
    Forget {
        /// What NATS calls the user, or @FILE with the seed of the user's nkey
        user: UserName,
    },
}

/// Which user, and which roles.
#[derive(Args)]
pub struct Set {
    /// What NATS calls the user: the public key of an nkey or of a credentials file, or a user name; or @FILE
    /// with the seed of the user's nkey
    user: UserName,
    /// What people call the user
    #[arg(long, value_name = "NAME")]
    called: Option<String>,
    /// A role in a group; without a group, in every group that is not named (repeatable) [default: none]
    #[arg(long = "role", value_name = "ROLE[@GROUP]", required = true)]
    roles: Vec<GivenRole>,
}

/// What NATS calls a user.
#[derive(Clone)]
pub struct UserName(String);

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(file) = text.strip_prefix('@') else { return Ok(UserName(text.into())) };
        let seed =
            fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
        let key = KeyPair::from_seed(seed.trim());
        let key = key.map_err(|_| format!("{file} does not have the seed of an nkey"))?;
        Ok(UserName(key.public_key()))
    }
}

/// A role, in one group or in all others.
#[derive(Clone)]
struct GivenRole {
    role: Role,
    group: Option<GroupName>,
}

impl FromStr for GivenRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, group) = match text.split_once('@') {
            Some((role, group)) => (role, Some(group)),
            None => (text, None),
        };
        let group = group.map(str::parse).transpose();
        Ok(GivenRole {
            role: role.parse().map_err(|error: muster_protocol::role::NoRole| error.to_string())?,
            group: group.map_err(|error: muster_protocol::id::IdError| error.to_string())?,
        })
    }
}

/// Answers the question.
pub async fn run(command: Command, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    match command {
        Command::Set(set) => {
            let rights = rights(set.roles)?;
            let client = Client::connect(connect).await?;
            let asked = SetUser { user: set.user.0, called: set.called, rights };
            let user: User = client.insist(Endpoint::UserSet, &asked).await?;
            show(&user, format)
        }
        Command::Forget { user } => {
            let client = Client::connect(connect).await?;
            let asked = NameUser { user: user.0 };
            let user: User = client.insist(Endpoint::UserForget, &asked).await?;
            show(&user, format)
        }
        Command::Whoami => whoami(&Client::connect(connect).await?, format).await,
        Command::Ls => list(&Client::connect(connect).await?, format).await,
    }
}

/// The roles that were given, each group once.
fn rights(roles: Vec<GivenRole>) -> anyhow::Result<Rights> {
    let mut everywhere = None;
    let mut groups = BTreeMap::new();
    for GivenRole { role, group } in roles {
        let twice = match &group {
            Some(group) => groups.insert(group.clone(), role).is_some(),
            None => everywhere.replace(role).is_some(),
        };
        if twice {
            let place = group.map_or("every group".into(), |group| format!("the group {group}"));
            let text = format!("--role is given twice for {place}: give the highest of them");
            return Err(Failure::user(text).into());
        }
    }
    Ok(Rights { everywhere: everywhere.unwrap_or(Role::None), groups })
}

fn show(user: &User, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(user);
    }
    let name = user.called.as_ref().unwrap_or(&user.user);
    output::line(&match &user.rights {
        Some(rights) => format!("{name} has: {rights}"),
        None => format!(
            "{name} has no roles of its own any more, and has the default role of the masters"
        ),
    })
}

async fn whoami(client: &Client, format: Format) -> anyhow::Result<()> {
    let caller: Caller = client.insist(Endpoint::UserSelf, &json!({})).await?;
    if format == Format::Json {
        return output::json(&caller);
    }
    let Caller { actor, rights } = caller;
    let none = || "-".to_string();
    output::fields(&[
        ("user", actor.user.clone().unwrap_or_else(none)),
        ("called", actor.called.clone().unwrap_or_else(none)),
        ("account", actor.account.clone().unwrap_or_else(|| "the registry's own".into())),
        ("roles", rights.to_string()),
    ])
}

async fn list(client: &Client, format: Format) -> anyhow::Result<()> {
    let ask = |asked| async move { client.insist(Endpoint::UserList, &asked).await };
    let users = client::pages(ask, |page: Users| (page.users, page.more)).await?;
    if format == Format::Json {
        return output::json(&Users { users, more: None });
    }
    let rows = users.iter().map(|user| {
        let rights = user.rights.as_ref().map(ToString::to_string).unwrap_or_default();
        let called = user.called.as_deref().unwrap_or("-");
        vec![Cell::new(called), Cell::new(rights), Cell::new(&user.user)]
    });
    output::table(&["called", "roles", "user"], &[], rows.collect())
}
