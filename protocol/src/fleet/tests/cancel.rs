//! Cancelling: the wish is stored first, and the task ends once nothing of it runs.

use super::*;

fn running() -> (World, AttemptKey) {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.run(1, |_| ());
    let key = w.key(1, 'A');
    w.news();
    (w, key)
}

#[test]
fn a_queued_task_ends_at_once() {
    let mut w = World::new();
    w.run(1, |_| ());
    w.news();
    check(w.cancel(9, 1), &["write t1@1: cancelled"]);
    check(w.ok(1), &["tell t1: cancelled", "reply 9: CancelStored"]);
    assert_eq!(w.news(), ["task t1 cancelled"]);
    w.join("w1", 1, 11, |_| ());
    w.empty();
}

#[test]
fn a_task_that_waits_for_its_retry_ends_at_once() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.run(1, |spec| spec.retry.attempts_max = 2);
    let key = w.key(1, 'A');
    w.finish("w1", 11, key, failed());
    w.ok(1);
    check(w.cancel(9, 1), &["write t1@3: cancelled"]);
    w.ok(1);
    w.empty();
}

#[test]
fn a_dispatched_task_is_revoked_when_the_wish_is_stored_and_ends_when_its_worker_confirms() {
    let (mut w, key) = running();
    check(w.cancel(9, 1), &["write t1@2: A at w1, to be cancelled"]);
    check(w.ok(1), &["reply 9: CancelStored", "link 11: revoke t1 A"]);
    check(w.cancel(10, 1), &["reply 10: CancelStored"]);
    let lines = w.finish("w1", 11, key, Outcome::bare(Verdict::Cancelled));
    check(lines, &["write t1@3: cancelled"]);
    check(w.ok(1), &["tell t1: cancelled", "link 11: ack t1 A"]);
    w.empty();
}

#[test]
fn a_run_that_ended_before_the_revoke_reached_it_keeps_its_outcome_and_is_not_retried() {
    for (end, word) in [(outcome(Verdict::Completed), "completed"), (failed(), "failed")] {
        let mut w = World::new();
        w.join("w1", 1, 11, |_| ());
        w.run(1, |spec| spec.retry.attempts_max = 9);
        let key = w.key(1, 'A');
        w.cancel(9, 1);
        w.ok(1);
        check(w.finish("w1", 11, key, end), &[&format!("write t1@3: {word}")]);
    }
}

#[test]
fn a_wish_during_the_first_write_is_carried_out_after_it() {
    for slots in [0, 1] {
        let mut w = World::new();
        w.join("w1", 1, 11, |lease| lease.offer.slots = slots);
        w.submit(1, vec![new_task(1, |_| ())]);
        check(w.cancel(9, 1), &[]);
        let lines = w.ok(1);
        assert!(lines.iter().all(|line| !line.contains("dispatch")), "{lines:?}");
        w.ok(1);
        if slots == 1 {
            let key = w.key(1, 'A');
            w.finish("w1", 11, key, Outcome::bare(Verdict::Cancelled));
            w.ok(1);
        }
        assert_eq!(w.tasks[&TaskId(1)].0.state.word(), "cancelled");
        w.empty();
    }
}

#[test]
fn a_task_not_stored_yet_is_stored_as_cancelled_and_both_are_answered() {
    let mut w = World::unloaded();
    w.submit(1, vec![new_task(1, |_| ())]);
    w.cancel(9, 1);
    check(w.see(Event::Loaded(w.found())), &["write t1@0: cancelled"]);
    check(w.ok(1), &["tell t1: cancelled", "reply 1: Stored(1)", "reply 9: CancelStored"]);
    w.empty();
}

#[test]
fn a_task_of_a_lost_worker_ends_when_the_worker_is_over() {
    let (mut w, _) = running();
    w.unlink("w1", 11);
    check(w.cancel(9, 1), &["write t1@2: A at w1, to be cancelled"]);
    check(w.ok(1), &["reply 9: CancelStored"]);
    check(w.pass(WAIT), &["lease w1@1: Lost"]);
    check(w.lease_ok("w1"), &["write t1@3: cancelled"]);
    check(w.ok(1), &["tell t1: cancelled"]);
    w.empty();
}

#[test]
fn a_revoke_is_said_again_on_a_new_link() {
    let (mut w, key) = running();
    w.cancel(9, 1);
    w.ok(1);
    check(w.link("w1", 1, 12, &[key]), &["link 12: revoke t1 A"]);
    w.unlink("w1", 12);
    check(w.link("w1", 1, 13, &[]), &["link 13: revoke t1 A"]);
}

#[test]
fn a_wish_of_which_the_answer_is_lost_is_still_answered() {
    let (mut w, _) = running();
    w.cancel(9, 1);
    w.unsure(1, true);
    check(w.read(1), &["reply 9: CancelStored", "link 11: revoke t1 A"]);
}

#[test]
fn a_wish_for_a_task_that_ends_meanwhile_is_answered() {
    let (mut w, key) = running();
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    check(w.cancel(9, 1), &[]);
    check(w.ok(1), &["tell t1: completed", "reply 9: CancelStored", "link 11: ack t1 A"]);
    w.empty();
}

#[test]
fn a_task_that_is_not_known_is_said_to_be_so() {
    let mut w = World::new();
    let lines = w.cancel(9, 1);
    assert!(lines[0].starts_with("reply 9: Unavailable"), "{lines:?}");
}
