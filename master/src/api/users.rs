//! Requests about users and their roles.

use super::{ApiRefusal, ApiResult, ApiServer, page};
use muster_protocol::{
    api::{ErrorCode, ListAfter, NameUser, SetUser, Users},
    role::{Rights, User},
};

impl ApiServer {
    pub(super) fn list_users(&self, asked: ListAfter) -> ApiResult<Users> {
        let users = self.users.after(asked.after.as_deref());
        let (users, more) = page(users, |user| user.user.clone());
        Ok(Users { users, more })
    }

    /// Gives a user roles, as far as the one who asks may give and take them.
    pub(super) async fn set_user(&self, asked: SetUser, rights: &Rights) -> ApiResult<User> {
        let SetUser { user, called, rights: wanted } = asked;
        self.change_user(&user, |known| {
            rights.demand_change(&self.users.rights(known), &wanted)?;
            let before = known.cloned();
            Ok(User {
                user: user.clone(),
                called: called.clone().or(before.as_ref().and_then(|user| user.called.clone())),
                rights: Some(wanted.clone()),
                unknown: before.map(|user| user.unknown).unwrap_or_default(),
            })
        })
        .await
    }

    /// Takes the roles of a user, who then has those of an unknown one.
    pub(super) async fn forget_user(&self, asked: NameUser, rights: &Rights) -> ApiResult<User> {
        self.change_user(&asked.user, |known| {
            let known = known.filter(|known| known.rights.is_some()).ok_or_else(|| {
                let sentence = format!("the user {} has no roles of its own", asked.user);
                ApiRefusal::new(ErrorCode::NotFound, sentence)
            })?;
            rights.demand_change(&self.users.rights(Some(known)), &self.users.rights(None))?;
            Ok(User { rights: None, ..known.clone() })
        })
        .await
    }

    /// Changes a user. This master knows it at once, the others as soon as they see it.
    async fn change_user(
        &self,
        user: &str,
        change: impl Fn(Option<&User>) -> ApiResult<User>,
    ) -> ApiResult<User> {
        let changed = self.registry.change_user(user, change).await?;
        self.users.heard(changed.clone());
        Ok(changed)
    }
}
