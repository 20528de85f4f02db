//! A master that is alone receives no copy of its own writes, and misses no write of others.

use async_nats::{HeaderMap, header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, jetstream};
use futures::TryStreamExt as _;
use muster_protocol::subject::Bucket;
use muster_tests::{Fleet, fleet::wait_for};
use rustix::process::Signal;
use tokio::runtime::Runtime;

/// The number of consumers that follow the tasks of a fleet.
fn followers(fleet: &Fleet) -> usize {
    Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("nats-server answers");
        let stream = fleet.names().stream(Bucket::Tasks);
        let stream = jetstream::new(client).get_stream(stream).await.expect("it is there");
        let consumers: Vec<_> = stream.consumers().try_collect().await.expect("an answer");
        // The consumer of a stopped master exists for a while, but no client is bound to it.
        consumers.iter().filter(|consumer| consumer.push_bound).count()
    })
}

#[test]
fn tasks_are_followed_by_masters_in_company_only() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("noop");
    let run = |fleet: &Fleet| fleet.run(&["task", "run", "noop", "--wait"]).ok();
    let until = |fleet: &Fleet, count| {
        wait_for("masters to meet", || (followers(fleet) == count).then_some(()));
    };
    until(&fleet, 0);
    run(&fleet);
    fleet.start_master("m2");
    until(&fleet, 2);
    run(&fleet);
    fleet.signal("m2", Signal::TERM);
    assert_eq!(fleet.ended("m2"), 0);
    until(&fleet, 0);
    run(&fleet);
}

#[test]
fn a_master_alone_notices_what_a_stranger_writes() {
    let fleet = Fleet::start(1, 1);
    fleet.push("noop");
    // No worker can run this task, so its record does not change.
    let task = fleet.run(&["task", "run", "noop", "--group", "nobody"]).ok().text();
    wait_for("the master to rest", || (followers(&fleet) == 0).then_some(()));
    Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("nats-server answers");
        let stream = fleet.names().stream(Bucket::Tasks);
        let subject = fleet.names().key(Bucket::Tasks, &task);
        let context = jetstream::new(client);
        let stream = context.get_stream(stream).await.expect("it is there");
        let kept = stream.get_last_raw_message_by_subject(&subject).await.expect("a record");
        let record = String::from_utf8(kept.payload.to_vec()).expect("JSON");
        let cancelled = record.replacen('{', r#"{"cancel":true,"#, 1);
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, kept.sequence.to_string());
        let sent = context.publish_with_headers(subject, headers, cancelled.into()).await;
        sent.expect("it is sent").await.expect("it is written");
    });
    let verdict = wait_for("the task to end", || {
        let record = fleet.record(&task);
        record["state"]["done"]["outcome"]["verdict"].is_string().then(|| record["state"].clone())
    });
    assert_eq!(verdict["done"]["outcome"]["verdict"], "cancelled", "{verdict}");
}
