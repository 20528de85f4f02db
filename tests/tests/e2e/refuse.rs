//! Bad input: a clear message that says what to do, exit code 2, and no change to the fleet.

use muster_tests::{Fleet, fleet::text, fleet::wait_for};
use std::io::Write;

/// Demands exit code 2 and a message with all of these words.
fn refused(ran: muster_tests::Ran, words: &[&str]) {
    assert_eq!(ran.code, 2, "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is not in {}", ran.err);
    }
}

/// Demands that the fleet has no module and no task.
fn no_trace(fleet: &Fleet) {
    let modules = fleet.run(&["-o", "json", "module", "ls"]).ok().json();
    assert_eq!(modules["modules"].as_array().map(Vec::len), Some(0), "{modules}");
    let tasks = fleet.run(&["-o", "json", "task", "ls"]).ok().json();
    assert_eq!(tasks["tasks"].as_array().map(Vec::len), Some(0), "{tasks}");
}

#[test]
fn bad_modules_are_refused_by_name_of_their_fault() {
    let fleet = Fleet::start(1, 1);
    let file = fleet.path("bad.wasm");
    std::fs::write(&file, "not Wasm at all").expect("a file");
    refused(fleet.run(&["module", "push", text(&file)]), &["not a Wasm file", "wasm32-wasip1"]);
    refused(fleet.run(&["task", "run", text(&file)]), &["not a Wasm file"]);
    let strange = r#"(module (import "env" "launch_missiles" (func)) (func (export "_start")))"#;
    std::fs::write(&file, wat::parse_str(strange).expect("it is well formed")).expect("a file");
    refused(fleet.run(&["module", "push", text(&file)]), &["env.launch_missiles"]);
    let nothing = wat::parse_str("(module)").expect("it is well formed");
    std::fs::write(&file, nothing).expect("a file");
    refused(fleet.run(&["module", "push", text(&file)]), &["_start"]);
    refused(fleet.run(&["module", "push", "/no/such/file.wasm"]), &["/no/such/file.wasm"]);
    no_trace(&fleet);
}

#[test]
fn unknown_names_and_inputs_over_the_limit_are_refused() {
    let fleet = Fleet::start(1, 1);
    refused(fleet.run(&["task", "run", "nobody"]), &["nobody", "module push"]);
    refused(fleet.run(&["task", "get", "01m7y31ehbzwpzdmwrs5vq8rjp"]), &["no task"]);
    refused(fleet.run(&["task", "get", "gibberish"]), &["no task gibberish"]);
    refused(fleet.run(&["task", "get", ""]), &["an id is that of a task"]);
    refused(fleet.run(&["worker", "get", "nobody"]), &["nobody"]);
    no_trace(&fleet);
    fleet.push("upper");
    let large = fleet.path("large");
    let mut file = std::fs::File::create(&large).expect("a file");
    file.write_all(b"x").and_then(|()| file.set_len(64 * 1024 * 1024 + 1)).expect("a sparse file");
    let input = format!("@{}", text(&large));
    refused(fleet.run(&["task", "run", "upper", "--input", &input]), &["64 MiB", "split it"]);
    let tasks = fleet.run(&["-o", "json", "task", "ls"]).ok().json();
    assert_eq!(tasks["tasks"].as_array().map(Vec::len), Some(0), "{tasks}");
}

#[test]
fn without_a_nats_server_the_error_says_so() {
    let fleet = Fleet::registry();
    let ran = fleet.run(&["--nats", "nats://127.0.0.1:1", "task", "ls"]);
    refused(ran, &["127.0.0.1:1", "hint"]);
}

#[test]
fn daemons_that_cannot_begin_say_why() {
    let fleet = Fleet::registry();
    let tls = fleet.path("tls");
    let file = |name: &str| text(&tls.join(name)).to_string();
    let certificates =
        ["--ca", &file("ca.pem"), "--cert", &file("m1.pem"), "--key", &file("m1.key")];
    let master =
        ["master", "--name", "m1", "--listen", "127.0.0.1:0", "--nats", "nats://127.0.0.1:1"];
    let without = fleet.run(&[&master[..], &certificates[..]].concat());
    refused(without, &["m1.pem", "cannot be used as a PEM file"]);
    fleet.run(&["cert", "master", "m1", "--dir", text(&tls)]).ok();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let listen = ["master", "--name", "m1", "--listen", &taken, "--nats", "nats://127.0.0.1:1"];
    refused(fleet.run(&[&listen[..], &certificates[..]].concat()), &[&taken, "listened on"]);
}

#[test]
fn a_caller_that_is_no_worker_is_told_in_the_masters_log() {
    let mut fleet = Fleet::start(0, 0);
    fleet.certificate("master", "w9");
    fleet.launch_worker("w9", &[]);
    let words = "a connection is refused";
    wait_for(words, || fleet.log("m1").contains(words).then_some(()));
    assert!(fleet.log("m1").contains("certificate"), "{}", fleet.log("m1"));
    assert!(!fleet.is_ready("w9"));
}

#[test]
fn a_task_of_a_group_without_a_worker_waits_and_says_why() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let task =
        fleet.run(&["task", "run", "upper", "--group", "boats", "--input", "ahoy"]).ok().text();
    let shown = fleet.run(&["task", "get", &task]).ok().text();
    assert!(shown.contains("no worker of group boats"), "{shown}");
    assert_eq!(fleet.record(&task)["state"]["queued"]["wait_ms"], 0);
    fleet.start_worker("w9", &["--group", "boats"]);
    fleet.until("its end", &task, |record| {
        record["state"]["done"]["outcome"]["verdict"] == "completed"
    });
}
