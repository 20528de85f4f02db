//! A client that waits for a task which no worker starts is told the reason.

use muster_tests::{Fleet, fleet::wait_for};
use std::{fs::File, process::Stdio};

#[test]
fn a_wait_for_what_nobody_can_take_says_why() {
    let fleet = Fleet::start(1, 1);
    fleet.push("noop");
    let nobodys = ["--group", "nobodys"];
    let queued = fleet.run(&["task", "run", "noop", nobodys[0], nobodys[1]]).ok().text();
    for args in [
        &["task", "run", "noop", "--wait", nobodys[0], nobodys[1]][..],
        &["task", "logs", "--follow", &queued],
    ] {
        let err = fleet.path("err");
        let mut command = fleet.muster(args);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let command = command.stderr(File::create(&err).expect("a file"));
        let mut child = command.spawn().expect("muster starts");
        let said = || std::fs::read_to_string(&err).expect("a file");
        wait_for("why it waits", || said().contains("no worker of group nobodys").then_some(()));
        assert_eq!(child.try_wait().expect("a child"), None, "it goes on to wait");
        child.kill().expect("it runs");
        child.wait().expect("a child");
    }
}

#[test]
fn a_module_without_an_end_is_refused() {
    let fleet = Fleet::start(0, 0);
    for args in
        [&["module", "push", "/dev/zero", "--name", "zero"][..], &["task", "run", "/dev/zero"]]
    {
        let ran = fleet.run(args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("larger than the 64 MiB"), "{ran:?}");
    }
}
