//! Submissions of an id that is known already: the same task again, or another one that is refused.

use super::*;

#[test]
fn another_task_under_a_known_id_is_refused_whole() {
    let mut w = World::new();
    let other = |id| new_task(id, |spec| spec.args.push("x".into()));
    w.submit(1, vec![new_task(1, |_| ())]);
    check(
        w.submit(2, vec![new_task(2, |_| ()), other(1)]),
        &[r#"reply 2: Differs(00000000000000000000000001, "arguments")"#],
    );
    check(w.ok(1), &["reply 1: Stored(1)"]);
    check(
        w.submit(3, vec![other(1), new_task(2, |_| ())]),
        &[r#"reply 3: Differs(00000000000000000000000001, "arguments")"#],
    );
    assert!(w.writes.is_empty() && !w.tasks.contains_key(&TaskId(2)));
    check(w.submit(4, vec![new_task(2, |_| ())]), &["write t2@0: queued"]);
}

#[test]
fn another_task_under_the_id_of_one_that_is_over_is_refused_when_its_write_meets_it() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.run(1, |_| ());
    let key = w.key(1, 'A');
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    w.ok(1);
    w.news();
    w.submit(2, vec![new_task(1, |spec| spec.priority = 9), new_task(2, |_| ())]);
    let refusal = r#"reply 2: Differs(00000000000000000000000001, "priority")"#;
    check(w.ok(1), &[refusal]);
    let lines = w.ok(2);
    assert!(!lines.iter().any(|line| line.starts_with("reply")), "answered once: {lines:?}");
    assert!(w.tasks[&TaskId(1)].0.is_done() && w.tasks[&TaskId(1)].0.spec.priority != 9);
    assert_eq!(w.fleet.tasks_open(), 1, "the other of them runs");
    assert!(w.fleet.requests.is_empty());
}

#[test]
fn what_is_the_same_work_is_the_same_task_whoever_is_told() {
    let mut w = World::new();
    w.submit(1, vec![new_task(1, |spec| spec.batch = Some(crate::BatchId(5)))]);
    w.ok(1);
    let again = new_task(1, |spec| spec.module.name = Some("it:1".into()));
    check(w.submit(2, vec![again]), &["reply 2: Stored(1)"]);
}
