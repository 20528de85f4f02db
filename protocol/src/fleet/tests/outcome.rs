//! Ends of attempts: one counts, each is answered, and a retry waits.

use super::*;
use crate::task::{LimitName, Retry};

/// Task 1 runs as attempt A at w1, link 11, and may fail three times.
fn running() -> (World, AttemptKey) {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    let retry = Retry { attempts_max: 3, backoff_ms: 1_000, backoff_max_ms: 60_000 };
    w.run(1, |spec| spec.retry = retry);
    let key = w.key(1, 'A');
    w.news();
    (w, key)
}

#[test]
fn only_what_a_guest_might_do_better_is_retried() {
    let text = String::new;
    let cases = [
        (Verdict::Completed, false),
        (Verdict::Failed { code: 2, message: text() }, true),
        (Verdict::Trapped { message: text() }, true),
        (Verdict::TimedOut { limit_ms: 1 }, true),
        (Verdict::OverLimit { limit: LimitName::CpuMs.into(), max: 1 }, false),
        (Verdict::Rejected { message: text() }, false),
    ];
    for (verdict, again) in cases {
        let (mut w, key) = running();
        let word = verdict.word();
        let lines = w.finish("w1", 11, key, outcome(verdict));
        check(lines, &[&format!("write t1@2: {}", if again { "queued" } else { word })]);
    }
}

#[test]
fn a_retry_waits_longer_each_time_and_the_last_failure_ends_the_task() {
    let (mut w, mut key) = running();
    for (round, least, most) in [(1, 500, 1_000), (2, 1_000, 2_000)] {
        w.finish("w1", 11, key, failed());
        check(
            w.ok(1),
            &["link 11: ack t1 ".to_string() + if round == 1 { "A" } else { "B" }]
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        assert_eq!(w.news(), ["task t1 retried"]);
        let why = w.fleet.explain(w.now, &w.tasks[&TaskId(1)].0);
        assert!(why.starts_with("waits ") && why.ends_with(" s before its next attempt"), "{why}");
        w.renews("w1", 1, |_| ());
        w.watch_lease("w1");
        check(w.pass(Duration::from_millis(least - 1)), &[]);
        assert_eq!(w.pass(Duration::from_millis(most - least + 1)).len(), 1);
        w.ok(1);
        assert_eq!(w.news(), ["task t1 dispatched"], "it is no bad news");
        key = w.key(1, if round == 1 { 'B' } else { 'C' });
    }
    w.finish("w1", 11, key, failed());
    check(w.ok(1), &["tell t1: failed", "link 11: ack t1 C"]);
    let record = &w.tasks[&TaskId(1)].0;
    assert_eq!((record.attempts, record.failures, record.history.len()), (3, 3, 2));
    w.empty();
}

#[test]
fn an_outcome_reported_twice_is_committed_once_and_acknowledged() {
    let (mut w, key) = running();
    check(w.finish("w1", 11, key, outcome(Verdict::Completed)), &["write t1@2: completed"]);
    check(w.finish("w1", 11, key, outcome(Verdict::Completed)), &[]);
    check(w.ok(1), &["tell t1: completed", "link 11: ack t1 A"]);
    // Its answer was lost on the way, so the worker says it again.
    check(w.finish("w1", 11, key, outcome(Verdict::Completed)), &["read t1"]);
    check(w.read(1), &["link 11: ack t1 A"]);
    assert_eq!(w.news(), ["task t1 completed"]);
    w.empty();
}

#[test]
fn a_late_outcome_of_an_earlier_attempt_is_refused_and_told_so() {
    let (mut w, key) = running();
    w.join("w2", 2, 22, |_| ());
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    w.watch_lease("w1");
    w.ok(1);
    check(w.ok(1), &["link 22: dispatch t1 B"]);
    w.news();
    check(w.finish("w1", 11, key, outcome(Verdict::Completed)), &["read t1"]);
    check(w.read(1), &["link 11: refuse t1 A"]);
    assert_eq!(w.news(), ["task t1 refused"]);
    let current = w.key(1, 'B');
    let lines = w.finish("w2", 22, current, outcome(Verdict::Completed));
    assert!(lines[0].ends_with("completed"), "the current one still counts: {lines:?}");
}

#[test]
fn an_outcome_that_comes_while_its_attempt_is_taken_away_is_refused_or_counts_by_the_record() {
    let (mut w, key) = running();
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    check(w.watch_lease("w1"), &["write t1@2: queued"]);
    check(w.finish("w1", 11, key, outcome(Verdict::Completed)), &[]);
    // It did not land: the outcome is in time. It did: too late.
    let mut late = w.ok(1);
    late.retain(|line| line.starts_with("link"));
    check(late, &["link 11: refuse t1 A"]);
}

#[test]
fn an_earlier_outcome_repeated_does_not_loosen_the_current_attempt() {
    let (mut w, key) = running();
    w.finish("w1", 11, key, failed());
    w.ok(1);
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    w.pass(SECOND);
    w.ok(1);
    check(w.finish("w1", 11, key, failed()), &["read t1"]);
    check(w.read(1), &["link 11: ack t1 A"]);
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    let lines = w.watch_lease("w1");
    assert!(lines[0].ends_with("queued"), "its loss is noticed: {lines:?}");
}

#[test]
fn an_outcome_counts_only_from_the_worker_that_has_the_attempt() {
    let (mut w, key) = running();
    w.join("w2", 2, 22, |_| ());
    check(w.finish("w2", 22, key, outcome(Verdict::Completed)), &["read t1"]);
    check(w.read(1), &["link 22: refuse t1 A"]);
    check(w.link("w2", 2, 23, &[key]), &["read t1"]);
    check(w.read(1), &["link 23: revoke t1 A"]);
    check(w.pass(ASK_AGAIN), &[]);
}

#[test]
fn an_outcome_reaches_its_acknowledgement_over_a_new_link() {
    let (mut w, key) = running();
    check(w.finish("w1", 11, key, outcome(Verdict::Completed)), &["write t1@2: completed"]);
    w.unlink("w1", 11);
    check(w.ok(1), &["tell t1: completed"]);
    check(w.link("w1", 1, 12, &[key]), &["read t1"]);
    check(w.finish("w1", 12, key, outcome(Verdict::Completed)), &[]);
    check(w.read(1), &["read t1"]);
    check(w.read(1), &["link 12: ack t1 A"]);
    w.empty();
}

#[test]
fn a_worker_that_gives_everything_back_gets_nothing_for_a_while() {
    let mut w = World::new();
    w.join("w1", 1, 11, |lease| lease.offer.slots = 2);
    w.run(1, |_| ());
    let back = || Outcome::bare(Verdict::Returned { reason: "no processes".into() });
    for letter in ['A', 'B'] {
        w.finish("w1", 11, w.key(1, letter), back());
        w.ok(1);
        w.ok(1);
    }
    w.finish("w1", 11, w.key(1, 'C'), back());
    let wait = w.writes[&TaskId(1)].1.state.clone();
    assert!(
        matches!(wait, TaskState::Queued { wait_ms: 50, .. }),
        "it comes back for the same reason"
    );
    check(w.ok(1), &["link 11: ack t1 C"]);
    check(w.pass(SECOND / 2), &[]);
    w.join("w2", 2, 12, |_| ());
    assert!(w.writes[&TaskId(1)].1.attempt().is_some_and(|attempt| attempt.worker == name("w2")));
}

#[test]
fn a_read_that_began_before_an_outcome_came_does_not_refuse_it() {
    let (mut w, key) = running();
    let (record, _) = w.tasks[&TaskId(1)].clone();
    let stale = w.tasks.get(&TaskId(1)).cloned().map(|(record, at)| (Box::new(record), at));
    let stranger = AttemptKey { attempt: AttemptId(99), ..key };
    check(w.finish("w1", 11, stranger, failed()), &["read t1"]);
    let read = w.fleet.inquiries.latest_read();
    // Another master gives the task out again; its watch is late, and the outcome comes here.
    w.other_writes(1, |changed| {
        let TaskState::Dispatched(attempt) = &record.state else { unreachable!("it runs") };
        changed.state = TaskState::Dispatched(Attempt { id: AttemptId(77), ..attempt.clone() });
    });
    let second = AttemptKey { attempt: AttemptId(77), ..key };
    check(w.finish("w1", 11, second, outcome(Verdict::Completed)), &[]);
    let lines = w.see(Event::TaskRead { task: TaskId(1), read, found: stale });
    check(lines, &["link 11: refuse t1 B", "read t1"]);
    let lines = w.read(1);
    assert!(lines.iter().any(|line| line.ends_with("completed")), "{lines:?}");
}

#[test]
fn an_outcome_reported_after_a_reconnect_counts() {
    let (mut w, key) = running();
    w.unlink("w1", 11);
    check(w.link("w1", 1, 12, &[key]), &[]);
    check(w.finish("w1", 12, key, outcome(Verdict::Completed)), &["write t1@2: completed"]);
    check(w.ok(1), &["tell t1: completed", "link 12: ack t1 A"]);
}

#[test]
fn an_attempt_stopped_without_a_wish_to_cancel_is_followed_by_another() {
    let (mut w, key) = running();
    let lines = w.finish("w1", 11, key, Outcome::bare(Verdict::Cancelled));
    check(lines, &["write t1@2: queued"]);
    w.ok(1);
    assert_eq!(w.tasks[&TaskId(1)].0.failures, 0);
}

#[test]
fn records_are_kept_as_long_as_about_a_million_of_them_last() {
    let mut w = World::new();
    let keep = |w: &mut World, id| {
        w.fleet.observe(w.now, Event::Submitted { request: 1, tasks: vec![new_task(id, |_| ())] });
        w.fleet.observe(w.now, Event::CancelAsked { request: 1, task: TaskId(id) });
        let mut out = Vec::new();
        w.fleet.plan(w.now, &mut out);
        out.iter().find_map(|effect| match effect {
            Effect::WriteTask { keep, .. } => *keep,
            _ => None,
        })
    };
    assert_eq!(keep(&mut w, 1), Some(limit::RETENTION_MAX));
    for id in 2..1_000 {
        keep(&mut w, id);
    }
    assert_eq!(keep(&mut w, 1_000), Some(Duration::from_secs(1_000)), "1,000 in this second");
}

#[test]
fn a_refusal_that_arrives_late_does_not_make_a_record_vanish() {
    let (mut w, key) = running();
    w.fleet.config.server = None;
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    let task = TaskId(1);
    let refused = Event::TaskWritten { task, answer: CasAnswer::Conflict(None) };
    let again = |w: &mut World| {
        w.pass(ASK_AGAIN);
        w.see(Event::TaskRead { task, read: w.fleet.inquiries.latest_read(), found: None });
    };
    w.writes.remove(&task);
    check(w.see(refused.clone()), &[]);
    again(&mut w);
    // The leader refuses that one at once, and this master sleeps meanwhile.
    w.now = w.now + crate::limit::LEADER_LAG_MAX;
    w.writes.remove(&task);
    let (lines, gone) = (w.see(refused.clone()), "link 11: refuse t1 A".to_string());
    assert!(!lines.contains(&gone), "{lines:?}");
    again(&mut w);
    w.writes.remove(&task);
    assert!(w.see(refused).contains(&gone), "it was sent long after");
}

#[test]
fn a_leader_that_may_be_behind_does_not_make_a_record_vanish() {
    let (mut w, key) = running();
    w.fleet.config.server = None;
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    let task = TaskId(1);
    let refused = Event::TaskWritten { task, answer: CasAnswer::Conflict(None) };
    let end = w.now + crate::limit::LEADER_LAG_MAX;
    while w.now < end {
        w.writes.remove(&task);
        check(w.see(refused.clone()), &[]);
        w.renews("w1", 1, |_| ());
        w.watch_lease("w1");
        check(w.pass(ASK_AGAIN), &["read t1"]);
        let shown = Event::TaskRead { task, read: w.fleet.inquiries.latest_read(), found: None };
        assert_eq!(w.see(shown).len(), 1, "it is written again");
    }
    w.writes.remove(&task);
    check(w.see(refused), &["link 11: refuse t1 A"]);
}
