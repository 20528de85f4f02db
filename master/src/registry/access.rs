//! Invitations, members, users and groups in the registry. Never writes one without compare-and-set.

use super::{ChangeError, Registry};
use muster_protocol::{
    GroupName, Revision, WorkerId,
    enrolment::{INVITATION, Invitation, MEMBER, Member, REMEMBERED_S},
    group::{GROUP, Group},
    lease::CasAnswer,
    role::{USER, User, user_id},
    subject::Bucket,
};
use muster_wire::{cas, clock, tls};
use std::time::Duration;

impl Registry {
    /// Reads an invitation by its id.
    pub async fn read_invitation(
        &self,
        id: &str,
    ) -> Result<Option<(Invitation, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.invitation(id)).await
    }

    /// Writes an invitation. The registry forgets it some time after its end.
    pub async fn write_invitation(
        &self,
        expect: Revision,
        invitation: &Invitation,
    ) -> CasAnswer<Invitation> {
        let left = invitation.ends.saturating_sub(clock::wall().0 / 1_000);
        let keep = Some(Duration::from_secs(left + REMEMBERED_S));
        self.write(self.invitation(&invitation.id), expect, invitation, keep).await
    }

    /// Reads what is known of a worker that has joined, or is revoked.
    pub async fn read_member(
        &self,
        worker: &WorkerId,
    ) -> Result<Option<(Member, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.member(worker)).await
    }

    /// Writes a member.
    pub async fn write_member(&self, expect: Revision, member: &Member) -> CasAnswer<Member> {
        self.write(self.member(&member.worker), expect, member, None).await
    }

    /// Changes a member, or makes one.
    pub async fn change_member<E: From<ChangeError>>(
        &self,
        worker: &WorkerId,
        change: impl FnMut(Option<&Member>) -> Result<Member, E>,
    ) -> Result<Member, E> {
        self.change(self.member(worker), |_| None, change).await
    }

    /// Changes what is known of a user. The registry forgets one without roles, once every master has seen that.
    pub async fn change_user<E: From<ChangeError>>(
        &self,
        user: &str,
        change: impl FnMut(Option<&User>) -> Result<User, E>,
    ) -> Result<User, E> {
        let keep = |user: &User| user.rights.is_none().then_some(Duration::from_secs(REMEMBERED_S));
        self.change(self.user(user), keep, change).await
    }

    /// Changes the settings of a group. The registry forgets those that are the default, once every master has
    /// seen them.
    pub async fn change_group<E: From<ChangeError>>(
        &self,
        group: &GroupName,
        change: impl FnMut(Option<&Group>) -> Result<Group, E>,
    ) -> Result<Group, E> {
        let keep = |group: &Group| group.is_default().then_some(Duration::from_secs(REMEMBERED_S));
        self.change(self.key(Bucket::Access, format!("{GROUP}.{group}")), keep, change).await
    }

    fn user(&self, user: &str) -> cas::Key {
        let id = user_id(tls::fingerprint(user.as_bytes()));
        self.key(Bucket::Access, format!("{USER}.{id}"))
    }

    fn invitation(&self, id: &str) -> cas::Key {
        self.key(Bucket::Access, format!("{INVITATION}.{id}"))
    }

    fn member(&self, worker: &WorkerId) -> cas::Key {
        self.key(Bucket::Access, format!("{MEMBER}.{worker}"))
    }
}
