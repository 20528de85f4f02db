//! Upgrades of workers by the fleet: a new program takes over where it proves itself, and the one before it comes back
//! where it does not. Under load, with real programs.

use muster_tests::{
    Fleet,
    fleet::{Ran, text, wait_for},
    place,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A fleet with workers that take the upgrades of one key.
struct Upgrades {
    fleet: Fleet,
    key: PathBuf,
    /// The programs of the workers, apart from the ready files, beside which workers can write.
    _programs: tempfile::TempDir,
}

impl Upgrades {
    fn new(workers: &[&str]) -> Self {
        let mut fleet = Fleet::registry();
        fleet.start_master("m1");
        let key = fleet.path("operator.key");
        let made = fleet.run(&["-o", "json", "module", "key", text(&key)]).ok().json();
        let public = made["public"].as_str().expect("a key").to_owned();
        let dir = tempfile::tempdir().expect("a directory");
        for worker in workers {
            let (programs, journal) =
                (dir.path().join(worker), fleet.path(&format!("{worker}.journal")));
            let options =
                ["--upgrades", text(&programs), "--upgrade-signer", &public, "--slots", "2"];
            let options = [&options[..], &["--journal", text(&journal)]].concat();
            fleet.launch_lone_worker(worker, &options);
        }
        for worker in workers {
            fleet.until_ready(worker);
        }
        Upgrades { fleet, key, _programs: dir }
    }

    /// A program with the bytes of another one, and some more at its end, which the kernel ignores.
    fn variant(&self, of: &Path, name: &str) -> PathBuf {
        let mut bytes = fs::read(of).expect("a program");
        bytes.extend(name.as_bytes());
        let path = self.fleet.path(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// A new version of the worker's program, without what only debuggers need: it has to fit an object.
    fn next(&self, name: &str) -> PathBuf {
        let stripped = self.fleet.path("stripped");
        let strip = std::process::Command::new("strip")
            .args(["-o", text(&stripped), text(&place::program("muster-worker"))])
            .status();
        assert!(strip.expect("binutils are there").success());
        self.variant(&stripped, name)
    }

    fn program_of(&self, worker: &str) -> Value {
        let view = self.fleet.run(&["-o", "json", "worker", "get", worker]).ok().json();
        view["lease"]["program"].clone()
    }

    /// Runs the command that upgrades, with the key.
    fn upgrade(&self, args: &[&str]) -> Ran {
        let sign = ["-o", "json", "worker", "upgrade", "--sign", text(&self.key)];
        self.fleet.run(&[&sign[..], args].concat())
    }

    /// How often each task was started, by the journals of the workers.
    fn starts(&self, workers: &[&str]) -> BTreeMap<String, usize> {
        let mut starts = BTreeMap::new();
        for worker in workers {
            for line in self.fleet.journal(&self.fleet.path(&format!("{worker}.journal"))) {
                if line["what"] == "started" {
                    *starts.entry(line["task"].to_string()).or_default() += 1;
                }
            }
        }
        starts
    }
}

#[test]
fn a_group_is_upgraded_under_load_and_nothing_is_lost_or_runs_again() {
    let test = Upgrades::new(&["w1", "w2"]);
    let fleet = &test.fleet;
    fleet.push("heart");
    let pace = r#"{"for_ms":200,"every_us":20000,"rest":true}"#;
    let mut map = fleet
        .muster(&["map", "heart", "-", "--in-flight", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster starts");
    // Load until the upgrade is over.
    let is_over = Arc::new(AtomicBool::new(false));
    let (mut lines, over) = (map.stdin.take().expect("it was piped"), is_over.clone());
    let fed = std::thread::spawn(move || {
        let mut count = 0;
        while !over.load(Ordering::SeqCst) {
            writeln!(lines, "{pace}").expect("map reads");
            count += 1;
            // As many as four slots can run, so that few wait in the pipe at the end.
            std::thread::sleep(Duration::from_millis(50));
        }
        count
    });
    let mut results = map.stdout.take().expect("it was piped");
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        results.read_to_string(&mut text).map(|_| text.lines().count()).expect("lines")
    });
    wait_for("tasks to run", || (!test.starts(&["w1", "w2"]).is_empty()).then_some(()));
    let before = fleet.child_pid("w1");
    let new = test.next("new");
    let told = test.upgrade(&["--group", "default", "--file", text(&new)]).ok().json();
    assert_eq!(told["workers"].as_array().map(Vec::len), Some(2), "{told}");
    let states = |at: usize| told["workers"][at]["state"].clone();
    assert_eq!((states(0), states(1)), ("upgraded".into(), "upgraded".into()));
    let digest = muster_module::digest(&fs::read(&new).expect("a program")).to_string();
    for worker in ["w1", "w2"] {
        assert_eq!(test.program_of(worker)["digest"], *digest);
    }
    assert_ne!(fleet.child_pid("w1"), before, "another process");
    is_over.store(true, Ordering::SeqCst);
    let (count, results) = (fed.join().expect("no panic"), read.join().expect("no panic"));
    let output = map.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let starts = test.starts(&["w1", "w2"]);
    assert_eq!((starts.len(), results), (count, count), "none is lost");
    let again: Vec<_> = starts.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "these ran again: {again:?}");
    fleet.until_published("worker.upgraded", &["w1"]);
    // The same once more changes nothing.
    let pid = fleet.child_pid("w1");
    test.upgrade(&["--group", "default", "--file", text(&new)]).ok();
    assert_eq!(fleet.child_pid("w1"), pid);
    // Back to what is installed.
    let undone = fleet.run(&["-o", "json", "worker", "upgrade", "w1", "--undo"]).ok().json();
    assert_eq!(undone["workers"][0]["state"], "told");
    wait_for("w1 to go back", || test.program_of("w1")["digest"].is_null().then_some(()));
    fleet.run(&["task", "run", "heart", "--input", pace, "--wait"]).ok();
}

#[test]
fn a_program_that_does_not_work_is_given_up_and_the_others_keep_theirs() {
    let test = Upgrades::new(&["w1", "w2"]);
    let fleet = &test.fleet;
    fleet.push("upper");
    let bad = test.variant(Path::new("/bin/false"), "bad");
    let undone = test.upgrade(&["w1", "w2", "--file", text(&bad)]);
    assert_eq!(undone.code, 1, "{undone:?}");
    assert!(
        undone
            .err
            .contains("w1 gave it up: the program was tried and failed: it ended with exit code 1"),
        "{undone:?}"
    );
    fleet.until_published("worker.upgrade_failed", &["w1", "exit code 1"]);
    let report = test.program_of("w1");
    assert!(report["digest"].is_null() && report["failed"].is_string(), "{report}");
    assert_eq!(test.program_of("w2")["number"], 0, "it was not told");
    fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    // No key of the operator.
    let stranger = fleet.path("stranger.key");
    fleet.run(&["module", "key", text(&stranger)]).ok();
    let new = test.variant(Path::new("/bin/true"), "new");
    let by_stranger =
        fleet.run(&["worker", "upgrade", "w2", "--file", text(&new), "--sign", text(&stranger)]);
    assert!(by_stranger.err.contains("which is not one of --upgrade-signer"), "{by_stranger:?}");
    fleet.run(&["worker", "upgrade", "w2", "--file", text(&new)]).refused("has no signature");
    test.upgrade(&["w9", "--file", text(&new)]).refused("there is no worker w9");
    let text_file = fleet.path("inputs");
    fs::write(&text_file, "a text").expect("a file");
    test.upgrade(&["w2", "--file", text(&text_file)]).refused("is not a program for Linux");
}

#[test]
fn an_upgrade_is_undone_when_runs_fail_on_the_first_worker() {
    let mut test = Upgrades::new(&["w1", "w2"]);
    test.fleet.start_worker("w3", &["--group", "other"]);
    test.upgrade(&["w3", "--file", "/bin/true"]).refused("w3 takes no upgrades");
    let fleet = &test.fleet;
    fleet.push("spin-forever");
    let new = test.next("new");
    let sign = ["worker", "upgrade", "--sign", text(&test.key), "--file", text(&new)];
    let upgrade = fleet
        .muster(&[&sign[..], &["w1", "w2", "--abort-if", "failed>10%,min=2"]].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster starts");
    wait_for("w1 to run it", || test.program_of("w1")["digest"].is_string().then_some(()));
    fleet.run(&["worker", "cordon", "w2"]).ok();
    for _ in 0..2 {
        let ran = fleet.run(&["task", "run", "spin-forever", "--timeout", "100ms", "--wait"]);
        assert_eq!(ran.code, 124, "{ran:?}");
    }
    let output = upgrade.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("2 of 2 runs of upgraded workers failed (failed>10%,min=2)"), "{said}");
    wait_for("w1 to go back", || test.program_of("w1")["digest"].is_null().then_some(()));
    assert!(test.program_of("w2")["digest"].is_null(), "it was not told");
}
