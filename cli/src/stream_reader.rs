//! Reads the events of the fleet, the logs of a task or the audit from masters, page by page, across restarts of masters
//! and of NATS. Never misses a message that is kept.

use crate::{
    client::{Client, TryError, persist},
    exit,
};
use futures::StreamExt as _;
use muster_protocol::{
    TaskId,
    api::{Endpoint, Page, PageMessage, PageStart, ReadAudit, ReadEvents, ReadLogs},
};
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Interval, MissedTickBehavior};

/// How often to ask for the next page when no message has told that there is one.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long to wait at least between two pages while messages arrive one by one.
const ASK_AFTER: Duration = Duration::from_millis(50);

/// What to read.
#[derive(Clone, Copy, Debug)]
pub enum History {
    /// The events of the fleet.
    Events,
    /// The logs of the runs of a task.
    Logs(TaskId),
    /// The audit. Its entries are not published to clients.
    Audit,
}

/// A position among the messages.
pub struct StreamReader {
    client: Client,
    history: History,
    /// Messages that were read and are not returned yet.
    read: VecDeque<PageMessage>,
    /// Where the next page begins.
    from: PageStart,
    /// How many messages were there at the beginning and are not read yet.
    pending: u64,
    /// Messages as they are published: hints that there is another page. They may be missed.
    hints: Option<async_nats::Subscriber>,
    ask: Interval,
    /// Whether the user was warned of the present outage.
    warned: bool,
    /// What warns the user.
    warn: Box<dyn Fn(&str) + Send + Sync>,
}

impl StreamReader {
    /// Goes to the start among the messages that are kept. Warns on standard error.
    pub async fn open(client: &Client, history: History, start: PageStart) -> anyhow::Result<Self> {
        StreamReader::open_with(client, history, start, exit::warn).await
    }

    /// Like [`open`](StreamReader::open), and warns by `warn`.
    pub async fn open_with(
        client: &Client,
        history: History,
        start: PageStart,
        warn: impl Fn(&str) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let subject = match history {
            History::Events => Some(client.names.events()),
            History::Logs(task) => Some(client.names.logs(task)),
            History::Audit => None,
        };
        let hints = match subject {
            Some(subject) => Some(client.nats.subscribe(subject).await?),
            None => None,
        };
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reader = StreamReader {
            client: client.clone(),
            history,
            read: VecDeque::new(),
            from: start,
            pending: 0,
            hints,
            ask,
            warned: false,
            warn: Box::new(warn),
        };
        let page = persist(|| reader.page()).await?;
        reader.pending = page.messages.len() as u64 + page.left;
        reader.take(page);
        Ok(reader)
    }

    /// How many of the messages that were there at the beginning are not returned yet.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// The next of the messages that were there at the beginning.
    pub async fn next(&mut self) -> anyhow::Result<Option<PageMessage>> {
        while self.pending > 0 {
            if let Some(message) = self.read.pop_front() {
                self.pending -= 1;
                return Ok(Some(message));
            }
            if !self.more().await? {
                // The messages that were counted have expired meanwhile.
                self.pending = 0;
            }
        }
        Ok(None)
    }

    /// The next message, whenever it arrives. May be dropped and called again.
    pub async fn follow(&mut self) -> anyhow::Result<PageMessage> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Ok(message);
            }
            if self.more().await? {
                continue;
            }
            let Some(hints) = &mut self.hints else {
                self.ask.tick().await;
                continue;
            };
            tokio::select! {
                hint = hints.next() => {
                    anyhow::ensure!(hint.is_some(), "the connection to NATS is closed");
                    // Its stream has the message a moment later. Others may follow at once.
                    tokio::time::sleep(ASK_AFTER).await;
                    while let Some(Some(_)) = futures::FutureExt::now_or_never(hints.next()) {}
                }
                _ = self.ask.tick() => {}
            }
        }
    }

    async fn page(&self) -> Result<Page, TryError> {
        let from = self.from.clone();
        match self.history {
            History::Events => self.client.attempt(Endpoint::EventRead, &ReadEvents { from }).await,
            History::Logs(task) => {
                self.client.attempt(Endpoint::LogRead, &ReadLogs { task, from }).await
            }
            History::Audit => self.client.attempt(Endpoint::AuditRead, &ReadAudit { from }).await,
        }
    }

    /// Reads the next page, however long that takes. Returns whether it has messages, or others follow it: a page
    /// has none if this user may see none of them.
    async fn more(&mut self) -> anyhow::Result<bool> {
        loop {
            match self.page().await {
                Ok(page) => {
                    self.warned = false;
                    let has_some = !page.messages.is_empty() || page.left > 0;
                    self.take(page);
                    return Ok(has_some);
                }
                Err(TryError::Lasting(error)) => return Err(error),
                Err(TryError::Passing(error)) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        (self.warn)(&format!("{error:#}; trying again"));
                    }
                    tokio::time::sleep(ASK_EVERY).await;
                }
            }
        }
    }

    fn take(&mut self, page: Page) {
        if page.has_gap {
            (self.warn)("messages may be missing here: the registry has removed or lost them");
        }
        self.from = PageStart::After(page.next);
        self.read.extend(page.messages);
    }
}
