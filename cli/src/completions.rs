//! Learns the ends of tasks: from completions that masters publish, and from the records if those are
//! lost. Never reports an end twice, and never holds more than the ids of open tasks.

use crate::{client::Client, exit};
use anyhow::Context as _;
use async_nats::Subscriber;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use muster_protocol::{
    BatchId, TaskId,
    api::{self, TaskEnded},
    limit,
    task::{Outcome, TaskState},
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// After this silence the records are read: a hint may have been lost.
const SILENCE: Duration = Duration::from_secs(2);

/// How many tasks are asked for at once; the others follow in the next round.
const ROUND_MAX: usize = 512;

/// How long a record must be missing before it counts as gone: until then, the server from which a master
/// has read may be behind.
const GONE_AFTER: Duration = limit::LEADER_LAG_MAX;

/// Why there is no record of a task that was submitted.
pub const GONE: &str = "its record has expired, or the registry has lost it";

/// The end of a task.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The task that ended.
    pub task: TaskId,
    /// How the task ended; absent if its record is [`GONE`].
    pub outcome: Option<Arc<Outcome>>,
}

/// What is known of a task that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// It is being submitted; the registry may not have it yet.
    Sent,
    /// It is in the registry; and since when rounds do not find it, if the last one did not.
    Stored { missing_since: Option<Instant> },
}

/// The answer to one round: the ids asked for, and the tasks that were found.
type LookUp = (Vec<TaskId>, anyhow::Result<Vec<api::TaskView>>);

/// The open tasks of one batch, and their ends as they become known.
pub struct Completions {
    client: Client,
    hints: Subscriber,
    connections: watch::Receiver<u64>,
    open: BTreeMap<TaskId, Open>,
    /// The last task asked for; the next round continues after it.
    cursor: Option<TaskId>,
    asked: FuturesUnordered<BoxFuture<'static, LookUp>>,
    ready: VecDeque<Completion>,
    ask_at: Instant,
    /// Whether the user was warned of the present outage.
    warned: bool,
    /// The reasons why tasks wait, if they are to be printed.
    waits: Option<WaitReasons>,
}

/// Prints why a task has not started, again whenever the reason changes.
#[derive(Default)]
pub struct WaitReasons {
    told: String,
}

impl WaitReasons {
    /// Prints the reason of the first of these tasks that waits.
    pub fn tell(&mut self, views: &[api::TaskView]) {
        let waits = |view: &&api::TaskView| matches!(view.record.state, TaskState::Queued { .. });
        let Some(view) = views.iter().find(waits).filter(|view| view.why != self.told) else {
            return;
        };
        self.told.clone_from(&view.why);
        exit::warn(&format!("task {} waits: {}", view.record.id, view.why));
    }
}

impl Completions {
    /// Begins to listen. The tasks may be submitted only afterwards, or an early end could be missed
    /// for [`SILENCE`].
    pub async fn listen(client: &Client, audience: BatchId) -> anyhow::Result<Self> {
        let hints = client.nats.subscribe(client.names.done(audience)).await;
        let hints = hints.context("cannot listen for the ends of tasks")?;
        client.nats.flush().await.context("cannot listen for the ends of tasks")?;
        let mut connections = client.connections.clone();
        connections.mark_unchanged();
        Ok(Completions {
            client: client.clone(),
            hints,
            connections,
            open: BTreeMap::new(),
            cursor: None,
            asked: FuturesUnordered::new(),
            ready: VecDeque::new(),
            ask_at: Instant::now() + SILENCE,
            warned: false,
            waits: None,
        })
    }

    /// Prints on standard error why a task waits.
    pub fn telling_waits(self) -> Self {
        Completions { waits: Some(WaitReasons::default()), ..self }
    }

    /// Waits for this task too, which is about to be submitted.
    pub fn expect(&mut self, task: TaskId) {
        self.open.insert(task, Open::Sent);
    }

    /// Its submission was acknowledged: its record can be read from now on.
    pub fn stored(&mut self, task: TaskId) {
        // The task may have ended before the acknowledgement was read.
        if let Some(open) = self.open.get_mut(&task) {
            *open = Open::Stored { missing_since: None };
        }
    }

    /// Reads the records at once: the tasks may have ended before this command listened.
    pub fn hurry(&mut self) {
        self.ask_at = Instant::now();
    }

    /// Whether every task has ended and was returned.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.ready.is_empty()
    }

    /// The next end; never returns while no task is open. May be dropped and called again.
    pub async fn next(&mut self) -> anyhow::Result<Completion> {
        loop {
            if let Some(end) = self.ready.pop_front() {
                return Ok(end);
            }
            tokio::select! {
                hint = self.hints.next() => {
                    let hint = hint.context("the connection to NATS is closed")?;
                    self.hear(&hint.payload);
                }
                Some((asked, answer)) = self.asked.next() => match answer {
                    Ok(views) => self.learn(&asked, views),
                    Err(error) => self.endure(&error),
                },
                changed = self.connections.changed() => {
                    changed.context("the connection to NATS is closed")?;
                    // Completions published while the connection was down are lost.
                    self.ask_at = Instant::now();
                }
                () = sleep_until(self.ask_at) => self.ask(),
            }
        }
    }

    /// A hint that cannot be parsed is ignored: the record will show the end.
    fn hear(&mut self, payload: &[u8]) {
        self.ask_at = Instant::now() + SILENCE;
        for TaskEnded { task, outcome } in
            serde_json::from_slice::<Vec<TaskEnded>>(payload).unwrap_or_default()
        {
            self.end(task, Some(outcome));
        }
    }

    fn end(&mut self, task: TaskId, outcome: Option<Arc<Outcome>>) {
        if self.open.remove(&task).is_some() {
            self.ready.push_back(Completion { task, outcome });
        }
    }

    fn ask(&mut self) {
        self.ask_at = Instant::now() + SILENCE;
        if !self.asked.is_empty() {
            return;
        }
        let ids = turn(&self.open, self.cursor, ROUND_MAX);
        self.cursor = ids.last().copied();
        if ids.is_empty() {
            return;
        }
        let client = self.client.clone();
        self.asked.push(Box::pin(async move {
            let answer = client.tasks(&ids).await;
            (ids, answer)
        }));
    }

    /// An outage does not end the tasks, so the command goes on waiting.
    fn endure(&mut self, error: &anyhow::Error) {
        if !self.warned {
            self.warned = true;
            exit::warn(&format!("{error:#}; still waiting"));
        }
    }

    fn learn(&mut self, asked: &[TaskId], views: Vec<api::TaskView>) {
        self.warned = false;
        if let Some(waits) = &mut self.waits {
            waits.tell(&views);
        }
        for view in &views {
            if let TaskState::Done { outcome, .. } = &view.record.state {
                self.end(view.record.id, Some(outcome.clone()));
            }
        }
        if !self.ready.is_empty() {
            // This completion was lost, and probably others too.
            self.ask_at = Instant::now();
        }
        for id in asked {
            let found = views.iter().any(|view| view.record.id == *id);
            let Some(Open::Stored { missing_since }) = self.open.get_mut(id) else { continue };
            if found {
                *missing_since = None;
            } else if missing_since.get_or_insert_with(Instant::now).elapsed() >= GONE_AFTER {
                self.end(*id, None);
            }
        }
    }
}

/// The next `max` stored tasks after `cursor`, continued from the beginning if there are fewer.
fn turn(open: &BTreeMap<TaskId, Open>, cursor: Option<TaskId>, max: usize) -> Vec<TaskId> {
    let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
    let after = open.range((from, Bound::Unbounded));
    let before =
        open.range((Bound::Unbounded, cursor.map_or(Bound::Excluded(TaskId(0)), Bound::Included)));
    let stored = after.chain(before).filter(|(_, open)| **open != Open::Sent);
    stored.take(max).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_open_task_has_its_turn() {
        let stored = Open::Stored { missing_since: None };
        let mut open: BTreeMap<_, _> = (1..=5).map(|id| (TaskId(id), stored)).collect();
        open.insert(TaskId(6), Open::Sent);
        let ids = |cursor: Option<u128>, max| {
            turn(&open, cursor.map(TaskId), max).iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(ids(None, 3), [1, 2, 3]);
        assert_eq!(ids(Some(3), 3), [4, 5, 1]);
        assert_eq!(ids(Some(5), 9), [1, 2, 3, 4, 5]);
        assert_eq!(ids(Some(9), 2), [1, 2], "the cursor's own task may have ended");
        assert!(turn(&BTreeMap::new(), Some(TaskId(3)), 2).is_empty());
    }
}
