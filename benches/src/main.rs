//! What a fleet does on this machine: durable no-op tasks a second, and the time from submission to
//! result, beside what the raw registry does in the same run. Prints; never judges.

use anyhow::Context as _;
use async_nats::jetstream;
use futures::{StreamExt, stream::FuturesUnordered};
use muster_protocol::{
    Digest, TaskId,
    api::{NewTask, Submit, endpoint},
    subject::Names,
    task::{Data, ModuleRef, TaskSpec},
};
use muster_tests::{Fleet, fleet::text};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const MAPPED: usize = 10_000;
const ROUNDS: usize = 5;
const ALONE: usize = 1_000;
const RAW: usize = 50_000;
/// Writes that a task needs in the registry: its creation and its end, where a slot is free.
const WRITES_LEAST: f64 = 2.0;

fn main() -> anyhow::Result<()> {
    let fleet = Fleet::start(2, 2);
    fleet.push("noop");
    let runtime = tokio::runtime::Runtime::new()?;
    let raw = runtime.block_on(raw_writes(&fleet.nats_url()))?;
    println!("raw pipelined JetStream creates      {raw:>10.0} /s");

    let inputs = fleet.path("inputs");
    std::fs::write(&inputs, "x\n".repeat(MAPPED))?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let mapped = fleet.run(&["map", "noop", text(&inputs)]).ok();
        let took = started.elapsed();
        anyhow::ensure!(mapped.text().lines().count() == MAPPED, "results are missing");
        rates.push(MAPPED as f64 / took.as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let median = rates[ROUNDS / 2];
    println!(
        "map of {MAPPED} no-op tasks             {median:>10.0} /s   ({:.0} to {:.0}, {ROUNDS} rounds)",
        rates[0],
        rates[ROUNDS - 1]
    );
    println!(
        "  of raw / {WRITES_LEAST} writes              {:>10.0} %",
        median / (raw / WRITES_LEAST) * 100.0
    );

    let mut waits = runtime.block_on(one_at_a_time(&fleet))?;
    waits.sort();
    println!(
        "submit to result, one at a time  p50 {:>10.0} us",
        waits[ALONE / 2].as_secs_f64() * 1e6
    );
    println!(
        "                                 p99 {:>10.0} us",
        waits[ALONE * 99 / 100].as_secs_f64() * 1e6
    );
    Ok(())
}

/// Creates keys of 600 bytes as fast as the registry takes them, each expecting its absence.
async fn raw_writes(url: &str) -> anyhow::Result<f64> {
    let client = async_nats::ConnectOptions::new().client_capacity(16 * 1024).connect(url).await?;
    let context = jetstream::new(client);
    let config = jetstream::stream::Config {
        name: "raw".into(),
        subjects: vec!["raw.>".into()],
        max_messages_per_subject: 1,
        ..Default::default()
    };
    context.create_stream(config).await?;
    let started = Instant::now();
    let mut open = FuturesUnordered::new();
    for number in 0..RAW {
        let publish = jetstream::message::PublishMessage::build()
            .payload(vec![b'x'; 600].into())
            .expected_last_subject_sequence(0);
        open.push(context.send_publish(format!("raw.{number}"), publish).await?.into_future());
        if open.len() >= 1_000 {
            open.next().await.context("an acknowledgement")??;
        }
    }
    while let Some(ack) = open.next().await {
        ack?;
    }
    let rate = RAW as f64 / started.elapsed().as_secs_f64();
    context.delete_stream("raw").await?;
    Ok(rate)
}

/// From the submission of one task to the news of its end, again and again.
async fn one_at_a_time(fleet: &Fleet) -> anyhow::Result<Vec<Duration>> {
    let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    let digest = modules["modules"][0]["versions"][0]["digest"].as_str().context("a digest")?;
    let module = ModuleRef { name: Some("noop:1".into()), digest: digest.parse::<Digest>()? };
    let spec = Arc::new(TaskSpec::new(module, Data::EMPTY));
    let client = async_nats::connect(fleet.nats_url()).await?;
    let names: Names = fleet.names();
    let base = u128::from(std::process::id()) << 64;
    let mut waits = Vec::with_capacity(ALONE);
    for number in 0..ALONE {
        let id = TaskId(base + number as u128);
        let mut ended = client.subscribe(names.done(muster_protocol::BatchId(id.0))).await?;
        client.flush().await?;
        let body = serde_json::to_vec(&Submit { tasks: vec![NewTask { id, spec: spec.clone() }] })?;
        let started = Instant::now();
        client.request(names.api(endpoint::TASK_SUBMIT), body.into()).await?;
        tokio::time::timeout(Duration::from_secs(10), ended.next()).await?.context("its end")?;
        waits.push(started.elapsed());
        ended.unsubscribe().await?;
    }
    Ok(waits)
}
