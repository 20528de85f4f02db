//! Requests about the programs that workers run. Never decides whether a program is good: the worker verifies its
//! signature.

use super::{ApiRefusal, ApiResult, ApiServer, access::admits};
use crate::{
    inbox::Input,
    registry::{Fact, SessionFact},
};
use muster_protocol::{
    api::{Caller, ErrorCode, SetUpgrade},
    message::ObjectStore,
    upgrade::{Upgrade, next_number},
};
use muster_wire::clock;

impl ApiServer {
    /// Lets a worker run another program. The worker asks for it by itself.
    pub(super) async fn set_upgrade(
        &self,
        asked: SetUpgrade,
        caller: &Caller,
    ) -> ApiResult<Upgrade> {
        let SetUpgrade { worker, wanted, deadline_ms } = asked;
        let Some(groups) = self.groups_of(&worker).await? else {
            let sentence = format!("there is no worker {worker}");
            return Err(ApiRefusal::new(ErrorCode::NotFound, sentence));
        };
        admits(&caller.rights, &groups)?;
        let draft = Upgrade {
            worker: worker.clone(),
            number: 1,
            wanted,
            deadline_ms,
            set_at: clock::wall(),
            set_by: caller.actor.to_string(),
            unknown: Default::default(),
        };
        let of = worker.clone();
        let lease = self.look(move |fleet, _| fleet.lease_of(&of)).await?;
        let reported = lease.and_then(|lease| lease.program).map(|report| report.number);
        if let Some(program) = draft.program() {
            self.must_have(ObjectStore::Data, program.digest, Some(program.size)).await?;
        }
        let written = self.registry.change_upgrade(&worker, |known| {
            let number = next_number(known.map(|known| known.number), reported);
            let unknown = known.map(|known| known.unknown.clone()).unwrap_or_default();
            Ok::<_, ApiRefusal>(Upgrade { number, unknown, ..draft.clone() })
        });
        let upgrade = written.await?;
        let fact = Fact::UpgradeSeen(upgrade.clone());
        self.tell(Input::Registry(SessionFact(self.registry.session(), fact))).await?;
        Ok(upgrade)
    }
}
