//! Sites: a place with a nats-server of its own that is a leaf node of the hub's.

use async_nats::jetstream;
use futures::TryStreamExt as _;
use muster_protocol::{
    GroupName,
    subject::{Bucket, Names},
};
use muster_tests::{
    Fleet,
    fleet::{HUB, wait_for},
};
use serde_json::Value;
use std::time::Duration;

const SITE: &str = "shop7";

/// A client of the hub's server that may do everything.
async fn client_of(hub: &Fleet) -> async_nats::Client {
    let options = async_nats::ConnectOptions::with_user_and_password("all".into(), "a".into());
    options.connect(hub.nats_url()).await.expect("nats-server answers")
}

/// The newest value of a key of the hub's fleet, and its revision.
fn value(hub: &Fleet, bucket: Bucket, key: &str) -> Option<(Value, u64)> {
    let names = Names::new(GroupName::default());
    let found = tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let stream =
            jetstream::new(client_of(hub).await).get_stream(names.stream(bucket)).await.ok()?;
        stream.get_last_raw_message_by_subject(&names.key(bucket, key)).await.ok()
    })?;
    Some((serde_json::from_slice(&found.payload).ok()?, found.sequence))
}

#[test]
fn a_worker_at_a_site_may_hold_its_lease_at_the_hub() {
    let (mut hub, leafs) = Fleet::hub();
    let site = Fleet::site(SITE, leafs, None);
    hub.start_master("m1");
    let nats = ["--nats", &site.nats_url(), "--nats-domain", HUB];
    hub.start_worker_without_nats("w1", &nats);
    let (before, revision) = value(&hub, Bucket::Workers, "w1").expect("a lease");
    // Now it renews through the leaf node, or not at all.
    hub.kill("m1");
    std::thread::sleep(Duration::from_secs(6));
    let (after, later) = value(&hub, Bucket::Workers, "w1").expect("a lease");
    assert_eq!(after["session"], before["session"]);
    assert!(later >= revision + 4, "{later} after {revision}; {}", hub.log("w1"));
    let streams = tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(site.nats_url()).await.expect("nats-server answers");
        jetstream::new(client).query_account().await.expect("JetStream answers").streams
    });
    assert_eq!(streams, 0, "nothing is copied to the site");
}

/// The newest lease of a master of the hub's fleet.
fn lease_of(hub: &Fleet, master: &str) -> Option<Value> {
    let bucket = Names::new(GroupName::default()).bucket(Bucket::Masters);
    tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let bucket = jetstream::new(client_of(hub).await).get_key_value(bucket).await.ok()?;
        let keys: Vec<String> = bucket.keys().await.ok()?.try_collect().await.ok()?;
        let key = keys.iter().find(|key| key.starts_with(&format!("{master}.")))?;
        serde_json::from_slice(&bucket.get(key.as_str()).await.ok()??).ok()
    })
}

#[test]
fn a_master_behind_a_leaf_node_does_not_vouch_for_the_server_of_the_hub() {
    let (mut hub, leafs) = Fleet::hub();
    let mut fleet = Fleet::behind_a_leaf_node(leafs, "");
    fleet.start_master("m1");
    hub.start_master("m2");
    let renewals = |lease: &Value| lease["renewal"].as_u64().expect("a number");
    let direct = wait_for("a master to have called the roll", || {
        lease_of(&hub, "m2").filter(|lease| lease["vouches"].is_string())
    });
    // By now the other one has called it as well.
    let behind = wait_for("as many renewals", || {
        lease_of(&hub, "m1").filter(|lease| renewals(lease) > renewals(&direct) + 1)
    });
    assert!(behind["vouches"].is_null(), "its server may outlive what the hub has lost: {behind}");
    assert!(fleet.log("m1").contains("behind a leaf node"), "{}", fleet.log("m1"));
}

#[test]
fn a_wrong_domain_is_named() {
    let (mut hub, _) = Fleet::hub();
    let contexts = hub.path("nats/context");
    std::fs::create_dir_all(&contexts).expect("a directory");
    let context = format!(r#"{{"url":"{}","jetstream_domain":"hup"}}"#, hub.nats_url());
    std::fs::write(contexts.join("edge.json"), context).expect("a file");
    hub.set_variable("XDG_CONFIG_HOME", hub.path(""));
    let by_context = hub.run(&["--context", "edge", "task", "ls"]);
    hub.set_variable("MUSTER_NATS_DOMAIN", "hup".into());
    let by_variable = hub.run(&["task", "ls"]);
    hub.launch_master("m1");
    assert_eq!((by_context.code, by_variable.code, hub.ended("m1")), (2, 2, 2));
    for said in [by_context.err, by_variable.err, hub.log("m1")] {
        assert!(said.contains("JetStream domain hup; correct --nats-domain"), "{said}");
        assert!(said.contains("domain of the connected server is hub"), "{said}");
    }
    hub.launch_master_with("m2", &["--nats-domain", "a.b"]);
    assert_eq!(hub.ended("m2"), 2);
    hub.start_master_with("m3", &["--nats-domain", HUB]);
}
