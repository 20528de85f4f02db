//! What a service manager hears of the daemons that it has started (`sd_notify`): that they have begun, how they are, that
//! they live, and that they stop.

use muster_tests::{
    Fleet,
    fleet::{NATS, wait_for},
};
use rustix::process::Signal;
use std::{collections::BTreeSet, os::unix::net::UnixDatagram};

/// What was sent to the manager up to now.
fn heard(manager: &UnixDatagram) -> BTreeSet<String> {
    let mut bytes = [0; 256];
    let mut said = BTreeSet::new();
    while let Ok(count) = manager.recv(&mut bytes) {
        said.insert(String::from_utf8_lossy(&bytes[..count]).into_owned());
    }
    said
}

/// Waits until all of this was sent since the last wait.
fn until_heard(manager: &UnixDatagram, wanted: &[&str]) {
    let mut said = BTreeSet::new();
    wait_for(&format!("{wanted:?}"), || {
        said.append(&mut heard(manager));
        wanted.iter().all(|word| said.contains(*word)).then_some(())
    });
}

/// A manager for the daemons that are started from now on.
fn listen(fleet: &mut Fleet, name: &str) -> UnixDatagram {
    let path = fleet.path(name);
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_nonblocking(true).expect("a socket");
    fleet.set_variable("NOTIFY_SOCKET", path);
    manager
}

#[test]
fn a_service_manager_hears_how_a_master_and_a_confined_worker_are() {
    let mut fleet = Fleet::registry();
    fleet.set_variable("WATCHDOG_USEC", "3000000".into());
    let of_master = listen(&mut fleet, "master-manager");
    fleet.start_master("m1");
    until_heard(&of_master, &["READY=1", "STATUS=it serves", "WATCHDOG=1"]);
    // The worker has no socket of the manager: its supervisor passes on what it says.
    let of_worker = listen(&mut fleet, "worker-manager");
    fleet.start_worker("w1", &[]);
    until_heard(&of_worker, &["READY=1", "STATUS=it takes tasks"]);
    until_heard(&of_worker, &["WATCHDOG=1"]);
    let child = fleet.child_pid("w1").expect("it is ready");
    let environment = std::fs::read(format!("/proc/{child}/environ")).expect("it runs");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(
        !environment.contains("NOTIFY_SOCKET") && environment.contains("WATCHDOG_USEC"),
        "{environment}"
    );
    fleet.run(&["worker", "cordon", "w1"]).ok();
    until_heard(&of_worker, &["STATUS=it is cordoned"]);
    fleet.signal("w1", Signal::TERM);
    until_heard(&of_worker, &["STOPPING=1"]);
    fleet.kill(NATS);
    until_heard(&of_master, &["STATUS=it waits for the registry", "WATCHDOG=1"]);
}
