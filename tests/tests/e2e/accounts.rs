//! The registry in an account of its own: what clients, workers and observers can do from theirs, and what
//! they cannot.

use super::permissions::{CLIENT, MASTER, OBSERVER, WORKER, documented};
use async_nats::{Client, ConnectOptions, jetstream};
use muster_protocol::{
    Nonce,
    subject::{Bucket, Endpoint},
};
use muster_tests::{Fleet, fleet::text, fleet::wait_for, place};
use serde_json::{Value, json};
use std::process::Command;
use tokio::runtime::Runtime;

/// One account, in which the client may do what a command of Muster 0.1 needs.
const ONE_ACCOUNT: &str = "authorization { users: [
  { user: master, password: change-this-1 }
  { user: observer, password: change-this-2 }
  { user: client, password: change-this-3, permissions: {
    publish: [\"muster.default.api.>\", \"$O.muster_default_data.>\", \"$JS.API.STREAM.MSG.GET.*\"]
    subscribe: \"_INBOX.>\"
  } }
  { user: w1, password: change-this-4, permissions: {
    publish: [\"$KV.muster_default_workers.w1\", \"$JS.API.STREAM.MSG.GET.KV_muster_default_workers\"]
    subscribe: \"_INBOX.>\"
  } }
] }\n";

async fn as_user(fleet: &Fleet, user: &str) -> Client {
    let (name, password) = user.split_once(':').expect("a password");
    let options = ConnectOptions::with_user_and_password(name.into(), password.into());
    let address = fleet.nats_url().rsplit('@').next().expect("an address").to_owned();
    options.connect(address).await.expect("it may log in")
}

/// How often the key of a task was written, as the registry's own account sees it.
async fn written(observer: &Client, fleet: &Fleet, task: &str) -> u64 {
    let context = jetstream::new(observer.clone());
    let stream = context.get_stream(fleet.names().stream(Bucket::Tasks)).await;
    let stream = stream.expect("an observer sees it");
    let key = fleet.names().key(Bucket::Tasks, task);
    stream.get_last_raw_message_by_subject(&key).await.expect("its record").sequence
}

/// Asks JetStream for a message, with the key of a task as the place for the answer.
async fn answer_into(client: &Client, asked: &str, question: Value, key: &str) {
    let question = question.to_string().into();
    client.publish_with_reply(asked.to_owned(), key.to_owned(), question).await.expect("sent");
    client.flush().await.expect("the server has it");
}

/// Whether a client, or the NATS user of a worker, has replaced the record of a task by an answer of
/// JetStream.
fn is_forged(config: &str) -> [bool; 2] {
    let mut fleet = Fleet::registry_with(config, MASTER);
    fleet.start_master("m1");
    fleet.ask_as(WORKER);
    fleet.start_worker("w1", &[]);
    fleet.ask_as(CLIENT);
    fleet.push("upper");
    let task = fleet.run(&["task", "run", "upper", "--input", "a", "--group", "none"]).ok().text();
    let runtime = Runtime::new().expect("threads");
    let key = fleet.names().key(Bucket::Tasks, &task);
    runtime.block_on(async {
        let observer = as_user(&fleet, OBSERVER).await;
        let mut forged = [false; 2];
        for (forged, user) in forged.iter_mut().zip([CLIENT, WORKER]) {
            let before = written(&observer, &fleet, &task).await;
            let attacker = as_user(&fleet, user).await;
            let data = fleet.names().data_store();
            let chunk = format!("$O.{data}.C.forged");
            let _ = attacker.publish(chunk.clone(), "a forged record".into()).await;
            let of_data = format!("$JS.API.STREAM.MSG.GET.OBJ_{data}");
            answer_into(&attacker, &of_data, json!({ "last_by_subj": chunk }), &key).await;
            let workers = fleet.names().stream(Bucket::Workers);
            let of_leases = format!("$JS.API.STREAM.MSG.GET.{workers}");
            let lease = fleet.names().key(Bucket::Workers, "w1");
            answer_into(&attacker, &of_leases, json!({ "last_by_subj": lease }), &key).await;
            let api = fleet.names().api(Endpoint::TaskGet);
            answer_into(&attacker, &api, json!({ "ids": [task] }), &key).await;
            // The master answers requests of one connection in their order.
            let _ = attacker.request(api, json!({ "ids": [task] }).to_string().into()).await;
            *forged = written(&observer, &fleet, &task).await != before;
        }
        forged
    })
}

/// In one account the attack succeeds, so that this test can fail.
#[test]
fn no_answer_of_jetstream_reaches_the_registry_from_another_account() {
    assert_eq!(is_forged(ONE_ACCOUNT), [true; 2]);
    assert_eq!(is_forged(documented()), [false; 2]);
}

#[test]
fn a_client_sees_nothing_of_the_registry_and_an_observer_all_of_it() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    fleet.ask_as(WORKER);
    fleet.start_worker("w1", &[]);
    let found = |fleet: &mut Fleet, user: &str| -> Vec<Value> {
        fleet.ask_as(user);
        serde_json::from_str(&fleet.run(&["check", "-o", "json"]).text()).expect("findings")
    };
    wait_for("the fleet to be well", || {
        fleet.ask_as(CLIENT);
        (fleet.run(&["check"]).code == 0).then_some(())
    });
    let about = |findings: &[Value], what: &str| {
        findings.iter().filter(|finding| finding["about"] == what).count()
    };
    let seen = found(&mut fleet, CLIENT);
    assert_eq!((about(&seen, "registry"), about(&seen, "jetstream")), (1, 0), "{seen:?}");
    let parts = ["masters", "group default"].map(|part| about(&seen, part));
    assert_eq!(parts, [1, 1], "{seen:?}");
    let seen = found(&mut fleet, OBSERVER);
    assert_eq!((about(&seen, "registry"), about(&seen, "jetstream")), (0, 1), "{seen:?}");
    Runtime::new().expect("threads").block_on(async {
        let client = as_user(&fleet, CLIENT).await;
        let asked = jetstream::new(client.clone()).query_account().await;
        assert!(asked.is_err(), "a client has no JetStream: {asked:?}");
        let mut heard = client.subscribe("$KV.>").await.expect("it may");
        let wait = tokio::time::timeout(
            std::time::Duration::from_secs(3),
            futures::StreamExt::next(&mut heard),
        );
        assert!(wait.await.is_err(), "a client hears no record");
    });
}

/// Masters keep nothing between two pieces, and take no object whose bytes do not have its digest.
#[test]
fn an_upload_of_other_bytes_is_no_object() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    let runtime = Runtime::new().expect("threads");
    let client = runtime.block_on(as_user(&fleet, CLIENT));
    let ask = |endpoint: Endpoint, question: Value| -> Result<Value, String> {
        let asked = fleet.names().api(endpoint);
        let answer = runtime.block_on(client.request(asked, question.to_string().into()));
        let answer = answer.expect("an answer");
        match answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error")) {
            Some(error) => Err(error.to_string()),
            None => Ok(serde_json::from_slice(&answer.payload).expect("JSON")),
        }
    };
    // The SHA-256 of "abc".
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for store in ["Data", "Modules"] {
        let piece = |upload: u64, after: u64, bytes: &str, whole: Option<u64>| {
            let upload = Nonce(upload).to_string();
            json!({ "store": store, "digest": digest, "upload": upload, "after": after,
                    "bytes": bytes, "whole": whole })
        };
        let find = || ask(Endpoint::ObjectFind, json!({ "store": store, "digest": digest }));
        // "abd".
        let refused = ask(Endpoint::ObjectPut, piece(1, 0, "YWJk", Some(3)));
        let refused = refused.expect_err("other bytes");
        assert!(refused.contains("are not those of"), "{refused}");
        assert_eq!(find().expect("an answer"), json!({}));
        // "ab", once more, and a size that is not that of all pieces.
        let at = ask(Endpoint::ObjectPut, piece(2, 0, "YWI=", None)).expect("it is stored")["at"]
            .clone();
        let at = at.as_u64().expect("a place");
        ask(Endpoint::ObjectPut, piece(2, 0, "YWI=", None))
            .expect_err("it does not follow the last");
        ask(Endpoint::ObjectPut, piece(2, at, "Yw==", Some(2))).expect_err("it has three bytes");
        assert_eq!(find().expect("an answer"), json!({}));
        // The same in two pieces.
        let at = ask(Endpoint::ObjectPut, piece(3, 0, "YWI=", None)).expect("it is stored")["at"]
            .clone();
        let at = at.as_u64().expect("a place");
        ask(Endpoint::ObjectPut, piece(3, at, "Yw==", Some(3))).expect("it is the object");
        assert_eq!(find().expect("an answer"), json!({ "size": 3 }));
        let get = |after: &Value| {
            ask(Endpoint::ObjectGet, json!({ "store": store, "digest": digest, "after": after }))
        };
        let first = get(&Value::Null).expect("a piece");
        assert_eq!((&first["bytes"], &first["whole"]), (&json!("YWI="), &json!(3)));
        assert_eq!(get(&first["place"]).expect("a piece")["bytes"], json!("Yw=="));
        get(&json!({ "copy": "another", "at": 1 })).expect_err("it was never stored so");
        // Whoever names its upload again, wrongly or with a piece more, destroys nothing.
        let _ = ask(Endpoint::ObjectPut, piece(3, 0, "", Some(0)));
        assert_eq!(get(&Value::Null).expect("a piece"), first);
        let last = get(&first["place"]).expect("a piece")["place"]["at"].as_u64().expect("a place");
        let _ = ask(Endpoint::ObjectPut, piece(3, last, "Yw==", Some(3)));
        let _ = ask(Endpoint::ObjectPut, piece(3, last + 1, "Yw==", Some(9)));
        assert_eq!(get(&Value::Null).expect("a piece"), first);
        assert_eq!(get(&first["place"]).expect("a piece")["bytes"], json!("Yw=="));
    }
}

/// A log of several pages is printed whole and in order.
#[test]
fn a_long_log_comes_in_pages() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    fleet.ask_as(CLIENT);
    fleet.push("upper");
    let task = fleet.run(&["task", "run", "upper", "--input", "a", "--group", "none"]).ok().text();
    let lines: Vec<String> = (0..500).map(|at| format!("{at} {}\n", "x".repeat(2_000))).collect();
    let subject = format!("muster.default.log.{task}.00000000000000000000000001.log");
    // A page without messages is followed by what comes, and not by what is older.
    let runtime = Runtime::new().expect("threads");
    let page: Value = runtime.block_on(async {
        let client = as_user(&fleet, CLIENT).await;
        let question = json!({ "from": { "since_ms": 0 } }).to_string();
        let asked = fleet.names().api(Endpoint::EventRead);
        let answer = client.request(asked, question.into()).await.expect("an answer");
        serde_json::from_slice(&answer.payload).expect("a page")
    });
    assert_eq!(page["messages"], json!([]));
    assert!(page["next"]["sequence"].as_u64().is_some_and(|at| at > 0), "{page}");
    runtime.block_on(async {
        let context = jetstream::new(as_user(&fleet, MASTER).await);
        for line in &lines {
            let sent = context.publish(subject.clone(), line.clone().into()).await.expect("sent");
            sent.await.expect("stored");
        }
    });
    assert_eq!(fleet.run(&["task", "logs", &task]).ok().text() + "\n", lines.concat());
}

/// A worker with an account of its own renews its lease while no master runs.
#[test]
fn a_worker_renews_straight_in_nats_from_its_own_account() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    fleet.ask_as(WORKER);
    fleet.start_worker("w1", &[]);
    fleet.kill("m1");
    let runtime = Runtime::new().expect("threads");
    let observer = runtime.block_on(as_user(&fleet, OBSERVER));
    let renewals = || {
        runtime.block_on(async {
            let stream = fleet.names().stream(Bucket::Workers);
            let stream =
                jetstream::new(observer.clone()).get_stream(stream).await.expect("it is there");
            stream.cached_info().state.last_sequence
        })
    };
    let before = renewals();
    wait_for("three renewals", || (renewals() >= before + 3).then_some(()));
    assert!(!fleet.log("w1").contains("NATS refuses"), "{}", fleet.log("w1"));
}

#[test]
fn the_configuration_that_is_written_is_one_that_nats_takes() {
    let dir = tempfile::tempdir().expect("a directory");
    let nats = dir.path().join("nats");
    let ran = Command::new(place::program("muster"))
        .args(["nats", "config", "--dir", text(&nats), "--worker", "w1"])
        .output()
        .expect("muster starts");
    assert!(ran.status.success(), "{ran:?}");
    let accounts = std::fs::read_to_string(nats.join("accounts.conf")).expect("it is written");
    // It does not name this user, so the harness logs in as nobody with a key.
    let mut fleet = Fleet::registry_with(accounts, "");
    fleet.set_variable("MUSTER_NATS_NKEY", nats.join("master.nk"));
    fleet.start_master("m1");
    fleet.set_variable("MUSTER_NATS_NKEY", nats.join("worker-w1.nk"));
    fleet.start_worker("w1", &[]);
    fleet.set_variable("MUSTER_NATS_NKEY", nats.join("client.nk"));
    fleet.push("upper");
    let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    assert_eq!(ran.text(), "A");
    let checked = Command::new(place::nats_server())
        .args(["-t", "-c", text(&nats.join("nats.conf"))])
        .output()
        .expect("nats-server starts");
    assert!(checked.status.success(), "{checked:?}");
}
