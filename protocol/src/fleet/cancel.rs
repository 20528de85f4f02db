//! Cancelling: the request is stored in the record first. A queued task then ends at once; of a
//! dispatched task the attempt is revoked, and the task ends when its worker confirms or is lost.

use super::{ClientReply, Effect, Fleet, RequestId};
use crate::TaskId;
use alloc::string::String;

impl Fleet {
    pub(super) fn cancel_asked(&mut self, request: RequestId, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            let reason = String::from("this master does not know the task yet; ask again");
            let answer = ClientReply::Unavailable(reason);
            return self.outbox.push(Effect::Reply { request, answer });
        };
        if task.record.cancel || task.record.is_done() {
            return self.outbox.push(Effect::Reply { request, answer: ClientReply::CancelStored });
        }
        task.cancel_wanted = true;
        task.pending.get_or_insert_default().cancelling.push(request);
        self.agenda.task(id);
    }
}
