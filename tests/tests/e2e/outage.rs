//! A short restart of NATS, and a NATS with little space: commands and masters continue.

use muster_tests::{
    Fleet,
    fleet::{NATS, text, wait_for},
};
use std::{
    fs::File,
    io::Write as _,
    process::{Child, Stdio},
    time::Duration,
};

/// How long NATS is down. Consumers are lost after any time.
const AWAY: Duration = Duration::from_secs(1);

/// Longer than the client of NATS waits for an answer, so that requests in progress fail.
const AWAY_LONG: Duration = Duration::from_secs(12);

fn restart_nats(fleet: &mut Fleet) {
    fleet.kill(NATS);
    std::thread::sleep(AWAY);
    fleet.start_nats();
}

/// Waits until a master answers again.
fn until_served(fleet: &Fleet) {
    wait_for("a master to answer", || (fleet.run(&["worker", "ls"]).code == 0).then_some(()));
}

/// A running command of the fleet, with its output and its errors in files.
struct Command {
    child: Child,
    out: std::path::PathBuf,
    err: std::path::PathBuf,
}

impl Command {
    fn start(fleet: &Fleet, args: &[&str]) -> Self {
        let (out, err) = (fleet.path("out"), fleet.path("err"));
        let file = |path| File::create(path).expect("a file");
        let mut command = fleet.muster(args);
        let command = command.stdin(Stdio::piped()).stdout(file(&out)).stderr(file(&err));
        Command { child: command.spawn().expect("muster starts"), out, err }
    }

    fn out(&self) -> String {
        std::fs::read_to_string(&self.out).expect("a file")
    }

    fn err(&self) -> String {
        std::fs::read_to_string(&self.err).expect("a file")
    }

    fn until_said(&mut self, words: &str) {
        wait_for(words, || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() || self.out().contains(words), "{ended:?}: {}", self.err());
            self.out().contains(words).then_some(())
        });
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_map_of_large_lines_goes_on_after_a_restart_of_nats() {
    const LARGE: usize = 20;
    let mut fleet = Fleet::start(1, 2);
    fleet.push("upper");
    let mut map = Command::start(&fleet, &["map", "upper", "-"]);
    let mut lines = map.child.stdin.take().expect("it was piped");
    writeln!(lines, "small").expect("it reads");
    map.until_said("SMALL");
    // Inputs that are too large for a record are uploaded while NATS is down.
    fleet.kill(NATS);
    for at in 0..LARGE {
        writeln!(lines, "{at} {}", "x".repeat(40_000)).expect("it reads");
    }
    drop(lines);
    std::thread::sleep(AWAY_LONG);
    fleet.start_nats();
    let code = wait_for("its end", || map.child.try_wait().expect("a child")).code();
    assert_eq!(code, Some(0), "{}", map.err());
    assert_eq!(map.out().lines().count(), LARGE + 1);
}

#[test]
fn events_are_followed_over_a_restart_of_nats_and_a_gap_is_told() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let mut events = Command::start(&fleet, &["events", "--follow", "--since", "1h"]);
    events.until_said("worker.joined w1");
    restart_nats(&mut fleet);
    until_served(&fleet);
    fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    fleet.run(&["worker", "cordon", "w1"]).ok();
    events.until_said("worker.cordoned w1");
    let joined = events.out().matches("worker.joined w1").count();
    assert_eq!(joined, 1, "it began anew: {}", events.out());
    assert!(events.err().contains("may be missing"), "{}", events.err());
}

#[test]
fn logs_are_followed_over_a_restart_of_nats() {
    let mut fleet = Fleet::start(1, 1);
    let task = fleet.run(&["task", "run", text(&beating(&fleet))]).ok().text();
    let mut logs = Command::start(&fleet, &["task", "logs", "--follow", &task]);
    logs.until_said("beat");
    restart_nats(&mut fleet);
    let before = logs.out().lines().count();
    wait_for("more of its log", || {
        assert_eq!(logs.child.try_wait().expect("a child"), None, "{}", logs.err());
        (logs.out().lines().count() > before + 5).then_some(())
    });
    until_served(&fleet);
    fleet.run(&["task", "cancel", &task]).ok();
    let code = wait_for("its end", || logs.child.try_wait().expect("a child")).code();
    assert_eq!(code, Some(0), "{}", logs.err());
}

/// A guest that writes a line every tenth of a second, for ever.
fn beating(fleet: &Fleet) -> std::path::PathBuf {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff"
        (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 100) "beat\n")
      (func (export "_start")
        (i32.store (i32.const 0) (i32.const 100))
        (i32.store (i32.const 4) (i32.const 5))
        ;; a subscription to the monotonic clock, in 0.1 s
        (i32.store (i32.const 216) (i32.const 1))
        (i64.store (i32.const 224) (i64.const 100000000))
        (loop $again
          (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 20)))
          (drop (call $poll (i32.const 200) (i32.const 304) (i32.const 1) (i32.const 400)))
          (br $again))))"#;
    let path = fleet.path("beating.wasm");
    std::fs::write(&path, wat::parse_str(wat).expect("well-formed")).expect("a file");
    path
}

#[test]
fn a_fleet_fits_a_disk_of_one_gibibyte_and_survives_a_restart_with_less() {
    // A server uses three quarters of the free space of its disk.
    let mut fleet = Fleet::registry_with("jetstream { max_file_store: 768MB }\n", "");
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    let run = ["task", "run", "upper", "--input", "a", "--wait"];
    assert_eq!(fleet.run(&run).ok().text(), "A");
    fleet.kill(NATS);
    fleet.configure_nats("jetstream { max_file_store: 100MB }\n");
    fleet.start_nats();
    until_served(&fleet);
    assert_eq!(fleet.run(&run).ok().text(), "A");
}
