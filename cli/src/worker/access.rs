//! `muster worker invite`, `members`, `approve` and `revoke`: who may be a worker. Never sends the secret of
//! a token anywhere.

use crate::{
    client::{self, Client},
    entitlement::EntitlementArgs,
    exit::Failure,
    output::{self, Cell, Format},
    quantity,
};
use clap::{Args, Subcommand};
use muster_protocol::{
    WorkerId,
    api::{Endpoint, Invite, Invited, Members, NameWorker, Revoked},
    enrolment::{ADDRESSES_MAX, INVITATION_MAX_S, Member, SECRET_SIZE, Token, USES_MAX},
    time::WallMillis,
};
use muster_wire::{process, tls};
use serde_json::json;
use std::time::Duration;

/// A question or an order about who may be a worker.
#[derive(Subcommand)]
pub enum AccessAction {
    /// Let a worker join the fleet: prints a token for its host
    Invite(Box<InviteArgs>),
    /// List the workers that have joined by an invitation, those that wait to be approved, and those that
    /// are revoked
    Members,
    /// Let a worker join that waits to be approved
    Approve {
        /// The worker
        name: WorkerId,
    },
    /// Refuse a worker from now on: its host was stolen, or is not needed any more
    #[command(
        after_help = "Masters close its links and refuse its certificates. Its tasks run again elsewhere when its lease
has ended. To use the host again: muster worker invite NAME"
    )]
    Revoke {
        /// The worker
        name: WorkerId,
    },
}

/// Carries it out.
pub async fn run(client: &Client, action: AccessAction, format: Format) -> anyhow::Result<()> {
    match action {
        AccessAction::Invite(args) => invite(client, *args, format).await,
        AccessAction::Members => members(client, format).await,
        AccessAction::Approve { name } => approve(client, name, format).await,
        AccessAction::Revoke { name } => revoke(client, name, format).await,
    }
}

/// Whom to invite, and to what.
#[derive(Args)]
#[command(after_help = "Examples:
  muster worker invite shop-42 --group shops --label region=eu
  muster worker invite --uses 100 --group shops --ttl 1d      each host chooses its --name
  muster worker invite shop-42 --approve                      and later: muster worker approve shop-42")]
pub struct InviteArgs {
    /// The worker; without it, each worker that joins chooses its own name
    name: Option<WorkerId>,
    /// How many workers may join
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "name",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(USES_MAX)))]
    uses: u32,
    /// How long they may join
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = ttl)]
    ttl: Duration,
    /// Let an operator approve each of them
    #[arg(long)]
    approve: bool,
    /// Where the host of the worker reaches a master that issues certificates (repeatable) [default: where
    /// the masters say that they listen]
    #[arg(long = "master", value_name = "HOST:PORT")]
    masters: Vec<String>,
    #[command(flatten)]
    entitlement: EntitlementArgs,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = quantity::duration(text)?;
    if !(1..=INVITATION_MAX_S).contains(&ttl.as_secs()) {
        return Err(format!("from 1s to {}d", INVITATION_MAX_S / (24 * 3600)));
    }
    Ok(ttl)
}

/// Makes an invitation, and prints its token.
async fn invite(client: &Client, args: InviteArgs, format: Format) -> anyhow::Result<()> {
    let mut secret = [0; SECRET_SIZE];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&process::random()?.to_le_bytes());
    }
    let InviteArgs { name, uses, ttl, approve, masters, entitlement } = args;
    let invite = Invite {
        secret: tls::fingerprint(&secret),
        worker: name.clone(),
        entitlement: entitlement.entitlement(),
        ttl_s: ttl.as_secs(),
        uses,
        approve,
    };
    let invited: Invited = client.insist(Endpoint::WorkerInvite, &invite).await?;
    let mut masters = if masters.is_empty() { invited.masters } else { masters };
    masters.truncate(ADDRESSES_MAX);
    if masters.is_empty() {
        let failure = Failure::user("no master that issues certificates has said where it listens");
        let hint =
            "start one with --ca-key ca.key and --advertise HOST:PORT, or name it with --master";
        return Err(failure.hint(hint).into());
    }
    let token = Token {
        fleet: client.names.fleet().parse()?,
        masters,
        authority: invited.authority,
        secret,
        worker: name.clone(),
    };
    let ends = WallMillis(invited.ends * 1_000);
    if format == Format::Json {
        return output::json(&json!({
            "token": token.to_string(), "worker": name, "uses": uses, "ends": ends,
            "masters": token.masters,
        }));
    }
    let whom =
        name.as_ref().map_or_else(|| format!("{uses} workers of any name"), ToString::to_string);
    let choose = if name.is_none() { " --name NAME" } else { "" };
    output::fields(&[
        ("token", token.to_string()),
        ("for", whom),
        ("until", output::local(ends)),
        ("there", format!("muster-worker --join @FILE{choose} --state-dir /var/lib/muster")),
    ])
}

/// Lists the workers that have joined, or are revoked.
async fn members(client: &Client, format: Format) -> anyhow::Result<()> {
    let ask = |asked| async move { client.insist(Endpoint::WorkerMembers, &asked).await };
    let members = client::pages(ask, |page: Members| (page.members, page.more)).await?;
    if format == Format::Json {
        return output::json(&Members { members, more: None });
    }
    let rows = members.iter().map(|member| {
        vec![
            Cell::new(&member.worker),
            output::state_cell(state(member)),
            Cell::new(&member.entitlement.groups),
            Cell::new(&member.entitlement.labels),
            Cell::new(&member.entitlement.secrets),
            Cell::new(member.key.map_or("by hand".into(), |key| key.to_string())),
        ]
    });
    let headers = ["name", "state", "groups", "labels", "secrets", "key"];
    output::table(&headers, &["key", "secrets", "labels"], rows.collect())
}

fn state(member: &Member) -> &'static str {
    match member {
        Member { key: None, .. } => "revoked",
        member if member.revokes(Some(member.since)) => "revoked",
        Member { pending: true, .. } => "waits",
        _ => "joined",
    }
}

/// Lets a worker in that waits for it.
async fn approve(client: &Client, worker: WorkerId, format: Format) -> anyhow::Result<()> {
    let asked = NameWorker { worker };
    let member: Member = client.insist(Endpoint::WorkerApprove, &asked).await?;
    if format == Format::Json {
        return output::json(&member);
    }
    let key = member.key.map(|key| key.to_string()).unwrap_or_default();
    output::line(&format!("{} may join; its key is {key}", member.worker))
}

/// Revokes the certificates of a worker.
async fn revoke(client: &Client, worker: WorkerId, format: Format) -> anyhow::Result<()> {
    let asked = NameWorker { worker };
    let revoked: Revoked = client.insist(Endpoint::WorkerRevoke, &asked).await?;
    if format == Format::Json {
        return output::json(&revoked);
    }
    let Member { worker, revoked: upto, .. } = &revoked.member;
    let upto = output::local(WallMillis(upto.unwrap_or(0) * 1_000));
    output::line(&format!(
        "{worker} is revoked: masters refuse its certificates that were issued before {upto}.\n\
         Its tasks run again elsewhere when its lease has ended. If it had a NATS user, remove that."
    ))?;
    if !revoked.secrets.is_empty() {
        let secrets: Vec<&str> = revoked.secrets.iter().map(String::as_str).collect();
        output::line(&format!("It could see these secrets; replace them: {}", secrets.join(", ")))?;
    }
    Ok(())
}
