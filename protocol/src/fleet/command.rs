//! Commands of operators to workers: cordon, drain, uncordon. The master passes a command to the
//! worker, the worker puts it into its lease, and the master answers when it sees that lease, never
//! before.

use super::{ClientReply, Effect, Fleet, RequestId};
use crate::{
    WorkerId,
    lease::LeaseState,
    message::{ToWorker, WorkerCommand},
};
use alloc::{format, vec::Vec};

/// How many requests may wait for one worker. A further one replaces the oldest.
const COMMANDS_MAX: usize = 16;

impl Fleet {
    pub(super) fn command_asked(&mut self, request: RequestId, id: WorkerId, order: WorkerCommand) {
        let known = self.workers.get_mut(&id).and_then(|worker| {
            let session = worker.held_lease()?.session;
            let link = worker.links().newest_of(session)?;
            Some((link, &mut worker.commands))
        });
        let Some((link, orders)) = known else {
            let reason = format!("worker {id} is not connected to this master");
            let answer = ClientReply::Unavailable(reason);
            return self.outbox.push(Effect::Reply { request, answer });
        };
        if orders.len() == COMMANDS_MAX {
            orders.remove(0);
        }
        orders.push((request, order.lease_state()));
        self.outbox.push(Effect::Send { link, message: ToWorker::Command(order) });
        // The worker may have obeyed already; the lease shows it.
        let state = self.workers.get(&id).and_then(|worker| worker.lease.as_ref());
        if let Some(state) = state.map(|lease| lease.state)
            && !matches!(order, WorkerCommand::Drain { .. })
        {
            self.obeyed(&id, state);
        }
    }

    /// A worker's lease has this state: answer the requests that wait for it.
    pub(super) fn obeyed(&mut self, id: &WorkerId, state: LeaseState) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let (done, waiting): (Vec<_>, Vec<_>) =
            worker.commands.drain(..).partition(|&(_, wanted)| wanted == state);
        worker.commands = waiting;
        for (request, _) in done {
            self.outbox.push(Effect::Reply { request, answer: ClientReply::Obeyed });
        }
    }
}
