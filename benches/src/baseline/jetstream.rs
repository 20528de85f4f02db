//! What JetStream does alone: keys that are created and then updated, each by compare-and-set, on a
//! stream with the same settings and with values of the same sizes as the task records. Never with fewer
//! guarantees than a record has.

use crate::figures::Times;
use anyhow::Context as _;
use async_nats::jetstream::{self, message::PublishMessage, stream::Config};
use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use muster_protocol::subject::{Bucket, Names};
use std::time::{Duration, Instant};

/// Writes in flight at once. More of them are not faster, and many fewer are slower.
const IN_FLIGHT: usize = 2_000;

/// The timeout of a write. All other writes in flight may be before it, and a disk that syncs each one
/// may be busy with other programs too.
const ACK_WITHIN: Duration = Duration::from_secs(60);

/// The retention time of a finished record. The message of a record contains it, and so do these
/// messages.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// The sizes of the values, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The size at the creation of a key.
    pub create: usize,
    /// The size at an update of a key.
    pub update: usize,
}

/// Rates, in writes a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// While keys were created.
    pub create: f64,
    /// While they were updated.
    pub update: f64,
    /// Over both together.
    pub both: f64,
}

/// An empty stream like that of the task records.
pub struct Raw {
    context: jetstream::Context,
    name: String,
    sizes: Sizes,
}

impl Raw {
    /// Creates the stream `name` in the same nats-server, with the settings of the stream of task
    /// records.
    ///
    /// # Errors
    ///
    /// There are no task records, or NATS does not answer.
    pub async fn beside(
        url: &str,
        names: &Names,
        name: &str,
        sizes: Sizes,
    ) -> anyhow::Result<Self> {
        let client =
            async_nats::ConnectOptions::new().client_capacity(16 * 1024).connect(url).await?;
        let context = jetstream::context::ContextBuilder::new()
            .timeout(ACK_WITHIN)
            .ack_timeout(ACK_WITHIN)
            .build(client);
        let like = context.get_stream(names.stream(Bucket::Tasks)).await?.cached_info().clone();
        let config =
            Config { name: name.into(), subjects: vec![format!("{name}.>")], ..like.config };
        context.create_stream(config).await?;
        Ok(Raw { context, name: name.into(), sizes })
    }

    /// Creates `count` keys and then updates each, as fast as the registry accepts the writes.
    ///
    /// # Errors
    ///
    /// A write was refused or not answered.
    pub async fn pipelined(&self, count: usize) -> anyhow::Result<Rates> {
        let began = Instant::now();
        let created = self.pass(&vec![0; count], self.sizes.create, None).await?;
        let between = Instant::now();
        self.pass(&created, self.sizes.update, Some(KEEP)).await?;
        let (first, second) = (between - began, between.elapsed());
        let rate = |writes: usize, took: Duration| writes as f64 / took.as_secs_f64();
        Ok(Rates {
            create: rate(count, first),
            update: rate(count, second),
            both: rate(2 * count, first + second),
        })
    }

    async fn pass(
        &self,
        expect: &[u64],
        size: usize,
        keep: Option<Duration>,
    ) -> anyhow::Result<Vec<u64>> {
        let value = Bytes::from(vec![b'x'; size]);
        let mut revisions = vec![0; expect.len()];
        let mut open = FuturesUnordered::new();
        for (number, &expect) in expect.iter().enumerate() {
            let ack = self.send(number, expect, value.clone(), keep).await?;
            open.push(async move { (number, ack.await) });
            if open.len() >= IN_FLIGHT {
                let (number, ack) = open.next().await.context("an acknowledgement")?;
                revisions[number] = ack?.sequence;
            }
        }
        while let Some((number, ack)) = open.next().await {
            revisions[number] = ack?.sequence;
        }
        Ok(revisions)
    }

    async fn send(
        &self,
        number: usize,
        expect: u64,
        value: Bytes,
        keep: Option<Duration>,
    ) -> anyhow::Result<jetstream::context::PublishAckFuture> {
        let mut publish =
            PublishMessage::build().payload(value).expected_last_subject_sequence(expect);
        if let Some(keep) = keep {
            publish = publish.ttl(keep);
        }
        // The key is as long as that of a task.
        let subject = format!("{}.{number:026}", self.name);
        Ok(self.context.send_publish(subject, publish).await?)
    }

    /// Updates one key again and again, each time after the last answer.
    ///
    /// # Errors
    ///
    /// A write was refused or not answered.
    pub async fn one_at_a_time(&self, count: usize) -> anyhow::Result<Times> {
        let value = Bytes::from(vec![b'x'; self.sizes.update]);
        let mut revision = 0;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            // No other round uses this key.
            let ack = self.send(usize::MAX, revision, value.clone(), None).await?;
            revision = ack.await?.sequence;
            times.push(began.elapsed());
        }
        Ok(Times::new(times))
    }

    /// Removes the stream, so that it does not influence later measurements.
    ///
    /// # Errors
    ///
    /// NATS does not answer.
    pub async fn remove(self) -> anyhow::Result<()> {
        self.context.delete_stream(&self.name).await?;
        Ok(())
    }
}
