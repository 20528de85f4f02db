//! Clients of NATS that try to change what only masters and workers may write.

use async_nats::{HeaderMap, jetstream};
use muster_protocol::{
    TaskId,
    api::{NewTask, Submit},
    subject::{Bucket, Endpoint},
    task::{Data, ModuleRef, TaskSpec},
};
use muster_tests::{
    Fleet, Ran,
    chaos::{checker, run_log::RunLog},
    fleet::{text, wait_for},
    net::Net,
    place,
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

/// Whoever may store a module could erase all of them with one message.
#[test]
fn a_rollup_does_not_erase_an_object_store() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let stores = [fleet.names().module_store(), fleet.names().data_store()];
    Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        let context = jetstream::new(client);
        for store in &stores {
            for (subject, rollup) in [("C.x", "all"), ("M.x", "all"), ("C.x", "sub")] {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Rollup", rollup);
                let subject = format!("$O.{store}.{subject}");
                let sent = context.publish_with_headers(subject, headers, "".into()).await;
                let refusal = sent.expect("it is sent").await.expect_err("rollups are refused");
                assert!(refusal.to_string().contains("rollup"), "{refusal}");
            }
        }
    });
    let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]);
    assert_eq!(ran.ok().text(), "A");
}

/// A submission of one task with so many variables of 4,000 bytes, for a group without workers.
fn with_variables(fleet: &Fleet, count: usize) -> Ran {
    let value = "v".repeat(4_000);
    let variables: Vec<String> = (0..count).map(|at| format!("V{at}={value}")).collect();
    let mut args = vec!["task", "run", "upper", "--input", "a", "--group", "nobody"];
    args.extend(variables.iter().flat_map(|variable| ["--env", variable.as_str()]));
    fleet.run(&args)
}

/// A task that does not fit a frame could never be dispatched.
#[test]
fn a_task_that_is_too_large_as_a_whole_is_refused() {
    let fleet = Fleet::start(0, 1);
    fleet.push("upper");
    with_variables(&fleet, 60).refused("bytes as JSON, the limit is 196608");
    assert!(fleet.run(&["task", "ls"]).ok().text().lines().count() <= 1, "nothing was stored");
}

#[test]
fn tasks_that_are_large_together_are_listed_in_pages() {
    const TASKS: usize = 12;
    let fleet = Fleet::start(0, 1);
    fleet.push("upper");
    let tasks: Vec<String> = (0..TASKS).map(|_| with_variables(&fleet, 40).ok().text()).collect();
    let listed = fleet.run(&["-o", "json", "task", "ls", "--limit", "20"]).ok().json();
    assert_eq!(listed["tasks"].as_array().map(Vec::len), Some(TASKS));
    let ids: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let cancelled = fleet.run(&[&["-o", "json", "task", "cancel"], ids.as_slice()].concat());
    assert_eq!(cancelled.ok().json()["tasks"].as_array().map(Vec::len), Some(TASKS));
    // They have ended, so they are read from the stream.
    let listed = fleet.run(&["-o", "json", "task", "ls", "--limit", "20"]).ok().json();
    assert_eq!(listed["tasks"].as_array().map(Vec::len), Some(TASKS));
}

/// Whoever relies on a version relies on its bytes, also after somebody has removed it.
#[test]
fn a_version_of_a_module_never_gets_other_bytes() {
    let fleet = Fleet::start(1, 1);
    let push = |guest: &str, name: &str| {
        fleet.run(&["module", "push", text(&place::guest(guest)), "--name", name])
    };
    push("upper", "pay").ok();
    push("noop", "pay:1").refused("exists with other bytes");
    fleet.run(&["module", "rm", "pay:1", "--yes"]).ok();
    push("noop", "pay:1").refused("pay:1 was removed");
    fleet.run(&["module", "rm", "pay", "--yes"]).refused("there is no module pay");
    push("noop", "pay").ok();
    let listed = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    assert_eq!(listed["modules"][0]["versions"][0]["version"], "2", "{listed}");
}

/// A list shows the name of a task's module. People must not take one module for another.
#[test]
fn a_task_cannot_take_the_name_of_another_module() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    fleet.push("noop");
    let digest = muster_module::digest(&std::fs::read(place::guest("noop")).expect("a file"));
    let names = ["upper:1", "upper", "noop:2", "nobody:1", "a b", ">"];
    let client = Runtime::new().expect("threads");
    client.block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        for (task, name) in names.into_iter().chain(["noop:1", "noop"]).enumerate() {
            let module = ModuleRef { name: Some(name.into()), digest };
            let spec = TaskSpec::new(module, Data::EMPTY).into();
            let submit = Submit { tasks: vec![NewTask { id: TaskId(task as u128 + 1), spec }] };
            let body = serde_json::to_vec(&submit).expect("JSON");
            let asked = fleet.names().api(Endpoint::TaskSubmit);
            let answer = client.request(asked, body.into()).await.expect("an answer");
            let answer = String::from_utf8_lossy(&answer.payload).into_owned();
            assert_eq!(answer.contains("stored"), !names.contains(&name), "{name}: {answer}");
        }
    });
}
