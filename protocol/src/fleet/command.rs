//! Orders of people to workers: cordon, drain, uncordon. Passed on to the worker, which puts it into
//! its lease; answered when the lease says so, and never before.

use super::{ClientReply, Effect, Fleet, RequestId};
use crate::{
    WorkerId,
    lease::LeaseState,
    message::{ToWorker, WorkerCommand},
};
use alloc::{format, vec::Vec};

/// Requests that wait for one worker to obey. Whoever asks again takes the place of the oldest.
const COMMANDS_MAX: usize = 16;

impl Fleet {
    pub(super) fn command_asked(&mut self, request: RequestId, id: WorkerId, order: WorkerCommand) {
        let known = self.workers.get_mut(&id).and_then(|worker| {
            let lease = worker.lease.as_ref().filter(|lease| lease.state.is_held())?;
            let link = worker.links.newest_of(lease.session)?;
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
        // Nobody else may have asked for something else meanwhile; the lease tells.
        let state = self.workers.get(&id).and_then(|worker| worker.lease.as_ref());
        if let Some(state) = state.map(|lease| lease.state)
            && !matches!(order, WorkerCommand::Drain { .. })
        {
            self.obeyed(&id, state);
        }
    }

    /// A worker's lease says this.
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
