//! What a worker's certificate permits: a stolen worker offers nothing else, and a worker that is
//! configured for more does not start.

use crate::link_client::{block_on, dial, welcomed};
use muster_protocol::{
    SessionId,
    frame::{Encoding, FrameRange},
    lease::Lease,
    message::{Hello, ToMaster, ToWorker},
    record,
    registry::Mark,
    subject::Bucket,
};
use muster_tests::Fleet;
use muster_wire::{
    frames::{FrameReader, FrameWriter},
    link::{Connection, ConnectionEnd},
};
use quinn::Endpoint;
use std::time::Duration;

const SESSION: SessionId = SessionId(7);

/// The lease of a stolen worker that wants the tasks of another group.
fn vault() -> Lease {
    let mut lease = Lease::new("w9".parse().expect("a name"), SESSION);
    lease.offer.group = "vault".parse().expect("a name");
    (lease.offer.slots, lease.offer.memory_bytes) = (1, 1 << 30);
    lease
}

/// A link of the stolen worker.
struct Link {
    _endpoint: Endpoint,
    connection: Connection,
    reader: FrameReader,
    writer: FrameWriter,
}

/// Dials with the present certificate of `w9`, and says Hello.
async fn link(fleet: &Fleet) -> Link {
    let (endpoint, connection) = dial(fleet, &[Encoding::Named.alpn()]).await;
    let connection = connection.expect("it is let in");
    let (reader, mut writer, master, _) = welcomed(&connection).await;
    let hello = Hello {
        to: master.session,
        session: SESSION,
        attempts: Vec::new(),
        holds: Mark::default(),
        version: "9.9.9".into(),
        frames: FrameRange::SPOKEN,
    };
    writer.send(&ToMaster::Hello(hello)).await.expect("it is up");
    Link { _endpoint: endpoint, connection, reader, writer }
}

/// Whether a task is dispatched to this link.
async fn is_given_a_task(link: &mut Link) -> bool {
    let next = tokio::time::timeout(Duration::from_secs(1), async {
        while let Ok(Some(message)) = link.reader.next::<ToWorker>().await {
            if let ToWorker::Dispatch(_) = message {
                return true;
            }
        }
        false
    });
    next.await.unwrap_or(false)
}

fn certify(fleet: &Fleet, permits: &[&str]) {
    let tls = fleet.path("tls");
    let tls = tls.to_str().expect("text");
    fleet.run(&[&["cert", "worker", "w9", "--dir", tls], permits].concat()).ok();
}

#[test]
fn a_stolen_worker_offers_no_more_than_its_certificate_permits() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    certify(&fleet, &["--group", "shops"]);
    block_on(async {
        // Through a master.
        let mut thief = link(&fleet).await;
        let renew = ToMaster::Renew { expect: 0, lease: vault() };
        thief.writer.send(&renew).await.expect("it is up");
        let closed = tokio::time::timeout(Duration::from_secs(10), thief.connection.closed()).await;
        let Ok(ConnectionEnd::Closed { reason, .. }) = closed else { panic!("{closed:?}") };
        assert_eq!(
            reason,
            "the worker's certificate does not permit the group vault (permitted: shops)"
        );

        // Straight to NATS, as a worker may that was given a user there.
        let client = async_nats::connect(fleet.nats_url()).await.expect("a server");
        let jetstream = async_nats::jetstream::new(client);
        let key = fleet.names().key(Bucket::Workers, "w9");
        let lease = record::write(&vault()).expect("JSON");
        jetstream.publish(key, lease.into()).await.expect("a server").await.expect("stored");
        let mut thief = link(&fleet).await;
        let task = fleet.run(&["task", "run", "upper", "--input", "a", "--group", "vault"]);
        let task = task.ok().text();
        assert!(!is_given_a_task(&mut thief).await);
        assert_eq!(fleet.record(&task)["state"]["queued"]["wait_ms"], 0);
        let shown = fleet.run(&["worker", "get", "w9"]).ok().text();
        assert!(shown.contains("does not permit the group vault"), "{shown}");
        assert!(fleet.run(&["worker", "ls"]).ok().text().contains("denied"));

        // The attack itself works: with another certificate, the same lease is given the task.
        certify(&fleet, &["--group", "vault"]);
        let mut worker = link(&fleet).await;
        assert!(is_given_a_task(&mut worker).await);
    });
}

#[test]
fn a_worker_does_not_start_that_offers_more_than_its_certificate_permits() {
    let mut fleet = Fleet::start(0, 1);
    certify(&fleet, &["--group", "shops", "--label", "region=eu", "--slots", "2"]);
    for (options, denied) in [
        (&["--group", "vault"][..], "does not permit the group vault (permitted: shops)"),
        (
            &["--group", "shops", "--label", "region=us", "--slots", "1"],
            "does not permit the label region=us (permitted: region=eu)",
        ),
        (&["--group", "shops", "--slots", "3"], "permits 2 slots, not 3"),
    ] {
        fleet.launch_worker("w9", options);
        assert_eq!(fleet.ended("w9"), 2, "{options:?}");
        assert!(fleet.log("w9").contains(denied), "{}", fleet.log("w9"));
    }
    let permitted = ["--group", "shops", "--label", "region=eu", "--slots", "2"];
    fleet.start_worker("w9", &permitted);
}
