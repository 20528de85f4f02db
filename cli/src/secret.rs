//! `muster secret`: secrets that the registry keeps for workers, encrypted to each worker's own key on this machine.
//! Never takes a value as an argument, and never sends one that is not encrypted.

mod list;

use crate::{
    client::{self, Client, ConnectArgs},
    exit::{self, Failure},
    output::{self, Format},
    terminal,
};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use muster_protocol::{
    Digest, GroupName, WorkerId,
    api::{Endpoint, Members, NameSecret, SecretView, SecretViews, SetSecret},
    enrolment::{Member, Recipient},
    grant::{SecretName, SecretRule, check_value},
    sealed::key_for,
    signature::SignerKey,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    path::PathBuf,
    str::FromStr,
};

/// A question or an order about secrets.
#[derive(Subcommand)]
pub enum Command {
    /// Keep a secret for workers that have joined, encrypted to the key of each
    #[command(after_help = "Examples:
  muster secret set API_KEY --value-file api-key --group shops --module sha256:…
  pass show api-key | muster secret set API_KEY - --worker shop-42 --signer RWQ…

A worker may have a secret if its certificate permits the name: muster worker invite --secret NAME. Workers hear of it
within a minute. One that joins later has it after the same command again; `muster secret ls` shows which lack it.")]
    Set(Set),
    /// List the secrets that the registry keeps, and the workers that lack them
    #[command(alias = "list")]
    Ls,
    /// Forget a secret, for all workers or some
    Forget(Forget),
}

/// Which secret, for which workers and modules.
#[derive(Args)]
pub struct Set {
    /// The name of the secret, which is the name of the variable that tasks see
    name: SecretName,
    /// Read the value from standard input
    #[arg(value_name = "-", required_unless_present = "value_file")]
    stdin: Option<Stdin>,
    /// The file with the value; a line break at its end does not count
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    value_file: Option<PathBuf>,
    /// Each worker that may belong to this group (repeatable)
    #[arg(long = "group", value_name = "NAME", required_unless_present = "workers")]
    groups: Vec<GroupName>,
    /// This worker (repeatable)
    #[arg(long = "worker", value_name = "NAME")]
    workers: Vec<WorkerId>,
    /// A module that may have it; without this and --signer, every module may (repeatable)
    #[arg(long = "module", value_name = "DIGEST")]
    modules: Vec<Digest>,
    /// A key whose signed modules may have it (repeatable)
    #[arg(long = "signer", value_name = "RW…")]
    signers: Vec<SignerKey>,
}

/// The word that stands for standard input.
#[derive(Clone, Copy)]
struct Stdin;

impl FromStr for Stdin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "-" => Ok(Stdin),
            _ => Err(
                "every program on this machine sees arguments: give the value in a file (--value-file FILE), \
                      or on standard input (-)",
            ),
        }
    }
}

/// Which secret, of which workers.
#[derive(Args)]
pub struct Forget {
    /// The name of the secret
    name: SecretName,
    /// Only that of this worker (repeatable) [default: every worker that has it]
    #[arg(long = "worker", value_name = "NAME")]
    workers: Vec<WorkerId>,
}

/// Carries it out.
pub async fn run(command: Command, connect: &ConnectArgs, format: Format) -> anyhow::Result<()> {
    match command {
        Command::Set(set) => {
            let value = value(set.value_file.as_deref())?;
            self::set(&Client::connect(connect).await?, set, &value, format).await
        }
        Command::Ls => {
            let client = Client::connect(connect).await?;
            list::show(&secrets(&client).await?, &members(&client).await?, format)
        }
        Command::Forget(asked) => forget(&Client::connect(connect).await?, asked, format).await,
    }
}

/// The value in a file, or on standard input.
fn value(file: Option<&std::path::Path>) -> anyhow::Result<String> {
    let text = match file {
        Some(file) => fs::read_to_string(file)
            .map_err(|error| Failure::user(format!("cannot read {}: {error}", file.display())))?,
        None => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            text
        }
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    check_value(text).map_err(|why| Failure::user(format!("the secret {why}")))?;
    if text.is_empty() {
        return Err(Failure::user("the value of the secret is empty").into());
    }
    Ok(text.into())
}

async fn members(client: &Client) -> anyhow::Result<Vec<Member>> {
    let ask = |asked| async move { client.insist(Endpoint::WorkerMembers, &asked).await };
    client::pages(ask, |page: Members| (page.members, page.more)).await
}

async fn secrets(client: &Client) -> anyhow::Result<Vec<SecretView>> {
    let ask = |asked| async move { client.insist(Endpoint::SecretList, &asked).await };
    client::pages(ask, |page: SecretViews| (page.secrets, page.more)).await
}

/// What the options name: nothing means every module.
fn rule(set: &Set) -> anyhow::Result<Option<SecretRule>> {
    let digests: BTreeSet<Digest> = set.modules.iter().copied().collect();
    let signers: BTreeSet<SignerKey> = set.signers.iter().copied().collect();
    if digests.is_empty() && signers.is_empty() {
        return Ok(None);
    }
    let rule = SecretRule { digests, signers };
    rule.check().map_err(Failure::user)?;
    Ok(Some(rule))
}

/// The named workers, and those that may belong to a named group. With the names that nobody has.
fn wanted(members: Vec<Member>, set: &Set) -> (Vec<Member>, Vec<WorkerId>) {
    let is_named = |member: &Member| set.workers.contains(&member.worker);
    let is_of = |member: &Member| {
        set.groups.iter().any(|group| member.entitlement.groups.has(group.as_str()))
    };
    let strange =
        set.workers.iter().filter(|worker| members.iter().all(|member| member.worker != **worker));
    let strange = strange.cloned().collect();
    (members.into_iter().filter(|member| is_named(member) || is_of(member)).collect(), strange)
}

/// A worker that does not have the secret now, and why. The reason continues a sentence after its name.
struct Left {
    worker: WorkerId,
    why: String,
    /// Whether it may have the secret, and setting it has failed.
    failed: bool,
}

async fn set(client: &Client, set: Set, value: &str, format: Format) -> anyhow::Result<()> {
    let rule = rule(&set)?;
    let (wanted, strange) = wanted(members(client).await?, &set);
    let skip = |worker, why| Left { worker, why, failed: false };
    let unknown = "has not joined by an invitation, or you may not see it";
    let mut left: Vec<Left> =
        strange.into_iter().map(|worker| skip(worker, unknown.into())).collect();
    let mut has: Vec<SecretView> = Vec::new();
    let bar = bar(wanted.len());
    for member in wanted {
        let worker = member.worker.clone();
        match key_for(&member, &set.name) {
            Err(why) => left.push(skip(worker, why.to_string())),
            Ok(recipient) => {
                let (name, rule) = (set.name.clone(), rule.clone());
                match keep(client, &worker, recipient, name, rule, value).await {
                    Ok(view) => has.push(view),
                    Err(error) => {
                        left.push(Left { worker, why: format!("{error:#}"), failed: true });
                    }
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let failed = left.iter().filter(|left| left.failed).count();
    if format == Format::Json {
        let skipped = left
            .iter()
            .map(|left| json!({ "worker": left.worker, "why": left.why, "failed": left.failed }));
        let skipped: Vec<_> = skipped.collect();
        output::json(&json!({ "name": set.name, "set": has, "skipped": skipped }))?;
    } else {
        for Left { worker, why, failed } in &left {
            let text = format!("skipped {worker}: it {why}");
            if *failed { exit::error(&format!("{worker}: {why}")) } else { exit::warn(&text) }
        }
        let names: Vec<&str> = has.iter().map(|view| view.worker.as_str()).collect();
        if !names.is_empty() {
            output::line(&format!("{} is kept for: {}", set.name, names.join(", ")))?;
        }
    }
    if failed > 0 {
        return Err(Failure::new(format!("{failed} workers did not get the secret")).into());
    }
    if has.is_empty() {
        let failure = Failure::user(format!("no worker got the secret {}", set.name));
        return Err(failure.hint("see which have joined: muster worker members").into());
    }
    Ok(())
}

/// Sends the value to masters, encrypted to the worker.
async fn keep(
    client: &Client,
    worker: &WorkerId,
    recipient: &Recipient,
    name: SecretName,
    rule: Option<SecretRule>,
    value: &str,
) -> anyhow::Result<SecretView> {
    let file = encrypted(value, recipient)?.into();
    let (worker, recipient) = (worker.clone(), recipient.clone());
    client.insist(Endpoint::SecretSet, &SetSecret { worker, name, recipient, rule, file }).await
}

/// The value, as only the owner of the key can read it.
fn encrypted(value: &str, recipient: &Recipient) -> anyhow::Result<Vec<u8>> {
    let recipient: age::x25519::Recipient = recipient.as_str().parse().map_err(|why: &str| {
        anyhow::anyhow!("{recipient} is not a key of age ({why}): let the worker join again")
    })?;
    age::encrypt(&recipient, value.as_bytes()).context("the secret cannot be encrypted")
}

async fn forget(client: &Client, asked: Forget, format: Format) -> anyhow::Result<()> {
    let Forget { name, workers } = asked;
    let of = match workers.is_empty() {
        false => workers,
        true => {
            let all = secrets(client).await?.into_iter().filter(|view| view.name == name);
            all.map(|view| view.worker).collect()
        }
    };
    if of.is_empty() {
        let failure = Failure::user(format!("the registry keeps no secret {name}"));
        return Err(failure.hint("muster secret ls").into());
    }
    let bar = bar(of.len());
    for worker in &of {
        let asked = NameSecret { worker: worker.clone(), name: name.clone() };
        let _: SecretView = client.insist(Endpoint::SecretForget, &asked).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if format == Format::Json {
        return output::json(&json!({ "name": name, "forgotten": of }));
    }
    let of: Vec<&str> = of.iter().map(WorkerId::as_str).collect();
    output::line(&format!("{name} is forgotten for: {}", of.join(", ")))
}

/// A progress bar, if there is more than one worker.
fn bar(workers: usize) -> ProgressBar {
    if workers < 2 {
        return ProgressBar::hidden();
    }
    terminal::progress_bar(Some(workers as u64), "{pos}/{len} workers in {elapsed}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::sealed::check_file;

    #[test]
    fn what_is_sent_is_a_file_of_age_for_the_worker() {
        let identity = age::x25519::Identity::generate();
        let recipient: Recipient =
            identity.to_public().to_string().parse().expect("as age writes it");
        let file = encrypted("correct horse", &recipient).expect("encrypted");
        assert_eq!(check_file(&file), Ok(()));
        assert!(!file.windows(7).any(|bytes| bytes == b"correct"));
        let value = age::decrypt(&identity, &file).expect("its own");
        assert_eq!(value, b"correct horse");
    }

    #[test]
    fn a_key_with_a_wrong_checksum_is_refused() {
        let changed = "age1ql3z7hjy54pq3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let recipient: Recipient = changed.parse().expect("its form is right");
        let error = encrypted("correct horse", &recipient).expect_err("no key").to_string();
        assert!(error.contains("let the worker join again"), "{error}");
    }

    #[test]
    fn a_value_is_no_argument() {
        assert!("-".parse::<Stdin>().is_ok());
        assert!("hush".parse::<Stdin>().is_err_and(|why| why.contains("--value-file")));
    }
}
