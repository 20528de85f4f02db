//! The data of an open task does not expire, however long the task is open: the masters store old data
//! again. The clocks stay as they are; the test changes the stamps of the stored data.

use async_nats::jetstream::{self, Context, object_store::ObjectInfo};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use muster_protocol::{
    Digest, TaskId,
    api::{Endpoint, NewTask, Submit, Submitted},
    subject::{Bucket, Names},
    task::{Data, ModuleRef, TaskSpec},
};
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use muster_wire::objects::Objects;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::runtime::Runtime;

/// An input of this many bytes is stored as an object, because it is too large for a record.
const INPUT: usize = 20_000;

/// A stamp so old that a master stores the data again.
const OLD: &str = "2020-01-01T00:00:00Z";

/// A registry whose stamps the test can change.
struct Stamps {
    runtime: Runtime,
    client: async_nats::Client,
    context: Context,
    names: Names,
}

impl Stamps {
    fn of(fleet: &Fleet) -> Self {
        let runtime = Runtime::new().expect("threads");
        let (client, context) = runtime.block_on(async {
            let client = async_nats::connect(fleet.nats_url()).await.expect("nats-server answers");
            (client.clone(), jetstream::new(client))
        });
        Stamps { runtime, client, context, names: fleet.names() }
    }

    fn info(&self, digest: Digest) -> ObjectInfo {
        let name = self.names.data_store();
        self.runtime.block_on(async {
            let store = Objects::open(&self.context, &name).await.expect("a master has made it");
            store.info(digest).await.expect("it answers").expect("it is there")
        })
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = muster_module::digest(bytes);
        let (name, bytes) = (self.names.data_store(), bytes.to_vec().into());
        let put = async {
            let store = Objects::open(&self.context, &name).await.expect("a master has made it");
            store.put(digest, bytes).await
        };
        self.runtime.block_on(put).expect("it is stored");
        digest
    }

    /// Changes the stamp of an object to a time long ago.
    fn age(&self, digest: Digest) {
        let bucket = self.names.data_store();
        let mut info = serde_json::to_value(self.info(digest)).expect("JSON");
        info["mtime"] = OLD.into();
        let subject = format!("$O.{bucket}.M.{}", URL_SAFE.encode(digest.hex()));
        self.publish(subject, &info);
        assert!(self.is_old(digest));
    }

    fn is_old(&self, digest: Digest) -> bool {
        serde_json::to_value(self.info(digest)).expect("JSON")["mtime"] == OLD
    }

    /// A task's checkpoint.
    fn checkpoint(&self, task: &str) -> Option<Value> {
        let stream = self.context.get_stream(self.names.stream(Bucket::Checkpoints));
        let stream = self.runtime.block_on(stream).expect("a master has made it");
        let key = self.names.key(Bucket::Checkpoints, task);
        let found = self.runtime.block_on(stream.get_last_raw_message_by_subject(&key)).ok()?;
        Some(serde_json::from_slice(&found.payload).expect("JSON"))
    }

    fn publish(&self, subject: String, value: &Value) {
        self.runtime.block_on(async {
            let body = serde_json::to_vec(value).expect("JSON").into();
            let sent = self.context.publish(subject, body).await;
            sent.expect("it is sent").await.expect("it is stored");
        });
    }
}

fn input(fleet: &Fleet, letter: u8) -> (String, Vec<u8>) {
    let bytes = vec![letter; INPUT];
    let path = fleet.path(&format!("input-{letter}"));
    std::fs::write(&path, &bytes).expect("a file");
    (format!("@{}", text(&path)), bytes)
}

#[test]
fn an_open_tasks_input_and_checkpoint_are_stored_anew_while_they_are_old() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("upper");
    fleet.push("primes");
    let stamps = Stamps::of(&fleet);
    // One task that has saved a checkpoint and holds the only slot, and one task that waits for the
    // slot.
    let range = r#"{"from":1,"to":100000000000}"#;
    let begun = fleet.run(&["task", "run", "primes", "--input", range]).ok().text();
    let mut left = wait_for("a checkpoint", || stamps.checkpoint(&begun));
    fleet.kill("w1");
    let (path, bytes) = input(&fleet, b'x');
    let waits = fleet.run(&["task", "run", "upper", "--input", &path]).ok().text();
    let digest = muster_module::digest(&bytes);
    // The state is stored like a large one, and everything is as old as after a week.
    let state = stamps.put(&vec![b'y'; INPUT]);
    left["state"] = json!(Data::Blob { digest: state, size: INPUT as u64 });
    left["saved_at"] = 0.into();
    stamps.publish(stamps.names.key(Bucket::Checkpoints, &begun), &left);
    stamps.age(digest);
    stamps.age(state);
    fleet.kill("m1");
    fleet.start_master("m1");
    wait_for("the input to be stored anew", || (!stamps.is_old(digest)).then_some(()));
    wait_for("the state to be stored anew", || (!stamps.is_old(state)).then_some(()));
    let renewed = wait_for("the checkpoint to be written anew", || {
        stamps.checkpoint(&begun).filter(|found| found["saved_at"] != 0)
    });
    left["saved_at"] = renewed["saved_at"].clone();
    assert_eq!(renewed, left, "nothing else has changed");
    fleet.run(&["task", "cancel", &begun]).ok();
    fleet.start_worker("w1", &["--slots", "1"]);
    let record = fleet.until("its end", &waits, |record| record["state"]["done"].is_object());
    assert_eq!(record["state"]["done"]["outcome"]["verdict"], "completed", "{record}");
}

#[test]
fn an_old_input_is_stored_anew_before_a_task_is_accepted_that_names_it() {
    let fleet = Fleet::start(0, 1);
    fleet.push("upper");
    let stamps = Stamps::of(&fleet);
    let digest = stamps.put(&vec![b'z'; INPUT]);
    stamps.age(digest);
    let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    let module = modules["modules"][0]["versions"][0]["digest"].as_str().expect("a digest");
    let module = ModuleRef { name: None, digest: module.parse().expect("a digest") };
    let spec = TaskSpec::new(module, Data::Blob { digest, size: INPUT as u64 });
    let submit = Submit { tasks: vec![NewTask { id: TaskId(7), spec: spec.into() }] };
    let body = serde_json::to_vec(&submit).expect("JSON");
    let answer = stamps.runtime.block_on(async {
        let asked = stamps.client.request(stamps.names.api(Endpoint::TaskSubmit), body.into());
        tokio::time::timeout(Duration::from_secs(10), asked).await
    });
    let answer = answer.expect("an answer").expect("an answer").payload;
    let stored: Submitted = serde_json::from_slice(&answer).expect("it is accepted");
    assert_eq!(stored.stored, 1);
    assert!(!stamps.is_old(digest), "it would expire");
}
