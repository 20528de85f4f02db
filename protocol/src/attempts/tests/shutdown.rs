//! The ends of leases, sessions and workers.

use super::*;
use crate::{Nonce, lease::Home, message::WorkerCommand};

#[test]
fn the_end_of_a_session_is_answered_by_quiet_once_and_only_when_nothing_runs() {
    let mut d = Harness::new();
    d.give(1);
    d.give(2);
    d.give(3);
    check(d.see(Event::SessionOver), &["kill t1: Fenced", "kill t2: Fenced", "drop t3"]);
    check(d.see(Event::Stopped(key(2))), &[]);
    check(d.pass(SECOND * 60), &[]);
    check(d.see(Event::Stopped(key(1))), &["quiet"]);
    check(d.see(Event::Stopped(key(1))), &[]);
    check(d.pass(SECOND), &[]);
    d.empty();
}

#[test]
fn a_session_that_ends_and_another_that_begins_in_one_breath_do_not_share_runs() {
    let mut d = Harness::new();
    d.give(1);
    let until = d.now + SECOND * 9;
    d.attempts.observe(d.now, Event::SessionOver);
    let lines = d.see(Event::LeaseHeld { session: SessionId(2), until });
    check(lines, &["link 1: hello of session 2 with [1]", "kill t1: Fenced"]);
    // The greeting spoke of a run that has stopped since.
    let lines = d.see(Event::Stopped(key(1)));
    check(lines, &["link 1: hello of session 2 with []", "quiet"]);
    // Late news of the old one does not bring it back.
    check(d.held(99), &[]);
    assert_eq!(d.attempts.session, Some(SessionId(2)));
}

#[test]
fn a_new_session_greets_on_every_link() {
    let mut d = Harness::bare();
    d.see(Event::Linked(1, MASTER));
    d.see(Event::Linked(2, MASTER));
    let both =
        |session| [1, 2].map(|link| format!("link {link}: hello of session {session} with []"));
    assert_eq!(d.held(4), both(1));
    check(d.held(5), &[]);
    d.see(Event::SessionOver);
    let until = d.now + SECOND * 4;
    assert_eq!(d.see(Event::LeaseHeld { session: SessionId(2), until }), both(2));
}

#[test]
fn attempts_dropped_in_a_session_that_goes_on_are_reported_once_their_runs_have_stopped() {
    let mut d = Harness::new();
    d.give(1);
    d.told(1, dispatch(2));
    check(d.pass(SECOND * 4), &["kill t1: Fenced", "drop t2"]);
    // The renewal was in time after all; its news was not.
    check(d.held(4), &[]);
    check(d.see(Event::Stopped(key(1))), &["link 1: hello of session 1 with []"]);
    check(d.pass(SECOND), &[]);
    check(d.held(4), &[]);
    // The masters send again what is missing.
    check(d.told(1, dispatch(1)), &["start t1"]);
}

#[test]
fn a_dispatch_that_overtakes_the_news_of_a_renewal_is_taken() {
    let mut d = Harness::new();
    d.pass(SECOND * 4);
    d.attempts.observe(d.now, Event::Received(1, dispatch(1)));
    check(d.held(4), &["prepare t1 by 1"]);
}

#[test]
fn a_worker_asked_to_stop_finishes_what_it_has_and_is_quiet_when_all_is_delivered() {
    let mut d = Harness::new();
    d.give(1);
    d.give(2);
    d.give(3);
    let deadline = d.now + SECOND * 3;
    let back = ["drop t3", "link 1: t3 returned"];
    check(d.see(Event::StopAsked { deadline }), &back);
    check(d.told(1, dispatch(4)), &["link 1: t4 returned"]);
    check(d.ended(1), &["link 1: t1 completed"]);
    d.ended(2);
    check(d.told(1, ack(4)), &[]);
    check(d.told(1, ack(1)), &[]);
    check(d.told(1, ack(2)), &[]);
    check(d.told(1, ack(3)), &["quiet"]);
    check(d.pass(SECOND * 9), &[]);
    d.empty();
}

#[test]
fn at_its_deadline_a_stopping_worker_kills_what_runs() {
    let mut d = Harness::new();
    d.give(1);
    d.give(2);
    let deadline = d.now + SECOND * 3;
    check(d.see(Event::StopAsked { deadline }), &[]);
    d.held(60);
    assert_eq!(d.attempts.wakeup(), Some(deadline));
    check(d.pass(SECOND * 3), &["kill t1: Stopping", "kill t2: Stopping"]);
    check(d.see(Event::Stopped(key(1))), &[]);
    // One that ended by itself meanwhile still counts.
    check(d.ended(2), &["link 1: t2 completed", "quiet"]);
}

#[test]
fn a_draining_worker_gives_back_what_waits_at_once_and_what_runs_at_its_deadline() {
    let mut d = Harness::new();
    d.held(60);
    for task in 1..=3 {
        d.give(task);
    }
    let drain = ToWorker::Command(WorkerCommand::Drain { deadline_ms: 3_000 });
    check(d.told(1, drain), &["drop t3", "stand draining", "link 1: t3 returned"]);
    check(d.told(1, dispatch(4)), &["link 1: t4 returned"]);
    let lines = d.pass(SECOND * 3);
    check(lines, &["kill t1: Drained", "kill t2: Drained"]);
    check(d.see(Event::Stopped(key(1))), &["link 1: t1 returned"]);
    let Phase::Ended { outcome, .. } = &d.attempts.attempts[&key(1)].phase else {
        panic!("it ended")
    };
    let reason = "given back: its worker drains, and the deadline of that was over";
    assert_eq!(outcome.verdict.reason(), reason, "nothing more urgent needed its place");
    check(d.ended(2), &["link 1: t2 completed"]);
    check(d.pass(SECOND), &[]);
    check(d.told(1, ToWorker::Command(WorkerCommand::Uncordon)), &["stand live"]);
    check(d.told(1, dispatch(5)), &["prepare t5 by 1"]);
}

#[test]
fn a_cordoned_worker_keeps_what_it_has_and_takes_nothing_new() {
    let mut d = Harness::new();
    d.give(1);
    d.give(2);
    d.give(3);
    check(d.told(1, ToWorker::Command(WorkerCommand::Cordon)), &["stand cordoned"]);
    check(d.told(1, dispatch(4)), &["link 1: t4 returned"]);
    check(d.ended(1), &["link 1: t1 completed", "start t3"]);
}

#[test]
fn a_run_makes_room_only_once_and_a_revocation_outweighs_that() {
    let mut d = Harness::new();
    d.give(1);
    d.give(2);
    d.give(3);
    check(d.told(1, ToWorker::Preempt { key: key(1), revision: 1 }), &["kill t1: Preempted"]);
    check(d.told(1, ToWorker::Preempt { key: key(1), revision: 1 }), &[]);
    check(
        d.told(1, ToWorker::Preempt { key: key(3), revision: 1 }),
        &["drop t3", "link 1: t3 returned"],
    );
    check(d.told(1, ToWorker::Revoke { key: key(1), revision: 1 }), &[]);
    check(d.see(Event::Stopped(key(1))), &["link 1: t1 cancelled"]);
}

#[test]
fn what_is_more_than_a_worker_may_hold_goes_back() {
    let mut d = Harness::new();
    d.give(1);
    let ToWorker::Dispatch(mut second) = dispatch(2) else { unreachable!("it is one") };
    second.held_max = 1;
    check(d.told(1, ToWorker::Dispatch(second)), &["link 1: t2 returned"]);
}

#[test]
fn a_master_that_begins_anew_hears_everything_again() {
    let mut d = Harness::new();
    d.give(1);
    d.give(2);
    d.ended(2);
    let master = Home { master: "m1".parse().expect("a name"), session: SessionId(9) };
    let welcome = ToWorker::Welcome {
        master,
        machine: Nonce(1),
        version: String::new(),
        frames: Default::default(),
    };
    check(d.told(1, welcome), &["link 1: hello of session 1 with [1, 2]", "link 1: t2 completed"]);
}

#[test]
fn an_outcome_that_nobody_takes_holds_a_stopping_worker_no_longer_than_its_deadline() {
    let mut d = Harness::new();
    d.give(1);
    d.ended(1);
    check(d.see(Event::StopAsked { deadline: d.now + SECOND }), &[]);
    check(d.pass(SECOND * 2), &["quiet"]);
    check(d.pass(SECOND * 60), &[]);
}

#[test]
fn a_worker_that_said_it_is_quiet_for_good_takes_nothing_though_its_lease_lasts() {
    let mut d = Harness::new();
    check(d.see(Event::StopAsked { deadline: d.now + SECOND }), &["quiet"]);
    check(d.told(1, dispatch(1)), &[]);
    check(d.held(9), &[]);
    check(d.told(1, dispatch(1)), &[]);
    d.empty();
}

#[test]
fn a_run_revoked_but_fenced_before_it_stopped_has_no_outcome() {
    let mut d = Harness::new();
    d.give(1);
    d.told(1, ToWorker::Revoke { key: key(1), revision: 1 });
    check(d.pass(SECOND * 4), &[]);
    check(d.see(Event::Stopped(key(1))), &[]);
    d.empty();
}
