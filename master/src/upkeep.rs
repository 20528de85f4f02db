//! Keeps what the fleet needs in NATS: stores inputs and checkpoints of open tasks, and programs of open upgrades, again
//! before they expire, and creates streams that somebody has deleted. Never touches anything of an ended task.

use crate::{
    inbox::{Input, Known},
    registry::{ObjectError, Registry, UPKEEP_EVERY},
};
use muster_protocol::{
    Digest, MasterId, TaskId,
    advisory::{Advisory, RegistryEvent},
    fleet::Fleet,
    task::Data,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// The wait after a round that could not renew everything.
const AGAIN: Duration = Duration::from_secs(60);

/// How often the streams are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Creates streams that vanish while the session lasts. Where one was followed, the session ends by
/// itself, and the next one waits for the runs of tasks that were in it.
pub(crate) async fn keep_streams(registry: Registry, me: MasterId) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match registry.restore_streams().await {
            Ok(created) => {
                for stream in created {
                    let (master, what) = (me.clone(), RegistryEvent::Rewound);
                    let reason =
                        format!("{stream} was deleted; it is there again, without what it held");
                    registry.publish(&Advisory::Registry { master, what, reason }).await;
                }
            }
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "the streams were not looked at")
            }
            Err(error) => tracing::warn!(%error, "a stream that the fleet needs cannot be created"),
        }
    }
}

/// The objects and checkpoints that are needed.
#[derive(Default)]
struct Needs {
    /// Inputs of open tasks, and programs of upgrades.
    objects: BTreeSet<Digest>,
    /// Tasks with at least one attempt, which may have a checkpoint.
    begun: Vec<TaskId>,
}

/// Runs round after round. Every master does this: renewing what is young costs no write.
pub(crate) async fn keep_up(registry: Registry, inbox: mpsc::Sender<Input>) {
    while let Some(needs) = needs(&inbox).await {
        let wait = match renew(&registry, needs).await {
            Ok(()) => UPKEEP_EVERY,
            Err(error) => {
                tracing::warn!(%error, "an object or checkpoint that is needed could not be stored anew; trying again");
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn needs(inbox: &mpsc::Sender<Input>) -> Option<Needs> {
    let (reply, answer) = oneshot::channel();
    let look = Box::new(move |fleet: &Fleet, known: &Known| {
        let mut needs = Needs { objects: known.programs_needed(fleet), ..Needs::default() };
        for record in fleet.records() {
            if let Data::Blob { digest, .. } = record.spec.input {
                needs.objects.insert(digest);
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

/// Renews everything that can be renewed. Returns an error if a retry may help.
async fn renew(registry: &Registry, needs: Needs) -> Result<(), ObjectError> {
    let mut all = Ok(());
    // A damaged object stays damaged, and `fetch` has logged it.
    let mut note = |done| match done {
        Ok(()) | Err(ObjectError::Corrupt(_)) => {}
        Err(error) => all = Err(error),
    };
    for digest in needs.objects {
        note(registry.renew(digest).await.map(drop));
    }
    for task in needs.begun {
        note(registry.renew_checkpoint(task).await);
    }
    all
}
