//! What JetStream does alone: keys that are created and then updated, each by compare-and-set, on a
//! stream with the same settings and with values of the same sizes as the task records. Never with fewer
//! guarantees than a record has.

use crate::figures::Times;
use anyhow::Context as _;
use async_nats::{
    HeaderMap, header,
    jetstream::{self, message::PublishMessage, stream::Config},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use muster_protocol::subject::{Bucket, Names};
use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// Writes in flight at once. More of them are not faster, and many fewer are slower.
const IN_FLIGHT: usize = 2_000;

/// Writes of an atomic batch.
pub const BATCH: usize = 100;

/// Batches in flight at once. A stream takes 50 open ones.
const BATCHES_IN_FLIGHT: usize = 16;

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
    client: async_nats::Client,
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
            .build(client.clone());
        let like = context.get_stream(names.stream(Bucket::Tasks)).await?.cached_info().clone();
        let subjects = vec![format!("{name}.>")];
        let config =
            Config { name: name.into(), subjects, allow_atomic_publish: true, ..like.config };
        context.create_stream(config).await?;
        Ok(Raw { client, context, name: name.into(), sizes })
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

    /// Creates `count` keys and then updates each, in atomic batches: the writes of a batch are accepted
    /// together, or none is. Returns the rate in writes a second, over both together.
    ///
    /// # Errors
    ///
    /// A batch was refused or not answered.
    pub async fn batched(&self, count: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        for size in [self.sizes.create, self.sizes.update] {
            let (value, mut open) = (Bytes::from(vec![b'x'; size]), FuturesUnordered::new());
            let updates = size == self.sizes.update;
            for first in (0..count).step_by(BATCH) {
                let last = count.min(first + BATCH);
                open.push(self.batch(first..last, updates, value.clone()).await?);
                if open.len() >= BATCHES_IN_FLIGHT {
                    open.next().await.context("an acknowledgement")??;
                }
            }
            while let Some(ack) = open.next().await {
                ack?;
            }
        }
        Ok(2.0 * count as f64 / began.elapsed().as_secs_f64())
    }

    /// Sends a batch. Keys are created in the order of their numbers in a stream of their own, so that the
    /// number of a key says its first revision.
    async fn batch(
        &self,
        keys: Range<usize>,
        updates: bool,
        value: Bytes,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
        let id = format!("{}-{updates}-{}", self.name, keys.start);
        let (first, last) = (keys.start, keys.end - 1);
        for number in first..last {
            let headers = of_batch(&id, number - first, expected(number, updates));
            self.client.publish_with_headers(self.subject(number), headers, value.clone()).await?;
        }
        let mut headers = of_batch(&id, last - first, expected(last, updates));
        headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
        let subject = self.subject(last);
        let ack = self.context.publish_with_headers(subject, headers, value).await?;
        Ok(async move {
            ack.await?;
            Ok(())
        })
    }

    /// The subject of a key, which is as long as that of a task.
    fn subject(&self, number: usize) -> String {
        format!("{}.{number:026}", self.name)
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
        Ok(self.context.send_publish(self.subject(number), publish).await?)
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

/// The revision that a write in a batch expects: none at the creation of a key, and its first one at the
/// update.
fn expected(number: usize, updates: bool) -> usize {
    if updates { number + 1 } else { 0 }
}

fn of_batch(id: &str, place: usize, expect: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_BATCH_ID, id);
    headers.insert(header::NATS_BATCH_SEQUENCE, (place + 1).to_string());
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expect.to_string());
    headers
}
