//! Sites: a fleet with a nats-server of its own that is a leaf node of the hub's. It goes on while it is
//! cut off, and its events arrive at the hub afterwards, each once.

use async_nats::jetstream;
use futures::TryStreamExt as _;
use muster_protocol::{
    GroupName,
    subject::{Bucket, Names},
};
use muster_tests::{
    Fleet,
    fleet::{HUB, NATS, text, wait_for},
};
use serde_json::Value;
use std::time::{Duration, Instant};

const SITE: &str = "shop7";

/// Longer than the leases of the site, which last 15 s: one that depended on the hub would lapse.
const CUT: Duration = Duration::from_secs(20);

/// A hub that copies the events of the site, and the registry of the site.
fn hub_and_site() -> (Fleet, Fleet) {
    let (mut hub, leafs) = Fleet::hub();
    hub.start_master_with("m1", &["--site", SITE]);
    // A pause of the whole machine is shorter than these leases.
    (hub, Fleet::site(SITE, leafs, Some("roaming")))
}

/// The events of the site's fleet in the order of their stream: all of the last hour, as JSON.
fn events(at: &Fleet, options: &[&str]) -> Vec<Value> {
    let args: Vec<&str> =
        options.iter().copied().chain(["events", "--since", "1h", "--json"]).collect();
    let ran = at.run(&args);
    let lines = String::from_utf8(ran.out).expect("text");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

/// Waits until the hub has the same events as the site, in the same order, and each once.
fn until_complete(hub: &Fleet, site: &Fleet) {
    wait_for("the events of the site", || {
        let at_site = ids(&events(site, &[]));
        (ids(&events(hub, &["--fleet", SITE])) == at_site && !at_site.is_empty()).then_some(())
    });
}

/// The kinds of the hub's events about the site, in their order.
fn told(hub: &Fleet) -> Vec<String> {
    let of_site = |event: &Value| {
        let kind = event["type"].as_str()?.strip_prefix("io.muster.advisory.v1.site_")?;
        assert_eq!(event["site"], SITE, "{event}");
        Some(format!("site.{kind}"))
    };
    events(hub, &[]).iter().filter_map(of_site).collect()
}

/// The sessions of the workers, by their names.
fn sessions(fleet: &Fleet) -> Vec<(Value, Value)> {
    let listed = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    let workers = listed["workers"].as_array().expect("a list").iter();
    workers
        .map(|view| (view["lease"]["worker"].clone(), view["lease"]["session"].clone()))
        .collect()
}

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
fn a_site_that_is_cut_off_goes_on_and_its_events_arrive_afterwards() {
    let (hub, mut site) = hub_and_site();
    site.start_master("m1");
    for worker in ["w1", "w2"] {
        site.start_worker(worker, &["--slots", "2"]);
    }
    // While the line is up, the site is operated from the hub.
    let remote = ["--fleet", SITE, "--nats-domain", SITE];
    let from_hub = |args: &[&str]| {
        let args: Vec<&str> = remote.iter().copied().chain(args.iter().copied()).collect();
        hub.run(&args).ok().text()
    };
    for guest in ["upper", "heart"] {
        from_hub(&["module", "push", text(&muster_tests::place::guest(guest))]);
    }
    let large = hub.path("large");
    std::fs::write(&large, "x".repeat(100_000)).expect("a file");
    let input = format!("@{}", text(&large));
    let out = from_hub(&["task", "run", "upper", "--input", &input, "--wait"]);
    assert_eq!(out.len(), 100_000, "input and output are objects at the site");
    assert!(from_hub(&["worker", "ls"]).contains("w2"));
    assert!(from_hub(&["check"]).contains("are stored"));
    until_complete(&hub, &site);
    let long = from_hub(&["task", "run", "heart", "--input", r#"{"for_ms":22000,"rest":true}"#]);
    site.until("it to run", &long, |record| !record["state"]["dispatched"].is_null());
    let before = sessions(&site);
    wait_for("the first look of the hub", || (told(&hub) == ["site.caught_up"]).then_some(()));

    site.leave_hub();
    let cut = Instant::now();
    for number in 0..20 {
        let input = format!("task {number}");
        let ran = site.run(&["task", "run", "upper", "--input", &input, "--wait"]).ok();
        assert_eq!(ran.text(), input.to_uppercase());
    }
    assert!(site.run(&["task", "ls"]).ok().text().contains(&long));
    let refused = hub.run(&["--fleet", SITE, "--nats-domain", SITE, "task", "ls"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("no master answers for fleet shop7"), "{refused:?}");
    assert!(refused.err.contains("whether its leaf node is connected"), "{refused:?}");
    wait_for("the hub to say so", || {
        (told(&hub) == ["site.caught_up", "site.lagging"]).then_some(())
    });
    assert!(cut.elapsed() >= Duration::from_secs(10), "{:?}", cut.elapsed());
    let lags = |hub: &Fleet| hub.run(&["check"]).text().contains("the events of shop7");
    assert!(lags(&hub));
    std::thread::sleep(CUT.saturating_sub(cut.elapsed()));
    assert_eq!(sessions(&site), before, "no lease has lapsed");

    site.join_hub();
    wait_for("the hub to say so", || {
        (told(&hub) == ["site.caught_up", "site.lagging", "site.caught_up"]).then_some(())
    });
    assert!(!lags(&hub));
    let ended = site.until("its end", &long, |record| !record["state"]["done"].is_null());
    assert_eq!(ended["attempts"], 1, "{ended}");
    until_complete(&hub, &site);
}

#[test]
fn the_events_of_a_site_go_on_soon_after_a_restart_of_the_hub() {
    let (mut hub, mut site) = hub_and_site();
    site.start_master("m1");
    until_complete(&hub, &site);
    hub.kill(NATS);
    hub.start_nats();
    // The server of the hub has asked for the events before the leaf node was there, and waits 30 s for
    // the answer and 10 s more.
    site.start_master("m2");
    until_complete(&hub, &site);
    // A master of the site that is started at the hub does not take the copy for its own stream.
    hub.set_variable("MUSTER_FLEET", SITE.into());
    hub.launch_master("m2");
    assert_eq!(hub.ended("m2"), 2);
    assert!(hub.log("m2").contains("copy of the events of a site"), "{}", hub.log("m2"));
    // A site is not the hub's own fleet.
    hub.launch_master_with("m3", &["--site", SITE]);
    assert_eq!(hub.ended("m3"), 2);
    assert!(hub.log("m3").contains("needs a name of its own"), "{}", hub.log("m3"));
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
    let mut fleet = Fleet::behind_a_leaf_node(leafs, "", "$G");
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
    let by_context = hub.run(&["--context", "edge", "check", "-o", "json"]);
    hub.set_variable("MUSTER_NATS_DOMAIN", "hup".into());
    let by_variable = hub.run(&["check", "-o", "json"]);
    hub.launch_master("m1");
    assert_eq!((by_context.code, by_variable.code, hub.ended("m1")), (2, 2, 2));
    for said in [by_context.text(), by_variable.text(), hub.log("m1")] {
        assert!(said.contains("JetStream domain hup; correct --nats-domain"), "{said}");
        assert!(said.contains("domain of the connected server is hub"), "{said}");
    }
    hub.launch_master_with("m2", &["--nats-domain", "a.b"]);
    assert_eq!(hub.ended("m2"), 2);
    hub.start_master_with("m3", &["--nats-domain", HUB]);
}
