//! Text that a guest or a stranger wrote is shown on an operator's terminal, and never controls the
//! terminal.

use muster_tests::{Fleet, fleet::text};
use std::process::{Command, Stdio};

/// These sequences set the title, write to the clipboard, and clear the screen.
const SEQUENCES: &str = "\u{1b}]0;owned\u{7}\u{1b}]52;c;cm0=\u{7}\u{1b}[2J\u{9b}2J";

/// A guest that writes these words to its output and its standard error, and exits with this code.
pub fn speaker(fleet: &Fleet, words: &str, code: u8) -> std::path::PathBuf {
    let said: String = words.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let size = words.len();
    let wat = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 100) "{said}")
          (func (export "_start")
            (i32.store (i32.const 0) (i32.const 100))
            (i32.store (i32.const 4) (i32.const {size}))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 20)))
            (call $exit (i32.const {code}))))"#
    );
    let path = fleet.path("speaker.wasm");
    std::fs::write(&path, wat::parse_str(wat).expect("well-formed")).expect("a file");
    path
}

/// What a command writes to its terminal.
fn on_a_terminal(fleet: &Fleet, args: &[&str]) -> String {
    let muster = fleet.muster(args);
    let quoted = |text: &std::ffi::OsStr| {
        format!("'{}'", text.to_str().expect("UTF-8").replace('\'', "'\\''"))
    };
    let line: Vec<String> =
        std::iter::once(muster.get_program()).chain(muster.get_args()).map(quoted).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    let output = script
        .env("MUSTER_NATS", fleet.nats_url())
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("script is part of every Debian");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn control_characters_of_others_are_shown_on_a_terminal() {
    let mut fleet = Fleet::start(0, 0);
    let label = format!("place={SEQUENCES}");
    fleet.start_worker("w1", &["--label", &label]);
    let module = speaker(&fleet, SEQUENCES, 7);
    let (file, inputs) = (text(&module).to_owned(), fleet.path("inputs"));
    std::fs::write(&inputs, "a\n").expect("a file");
    let task = fleet.run(&["task", "run", &file]).ok().text();
    fleet.until("its end", &task, |record| !record["state"]["done"].is_null());
    let select = ["--select", &label];
    for args in [
        &["task", "get", &task][..],
        &["task", "history", &task],
        &["task", "result", &task],
        &["task", "logs", &task],
        &["task", "ls"],
        &["events", "--since", "1h"],
        &["worker", "ls"],
        &["worker", "get", "w1"],
        &["map", &file, text(&inputs)],
        &["task", "run", &file, "--wait", select[0], select[1]],
        &["task", "run", "--local", &file],
    ] {
        let shown = on_a_terminal(&fleet, args);
        // Results are JSON, which is meant for programs.
        let is_json = args[0] == "map";
        for sequence in ["\u{1b}]", "\u{1b}[2J", "\u{7}", "\u{9b}"] {
            if is_json && sequence == "\u{9b}" {
                continue;
            }
            assert!(!shown.contains(sequence), "{args:?} passes {sequence:?} on: {shown:?}");
        }
        let quotes = ["worker", "ls"] != args[..2] && ["task", "ls"] != args[..2];
        assert!(!quotes || shown.contains("52;c;cm0="), "{args:?} shows nothing of it: {shown:?}");
    }
    // A program that reads the result gets the bytes.
    let result = fleet.run(&["task", "result", &task]);
    assert_eq!(String::from_utf8_lossy(&result.out), SEQUENCES);
}
