//! `muster check` on fleets in which nothing can run, or not everything: its exit code says so, and its
//! text says which part is affected and what to do.

use async_nats::jetstream;
use muster_protocol::subject::Bucket;
use muster_tests::{
    Fleet,
    fleet::{NATS, wait_for},
    net::{Net, own_port},
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a check may take where no stream answers. Each of its questions waits 3 s, and nine streams that
/// were asked one after the other would be most of it.
const CHECKED_WITHIN: Duration = Duration::from_secs(24);

/// Changes the streams of a fleet, as an operator would.
fn with_streams<F: Future<Output = ()>>(fleet: &Fleet, work: impl FnOnce(jetstream::Context) -> F) {
    tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("nats-server answers");
        work(jetstream::new(client)).await;
    });
}

/// Waits until a check ends with this exit code and its text contains these words. Returns its JSON
/// output.
fn until_found(fleet: &Fleet, code: i32, words: &[&str]) -> Value {
    wait_for(&format!("exit code {code} and {words:?}"), || {
        let ran = fleet.run(&["check"]);
        println!("{}", ran.text());
        let is_so = ran.code == code && words.iter().all(|word| ran.text().contains(word));
        is_so.then_some(())
    });
    fleet.run(&["-o", "json", "check"]).json()
}

/// The findings about the part `about`.
fn about<'a>(findings: &'a Value, about: &str) -> Vec<&'a Value> {
    let all = findings.as_array().expect("findings");
    all.iter().filter(|finding| finding["about"] == about).collect()
}

#[test]
fn a_registry_that_stores_nothing_any_more_is_a_failure() {
    let fleet = Fleet::start(2, 1);
    until_found(&fleet, 0, &["group default"]);
    let names = fleet.names();
    let buckets = [Bucket::Workers, Bucket::Masters].map(|bucket| names.stream(bucket));
    let data = format!("OBJ_{}", names.data_store());
    with_streams(&fleet, |context| async move {
        for stream in buckets.into_iter().chain([data]) {
            let mut there = context.get_stream(&stream).await.expect("it is there");
            let info = there.info().await.expect("it answers").clone();
            let mut config = info.config;
            // The stream keeps its messages, and accepts no more.
            config.max_bytes = i64::try_from(info.state.bytes).expect("few").max(1);
            context.update_stream(config).await.expect("an operator may");
        }
    });
    let words = [
        "has no room",
        "have not renewed their leases",
        "2 of 2 have not renewed their leases: w1, w2",
        "are refused",
        "disk of nats-server",
    ];
    let findings = until_found(&fleet, 2, &words);
    let writes = about(&findings, "writes");
    assert_eq!(writes[0]["health"], "fail", "{findings}");
    let workers = about(&findings, "workers");
    assert_eq!(workers[0]["names"], serde_json::json!(["w1", "w2"]), "{findings}");
    let masters = about(&findings, "masters");
    assert_eq!(masters[0]["names"], serde_json::json!(["m1"]), "{findings}");
    assert_eq!(masters[0]["health"], "fail", "{findings}");
    assert!(masters[0]["hint"].is_string(), "{findings}");
    for name in ["m1", "w1"] {
        let log = fleet.log(name);
        assert!(log.contains("a write was not acknowledged"), "{log}");
    }
}

#[test]
fn a_worker_that_reaches_the_registry_and_no_master_is_named() {
    let mut fleet = Fleet::registry();
    fleet.launch_worker("w1", &["--master", "127.0.0.1:1"]);
    fleet.start_master("m1");
    until_found(&fleet, 2, &["1 of 1 have no link to a master", "w1", "--master"]);
    fleet.start_worker("w2", &[]);
    let findings =
        until_found(&fleet, 1, &["1 of 2 have no link to a master and get no tasks: w1"]);
    assert_eq!(about(&findings, "workers")[0]["names"], serde_json::json!(["w1"]), "{findings}");
}

#[test]
fn how_long_things_are_kept_is_an_option_and_is_shown() {
    let mut fleet = Fleet::registry();
    fleet.start_master_with("m1", &["--events-days", "3", "--logs-size", "16"]);
    fleet.start_worker("w1", &[]);
    until_found(&fleet, 0, &["events for 3d", "logs for 24h", "of 16 MiB", "checkpoints for 9d"]);
    // The streams that are there get what the next start says.
    fleet.kill("m1");
    fleet.start_master_with("m1", &["--events-days", "5", "--logs-size", "16"]);
    until_found(&fleet, 0, &["events for 5d"]);
}

#[test]
fn a_queue_that_waits_for_long_is_told_to_a_monitor() {
    let fleet = Fleet::start(1, 1);
    fleet.push("spin-forever");
    let submit = |group: &str| {
        let args = ["task", "run", "spin-forever", "--timeout", "1h", "--group", group];
        fleet.run(&args).ok().text()
    };
    let runs = submit("default");
    fleet.until("it to run", &runs, |record| !record["state"]["dispatched"].is_null());
    submit("default");
    // The command itself is not what is unwell.
    let check = |args: &[&str]| fleet.run(&[&["check"], args].concat());
    let quiet = check(&["tasks"]);
    assert!(quiet.code == 0 && quiet.text().contains("queue default"), "{quiet:?}");
    wait_for("it to wait for a second", || (check(&["--waiting", "1s"]).code == 1).then_some(()));
    let told = check(&["tasks", "--waiting", "500ms,1s", "--queued", "10", "--nagios"]);
    let first = told.text().lines().next().expect("a line").to_owned();
    assert!(
        told.code == 2 && first.starts_with("MUSTER CRITICAL - queue default: 1 wait"),
        "{first}"
    );
    assert!(first.contains(" | ") && first.contains("'queue default queued'=1;10;;0"), "{first}");
    let workers = check(&["workers", "--group", "default", "--live", "2", "--nagios"]);
    assert!(
        workers.code == 1 && workers.text().starts_with("MUSTER WARNING - group default: 1 live")
    );
    assert!(!workers.text().contains("queue "), "only the workers: {workers:?}");

    // A group without a worker warns as soon as a task waits in it.
    submit("nobody");
    let findings = until_found(&fleet, 1, &["queue nobody", "start one"]);
    assert_eq!(about(&findings, "queue nobody")[0]["figures"][0]["value"], 1, "{findings}");
    let groups = fleet.run(&["-o", "json", "group", "ls"]).ok().json();
    let of = |name: &str| {
        let groups = groups["groups"].as_array().expect("groups");
        groups.iter().find(|group| group["group"] == name).expect("the group").clone()
    };
    assert_eq!(of("default")["dispatched"], 1, "{groups}");
    assert_eq!(of("default")["workers"]["live"], 1, "{groups}");
    let why = of("nobody")["next"]["why"].as_str().expect("a reason").to_owned();
    assert!(why.contains("group nobody"), "{why}");
    let misplaced = check(&["workers", "--waiting", "1s"]);
    assert!(
        misplaced.code == 2
            && misplaced.err.contains("--waiting has no effect here: add the area `tasks`"),
        "{misplaced:?}"
    );
}

#[test]
fn a_master_that_died_is_named_until_the_others_know() {
    let mut fleet = Fleet::start(0, 0);
    fleet.start_master("m2");
    fleet.start_worker("w1", &[]);
    until_found(&fleet, 0, &["2 answer"]);
    fleet.kill("m2");
    until_found(&fleet, 1, &["1 had a lease and do not answer: m2"]);
}

#[test]
fn a_server_that_takes_only_small_messages_is_told() {
    let mut fleet = Fleet::registry_with("max_payload: 131072\n", "");
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    until_found(&fleet, 1, &["max_payload", "131072", "1 MiB"]);
    assert!(fleet.log("m1").contains("max_payload"), "{}", fleet.log("m1"));
}

#[test]
fn an_attempt_that_should_have_ended_long_ago_is_told() {
    let fleet = Fleet::start(1, 1);
    fleet.push("spin-forever");
    let task = fleet.run(&["task", "run", "spin-forever", "--timeout", "1h"]).ok().text();
    fleet.until("it to run", &task, |record| !record["state"]["dispatched"].is_null());
    until_found(&fleet, 0, &["group default"]);
    // As if the task had been dispatched long ago.
    let bucket = fleet.names().bucket(Bucket::Tasks);
    let key = task.clone();
    with_streams(&fleet, |context| async move {
        let tasks = context.get_key_value(bucket).await.expect("a bucket");
        let entry = tasks.entry(key.as_str()).await.expect("it answers").expect("the record");
        let mut record: Value = serde_json::from_slice(&entry.value).expect("JSON");
        let given = &mut record["state"]["dispatched"]["dispatched_at"];
        *given = Value::from(given.as_u64().expect("milliseconds") - 2 * 3_600_000);
        let value = serde_json::to_vec(&record).expect("JSON");
        tasks.update(key, value.into(), entry.revision).await.expect("nobody writes it meanwhile");
    });
    let findings = until_found(&fleet, 1, &["longer than their time limits", &task]);
    let names = about(&findings, "tasks")[0]["names"][0].to_string();
    assert!(names.contains("on w1"), "{findings}");
}

#[test]
fn whoever_may_not_write_is_no_full_disk() {
    let config = "authorization { users: [ { user: all, password: a }, { user: some, password: s, \
                  permissions: { publish: { deny: [\"$O.muster_default_data.>\"] } } } ] }\n";
    let mut fleet = Fleet::registry_with(config, "all:a");
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    fleet.ask_as("some:s");
    let words = ["NATS refuses to publish to $O.muster_default_data.>", "docs/PERMISSIONS.md"];
    let findings = until_found(&fleet, 1, &words);
    assert_eq!(about(&findings, "writes")[0]["health"], "warn", "{findings}");
}

#[test]
fn a_server_that_does_not_sync_or_whose_storage_is_nearly_full_is_found_by_its_monitoring_port() {
    let port = own_port();
    let config = |sync: &str| {
        format!("http: \"127.0.0.1:{port}\"\njetstream {{\n  max_file_store: 1MB\n  {sync}\n}}\n")
    };
    let mut fleet = Fleet::registry_with(config(""), "");
    let url = format!("http://127.0.0.1:{port}");
    let found = |fleet: &Fleet, about: &str| {
        let findings = fleet.run(&["-o", "json", "check", "--monitor", &url]).json();
        let about = self::about(&findings, about);
        about.first().map(|finding| (finding["health"].clone(), finding["detail"].to_string()))
    };
    let (health, detail) = found(&fleet, "sync").expect("a finding");
    assert!(health == "warn" && detail.contains("120 s"), "{detail}");
    assert_eq!(found(&fleet, "disk"), None);
    with_streams(&fleet, |context| async move {
        let config = jetstream::stream::Config { name: "full".into(), ..Default::default() };
        context.create_stream(config).await.expect("a stream");
        for _ in 0..19 {
            let sent = context.publish("full", vec![0; 50_000].into()).await.expect("it is sent");
            sent.await.expect("it is stored");
        }
    });
    let (health, detail) = found(&fleet, "disk").expect("a finding");
    assert!(health == "fail" && detail.contains("of its 1048576 bytes"), "{detail}");
    fleet.kill(NATS);
    fleet.configure_nats(config("sync_interval: always"));
    fleet.start_nats();
    assert_eq!(found(&fleet, "sync").expect("a finding").0, "ok");
}

#[test]
fn streams_without_a_quorum_are_told_at_once() {
    let mut fleet = Fleet::clustered(Net::Plain, None, 3);
    fleet.start_master("m1");
    let nodes = fleet.nats_nodes();
    fleet.kill(&nodes[1]);
    until_found(&fleet, 1, &["no quorum if they lose one more server", &nodes[1]]);
    fleet.kill(&nodes[2]);
    // The buckets, the events, the logs and two object stores.
    let streams = Bucket::ALL.len() + 4;
    // A leader steps down only when it has not heard from the others for ten seconds.
    let (findings, took) = wait_for("no stream to have a quorum", || {
        let began = Instant::now();
        let ran = fleet.run(&["-o", "json", "check"]);
        let (findings, took) = (ran.json(), began.elapsed());
        let is_all = |finding: &&Value| {
            let detail =
                finding["detail"].as_str().is_some_and(|it| it.contains("have no quorum, so"));
            detail && finding["names"].as_array().is_some_and(|names| names.len() == streams)
        };
        let found = about(&findings, "quorum").into_iter().any(|finding| is_all(&finding));
        (ran.code == 2 && found).then_some((findings, took))
    });
    println!("it took {took:?}: {findings}");
    assert!(took < CHECKED_WITHIN, "{took:?}");
}
