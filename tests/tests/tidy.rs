//! The tree keeps its walls: who imports whom, how long files are, that the docs' tables, places and links are
//! those of the tree, and that retired terms stay retired. Never a matter of taste.

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/words.rs"]
mod words;

#[path = "tidy/imports.rs"]
mod imports;

use muster_tests::place::root;
use std::path::{Path, PathBuf};

/// The most lines of a source file; a longer file should be split.
const LINES_MAX: usize = 500;

/// Folders with code of the workspace.
const ROOMS: [&str; 10] = [
    "protocol",
    "module",
    "wire",
    "master",
    "worker",
    "guest-sdk",
    "cli",
    "tests",
    "benches",
    "fuzz",
];

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    assert!(!found.is_empty(), "{dir} has no sources");
    found
}

#[test]
fn master_and_worker_do_not_know_each_other_and_protocol_knows_nobody() {
    let walls = [
        ("protocol", &["muster_master", "muster_worker", "muster_wire", "std::", "tokio"][..]),
        ("module", &["muster_master", "muster_worker", "muster_wire", "wasmtime::"]),
        ("wire", &["muster_master", "muster_worker", "muster_module"]),
        ("master", &["muster_worker", "wasmtime"]),
        ("worker", &["muster_master"]),
        ("guest-sdk", &["muster_protocol", "muster_wire", "muster_module"]),
    ];
    for (room, strangers) in walls {
        for (path, text) in sources(&format!("{room}/src")) {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for stranger in strangers {
                    let uses = line.contains(&format!("use {stranger}"))
                        || line.contains(&format!("{stranger}::"));
                    assert!(!uses, "{} uses {stranger}: {line}", path.display());
                }
            }
        }
    }
}

/// Names with which the rules of leases, sessions, guards and lost writes decide. These rules are in
/// `protocol/` only: the simulation and the mutants run what is there, and nothing else.
const DECIDING: [&str; 14] = [
    "LeaseState::Lost",
    "LeaseState::Released",
    "has_lapsed",
    "is_missing_from",
    "runs_out",
    "raise_guard",
    "guard_wait",
    "master_wait_ms",
    "wait_ms",
    "longest_home",
    "outage_wait",
    "LEADER_LAG_MAX",
    "CLOCK_RATE_PPM",
    "MASS_SILENCE_MAX",
];

#[test]
fn no_shell_has_a_rule_of_a_lease() {
    for room in ["master/src", "worker/src", "wire/src", "cli/src/dev"] {
        for (path, text) in sources(room) {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let rule = DECIDING.iter().find(|name| line.contains(*name));
                assert_eq!(rule, None, "move this rule to protocol/: {}: {line}", path.display());
            }
        }
    }
}

#[test]
fn no_file_is_a_hall() {
    for room in ROOMS.into_iter().chain(["examples"]) {
        for (path, text) in sources(room) {
            assert!(text.lines().count() <= LINES_MAX, "{} asks to be two files", path.display());
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for room in [
        "protocol/src",
        "module/src",
        "wire/src",
        "master/src",
        "worker/src",
        "guest-sdk/src",
        "cli/src",
        "tests",
        "benches",
        "fuzz",
    ] {
        for (path, text) in sources(room) {
            let said = text.starts_with("//!");
            assert!(said, "{} does not say what it is", path.display());
        }
    }
}

#[test]
fn every_event_is_named_by_a_test_with_real_processes() {
    let tests: String = sources("tests/tests/e2e").into_iter().map(|(_, text)| text).collect();
    let table = muster_protocol::advisory::table();
    let events = table.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    let missing: Vec<&str> =
        events.filter(|event| !tests.contains(&format!("\"{event}"))).collect();
    assert!(missing.is_empty(), "no test with real processes waits for {missing:?}");
}

#[test]
fn the_tables_of_names_are_the_codes_own() {
    for (page, table) in [
        ("ARCHITECTURE.md", muster_protocol::subject::table()),
        ("docs/FLEET.md", muster_protocol::subject::endpoint_table()),
        ("docs/FLEET.md", muster_protocol::task::state_table()),
        ("docs/PERMISSIONS.md", muster_protocol::role::table()),
        ("docs/FLEET.md", muster_protocol::advisory::table()),
    ] {
        let text = std::fs::read_to_string(root().join(page)).expect("a file");
        assert!(text.contains(table.trim()), "put this into {page}:\n{table}");
    }
}
