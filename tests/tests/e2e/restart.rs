//! The master or nats-server dies in the middle of a thousand tasks: no task is lost, and none is
//! committed twice.

use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, push::OrderedConfig},
};
use futures::StreamExt;
use muster_protocol::subject::{Bucket, STATE_DONE, STATE_HEADER};
use muster_tests::{Fleet, fleet::text, fleet::wait_for};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    sync::{Arc, Mutex},
};

const TASKS: usize = 1_000;

/// The number of writes of each task's final record, as long as nats-server lives.
type Commits = Arc<Mutex<BTreeMap<String, usize>>>;

/// Watches the tasks bucket from the outside.
fn watch(fleet: &Fleet) -> (tokio::runtime::Runtime, Commits) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("threads");
    let commits = Commits::default();
    let (url, names, counted) = (fleet.nats_url(), fleet.names(), commits.clone());
    runtime.block_on(async {
        let client = async_nats::connect(url).await.expect("nats-server answers");
        let stream = jetstream::new(client.clone()).get_stream(names.stream(Bucket::Tasks)).await;
        let config = OrderedConfig {
            deliver_subject: client.new_inbox(),
            deliver_policy: DeliverPolicy::All,
            filter_subject: names.key(Bucket::Tasks, ">"),
            ..OrderedConfig::default()
        };
        let consumer =
            stream.expect("the stream").create_consumer(config).await.expect("a consumer");
        let mut messages = consumer.messages().await.expect("messages");
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let Ok(message) = message else { continue };
                let state = message.headers.as_ref().and_then(|headers| headers.get(STATE_HEADER));
                if state.is_some_and(|state| state.as_str() == STATE_DONE) {
                    let mut counted = counted.lock().expect("no panic");
                    *counted.entry(message.subject.to_string()).or_default() += 1;
                }
            }
        });
    });
    (runtime, commits)
}

/// Maps a thousand tasks of a few milliseconds, disturbs the fleet in the middle, and demands a thousand
/// results.
fn survive(fleet: &mut Fleet, disturb: impl FnOnce(&mut Fleet)) -> Commits {
    fleet.push("primes");
    let (_runtime, commits) = watch(fleet);
    let inputs = fleet.path("inputs");
    let line = "{\"from\":1,\"to\":3000000}\n";
    std::fs::write(&inputs, line.repeat(TASKS)).expect("a file");
    let results = fleet.path("results");
    let out = std::fs::File::create(&results).expect("a file");
    let mut map = fleet
        .muster(&["map", "primes", text(&inputs), "--unordered"])
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .expect("muster starts");
    wait_for("some to end", || {
        (commits.lock().expect("no panic").len() > TASKS / 10).then_some(())
    });
    disturb(fleet);
    assert!(commits.lock().expect("no panic").len() < TASKS, "it was over before the disturbance");
    let status = map.wait().expect("it ends");
    assert!(status.success(), "{status}");
    let lines = std::fs::read_to_string(&results).expect("a file");
    let tasks: BTreeSet<String> = lines
        .lines()
        .map(|line| {
            let result: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            assert_eq!(result["verdict"], "completed", "{result}");
            assert!(
                result["output"].as_str().is_some_and(|text| text.contains("216816")),
                "{result}"
            );
            result["task"].as_str().expect("an id").to_string()
        })
        .collect();
    assert_eq!(lines.lines().count(), TASKS, "one result each");
    assert_eq!(tasks.len(), TASKS, "a thousand tasks");
    commits
}

#[test]
fn a_master_that_is_killed_and_restarted_loses_nothing() {
    let mut fleet = Fleet::start(2, 2);
    let commits = survive(&mut fleet, |fleet| {
        fleet.kill("m1");
        fleet.start_master("m1");
    });
    wait_for("every commit to be seen", || {
        (commits.lock().expect("no panic").len() == TASKS).then_some(())
    });
    let commits = commits.lock().expect("no panic");
    assert!(commits.values().all(|&count| count == 1), "committed twice: {commits:?}");
}

#[test]
fn a_nats_server_that_is_killed_and_restarted_loses_nothing() {
    let mut fleet = Fleet::start(2, 2);
    let commits = survive(&mut fleet, |fleet| {
        fleet.kill("nats-server");
        fleet.start_nats();
    });
    let commits = commits.lock().expect("no panic");
    assert!(commits.values().all(|&count| count == 1), "committed twice: {commits:?}");
}

#[test]
fn with_two_masters_the_loss_of_one_loses_nothing() {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    fleet.start_master("m2");
    for worker in ["w1", "w2"] {
        fleet.start_worker(worker, &["--slots", "2"]);
    }
    let commits = survive(&mut fleet, |fleet| fleet.kill("m1"));
    wait_for("every commit to be seen", || {
        (commits.lock().expect("no panic").len() == TASKS).then_some(())
    });
    let commits = commits.lock().expect("no panic");
    assert!(commits.values().all(|&count| count == 1), "committed twice: {commits:?}");
}
