//! Requests about the secrets that the registry keeps for workers. Never sees a value, and answers with no encrypted
//! one.

use super::{ApiRefusal, ApiResult, ApiServer, access::admits, page};
use crate::{
    inbox::{Input, Known},
    registry::{Fact, SessionFact},
};
use muster_protocol::{
    WorkerId,
    api::{Caller, ErrorCode, ListAfter, NameSecret, SecretView, SecretViews, SetSecret},
    enrolment::Member,
    fleet::Fleet,
    grant::SecretName,
    role::Rights,
    sealed::{self, NotSet, SealedSecret},
};
use muster_wire::clock;

impl From<NotSet> for ApiRefusal {
    fn from(why: NotSet) -> Self {
        ApiRefusal::bad(why.to_string())
    }
}

impl ApiServer {
    /// Keeps a secret for a worker, if the worker may have it.
    pub(super) async fn set_secret(
        &self,
        asked: SetSecret,
        caller: &Caller,
    ) -> ApiResult<SecretView> {
        let SetSecret { worker, name, recipient, rule, file } = asked;
        self.must_admit(&caller.rights, &worker).await?;
        let (of, but) = (worker.clone(), name.clone());
        let others = move |_: &Fleet, known: &Known| {
            known.secrets_of(&of).filter(|secret| secret.name != but).count()
        };
        let others = self.look(others).await?;
        let member = self.member(&worker).await?;
        let member = member.as_ref();
        let content = sealed::content_for(&worker, member, &name, recipient, rule, file, others)?;
        let written = self.registry.change_secret(&worker, &name, |known| {
            Ok::<_, ApiRefusal>(SealedSecret {
                worker: worker.clone(),
                name: name.clone(),
                content: Some(content.clone()),
                set_at: clock::wall(),
                set_by: caller.actor.to_string(),
                unknown: known.map(|known| known.unknown.clone()).unwrap_or_default(),
            })
        });
        let secret = written.await?;
        // Whoever revoked the worker meanwhile may not have seen the secret.
        let member = self.member(&worker).await?;
        if member.as_ref().is_none_or(|member| secret.content_of(member).is_none()) {
            self.forget(&worker, &name, caller).await?;
            let sentence = format!("the worker {worker} was revoked, or has joined anew meanwhile");
            return Err(ApiRefusal::bad(sentence));
        }
        let view = shown(&secret, member.as_ref());
        self.learn_secret(secret).await?;
        Ok(view)
    }

    /// The secrets of workers whose groups the user administers.
    pub(super) async fn list_secrets(
        &self,
        asked: ListAfter,
        rights: &Rights,
    ) -> ApiResult<SecretViews> {
        let after = asked.after.unwrap_or_default();
        let rights = rights.clone();
        let look = move |_: &Fleet, known: &Known| -> Vec<SecretView> {
            let follow = known.secrets.iter().filter(|(key, _)| **key > after);
            let view = |(_, secret): (&String, &SealedSecret)| {
                let member = known.members.get(&secret.worker);
                let groups = member.map(|member| member.entitlement.groups.clone());
                admits(&rights, &groups.unwrap_or_default()).ok()?;
                Some(shown(secret, member))
            };
            follow.filter_map(view).collect()
        };
        let secrets = self.look(look).await?;
        let (secrets, more) = page(secrets, |view| sealed::key(&view.worker, &view.name));
        Ok(SecretViews { secrets, more })
    }

    /// Forgets a secret of a worker.
    pub(super) async fn forget_secret(
        &self,
        asked: NameSecret,
        caller: &Caller,
    ) -> ApiResult<SecretView> {
        let NameSecret { worker, name } = asked;
        self.must_admit(&caller.rights, &worker).await?;
        let member = self.member(&worker).await?;
        Ok(shown(&self.forget(&worker, &name, caller).await?, member.as_ref()))
    }

    /// Forgets every secret of a worker. Returns their names, and those of secrets that were forgotten lately.
    pub(super) async fn forget_secrets(
        &self,
        worker: &WorkerId,
        caller: &Caller,
    ) -> ApiResult<Vec<String>> {
        let names = self.registry.secrets_of(worker).await.map_err(ApiRefusal::unavailable)?;
        for name in &names {
            match self.forget(worker, name, caller).await {
                Err(refusal) if refusal.code != ErrorCode::NotFound => return Err(refusal),
                _ => {}
            }
        }
        Ok(names.iter().map(ToString::to_string).collect())
    }

    async fn forget(
        &self,
        worker: &WorkerId,
        name: &SecretName,
        caller: &Caller,
    ) -> ApiResult<SealedSecret> {
        let unknown = || {
            let sentence = format!("the registry keeps no secret {name} for the worker {worker}");
            ApiRefusal::new(ErrorCode::NotFound, sentence)
        };
        let forgotten = self.registry.change_secret(worker, name, |known| {
            let known = known.filter(|known| known.content.is_some()).ok_or_else(unknown)?;
            let (set_at, set_by) = (clock::wall(), caller.actor.to_string());
            Ok::<_, ApiRefusal>(SealedSecret { content: None, set_at, set_by, ..known.clone() })
        });
        let forgotten = forgotten.await?;
        self.learn_secret(forgotten.clone()).await?;
        Ok(forgotten)
    }

    async fn member(&self, worker: &WorkerId) -> ApiResult<Option<Member>> {
        let found = self.registry.read_member(worker).await.map_err(ApiRefusal::unavailable)?;
        Ok(found.map(|(member, _)| member))
    }

    /// Lets this master know at once what it has written.
    async fn learn_secret(&self, secret: SealedSecret) -> ApiResult<()> {
        let fact = Fact::SecretSeen(secret.without_file());
        self.tell(Input::Registry(SessionFact(self.registry.session(), fact))).await
    }
}

fn shown(secret: &SealedSecret, member: Option<&Member>) -> SecretView {
    SecretView {
        worker: secret.worker.clone(),
        name: secret.name.clone(),
        rule: secret.content.as_ref().and_then(|content| content.rule.clone()),
        set_at: secret.set_at,
        set_by: secret.set_by.clone(),
        usable: member.is_some_and(|member| secret.content_of(member).is_some()),
    }
}
