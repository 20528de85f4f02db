//! Files run on this machine alone: no nats-server, no master, no worker.

use muster_tests::{
    fleet::{text, wait_for},
    place,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

/// The command, in an environment in which no server answers.
fn local(guest: &str, options: &[&str]) -> Command {
    let mut command = Command::new(place::program("muster"));
    command.args(["task", "run", "--local", text(&place::guest(guest))]).args(options);
    command.env("MUSTER_NATS", "nats://127.0.0.1:1").env_remove("MUSTER_FLEET");
    command
}

fn run(guest: &str, options: &[&str]) -> Output {
    local(guest, options).output().expect("muster starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn programs_and_guests_of_the_sdk_give_their_results() {
    let mut upper = local("upper", &["--input", "-"]);
    let upper = upper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut upper = upper.expect("muster starts");
    upper.stdin.take().expect("it was piped").write_all(b"quiet\n").expect("it reads");
    let loud = upper.wait_with_output().expect("it ends");
    assert_eq!((loud.status.code(), &*out(&loud)), (Some(0), "QUIET\n"));
    let empty = run("upper", &[]);
    assert_eq!(empty.status.code(), Some(3));
    assert!(err(&empty).contains("upper: the input is empty"), "{empty:?}");
    let primes = run("primes", &["--input", r#"{"from":1,"to":1000}"#]);
    assert_eq!(primes.status.code(), Some(0), "{primes:?}");
    assert!(out(&primes).contains(r#""count":168"#), "{primes:?}");
    let json = run("primes", &["--input", r#"{"from":1,"to":10}"#, "-o", "json"]);
    let outcome: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(outcome["verdict"], "completed", "{outcome}");
}

#[test]
fn it_is_granted_what_it_asks_for_and_limited_as_anywhere() {
    let mut command =
        local("inventory", &["--env", "A=1", "--secret", "TOKEN", "--dir", "1MiB", "--", "one"]);
    let lines = out(&command.env("TOKEN", "hush").output().expect("muster starts"));
    for line in ["argument one", "variable A=1", "variable TOKEN=hush", "file so far"] {
        assert!(lines.lines().any(|found| found == line), "{line:?} is not in {lines}");
    }
    assert_eq!(lines.lines().filter(|line| line.starts_with("variable")).count(), 2, "{lines}");
    let bare = out(&run("inventory", &[]));
    assert!(bare.contains("file none: "), "{bare}");
    let spun = run("spin-forever", &["--timeout", "200ms", "--retries", "1", "--backoff", "1ms"]);
    assert_eq!(spun.status.code(), Some(124), "{spun:?}");
    assert!(err(&spun).contains("the next attempt begins in"), "{spun:?}");
    assert!(err(&spun).contains("killed at its time limit of 200 ms"), "{spun:?}");
}

#[test]
fn what_cannot_be_run_is_refused_with_the_next_step() {
    for (args, words) in [
        (&["hello"][..], "./hello.wasm"),
        (&["/no/such/file.wasm"], "cannot read /no/such/file.wasm"),
        (&["/bin/true/x"], "cannot read"),
    ] {
        let command = [&["task", "run", "--local"], args].concat();
        let ran = Command::new(place::program("muster")).args(command).output().expect("it starts");
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(err(&ran).contains(words), "{ran:?}");
    }
    let secret = run("inventory", &["--secret", "NOT_HERE_AT_ALL"]);
    assert_eq!(secret.status.code(), Some(2), "{secret:?}");
    assert!(err(&secret).contains("NOT_HERE_AT_ALL=… muster task run"), "{secret:?}");
}

#[test]
fn an_interrupt_ends_it_and_leaves_nothing_behind() {
    const INTERRUPTED: i32 = 130;
    let temp = tempfile::tempdir().expect("a directory");
    let mut command = local("spin-forever", &["--dir", "1MiB"]);
    let mut child = command.env("TMPDIR", temp.path()).spawn().expect("muster starts");
    let entries = || std::fs::read_dir(temp.path()).expect("a directory").count();
    // The directory of the run exists just before the guest runs.
    wait_for("it to run", || (entries() > 0).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("a child").code(), Some(INTERRUPTED));
    assert_eq!(entries(), 0);
}
