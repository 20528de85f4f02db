//! Inquiries of workers about attempts that no record names: how many a worker may have, and how often the
//! registry is read for them.

use super::*;
use crate::limit::INQUIRIES_MAX;
use core::ops::Range;

/// A worker that has a link and no task.
fn linked() -> World {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w
}

/// An attempt of this task that no record names.
fn unknown(task: u128) -> AttemptKey {
    AttemptKey { task: TaskId(task), attempt: AttemptId(99) }
}

/// Its worker says that it has ended, under a record that does not exist yet.
fn ask(w: &mut World, worker: &str, link: LinkId, task: u128) -> Vec<String> {
    let (worker, key, outcome) = (name(worker), unknown(task), outcome(Verdict::Completed));
    w.see(Event::Finished { worker, link, key, revision: u64::MAX, outcome })
}

/// The worker asks about all these tasks. The fleet plans afterwards: audits after each of thousands of
/// events would take minutes.
fn ask_all(w: &mut World, worker: &str, link: LinkId, tasks: Range<u128>) -> Vec<String> {
    for task in tasks {
        let (worker, key) = (name(worker), unknown(task));
        let outcome = outcome(Verdict::Completed);
        let asked = Event::Finished { worker, link, key, revision: u64::MAX, outcome };
        w.fleet.observe(w.now, asked);
    }
    w.plan()
}

/// The reads while so much time passes. The leader answers each one at once if it `answers`, and has no
/// record.
fn reads_in(w: &mut World, time: Duration, answers: bool) -> usize {
    let (mut reads, until) = (0, w.now + time);
    while w.now < until {
        w.now = w.now + Duration::from_millis(10);
        let mut out = Vec::new();
        w.fleet.plan(w.now, &mut out);
        for effect in out {
            let Effect::ReadTask { task, read } = effect else { continue };
            reads += 1;
            if answers {
                w.fleet.observe(w.now, Event::TaskRead { task, read, found: None });
            }
        }
    }
    reads
}

fn count(lines: &[String], word: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(word)).count()
}

const ALL: u128 = INQUIRIES_MAX as u128;

#[test]
fn a_worker_that_asks_too_much_loses_its_link() {
    let mut w = linked();
    let lines = ask_all(&mut w, "w1", 11, 0..ALL);
    assert_eq!((count(&lines, "close"), count(&lines, "read")), (0, 64));
    check(ask(&mut w, "w1", 11, ALL), &["close link 11 of w1"]);
    check(ask(&mut w, "w1", 11, 0), &[]);
    w.join("w2", 2, 12, |_| ());
    check(ask(&mut w, "w2", 12, ALL), &[&format!("read t{ALL}")]);
}

#[test]
fn a_hello_asks_no_more_than_other_frames() {
    let mut w = linked();
    // This one has got past the bound of a `Hello`.
    let has: Vec<_> = (0..=ALL).map(unknown).collect();
    let lines = w.link("w1", 1, 12, &has);
    assert_eq!((count(&lines, "close link 12"), count(&lines, "read")), (1, 64), "{lines:?}");
}

#[test]
fn many_inquiries_of_a_worker_are_spread_over_time() {
    let mut w = linked();
    ask_all(&mut w, "w1", 11, 0..640);
    // 64 in half a second.
    let reads = reads_in(&mut w, SECOND * 10, false);
    assert!((1_200..=1_300).contains(&reads), "{reads}");
}

#[test]
fn inquiries_that_are_answered_at_once_are_spread_over_time_as_well() {
    let (mut w, mut reads) = (linked(), 0);
    for round in 0..100 {
        reads += count(&ask_all(&mut w, "w1", 11, round * 10..round * 10 + 10), "read");
        reads += reads_in(&mut w, Duration::from_millis(10), true);
    }
    assert!((180..=220).contains(&reads), "{reads} in a second");
}

#[test]
fn a_worker_that_asks_much_does_not_delay_the_inquiries_of_others() {
    let mut w = linked();
    w.fleet.config.server = None;
    w.join("w2", 2, 12, |_| ());
    ask_all(&mut w, "w1", 11, 0..256);
    check(ask(&mut w, "w2", 12, 255), &["read t255"]);
    for _ in 0..3 {
        let lines = w.pass(ASK_AGAIN);
        assert!(lines.contains(&"read t255".to_string()), "{lines:?}");
    }
}

#[test]
fn an_inquiry_that_is_repeated_is_read_once() {
    let mut w = linked();
    w.fleet.config.server = None;
    check(ask(&mut w, "w1", 11, 1), &["read t1"]);
    for _ in 0..50 {
        check(ask(&mut w, "w1", 11, 1), &[]);
        w.pass(Duration::from_millis(1));
    }
    let reads = reads_in(&mut w, SECOND * 5, false);
    assert!((9..=11).contains(&reads), "{reads}");
    check(w.read(1), &[]);
    w.pass(crate::limit::LEADER_LAG_MAX);
    check(w.read(1), &["link 11: refuse t1 A"]);
}

#[test]
fn answered_inquiries_make_room_for_others() {
    let mut w = linked();
    for round in 0..2 {
        let lines = ask_all(&mut w, "w1", 11, round << 64..(round << 64) + ALL);
        assert_eq!(count(&lines, "close"), 0, "{lines:?}");
        reads_in(&mut w, SECOND * 60, true);
    }
    w.empty();
}
