//! Who is lost, and when: nothing is taken from a worker before the registry says that it is over.

use super::*;
use crate::upgrade::ProgramReport;

const MS: Duration = Duration::from_millis(1);

/// Task 1 runs as attempt A at w1 in session 1; w2 stands by. The lease was seen now.
fn held(change: impl FnOnce(&mut TaskSpec)) -> World {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.run(1, change);
    w.join("w2", 2, 22, |_| ());
    w.news();
    w
}

/// w2 goes on renewing while time passes; what is said beyond that.
fn pass(w: &mut World, time: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(SECOND);
        lines.extend(w.pass(step));
        w.renews("w2", 2, |_| ());
        lines.extend(w.watch_lease("w2"));
        left -= step;
    }
    lines
}

/// The wait where a home is not known: as long as any may have extended, and then a lease.
fn homes_too() -> Duration {
    LeaseTiming::STANDARD.outage_wait() + WAIT
}

#[test]
fn a_worker_is_declared_after_the_wait_and_replaced_only_when_that_is_acknowledged() {
    let mut w = held(|_| ());
    check(pass(&mut w, WAIT - MS), &[]);
    check(pass(&mut w, MS), &["lease w1@1: Lost"]);
    check(pass(&mut w, SECOND * 9), &[]);
    check(w.lease_ok("w1"), &["write t1@2: queued"]);
    check(
        w.ok(1),
        &["write t1@".to_string() + &w.tasks[&TaskId(1)].1.to_string() + ": B at w2"]
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    check(w.ok(1), &["link 22: dispatch t1 B"]);
    assert_eq!(w.news(), ["worker w1 lost", "task t1 redispatched"]);
    let record = &w.tasks[&TaskId(1)].0;
    assert_eq!((record.losses, record.history.len(), record.attempts), (1, 1, 2));
}

#[test]
fn every_renewal_seen_begins_the_wait_again() {
    let mut w = held(|_| ());
    for _ in 0..9 {
        check(pass(&mut w, WAIT - MS), &[]);
        w.renews("w1", 1, |_| ());
        check(w.watch_lease("w1"), &[]);
    }
}

#[test]
fn a_lease_that_asks_for_a_longer_wait_gets_it_for_good() {
    let mut w = held(|_| ());
    w.renews("w1", 1, |lease| lease.master_wait_ms = 16_000);
    w.watch_lease("w1");
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    check(pass(&mut w, Duration::from_millis(15_999)), &[]);
    check(pass(&mut w, MS), &["lease w1@5: Lost"]);
}

#[test]
fn no_lease_makes_masters_wait_without_end() {
    for timing in [LeaseTiming::STANDARD, LeaseTiming::FAST, LeaseTiming::ROAMING] {
        assert!(timing.master() < limit::MASTER_WAIT_MAX, "{timing:?}");
    }
    let mut w = held(|_| ());
    w.renews("w1", 1, |lease| lease.master_wait_ms = u64::MAX);
    w.watch_lease("w1");
    check(pass(&mut w, limit::MASTER_WAIT_MAX - MS), &[]);
    check(pass(&mut w, MS), &["lease w1@4: Lost"]);
}

#[test]
fn nobody_is_declared_while_the_registry_is_down_or_has_just_come_back() {
    let mut w = held(|_| ());
    w.see(Event::RegistryDown);
    check(w.pass(SECOND * 60), &[]);
    w.restart();
    check(pass(&mut w, WAIT - MS), &[]);
    w.see(Event::RegistryDown);
    w.restart();
    check(pass(&mut w, WAIT - MS), &[]);
    check(pass(&mut w, MS), &["lease w1@1: Lost"]);
}

#[test]
fn a_renewal_that_the_declaration_meets_saves_the_worker() {
    let mut w = held(|_| ());
    pass(&mut w, WAIT);
    // It landed before the declaration, but the watch has not shown it.
    w.renews("w1", 1, |_| ());
    check(w.lease_ok("w1"), &[]);
    check(pass(&mut w, WAIT - MS), &[]);
    let (_, revision) = w.leases[&name("w1")];
    check(pass(&mut w, MS), &[&format!("lease w1@{revision}: Lost")]);
    check(w.lease_ok("w1"), &["write t1@2: queued"]);
}

#[test]
fn a_declaration_of_unknown_outcome_is_tried_again_and_takes_nothing_before_it_is_known() {
    for landed in [false, true] {
        let mut w = held(|_| ());
        pass(&mut w, WAIT);
        check(w.lease_unsure("w1", landed), &[]);
        check(pass(&mut w, ASK_AGAIN - MS), &[]);
        check(pass(&mut w, MS), &["lease w1@1: Lost"]);
        check(w.lease_ok("w1"), &["write t1@2: queued"]);
    }
}

#[test]
fn whatever_makes_the_master_look_at_a_task_takes_nothing_from_a_worker_not_yet_lost() {
    let mut w = held(|_| ());
    let key = w.key(1, 'A');
    w.unlink("w1", 11);
    let stir = |w: &mut World| {
        w.other_writes(1, |_| ());
        check(w.watch(1), &[]);
        check(w.link("w1", 1, 12, &[key]), &[]);
        check(w.unlink("w1", 12), &[]);
    };
    stir(&mut w);
    check(pass(&mut w, WAIT), &["lease w1@1: Lost"]);
    stir(&mut w);
    w.lease_unsure("w1", false);
    stir(&mut w);
    pass(&mut w, ASK_AGAIN);
    stir(&mut w);
    // A renewal was quicker: nothing is taken at all.
    w.renews("w1", 1, |_| ());
    check(w.lease_ok("w1"), &[]);
    stir(&mut w);
}

#[test]
fn any_master_that_sees_lost_may_act_at_once() {
    let mut w = held(|_| ());
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    check(w.watch_lease("w1"), &["write t1@2: queued"]);
}

#[test]
fn what_a_worker_that_left_had_is_given_out_at_once_and_is_no_loss() {
    let mut w = held(|_| ());
    w.renews("w1", 1, |lease| lease.state = LeaseState::Released);
    check(w.watch_lease("w1"), &["write t1@2: queued"]);
    w.ok(1);
    assert_eq!(w.tasks[&TaskId(1)].0.losses, 0);
    assert_eq!(w.tasks[&TaskId(1)].0.history[0].reason, "worker w1 left before it had ended");
}

#[test]
fn a_session_proven_over_by_the_next_is_over_at_once() {
    let mut w = held(|_| ());
    w.renews("w1", 5, |lease| lease.succeeds = vec![SessionId(1)]);
    check(w.watch_lease("w1"), &["write t1@2: queued"]);
}

#[test]
fn a_session_that_another_followed_without_proof_is_over_after_the_wait() {
    for proof in [vec![], vec![SessionId(99)]] {
        let mut w = held(|_| ());
        w.renews("w1", 5, |lease| lease.succeeds = proof.clone());
        check(w.watch_lease("w1"), &[]);
        check(w.link("w1", 5, 12, &[]), &[]);
        for _ in 0..64 {
            check(pass(&mut w, SECOND), &[]);
            w.renews("w1", 5, |lease| lease.succeeds = proof.clone());
            check(w.watch_lease("w1"), &[]);
        }
        check(pass(&mut w, homes_too() - SECOND * 64 - MS), &[]);
        check(pass(&mut w, MS), &["write t1@2: queued"]);
    }
}

#[test]
fn a_previous_session_is_not_over_while_the_registry_was_down_just_now() {
    let mut w = held(|_| ());
    w.renews("w1", 5, |_| ());
    w.watch_lease("w1");
    w.see(Event::RegistryDown);
    w.pass(SECOND * 60);
    w.restart();
    let rest = |w: &mut World, time| {
        let lines = pass(w, time);
        lines.into_iter().filter(|line| line.contains("t1")).collect::<Vec<_>>()
    };
    check(rest(&mut w, homes_too() - MS), &[]);
    check(rest(&mut w, MS), &["write t1@2: queued"]);
}

#[test]
fn an_attempt_of_a_session_not_seen_yet_is_not_taken_for_a_previous_one() {
    let mut w = held(|_| ());
    w.renews("w1", 5, |lease| lease.succeeds = vec![SessionId(1)]);
    // Another master has seen session 5 and given it task 2; the watch of leases is behind.
    let (_, at) = w.leases[&name("w1")];
    let mut record = w.tasks[&TaskId(1)].0.clone();
    record.id = TaskId(2);
    if let TaskState::Dispatched(attempt) = &mut record.state {
        attempt.session = SessionId(5);
        attempt.lease = at;
    }
    w.cas(ABSENT, &record);
    check(w.watch(2), &[]);
    let lines = pass(&mut w, WAIT * 5);
    assert!(lines.iter().all(|line| !line.contains("t2")), "{lines:?}");
}

#[test]
fn a_lease_that_vanished_is_replaced_by_lost_after_the_wait() {
    let mut w = held(|_| ());
    w.leases.remove(&name("w1"));
    check(w.see(Event::LeaseGone(name("w1"), ABSENT)), &[]);
    check(pass(&mut w, homes_too() - MS), &[]);
    check(pass(&mut w, MS), &["lease w1@0: Lost"]);
    assert_eq!(w.lease_writes[&name("w1")].1.session, SessionId(1));
    check(w.lease_ok("w1"), &["write t1@2: queued"]);
}

#[test]
fn a_worker_of_which_nothing_is_left_is_forgotten() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.unlink("w1", 11);
    w.see(Event::LeaseGone(name("w1"), ABSENT));
    w.pass(WAIT);
    assert!(w.fleet.workers.iter().count() == 0 && w.fleet.scheduler.is_empty());
    assert_eq!(w.fleet.timers.len(), 1, "only its own lease is left to it");
}

#[test]
fn a_worker_that_left_is_remembered_as_long_as_its_lease_is_kept() {
    let mut w = World::new();
    w.renews("w1", 1, |lease| lease.state = LeaseState::Released);
    w.watch_lease("w1");
    w.pass(WAIT);
    assert_eq!(w.fleet.workers.iter().count(), 1, "people can see it");
    w.now = w.now + crate::limit::LEASE_KEEP;
    w.plan();
    assert_eq!(w.fleet.workers.iter().count(), 0);
}

#[test]
fn the_record_of_a_worker_never_seen_is_taken_from_it_in_the_same_way() {
    let mut w = held(|_| ());
    w.leases.remove(&name("w1"));
    let lines = w.restart();
    check(lines, &[]);
    check(pass(&mut w, homes_too() - MS), &[]);
    check(pass(&mut w, MS), &["lease w1@0: Lost"]);
    check(w.lease_ok("w1"), &["write t1@2: queued"]);
}

#[test]
fn a_lease_first_seen_as_lost_does_not_hide_a_previous_session() {
    let mut w = held(|_| ());
    w.renews("w1", 5, |lease| lease.state = LeaseState::Lost);
    check(w.restart(), &[]);
    check(pass(&mut w, homes_too()), &["write t1@2: queued"]);
}

#[test]
fn a_late_view_of_an_older_lease_changes_nothing() {
    let mut w = held(|_| ());
    let (old, at) = w.leases[&name("w1")].clone();
    w.renews("w1", 1, |lease| lease.state = LeaseState::Draining);
    w.watch_lease("w1");
    w.see(Event::LeaseSeen(old, at));
    let view = w.fleet.workers(None);
    assert_eq!(view[0].lease.state, LeaseState::Draining);
}

#[test]
fn a_task_that_must_not_be_repeated_ends_with_its_worker() {
    let mut w = held(|spec| spec.on_worker_lost = OnWorkerLost::Fail);
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    check(w.watch_lease("w1"), &["write t1@2: lost"]);
    check(w.ok(1), &["tell t1: lost"]);
    assert_eq!(w.news(), ["worker w1 lost", "task t1 failed"]);
    w.empty();
}

#[test]
fn a_task_that_loses_five_workers_is_quarantined() {
    let mut w = World::new();
    w.run(1, |_| ());
    let most = limit::SUSPECT_AFTER + limit::LOST_ALONE_MAX;
    for round in 1..=most {
        w.join("w1", u64::from(round), 11, |_| ());
        w.ok(1);
        w.news();
        w.renews("w1", u64::from(round), |lease| lease.state = LeaseState::Lost);
        w.watch_lease("w1");
        let lines = w.ok(1);
        w.unlink("w1", 11);
        if round < most {
            check(lines, &[]);
        } else {
            check(lines, &["tell t1: lost"]);
        }
    }
    assert_eq!(w.news(), ["worker w1 lost", "task t1 quarantined", "task t1 failed"]);
    w.empty();
}

#[test]
fn a_renewal_through_a_master_is_the_same_compare_and_set_and_only_for_oneself() {
    let mut w = held(|_| ());
    let (lease, revision) = w.leases[&name("w1")].clone();
    let ask = |worker: &str, lease: &Lease| Event::RenewAsked {
        worker: name(worker),
        link: 11,
        expect: revision,
        lease: lease.clone(),
    };
    check(w.see(ask("w2", &lease)), &[]);
    check(w.see(ask("w1", &Lease { state: LeaseState::Lost, ..lease.clone() })), &[]);
    check(w.see(ask("w1", &lease)), &["lease w1@1: Live"]);
    let lines = w.lease_ok("w1");
    assert!(lines[0].starts_with("link 11: renewed Written"), "{lines:?}");
    // It counts as seen now.
    check(pass(&mut w, WAIT - MS), &[]);
    // After somebody declared it lost it does not land, and the worker is told what did.
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    w.see(ask("w1", &lease));
    let lines = w.lease_ok("w1");
    assert!(lines.iter().any(|line| line.starts_with("link 11: renewed Conflict")), "{lines:?}");
    assert!(lines.iter().any(|line| line == "write t1@2: queued"), "{lines:?}");
}

#[test]
fn a_worker_that_is_being_declared_is_given_nothing() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    check(w.pass(WAIT), &["lease w1@1: Lost"]);
    check(w.submit(1, vec![new_task(1, |_| ())]), &["write t1@0: queued"]);
}

#[test]
fn the_world_is_told_once_that_a_worker_is_unwell_and_once_that_it_is_well() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    let lacks = |w: &mut World, session, unwell: Option<&str>, standing| {
        w.renews("w1", session, |lease| {
            lease.unwell = unwell.map(Into::into);
            lease.state = standing;
        });
        w.watch_lease("w1");
        w.news()
    };
    let (live, none) = (LeaseState::Live, Vec::<String>::new());
    assert_eq!(lacks(&mut w, 1, Some("full"), live), ["worker w1 unwell"]);
    assert_eq!(lacks(&mut w, 1, Some("still full"), live), none);
    assert_eq!(lacks(&mut w, 1, None, live), ["worker w1 well"]);
    assert_eq!(lacks(&mut w, 1, None, live), none);
    assert_eq!(lacks(&mut w, 1, Some("full"), live), ["worker w1 unwell"]);
    assert_eq!(lacks(&mut w, 2, None, live), ["worker w1 joined", "worker w1 well"]);
    assert_eq!(lacks(&mut w, 2, Some("full"), live), ["worker w1 unwell"]);
    assert_eq!(lacks(&mut w, 2, Some("full"), LeaseState::Released), ["worker w1 left"]);
    assert_eq!(lacks(&mut w, 3, None, live), ["worker w1 joined"]);
}

#[test]
fn the_world_is_told_once_of_each_upgrade_that_was_carried_out_or_given_up() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    let mut says = |session, number, failed: Option<&str>| {
        w.renews("w1", session, |lease| {
            let failed = failed.map(Into::into);
            lease.program = Some(ProgramReport { number, failed, ..ProgramReport::default() });
        });
        w.watch_lease("w1");
        w.news()
    };
    let none = Vec::<String>::new();
    assert_eq!(says(1, 4, None), none, "nobody knows when that was");
    assert_eq!(says(1, 4, None), none);
    assert_eq!(says(2, 5, None), ["worker w1 joined", "worker w1 upgraded"]);
    assert_eq!(says(2, 5, None), none);
    assert_eq!(says(2, 6, Some("no link")), ["worker w1 upgrade_failed"]);
    assert_eq!(says(2, 6, Some("no link")), none);
}
