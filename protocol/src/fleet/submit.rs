//! Submissions: a submitted task is known at once, and the request is answered only when all its tasks
//! are stored.

use super::{ClientReply, Effect, Fleet, RequestId, Task};
use crate::{ABSENT, TaskId, Time, api::NewTask, task::TaskRecord};
use alloc::{sync::Arc, vec::Vec};

impl Fleet {
    pub(super) fn submitted(&mut self, now: Time, request: RequestId, tasks: Vec<NewTask>) {
        let differs = tasks.iter().find_map(|NewTask { id, spec }| {
            let what = self.tasks.get(id)?.record.spec.difference(spec)?;
            Some(ClientReply::Differs(*id, what))
        });
        if let Some(answer) = differs {
            return self.outbox.push(Effect::Reply { request, answer });
        }
        let count = tasks.len() as u64;
        let mut left = 0;
        for NewTask { id, mut spec } in tasks {
            self.interner.intern(&mut spec);
            let wall = self.stamps.wall(now);
            let task = self.tasks.entry(id).or_insert_with(|| {
                self.write_queue.wait(id);
                self.agenda.task(id);
                Task::new(Arc::new(TaskRecord::queued(id, spec, wall)), ABSENT, now)
            });
            if task.revision == ABSENT {
                task.pending.get_or_insert_default().storing.push(request);
                left += 1;
            }
        }
        if left == 0 {
            self.outbox.push(Effect::Reply { request, answer: ClientReply::Stored(count) });
        } else {
            self.requests.wait(request, count, left);
        }
    }

    /// Tells the clients that wait for a task to be stored that its id belongs to another task.
    pub(super) fn differs(&mut self, id: TaskId, what: &'static str, requests: Vec<RequestId>) {
        for request in requests {
            if self.requests.end(request) {
                let answer = ClientReply::Differs(id, what);
                self.outbox.push(Effect::Reply { request, answer });
            }
        }
    }

    /// Tells the clients that wait for it that a task is in the registry.
    pub(super) fn stored(&mut self, requests: Vec<RequestId>) {
        for request in requests {
            if let Some(count) = self.requests.stored(request) {
                let answer = ClientReply::Stored(count);
                self.outbox.push(Effect::Reply { request, answer });
            }
        }
    }
}
