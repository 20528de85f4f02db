//! Outcomes that are not those of the present attempt: forged by another worker, of a session that is over, or sent
//! again. None of them ends a task.

use crate::link_client::{block_on, dial_with, files, welcomed};
use muster_protocol::{
    AttemptId, SessionId, WorkerId,
    frame::{Encoding, FrameRange},
    message::{AttemptKey, Hello, ToMaster},
    registry::Mark,
    task::{Attempt, Outcome, Verdict},
};
use muster_tests::Fleet;
use muster_wire::tls;
use serde_json::{Value, json};

const FORGED: &str = "PAYMENT OK";

/// A task that takes some seconds, and its first attempt.
fn begin(fleet: &Fleet) -> (String, Attempt) {
    fleet.push("heart");
    let input = r#"{"for_ms":6000,"every_us":100000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", input]).ok().text();
    let record = fleet.until("its run", &task, |record| record["state"]["dispatched"].is_object());
    let attempt = attempt(&record);
    (task, attempt)
}

fn attempt(record: &Value) -> Attempt {
    serde_json::from_value(record["state"]["dispatched"].clone()).expect("an attempt")
}

fn key(task: &Value, attempt: AttemptId) -> AttemptKey {
    let task = task.as_str().expect("an id").parse().expect("an id");
    AttemptKey { task, attempt }
}

/// Says to the master, as this worker in this session, that an attempt has completed: at revisions before and after
/// the record that dispatched it, and each of them twice.
fn claim(fleet: &Fleet, worker: &WorkerId, session: SessionId, keys: &[AttemptKey]) {
    let mut outcome = Outcome::bare(Verdict::Completed);
    outcome.output = serde_json::from_value(json!({ "text": FORGED })).expect("an output");
    for encoding in Encoding::ALL {
        block_on(async {
            let tls = tls::client(&files(fleet, "worker", worker.as_str())).expect("certificates");
            let (_endpoint, connection) = dial_with(fleet, tls, &[encoding.alpn()]).await;
            let connection = connection.expect("it is let in");
            let (_reader, mut writer, master, _) = welcomed(&connection).await;
            let hello = Hello {
                to: master.session,
                session,
                attempts: Vec::new(),
                holds: Mark::default(),
                version: "9.9.9".into(),
                frames: FrameRange::SPOKEN,
            };
            writer.send(&ToMaster::Hello(hello)).await.expect("it is up");
            for revision in [1, u64::MAX, 1, u64::MAX] {
                for &key in keys {
                    let outcome = outcome.clone();
                    let finished = ToMaster::Finished { key, revision, outcome };
                    writer.send(&finished).await.expect("it is up");
                }
            }
            writer.finish().expect("it is up");
            // The master ends the link when it has read the end of the stream.
            connection.closed().await;
        });
    }
}

/// The end of a task: by which attempt, and with which output.
fn end(fleet: &Fleet, task: &str) -> (AttemptId, String) {
    let record = fleet.until("its end", task, |record| record["state"]["done"].is_object());
    let done = &record["state"]["done"];
    assert_eq!(done["outcome"]["verdict"], "completed", "{record}");
    let by: Attempt = serde_json::from_value(done["attempt"].clone()).expect("an attempt");
    (by.id, fleet.run(&["task", "result", task]).ok().text())
}

#[test]
fn an_outcome_of_another_worker_does_not_end_a_task() {
    let fleet = Fleet::start(1, 1);
    let (task, attempt) = begin(&fleet);
    let thief: WorkerId = "w9".parse().expect("a name");
    let record = fleet.until("it", &task, |_| true);
    claim(&fleet, &thief, attempt.session, &[key(&record["id"], attempt.id)]);
    let (by, output) = end(&fleet, &task);
    assert_eq!(by, attempt.id);
    assert!(!output.contains(FORGED), "{output}");
}

#[test]
fn an_outcome_of_a_session_that_is_over_does_not_end_a_task() {
    let mut fleet = Fleet::start(2, 1);
    let (task, first) = begin(&fleet);
    let record = fleet.until("it", &task, |_| true);
    fleet.kill(first.worker.as_str());
    let again = fleet.until("another attempt", &task, |record| {
        record["state"]["dispatched"].is_object() && attempt(record).id != first.id
    });
    let second = attempt(&again);
    assert_ne!(second.worker, first.worker);
    let keys = [key(&record["id"], first.id), key(&record["id"], second.id)];
    claim(&fleet, &first.worker, first.session, &keys);
    let (by, output) = end(&fleet, &task);
    assert_eq!(by, second.id);
    assert!(!output.contains(FORGED), "{output}");
    let events = fleet.run(&["events", "--since", "1h"]).ok().text();
    assert!(events.contains("task.refused"), "{events}");
}
