//! The two ends of a link have different versions: they use the newest common version of frames, or
//! both say which side to upgrade.

use crate::{
    later::Buckets,
    link_client::{HERE, block_on, dial, files, welcomed},
};
use muster_protocol::{
    SessionId, WorkerId,
    frame::{Encoding, FrameRange},
    lease::{CasAnswer, Home, Lease},
    message::{Hello, StreamRequest, ToMaster, ToWorker},
    record,
    subject::Bucket,
};
use muster_tests::{Fleet, fleet::wait_for};
use muster_wire::{
    frames::{self, FrameReader, FrameWriter},
    link::{self, ConnectionEnd, quic},
    tls,
};
use quinn::{ConnectionError, Endpoint};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};

/// How long to check that a worker does not dial again; it waits for ten seconds.
const WATCHED_FOR: Duration = Duration::from_secs(4);

fn hello(to: SessionId, frames: FrameRange) -> ToMaster {
    let (attempts, holds, version) = (Vec::new(), Default::default(), "9.9.9".into());
    ToMaster::Hello(Hello { to, session: SessionId(7), attempts, holds, version, frames })
}

#[test]
fn a_master_renews_for_a_newer_worker_with_all_that_its_lease_says() {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    let worker: WorkerId = "w9".parse().expect("a name");
    let mut lease = serde_json::to_value(Lease::new(worker, SessionId(7))).expect("JSON");
    lease["offer"]["new_field"] = json!({"of": [1, null]});
    let lease: Lease = record::read(lease.to_string().as_bytes()).expect("a lease");
    let both = Encoding::ALL.map(Encoding::alpn);
    block_on(async {
        let (_endpoint, connection) = dial(&fleet, &both).await;
        let connection = connection.expect("it is let in");
        assert_eq!(frames::encoding(&connection), Encoding::Named);
        let (mut reader, mut writer, master, frames) = welcomed(&connection).await;
        assert_eq!(frames, FrameRange::SPOKEN);
        let newer = FrameRange { oldest: 2, newest: 9 };
        writer.send(&hello(master.session, newer)).await.expect("it is up");
        writer.send(&ToMaster::Renew { expect: 0, lease }).await.expect("it is up");
        loop {
            match reader.next().await.expect("it is up").expect("it goes on") {
                ToWorker::Renewed { answer: CasAnswer::Written(_), .. } => break,
                ToWorker::Renewed { answer, .. } => panic!("{answer:?}"),
                _ => {}
            }
        }
    });
    let written = Buckets::of(&fleet).read(Bucket::Workers, "w9");
    assert_eq!(written["offer"]["new_field"], json!({"of": [1, null]}), "{written}");
}

#[test]
fn a_worker_of_frames_1_is_spoken_to_in_them() {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[b"muster/1"]).await;
        let connection = connection.expect("it is let in");
        assert_eq!(frames::encoding(&connection), Encoding::Positional);
        let (_reader, _writer, _, frames) = welcomed(&connection).await;
        assert_eq!(frames, FrameRange::FIRST);
    });
}

#[test]
fn a_master_refuses_a_worker_whose_frames_it_does_not_speak_and_says_whom_to_upgrade() {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    let spoken = FrameRange::SPOKEN;
    let sentence = format!(
        "this master speaks frames {spoken}, worker w9 (9.9.9) speaks 8 to 9: upgrade the master"
    );
    block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[b"muster/2"]).await;
        let connection = connection.expect("TLS knows no frames");
        let (_reader, mut writer, master, _) = welcomed(&connection).await;
        let frames = FrameRange { oldest: 8, newest: 9 };
        writer.send(&hello(master.session, frames)).await.expect("it is up");
        let end = connection.closed().await;
        let (code, reason) = (link::NO_COMMON_FRAMES, sentence.clone());
        assert_eq!(end, ConnectionEnd::Closed { code, reason });
    });
    wait_for("the master's log", || fleet.log("m1").contains(&sentence).then_some(()));
    let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    assert_eq!(workers["workers"], json!([]), "it was never linked");
}

#[test]
fn where_tls_finds_no_frames_in_common_both_sides_say_so_in_words() {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    let words = "speaks no frames that this one speaks (muster/2, muster/1): upgrade the older";
    block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[b"muster/9"]).await;
        let error = connection.expect_err("there is nothing in common");
        let told = frames::misunderstanding(&error).unwrap_or_else(|| panic!("{error:?}"));
        assert!(told.contains(words), "{told}");
    });
    wait_for("the master's log", || fleet.log("m1").contains(words).then_some(()));
}

/// A master of a later version, for a worker to dial.
#[test]
fn a_worker_refuses_a_master_whose_frames_it_does_not_speak_and_waits() {
    let mut fleet = Fleet::registry();
    let spoken = FrameRange::SPOKEN;
    let sentence = format!(
        "this worker speaks frames {spoken}, master m9 (9.9.9) speaks 8 to 9: upgrade the worker"
    );
    let tls = tls::server(&files(&fleet, "master", "m9")).expect("certificates");
    block_on(async {
        let server = quic::server(tls).expect("TLS 1.3");
        let endpoint = Endpoint::server(server, SocketAddr::from(HERE)).expect("a port");
        let address = endpoint.local_addr().expect("it is bound");
        fleet.launch_worker_of("w1", address);
        let connection = endpoint.accept().await.expect("a worker").await.expect("it is let in");
        let (send, receive) = connection.accept_bi().await.expect("the control stream");
        let mut reader = FrameReader::new(receive, Encoding::Named);
        assert_eq!(reader.next().await.expect("it is up"), Some(StreamRequest::Control));
        let master = Home { master: "m9".parse().expect("a name"), session: SessionId(1) };
        let frames = FrameRange { oldest: 8, newest: 9 };
        let (machine, version) = (muster_protocol::Nonce(1), "9.9.9".into());
        let welcome = ToWorker::Welcome { master, machine, version, frames };
        let mut writer = FrameWriter::new(send, Encoding::Named);
        writer.send(&welcome).await.expect("it is up");
        let ConnectionError::ApplicationClosed(close) = connection.closed().await else {
            panic!("the worker has closed it");
        };
        assert_eq!(close.error_code, link::NO_COMMON_FRAMES.into());
        assert_eq!(String::from_utf8_lossy(&close.reason), sentence);
        let again = tokio::time::timeout(WATCHED_FOR, endpoint.accept()).await;
        assert!(again.is_err(), "it dials on as if nothing had been said");
    });
    wait_for("the worker's log", || fleet.log("w1").contains(&sentence).then_some(()));
    assert_eq!(fleet.log("w1").matches(&sentence).count(), 1);
}
