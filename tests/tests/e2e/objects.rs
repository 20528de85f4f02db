//! What is stored is found also where replicas of its store are behind: none of them is asked.

use async_nats::jetstream::{self, object_store::Config};
use futures::StreamExt as _;
use muster_tests::Fleet;
use std::time::Duration;
use tokio::runtime::Runtime;

/// More than a record carries inline.
const INPUT: usize = 100_000;

/// How long nothing comes before nothing more is on its way.
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn only_the_leader_of_a_store_is_asked_for_an_object() {
    let mut fleet = Fleet::registry();
    let names = fleet.names();
    let runtime = Runtime::new().expect("threads");
    let (context, mut heard) = runtime.block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("nats-server answers");
        let context = jetstream::new(client.clone());
        // As any client makes it: replicas answer for the leader.
        let bucket = names.data_store();
        let config = Config { bucket, num_replicas: 1, ..Config::default() };
        context.create_object_store(config).await.expect("a store");
        let heard = client.subscribe("$JS.API.DIRECT.GET.>").await.expect("a subscription");
        client.flush().await.expect("nats-server answers");
        (context, heard)
    });
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    let input = fleet.path("input");
    std::fs::write(&input, vec![b'x'; INPUT]).expect("a file");
    let input = format!("@{}", input.display());
    let output = fleet.run(&["task", "run", "upper", "--input", &input, "--wait"]).ok().out;
    assert_eq!(output.len(), INPUT);
    runtime.block_on(async {
        for store in [names.data_store(), names.module_store()] {
            let stream = context.get_stream(format!("OBJ_{store}")).await.expect("it is there");
            assert!(!stream.cached_info().config.allow_direct, "replicas of {store} answer");
        }
        while let Ok(Some(asked)) = tokio::time::timeout(QUIET, heard.next()).await {
            assert!(!asked.subject.contains(".OBJ_"), "{} was asked", asked.subject);
        }
    });
}
