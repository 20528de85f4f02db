//! A stolen worker: it has a certificate of the fleet and says whatever it likes. It harms only itself.

use crate::link_client::{block_on, dial, dial_tcp, resident_bytes, welcomed};
use futures::StreamExt as _;
use muster_protocol::{
    AttemptId, Digest, SessionId, TaskId,
    api::Transport,
    frame::{Encoding, FrameRange},
    limit,
    message::{
        AttemptKey, HeldAttempt, Hello, LogChunk, LogSource, ObjectStore, StreamReply,
        StreamRequest, ToMaster,
    },
    registry::Mark,
    task::{Outcome, Verdict},
};
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use muster_wire::{
    frames::{FrameReader, FrameWriter},
    link::{Connection, ConnectionEnd, STREAMS_MAX, SendStream},
};
use quinn::Endpoint;
use std::time::Duration;

/// How long a master may take to close a link on which nothing more can be right.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

/// How much memory one stolen worker may cost its master.
const MEMORY_MAX: u64 = 64 << 20;

fn key(number: u128) -> AttemptKey {
    AttemptKey { task: TaskId(number), attempt: AttemptId(1) }
}

/// How the master closed this link.
async fn closed(connection: &Connection) -> Result<String, &'static str> {
    match tokio::time::timeout(CLOSED_WITHIN, connection.closed()).await {
        Ok(ConnectionEnd::Closed { reason, .. }) => Ok(reason),
        Ok(_) => Err("the link ended in another way"),
        Err(_) => Err("the link is still up"),
    }
}

/// The rest of the fleet works.
fn works(fleet: &Fleet) {
    let task = fleet.run(&["task", "run", "upper", "--input", "a"]).ok().text();
    let done = fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    assert_eq!(done["state"]["done"]["outcome"]["verdict"], "completed", "{done}");
}

fn fleet() -> Fleet {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    fleet
}

/// Each attempt that a master does not know is a read of the registry.
#[test]
fn a_hello_with_too_many_attempts_ends_its_link() {
    let fleet = fleet();
    let before = resident_bytes(&fleet, "m1");
    let reason = block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[Encoding::Positional.alpn()]).await;
        let connection = connection.expect("it is let in");
        let (_reader, mut writer, master, _) = welcomed(&connection).await;
        let attempts = (0..45_000).map(|task| HeldAttempt { key: key(task), revision: 0 });
        let hello = Hello {
            to: master.session,
            session: SessionId(7),
            attempts: attempts.collect(),
            holds: Mark::default(),
            version: "9.9.9".into(),
            frames: FrameRange::SPOKEN,
        };
        writer.send(&ToMaster::Hello(hello)).await.expect("it fits a frame");
        closed(&connection).await
    });
    works(&fleet);
    let used = resident_bytes(&fleet, "m1").saturating_sub(before);
    assert!(used < MEMORY_MAX, "{} MiB", used >> 20);
    assert_eq!(reason.as_deref(), Ok("its Hello names 45000 attempts, the limit is 2048"));
}

/// Many frames may ask what one may not.
#[test]
fn outcomes_of_attempts_that_nobody_knows_end_their_link_when_they_are_too_many() {
    let fleet = fleet();
    let reason = block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[Encoding::Named.alpn()]).await;
        let connection = connection.expect("it is let in");
        let (_reader, mut writer, _, _) = welcomed(&connection).await;
        for task in 0..20_000 {
            let (outcome, revision) = (Outcome::bare(Verdict::Completed), u64::MAX);
            let finished = ToMaster::Finished { key: key(task), revision, outcome };
            if writer.send(&finished).await.is_err() {
                break;
            }
        }
        closed(&connection).await
    });
    works(&fleet);
    assert!(reason.is_ok(), "{reason:?}");
    assert!(fleet.log("m1").contains("it asked about too many attempts"));
}

/// An output that is not in the store and longer than what is kept in a record would be stored with it.
#[test]
fn an_outcome_that_is_too_large_for_a_record_ends_its_link() {
    let fleet = fleet();
    let reason = block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[Encoding::Named.alpn()]).await;
        let connection = connection.expect("it is let in");
        let (_reader, mut writer, _, _) = welcomed(&connection).await;
        let mut outcome = Outcome::bare(Verdict::Completed);
        outcome.output = muster_protocol::task::Data::Inline(vec![b'x'; 200 << 10].into());
        let finished = ToMaster::Finished { key: key(1), revision: 1, outcome };
        writer.send(&finished).await.expect("it fits a frame");
        closed(&connection).await
    });
    let reason = reason.expect("the link is closed");
    assert_eq!(reason, "it reports an inline output of 204800 bytes, the limit is 16384");
}

/// Begins a frame of the largest size and never ends it.
async fn half_a_frame(connection: &Connection) -> Option<SendStream> {
    let (mut send, _) =
        tokio::time::timeout(CLOSED_WITHIN, connection.open_bi()).await.ok()?.ok()?;
    let size = (limit::FRAME_SIZE_MAX as u32).to_le_bytes().to_vec();
    send.write(size.into()).await.ok()?;
    let bytes = vec![0; limit::FRAME_SIZE_MAX / 2];
    let _ = tokio::time::timeout(Duration::from_millis(20), send.write(bytes.into())).await;
    Some(send)
}

/// Dials the master, over QUIC or over TCP. The endpoint is kept for the connection.
async fn dial_over(fleet: &Fleet, over: Transport) -> Option<(Option<Endpoint>, Connection)> {
    let alpn = [Encoding::Named.alpn()];
    match over {
        Transport::Quic => {
            let (endpoint, connection) = dial(fleet, &alpn).await;
            Some((Some(endpoint), connection.ok()?))
        }
        Transport::Tcp => Some((None, dial_tcp(fleet, &alpn).await.ok()?)),
    }
}

#[test]
fn a_worker_has_few_links_and_its_half_frames_cost_little_memory() {
    half_frames_cost_little(Transport::Quic);
}

#[test]
fn a_worker_has_few_links_over_tcp_and_its_half_frames_cost_little_memory() {
    half_frames_cost_little(Transport::Tcp);
}

fn half_frames_cost_little(over: Transport) {
    const LINKS: usize = 20;
    let fleet = fleet();
    let before = resident_bytes(&fleet, "m1");
    let (up, most) = block_on(async {
        let (mut links, mut streams, mut most) = (Vec::new(), Vec::new(), 0);
        for _ in 0..LINKS {
            let Some((endpoint, connection)) = dial_over(&fleet, over).await else { continue };
            for _ in 0..STREAMS_MAX {
                let Some(stream) = half_a_frame(&connection).await else { break };
                streams.push(stream);
            }
            most = most.max(resident_bytes(&fleet, "m1"));
            links.push((endpoint, connection));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        (links.iter().filter(|(_, link)| link.close_reason().is_none()).count(), most)
    });
    works(&fleet);
    let used = most.saturating_sub(before) >> 20;
    assert!(up <= 4, "{up} of {LINKS} links are up, with {used} MiB");
    assert!(used < MEMORY_MAX >> 20, "{used} MiB");
}

#[test]
fn a_frame_that_is_begun_and_not_ended_ends_its_link() {
    half_a_frame_ends_its_link(Transport::Quic);
    half_a_frame_ends_its_link(Transport::Tcp);
}

fn half_a_frame_ends_its_link(over: Transport) {
    let fleet = fleet();
    let reason = block_on(async {
        let (_endpoint, connection) = dial_over(&fleet, over).await.expect("it is let in");
        let (mut send, _receive) = connection.open_bi().await.expect("a stream");
        let mut frame = Vec::new();
        let control = StreamRequest::Control;
        muster_protocol::frame::encode(Encoding::Named, &control, &mut frame).expect("it fits");
        frame.extend([9, 0, 0, 0, 1]);
        send.write(frame.into()).await.expect("it is up");
        closed(&connection).await
    });
    assert!(reason.is_ok(), "{reason:?}");
}

/// Transfers that do not move hold the places of this worker and not those of others.
#[test]
fn transfers_that_stand_still_leave_others_their_places() {
    transfers_stand_still(Transport::Quic);
    transfers_stand_still(Transport::Tcp);
}

fn transfers_stand_still(over: Transport) {
    let fleet = fleet();
    block_on(async {
        let (_endpoint, connection) = dial_over(&fleet, over).await.expect("it is let in");
        let _control = welcomed(&connection).await;
        let mut streams = Vec::new();
        for _ in 0..16 {
            let (send, receive) = connection.open_bi().await.expect("a stream");
            let mut writer = FrameWriter::new(send, Encoding::Named);
            let put = StreamRequest::Put { digest: Digest([7; 32]), size: 8 << 20 };
            writer.send(&put).await.expect("it is up");
            writer.bytes(vec![1].into()).await.expect("it is up");
            streams.push((writer, receive));
        }
        // Its input and output are objects.
        let input = "a".repeat(limit::INLINE_SIZE_MAX + 1);
        let ran = fleet.run_with(&["task", "run", "upper", "--input", "-"], input.as_bytes());
        let task = ran.ok().text();
        fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    });
}

/// When clients have filled their share of the data store, one worker leaves half of the rest to others.
#[test]
fn a_worker_that_stores_without_end_leaves_room_for_others() {
    const STORE_MIB: usize = 20;
    let mut fleet = Fleet::registry();
    fleet.start_master_with("m1", &["--data-size", &STORE_MIB.to_string()]);
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    // An input that is stored before, of which the output is an object of its own.
    let input = fleet.path("input");
    std::fs::write(&input, "a".repeat(1 << 20)).expect("a file");
    let input = format!("@{}", text(&input));
    fleet.run(&["task", "run", "upper", "--input", &input, "--group", "none"]).ok();
    let refused = block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[Encoding::Named.alpn()]).await;
        let connection = connection.expect("it is let in");
        let _control = welcomed(&connection).await;
        for number in 0..STORE_MIB {
            let bytes = vec![number as u8; 1 << 20];
            let (digest, size) = (muster_module::digest(&bytes), bytes.len() as u64);
            let (send, receive) = connection.open_bi().await.expect("a stream");
            let mut writer = FrameWriter::new(send, Encoding::Named);
            let mut reader = FrameReader::new(receive, Encoding::Named);
            writer.send(&StreamRequest::Put { digest, size }).await.expect("it is up");
            writer.bytes(bytes.into()).await.expect("it is up");
            writer.finish().expect("it is up");
            match reader.next().await.expect("it is up") {
                Some(StreamReply::Stored) => {}
                Some(StreamReply::Failed(why)) => return (number, why),
                other => panic!("{other:?}"),
            }
        }
        (STORE_MIB, String::new())
    });
    // Four fifths, and half of the rest, less what the store adds to each object.
    assert!((15..=17).contains(&refused.0), "{refused:?}");
    assert!(refused.1.contains("has stored as much there as is still free"), "{refused:?}");
    let ran = fleet.run(&["task", "run", "upper", "--input", &input, "--wait"]).ok();
    assert_eq!(ran.text(), "A".repeat(1 << 20));
}

/// The modules and the inputs of others are none of a worker's business, even if it knows their digests.
#[test]
fn a_worker_reads_only_objects_that_its_attempts_name() {
    let fleet = fleet();
    fleet.push("upper");
    let input = "a".repeat(limit::INLINE_SIZE_MAX + 1);
    let ran = fleet.run_with(&["task", "run", "upper", "--input", "-"], input.as_bytes());
    let task = ran.ok().text();
    let record = fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    let digest = |value: &serde_json::Value| -> Digest {
        serde_json::from_value(value.clone()).expect("a digest")
    };
    let module = digest(&record["spec"]["module"]["digest"]);
    let input = digest(&record["spec"]["input"]["blob"]["digest"]);
    block_on(async {
        let (_endpoint, connection) = dial(&fleet, &[Encoding::Named.alpn()]).await;
        let connection = connection.expect("it is let in");
        let _control = welcomed(&connection).await;
        for (store, digest) in [(ObjectStore::Modules, module), (ObjectStore::Data, input)] {
            let (send, receive) = connection.open_bi().await.expect("a stream");
            let mut writer = FrameWriter::new(send, Encoding::Named);
            let mut reader = FrameReader::new(receive, Encoding::Named);
            writer.send(&StreamRequest::Fetch { store, digest }).await.expect("it is up");
            let reply: Option<StreamReply> = reader.next().await.expect("it is up");
            let is_refused =
                matches!(&reply, Some(StreamReply::Failed(why)) if why.contains("no attempt"));
            assert!(is_refused, "{store:?}: {reply:?}");
        }
    });
}

/// A log is evidence: nobody but the worker of an attempt writes to it.
#[test]
fn nobody_writes_to_the_log_of_an_attempt_that_another_worker_has() {
    let fleet = fleet();
    fleet.push("heart");
    let input = r#"{"for_ms":20000,"every_us":100000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", input]).ok().text();
    let record = fleet.until("its run", &task, |record| record["state"]["dispatched"].is_object());
    let of = |value: &serde_json::Value| value.as_str().expect("an id").to_string();
    let key = AttemptKey {
        task: of(&record["id"]).parse().expect("an id"),
        attempt: serde_json::from_value(record["state"]["dispatched"]["id"].clone())
            .expect("an id"),
    };
    block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        let heard = client.subscribe(fleet.names().progress(key.task)).await;
        let mut heard = heard.expect("a subscription");
        client.flush().await.expect("it answers");
        let (_endpoint, connection) = dial(&fleet, &[Encoding::Named.alpn()]).await;
        let connection = connection.expect("it is let in");
        let (_reader, mut control, _, _) = welcomed(&connection).await;
        let stream = connection.open_uni().await.expect("a stream");
        let mut logs = FrameWriter::new(stream, Encoding::Named);
        for text in ["PAYMENT OK\n", "AND AGAIN\n"] {
            let (source, text) = (LogSource::Log, text.into());
            logs.send(&LogChunk { key, source, text }).await.expect("it is up");
        }
        let progress = ToMaster::Progress { key, done: 77, total: 77 };
        control.send(&progress).await.expect("it is up");
        wait_for("the log to be refused", || {
            let log = fleet.log("m1");
            log.contains("a worker writes to the log of an attempt that it was not given")
                .then_some(())
        });
        while let Ok(Some(message)) =
            tokio::time::timeout(Duration::from_millis(500), heard.next()).await
        {
            let said = String::from_utf8_lossy(&message.payload).into_owned();
            assert!(!said.contains("\"total\":77"), "{said}");
        }
    });
    let logs = fleet.run(&["task", "logs", &task]).ok().text();
    assert!(!logs.contains("PAYMENT OK"), "{logs}");
}
