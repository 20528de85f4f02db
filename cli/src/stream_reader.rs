//! Reads a stream of the fleet from a given position, across restarts of NATS. Never leaves a consumer
//! behind: it is ordered and ends with the command.

use crate::{
    client::{self, Client, TryError},
    exit::{self, Failure},
};
use anyhow::Context as _;
use async_nats::jetstream::{
    consumer::{DeliverPolicy, pull},
    stream::State,
};
use futures::StreamExt as _;
use muster_wire::objects;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// After this silence no further message will come: a server answers within milliseconds.
const SILENCE: Duration = Duration::from_secs(5);

/// How long to wait before opening a stream again that could not be read.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// With the oldest message that is kept.
    First,
    /// With messages from now on.
    New,
    /// With messages that are at most this old.
    Since(Duration),
}

/// A position in a stream.
pub struct StreamReader {
    client: Client,
    stream: String,
    subject: String,
    start: Start,
    connections: watch::Receiver<u64>,
    /// `None` while the stream cannot be read.
    reading: Option<Reading>,
    /// The sequence of the last message that was returned, or of the last one before the start.
    at: Option<u64>,
    /// The server process that it was read from, and when the stream was created.
    server: String,
    created_ns: i128,
    /// How many messages were there at the beginning and are not read yet.
    pending: u64,
    /// Whether the user was warned of the present outage.
    warned: bool,
}

struct Reading {
    messages: pull::Ordered,
    pending: u64,
    state: State,
    created_ns: i128,
}

impl StreamReader {
    /// Goes to the start in the messages of `subject` that the stream keeps.
    pub async fn open(
        client: &Client,
        stream: &str,
        subject: String,
        start: Start,
    ) -> anyhow::Result<Self> {
        let mut connections = client.connections.clone();
        connections.mark_unchanged();
        let mut replay = StreamReader {
            client: client.clone(),
            stream: stream.into(),
            subject,
            start,
            connections,
            reading: None,
            at: None,
            server: client.nats.server_info().server_id,
            created_ns: 0,
            pending: 0,
            warned: false,
        };
        let reading = replay.begin().await.map_err(|fault| match fault {
            TryError::Passing(error) | TryError::Lasting(error) => error,
        })?;
        (replay.pending, replay.created_ns) = (reading.pending, reading.created_ns);
        replay.at = match start {
            Start::First => Some(0),
            // None of the messages written after this point was returned yet.
            Start::New => Some(reading.state.last_sequence),
            Start::Since(_) => None,
        };
        replay.reading = Some(reading);
        Ok(replay)
    }

    /// The next of the messages that were there at the beginning.
    pub async fn next(&mut self) -> anyhow::Result<Option<async_nats::Message>> {
        if self.pending == 0 {
            return Ok(None);
        }
        let Ok(message) = tokio::time::timeout(SILENCE, self.read()).await else {
            anyhow::ensure!(self.reading.is_some(), "the stream {} cannot be read", self.stream);
            // The messages that were counted have expired meanwhile.
            self.pending = 0;
            return Ok(None);
        };
        let message = message?;
        let left = message.info().map(|info| info.pending).unwrap_or_default();
        // `left` also counts messages written meanwhile. Count down, so that the reading ends.
        self.pending = left.min(self.pending - 1);
        Ok(Some(message.into()))
    }

    /// The next message, whenever it arrives. May be dropped and called again.
    pub async fn follow(&mut self) -> anyhow::Result<async_nats::Message> {
        Ok(self.read().await?.into())
    }

    async fn read(&mut self) -> anyhow::Result<async_nats::jetstream::Message> {
        loop {
            let Some(reading) = &mut self.reading else {
                self.go_on().await?;
                continue;
            };
            tokio::select! {
                message = reading.messages.next() => match message {
                    Some(Ok(message)) => {
                        self.at = message.info().ok().map(|info| info.stream_sequence).or(self.at);
                        return Ok(message);
                    }
                    // The consumer ends with the server's process.
                    Some(Err(_)) | None => self.reading = None,
                },
                changed = self.connections.changed() => {
                    changed.context("the connection to NATS is closed")?;
                    self.reading = None;
                }
            }
        }
    }

    /// Opens the stream again after the last returned message, however long that takes.
    async fn go_on(&mut self) -> anyhow::Result<()> {
        loop {
            match self.begin().await {
                Ok(reading) => {
                    self.warned = false;
                    let server = self.client.nats.server_info().server_id;
                    let is_same = server == std::mem::replace(&mut self.server, server.clone());
                    if !is_same || !follows(&reading.state, self.at) {
                        exit::warn("the connection was lost; messages of that time may be missing");
                    }
                    // A server that lost its newest messages assigns their sequence numbers again.
                    let is_new = reading.created_ns
                        != std::mem::replace(&mut self.created_ns, reading.created_ns);
                    let end = if is_new { 0 } else { reading.state.last_sequence };
                    self.at = self.at.map(|at| at.min(end));
                    self.reading = Some(reading);
                    return Ok(());
                }
                Err(TryError::Lasting(error)) => return Err(error),
                Err(TryError::Passing(error)) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        exit::warn(&format!("{error:#}; trying again"));
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn begin(&self) -> Result<Reading, TryError> {
        let stream = self.client.jetstream.get_stream(&self.stream).await.map_err(|error| {
            if !objects::is_missing(&error) {
                let text = format!("the stream {} cannot be read", self.stream);
                return TryError::Passing(anyhow::Error::new(error).context(text));
            }
            let failure = Failure::new(format!("the fleet has no stream {}", self.stream));
            TryError::Lasting(failure.hint(client::NO_STREAM).into())
        })?;
        let state = stream.cached_info().state.clone();
        let created_ns = stream.cached_info().created.unix_timestamp_nanos();
        let after = |at: u64| DeliverPolicy::ByStartSequence { start_sequence: at + 1 };
        let deliver_policy = match (self.at, self.start) {
            // In a stream that was created again, every message is new.
            (Some(_), _) if created_ns != self.created_ns => DeliverPolicy::All,
            (Some(at), _) => after(at.min(state.last_sequence)),
            (None, Start::First) => DeliverPolicy::All,
            (None, Start::New) => after(state.last_sequence),
            (None, Start::Since(ago)) => {
                DeliverPolicy::ByStartTime { start_time: (SystemTime::now() - ago).into() }
            }
        };
        let config = pull::OrderedConfig {
            filter_subject: self.subject.clone(),
            deliver_policy,
            ..pull::OrderedConfig::default()
        };
        let unread =
            |error: anyhow::Error| TryError::Passing(error.context("cannot read the stream"));
        let consumer =
            stream.create_consumer(config).await.map_err(|error| unread(error.into()))?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| unread(error.into()))?;
        Ok(Reading { messages, pending, state, created_ns })
    }
}

/// Whether a stream still has every message after this one.
fn follows(state: &State, at: Option<u64>) -> bool {
    match at {
        None | Some(0) => true,
        Some(at) => state.first_sequence <= at + 1 && at <= state.last_sequence,
    }
}
