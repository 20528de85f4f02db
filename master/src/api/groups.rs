//! The settings of groups, and the signatures that they demand. Never takes a signature for valid that this master
//! has not verified over the bytes of the module.

use super::{ApiRefusal, ApiResult, ApiServer, KNOWN_MAX, page};
use crate::inbox::Known;
use muster_module::signing;
use muster_protocol::{
    Digest,
    api::{self, AskLoads, ErrorCode, GroupLoad, ListAfter, SetGroup},
    fleet::{Fleet, GROUPS_MAX, GroupView},
    group::Group,
    message::ObjectStore,
    role::{Rights, Role},
    signature::{Signature, SignerKey},
    task::TaskSpec,
};
use muster_wire::clock;
use std::collections::BTreeMap;

/// The groups of one answer: to explain why their tasks wait takes time on the loop.
const LOADS_MAX: usize = 1_000;

/// Whether a key has made a signature of a module.
pub(super) type Verified = BTreeMap<(Digest, SignerKey, Signature), bool>;

impl ApiServer {
    /// The groups that the user may see.
    pub(super) fn list_groups(&self, asked: ListAfter, rights: &Rights) -> api::Groups {
        let mut groups = self.groups.after(asked.after.as_deref());
        groups.retain(|group| rights.has(Role::Read, group.group.as_str()));
        let (groups, more) = page(groups, |group| group.group.to_string());
        api::Groups { groups, more }
    }

    /// The tasks and workers of the groups that the user may see.
    pub(super) async fn loads(
        &self,
        asked: AskLoads,
        rights: &Rights,
    ) -> ApiResult<api::GroupLoads> {
        let rights = rights.clone();
        let look = move |fleet: &Fleet, _: &Known| {
            let (now, wall) = (clock::boottime(), clock::wall());
            let overview = fleet.overview_of(now, GROUPS_MAX, |group| {
                asked.group.as_ref().is_none_or(|only| only == group)
                    && rights.has(Role::Read, group.as_str())
            });
            let follows = |view: &&GroupView| {
                asked.after.as_deref().is_none_or(|after| view.group.as_str() > after)
            };
            let views = overview.groups.iter().filter(follows);
            let loads = views.take(LOADS_MAX + 1).map(|view| fleet.load(now, wall, view));
            (loads.collect::<Vec<_>>(), overview.others.queued as u64)
        };
        let (mut loads, others_queued) = self.look(look).await?;
        let is_cut = loads.len() > LOADS_MAX;
        loads.truncate(LOADS_MAX);
        let name = |load: &GroupLoad| load.group.to_string();
        let last = loads.last().filter(|_| is_cut).map(name);
        let (groups, more) = page(loads, name);
        Ok(api::GroupLoads { groups, others_queued, more: more.or(last) })
    }

    /// Changes a group. This master knows it at once, the others as soon as they see it.
    pub(super) async fn set_group(&self, asked: SetGroup) -> ApiResult<Group> {
        let SetGroup { group, signers } = asked;
        let change = |known: Option<&Group>| {
            let known = known.cloned().unwrap_or_else(|| Group::new(group.clone()));
            Ok::<_, ApiRefusal>(Group { signers: signers.clone(), ..known })
        };
        let changed = self.registry.change_group(&group, change).await?;
        self.groups.heard(changed.clone());
        Ok(changed)
    }

    /// Refuses a task whose module is not signed as its group demands.
    pub(super) async fn must_be_signed(&self, spec: &TaskSpec) -> ApiResult<()> {
        let Some(group) = self.groups.of(&spec.group) else { return Ok(()) };
        let signature = spec.signature.as_ref();
        let signer = group.signer(signature);
        let signer = signer.map_err(|refusal| ApiRefusal::bad(refusal.to_string()))?;
        let (Some(key), Some(signature)) = (signer, signature) else { return Ok(()) };
        match self.has_signed(spec.module.digest, key, signature).await? {
            true => Ok(()),
            false => Err(ApiRefusal::bad(group.not_signed().to_string())),
        }
    }

    /// Whether a key has made a signature of a stored module. Reads the module when this is asked first.
    async fn has_signed(
        &self,
        module: Digest,
        key: &SignerKey,
        signature: &Signature,
    ) -> ApiResult<bool> {
        let asked = (module, *key, signature.clone());
        if let Ok(verified) = self.verified.lock()
            && let Some(verdict) = verified.get(&asked)
        {
            return Ok(*verdict);
        }
        let _place = self.whole_object().await?;
        let Some(bytes) = self.registry.fetch(ObjectStore::Modules, module).await? else {
            let sentence = format!("the module {module} is not stored any more");
            return Err(ApiRefusal::new(ErrorCode::NotFound, sentence));
        };
        let (key, signature) = (*key, signature.clone());
        // On another thread: to hash a large module takes a while.
        let verify = move || signing::is_valid(&signature, &key, &bytes);
        let verifying = tokio::task::spawn_blocking(verify);
        let verdict = verifying.await.map_err(ApiRefusal::unavailable)?;
        if let Ok(mut verified) = self.verified.lock() {
            if verified.len() >= KNOWN_MAX {
                verified.clear();
            }
            verified.insert(asked, verdict);
        }
        Ok(verdict)
    }
}
