//! Who may ask masters for what, and what the audit says of it.

use super::permissions::{ALICE, BOB, CLIENT, MASTER, OBSERVER, documented};
use async_nats::{Client, ConnectOptions, HeaderMap};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::StreamExt as _;
use muster_protocol::{
    api::PageStart,
    role::{REQUEST_INFO, Role},
    subject::Endpoint,
};
use muster_tests::{Fleet, fleet::wait_for};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Logs in as a user with an inbox of its own.
async fn as_user(fleet: &Fleet, user: &str, inbox: &str) -> Client {
    let (name, password) = user.split_once(':').expect("a password");
    let options = ConnectOptions::with_user_and_password(name.into(), password.into());
    let address = fleet.nats_url().rsplit('@').next().expect("an address").to_owned();
    options.custom_inbox_prefix(inbox).connect(address).await.expect("it may log in")
}

/// The code and the sentence of the answer's error; 200 if there is none.
async fn ask(client: &Client, fleet: &Fleet, endpoint: Endpoint, body: Value) -> (u16, String) {
    let asked = fleet.names().api(endpoint);
    let answer = client.request(asked, body.to_string().into()).await.expect("an answer");
    let header = |name: &str| {
        let value = answer.headers.as_ref().and_then(|headers| headers.get(name));
        value.map(ToString::to_string)
    };
    let code = header("Nats-Service-Error-Code").map_or(200, |code| code.parse().expect("a code"));
    (code, header("Nats-Service-Error").unwrap_or_default())
}

/// Like [`ask`], with headers that name another user.
async fn ask_as_another(client: &Client, fleet: &Fleet, user: &str) -> String {
    let forged = json!({ "acc": "clients_default", "user": user }).to_string();
    let mut headers = HeaderMap::new();
    for name in [REQUEST_INFO, "nats-request-info", REQUEST_INFO] {
        headers.append(name, forged.as_str());
    }
    let asked = fleet.names().api(Endpoint::UserSelf);
    let answer = client.request_with_headers(asked, headers, "{}".into()).await;
    let answer: Value = serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON");
    answer["actor"]["user"].as_str().expect("a user").into()
}

/// A request to each endpoint that a master can read, and the least role for it.
fn requests() -> Vec<(Endpoint, Role, Value)> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let task = "01m8fnwfet4x5ppdhcnbjh702j";
    let object = json!({ "store": "Data", "digest": digest });
    let from = json!({ "from": PageStart::New });
    let spec = json!({
        "group": "default", "module": { "name": null, "digest": digest },
        "input": { "text": "" },
    });
    let (none, nobody) = (json!({}), json!({ "worker": "w9" }));
    let with = |mut value: Value, more: Value| {
        let more = more.as_object().expect("an object").clone();
        value.as_object_mut().expect("an object").extend(more);
        value
    };
    let piece = json!({ "upload": "0000000000001", "after": 0, "bytes": "YQ==" });
    let piece = with(object.clone(), piece);
    let invite = json!({
        "secret": digest, "entitlement": { "groups": ["default"] }, "ttl_s": 60, "uses": 1,
    });
    let upgrade = json!({ "worker": "w9", "wanted": { "before": digest }, "deadline_ms": 0 });
    let rights = json!({ "everywhere": "read" });
    let secret = json!({
        "worker": "w9", "name": "KEY",
        "recipient": "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq",
        "file": STANDARD.encode("age-encryption.org/v1\n"),
    });
    let requests: Vec<(Endpoint, Role, Value)> = vec![
        (Endpoint::TaskSubmit, Role::Submit, json!({ "tasks": [{ "id": task, "spec": spec }] })),
        (Endpoint::TaskGet, Role::Read, json!({ "ids": [task] })),
        (Endpoint::TaskList, Role::Read, json!({})),
        (Endpoint::TaskCancel, Role::Submit, json!({ "ids": [task] })),
        (Endpoint::WorkerList, Role::Read, none.clone()),
        (Endpoint::WorkerOrder, Role::Operate, json!({ "worker": "w1", "order": "uncordon" })),
        (Endpoint::WorkerUpgrade, Role::Admin, upgrade),
        (Endpoint::WorkerInvite, Role::Admin, invite),
        (Endpoint::WorkerMembers, Role::Operate, none.clone()),
        (Endpoint::WorkerApprove, Role::Admin, nobody.clone()),
        (Endpoint::WorkerRevoke, Role::Admin, nobody),
        (Endpoint::UserList, Role::Admin, none.clone()),
        (Endpoint::UserSet, Role::Admin, json!({ "user": "carol", "rights": rights })),
        (Endpoint::UserForget, Role::Admin, json!({ "user": "carol" })),
        (Endpoint::UserSelf, Role::None, none.clone()),
        (Endpoint::SecretSet, Role::Admin, secret),
        (Endpoint::SecretList, Role::Admin, none.clone()),
        (Endpoint::SecretForget, Role::Admin, json!({ "worker": "w9", "name": "KEY" })),
        (Endpoint::GroupList, Role::Read, none.clone()),
        (Endpoint::GroupLoad, Role::Read, none.clone()),
        (Endpoint::GroupSet, Role::Admin, json!({ "group": "shops" })),
        (Endpoint::AuditRead, Role::Admin, from.clone()),
        (Endpoint::MasterList, Role::Read, none.clone()),
        (Endpoint::ModuleRegister, Role::Submit, json!({ "name": "a", "digest": digest })),
        (Endpoint::ModuleList, Role::Read, none),
        (Endpoint::ModuleFind, Role::Read, json!({ "name": "nothing" })),
        (Endpoint::ModuleRemove, Role::Operate, json!({ "name": "nothing" })),
        (Endpoint::ObjectFind, Role::Submit, object.clone()),
        (Endpoint::ObjectPut, Role::Submit, piece),
        (Endpoint::ObjectGet, Role::Read, object),
        (Endpoint::EventRead, Role::Read, from.clone()),
        (Endpoint::LogRead, Role::Read, with(from, json!({ "task": task }))),
    ];
    assert!(Endpoint::ALL.iter().all(|endpoint| requests.iter().any(|(of, ..)| of == endpoint)));
    requests
}

#[test]
fn a_client_of_each_role_may_do_what_the_role_permits_and_no_more() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    let runtime = Runtime::new().expect("threads");
    let alice = runtime.block_on(as_user(&fleet, ALICE, "_INBOX_alice"));
    let mut tried = 0;
    for role in Role::ALL {
        fleet.ask_as(OBSERVER);
        fleet.run(&["user", "set", "alice", "--called", "Alice", "--role", role.word()]).ok();
        for (endpoint, needs, body) in requests() {
            let (code, sentence) = runtime.block_on(ask(&alice, &fleet, endpoint, body));
            let what = format!("{role} {}: {code} {sentence}", endpoint.word());
            assert_ne!(code, 500, "{what}");
            assert_eq!(code == 403, role < needs, "{what}");
            assert!(code != 403 || sentence.contains(&format!("the role {needs} ")), "{what}");
            assert!(!sentence.contains("malformed"), "{what}");
            tried += 1;
        }
    }
    println!("{tried} requests");
    assert_eq!(runtime.block_on(ask_as_another(&alice, &fleet, "bob")), "alice");
    // Who has no roles of their own may submit, and not more.
    fleet.run(&["user", "forget", "alice"]).ok();
    for (endpoint, needs, body) in requests() {
        let (code, sentence) = runtime.block_on(ask(&alice, &fleet, endpoint, body));
        let what = format!("{}: {code} {sentence}", endpoint.word());
        assert_eq!(code == 403, Role::Submit < needs, "{what}");
    }
}

#[test]
fn a_user_sees_and_changes_only_the_groups_of_its_roles() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    fleet.start_worker("w1", &["--group", "shops"]);
    fleet.start_worker("w2", &["--group", "vault"]);
    fleet.ask_as(OBSERVER);
    fleet.push("upper");
    let as_bob = |fleet: &Fleet, command: &[&str]| {
        fleet.run(&[&["--nats-inbox-prefix", "_INBOX_bob"], command].concat())
    };
    let run = |fleet: &Fleet, group: &str| {
        as_bob(fleet, &["task", "run", "upper", "--input", "a", "--group", group, "--wait"])
    };
    let secret = fleet.run(&["task", "run", "upper", "--input", "a", "--group", "vault"]).ok();
    let secret = secret.text();
    fleet.run(&["user", "set", "bob", "--called", "Bob", "--role", "operate@shops"]).ok();
    fleet.ask_as(BOB);
    let invite = |fleet: &Fleet, name: &str| {
        let whom = ["worker", "invite", name, "--group", "shops", "--master", "127.0.0.1:1"];
        as_bob(fleet, &whom)
    };
    invite(&fleet, "w9").refused("the role admin in a group");
    fleet.ask_as(OBSERVER);
    // An admin of one group takes no worker from another.
    fleet.run(&["user", "set", "bob", "--role", "admin@shops"]).ok();
    fleet.ask_as(BOB);
    invite(&fleet, "w9").ok();
    invite(&fleet, "w1").ok();
    invite(&fleet, "w2").refused("the role admin in the group vault");
    fleet.ask_as(OBSERVER);
    fleet.run(&["user", "set", "bob", "--role", "operate@shops"]).ok();
    fleet.ask_as(BOB);
    assert_eq!(run(&fleet, "shops").ok().text(), "A");
    for refused in [
        run(&fleet, "vault"),
        as_bob(&fleet, &["task", "get", &secret]),
        as_bob(&fleet, &["task", "cancel", &secret]),
        as_bob(&fleet, &["task", "logs", &secret]),
        as_bob(&fleet, &["task", "ls"]),
        as_bob(&fleet, &["task", "ls", "--group", "vault"]),
        as_bob(&fleet, &["worker", "drain", "w2"]),
        as_bob(&fleet, &["module", "rm", "upper"]),
        as_bob(&fleet, &["worker", "invite", "w3", "--group", "shops"]),
        as_bob(&fleet, &["audit", "ls"]),
        as_bob(&fleet, &["user", "set", "bob", "--role", "admin"]),
    ] {
        assert_eq!(refused.code, 2, "{refused:?}");
        let said = &refused.err;
        // The worker that may not be drained is not even seen.
        assert!(said.contains("needs the role") || said.contains("no worker w2"), "{said}");
    }
    let workers = as_bob(&fleet, &["-o", "json", "worker", "ls"]).ok().json();
    let seen: Vec<_> = workers["workers"].as_array().expect("a list").iter().collect();
    assert_eq!(seen.len(), 1, "{workers}");
    let groups = as_bob(&fleet, &["-o", "json", "group", "ls"]).ok().json();
    let names: Vec<_> = groups["groups"].as_array().expect("a list").iter().collect();
    assert_eq!(names.len(), 1, "{groups}");
    assert_eq!(names[0]["group"], "shops", "{groups}");
    as_bob(&fleet, &["worker", "cordon", "w1"]).ok();
    as_bob(&fleet, &["task", "ls", "--group", "shops"]).ok();
    let events = as_bob(&fleet, &["events", "--since", "1h", "--json"]).ok().text();
    assert!(events.contains("\"shops\"") && !events.contains("\"vault\""), "{events}");
    let who = as_bob(&fleet, &["-o", "json", "user", "whoami"]).ok().json();
    assert_eq!(who["actor"]["user"], "bob", "{who}");
    assert_eq!(who["rights"]["groups"]["shops"], "operate", "{who}");

    // All of it is in the audit, with the name of who asked.
    fleet.ask_as(OBSERVER);
    wait_for("the last decisions to be written", || {
        let text = fleet.run(&["audit", "ls", "--user", "Bob"]).ok().text();
        ["user.set", "worker.order", "task.submit", "audit.read", "module.remove"]
            .iter()
            .all(|verb| text.contains(verb))
            .then_some(())
    });
    let entries = fleet.run(&["audit", "ls", "-o", "json", "--verb", "worker.order"]).ok().text();
    let entry: Value = serde_json::from_str(entries.lines().next().expect("one")).expect("JSON");
    let decision = &entry["decisions"][0];
    assert_eq!(decision["actor"]["called"], "Bob", "{entries}");
    assert_eq!(decision["objects"], json!(["worker w1", "cordoned"]), "{entries}");
    assert_eq!(decision["outcome"], "done", "{entries}");
}

#[test]
fn a_forged_entry_breaks_the_chain_of_the_audit() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    fleet.start_master("m2");
    fleet.ask_as(OBSERVER);
    // Both masters write, each after what the other has written.
    for number in 0..20 {
        fleet.run(&["user", "set", &format!("user-{number}"), "--role", "read"]).ok();
    }
    let whole = fleet.run(&["audit", "verify", "-o", "json"]).ok().json();
    assert_eq!(whole["first"], 1, "{whole}");
    let noted = whole["last"].as_str().expect("a place").to_owned();
    let number: u64 = noted.split(':').next().expect("a number").parse().expect("a number");
    assert!(number >= 20, "{noted}");
    fleet.run(&["user", "set", "last", "--role", "read"]).ok();
    fleet.run(&["audit", "verify", "--noted", &noted]).ok();
    let other = format!("{number}:sha256:{}", "0".repeat(64));
    let refused = fleet.run(&["audit", "verify", "--noted", &other]);
    assert_eq!(refused.code, 1, "{refused:?}");
    Runtime::new().expect("threads").block_on(async {
        let master = as_user(&fleet, MASTER, "_INBOX").await;
        let forged = json!({
            "number": number + 2, "at": 0, "master": "m1", "write": "0000000000001", "decisions": [],
            "previous": format!("sha256:{}", "0".repeat(64)),
        });
        let context = async_nats::jetstream::new(master);
        let sent = context.publish(fleet.names().audit(), forged.to_string().into()).await;
        sent.expect("it may write").await.expect("it is stored");
        let stream = context.get_stream(fleet.names().audit_stream()).await.expect("a stream");
        stream.delete_message(1).await.expect_err("nothing can be deleted");
        stream.purge().await.expect_err("nothing can be purged");
    });
    let broken = fleet.run(&["audit", "verify"]);
    assert_eq!(broken.code, 1, "{broken:?}");
    let said = broken.err.clone();
    assert!(said.contains("not as it was written"), "{said}");
}

/// In one account a client hears the requests of another and can answer them.
#[test]
fn no_client_hears_or_answers_another() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    let runtime = Runtime::new().expect("threads");
    runtime.block_on(async {
        let attacker = as_user(&fleet, CLIENT, "_INBOX").await;
        let victim = as_user(&fleet, ALICE, "_INBOX_alice").await;
        let heard = ["muster.default.api.>", "_INBOX_alice.>", ">"];
        let mut ears = Vec::new();
        for subject in heard {
            ears.push(attacker.subscribe(subject).await.expect("sent"));
        }
        let batch = "muster.default.done.01m8fnwfet4x5ppdhcnbjh702j";
        let mut ends = victim.subscribe(batch).await.expect("it may");
        attacker.flush().await.expect("the server has it");
        victim.flush().await.expect("the server has it");
        attacker.publish(batch, "[]".into()).await.expect("sent");
        attacker.flush().await.expect("the server has it");
        let (code, _) = ask(&victim, &fleet, Endpoint::MasterList, json!({})).await;
        assert_eq!(code, 200);
        let silence = Duration::from_secs(1);
        let forged = tokio::time::timeout(silence, ends.next()).await;
        assert!(forged.is_err(), "the end of a task is forged: {forged:?}");
        for (mut ear, subject) in ears.into_iter().zip(heard) {
            let heard = tokio::time::timeout(Duration::from_millis(50), ear.next()).await;
            assert!(!matches!(heard, Ok(Some(_))), "{subject}: {heard:?}");
        }
    });
}
