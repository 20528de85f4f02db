//! A stored object is found even if replicas of its store are behind: only the leader is asked.

use async_nats::jetstream::{self, object_store::Config};
use futures::StreamExt as _;
use muster_protocol::subject::Bucket;
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
    hostile, place,
};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The size of an input that is too large for a record, in bytes.
const INPUT: usize = 100_000;

/// After this time without a message, no more messages are on their way.
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn only_the_leader_of_a_store_is_asked_for_an_object() {
    let mut fleet = Fleet::registry();
    let names = fleet.names();
    let runtime = Runtime::new().expect("threads");
    let (context, mut heard) = runtime.block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("nats-server answers");
        let context = jetstream::new(client.clone());
        // Like a store that another client made: its replicas answer direct gets.
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
    let said = fleet.run(&["check"]).text();
    assert!(said.contains("OBJ_muster_default_data allows rollups"), "{said}");
    runtime.block_on(async {
        for store in [names.data_store(), names.module_store()] {
            let stream = context.get_stream(format!("OBJ_{store}")).await.expect("it is there");
            let config = &stream.cached_info().config;
            assert!(!config.allow_direct, "replicas of {store} answer");
            let is_stock = store == names.data_store();
            assert_eq!(config.allow_rollup, is_stock, "masters of 0.1 need it where it is");
        }
        while let Ok(Some(asked)) = tokio::time::timeout(QUIET, heard.next()).await {
            assert!(!asked.subject.contains(".OBJ_"), "{} was asked", asked.subject);
        }
    });
}

/// The node whose replicas lag, and the only master that connects to it.
const LATE_NODE: &str = "nats-server-3";
const ITS_MASTER: &str = "m3";

/// How far they lag: longer than a task takes, and shorter than the time after which a node elects
/// another leader.
const LAG: Duration = Duration::from_millis(1_500);

/// The size of an input that is just too large for a record, in bytes.
const SMALL_INPUT: usize = 20_000;

/// Tasks with such an input.
const TASKS: usize = 6;

/// The size of a large checkpoint in bytes: it consists of several chunks of an object.
const STATE: usize = 1_000_000;

/// A guest that saves a large state and never ends. Its next attempt returns the state that it finds.
fn keeper() -> Vec<u8> {
    let frame = place::root().join("tests/hostile/frame/task.wat");
    let frame = std::fs::read_to_string(frame).expect("a file");
    let body = format!(
        "(drop (memory.grow (i32.const 48)))
         (call $resume (i32.const 32))
         (if (i32.load8_u (i32.const 32)) (then (return
             (call $result (i32.const 0) (i32.load (i32.const 36)) (i32.load (i32.const 40))))))
         (call $checkpoint (i32.const 65536) (i32.const {STATE}))
         (call $progress (i64.const 1) (i64.const 2))
         (loop $again (br $again)) unreachable"
    );
    let core = wat::parse_str(frame.replace("{body}", &body)).expect("Wasm text");
    hostile::for_the_world(core).expect("it fits")
}

/// Moves the leadership of all streams away from the late node: a leader decides by what it has
/// received.
fn unseat(fleet: &Fleet, runtime: &Runtime) {
    let names = fleet.names();
    let stores = [names.data_store(), names.module_store()].map(|store| format!("OBJ_{store}"));
    let buckets = Bucket::ALL.iter().map(|bucket| names.stream(*bucket));
    let client = runtime.block_on(async_nats::connect(fleet.nats_url())).expect("it answers");
    let ask = |what: String| -> Option<Value> {
        let asked = runtime.block_on(client.request(format!("$JS.API.STREAM.{what}"), "".into()));
        serde_json::from_slice(&asked.ok()?.payload).ok()
    };
    for stream in stores.into_iter().chain(buckets) {
        wait_for("a leader that is not late", || {
            let info = ask(format!("INFO.{stream}"))?;
            let leader = info["cluster"]["leader"].as_str()?;
            if leader == LATE_NODE {
                let _ = ask(format!("LEADER.STEPDOWN.{stream}"));
            }
            (leader != LATE_NODE).then_some(())
        });
    }
}

/// Whether the registry has a checkpoint of the task.
fn has_checkpoint(fleet: &Fleet, runtime: &Runtime, task: &str) -> bool {
    let (names, bucket) = (fleet.names(), Bucket::Checkpoints);
    runtime.block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        let stream = jetstream::new(client).get_stream(names.stream(bucket)).await;
        let key = names.key(bucket, task);
        stream.expect("it is there").get_last_raw_message_by_subject(&key).await.is_ok()
    })
}

#[test]
fn a_replica_that_lags_loses_no_task_and_no_checkpoint() {
    let mut fleet = Fleet::with_a_late_replica();
    fleet.start_master(ITS_MASTER);
    fleet.start_worker("w1", &["--slots", "2"]);
    fleet.push("upper");
    let path = fleet.path("keeper.wasm");
    std::fs::write(&path, keeper()).expect("a file");
    fleet.run(&["module", "push", text(&path)]).ok();
    let runtime = Runtime::new().expect("threads");
    unseat(&fleet, &runtime);
    fleet.lag(LAG);
    let path = fleet.path("input");
    let input = format!("@{}", text(&path));
    for number in 0..TASKS {
        // Each input is a different object, so that none of them is stored already.
        std::fs::write(&path, vec![b'a' + number as u8; SMALL_INPUT]).expect("a file");
        let ran = fleet.run(&["task", "run", "upper", "--input", &input, "--wait"]).ok();
        assert_eq!(ran.out, vec![b'A' + number as u8; SMALL_INPUT]);
    }
    let task = fleet.run(&["task", "run", "keeper"]).ok().text();
    // Not by its progress: the guest reports it once, and only who listens just then hears it.
    wait_for("its checkpoint", || has_checkpoint(&fleet, &runtime, &task).then_some(()));
    fleet.signal_child("w1", Signal::KILL);
    let record = fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    assert_eq!(record["state"]["done"]["outcome"]["verdict"], "completed", "{record}");
    let state = fleet.run(&["task", "result", &task]).ok().out;
    assert_eq!(state, vec![0; STATE]);
}

/// Clients may fill four fifths of the data store, so that tasks that run can store their outputs.
#[test]
fn clients_do_not_fill_the_data_store() {
    let mut fleet = Fleet::registry();
    fleet.start_master_with("m1", &["--data-size", "10"]);
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    let input = |letter: &str| letter.repeat(1024 * 1024);
    let submit = |fleet: &Fleet, letter: &str| {
        let file = fleet.path(letter);
        std::fs::write(&file, input(letter)).expect("a file");
        let file = format!("@{}", text(&file));
        fleet.run(&["task", "run", "upper", "--input", &file, "--group", "none"])
    };
    let letters = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let stored = letters.iter().take_while(|letter| submit(&fleet, letter).code == 0).count();
    assert!((7..=8).contains(&stored), "{stored} MiB");
    let refused = submit(&fleet, "k");
    assert!(refused.err.contains("the data store is full"), "{refused:?}");
    // The output of a task has room all the same.
    let file = format!("@{}", text(&fleet.path("a")));
    let ran = fleet.run(&["task", "run", "upper", "--input", &file, "--wait"]).ok();
    assert_eq!(ran.text(), input("A"));
}
