//! The tree keeps its walls: who imports whom, how long files are, that the docs' tables, places and links are
//! those of the tree, and that retired terms stay retired. Never a matter of taste.

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/words.rs"]
mod words;

use muster_tests::place::root;
use std::path::{Path, PathBuf};

/// The most lines of a source file; a longer file should be split.
const LINES_MAX: usize = 500;

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

#[test]
fn rooms_of_a_shell_meet_only_in_its_lib() {
    let rooms = [
        ("master/src/registry", &["link", "api", "executor"][..]),
        ("master/src/api", &["link", "executor"]),
        ("master/src/publisher", &["link", "api", "executor"]),
        ("worker/src/inputs", &["lease", "link", "executor", "run", "engine"]),
        ("worker/src/lease", &["link", "executor", "run", "engine", "artifact"]),
        ("worker/src/health", &["lease", "link", "executor", "run", "engine", "artifact"]),
        ("worker/src/link", &["lease", "executor", "run", "engine", "artifact"]),
        ("worker/src/deadman", &["lease", "link", "executor", "run", "engine", "artifact", "gate"]),
        ("worker/src/journal", &["lease", "link", "executor", "run", "engine", "artifact", "gate"]),
        ("worker/src/code", &["lease", "link", "executor", "run", "engine", "artifact", "gate"]),
        (
            "worker/src/compile",
            &["lease", "link", "executor", "run", "artifact", "gate", "sandbox"],
        ),
        ("worker/src/confine", &["lease", "link", "executor", "run", "artifact", "gate", "engine"]),
        (
            "worker/src/policy",
            &["lease", "link", "executor", "run", "engine", "artifact", "sandbox"],
        ),
        ("worker/src/checkpoint", &["lease", "executor", "run", "engine", "artifact", "sandbox"]),
        ("worker/src/supervisor", &["lease", "link", "executor", "run", "engine", "artifact"]),
        ("worker/src/gate", &["sandbox", "engine", "run", "executor"]),
        ("worker/src/sandbox", &["engine", "run", "executor", "link", "lease"]),
        ("worker/src/engine", &["run", "executor", "link", "lease"]),
    ];
    for (room, siblings) in rooms {
        let (shell, name) = room.rsplit_once('/').expect("a path");
        let of_room = |path: &PathBuf| {
            path.starts_with(root().join(room)) || path.ends_with(format!("{room}.rs"))
        };
        for (path, text) in sources(shell).into_iter().filter(|(path, _)| of_room(path)) {
            for sibling in siblings {
                let uses = text.contains(&format!("crate::{sibling}::"))
                    || text.contains(&format!("crate::{sibling};"));
                assert!(!uses, "{name} uses its sibling {sibling}: {}", path.display());
            }
        }
    }
}

#[test]
fn no_file_is_a_hall() {
    for room in [
        "protocol",
        "module",
        "wire",
        "master",
        "worker",
        "guest-sdk",
        "cli",
        "tests",
        "benches",
        "examples",
        "fuzz",
    ] {
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
fn the_table_of_subjects_is_the_codes_own() {
    let table = muster_protocol::subject::table();
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("a file");
    assert!(text.contains(table.trim()), "put this into ARCHITECTURE.md:\n{table}");
}
