//! The limits of a worker's process: the kernel confines it, and a module that would occupy a compiler
//! for ever costs only one task. Never what a guest may do while it runs.

use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use rustix::process::Signal;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// A module of about 30 KB that is far more work to compile than the largest guest: every loop keeps all
/// locals alive.
fn bomb() -> Vec<u8> {
    const DEPTH: usize = 4_000;
    const LOCALS: usize = 100;
    let locals = " i32".repeat(LOCALS);
    let touch: String = (0..LOCALS)
        .map(|n| format!("(local.set {n} (i32.add (local.get 0) (local.get {n})))"))
        .collect();
    let (open, close) = ("loop ".repeat(DEPTH), "local.get 0 br_if 0 end ".repeat(DEPTH));
    let text =
        format!(r#"(module (func (export "_start") (local{locals}) {open} {touch} {close}))"#);
    wat::parse_str(text).expect("Wasm text")
}

#[test]
fn a_worker_that_must_be_confined_is_or_does_not_start() {
    let mut fleet = Fleet::start(1, 1);
    let journal = fleet.path("journal");
    let require = ["--confine", "require", "--journal", text(&journal)];
    if !fleet.log("w1").contains("confined fully") {
        eprintln!("this kernel cannot confine: {}", fleet.log("w1"));
        fleet.launch_worker("w2", &require);
        assert_eq!(fleet.ended("w2"), 2);
        assert!(fleet.log("w2").contains("Linux 6.12"), "{}", fleet.log("w2"));
        return;
    }
    fleet.start_worker("w2", &[&require[..], &["--group", "closed"]].concat());
    let pid = fleet.child_pid("w2").expect("it was ready");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
        assert!(status.lines().any(|found| found == line), "{line}: {status}");
    }
    fleet.push("upper");
    let ran = fleet.run(&["task", "run", "upper", "--group", "closed", "--input", "a", "--wait"]);
    assert_eq!(ran.ok().text(), "A");
    assert!(!fleet.journal(&journal).is_empty());
}

#[test]
fn a_worker_does_not_run_as_root_unless_it_is_told_to() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: this user is not root");
        return;
    }
    let fleet = Fleet::start(1, 1);
    let (state, tls) = (fleet.path("w2.state"), fleet.path("tls"));
    let [ca, cert, key] = ["ca.pem", "w1.pem", "w1.key"].map(|name| tls.join(name));
    let worker = ["worker", "--name", "w1", "--master", "127.0.0.1:1"];
    let files = ["--ca", text(&ca), "--cert", text(&cert), "--key", text(&key)];
    let ran = fleet.run(&[&worker[..], &files, &["--state-dir", text(&state)]].concat());
    assert_eq!(ran.code, 2, "{ran:?}");
    for word in ["root", "a user of its own", "--allow-root", text(&state)] {
        assert!(ran.err.contains(word), "{word}: {ran:?}");
    }
    assert!(!state.exists(), "it has done nothing");
}

#[test]
fn a_worker_whose_name_files_were_replaced_is_started_again_when_nothing_runs() {
    let mut fleet = Fleet::start(0, 1);
    let Some(etc) = fleet.start_worker_with_its_own_etc("w1", &["--slots", "1"]) else {
        eprintln!("not tested: this user may not mount");
        return;
    };
    if !fleet.log("w1").contains("confined fully") {
        eprintln!("not tested: this kernel cannot confine");
        return;
    }
    let first = fleet.child_pid("w1").expect("it was ready");
    fleet.push("primes");
    let task = fleet.run(&["task", "run", "primes", "--input", r#"{"from":1,"to":3000000000}"#]);
    let task = task.ok().text();
    wait_for("it to run", || fleet.record(&task)["state"]["dispatched"].is_object().then_some(()));
    std::fs::copy(etc.join("hosts"), etc.join("new")).expect("free");
    std::fs::rename(etc.join("new"), etc.join("hosts")).expect("free");
    wait_for("it to notice", || fleet.log("w1").contains("/etc/hosts").then_some(()));
    assert_eq!(fleet.child_pid("w1"), Some(first), "a task runs");
    fleet.run(&["task", "cancel", &task]).ok();
    wait_for("the next process", || {
        fleet.child_pid("w1").filter(|pid| *pid != first && fleet.is_ready("w1"))
    });
    fleet.push("upper");
    let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]);
    assert_eq!(ran.ok().text(), "A");
    let noticed = fleet.log("w1").matches("/etc/hosts").count();
    assert_eq!(noticed, 1, "the next process can read it: {}", fleet.log("w1"));
}

#[test]
fn a_module_that_takes_too_long_to_compile_is_refused_and_costs_the_worker_nothing() {
    let mut fleet = Fleet::start(0, 2);
    let policy = fleet.path("policy.toml");
    std::fs::write(&policy, "[compile]\nseconds = 1\n").expect("a file");
    fleet.start_worker("w1", &["--slots", "2", "--policy", text(&policy)]);
    let pid = fleet.child_pid("w1");
    let file = fleet.path("bomb.wasm");
    std::fs::write(&file, bomb()).expect("a file");
    let ran = fleet.run(&["task", "run", text(&file), "--wait"]);
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("rejected: took over 1 s to compile"), "{ran:?}");
    fleet.push("noop");
    fleet.run(&["task", "run", "noop", "--wait"]).ok();
    assert_eq!(fleet.child_pid("w1"), pid, "the worker lives");
}

/// A child of a process, if there is one.
fn child_of(parent: i32) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{parent}\n"))
    })
}

#[test]
fn the_child_that_compiles_is_limited_and_dies_with_its_worker() {
    let mut fleet = Fleet::start(0, 1);
    let policy = fleet.path("policy.toml");
    std::fs::write(&policy, "[compile]\nseconds = 600\nmemory_mib = 4096\n").expect("a file");
    fleet.start_worker("w1", &["--slots", "1", "--policy", text(&policy)]);
    let worker = fleet.child_pid("w1").expect("it was ready");
    let file = fleet.path("bomb.wasm");
    std::fs::write(&file, bomb()).expect("a file");
    fleet.run(&["task", "run", text(&file)]).ok();
    let child = wait_for("a child", || child_of(worker));
    let about =
        |what: &str| std::fs::read_to_string(format!("/proc/{child}/{what}")).unwrap_or_default();
    // This is the limit that the child sets last.
    wait_for("its limits", || {
        about("limits").contains("Max open files            3").then_some(())
    });
    assert!(about("limits").contains("Max core file size        0"), "{}", about("limits"));
    assert!(about("status").contains("\nNoNewPrivs:\t1\n"), "{}", about("status"));
    assert!(!about("environ").contains("MUSTER"), "{}", about("environ"));
    fleet.signal_child("w1", Signal::KILL);
    let killed = Instant::now();
    wait_for("its end", || (!Path::new(&format!("/proc/{child}")).exists()).then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
}
