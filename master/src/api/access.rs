//! Requests about who may be a worker: invitations, approvals, revocations.

use super::{ApiRefusal, ApiResult, ApiServer, page};
use crate::{
    enrol,
    inbox::{Input, Known},
    registry::{Fact, SessionFact},
};
use muster_protocol::{
    ABSENT, WorkerId,
    api::{Caller, ErrorCode, Invite, Invited, ListAfter, Members, NameWorker, Revoked},
    enrolment::{ADDRESSES_MAX, Invitation, Member, invitation_id},
    entitlement::Allowed,
    fleet::Fleet,
    lease::CasAnswer,
    role::{Forbidden, Rights, Role},
};
use std::collections::BTreeMap;

/// Demands the role `admin` in each of these groups.
pub(super) fn admits(rights: &Rights, groups: &Allowed) -> Result<(), Forbidden> {
    if groups.is_any() || groups.0.is_empty() {
        return rights.demand_everywhere(Role::Admin);
    }
    groups.0.iter().try_for_each(|group| rights.demand(Role::Admin, group))
}

impl ApiServer {
    pub(super) async fn invite(&self, asked: Invite, rights: &Rights) -> ApiResult<Invited> {
        let Invite { secret, worker, entitlement, ttl_s, uses, approve } = asked;
        // The invitation of a worker that is there already replaces its key.
        if let Some(worker) = &worker
            && let Some(groups) = self.groups_of(worker).await?
        {
            admits(rights, &groups)?;
        }
        let ends = enrol::now() + ttl_s;
        let invitation = Invitation {
            id: invitation_id(secret),
            secret,
            worker,
            entitlement,
            ends,
            uses,
            approve,
            used_by: BTreeMap::new(),
            unknown: Default::default(),
        };
        match self.registry.write_invitation(ABSENT, &invitation).await {
            CasAnswer::Written(_) => {}
            // The same request came twice.
            CasAnswer::Conflict(Some((found, _))) if found.secret == secret => {}
            CasAnswer::Conflict(_) | CasAnswer::Gone(_) => {
                let sentence = "there is another invitation with this secret";
                return Err(ApiRefusal::new(ErrorCode::Conflict, sentence));
            }
            CasAnswer::Unknown => {
                return Err(ApiRefusal::unavailable("the registry did not answer"));
            }
        }
        let mut masters = self.look(|fleet, _| fleet.issuers()).await?;
        masters.truncate(ADDRESSES_MAX);
        Ok(Invited { masters, authority: self.registrar.fingerprint(), ends })
    }

    /// The members that may be in a group that the user operates.
    pub(super) async fn members(&self, asked: ListAfter, rights: &Rights) -> ApiResult<Members> {
        let ListAfter { after } = asked;
        let follows = move |member: &&Member| {
            after.as_deref().is_none_or(|after| member.worker.as_str() > after)
        };
        let look = |_: &Fleet, known: &Known| -> Vec<Member> {
            known.members.values().filter(follows).cloned().collect()
        };
        let mut members = self.look(look).await?;
        if rights.demand_everywhere(Role::Operate).is_err() {
            members.retain(|member| {
                let groups = &member.entitlement.groups;
                groups.0.iter().any(|group| rights.has(Role::Operate, group))
            });
        }
        let (members, more) = page(members, |member| member.worker.to_string());
        Ok(Members { members, more })
    }

    pub(super) async fn approve(&self, asked: NameWorker, rights: &Rights) -> ApiResult<Member> {
        let NameWorker { worker } = asked;
        self.must_admit(rights, &worker).await?;
        let unknown = || {
            let sentence = format!("no worker {worker} waits to be approved");
            ApiRefusal::new(ErrorCode::NotFound, sentence)
        };
        let member = self.registry.change_member(&worker, |known| {
            let member = known.filter(|member| member.key.is_some()).ok_or_else(unknown)?;
            member.clone().approved().map_err(|refused| ApiRefusal::bad(refused.to_string()))
        });
        self.learn(member.await?).await
    }

    /// Demands the role `admin` in every group that a worker may be in; everywhere, if nobody knows which these
    /// are.
    pub(super) async fn must_admit(&self, rights: &Rights, worker: &WorkerId) -> ApiResult<()> {
        match self.groups_of(worker).await? {
            Some(groups) => Ok(admits(rights, &groups)?),
            None => Ok(rights.demand_everywhere(Role::Admin)?),
        }
    }

    /// The groups that a worker may be in: those of its certificates, if it has joined by an invitation, or else
    /// that of its lease.
    pub(super) async fn groups_of(&self, worker: &WorkerId) -> ApiResult<Option<Allowed>> {
        let found = self.registry.read_member(worker).await.map_err(ApiRefusal::unavailable)?;
        if let Some((member, _)) = found.filter(|(member, _)| member.key.is_some()) {
            return Ok(Some(member.entitlement.groups));
        }
        let asked = worker.clone();
        let lease = self.look(move |fleet, _| fleet.lease_of(&asked)).await?;
        Ok(lease.map(|lease| Allowed([lease.offer.group.to_string()].into())))
    }

    /// Lets this master know at once what it has written.
    async fn learn(&self, member: Member) -> ApiResult<Member> {
        let fact = Fact::MemberSeen(member.clone());
        self.tell(Input::Registry(SessionFact(self.registry.session(), fact))).await?;
        Ok(member)
    }

    /// Revokes the certificates of a worker, and forgets its secrets. All masters hear of it by the registry.
    pub(super) async fn revoke(&self, asked: NameWorker, caller: &Caller) -> ApiResult<Revoked> {
        let NameWorker { worker } = asked;
        self.must_admit(&caller.rights, &worker).await?;
        let offered = worker.clone();
        let lease = self.look(move |fleet, _| fleet.lease_of(&offered)).await?;
        let member = self.registry.change_member(&worker, |known| {
            if known.is_none() && lease.is_none() {
                // A certificate may exist all the same, and it is revoked.
                tracing::warn!(%worker, "a worker is revoked that nobody has seen");
            }
            Ok::<_, ApiRefusal>(Member::revoked(worker.clone(), known.cloned(), enrol::now()))
        });
        let member = self.learn(member.await?).await?;
        let mut secrets = member.entitlement.secrets.0.clone();
        secrets.extend(lease.into_iter().flat_map(|lease| lease.offer.policy.secrets.clone()));
        let forgotten = self.forget_secrets(&member.worker, caller).await.map_err(|refusal| {
            let sentence = format!(
                "the worker is revoked, but its secrets are not all forgotten yet; ask again: {}",
                refusal.sentence
            );
            ApiRefusal::new(ErrorCode::Unknown, sentence)
        });
        secrets.extend(forgotten?);
        Ok(Revoked { member, secrets })
    }
}
