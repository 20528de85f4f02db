//! Links where the network is not what it was: UDP is blocked, so they are over TCP; or the address of a
//! worker changes. What runs goes on.

use crate::link_client::{block_on, dial_tcp, resident_bytes};
use muster_protocol::frame::Encoding;
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
    net::{Carrier, Namespaces, Net},
};
use muster_wire::{
    frames,
    link::{self, ConnectionEnd},
};
use serde_json::Value;
use std::{
    io::{ErrorKind, Read as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// How long a worker may take to be ready without UDP: QUIC fails after two seconds, and then TCP is dialled.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// Connections of a stranger.
const STRANGERS: usize = 300;

/// How many of them a master may keep until they are over, of one address.
const STRANGERS_KEPT: usize = 64;

/// How much memory they may cost a master.
const MEMORY_MAX: u64 = 64 << 20;

/// A fleet with a master that issues certificates, and the address at which `host` reaches it, by TCP alone.
fn fleet_without_udp(host: &str) -> (Fleet, SocketAddr) {
    let mut fleet = Fleet::within(Net::proxied(), None);
    let key = fleet.path("tls/ca.key");
    fleet.start_master_with("m1", &["--ca-key", text(&key)]);
    let master = fleet.quic("m1").parse().expect("an address");
    let entry = fleet.net().way(host, "m1", master, Carrier::Udp);
    fleet.net().lose_datagrams(host, "m1", true);
    (fleet, entry)
}

fn worker(fleet: &Fleet, name: &str) -> Value {
    fleet.run(&["-o", "json", "worker", "get", name]).ok().json()
}

fn completes(fleet: &Fleet, task: &str) {
    let record = fleet.until("its end", task, |record| record["state"]["done"].is_object());
    assert_eq!(record["state"]["done"]["outcome"]["verdict"], "completed", "{record}");
    assert_eq!(record["attempts"], 1, "{record}");
}

#[test]
fn where_udp_is_blocked_a_worker_is_linked_over_tcp_and_moves_to_quic_when_that_works() {
    let (mut fleet, _) = fleet_without_udp("w1");
    fleet.push("upper");
    fleet.push("heart");
    let began = Instant::now();
    fleet.start_worker_without_nats("w1", &["--slots", "2"]);
    println!("ready after {} ms", began.elapsed().as_millis());
    assert!(began.elapsed() < READY_WITHIN, "{:?}", began.elapsed());
    assert_eq!(worker(&fleet, "w1")["transport"], "tcp");
    let shown = fleet.run(&["worker", "ls"]).ok().text();
    assert!(shown.lines().any(|line| line.contains("w1") && line.contains(" tcp ")), "{shown}");
    if !fleet.log("w1").contains("confined fully") {
        eprintln!("not tested: a confined worker, which this kernel does not confine");
    }

    // Its input and its output are objects, and what it writes arrives.
    let input = "abcdefg\n".repeat(300_000).into_bytes();
    let ran = fleet.run_with(&["task", "run", "upper", "--input", "-", "--wait"], &input).ok();
    assert!(ran.out == input.to_ascii_uppercase(), "{} bytes came back", ran.out.len());
    let empty = fleet.run(&["task", "run", "upper"]).ok().text();
    wait_for("its log", || {
        fleet.run(&["task", "logs", &empty]).text().contains("the input is empty").then_some(())
    });

    // It renews its lease through its master, and moves while a task runs.
    let session = worker(&fleet, "w1")["lease"]["session"].clone();
    let beats = r#"{"for_ms":30000,"every_us":100000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", beats]).ok().text();
    fleet.until("its run", &task, |record| record["state"]["dispatched"].is_object());
    fleet.net().lose_datagrams("w1", "m1", false);
    wait_for("a link over QUIC", || (worker(&fleet, "w1")["transport"] == "quic").then_some(()));
    wait_for("the end of the old link", || {
        (fleet.log("m1").matches(" unlinked ").count() == 1).then_some(())
    });
    completes(&fleet, &task);
    assert_eq!(worker(&fleet, "w1")["lease"]["session"], session);
    let log = fleet.log("w1");
    assert_eq!(log.matches(" linked ").count(), 2, "{log}");
    assert!(!log.contains("unlinked"), "it always had a link: {log}");
}

/// A lease of this profile lasts long enough for the silence to be noticed on any machine.
#[test]
fn a_worker_that_loses_udp_goes_on_over_tcp() {
    let mut fleet = Fleet::within(Net::proxied(), Some("roaming"));
    fleet.start_master("m1");
    fleet.push("heart");
    fleet.start_worker_without_nats("w1", &[]);
    let session = worker(&fleet, "w1")["lease"]["session"].clone();
    let beats = r#"{"for_ms":12000,"every_us":100000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", beats]).ok().text();
    fleet.until("its run", &task, |record| record["state"]["dispatched"].is_object());
    fleet.net().lose_datagrams("w1", "m1", true);
    wait_for("a link over TCP", || (worker(&fleet, "w1")["transport"] == "tcp").then_some(()));
    completes(&fleet, &task);
    assert_eq!(worker(&fleet, "w1")["lease"]["session"], session);
}

#[test]
fn a_worker_joins_and_is_revoked_over_tcp() {
    let (mut fleet, entry) = fleet_without_udp("host");
    let entry = entry.to_string();
    let invite = ["-o", "json", "worker", "invite", "a", "--group", "shops", "--master", &entry];
    let token = fleet.run(&invite).ok().json();
    let token = token["token"].as_str().expect("a token");
    fleet.launch_new_worker("host", &["--join", token, "--master", &entry]);
    fleet.until_ready("host");
    assert_eq!(worker(&fleet, "a")["transport"], "tcp");
    fleet.run(&["worker", "revoke", "a"]).ok();
    let refusals = |fleet: &Fleet| fleet.log("host").matches("the worker is revoked").count();
    wait_for("its link to be closed", || (refusals(&fleet) > 0).then_some(()));
    wait_for("it to be refused", || (refusals(&fleet) > 2).then_some(()));
    wait_for("its link to be gone", || (worker(&fleet, "a")["linked"] == false).then_some(()));
    // So is a new process of it.
    fleet.kill("host");
    let before = refusals(&fleet);
    fleet.launch_new_worker("host", &["--master", &entry]);
    wait_for("it to be refused", || (refusals(&fleet) > before).then_some(()));
    assert!(!fleet.is_ready("host"));
}

#[test]
fn peers_over_tcp_are_told_why_they_are_refused() {
    let fleet = Fleet::start(0, 0);
    let words = "speaks no frames that this one speaks (muster/2, muster/1): upgrade the older";
    block_on(async {
        let end = dial_tcp(&fleet, &[b"muster/9"]).await.expect_err("nothing in common");
        let told = frames::misunderstanding(&end).unwrap_or_else(|| panic!("{end:?}"));
        assert!(told.contains(words), "{told}");
        fleet.run(&["worker", "revoke", "w9"]).ok();
        wait_for("the master to know", || fleet.log("m1").contains("revoked").then_some(()));
        let revoked = dial_tcp(&fleet, &[Encoding::Named.alpn()]).await.expect("TLS is up");
        let (code, reason) = (link::REVOKED, "the worker is revoked".into());
        assert_eq!(revoked.closed().await, ConnectionEnd::Closed { code, reason });
    });
    wait_for("the master's log", || fleet.log("m1").contains(words).then_some(()));
}

/// Whether the other end has closed this connection.
fn is_over(connection: &mut TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a socket can refuse to wait");
    match connection.read(&mut [0; 1]) {
        Ok(0) => true,
        Ok(_) => panic!("a master says nothing to who has said nothing"),
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn handshakes_over_tcp_that_stand_still_are_few_and_over_soon() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let master: SocketAddr = fleet.quic("m1").parse().expect("an address");
    let before = resident_bytes(&fleet, "m1");
    let dial = |_| TcpStream::connect(master).expect("it listens");
    let mut strangers: Vec<TcpStream> = (0..STRANGERS).map(dial).collect();
    let kept = |strangers: &mut Vec<TcpStream>| {
        strangers.retain_mut(|stranger| !is_over(stranger));
        strangers.len()
    };
    wait_for("most of them to be refused", || {
        (kept(&mut strangers) <= STRANGERS_KEPT).then_some(())
    });
    assert!(kept(&mut strangers) > 0, "it refuses all");
    // Who has a link goes on.
    let task = fleet.run(&["task", "run", "upper", "--input", "a"]).ok().text();
    completes(&fleet, &task);
    wait_for("the others to be dropped", || (kept(&mut strangers) == 0).then_some(()));
    let used = resident_bytes(&fleet, "m1").saturating_sub(before);
    assert!(used < MEMORY_MAX, "{} MiB", used >> 20);
    fleet.start_worker("w2", &[]);
}

#[test]
fn a_worker_whose_address_changes_keeps_its_link_its_lease_and_its_run() {
    let name = "links::a_worker_whose_address_changes_keeps_its_link_its_lease_and_its_run";
    let namespaces = match Namespaces::enter_for_test(name) {
        Ok(Some(namespaces)) => namespaces,
        Ok(None) => return,
        Err(cause) => {
            eprintln!("not tested: {cause}");
            return;
        }
    };
    let mut fleet = Fleet::within(Net::Apart(namespaces), Some("standard"));
    fleet.start_master("m1");
    fleet.push("heart");
    fleet.start_worker_without_nats("w1", &[]);
    let before = worker(&fleet, "w1");
    let beats = r#"{"for_ms":12000,"every_us":100000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", beats]).ok().text();
    fleet.until("its run", &task, |record| record["state"]["dispatched"].is_object());
    fleet.net().readdress("w1");
    completes(&fleet, &task);
    let after = worker(&fleet, "w1");
    assert_eq!(after["lease"]["session"], before["lease"]["session"], "{after}");
    assert_eq!(after["transport"], "quic");
    for host in ["m1", "w1"] {
        let log = fleet.log(host);
        assert_eq!(log.matches(" linked ").count(), 1, "{log}");
        assert!(!log.contains("unlinked") && !log.contains("lapsed"), "{log}");
    }
}
