//! What a master tells the world: events, the ends of tasks, logs and progress, in as few messages as
//! can be. Never waits for NATS: what that does not keep up with is lost, and the records have the truth.

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

/// Messages that may wait for NATS: seconds of the fastest tasks, in some tens of MiB.
const QUEUE_MAX: usize = 64 * 1024;

/// Tasks in one message: with small outputs, or long reasons, it is well under NATS' limit of 1 MiB.
const TASKS_MAX: usize = 64;
/// And their outputs' bytes.
const ENDED_BYTES_MAX: u64 = 512 * 1024;

/// A way to the world. What is told goes out in the order in which it was told.
pub(crate) struct Publisher(mpsc::Sender<Item>);

enum Item {
    Event(Advisory),
    Ended(BatchId, Vec<TaskEnded>),
    Log(LogChunk),
    Progress(TaskId, u64, u64),
}

/// What one pass of the loop has to tell. What happened to several tasks of a batch is told at once: each
/// message is a write of the stream that keeps it, as a record's is.
#[derive(Default)]
pub(crate) struct Batch {
    events: Vec<Advisory>,
    /// Where there may be room for more tasks.
    of_tasks: BTreeMap<(GroupName, TaskEvent, BatchId), usize>,
    ended: BTreeMap<BatchId, Vec<TaskEnded>>,
}

impl Publisher {
    /// Tells the world in the life of this registry, as long as what this returns is kept.
    pub(crate) fn begin(registry: &Registry) -> Self {
        let (publisher, told) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(spread(registry.clone(), told));
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
            tracing::warn!("news for people were dropped: NATS does not keep up with them");
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

/// Cuts the ends of tasks into messages that NATS takes.
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

/// Tells the world, one thing after the other.
async fn spread(registry: Registry, mut told: mpsc::Receiver<Item>) {
    while let Some(item) = told.recv().await {
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
