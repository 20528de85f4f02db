//! A registry of three nodes: masters that start while it elects, the loss of each node in turn, and one
//! replica that becomes three.

use async_nats::jetstream;
use muster_protocol::subject::Bucket;
use muster_tests::{Fleet, fleet::wait_for, net::Net};
use rustix::process::Signal;
use std::{io::Write as _, process::Stdio};

const LINES: usize = 400;

/// How many replicas the stream of a bucket has, and how many of them follow their leader.
fn replicas(fleet: &Fleet, bucket: Bucket) -> (usize, usize) {
    let (urls, stream) = (fleet.nats_urls(), fleet.names().stream(bucket));
    tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(urls).await.expect("a node answers");
        let Ok(stream) = jetstream::new(client).get_stream(stream).await else { return (0, 0) };
        let info = stream.cached_info();
        let others = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
        (info.config.num_replicas, 1 + others.filter(|replica| replica.current).count())
    })
}

#[test]
fn masters_that_start_while_the_cluster_elects_wait_for_it() {
    let mut fleet = Fleet::clustered(Net::Plain, None, 3);
    let nodes = fleet.nats_nodes();
    nodes.iter().for_each(|node| fleet.kill(node));
    for master in ["m1", "m2"] {
        fleet.launch_master(master);
    }
    // One node has no quorum, and two of three have to elect first.
    for node in &nodes {
        fleet.launch_nats(node);
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    for master in ["m1", "m2"] {
        wait_for("both masters to serve", || fleet.is_ready(master).then_some(()));
    }
    assert!(fleet.bury().is_empty(), "nobody gave up");
    for bucket in Bucket::ALL {
        wait_for("three replicas", || (replicas(&fleet, bucket) == (3, 3)).then_some(()));
    }
    let ran = fleet.run(&["check"]);
    assert!(!ran.text().contains("replicas"), "{}", ran.text());
}

#[test]
fn a_map_goes_on_when_nodes_are_lost_one_after_the_other() {
    let mut fleet = Fleet::clustered(Net::Plain, None, 3);
    for master in ["m1", "m2"] {
        fleet.start_master(master);
    }
    for worker in ["w1", "w2", "w3"] {
        fleet.start_worker(worker, &["--slots", "2"]);
    }
    fleet.push("upper");
    let mut map = fleet.muster(&["map", "upper", "-"]);
    map.env("MUSTER_NATS", fleet.nats_urls().join(","));
    let mut map = map
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster starts");
    let mut lines = map.stdin.take().expect("it was piped");
    for (number, node) in fleet.nats_nodes().iter().enumerate() {
        let mut batch = |from: usize, to: usize| {
            for line in from..to {
                writeln!(lines, "line {}", number * LINES + line).expect("the map reads");
            }
        };
        batch(0, LINES / 2);
        if number == 1 {
            fleet.signal(node, Signal::STOP);
        } else {
            fleet.kill(node);
        }
        batch(LINES / 2, LINES);
        std::thread::sleep(std::time::Duration::from_secs(3));
        if number == 1 {
            fleet.signal(node, Signal::CONT);
        } else {
            if number == 2 {
                // As after a crash of its operating system: it may have forgotten what it acknowledged.
                std::fs::remove_dir_all(fleet.path(&format!("{node}.store"))).expect("its disk");
            }
            fleet.launch_nats(node);
        }
        // A cluster of three cannot lose two nodes.
        wait_for("the node to follow again", || {
            Bucket::FOLLOWED.iter().all(|bucket| replicas(&fleet, *bucket) == (3, 3)).then_some(())
        });
    }
    drop(lines);
    let ended = map.wait_with_output().expect("it ends");
    let (out, err) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{err}");
    assert_eq!(out.lines().count(), 3 * LINES, "{err}");
    for name in ["m1", "m2"] {
        let log = fleet.log(name);
        assert!(!log.contains("has lost writes"), "{log}");
    }
    // Leases may lapse here: the next node is lost before the workers have renewed with the masters' new
    // sessions as their homes.
}

#[test]
fn one_replica_becomes_three_when_a_master_is_started_so() {
    let mut fleet = Fleet::clustered(Net::Plain, None, 3);
    fleet.keep_replicas(1);
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    assert_eq!(replicas(&fleet, Bucket::Tasks).0, 1);
    let ran = fleet.run(&["check"]);
    assert!(ran.code == 1 && ran.text().contains("fewer than 3 replicas"), "{ran:?}");
    fleet.signal("m1", Signal::TERM);
    assert_eq!(fleet.ended("m1"), 0);
    fleet.keep_replicas(3);
    fleet.start_master("m1");
    for bucket in Bucket::ALL {
        wait_for("three replicas", || (replicas(&fleet, bucket) == (3, 3)).then_some(()));
    }
    let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    assert_eq!(ran.text(), "A");
    let log = fleet.log("m1");
    assert!(log.contains("it keeps one copy"), "events and logs: {log}");
}
