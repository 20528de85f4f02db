//! Options from a file: the daemons take them, the environment and the command line override them, and mistakes are
//! said with the next step.

use muster_tests::{Fleet, fleet::text, place};
use serde_json::Value;
use std::path::PathBuf;

fn file(fleet: &Fleet, content: &str) -> PathBuf {
    let path = fleet.path("options.toml");
    std::fs::write(&path, content).expect("a file");
    path
}

/// The values of an option, and where they are from.
fn option(shown: &Value, name: &str) -> (Value, String) {
    let options = shown.as_array().expect("a list").iter();
    let found = options.clone().find(|option| option["option"] == name).expect(name);
    (found["values"].clone(), found["from"].as_str().expect("a word").into())
}

#[test]
fn a_worker_takes_its_options_from_a_file_and_the_command_line_overrides_them() {
    let mut fleet = Fleet::start(0, 0);
    let path = file(&fleet, "slots = 3\ngrace-s = 1\n[label]\nplace = 'shop'\nfloor = 2\n");
    fleet.start_worker("w1", &["--config", text(&path), "--grace-s", "2"]);
    let worker = fleet.run(&["-o", "json", "worker", "get", "w1"]).ok().json();
    let offer = &worker["lease"]["offer"];
    assert_eq!(offer["slots"], 3, "{worker}");
    assert_eq!(offer["labels"], serde_json::json!({ "place": "shop", "floor": "2" }));

    let show =
        ["-o", "json", "config", "show", "worker", "--config", text(&path), "--state-dir", "x"];
    let shown = fleet.run(&[&show[..], &["--slots", "4", "--join", "a-token"]].concat()).ok();
    assert!(!shown.text().contains("a-token"), "{shown:?}");
    let shown = shown.json();
    assert_eq!(option(&shown, "slots"), (serde_json::json!(["4"]), "command line".into()));
    assert_eq!(option(&shown, "grace-s"), (serde_json::json!(["1"]), "file".into()));
    assert_eq!(option(&shown, "confine"), (serde_json::json!(["try"]), "default".into()));
    assert_eq!(option(&shown, "nats").1, "environment");
    let path = file(&fleet, "state-dir = 'x'\nnats = 'nats://me:hush@127.0.0.1'\n");
    let mut muster = fleet.muster(&["config", "show", "worker", "--config", text(&path)]);
    let shown = muster.env_remove("MUSTER_NATS").output().expect("it runs").stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("nats://127.0.0.1") && !shown.contains("hush"), "{shown}");
}

#[test]
fn mistakes_in_a_file_are_errors_of_the_user() {
    let mut fleet = Fleet::start(0, 0);
    for (content, said) in [
        ("state-dir = 'x'\nslot = 3", "there is no option slot; did you mean slots?"),
        ("state-dir = 'x'\nslots = 0", "Options are also read from"),
        ("slots = 3", "--state-dir"),
    ] {
        let path = file(&fleet, content);
        fleet.run(&["config", "check", "worker", "--config", text(&path)]).refused(said);
        fleet.run(&["worker", "--config", text(&path)]).refused(said);
    }
    fleet.run(&["config", "check", "worker", "--config", "/no/such"]).refused("cannot be read");
    for daemon in ["worker", "master"] {
        let example = place::root().join(format!("setup/{daemon}.toml"));
        let ran = fleet.run(&["config", "check", daemon, "--config", text(&example)]).ok();
        assert!(ran.text().contains("valid"), "{ran:?}");
    }
    // A file that became invalid does not keep a worker from being started without it.
    fleet.start_worker("w1", &[]);
}
