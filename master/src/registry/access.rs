//! Invitations and members in the registry. Never writes one without compare-and-set.

use super::Registry;
use async_nats::HeaderMap;
use muster_protocol::{
    Revision, WorkerId,
    enrolment::{INVITATION, Invitation, MEMBER, Member, REMEMBERED_S},
    lease::CasAnswer,
    record::{self, Record},
    subject::Bucket,
};
use muster_wire::{cas, clock};
use std::time::Duration;

impl Registry {
    /// Reads an invitation by its id.
    pub async fn read_invitation(
        &self,
        id: &str,
    ) -> Result<Option<(Invitation, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.key(Bucket::Access, format!("{INVITATION}.{id}"))).await
    }

    /// Writes an invitation. The registry forgets it some time after its end.
    pub async fn write_invitation(
        &self,
        expect: Revision,
        invitation: &Invitation,
    ) -> CasAnswer<Invitation> {
        let left = invitation.ends.saturating_sub(clock::wall().0 / 1_000);
        let keep = Some(Duration::from_secs(left + REMEMBERED_S));
        self.write_access(expect, format!("{INVITATION}.{}", invitation.id), invitation, keep).await
    }

    /// Reads what is known of a worker that has joined, or is revoked.
    pub async fn read_member(
        &self,
        worker: &WorkerId,
    ) -> Result<Option<(Member, Revision)>, cas::ReadError> {
        cas::read(&self.context, &self.key(Bucket::Access, format!("{MEMBER}.{worker}"))).await
    }

    /// Writes a member.
    pub async fn write_member(&self, expect: Revision, member: &Member) -> CasAnswer<Member> {
        self.write_access(expect, format!("{MEMBER}.{}", member.worker), member, None).await
    }

    async fn write_access<T: Record>(
        &self,
        expect: Revision,
        key: String,
        value: &T,
        keep: Option<Duration>,
    ) -> CasAnswer<T> {
        let Ok(value) = record::write(value) else { return CasAnswer::Unknown };
        let key = self.key(Bucket::Access, key);
        let sent =
            cas::send(&self.context, key, expect, value.into(), keep, HeaderMap::new()).await;
        sent.answer(&self.context).await
    }
}
