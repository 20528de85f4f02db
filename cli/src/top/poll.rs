//! Asks the masters, again and again: one round of a few bounded questions, at most once a second. Never asks the next
//! question before the last one is answered, and leaves masters that answer slowly more time.

use super::facts::{Reading, TaskPage};
use crate::client::{self, Client, TryError};
use async_nats::connection::State;
use muster_protocol::{
    GroupName, TaskId,
    api::{
        AskLoads, Endpoint, GroupLoads, ListAfter, ListTasks, TaskIds, TaskView, Tasks, Workers,
    },
    task::StateName,
};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

/// How long to wait for an answer. A master that takes longer is asked again in the next round.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The wait after a round is at least so many times as long as the round took: so the questions take a small part of
/// a master's time, however many tasks there are.
const PAUSE_FACTOR: u32 = 10;

/// The longest wait after a round because of that.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Parts of the list of workers, of at most 1 MB each: some thousand workers.
const WORKER_PARTS_MAX: usize = 4;

/// Tasks of each state. More do not fit any screen.
pub const TASKS_MAX: u64 = 200;

/// What came of a round.
pub enum Round {
    /// The answers.
    Read(Box<Reading>),
    /// Nobody has answered, and why.
    Silent(String),
}

/// What to ask.
pub struct Poll {
    /// The masters.
    pub client: Client,
    /// Only this group, if it is named.
    pub group: Option<GroupName>,
    /// The least time from one round to the next.
    pub every: Duration,
    /// The task that is open.
    pub opened: watch::Receiver<Option<TaskId>>,
}

impl Poll {
    /// Asks until nobody takes the answers.
    pub async fn run(self, rounds: mpsc::Sender<Round>) {
        loop {
            let begin = Instant::now();
            let round = self.round().await;
            let next_in = self.every.max((begin.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX));
            let (round, next_at) = match round {
                Ok(reading) => {
                    (Round::Read(Box::new(Reading { next_in, ..reading })), begin + next_in)
                }
                Err(error) => (Round::Silent(format!("{error:#}")), Instant::now() + self.every),
            };
            if rounds.send(round).await.is_err() {
                return;
            }
            tokio::time::sleep_until(next_at).await;
        }
    }

    async fn round(&self) -> anyhow::Result<Reading> {
        // Questions would be kept until there is a connection, and then all be sent at once.
        let state = self.client.nats.connection_state();
        anyhow::ensure!(state == State::Connected, "no master answers: NATS cannot be reached");
        let mut reading = Reading::default();
        let mut after = None;
        for _ in 0..WORKER_PARTS_MAX {
            let part: Workers = self.ask(Endpoint::WorkerList, &ListAfter { after }).await??;
            reading.workers.extend(part.workers);
            after = part.more;
            if after.is_none() {
                break;
            }
        }
        reading.workers_cut = after.is_some();
        if let Some(group) = &self.group {
            reading.workers.retain(|view| view.lease.offer.group == *group);
        }
        reading.running = self.tasks(StateName::Dispatched).await?;
        reading.queued = self.tasks(StateName::Queued).await?;
        reading.opened = self.task().await?;
        reading.loads = self.loads().await;
        Ok(reading)
    }

    /// The newest tasks of a state; or why the masters do not show them.
    async fn tasks(&self, state: StateName) -> anyhow::Result<Result<TaskPage, String>> {
        let question = ListTasks {
            state: Some(state.word().into()),
            group: self.group.as_ref().map(ToString::to_string),
            limit: TASKS_MAX,
            ..ListTasks::default()
        };
        let answer: Result<Tasks, anyhow::Error> = self.ask(Endpoint::TaskList, &question).await?;
        let page = |list: Tasks| TaskPage { is_cut: list.more.is_some(), tasks: list.tasks };
        Ok(answer.map(page).map_err(|error| format!("{error:#}")))
    }

    /// The tasks and workers of the groups; or why the masters do not tell. Those of an earlier version cannot.
    async fn loads(&self) -> Result<GroupLoads, String> {
        let ask = |asked: AskLoads| async move {
            let answer = self.ask(Endpoint::GroupLoad, &asked).await.and_then(|answer| answer);
            answer.map_err(|error| format!("{error:#}"))
        };
        client::loads(self.group.as_ref(), ask).await
    }

    /// The open task, if the masters still have it.
    async fn task(&self) -> anyhow::Result<Option<TaskView>> {
        let Some(id) = *self.opened.borrow() else { return Ok(None) };
        let question = TaskIds { ids: vec![id] };
        let answer: Result<Tasks, anyhow::Error> = self.ask(Endpoint::TaskGet, &question).await?;
        // A task that is gone stays as it was shown last.
        Ok(answer.ok().and_then(|found| found.tasks.into_iter().next()))
    }

    /// Asks once. Fails if nobody answers; an answer may be a refusal.
    async fn ask<A: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        question: &impl Serialize,
    ) -> anyhow::Result<anyhow::Result<A>> {
        let Ok(answer) = timeout(ANSWER_WITHIN, self.client.attempt(endpoint, question)).await
        else {
            anyhow::bail!(
                "no master answers {} within {} s",
                endpoint.word(),
                ANSWER_WITHIN.as_secs()
            );
        };
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(TryError::Lasting(error)) => Ok(Err(error)),
            Err(TryError::Passing(error)) => Err(error),
        }
    }
}
