//! The publisher: events, ends of tasks, logs and progress for subscribers, in few messages. Never waits
//! for NATS: messages beyond the queue are dropped. The records are the truth.

use crate::registry::Registry;
use muster_protocol::{
    BatchId, GroupName, TaskId,
    advisory::{Advisory, TaskEvent},
    api::TaskEnded,
    limit::INLINE_SIZE_MAX,
    message::LogChunk,
};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Messages that may wait for NATS: some seconds of the shortest tasks, some tens of MiB.
const QUEUE_MAX: usize = 64 * 1024;

/// Tasks in one message. With small outputs and short reasons, a message is well under NATS' limit of
/// 1 MiB.
const TASKS_MAX: usize = 64;
/// The most bytes of outputs in one message.
const ENDED_BYTES_MAX: u64 = 512 * 1024;

/// A handle to the publisher. Messages leave in the order in which they were given.
pub(crate) struct Publisher(mpsc::Sender<Item>);

enum Item {
    Event(Advisory),
    Ended(BatchId, Vec<TaskEnded>),
    Log(LogChunk),
    Progress(TaskId, u64, u64),
}

/// What one pass of the loop publishes. Changes of several tasks of one batch share a message, because
/// each message costs its stream a write, as a record does.
#[derive(Default)]
pub(crate) struct Batch {
    events: Vec<Advisory>,
    /// The index in `events` of the latest message of each kind, to which more tasks may be added.
    of_tasks: BTreeMap<(GroupName, TaskEvent, BatchId), usize>,
    ended: BTreeMap<BatchId, Vec<TaskEnded>>,
}

impl Publisher {
    /// Publishes in the session of this registry, until the returned handle is dropped.
    pub(crate) fn begin(registry: &Registry) -> Self {
        let (publisher, items) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(spread(registry.clone(), items));
        Publisher(publisher)
    }

    pub(crate) fn publish(&self, batch: Batch) {
        for event in batch.events {
            self.send(Item::Event(event));
        }
        for (audience, ends) in batch.ended {
            for part in parts(ends) {
                self.send(Item::Ended(audience, part));
            }
        }
    }

    pub(crate) fn log(&self, chunk: LogChunk) {
        self.send(Item::Log(chunk));
    }

    pub(crate) fn progress(&self, task: TaskId, done: u64, total: u64) {
        self.send(Item::Progress(task, done, total));
    }

    fn send(&self, item: Item) {
        if self.0.try_send(item).is_err() {
            tracing::warn!("events or logs were dropped: NATS does not keep up with them");
        }
    }
}

impl Batch {
    pub(crate) fn event(&mut self, event: Advisory) {
        let Advisory::Tasks { group, what, audience, tasks } = event else {
            return self.events.push(event);
        };
        let key = (group, what, audience);
        if let Some(&at) = self.of_tasks.get(&key)
            && let Some(Advisory::Tasks { tasks: told, .. }) = self.events.get_mut(at)
            && told.len() + tasks.len() <= TASKS_MAX
        {
            return told.extend(tasks);
        }
        let group = key.0.clone();
        self.of_tasks.insert(key, self.events.len());
        self.events.push(Advisory::Tasks { group, what, audience, tasks });
    }

    pub(crate) fn ended(&mut self, audience: BatchId, ended: TaskEnded) {
        self.ended.entry(audience).or_default().push(ended);
    }
}

/// Splits the ends of tasks into messages that NATS accepts.
fn parts(ends: Vec<TaskEnded>) -> Vec<Vec<TaskEnded>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for end in ends {
        let size = end.outcome.output.size().min(INLINE_SIZE_MAX as u64) * 4;
        let full = parts.last().is_some_and(|part: &Vec<TaskEnded>| part.len() >= TASKS_MAX);
        if full || bytes + size > ENDED_BYTES_MAX {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(end);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Publishes item after item.
async fn spread(registry: Registry, mut items: mpsc::Receiver<Item>) {
    while let Some(item) = items.recv().await {
        match item {
            Item::Event(advisory) => registry.publish(&advisory).await,
            Item::Ended(audience, ended) => registry.tell(audience, &ended).await,
            Item::Log(chunk) => registry.log(chunk).await,
            Item::Progress(task, done, total) => registry.progress(task, done, total).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::advisory::TaskChange;

    fn event(what: TaskEvent, batch: u128, task: u128) -> Advisory {
        let publisher =
            TaskChange { task: TaskId(task), attempt: None, worker: None, reason: String::new() };
        let group = GroupName::default();
        Advisory::Tasks { group, what, audience: BatchId(batch), tasks: vec![publisher] }
    }

    #[test]
    fn what_happened_to_tasks_of_a_batch_is_one_message() {
        let mut batch = Batch::default();
        for task in 0..TASKS_MAX as u128 + 1 {
            batch.event(event(TaskEvent::Completed, 1, task));
            batch.event(event(TaskEvent::Completed, 2, task));
        }
        batch.event(event(TaskEvent::Failed, 1, 0));
        let told = batch.events.iter().map(|event| match event {
            Advisory::Tasks { what, audience, tasks, .. } => (*what, audience.0, tasks.len()),
            _ => panic!("about tasks"),
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                (TaskEvent::Completed, 1, TASKS_MAX),
                (TaskEvent::Completed, 2, TASKS_MAX),
                (TaskEvent::Completed, 1, 1),
                (TaskEvent::Completed, 2, 1),
                (TaskEvent::Failed, 1, 1),
            ]
        );
    }
}
