//! What open tasks need is kept from expiring: as long as it is old, it is stored anew. Never anything of
//! a task that is over.

use crate::{
    inbox::{Input, Modules},
    registry::{ObjectError, Registry, UPKEEP_EVERY},
};
use muster_protocol::{Digest, TaskId, fleet::Fleet, task::Data};
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// How long to wait after a round in which something could not be renewed.
const AGAIN: Duration = Duration::from_secs(60);

/// What open tasks need.
#[derive(Default)]
struct Needs {
    inputs: BTreeSet<Digest>,
    /// Tasks of which an attempt may have left a checkpoint.
    begun: Vec<TaskId>,
}

/// Goes round again and again. Every master does, since what is young costs no write.
pub(crate) async fn keep_up(registry: Registry, inbox: mpsc::Sender<Input>) {
    while let Some(needs) = needs(&inbox).await {
        let wait = match renew(&registry, needs).await {
            Ok(()) => UPKEEP_EVERY,
            Err(error) => {
                tracing::warn!(%error, "what an open task needs could not be stored anew; trying on");
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn needs(inbox: &mpsc::Sender<Input>) -> Option<Needs> {
    let (reply, answer) = oneshot::channel();
    let look = Box::new(move |fleet: &Fleet, _: &Modules| {
        let mut needs = Needs::default();
        for record in fleet.records() {
            if let Data::Blob { digest, .. } = record.spec.input {
                needs.inputs.insert(digest);
            }
            if record.attempts > 0 {
                needs.begun.push(record.id);
            }
        }
        let _ = reply.send(needs);
    });
    inbox.send(Input::Look(look)).await.ok()?;
    answer.await.ok()
}

/// Renews all of it, as far as it can be; an error where trying again may help.
async fn renew(registry: &Registry, needs: Needs) -> Result<(), ObjectError> {
    let mut all = Ok(());
    // What is damaged stays so, and whoever found it has said so.
    let mut note = |done| match done {
        Ok(()) | Err(ObjectError::Corrupt(_)) => {}
        Err(error @ ObjectError::Unavailable(_)) => all = Err(error),
    };
    for digest in needs.inputs {
        note(registry.renew(digest).await.map(drop));
    }
    for task in needs.begun {
        note(registry.renew_checkpoint(task).await);
    }
    all
}
