//! A restarted master, and links that come and go: what runs is left alone, what was never heard
//! of is said again, what should not run is stopped.

use super::*;

/// Two tasks dispatched to w1 as A and B, one queued; then the master is replaced.
fn restarted() -> World {
    let mut w = World::new();
    w.join("w1", 1, 11, |lease| lease.offer.slots = 2);
    for id in 1..=3 {
        w.run(id, |_| ());
    }
    check(w.restart(), &[]);
    w.news();
    w
}

#[test]
fn what_the_worker_knows_is_left_alone_and_the_rest_is_sent_again() {
    let mut w = restarted();
    check(w.link("w1", 1, 12, &[w.key(1, 'A')]), &["link 12: dispatch t2 B"]);
    assert_eq!(w.news(), Vec::<String>::new(), "nothing happened to the world");
    let key = w.key(1, 'A');
    let lines = w.finish("w1", 12, key, outcome(Verdict::Completed));
    assert_eq!(lines.len(), 2, "its end is written, and task 3 takes its place: {lines:?}");
}

#[test]
fn a_worker_that_links_before_all_is_loaded_has_nothing_sent_that_it_knows() {
    let mut w = restarted();
    let keys = [w.key(1, 'A'), w.key(2, 'B')];
    let mut fresh = World::unloaded();
    core::mem::swap(&mut w.fleet, &mut fresh.fleet);
    check(w.link("w1", 1, 12, &keys), &[]);
    check(w.finish("w1", 12, keys[1], outcome(Verdict::Completed)), &[]);
    w.watch_lease("w1");
    for id in 1..=3 {
        check(w.watch(id), &[]);
    }
    let mut lines = w.see(Event::Loaded(w.found()));
    lines.retain(|line| !line.starts_with("write t3"));
    check(lines, &["write t2@3: completed"]);
}

#[test]
fn an_attempt_that_is_not_current_is_revoked_and_its_outcome_refused() {
    let mut w = restarted();
    let stranger = AttemptKey { task: TaskId(1), attempt: AttemptId(4) };
    let unknown = AttemptKey { task: TaskId(77), attempt: AttemptId(5) };
    let known = [w.key(1, 'A'), w.key(2, 'B'), stranger, unknown];
    check(w.link("w1", 1, 12, &known), &["read t1", "read t77"]);
    check(w.read(1), &["link 12: revoke t1 C"]);
    check(w.read(77), &["link 12: revoke t77 D"]);
    check(w.finish("w1", 12, unknown, Outcome::bare(Verdict::Cancelled)), &["read t77"]);
    check(w.read(77), &["link 12: refuse t77 D"]);
}

#[test]
fn a_question_about_an_attempt_is_asked_until_it_is_answered_and_kept_once() {
    let mut w = restarted();
    let unknown = AttemptKey { task: TaskId(77), attempt: AttemptId(5) };
    check(w.link("w1", 1, 12, &[w.key(1, 'A'), w.key(2, 'B'), unknown]), &["read t77"]);
    check(w.pass(ASK_AGAIN), &["read t77"]);
    w.unlink("w1", 12);
    check(w.link("w1", 1, 13, &[w.key(1, 'A'), w.key(2, 'B'), unknown]), &[]);
    check(w.finish("w1", 13, unknown, failed()), &[]);
    check(w.read(77), &["read t77"]);
    check(w.read(77), &["link 13: refuse t77 C"]);
    check(w.pass(ASK_AGAIN), &[]);
}

#[test]
fn a_record_that_only_the_leader_has_is_taken_up_when_its_worker_speaks_of_it() {
    let mut w = restarted();
    let (mut record, _) = w.tasks[&TaskId(1)].clone();
    record.id = TaskId(50);
    w.cas(ABSENT, &record);
    let key = AttemptKey { task: TaskId(50), attempt: w.key(1, 'A').attempt };
    check(w.link("w1", 1, 12, &[w.key(1, 'A'), w.key(2, 'B'), key]), &["read t50"]);
    check(w.read(50), &[]);
    check(w.finish("w1", 12, key, outcome(Verdict::Completed)), &["write t50@5: completed"]);
}

#[test]
fn a_new_session_is_not_sent_what_an_earlier_one_had() {
    let mut w = restarted();
    w.renews("w1", 2, |_| ());
    w.watch_lease("w1");
    let lines = w.link("w1", 2, 12, &[]);
    assert!(lines.iter().all(|line| !line.contains("dispatch")), "{lines:?}");
}

#[test]
fn an_older_link_that_goes_down_late_does_not_take_the_newer_with_it() {
    let mut w = restarted();
    let keys = [w.key(1, 'A'), w.key(2, 'B')];
    w.link("w1", 1, 12, &keys);
    w.link("w1", 1, 13, &keys);
    w.unlink("w1", 12);
    assert!(w.fleet.workers(None)[0].linked);
    w.cancel(1, 1);
    check(w.ok(1), &["reply 1: CancelStored", "link 13: revoke t1 A"]);
}

#[test]
fn greetings_on_two_links_may_come_in_any_order_and_either_link_may_stay() {
    for (first, last) in [(12, 13), (13, 12)] {
        for cut in [12, 13] {
            let mut w = restarted();
            let keys = [w.key(1, 'A'), w.key(2, 'B')];
            check(w.link("w1", 1, first, &keys), &[]);
            check(w.link("w1", 1, last, &keys), &[]);
            let left = 25 - cut;
            let mut lines = w.unlink("w1", cut);
            // Those that were known of on the link that is gone are said again, to be sure.
            lines.retain(|line| !line.starts_with(&format!("link {left}: dispatch")));
            check(lines, &[]);
            assert!(w.fleet.workers(None)[0].linked);
            let lines = w.finish("w1", left, keys[0], outcome(Verdict::Completed));
            check(lines, &["write t1@2: completed", "write t3@4: C at w1"]);
            let dispatched = format!("link {left}: dispatch t3 C");
            check(w.ok(3), &[&dispatched]);
        }
    }
}

#[test]
fn an_outcome_is_answered_on_the_link_on_which_it_came() {
    let mut w = restarted();
    let keys = [w.key(1, 'A'), w.key(2, 'B')];
    w.link("w1", 1, 12, &keys);
    w.link("w1", 1, 13, &keys);
    w.finish("w1", 12, keys[0], outcome(Verdict::Completed));
    check(w.ok(1), &["tell t1: completed", "link 12: ack t1 A"]);
    w.finish("w1", 13, keys[1], outcome(Verdict::Completed));
    w.unlink("w1", 13);
    check(w.ok(2), &["tell t2: completed", "link 12: ack t2 B"]);
}

#[test]
fn a_master_that_saw_a_worker_lost_by_another_takes_up_its_tasks() {
    let mut w = restarted();
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    w.other_writes(1, |record| record.state = TaskState::queued_for(Duration::ZERO));
    // The other master has begun; the watches come in any order.
    check(w.watch(1), &[]);
    check(w.watch_lease("w1"), &["write t2@3: queued"]);
}

#[test]
fn the_same_facts_give_the_same_plan() {
    let play = || {
        let mut w = restarted();
        let mut lines = w.link("w1", 1, 12, &[w.key(1, 'A')]);
        lines.extend(w.pass(WAIT));
        format!("{lines:?} {:?}", w.fleet)
    };
    assert_eq!(play(), play());
}
