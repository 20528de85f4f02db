//! Tests of what a run reports and what of it is sent, at times that the tests choose.

use super::*;
use crate::policy::Secrets;
use muster_protocol::{
    AttemptId, TaskId,
    lease::{Gate, LeaseEnd},
};

const KEY: AttemptKey = AttemptKey { task: TaskId(1), attempt: AttemptId(2) };

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn outbox(room: usize) -> (Outbox, mpsc::Receiver<GuestReport>) {
    let (sender, receiver) = mpsc::channel(room);
    (Outbox::new(KEY, sender, u64::MAX, at(0)), receiver)
}

/// Has an effect at this time, through a gate that is always open.
fn pass(now: Time, effect: impl FnOnce(Permit<'_>)) {
    effect(Gate::new(LeaseEnd::never()).pass(now).expect("it is open"));
}

/// Takes all reports that were sent, as text.
fn sent(receiver: &mut mpsc::Receiver<GuestReport>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Ok(report) = receiver.try_recv() {
        texts.push(match report {
            GuestReport::Log(chunk) => String::from_utf8_lossy(&chunk.text).into_owned(),
            GuestReport::Progress { done, total, .. } => format!("{done}/{total}"),
        });
    }
    texts
}

#[test]
fn lines_of_stderr_are_sent_whole() {
    let (mut outbox, mut receiver) = outbox(9);
    for part in ["one ", "line\ntwo\nthe rest"] {
        pass(at(0), |permit| outbox.stderr(permit, part.as_bytes()));
    }
    assert_eq!(sent(&mut receiver), ["one line\ntwo\n"]);
    assert_eq!(outbox.due(), Some(at(100)));
    pass(at(99), |permit| outbox.flush(permit));
    assert_eq!(sent(&mut receiver), [""; 0]);
    pass(at(100), |permit| outbox.flush(permit));
    assert_eq!(sent(&mut receiver), ["the rest"], "it need not wait for the end of the run");
    assert_eq!(outbox.due(), None);
    assert_eq!(outbox.stderr_tail(), "one line\ntwo\nthe rest");
}

#[test]
fn the_value_of_a_secret_is_not_in_the_log() {
    let (outbox, mut receiver) = outbox(9);
    let secrets = Secrets([("KEY".into(), "correct horse".into())].into());
    let mut outbox = outbox.masked(&Masks::of(&secrets));
    pass(at(0), |permit| outbox.log(permit, "a correct horse".into()));
    for part in ["of a corr", "ect hor", "se!\ncorrect", " "] {
        pass(at(0), |permit| outbox.stderr(permit, part.as_bytes()));
    }
    assert_eq!(sent(&mut receiver), ["a ***", "of a ***!\n"]);
    pass(at(200), |permit| outbox.flush(permit));
    assert_eq!(sent(&mut receiver), [""; 0], "it may be the beginning of the value");
    pass(at(200), |permit| outbox.finish(&permit));
    assert_eq!(sent(&mut receiver), ["correct "]);
    assert_eq!(outbox.stderr_tail(), "of a ***!\ncorrect ");
}

#[test]
fn a_line_without_end_is_sent_in_pieces() {
    let (mut outbox, mut receiver) = outbox(9);
    pass(at(0), |permit| outbox.stderr(permit, &[b'x'; 2 * limit::LOG_CHUNK_MAX + 5]));
    pass(at(0), |permit| outbox.stderr(permit, b"6"));
    let pieces = sent(&mut receiver);
    assert!(pieces.len() == 2 && pieces.iter().all(|piece| piece.len() == limit::LOG_CHUNK_MAX));
    assert!(outbox.line == b"xxxxx6" && outbox.tail.len() <= 2 * limit::STDERR_TAIL_MAX);
    assert_eq!(outbox.stderr_tail().len(), limit::STDERR_TAIL_MAX);
}

#[test]
fn the_tail_is_text_and_within_its_limit() {
    let (mut outbox, _receiver) = outbox(9);
    for _ in 0..10_000 {
        pass(at(0), |permit| outbox.stderr(permit, "ü".as_bytes()));
    }
    assert_eq!(outbox.stderr_tail(), "ü".repeat(limit::STDERR_TAIL_MAX / 2));
    pass(at(0), |permit| outbox.stderr(permit, &[0xff; 5_000]));
    assert!(outbox.stderr_tail().len() <= limit::STDERR_TAIL_MAX);
}

#[test]
fn what_is_over_the_rate_is_dropped_with_a_notice() {
    let (mut outbox, mut receiver) = outbox(99_999);
    let line = "x".repeat(1024 - limit::LOG_CHUNK_COST as usize);
    for _ in 0..100 {
        pass(at(0), |permit| outbox.log(permit, line.clone()));
    }
    assert_eq!(sent(&mut receiver).len() as u64, limit::LOG_BURST / 1024);
    pass(at(1000), |permit| outbox.log(permit, "later".into()));
    let notice = "[muster: 34560 bytes dropped here, over the log's rate]\n";
    assert_eq!(sent(&mut receiver), [notice, "later"]);
    for now in 2000..3000 {
        (0..10).for_each(|_| pass(at(now), |permit| outbox.log(permit, String::new())));
    }
    let lines = sent(&mut receiver).len() as u64;
    assert!(
        lines <= (limit::LOG_BURST + limit::LOG_RATE) / limit::LOG_CHUNK_COST,
        "{lines} empty lines in a second"
    );
}

#[test]
fn a_full_channel_costs_reports_and_nothing_else() {
    let (mut outbox, mut receiver) = outbox(1);
    pass(at(0), |permit| outbox.log(permit, "one".into()));
    pass(at(0), |permit| outbox.log(permit, "two".into()));
    assert_eq!(sent(&mut receiver), ["one"]);
    pass(at(0), |permit| outbox.finish(&permit));
    assert_eq!(sent(&mut receiver), ["[muster: 3 bytes dropped here, over the log's rate]\n"]);
}

#[test]
fn progress_is_the_newest_and_seldom() {
    let (mut outbox, mut receiver) = outbox(99);
    for step in 1..=250 {
        pass(at(step), |permit| outbox.progress(permit, step, 250));
    }
    assert_eq!(sent(&mut receiver), ["1/250", "101/250", "201/250"]);
    assert_eq!(outbox.due(), Some(at(301)));
    pass(at(251), |permit| outbox.finish(&permit));
    assert_eq!(sent(&mut receiver), ["250/250"], "the last one is always sent");
}
