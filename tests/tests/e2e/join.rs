//! Workers that join with a token: on their host there is nothing but the token. And workers that are
//! revoked, with whatever they have.

use crate::link_client::{block_on, dial_with};
use muster_protocol::{
    enrolment::Token,
    frame::Encoding,
    message::{JOIN_ALPN, Join, JoinReply},
};
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use muster_wire::{
    authority,
    frames::{FrameReader, FrameWriter},
    link::{self, ConnectionEnd},
    tls,
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A fleet whose master issues certificates that are valid for so many seconds.
pub fn fleet(certificate_s: u64) -> Fleet {
    let mut fleet = Fleet::registry();
    let key = fleet.path("tls/ca.key");
    let lasts = certificate_s.to_string();
    fleet.start_master_with("m1", &["--ca-key", text(&key), "--certificate-s", &lasts]);
    fleet
}

pub fn invite(fleet: &Fleet, args: &[&str]) -> String {
    let invited = fleet.run(&[&["-o", "json", "worker", "invite"], args].concat()).ok().json();
    invited["token"].as_str().expect("a token").into()
}

fn members(fleet: &Fleet) -> Vec<Value> {
    let members = fleet.run(&["-o", "json", "worker", "members"]).ok().json();
    members["members"].as_array().expect("a list").clone()
}

fn run_in(fleet: &Fleet, group: &str) -> Value {
    let task = fleet.run(&["task", "run", "upper", "--input", "a", "--group", group]).ok().text();
    fleet.until("its end", &task, |record| record["state"]["done"].is_object())
}

/// Asks a master for a certificate, as a worker that joins does.
fn knock(fleet: &Fleet, authority: muster_protocol::Digest, join: &Join) -> JoinReply {
    block_on(async {
        let tls = tls::joining(authority).expect("TLS");
        let (_endpoint, connection) = dial_with(fleet, tls, &[JOIN_ALPN]).await;
        let connection = connection.expect("it is let in");
        let (send, receive) = connection.open_bi().await.expect("a stream");
        let mut writer = FrameWriter::new(send, Encoding::Named);
        writer.send(join).await.expect("it is up");
        let mut reader = FrameReader::new(receive, Encoding::Named);
        reader.next().await.expect("an answer").expect("an answer")
    })
}

fn request(secret: Option<Vec<u8>>, worker: &str) -> Join {
    let (_, request) = authority::request().expect("a request");
    Join {
        secret: secret.map(Into::into),
        worker: Some(worker.parse().expect("a name")),
        request: request.into(),
        recipient: None,
        version: "9.9.9".into(),
    }
}

#[test]
fn a_worker_joins_with_a_token_and_a_stolen_token_is_of_no_use() {
    let mut fleet = fleet(86_400);
    fleet.push("upper");
    let permits = ["shop-42", "--group", "shops", "--label", "region=eu", "--slots", "2"];
    let text = invite(&fleet, &permits);
    let file = fleet.path("token");
    std::fs::write(&file, &text).expect("the disk");
    let began = Instant::now();
    fleet.launch_new_worker("host", &["--join", &format!("@{}", file.display())]);
    fleet.until_ready("host");
    println!("joined after {} ms", began.elapsed().as_millis());
    assert!(began.elapsed() < Duration::from_secs(10));
    let worker = fleet.run(&["-o", "json", "worker", "get", "shop-42"]).ok().json();
    let offer = &worker["lease"]["offer"];
    assert_eq!((&offer["group"], &offer["slots"]), (&"shops".into(), &2.into()), "{worker}");
    assert_eq!(offer["labels"]["region"], "eu");
    let done = run_in(&fleet, "shops");
    assert_eq!(done["state"]["done"]["outcome"]["verdict"], "completed", "{done}");

    // Somebody has copied the token on its way, and is late.
    let token: Token = text.parse().expect("a token");
    let thief = |secret: Vec<u8>, worker: &str| match knock(
        &fleet,
        token.authority,
        &request(Some(secret), worker),
    ) {
        JoinReply::Refused(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(thief(token.secret.to_vec(), "shop-42").contains("has been used"));
    assert!(thief(token.secret.to_vec(), "shop-43").contains("is for the worker shop-42"));
    assert!(thief(vec![7; 16], "shop-42").contains("is not valid"));
    assert!(thief(vec![7; 99], "shop-42").contains("another length"));
    // Or asks for another certificate of the worker, with a key of its own.
    match knock(&fleet, token.authority, &request(None, "shop-42")) {
        JoinReply::Refused(why) => assert!(why.contains("another key"), "{why}"),
        other => panic!("{other:?}"),
    }

    // It starts again without the token.
    fleet.kill("host");
    std::fs::remove_file(&file).expect("it is there");
    fleet.launch_new_worker("host", &[]);
    fleet.until_ready("host");
}

#[test]
fn a_program_without_a_certificate_can_only_join() {
    let fleet = fleet(86_400);
    let ca = std::fs::read_to_string(fleet.path("tls/ca.pem")).expect("made");
    let authority = tls::authority_of(&ca).expect("a certificate");
    block_on(async {
        let tls = tls::joining(authority).expect("TLS");
        // It asks to join as well, so that the master sends the certificate of its authority.
        let both = [JOIN_ALPN, Encoding::Named.alpn()];
        let (_endpoint, connection) = dial_with(&fleet, tls, &both).await;
        let ended = match connection {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        };
        let ConnectionEnd::Closed { code, .. } = ended else { panic!("{ended:?}") };
        assert_eq!(code, link::NOT_A_WORKER);
        // The token of another fleet.
        let tls = tls::joining(muster_protocol::Digest([1; 32])).expect("TLS");
        let (_endpoint, connection) = dial_with(&fleet, tls, &[JOIN_ALPN]).await;
        assert!(connection.is_err(), "it does not show its secret to another fleet");
    });
}

#[test]
fn a_worker_of_any_name_waits_for_its_approval() {
    let mut fleet = fleet(86_400);
    fleet.push("upper");
    let token = invite(&fleet, &["--uses", "2", "--group", "shops", "--approve"]);
    fleet.launch_new_worker("host", &["--join", &token, "--name", "a"]);
    wait_for("it to wait", || (!members(&fleet).is_empty()).then_some(()));
    let waits = fleet.run(&["worker", "members"]).ok().text();
    assert!(waits.contains("waits"), "{waits}");
    assert!(!fleet.is_ready("host"));
    fleet.run(&["worker", "approve", "a"]).ok();
    fleet.until_ready("host");
    let joined = fleet.run(&["worker", "members"]).ok().text();
    assert!(joined.contains("joined"), "{joined}");
    run_in(&fleet, "shops");
    assert_eq!(fleet.run(&["worker", "approve", "b"]).code, 2, "nobody waits");
}

#[test]
fn a_certificate_is_renewed_before_it_ends() {
    let mut fleet = fleet(10);
    fleet.push("upper");
    let token = invite(&fleet, &["a", "--group", "shops"]);
    fleet.launch_new_worker("host", &["--join", &token]);
    fleet.until_ready("host");
    let renewals = |fleet: &Fleet| fleet.log("host").matches("the certificate was renewed").count();
    wait_for("two renewals", || (renewals(&fleet) >= 2).then_some(()));
    // Its first certificate has ended by now, and its master has closed that link.
    wait_for("another link", || (fleet.log("host").matches(" linked ").count() >= 2).then_some(()));
    let done = run_in(&fleet, "shops");
    assert_eq!(done["attempts"], 1, "{done}");
    assert!(!fleet.log("host").contains("lapsed"), "its lease went on");
    // The host was off for longer than its certificate lasts.
    fleet.kill("host");
    std::thread::sleep(Duration::from_secs(11));
    fleet.launch_new_worker("host", &[]);
    fleet.until_ready("host");
}

#[test]
fn a_revoked_worker_is_out_and_its_tasks_run_elsewhere() {
    let mut fleet = fleet(86_400);
    fleet.push("heart");
    fleet.push("upper");
    let token = invite(&fleet, &["a", "--group", "shops", "--secret", "API_KEY"]);
    fleet.launch_new_worker("host", &["--join", &token]);
    fleet.until_ready("host");
    let beats = r#"{"for_ms":600000,"every_us":10000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", beats, "--group", "shops"]).ok();
    let task = task.text();
    fleet.until("its dispatch", &task, |record| record["state"]["dispatched"].is_object());
    fleet.start_worker_without_nats("w1", &["--group", "shops"]);

    let revoked = fleet.run(&["worker", "revoke", "a"]).ok().text();
    assert!(revoked.contains("API_KEY"), "{revoked}");
    let moved = |record: &Value| record["state"]["dispatched"]["worker"] == "w1";
    let record = fleet.until("its second attempt", &task, moved);
    assert_eq!(record["history"][0]["lost"], true, "{record}");
    assert!(fleet.log("m1").contains("it is revoked"));
    // It stays out, also with a new process, and gets no other certificate.
    fleet.kill("host");
    fleet.launch_new_worker("host", &[]);
    wait_for("it to be refused", || {
        fleet.log("host").contains("the worker is revoked").then_some(())
    });
    assert!(!fleet.is_ready("host"));
    assert!(fleet.run(&["worker", "members"]).ok().text().contains("revoked"));
    // A worker whose certificate was made by hand, which nobody has seen.
    fleet.certificate("worker", "w7");
    fleet.run(&["worker", "revoke", "w7"]).ok();
    fleet.launch_worker("w7", &[]);
    wait_for("it to be refused", || {
        fleet.log("w7").contains("the worker is revoked").then_some(())
    });

    // Its host is found again, and is made anew.
    fleet.kill("host");
    let token = invite(&fleet, &["a", "--group", "shops"]);
    fleet.launch_new_worker("other-host", &["--join", &token]);
    fleet.until_ready("other-host");
}
