//! Who this worker is: its name, its masters, its certificate. An operator gives it all of that as options,
//! or it joins the fleet with a token, and keeps what it got in its state directory. Never sends its key
//! anywhere, and never lets a certificate end that it may renew.

use crate::{
    config::Config,
    dial::{DialTls, Dialler},
    seal_key::SealKey,
};
use anyhow::{Context as _, bail};
use muster_protocol::{
    Digest, GroupName, WorkerId,
    enrolment::{Recipient, Token},
    entitlement::Entitlement,
    message::{Join, JoinReply, Joined},
    subject::Names,
};
use muster_wire::{
    authority, clock,
    frames::{self, FrameReader, FrameWriter},
    process, tls,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

/// TLS with the present certificate. Dials clone it.
pub(crate) type PresentTls = Arc<Mutex<DialTls>>;

/// How long to wait before all masters are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How long to wait at least before a certificate is asked for again that could not be renewed.
const RENEW_AGAIN: Duration = Duration::from_secs(5);

/// How long a master may take to decide.
const DECIDED_WITHIN: Duration = Duration::from_secs(15);

/// The directory of what a worker got when it joined, in its state directory.
const DIR: &str = "identity";

/// See the [module](self).
pub(crate) struct Identity {
    pub name: WorkerId,
    pub fleet: GroupName,
    pub masters: Vec<String>,
    pub tls: DialTls,
    pub entitlement: Entitlement,
    /// The key to which its secrets are encrypted; absent if an operator made its certificate.
    pub seal_key: Option<Arc<SealKey>>,
    /// What renews its certificate; absent if an operator made that.
    pub renewal: Option<Renewal>,
}

/// What a worker that has joined needs besides its certificate, as JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Note {
    worker: WorkerId,
    fleet: GroupName,
    masters: Vec<String>,
    authority: Digest,
    /// The key for secrets that masters were told; a worker of an earlier version has told none.
    #[serde(default)]
    recipient: Option<Recipient>,
}

/// Renews the certificate of a worker that has joined.
#[derive(Clone)]
pub(crate) struct Renewal {
    dir: PathBuf,
    note: Note,
    recipient: Recipient,
}

fn files(dir: &Path) -> tls::Files {
    let file = |name: &str| dir.join(name);
    tls::Files { ca: file("ca.pem"), cert: file("worker.pem"), key: file("worker.key") }
}

/// What a worker's options say about who it is.
pub(crate) enum Claim {
    /// They say it, and its certificate and key have been read.
    Given(Box<Identity>),
    /// It has joined a fleet, or joins with this token.
    Joins(Option<Token>),
}

impl Claim {
    /// The masters that it dials, as far as that is known before it has joined.
    pub(crate) fn masters(&self, config: &Config) -> Vec<String> {
        match self {
            Claim::Given(identity) => identity.masters.clone(),
            Claim::Joins(token) => {
                let note = fs::read_to_string(note(config)).ok();
                let note = note.and_then(|text| serde_json::from_str::<Note>(&text).ok());
                let noted = note.map(|note| note.masters).unwrap_or_default();
                let named = token.iter().flat_map(|token| token.masters.clone());
                named.chain(noted).chain(config.masters.clone()).collect()
            }
        }
    }

    /// Reads the files that the options name. None of them is read again.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        let (Some(ca), Some(cert), Some(key)) = (&config.ca, &config.cert, &config.key) else {
            let token = if note(config).exists() { None } else { config.token()? };
            return Ok(Claim::Joins(token));
        };
        let files = tls::Files { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
        let name = config.name.clone();
        let name = name.context("with --cert, --name has to say what name is in it")?;
        if config.masters.is_empty() {
            bail!("with --cert, --master has to say where a master listens: HOST:PORT");
        }
        let (tls, entitlement) = credentials(&files)?;
        let (fleet, masters) = (config.fleet.clone(), config.masters.clone());
        let (seal_key, renewal) = (None, None);
        let identity = Identity { name, fleet, masters, tls, entitlement, seal_key, renewal };
        Ok(Claim::Given(Box::new(identity)))
    }

    /// Joins the fleet first if the worker has a token and has not joined yet.
    pub(crate) async fn settle(self, config: &Config) -> anyhow::Result<Identity> {
        let token = match self {
            Claim::Given(identity) => return Ok(*identity),
            Claim::Joins(token) => token,
        };
        let (dir, note) = (config.state_dir.join(DIR), note(config));
        let text = match fs::read_to_string(&note) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let token = token.context(
                    "it does not know who it is: give it a token of `muster worker invite` with --join, or \
                     --name, --master, --ca, --cert and --key",
                )?;
                join(&dir, &token, config.name.clone()).await?;
                fs::read_to_string(&note).with_context(|| note.display().to_string())?
            }
            Err(error) => return Err(error).with_context(|| note.display().to_string()),
        };
        let note: Note = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; remove it and join again", note.display()))?;
        if let Some(name) = config.name.as_ref().filter(|name| **name != note.worker) {
            bail!("it has joined as {}, not as {name}: leave --name out", note.worker);
        }
        let (name, fleet) = (note.worker.clone(), note.fleet.clone());
        let masters = match config.masters.is_empty() {
            true => note.masters.clone(),
            false => config.masters.clone(),
        };
        let (tls, entitlement) = credentials(&files(&dir))?;
        // A worker that has joined by an earlier version has no such key yet.
        let key = SealKey::read_or_make(&dir)?;
        let renewal = Some(Renewal { dir, note, recipient: key.recipient().clone() });
        let seal_key = Some(Arc::new(key));
        Ok(Identity { name, fleet, masters, tls, entitlement, seal_key, renewal })
    }
}

/// The file of a worker that has joined.
fn note(config: &Config) -> PathBuf {
    config.state_dir.join(DIR).join("joined.json")
}

/// TLS with a certificate, and what the certificate permits.
fn credentials(files: &tls::Files) -> anyhow::Result<(DialTls, Entitlement)> {
    let tls = DialTls::new(tls::client(files)?).context("QUIC cannot be set up")?;
    Ok((tls, tls::Identity::of_file(&files.cert)?.entitlement))
}

/// Joins a fleet: makes a key, and asks masters until one of them issues a certificate.
async fn join(dir: &Path, token: &Token, name: Option<WorkerId>) -> anyhow::Result<()> {
    let made = || -> anyhow::Result<String> {
        fs::create_dir_all(dir)?;
        let file = files(dir).key;
        // A key of an earlier try: masters have counted it, and do not count it again.
        if let Ok(key) = fs::read_to_string(&file) {
            return Ok(key);
        }
        let (key, _) = authority::request()?;
        process::write_whole_as(&file, &key, 0o600)?;
        Ok(key)
    };
    let key = made().with_context(|| format!("{} cannot be written to", dir.display()))?;
    let request = authority::request_of(&key)?;
    let recipient = SealKey::read_or_make(dir)?.recipient().clone();
    let knock = Join {
        secret: Some(token.secret.to_vec().into()),
        worker: name.or_else(|| token.worker.clone()),
        request: request.into(),
        recipient: Some(recipient.clone()),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let desk = Desk::new(token.fleet.clone(), token.authority)?;
    tracing::info!(fleet = %token.fleet, "joining");
    let mut waits = false;
    loop {
        match desk.ask_any(&token.masters, &knock).await? {
            Some(JoinReply::Joined(joined)) => {
                let mut note = Note {
                    worker: joined.worker.clone(),
                    fleet: token.fleet.clone(),
                    masters: joined.masters.clone(),
                    authority: token.authority,
                    recipient: Some(recipient),
                };
                if note.masters.is_empty() {
                    note.masters = token.masters.clone();
                }
                keep(dir, &note, &joined)?;
                tracing::info!(worker = %joined.worker, "joined");
                return Ok(());
            }
            Some(JoinReply::Wait) if !waits => {
                waits = true;
                let name = knock.worker.as_ref().map(ToString::to_string).unwrap_or_default();
                let key = authority::key_of(&knock.request)?;
                tracing::info!(
                    %key,
                    "an operator has to approve it, if the key is the same there: muster worker approve {name}"
                );
            }
            _ => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Stores what a master has sent. The note comes last: it says that the rest is there.
fn keep(dir: &Path, note: &Note, joined: &Joined) -> anyhow::Result<()> {
    if tls::authority_of(&joined.authority)? != note.authority {
        bail!("the master has sent the certificate of another authority");
    }
    let tls::Files { ca, cert, .. } = files(dir);
    let text = serde_json::to_string(note)?;
    let write = || {
        process::write_whole(&ca, &joined.authority)?;
        process::write_whole(&cert, &joined.cert)?;
        process::write_whole(&dir.join("joined.json"), &text)
    };
    write().with_context(|| format!("{} cannot be written to", dir.display()))
}

/// Where workers join: asks masters for certificates.
struct Desk {
    dialler: Dialler,
    tls: DialTls,
}

impl Desk {
    fn new(fleet: GroupName, authority: Digest) -> anyhow::Result<Self> {
        let tls = DialTls::new(tls::joining(authority)?).context("QUIC cannot be set up")?;
        Ok(Desk { dialler: Dialler::new(&Names::new(fleet))?, tls })
    }

    /// Asks one master after the other, until one has decided. An error is a refusal.
    async fn ask_any(&self, masters: &[String], join: &Join) -> anyhow::Result<Option<JoinReply>> {
        for master in masters {
            match self.ask(master, join).await {
                Ok(JoinReply::Refused(why)) => bail!("{why}"),
                Ok(JoinReply::Unavailable(cause)) => {
                    tracing::warn!(master, cause, "no certificate from this master; asking on");
                }
                Ok(reply) => return Ok(Some(reply)),
                Err(error) => {
                    let cause = format!("{error:#}");
                    tracing::warn!(master, cause, "no certificate from this master; asking on");
                }
            }
        }
        Ok(None)
    }

    async fn ask(&self, master: &str, join: &Join) -> anyhow::Result<JoinReply> {
        let connection = self.dialler.dial(&self.tls, master, false).await?;
        let asked = async {
            let (send, receive) = connection.open_bi().await?;
            let encoding = frames::encoding(&connection);
            let mut writer = FrameWriter::new(send, encoding);
            writer.send(join).await?;
            let mut reader = FrameReader::new(receive, encoding);
            let reply = tokio::time::timeout(DECIDED_WITHIN, reader.next::<JoinReply>()).await??;
            reply.context("it closed the connection")
        };
        let reply = asked.await;
        connection.close(0, b"");
        reply
    }
}

impl Renewal {
    /// Renews the certificate at half of its time, for ever, and lets dials use the new one. Renews it at once if
    /// masters have not been told the present key for secrets.
    pub(crate) async fn keep_up(self, present: PresentTls) {
        let mut is_told = self.note.recipient.as_ref() == Some(&self.recipient);
        loop {
            let (lasts, left) = self.times();
            // At most half of its time, also on a host whose clock is behind.
            let due = left.saturating_sub(lasts / 2).min(lasts / 2);
            let due = if is_told { due } else { Duration::ZERO };
            tokio::time::sleep(due.max(ASK_AGAIN)).await;
            while let Err(error) = self.renew(&present).await {
                let cause = format!("{error:#}");
                tracing::warn!(cause, "the certificate cannot be renewed yet; trying again");
                let (_, left) = self.times();
                // Often when it ends soon, and when it has ended.
                tokio::time::sleep(left / 20 + RENEW_AGAIN).await;
            }
            is_told = true;
            tracing::info!("the certificate was renewed");
        }
    }

    /// How long the present certificate lasts in all, and from now on.
    fn times(&self) -> (Duration, Duration) {
        let times = tls::Identity::of_file(&files(&self.dir).cert).ok();
        let times = times.and_then(|it| it.entitlement.issued.zip(it.entitlement.ends));
        let (issued, ends) = times.unwrap_or_default();
        let left = (ends * 1_000).saturating_sub(clock::wall().0);
        (Duration::from_secs(ends.saturating_sub(issued)), Duration::from_millis(left))
    }

    async fn renew(&self, present: &PresentTls) -> anyhow::Result<()> {
        let files = files(&self.dir);
        let key = fs::read_to_string(&files.key)
            .with_context(|| format!("{} cannot be read", files.key.display()))?;
        let join = Join {
            secret: None,
            worker: Some(self.note.worker.clone()),
            request: authority::request_of(&key)?.into(),
            recipient: Some(self.recipient.clone()),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let desk = Desk::new(self.note.fleet.clone(), self.note.authority)?;
        match desk.ask_any(&self.note.masters, &join).await? {
            Some(JoinReply::Joined(joined)) => {
                let recipient = Some(self.recipient.clone());
                let mut note = Note { recipient, ..self.note.clone() };
                if !joined.masters.is_empty() {
                    note.masters = joined.masters.clone();
                }
                keep(&self.dir, &note, &joined)?;
                let (renewed, _) = credentials(&files)?;
                *present.lock().expect("no holder of this lock panics") = renewed;
                Ok(())
            }
            _ => bail!("no master has issued one"),
        }
    }
}
