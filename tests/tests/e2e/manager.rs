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

#[test]
fn a_service_manager_hears_how_a_master_and_a_confined_worker_are() {
    let mut fleet = Fleet::registry();
    let socket = fleet.path("manager");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_nonblocking(true).expect("a socket");
    fleet.set_variable("NOTIFY_SOCKET", socket);
    fleet.set_variable("WATCHDOG_USEC", "3000000".into());
    fleet.start_master("m1");
    until_heard(&manager, &["READY=1", "STATUS=it serves", "WATCHDOG=1"]);
    heard(&manager);
    // Its filter forbids to make a Unix socket; this one was made before.
    fleet.start_worker("w1", &["--unsupervised"]);
    until_heard(&manager, &["READY=1", "STATUS=it takes tasks"]);
    until_heard(&manager, &["WATCHDOG=1"]);
    fleet.signal("w1", Signal::TERM);
    until_heard(&manager, &["STOPPING=1", "STATUS=stopping"]);
    fleet.kill(NATS);
    until_heard(&manager, &["STATUS=it waits for the registry", "WATCHDOG=1"]);
}
