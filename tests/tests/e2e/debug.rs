//! `muster debug bundle`: the file has what explains a problem, and nothing of what tasks work with.

use crate::terminal::speaker;
use muster_tests::{
    Fleet,
    fleet::{Ran, text},
};
use serde_json::Value;
use std::{collections::BTreeMap, fs::File, io::Read as _, os::unix::fs::PermissionsExt as _};

/// The parts of a bundle, by their names.
fn parts(file: &str) -> BTreeMap<String, Value> {
    let mut archive =
        tar::Archive::new(flate2::read::GzDecoder::new(File::open(file).expect(file)));
    let part = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let mut json = String::new();
        entry.read_to_string(&mut json).expect("UTF-8");
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8");
        (name.to_string(), serde_json::from_str(&json).expect("JSON"))
    };
    archive.entries().expect("an archive").map(part).collect()
}

fn bundle(fleet: &Fleet, file: &str) -> Ran {
    fleet.run(&["-o", "json", "debug", "bundle", file])
}

#[test]
fn a_bundle_explains_a_fleet_and_has_nothing_of_what_its_tasks_work_with() {
    let mut fleet = Fleet::start(0, 0);
    let secret = fleet.path("secret");
    std::fs::write(&secret, "hidden-secret\n").expect("a file");
    let policy = fleet.path("policy.toml");
    std::fs::write(&policy, format!("[secrets]\nKEY = '{}'\n", text(&secret))).expect("a file");
    fleet.start_worker("w1", &["--policy", text(&policy)]);
    fleet.push("inventory");
    fleet.push("upper");
    let speaks = speaker(&fleet, "hidden-words", 7);
    let inventory = ["task", "run", "inventory", "--env", "A=hidden-value", "--secret", "KEY"];
    let first = fleet.run(&[&inventory[..], &["--", "hidden-argument"]].concat()).ok().text();
    let second = fleet.run(&["task", "run", "upper", "--input", "hidden-input"]).ok().text();
    let retried = ["task", "run", text(&speaks), "--retries", "1"];
    let third = fleet.run(&retried).ok().text();
    let waits = ["task", "run", "upper", "--input", "hidden-input", "--select", "nobody=has-it"];
    let fourth = fleet.run(&waits).ok().text();
    for task in [&first, &second, &third] {
        fleet.until("its end", task, |record| !record["state"]["done"].is_null());
    }

    let file = fleet.path("bundle.tar.gz");
    let file = text(&file);
    let done = bundle(&fleet, file).ok().json();
    assert_eq!(done["not_read"], serde_json::json!({}), "{done}");
    let mode = std::fs::metadata(file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let parts = parts(file);
    let all = serde_json::to_string(&parts).expect("JSON");
    let quoted = all.find("hidden").map(|at| &all[at.saturating_sub(80)..at + 12]);
    assert_eq!(quoted, None);
    let has = |part: &str, what: &str| {
        assert!(parts[part].to_string().contains(what), "{part} has {what}: {}", parts[part]);
    };
    for task in [&first, &second, &third] {
        has("tasks", task);
        has("events", task);
    }
    let queued = parts["tasks"]["queued"].as_array().expect("a list");
    assert_eq!(queued.len(), 1, "{queued:?}");
    assert_eq!(queued[0]["record"]["id"], fourth.as_str());
    let why = queued[0]["why"].as_str().expect("a sentence");
    assert!(!why.is_empty() && !why.contains("left out"), "{why}");
    has("events", "task_retried");
    has("workers", "w1");
    has("masters", "m1");
    has("modules", "inventory");
    has("check", "group default");
    has("streams", &fleet.names().event_stream());
    has("about", env!("CARGO_PKG_VERSION"));

    bundle(&fleet, file).refused("exists already");
    let nowhere = fleet.path("no/such/folder/bundle.tar.gz");
    bundle(&fleet, text(&nowhere)).refused("cannot be written");
}
