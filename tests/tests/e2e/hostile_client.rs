//! A client of NATS that may ask masters, and that tries to change what only masters may write.

use async_nats::jetstream;
use muster_protocol::subject::{Bucket, Endpoint};
use muster_tests::Fleet;
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
