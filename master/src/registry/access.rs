//! Invitations, members, users, groups, upgrades and the secrets of workers in the registry. Never writes one without
//! compare-and-set.

use super::{ChangeError, Registry};
use futures::TryStreamExt as _;
use muster_protocol::{
    GroupName, Revision, WorkerId,
    enrolment::{INVITATION, Invitation, MEMBER, Member, REMEMBERED_S},
    grant::SecretName,
    group::{GROUP, Group},
    lease::CasAnswer,
    message::StreamReply,
    role::{USER, User, user_id},
    sealed::{self, Question, SEALED, SealedSecret},
    subject::Bucket,
    upgrade::Upgrade,
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

    /// Changes a secret of a worker. The registry forgets one without content, once every master has seen that.
    pub async fn change_secret<E: From<ChangeError>>(
        &self,
        worker: &WorkerId,
        name: &SecretName,
        change: impl FnMut(Option<&SealedSecret>) -> Result<SealedSecret, E>,
    ) -> Result<SealedSecret, E> {
        let keep = |secret: &SealedSecret| {
            secret.content.is_none().then_some(Duration::from_secs(REMEMBERED_S))
        };
        self.change(self.secret(worker, name), keep, change).await
    }

    /// Changes what a worker shall run.
    pub async fn change_upgrade<E: From<ChangeError>>(
        &self,
        worker: &WorkerId,
        change: impl FnMut(Option<&Upgrade>) -> Result<Upgrade, E>,
    ) -> Result<Upgrade, E> {
        self.change(self.key(Bucket::Access, Upgrade::key(worker)), |_| None, change).await
    }

    /// The names of the secrets that the registry has of a worker, also of forgotten ones, as the stream's leader
    /// has them.
    pub async fn secrets_of(&self, worker: &WorkerId) -> Result<Vec<SecretName>, cas::ReadError> {
        let unavailable = |cause: String| cas::ReadError::Unavailable(cause);
        let stream = self.context.get_stream(self.names.stream(Bucket::Access)).await;
        let stream = stream.map_err(|error| unavailable(error.to_string()))?;
        let of_worker = self.names.key(Bucket::Access, format!("{SEALED}.{worker}.*"));
        let found = stream.info_with_subjects(&of_worker).await;
        let found = found.map_err(|error| unavailable(error.to_string()))?;
        let found: Vec<(String, usize)> =
            found.try_collect().await.map_err(|error| unavailable(error.to_string()))?;
        let name = |(subject, _): &(String, usize)| subject.rsplit('.').next()?.parse().ok();
        Ok(found.iter().filter_map(name).collect())
    }

    /// Answers a worker that asks for a secret for a run.
    pub(crate) async fn answer_question(&self, question: Question) -> StreamReply {
        let (worker, name) = (question.worker(), question.name());
        let found = async {
            let record = self.read_task(question.attempt().key.task).await?;
            let member = self.read_member(worker).await?;
            let secret =
                cas::read::<SealedSecret>(&self.context, &self.secret(worker, name)).await?;
            Ok::<_, cas::ReadError>((record, member, secret))
        };
        let (record, member, secret) = match found.await {
            Ok(found) => found,
            Err(error) => return StreamReply::Failed(error.to_string()),
        };
        let record = record.as_ref().map(|(record, revision)| (&**record, *revision));
        let (member, secret) = (member.map(|(member, _)| member), secret.map(|(secret, _)| secret));
        question.answer(record, member.as_ref(), secret.as_ref())
    }

    fn secret(&self, worker: &WorkerId, name: &SecretName) -> cas::Key {
        self.key(Bucket::Access, sealed::key(worker, name))
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
