//! One task at a time, from its submission over NATS to the message about its end, compared with the
//! cost of the same steps without a fleet. Never with another task in progress.
//!
//! The lower bound is the sum of the steps that a durable task needs: a request to a master, the write
//! of the record, the dispatch and its outcome over QUIC (one round trip), and the write of the outcome.
//! Each step is measured alone.

use crate::{
    baseline::{
        jetstream::{Raw, Sizes},
        quic::Pair,
    },
    figures::Times,
    load,
    measure::{Measure, Target},
};
use anyhow::Context as _;
use futures::StreamExt as _;
use muster_tests::Fleet;
use std::{sync::Arc, time::Instant};

/// The first tasks, which are not counted, so that everything is warm.
const WARM: usize = 200;

const COUNT: usize = 2_000;

/// About the size of a record. The exact size does not matter for a single write.
const SIZES: Sizes = Sizes { create: 600, update: 600 };

/// Requests in flight at once: as many as the streams that a worker may open.
const IN_FLIGHT: usize = 64;
const PIPELINED: usize = 50_000;

const P50_MICROS: f64 = 600.0;
const P99_MICROS: f64 = 3_000.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let fleet = Fleet::start(1, 2);
    fleet.push("noop");
    tokio::runtime::Runtime::new()?.block_on(measure(&fleet))
}

async fn measure(fleet: &Fleet) -> anyhow::Result<Vec<Measure>> {
    let spec = Arc::new(load::spec(fleet, "noop")?);
    let mut client = load::Client::connect(fleet).await?;
    client.run_each(&spec, WARM).await?;
    let whole = Times::new(client.run_each(&spec, COUNT).await?);

    let raw = Raw::beside(&fleet.nats_url(), &fleet.names(), "alone", SIZES).await?;
    raw.one_at_a_time(WARM).await?;
    raw.remove().await?;
    let raw = Raw::beside(&fleet.nats_url(), &fleet.names(), "alone", SIZES).await?;
    let write = raw.one_at_a_time(COUNT).await?;
    raw.remove().await?;
    let request = requests(&fleet.nats_url()).await?;
    let pair = Pair::new(fleet).await?;
    pair.one_at_a_time(WARM).await?;
    let quic = pair.one_at_a_time(COUNT).await?;
    let rate = pair.pipelined(PIPELINED, IN_FLIGHT).await?;
    let rate_alone = COUNT as f64 / quic.total().as_secs_f64();

    let floor = request.micros(50.0) + 2.0 * write.micros(50.0) + quic.micros(50.0);
    let floor = Measure::limit("raw request + 2 writes + QUIC round trip, p50", floor, "µs");
    let p50 = Measure::new("submission → end, one at a time, p50", whole.micros(50.0), "µs");
    let p99 = Measure::new("submission → end, one at a time, p99", whole.micros(99.0), "µs");
    let timed = |name: &str, times: &Times| {
        let note = format!("p99 {:.0} µs", times.micros(99.0));
        Measure::limit(name, times.micros(50.0), "µs").note(note)
    };
    Ok(vec![
        p50.to(&floor).aims(Target::AtMost(P50_MICROS)),
        p99.aims(Target::AtMost(P99_MICROS)),
        floor,
        timed("raw JetStream write, one at a time, p50", &write),
        timed("raw NATS request, one at a time, p50", &request),
        timed("raw QUIC request, one at a time, p50", &quic),
        Measure::limit("raw QUIC requests, one at a time", rate_alone, "/s"),
        Measure::limit(format!("raw QUIC requests, {IN_FLIGHT} under way"), rate, "/s"),
    ])
}

/// Requests that another connection of this process answers at once.
async fn requests(url: &str) -> anyhow::Result<Times> {
    let (asks, answers) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
    let mut asked = answers.subscribe("raw.request").await?;
    load::heard(&answers).await?;
    let answering = tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            let reply = request.reply.context("a request has a reply subject")?;
            answers.publish(reply, request.payload).await?;
        }
        anyhow::Ok(())
    });
    let mut times = Vec::with_capacity(COUNT);
    for number in 0..WARM + COUNT {
        let began = Instant::now();
        asks.request("raw.request", vec![b'x'; SIZES.create].into()).await?;
        if number >= WARM {
            times.push(began.elapsed());
        }
    }
    answering.abort();
    Ok(Times::new(times))
}
