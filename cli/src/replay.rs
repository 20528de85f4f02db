//! Reads a stream of the fleet from some point on. Never leaves anything behind in it: its
//! consumer is ordered and dies with the command.

use crate::{client::Client, exit::Failure};
use anyhow::Context as _;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures::StreamExt as _;
use std::time::{Duration, SystemTime};

/// Silence after which what is missing will not come: a server answers within milliseconds.
const SILENCE: Duration = Duration::from_secs(5);

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// With the oldest message that is kept.
    First,
    /// With what is written from now on.
    New,
    /// With what was written so long ago.
    Since(Duration),
}

/// A place in a stream.
pub struct Replay {
    messages: pull::Ordered,
    /// Messages that were there at the beginning and were not read yet.
    pending: u64,
}

impl Replay {
    /// Goes to the start in what the stream keeps of `subject`.
    pub async fn open(
        client: &Client,
        stream: &str,
        subject: String,
        start: Start,
    ) -> anyhow::Result<Self> {
        let deliver_policy = match start {
            Start::First => DeliverPolicy::All,
            Start::New => DeliverPolicy::New,
            Start::Since(ago) => {
                DeliverPolicy::ByStartTime { start_time: (SystemTime::now() - ago).into() }
            }
        };
        let stream = client.jetstream.get_stream(stream).await.map_err(|error| {
            Failure::new(format!("the fleet has no stream {stream}: {error}"))
                .hint("the first master makes it: start one with `muster master` or `muster dev`")
        })?;
        let config = pull::OrderedConfig {
            filter_subject: subject,
            deliver_policy,
            ..pull::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.context("cannot read the stream")?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.context("cannot read the stream")?;
        Ok(Replay { messages, pending })
    }

    /// The next of the messages that were there at the beginning.
    pub async fn next(&mut self) -> anyhow::Result<Option<async_nats::Message>> {
        if self.pending == 0 {
            return Ok(None);
        }
        let Ok(message) = tokio::time::timeout(SILENCE, self.read()).await else {
            // What was counted has expired meanwhile.
            self.pending = 0;
            return Ok(None);
        };
        let message = message?;
        let left = message.info().map(|info| info.pending).unwrap_or_default();
        // What is written meanwhile counts as pending too, and would never end.
        self.pending = left.min(self.pending - 1);
        Ok(Some(message.into()))
    }

    /// The next message, whenever it comes. May be dropped and called again.
    pub async fn follow(&mut self) -> anyhow::Result<async_nats::Message> {
        Ok(self.read().await?.into())
    }

    async fn read(&mut self) -> anyhow::Result<async_nats::jetstream::Message> {
        let message = self.messages.next().await.context("the stream has ended")?;
        message.context("cannot read the stream")
    }
}
