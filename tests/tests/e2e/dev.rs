//! `muster dev`: a fleet in one command, which ends as a whole and can be started again at once.

use muster_tests::{
    fleet::{text, wait_for},
    place,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};
use tempfile::TempDir;

struct Dev {
    home: TempDir,
    child: Child,
}

impl Dev {
    /// Starts `muster dev` in a directory without any file of Muster.
    fn start(home: TempDir, nats_server: Option<&Path>) -> Self {
        let dir = home.path().join("dev");
        let log = File::options().create(true).append(true).open(home.path().join("log"));
        let log = log.expect("a file");
        let mut command = Command::new(place::program("muster"));
        command.args(["dev", "--workers", "1", "--dir", text(&dir)]).current_dir(home.path());
        match nats_server {
            Some(server) => command.env("MUSTER_NATS_SERVER", server),
            None => command.env_remove("MUSTER_NATS_SERVER").env("PATH", "/usr/bin:/bin"),
        };
        let out = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn();
        Dev { home, child: child.expect("muster starts") }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).expect("a file")
    }

    fn summary(&self) -> PathBuf {
        self.home.path().join("dev/dev.json")
    }

    fn until_ready(&mut self) {
        wait_for("the fleet", || {
            assert_eq!(self.child.try_wait().expect("a child"), None, "{}", self.log());
            self.summary().exists().then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("its end", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The processes that it started end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn home() -> TempDir {
    tempfile::Builder::new().prefix("muster-dev-").tempdir().expect("a directory")
}

#[test]
fn after_a_kill_another_one_begins_at_once() {
    let server = place::nats_server();
    let mut dev = Dev::start(home(), Some(&server));
    dev.until_ready();
    for _ in 0..2 {
        dev.signal(Signal::KILL);
        dev.ended();
        std::fs::remove_file(dev.summary()).expect("it was killed");
        let home = std::mem::replace(&mut dev.home, home());
        dev = Dev::start(home, Some(&server));
        dev.until_ready();
    }
    let second = {
        let dir = dev.home.path().join("dev");
        let mut command = Command::new(place::program("muster"));
        command.args(["dev", "--dir", text(&dir)]).env("MUSTER_NATS_SERVER", &server);
        command.output().expect("muster starts")
    };
    assert_eq!(second.status.code(), Some(2), "one of them runs");
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().code(), Some(0), "{}", dev.log());
}

#[test]
fn one_interrupt_during_the_start_stops_everything_in_order() {
    let server = place::nats_server();
    let mut dev = Dev::start(home(), Some(&server));
    let ready = dev.home.path().join("dev/m1/ready.json");
    wait_for("the master", || ready.exists().then_some(()));
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().code(), Some(130), "{}", dev.log());
    assert!(!dev.log().contains("is killed"), "one interrupt counted twice: {}", dev.log());
}

#[test]
fn it_finds_the_nats_server_that_was_fetched_for_its_work_tree() {
    if !place::root().join(".muster/bin/nats-server").exists() {
        return println!("not tested: this machine has a nats-server of its own");
    }
    let mut dev = Dev::start(home(), None);
    dev.until_ready();
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().code(), Some(0), "{}", dev.log());
}
