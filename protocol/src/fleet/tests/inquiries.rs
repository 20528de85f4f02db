//! Questions of workers about attempts that no master knows: how many a worker may ask, and how often
//! the registry is read for them.

use super::*;
use crate::limit::INQUIRIES_MAX;

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

/// The reads while so much time passes, and nothing is answered.
fn reads_in(w: &mut World, time: Duration) -> usize {
    let (mut reads, until) = (0, w.now + time);
    while w.now < until {
        let lines = w.pass(Duration::from_millis(50));
        reads += lines.iter().filter(|line| line.starts_with("read ")).count();
    }
    reads
}

#[test]
fn a_worker_that_asks_too_much_loses_its_link() {
    let mut w = linked();
    let over = INQUIRIES_MAX as u128;
    for task in 0..over {
        ask(&mut w, "w1", 11, task);
    }
    check(ask(&mut w, "w1", 11, over), &["close link 11 of w1"]);
    check(ask(&mut w, "w1", 11, 0), &[]);
    w.join("w2", 2, 12, |_| ());
    check(ask(&mut w, "w2", 12, over), &["read t2048"]);
}

#[test]
fn a_hello_asks_no_more_than_other_frames() {
    let mut w = linked();
    let has: Vec<_> = (0..=INQUIRIES_MAX as u128).map(unknown).collect();
    let lines = w.link("w1", 1, 12, &has);
    let reads = lines.iter().filter(|line| line.starts_with("read ")).count();
    assert_eq!((lines.len(), reads), (65, 64), "{lines:?}");
    assert!(lines.contains(&"close link 12 of w1".to_string()));
}

#[test]
fn many_questions_of_a_worker_are_spread_over_time() {
    let mut w = linked();
    for task in 0..640 {
        ask(&mut w, "w1", 11, task);
    }
    // 64 in half a second.
    let reads = reads_in(&mut w, SECOND * 10);
    assert!((900..=1_400).contains(&reads), "{reads}");
}

#[test]
fn a_question_that_is_repeated_is_read_once() {
    let mut w = linked();
    w.fleet.config.server = None;
    check(ask(&mut w, "w1", 11, 1), &["read t1"]);
    for _ in 0..50 {
        check(ask(&mut w, "w1", 11, 1), &[]);
        w.pass(Duration::from_millis(1));
    }
    let reads = reads_in(&mut w, SECOND * 5);
    assert!((9..=11).contains(&reads), "{reads}");
    check(w.read(1), &[]);
    w.pass(crate::limit::LEADER_LAG_MAX);
    check(w.read(1), &["link 11: refuse t1 A"]);
}

#[test]
fn answered_questions_make_room_for_others() {
    let mut w = linked();
    for round in 0..2 {
        for task in 0..INQUIRIES_MAX as u128 {
            let lines = ask(&mut w, "w1", 11, round << 64 | task);
            assert!(!lines.iter().any(|line| line.starts_with("close")), "{lines:?}");
        }
        w.pass(SECOND * 60);
        for task in 0..INQUIRIES_MAX as u128 {
            w.read(round << 64 | task);
        }
    }
    w.empty();
}
