//! Secrets that the registry keeps, encrypted to the workers that have joined: who is given one, and who is not.

use crate::{
    join::{fleet, invite},
    link_client::{block_on, dial, dial_with},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_protocol::{
    frame::Encoding,
    grant::SecretTerms,
    message::{AttemptKey, HeldAttempt, StreamReply, StreamRequest},
};
use muster_tests::{
    Fleet,
    fleet::{Ran, text, wait_for},
};
use muster_wire::{
    frames::{FrameReader, FrameWriter},
    link::Connection,
    tls,
};
use serde_json::Value;
use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

/// The value of the secret in these tests.
const VALUE: &str = "correct-horse-battery";

/// A value that is no secret, which is found wherever tasks are kept.
const PUBLIC: &str = "a-variable-that-everybody-sees";

/// Starts a worker that joins by an invitation with these options.
fn start(fleet: &mut Fleet, worker: &str, options: &[&str]) {
    let token = invite(fleet, &[&[worker, "--group", "shops"], options].concat());
    fleet.launch_new_worker(worker, &["--join", &token]);
    fleet.until_ready(worker);
}

/// Starts the process of a worker again: it asks for its secrets then.
fn restart(fleet: &mut Fleet, worker: &str) {
    fleet.kill(worker);
    fleet.launch_new_worker(worker, &[]);
    fleet.until_ready(worker);
}

fn offers(fleet: &Fleet, worker: &str, secret: &str) -> bool {
    let found = fleet.run(&["-o", "json", "worker", "get", worker]).ok().json();
    let secrets = found["lease"]["offer"]["policy"]["secrets"].as_array().expect("a list").clone();
    found["linked"] == true && secrets.contains(&secret.into())
}

fn until_offered(fleet: &Fleet, worker: &str, is_offered: bool) {
    wait_for("what it offers", || (offers(fleet, worker, "KEY") == is_offered).then_some(()));
}

fn set(fleet: &Fleet, how: &[&str]) -> Ran {
    let command = ["-o", "json", "secret", "set", "KEY", "-"];
    fleet.run_with(&[&command[..], how].concat(), format!("{VALUE}\n").as_bytes())
}

fn run(fleet: &Fleet, module: &str) -> Ran {
    let task = ["task", "run", module, "--group", "shops", "--secret", "KEY", "--wait"];
    fleet.run(&[&task[..], &["--env", &format!("PUBLIC={PUBLIC}")]].concat())
}

/// The guest prints what it was given; a value that was given is masked in the output.
fn is_given(ran: &Ran) -> bool {
    assert!(!ran.text().contains(VALUE) && !ran.err.contains(VALUE), "{ran:?}");
    ran.code == 0 && ran.text().lines().any(|line| line == "variable KEY=***")
}

/// The bytes of every message in every stream of the registry.
fn registry(fleet: &Fleet) -> Vec<(String, Vec<u8>)> {
    block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        let context = async_nats::jetstream::new(client);
        let mut all = Vec::new();
        let mut names = context.stream_names();
        while let Some(name) = futures::TryStreamExt::try_next(&mut names).await.expect("names") {
            let stream = context.get_stream(&name).await.expect("a stream");
            let state = stream.cached_info().state.clone();
            for sequence in state.first_sequence..=state.last_sequence {
                if let Ok(message) = stream.get_raw_message(sequence).await {
                    all.push((message.subject.to_string(), message.payload.to_vec()));
                }
            }
        }
        all
    })
}

fn has(messages: &[(String, Vec<u8>)], text: &str) -> bool {
    let text = text.as_bytes();
    messages.iter().any(|(_, bytes)| bytes.windows(text.len()).any(|part| part == text))
}

/// What the registry keeps under the key of a worker's secret.
fn record(messages: &[(String, Vec<u8>)], worker: &str) -> Value {
    let key = format!("$KV.muster_default_access.sealed.{worker}.KEY");
    let (_, bytes) = messages.iter().find(|(subject, _)| *subject == key).expect("its record");
    serde_json::from_slice(bytes).expect("JSON")
}

async fn ask(connection: &Connection, asked: &StreamRequest) -> StreamReply {
    let (send, receive) = connection.open_bi().await.expect("a stream");
    let mut writer = FrameWriter::new(send, Encoding::Named);
    writer.send(asked).await.expect("it is up");
    writer.finish().expect("it is up");
    let mut reader = FrameReader::new(receive, Encoding::Named);
    reader.next().await.expect("an answer").expect("an answer")
}

/// The directory of what a worker got when it joined.
fn identity(fleet: &Fleet, worker: &str) -> PathBuf {
    fleet.path(&format!("{worker}.state")).join("identity")
}

/// The TLS of a worker that has joined, from what is on its host.
fn tls_of(fleet: &Fleet, worker: &str) -> rustls::ClientConfig {
    let file = |name: &str| identity(fleet, worker).join(name);
    let files =
        tls::Files { ca: file("ca.pem"), cert: file("worker.pem"), key: file("worker.key") };
    tls::client(&files).expect("certificates")
}

#[test]
fn a_worker_that_has_joined_is_given_its_secret_and_the_registry_never_sees_it() {
    let mut fleet = fleet(86_400);
    fleet.push("inventory");
    start(&mut fleet, "w1", &["--secret", "KEY"]);
    start(&mut fleet, "w2", &[]);
    let key = identity(&fleet, "w1").join("secrets.key");
    let mode = std::fs::metadata(&key).expect("it is made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let refused = run(&fleet, "inventory");
    assert!(refused.code == 2 && refused.err.contains("has no secret KEY"), "{refused:?}");

    let done = set(&fleet, &["--group", "shops", "--worker", "w7"]).ok().json();
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|entry| entry["worker"].as_str().expect("a name").into()).collect()
    };
    assert_eq!(names(&done["set"]), ["w1"], "{done}");
    assert_eq!(names(&done["skipped"]), ["w7", "w2"], "{done}");
    let why = done["skipped"][1]["why"].as_str().expect("a reason");
    assert!(why.contains("does not permit the secret KEY"), "{done}");
    let kept = record(&registry(&fleet), "w1");
    let file = STANDARD.decode(kept["content"]["file"].as_str().expect("a text")).expect("Base64");
    assert!(file.starts_with(b"age-encryption.org/v1\n"), "{kept}");
    assert!(!has(&[("its file".into(), file)], VALUE), "{kept}");
    restart(&mut fleet, "w1");
    until_offered(&fleet, "w1", true);
    let given = run(&fleet, "inventory");
    assert!(is_given(&given), "{given:?}");

    let messages = registry(&fleet);
    assert!(has(&messages, PUBLIC), "what tasks have is found");
    assert!(!has(&messages, VALUE) && !has(&messages, &STANDARD.encode(VALUE)));
    for process in ["m1", "w1"] {
        assert!(!fleet.log(process).contains(VALUE), "{process}");
    }
    let audit = fleet.run(&["audit", "ls", "-o", "json", "--verb", "secret.set"]).ok().text();
    assert!(audit.contains("\"secret KEY\"") && audit.contains("\"worker w1\""), "{audit}");

    // One that joins later lacks it, until it is set again.
    start(&mut fleet, "w3", &["--secret", "KEY"]);
    let listed = fleet.run(&["-o", "json", "secret", "ls"]).ok().json();
    assert_eq!(names(&listed["secrets"]), ["w1"], "{listed}");
    assert_eq!(names(&listed["lacking"]), ["w3"], "{listed}");
    assert!(!listed.to_string().contains("file"), "{listed}");
    let table = fleet.run(&["secret", "ls"]).ok().text();
    assert!(table.lines().any(|line| line.contains("w3") && line.contains("lacks it")), "{table}");
    set(&fleet, &["--worker", "w3"]).ok();
    let listed = fleet.run(&["-o", "json", "secret", "ls"]).ok().json();
    assert_eq!(names(&listed["lacking"]).len(), 0, "{listed}");

    // A worker with a policy of its own keeps its file.
    let (policy, value) = (fleet.path("w3.toml"), fleet.path("value"));
    std::fs::write(&value, "another-value\n").expect("the disk");
    let path = text(&value).to_string();
    std::fs::write(&policy, format!("[secrets]\nKEY = '{path}'\n")).expect("the disk");
    fleet.kill("w3");
    fleet.launch_new_worker("w3", &["--policy", text(&policy)]);
    fleet.until_ready("w3");
    wait_for("the warning", || fleet.log("w3").contains("which counts").then_some(()));
}

#[test]
fn a_value_is_handed_only_to_an_attempt_of_its_worker_that_was_granted_it() {
    let mut fleet = fleet(86_400);
    let beats = r#"{"for_ms":600000,"every_us":10000,"rest":true}"#;
    for guest in ["heart", "inventory", "upper"] {
        fleet.push(guest);
    }
    start(&mut fleet, "w1", &["--secret", "KEY", "--secret", "OTHER", "--slots", "4"]);
    set(&fleet, &["--worker", "w1"]).ok();
    restart(&mut fleet, "w1");
    until_offered(&fleet, "w1", true);
    let submit = |secret: &[&str]| {
        let task = ["task", "run", "heart", "--input", beats, "--group", "shops"];
        let task = fleet.run(&[&task[..], secret].concat()).ok().text();
        let is_dispatched = |record: &Value| record["state"]["dispatched"].is_object();
        let record = fleet.until("its dispatch", &task, is_dispatched);
        let attempt = record["state"]["dispatched"]["id"].as_str().expect("an id");
        let key = AttemptKey {
            task: task.parse().expect("an id"),
            attempt: attempt.parse().expect("an id"),
        };
        HeldAttempt { key, revision: 0 }
    };
    let (with, without) = (submit(&["--secret", "KEY"]), submit(&[]));
    let name = |name: &str| name.parse().expect("a name");
    let asks = |attempt, of: &str| StreamRequest::Secret { attempt, name: name(of) };
    block_on(async {
        let alpn = [Encoding::Named.alpn()];
        let (_endpoint, own) = dial_with(&fleet, tls_of(&fleet, "w1"), &alpn).await;
        let (_other_endpoint, other) = dial(&fleet, &alpn).await;
        let (own, other) = (own.expect("it is let in"), other.expect("it is let in"));
        let refused = |answer: StreamReply, why: &str| match answer {
            StreamReply::Refused(said) => assert!(said.contains(why), "{said}"),
            answer => panic!("{why}: {answer:?}"),
        };
        let file = ask(&own, &asks(with, "KEY")).await;
        let StreamReply::Sealed(file) = file else { panic!("its own: {file:?}") };
        assert!(file.starts_with(b"age-encryption.org/v1\n"));
        // Another worker has a certificate of the fleet, and knows the attempt.
        assert_eq!(ask(&other, &asks(with, "KEY")).await, StreamReply::Stale);
        refused(ask(&own, &asks(without, "KEY")).await, "does not ask for the secret KEY");
        refused(ask(&own, &asks(with, "OTHER")).await, "does not ask for the secret OTHER");
        let strange =
            HeldAttempt { key: AttemptKey { task: without.key.task, ..with.key }, ..with };
        assert_eq!(ask(&own, &asks(strange, "KEY")).await, StreamReply::Stale);
        let terms = vec![SecretTerms { name: name("KEY"), rule: None }];
        let heard = ask(&own, &StreamRequest::SecretTerms).await;
        assert_eq!(heard, StreamReply::SecretTerms(terms));
        let heard = ask(&other, &StreamRequest::SecretTerms).await;
        assert_eq!(heard, StreamReply::SecretTerms(Vec::new()));
    });

    // Tasks that are lost with their worker again and again would run alone there.
    for HeldAttempt { key, .. } in [with, without] {
        fleet.run(&["task", "cancel", &key.task.to_string()]).ok();
    }
    // The worker offers it to every module still; the master knows the rule.
    let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    let modules = modules["modules"].as_array().expect("a list").iter();
    let digest = modules.filter(|module| module["name"] == "inventory");
    let digest = digest.map(|module| module["versions"][0]["digest"].clone()).next();
    let digest = digest.expect("it is pushed").as_str().expect("a digest").to_string();
    set(&fleet, &["--worker", "w1", "--module", &digest]).ok();
    let other = run(&fleet, "upper");
    assert!(other.code == 126 && other.err.contains("for other modules"), "{other:?}");
    assert!(is_given(&run(&fleet, "inventory")));
    // It knows the rule, too, from now on, and masters place by its lease.
    restart(&mut fleet, "w1");
    until_offered(&fleet, "w1", true);
    let other = run(&fleet, "upper");
    let kept = "keeps the secret KEY for other modules";
    assert!(other.code == 2 && other.err.contains(kept), "{other:?}");
    assert!(is_given(&run(&fleet, "inventory")));

    // A worker whose key is lost cannot decrypt it, and says what to do.
    fleet.kill("w1");
    std::fs::remove_file(identity(&fleet, "w1").join("secrets.key")).expect("it is there");
    fleet.launch_new_worker("w1", &[]);
    fleet.until_ready("w1");
    let is_told = || {
        let listed = fleet.run(&["-o", "json", "secret", "ls"]).ok().json();
        (listed["secrets"][0]["usable"] == false).then_some(listed)
    };
    let listed = wait_for("masters to know its new key", is_told);
    assert_eq!(listed["lacking"][0]["worker"], "w1", "{listed}");
    set(&fleet, &["--worker", "w1"]).ok();
    restart(&mut fleet, "w1");
    until_offered(&fleet, "w1", true);
    assert!(is_given(&run(&fleet, "inventory")));
}

#[test]
fn a_secret_is_forgotten_and_goes_with_a_revoked_worker() {
    let mut fleet = fleet(86_400);
    fleet.push("inventory");
    start(&mut fleet, "w1", &["--secret", "KEY"]);
    let content = |fleet: &Fleet| record(&registry(fleet), "w1")["content"].clone();
    set(&fleet, &["--worker", "w1"]).ok();
    restart(&mut fleet, "w1");
    until_offered(&fleet, "w1", true);
    assert!(is_given(&run(&fleet, "inventory")));
    assert!(content(&fleet).is_object());

    fleet.run(&["secret", "forget", "KEY"]).ok();
    assert!(content(&fleet).is_null(), "the encrypted value is gone, too");
    // The worker offers it still; the master does not have it any more.
    let refused = run(&fleet, "inventory");
    let advice = "muster secret set KEY --worker w1";
    assert!(refused.code == 126 && refused.err.contains(advice), "{refused:?}");
    restart(&mut fleet, "w1");
    until_offered(&fleet, "w1", false);
    let refused = run(&fleet, "inventory");
    assert!(refused.code == 2 && refused.err.contains("has no secret KEY"), "{refused:?}");
    fleet.run(&["secret", "forget", "KEY"]).refused("keeps no secret KEY");

    set(&fleet, &["--worker", "w1"]).ok();
    assert!(content(&fleet).is_object());
    let revoked = fleet.run(&["worker", "revoke", "w1"]).ok().text();
    assert!(revoked.contains("KEY"), "{revoked}");
    assert!(content(&fleet).is_null());
    let listed = fleet.run(&["-o", "json", "secret", "ls"]).ok().json();
    assert_eq!(listed["secrets"].as_array().map(Vec::len), Some(0), "{listed}");
    let again = set(&fleet, &["--worker", "w1"]);
    assert!(again.code == 2 && again.text().contains("is revoked"), "{again:?}");

    // A host with the same name joins anew, and has nothing of the one before.
    fleet.kill("w1");
    let token = invite(&fleet, &["w1", "--group", "shops", "--secret", "KEY"]);
    fleet.launch_new_worker("host", &["--join", &token]);
    fleet.until_ready("host");
    let refused = run(&fleet, "inventory");
    assert!(refused.code == 2 && refused.err.contains("has no secret KEY"), "{refused:?}");
}
