//! Clients of NATS that try to change what only masters and workers may write.

use async_nats::jetstream;
use muster_protocol::subject::{Bucket, Endpoint};
use muster_tests::{
    Fleet,
    chaos::{checker, run_log::RunLog},
    fleet::{text, wait_for},
    net::Net,
};
use tokio::runtime::Runtime;

/// Answers to a key would be records that nobody can read, or forged ones.
#[test]
fn an_answer_never_replaces_a_record() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let task = fleet.run(&["task", "run", "upper", "--input", "a", "--id", "order"]).ok().text();
    let done = fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    let runtime = Runtime::new().expect("threads");
    let _within = runtime.enter();
    let client = runtime.block_on(async_nats::connect(fleet.nats_url())).expect("it answers");
    let stream = fleet.names().stream(Bucket::Tasks);
    let end = || {
        let context = jetstream::new(client.clone());
        let stream = runtime.block_on(context.get_stream(&stream)).expect("it is there");
        stream.cached_info().state.last_sequence
    };
    let before = end();
    let key = fleet.names().key(Bucket::Tasks, &task);
    for endpoint in Endpoint::ALL {
        let asked = fleet.names().api(endpoint);
        runtime.block_on(async {
            let sent = client.publish_with_reply(asked.clone(), key.clone(), "{}".into());
            sent.await.expect("it is sent");
            // The endpoint reads requests in their order.
            client.request(asked, "{}".into()).await.expect("an answer");
        });
    }
    assert!(fleet.log("m1").contains("a request without an inbox for its answer"));
    assert_eq!(end(), before, "nothing was written");
    assert_eq!(fleet.record(&task), done);
}

/// Whoever may write under a worker's lease key can end its session, as by deleting the key. The worker
/// and its tasks go on afterwards, and nothing runs twice at once.
#[test]
fn a_lease_that_nobody_can_read_is_replaced() {
    let mut fleet = Fleet::within(Net::Plain, Some("fast"));
    fleet.start_master("m1");
    let journal = fleet.path("w1.journal");
    fleet.start_worker("w1", &["--slots", "1", "--journal", text(&journal)]);
    fleet.push("heart");
    let mut runs = RunLog::new([journal]);
    let input = r#"{"for_ms":3000,"every_us":10000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", input]).ok().text();
    wait_for("it to run", || {
        runs.look().expect("journals are readable");
        runs.runs(&task).iter().any(|run| run.called_ns.is_some()).then_some(())
    });
    let key = fleet.names().key(Bucket::Workers, "w1");
    Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        let context = jetstream::new(client);
        let written = context.publish(key, "not a lease".into()).await;
        written.expect("it is sent").await.expect("it is stored");
    });
    let record = fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    assert_eq!(record["state"]["done"]["outcome"]["verdict"], "completed", "{record}");
    assert_eq!(record["attempts"], 2, "the first one ended with its session: {record}");
    runs.look().expect("journals are readable");
    assert_eq!(runs.runs(&task).len(), 2);
    let overlaps = checker::overlaps(&runs);
    assert!(overlaps.is_empty(), "{overlaps:?}");
}
