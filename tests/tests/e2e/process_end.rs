//! The life and the end of a worker's process: it is restarted when it crashes, the kernel kills it when
//! it is stopped beyond its lease, and it ends at once when it is told to stop twice.

use muster_protocol::lease::LeaseTiming;
use muster_tests::{
    Fleet,
    fleet::{Scarce, text, wait_for},
};
use rustix::{
    process::{Pid, Signal, kill_process, test_kill_process},
    time::{ClockId, clock_gettime},
};
use serde_json::Value;
use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub const LONG: &str = r#"{"from":1,"to":100000000000}"#;

/// How late the kernel's kill may be, by the promise, plus a millisecond for the precision of the stamp.
const LATE_MAX: Duration = Duration::from_millis(11);

/// The reading of this machine's boot clock, in nanoseconds.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A fleet of one worker with one slot and a journal. Returns the fleet and the path of the journal.
pub fn journaled(options: &[&str]) -> (Fleet, PathBuf) {
    let mut fleet = Fleet::start(0, 1);
    let journal = fleet.path("journal");
    let options = [&["--slots", "1", "--journal", text(&journal)], options].concat();
    fleet.start_worker("w1", &options);
    fleet.push("primes");
    (fleet, journal)
}

/// The attempts in the journal's lines of the kind `what`, in the order of their first such line.
pub fn attempts(fleet: &Fleet, journal: &std::path::Path, what: &str) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = Vec::new();
    for line in fleet.journal(journal).iter().filter(|line| line["what"] == what) {
        let attempt = line["attempt"].as_str().expect("an attempt").to_string();
        if !found.iter().any(|(known, _)| *known == attempt) {
            found.push((attempt, line["at_ns"].as_u64().expect("a stamp")));
        }
    }
    found
}

#[test]
fn a_crashed_worker_is_restarted_and_its_task_runs_again() {
    let (mut fleet, journal) = journaled(&[]);
    let task = fleet.run(&["task", "run", "primes", "--input", LONG]).ok().text();
    // A report of progress is an effect, so the journal has a line `called` for it.
    wait_for("progress", || attempts(&fleet, &journal, "called").pop());
    let first = fleet.child_pid("w1").expect("it was ready");
    fleet.signal_child("w1", Signal::KILL);
    let record = fleet.until("a second attempt", &task, |record| record["attempts"] == 2);
    assert_eq!(record["state"]["dispatched"]["worker"], "w1");
    let second = record["state"]["dispatched"]["attempt"].as_str().map(str::to_string);
    let called = wait_for("progress of the second attempt", || {
        Some(attempts(&fleet, &journal, "called")).filter(|called| called.len() == 2)
    });
    assert!(second.is_none_or(|second| called[1].0 == second));
    let pid = wait_for("another process", || fleet.child_pid("w1").filter(|pid| *pid != first));
    let reason = record["history"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("was lost"), "{reason}");
    assert!(fleet.log("w1").contains("was ended by signal 9"));
    // When the supervisor is told to stop, it ends gracefully together with the worker.
    fleet.run(&["task", "cancel", &task]).ok();
    fleet.signal("w1", Signal::TERM);
    assert_eq!(fleet.ended("w1"), 0);
    assert_gone(pid);
}

#[test]
fn a_worker_that_could_start_no_process_begins_once_it_can() {
    if !Scarce::Processes.can_be() {
        return eprintln!("not tested: the superuser's processes cannot be limited here");
    }
    let (mut fleet, _) = journaled(&[]);
    let first = fleet.child_pid("w1");
    assert!(fleet.limit("w1", Scarce::Processes, Some(1)), "nobody was limited");
    fleet.signal_child("w1", Signal::KILL);
    wait_for("the supervisor to fail", || {
        fleet.log("w1").contains("could not be started").then_some(())
    });
    fleet.limit("w1", Scarce::Processes, None);
    wait_for("another process", || (fleet.child_pid("w1") != first).then_some(()));
    fleet.run(&["task", "run", "primes", "--input", r#"{"from":1,"to":100}"#, "--wait"]).ok();
}

#[test]
fn a_worker_dies_with_its_supervisor() {
    let (fleet, _) = journaled(&[]);
    let pid = fleet.child_pid("w1").expect("it was ready");
    let supervisor = parent(pid).expect("it lives");
    assert_ne!(supervisor, std::process::id() as i32, "there is one");
    kill_process(Pid::from_raw(supervisor).expect("an id"), Signal::KILL).expect("it runs");
    assert_gone(pid);
}

#[test]
fn a_stopped_worker_is_killed_by_the_kernel_at_the_end_of_its_margin() {
    let (mut fleet, journal) = journaled(&["--unsupervised", "--lease", "fast"]);
    fleet.run(&["task", "run", "primes", "--input", LONG]).ok();
    wait_for("it to run", || attempts(&fleet, &journal, "called").pop());
    fleet.signal("w1", Signal::STOP);
    // The worker cannot renew its lease any more. The last acknowledged renewal has a stamp of this time
    // or earlier.
    let stamp = wait_for("its lease", || {
        let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
        workers["workers"][0]["lease"]["renewed_at"].as_u64()
    });
    assert_eq!(fleet.ended_by("w1"), Some(Signal::KILL.as_raw()));
    let died = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let timing = LeaseTiming::FAST;
    let end = Duration::from_millis(stamp) + timing.worker() + timing.kill_margin();
    let late = died.saturating_sub(end);
    println!("killed {late:?} after the end of its margin");
    assert!(late < LATE_MAX + Duration::from_millis(90), "{late:?}");
}

#[test]
fn an_idle_worker_that_was_stopped_for_long_comes_back() {
    let (fleet, journal) = journaled(&["--unsupervised", "--lease", "fast"]);
    let pid = fleet.child_pid("w1").expect("it was ready");
    // The worker has run something, so its timer was armed once.
    fleet.run(&["task", "run", "primes", "--input", r#"{"from":1,"to":100}"#, "--wait"]).ok();
    fleet.signal("w1", Signal::STOP);
    std::thread::sleep(LeaseTiming::FAST.worker() + 2 * LeaseTiming::FAST.kill_margin());
    fleet.signal("w1", Signal::CONT);
    fleet.run(&["task", "run", "primes", "--input", r#"{"from":1,"to":100}"#, "--wait"]).ok();
    assert_eq!(fleet.child_pid("w1"), Some(pid), "the same process");
    let lapsed = wait_for("its lapse to be noted", || {
        fleet.journal(&journal).into_iter().find(|line| line["what"] == "lapsed")
    });
    assert!(lapsed["until_ns"].as_u64() <= lapsed["at_ns"].as_u64(), "{lapsed}");
}

#[test]
fn a_worker_that_is_told_twice_ends_at_once() {
    // The log line proves that the process has received the first signal. Before that the kernel may
    // merge two signals into one.
    let (supervised, alone) = (&[][..], &["--unsupervised"][..]);
    for (options, signal, heard, code) in
        [(supervised, Signal::TERM, "told to stop", 143), (alone, Signal::INT, "stopping", 130)]
    {
        let (mut fleet, journal) = journaled(options);
        let pid = fleet.child_pid("w1").expect("it was ready");
        fleet.run(&["task", "run", "primes", "--input", LONG]).ok();
        wait_for("it to run", || attempts(&fleet, &journal, "started").pop());
        fleet.signal("w1", signal);
        wait_for("it to stop", || fleet.log("w1").contains(heard).then_some(()));
        let told = Instant::now();
        fleet.signal("w1", signal);
        assert_eq!(fleet.ended("w1"), code);
        assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
        assert_gone(pid);
    }
}

#[test]
fn what_cannot_be_meant_is_refused_at_once() {
    let fleet = Fleet::start(1, 1);
    let tls = fleet.path("tls");
    let file = |name: &str| tls.join(name).to_str().expect("UTF-8").to_string();
    let (ca, cert, key) = (file("ca.pem"), file("w1.pem"), file("w1.key"));
    let state = fleet.path("w2.state");
    let refused = |more: &[&str], said: &str| {
        let worker = ["worker", "--allow-root", "--name", "w1", "--state-dir", text(&state)];
        let tls = ["--ca", &ca, "--cert", &cert, "--key", &key];
        let ran = fleet.run(&[&worker[..], &tls[..], more].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(said), "{ran:?}");
    };
    refused(&["--master", "hq"], "HOST:PORT");
    refused(&["--master", "hq:1", "--nats", "http://hq"], "--nats");
    let master = ["master", "--name", "m2", "--nats", "http://hq"];
    let ran = fleet.run(&[&master[..], &["--ca", &ca, "--cert", &cert, "--key", &key]].concat());
    assert!(ran.code == 2 && ran.err.contains("--nats"), "{ran:?}");
    refused(&["--master", "hq:1", "--journal", "/nowhere/journal"], "/nowhere/journal");
}

#[test]
fn without_the_kernels_timer_no_worker_begins() {
    let fleet = Fleet::start(1, 1);
    let file = |name: &str| text(&fleet.path("tls")).to_string() + "/" + name;
    let worker = ["worker", "--allow-root", "--name", "w1", "--master", "127.0.0.1:1"];
    let worker = fleet.muster(&worker);
    // If no signal may be pending, the kernel makes no timer.
    let mut command = std::process::Command::new("bash");
    command.args(["-c", "ulimit -i 0 && exec \"$@\"", "bash"]).arg(worker.get_program());
    command
        .args(worker.get_args())
        .args(["--state-dir", text(&fleet.path("other.state")), "--ca", &file("ca.pem")])
        .args(["--cert", &file("w1.pem"), "--key", &file("w1.key")]);
    let ended = command.output().expect("bash starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("the kernel's timer cannot be set"), "{said}");
}

#[test]
fn a_worker_that_is_refused_says_so_once() {
    let mut fleet = Fleet::start(1, 1);
    let (other, tls) = (fleet.path("other"), fleet.path("tls"));
    fleet.run(&["cert", "ca", "--dir", text(&other)]).ok();
    fleet.run(&["cert", "worker", "w2", "--dir", text(&other)]).ok();
    let file =
        |dir: &std::path::Path, name: &str| dir.join(name).to_str().expect("UTF-8").to_string();
    // A worker that trusts the master, but has a certificate that the master does not trust.
    let mut command = fleet.muster(&["worker", "--name", "w2", "--master", &fleet.quic("m1")]);
    command
        .args([
            "--allow-root",
            "--state-dir",
            text(&fleet.path("w2.state")),
            "--until-stdin-closes",
        ])
        .args(["--ca", &file(&tls, "ca.pem"), "--cert", &file(&other, "w2.pem")])
        .args(["--key", &file(&other, "w2.key")]);
    fleet.spawn("w2", command);
    let said = |fleet: &Fleet| {
        let log = fleet.log("w2");
        log.lines().filter(|line| line.contains("WARN") && line.contains("no link")).count()
    };
    wait_for("it to say so", || (said(&fleet) > 0).then_some(()));
    // After several more dials.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(said(&fleet), 1, "{}", fleet.log("w2"));
    println!("{}", fleet.log("w2"));
}

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Waits until a process has ended. A zombie counts as ended.
fn assert_gone(pid: i32) {
    wait_for("a process to be gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let dead = stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z'));
        let gone = Pid::from_raw(pid).is_none_or(|pid| test_kill_process(pid).is_err());
        (dead || gone || stat.is_empty()).then_some(())
    });
}

/// The stamps of a journal's lines of one kind.
pub fn stamps(lines: &[Value], what: &str) -> Vec<u64> {
    let lines = lines.iter().filter(|line| line["what"] == what);
    lines.map(|line| line["at_ns"].as_u64().expect("a stamp")).collect()
}
