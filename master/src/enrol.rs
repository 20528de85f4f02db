//! Lets workers join: carries out what [`enrolment`](muster_protocol::enrolment) decides, in the registry,
//! and signs certificates. Never signs before the registry has the member.

use crate::{
    config::Config,
    registry::{ChangeError, Registry},
};
use anyhow::Context as _;
use muster_protocol::{
    ABSENT, Digest, Revision, WorkerId,
    enrolment::{Admission, Knock, Member, Recipient, Refused, SECRET_SIZE, invitation_id},
    lease::CasAnswer,
    message::{Join, JoinReply, Joined},
    subject::Names,
};
use muster_wire::{
    authority::{self, Authority},
    cas, clock, tls,
};
use std::{sync::Arc, time::Duration};

/// How often a decision is made again because somebody else has written meanwhile.
const TRIES_MAX: usize = 8;

/// Why it is not known whether something was written.
const SILENT: &str = "the registry did not answer; ask again";

/// The authority of the fleet, as far as this master has it.
pub(crate) struct Registrar {
    names: Arc<Names>,
    /// The certificate of the authority, as PEM.
    pem: String,
    fingerprint: Digest,
    /// The authority with its key, if this master issues certificates.
    authority: Option<Authority>,
    lasts: Duration,
}

/// The time since 1970, in seconds.
pub(crate) fn now() -> u64 {
    clock::wall().0 / 1_000
}

impl Registrar {
    pub(crate) fn new(config: &Config, names: Arc<Names>) -> anyhow::Result<Self> {
        let key = config.ca_key.as_deref();
        let authority = key.map(|key| Authority::read(&config.ca, key)).transpose()?;
        let pem = std::fs::read_to_string(&config.ca)
            .with_context(|| format!("{} cannot be read", config.ca.display()))?;
        let fingerprint = tls::authority_of(&pem)?;
        let lasts = Duration::from_secs(config.certificate_s);
        Ok(Registrar { names, pem, fingerprint, authority, lasts })
    }

    /// The SHA-256 of the authority's certificate.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Answers a worker that wants to join, or needs another certificate. `masters` is where all masters
    /// listen.
    pub(crate) async fn answer(
        &self,
        registry: &Registry,
        masters: Vec<String>,
        join: Join,
    ) -> JoinReply {
        let Some(authority) = &self.authority else {
            return JoinReply::Unavailable("this master issues no certificates".into());
        };
        let key = match authority::key_of(&join.request) {
            Ok(key) => key,
            Err(error) => return JoinReply::Refused(error.to_string()),
        };
        let told = join.recipient.clone();
        let decided = match &join.secret {
            Some(secret) if secret.len() == SECRET_SIZE => {
                let secret = tls::fingerprint(secret);
                let (worker, recipient) = (join.worker, join.recipient);
                admit(registry, Knock { secret, worker, key, recipient }).await
            }
            Some(_) => Err(JoinReply::Refused("the secret has another length".into())),
            None => renew(registry, join.worker, key).await,
        };
        let decided = match decided {
            Ok(member) => note_recipient(registry, member, key, told).await,
            Err(reply) => Err(reply),
        };
        let member = match decided {
            Ok(member) => member,
            Err(reply) => return reply,
        };
        let (name, since) = (&member.worker, Duration::from_secs(member.since));
        let (entitlement, lasts) = (&member.entitlement, self.lasts);
        match authority.sign(&self.names, name, entitlement, since, lasts, &join.request) {
            Ok(cert) => {
                let (worker, authority) = (name.clone(), self.pem.clone());
                JoinReply::Joined(Joined { worker, cert, authority, masters })
            }
            Err(error) => JoinReply::Refused(error.to_string()),
        }
    }
}

/// Lets a worker in that shows the secret of an invitation.
async fn admit(registry: &Registry, knock: Knock) -> Result<Member, JoinReply> {
    let refuse = |refused: Refused| JoinReply::Refused(refused.to_string());
    let mut gone = ABSENT;
    for _ in 0..TRIES_MAX {
        let found = read(registry.read_invitation(&invitation_id(knock.secret)).await)?;
        let (invitation, counted_at) = found.ok_or_else(|| refuse(Refused::Unknown))?;
        let worker = invitation.name(&knock).map_err(refuse)?;
        let known = read(registry.read_member(&worker).await)?;
        let member = known.as_ref().map(|(member, _)| member);
        let (counted, member) = match invitation.admit(&knock, member, now()).map_err(refuse)? {
            Admission::Certify(member) => return Ok(member),
            Admission::Wait(_) => return Err(JoinReply::Wait),
            Admission::Admit(counted, member) => (counted, member),
        };
        if *counted != invitation {
            match registry.write_invitation(counted_at, &counted).await {
                CasAnswer::Written(_) => {}
                CasAnswer::Conflict(_) | CasAnswer::Gone(_) => continue,
                CasAnswer::Unknown => return Err(silent()),
            }
        }
        let expect = known.map_or(gone, |(_, revision)| revision);
        match registry.write_member(expect, &member).await {
            CasAnswer::Written(_) => tracing::info!(%worker, pending = member.pending, "joined"),
            CasAnswer::Conflict(_) => {}
            // An operator has deleted the key by hand: the write must replace the tombstone.
            CasAnswer::Gone(mark) => gone = mark,
            CasAnswer::Unknown => return Err(silent()),
        }
    }
    Err(busy())
}

/// A worker that has joined before and needs another certificate.
async fn renew(
    registry: &Registry,
    worker: Option<WorkerId>,
    key: Digest,
) -> Result<Member, JoinReply> {
    let worker = worker.ok_or_else(|| JoinReply::Refused("it does not say its name".into()))?;
    let refuse = |why: &str| JoinReply::Refused(format!("the worker {worker} {why}"));
    let (member, _) = read(registry.read_member(&worker).await)?
        .ok_or_else(|| refuse("has not joined by an invitation"))?;
    member.may_renew(Some(member.since), key).map_err(refuse)?;
    Ok(member)
}

/// Notes to which key the secrets of a worker are to be encrypted, if it has told another one than before.
async fn note_recipient(
    registry: &Registry,
    member: Member,
    key: Digest,
    told: Option<Recipient>,
) -> Result<Member, JoinReply> {
    let Some(told) = told.filter(|told| member.recipient.as_ref() != Some(told)) else {
        return Ok(member);
    };
    let noted = registry.change_member::<ChangeError>(&member.worker, |known| {
        Ok(known.unwrap_or(&member).with_recipient(key, &told))
    });
    noted.await.map_err(|error| JoinReply::Unavailable(error.to_string()))
}

fn read<T>(
    found: Result<Option<(T, Revision)>, cas::ReadError>,
) -> Result<Option<(T, Revision)>, JoinReply> {
    found.map_err(|error| JoinReply::Unavailable(error.to_string()))
}

fn silent() -> JoinReply {
    JoinReply::Unavailable(SILENT.into())
}

fn busy() -> JoinReply {
    JoinReply::Unavailable("others use the same token; ask again".into())
}
