//! Memory and attempts that have to be alone: the worker starts nothing that would exceed what it has,
//! whatever masters send.

use super::*;

const MIB: u64 = 1 << 20;

fn needs(task: u128, memory_mib: u64, alone: bool) -> Event {
    let ToWorker::Dispatch(dispatch) = dispatch(task) else { panic!("a dispatch") };
    let limits = Limits { memory_bytes: memory_mib * MIB, ..dispatch.limits };
    Event::Received(1, ToWorker::Dispatch(Dispatch { limits, alone, ..dispatch }))
}

/// A worker with four slots and 300 MiB for all runs.
fn harness() -> Harness {
    let attempts = Attempts::new(4, "1".into()).within(300 * MIB);
    let mut harness = Harness { attempts, ..Harness::bare() };
    harness.see(Event::Linked(1, MASTER));
    harness.held(4);
    harness
}

/// Sends each and prepares it. Returns the tasks that run, and those that were returned.
fn sent(harness: &mut Harness, all: &[(u128, u64, bool)]) -> (String, String) {
    let (mut run, mut back) = (Vec::new(), Vec::new());
    for &(task, memory_mib, alone) in all {
        let mut lines = harness.see(needs(task, memory_mib, alone));
        lines.extend(harness.see(Event::Prepared(key(task))));
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        if has(&format!("start t{task}")) {
            run.push(task.to_string());
        }
        if has(&format!("t{task} returned")) {
            back.push(task.to_string());
        }
    }
    (run.join(" "), back.join(" "))
}

#[test]
fn what_would_exceed_the_memory_or_be_beside_one_that_is_alone_is_returned() {
    type Sent = (u128, u64, bool);
    let cases: [(&[Sent], &str, &str); 6] = [
        (&[(1, 128, false), (2, 128, false), (3, 128, false)], "1 2", "3"),
        (&[(1, 128, false), (2, 128, false), (3, 44, false)], "1 2 3", ""),
        (&[(1, 301, false), (2, 300, false)], "2", "1"),
        (&[(1, 1, true), (2, 1, false)], "1", "2"),
        (&[(1, 1, false), (2, 1, true)], "1", "2"),
        (&[(1, 1, true), (2, 1, true)], "1", "2"),
    ];
    for (all, run, back) in cases {
        let got = sent(&mut harness(), all);
        assert_eq!(got, (run.into(), back.into()), "{all:?}");
    }
}

#[test]
fn a_run_that_was_killed_counts_until_it_has_stopped() {
    for (memory_mib, alone) in [(200, false), (1, true)] {
        let mut harness = harness();
        sent(&mut harness, &[(1, 200, false)]);
        let revoke = ToWorker::Revoke { key: key(1), revision: 2 };
        harness.see(Event::Received(1, revoke));
        // The next one is taken, and waits. What comes after it does not overtake it.
        assert_eq!(sent(&mut harness, &[(2, memory_mib, alone)]), ("".into(), "".into()));
        let lines = harness.see(Event::Stopped(key(1)));
        assert!(lines.iter().any(|line| line.contains("start t2")), "{lines:?}");
    }
}

#[test]
fn one_that_waits_for_memory_is_not_overtaken() {
    let mut harness = harness();
    sent(&mut harness, &[(1, 200, false)]);
    harness.see(Event::Received(1, ToWorker::Revoke { key: key(1), revision: 2 }));
    assert_eq!(sent(&mut harness, &[(2, 200, false), (3, 50, false)]), ("".into(), "".into()));
    let lines = harness.see(Event::Stopped(key(1))).join(", ");
    assert!(lines.contains("start t2") && lines.contains("start t3"), "{lines}");
}

/// The end of a run that took so long.
fn ends_after(harness: &mut Harness, task: u128, run_us: u64) -> Vec<String> {
    let outcome = Outcome { run_us, ..completed() };
    harness.see(Event::Ended { key: key(task), outcome })
}

#[test]
fn attempts_that_wait_behind_long_runs_are_returned() {
    let mut d = Harness::new();
    d.held(60);
    (1..=2).for_each(|task| drop(d.give(task)));
    check(d.pass(SECOND * 10), &[]);
    check(d.give(3), &[]);
    check(d.pass(SECOND * 19 / 10), &[]);
    check(d.pass(SECOND / 10), &["drop t3", "link 1: t3 returned"]);
    // As long as runs end, the others wait.
    for task in 4..=5 {
        d.give(task);
    }
    check(d.pass(SECOND * 3 / 2), &[]);
    check(ends_after(&mut d, 1, 1), &["link 1: t1 completed", "start t4"]);
    check(d.pass(SECOND * 3 / 2), &[]);
    check(ends_after(&mut d, 2, 1), &["link 1: t2 completed", "start t5"]);
    check(d.pass(SECOND * 10), &[]);
}

#[test]
fn runs_beyond_the_slots_are_recalled_behind_long_ones() {
    let mut d = Harness::new();
    d.held(60);
    d.give(1);
    // A worker that expects short runs starts more than it has slots.
    ends_after(&mut d, 1, 100);
    for task in 2..=4 {
        d.give(task);
    }
    assert_eq!(d.attempts.running(), 3);
    check(d.pass(SECOND * 2), &["recall t2", "recall t3", "recall t4"]);
    assert!(!waited().is_of_run(), "its time is the wait");
    let waited = Event::Ended { key: key(3), outcome: waited() };
    check(d.see(waited), &["link 1: t3 returned"]);
    check(d.pass(SECOND * 10), &[]);
    // It expects longer runs now, and starts no more than it has slots.
    check(d.give(6), &[]);
}
