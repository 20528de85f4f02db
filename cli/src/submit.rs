//! Submits tasks to a master, in as few requests as the limits allow. Never sends a task that was not
//! checked, and never retries a request with other ids.

use crate::{client::Client, exit::Failure};
use anyhow::Context as _;
use muster_protocol::{
    api::{Endpoint, NewTask, Submitted},
    limit,
};
use serde::Serialize;
use serde_json::value::RawValue;

/// How many bytes of tasks one request may have. Below [`limit::API_SIZE_MAX`], and low enough for a
/// server with a slightly lower `max_payload`.
const CHUNK_SIZE_MAX: usize = 700_000;

/// A request that is being filled: its tasks are serialised once, which gives their size.
#[derive(Default)]
pub struct Chunk {
    tasks: Vec<Box<RawValue>>,
    size: usize,
}

#[derive(Serialize)]
struct Body<'a> {
    tasks: &'a [Box<RawValue>],
}

impl Chunk {
    /// How many tasks it has.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether it has no tasks.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Adds a task, or returns it if the chunk has to be sent first.
    pub fn push(&mut self, task: Box<RawValue>) -> Result<(), Box<RawValue>> {
        let size = task.get().len() + 1;
        let is_full = self.len() >= limit::SUBMIT_TASKS_MAX || self.size + size > CHUNK_SIZE_MAX;
        if is_full && !self.is_empty() {
            return Err(task);
        }
        self.tasks.push(task);
        self.size += size;
        Ok(())
    }

    /// Sends the request; afterwards every task of it is in the registry.
    pub async fn submit(self, client: &Client) -> anyhow::Result<usize> {
        let body = Body { tasks: &self.tasks };
        let answer: Submitted = client.insist(Endpoint::TaskSubmit, &body).await?;
        anyhow::ensure!(
            answer.stored == self.len() as u64,
            "a master stored {} of {} tasks",
            answer.stored,
            self.len()
        );
        Ok(self.len())
    }
}

/// A task as it is sent. A task that exceeds a limit is refused here.
pub fn prepare(task: &NewTask) -> anyhow::Result<Box<RawValue>> {
    task.spec.check().map_err(|error| Failure::user(error.to_string()))?;
    let text = serde_json::value::to_raw_value(task).context("a task is always JSON")?;
    if text.get().len() > CHUNK_SIZE_MAX {
        let failure = Failure::user("the task's arguments and labels are too long for one request");
        return Err(failure.hint("give it what it needs as input: --input @FILE").into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(size: usize) -> Box<RawValue> {
        let text = format!("\"{}\"", "x".repeat(size - 2));
        RawValue::from_string(text).expect("a string is JSON")
    }

    fn chunks(sizes: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut done = Vec::new();
        let mut chunk = Chunk::default();
        for size in sizes {
            if let Err(task) = chunk.push(raw(size)) {
                done.push(std::mem::take(&mut chunk).len());
                assert!(chunk.push(task).is_ok(), "an empty chunk takes any task");
            }
        }
        done.push(chunk.len());
        done
    }

    #[test]
    fn chunks_keep_both_limits() {
        assert_eq!(chunks([10; 3]), [3]);
        assert_eq!(chunks([10; 2_500]), [1_000, 1_000, 500]);
        assert_eq!(chunks([300_000; 5]), [2, 2, 1]);
        assert_eq!(chunks([800_000, 10, 10]), [1, 2]);
    }
}
