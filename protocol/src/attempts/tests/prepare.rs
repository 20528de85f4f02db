//! Rows of what an attempt needs before it starts, and what happens where that cannot be got.

use super::*;

#[test]
fn what_could_not_be_got_is_tried_again_or_ends_the_attempt() {
    let missing = |for_good| Event::NotPrepared { key: key(1), for_good, reason: "why".into() };
    let mut d = Harness::new();
    d.told(1, dispatch(1));
    check(d.see(missing(false)), &[]);
    check(d.pass(PREPARE_AGAIN), &["prepare t1 by 1"]);
    check(d.see(missing(true)), &["link 1: t1 rejected"]);
    check(d.see(missing(true)), &[]);
}

#[test]
fn what_cannot_be_got_is_given_back_after_some_tries_with_the_reason() {
    let missing = || Event::NotPrepared { key: key(1), for_good: false, reason: "no room".into() };
    let mut d = Harness::new();
    d.told(1, dispatch(1));
    for _ in 1..PREPARES_MAX {
        check(d.see(missing()), &[]);
        check(d.pass(PREPARE_AGAIN), &["prepare t1 by 1"]);
        check(d.held(4), &[]);
    }
    check(d.see(missing()), &["drop t1", "link 1: t1 returned"]);
    let Phase::Ended { outcome, .. } = &d.attempts.attempts[&key(1)].phase else {
        panic!("it ended")
    };
    let reason = "given back: its worker could not prepare it 5 times in a row: no room";
    assert_eq!(outcome.verdict.reason(), reason);
    check(d.pass(SECOND * 2), &[]);
    check(d.told(1, ack(1)), &[]);
    d.empty();
}

#[test]
fn another_attempt_of_a_module_at_hand_starts_at_once() {
    let mut d = Harness::new();
    d.give(1);
    let ToWorker::Dispatch(mut same) = dispatch(2) else { unreachable!("a dispatch") };
    same.module = Digest([1; 32]);
    check(d.told(1, ToWorker::Dispatch(same)), &["start t2"]);
}
