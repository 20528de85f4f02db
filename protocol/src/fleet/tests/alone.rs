//! Suspects: tasks that were lost with their workers run alone, and only what was lost alone is given up.

use super::*;
use crate::task::KeptWorker;

fn slots(count: u32) -> impl FnOnce(&mut Lease) {
    move |lease| lease.offer.slots = count
}

/// Answers every write. Returns what was dispatched meanwhile.
fn settle(w: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((&TaskId(id), _)) = w.writes.first_key_value() {
        lines.extend(w.ok(id));
    }
    lines.retain(|line| line.contains("dispatch") || line.contains("preempt"));
    lines
}

/// A worker is lost in this session, with all that it has, and its link is down.
fn lose(w: &mut World, worker: &str, session: u64, link: LinkId) {
    w.renews(worker, session, |lease| lease.state = LeaseState::Lost);
    w.watch_lease(worker);
    settle(w);
    w.unlink(worker, link);
}

/// Tasks 1 to `tasks`, which were lost together with `w1` so often that they are suspects.
fn suspects(tasks: u128) -> World {
    let mut w = World::new();
    for id in 1..=tasks {
        w.run(id, |_| ());
    }
    for session in 1..=2 {
        w.join("w1", session, 11, slots(8));
        settle(&mut w);
        lose(&mut w, "w1", session, 11);
    }
    w
}

/// Two workers fall silent at the same time. The task of the first one is given to the second one, and is
/// lost again with it; it has caused neither.
#[test]
fn a_worker_that_was_silent_already_is_not_held_against_a_task() {
    let mut w = World::new();
    w.join("w1", 1, 11, slots(1));
    w.join("w2", 2, 22, slots(1));
    w.run(1, |_| ());
    settle(&mut w);
    assert_eq!(at(&w, 1), Some("w1"));
    w.pass(WAIT / 2);
    lose(&mut w, "w1", 1, 11);
    assert_eq!(at(&w, 1), Some("w2"));
    lose(&mut w, "w2", 2, 22);
    assert_eq!((record(&w, 1).losses, record(&w, 1).attempts), (1, 2));
    // One that went on for a while afterwards is another matter.
    w.join("w3", 3, 33, slots(1));
    settle(&mut w);
    w.pass(WAIT / 2);
    lose(&mut w, "w3", 3, 33);
    assert_eq!(record(&w, 1).losses, 2);
}

fn record(w: &World, id: u128) -> &TaskRecord {
    &w.tasks[&TaskId(id)].0
}

fn kept(w: &World, id: u128) -> Option<String> {
    record(w, id).kept().map(|kept| format!("{} {}", kept.worker, kept.session.0))
}

fn at(w: &World, id: u128) -> Option<&str> {
    record(w, id).attempt().map(|attempt| attempt.worker.as_str())
}

/// The key of the task's current attempt.
fn current(w: &World, id: u128) -> AttemptKey {
    let attempt = record(w, id).attempt().expect("it is dispatched").id;
    AttemptKey { task: TaskId(id), attempt }
}

fn completes(w: &mut World, worker: &str, link: LinkId, id: u128) -> Vec<String> {
    let key = current(w, id);
    let mut lines = w.finish(worker, link, key, outcome(Verdict::Completed));
    lines.retain(|line| line.contains("dispatch"));
    lines.extend(settle(w));
    lines
}

#[test]
fn a_task_that_was_lost_twice_runs_alone() {
    let mut w = suspects(2);
    // A task that was lost once is none.
    assert_eq!((record(&w, 1).losses, record(&w, 1).is_suspect()), (2, true));
    w.join("w1", 3, 11, slots(8));
    assert_eq!(settle(&mut w).len(), 1);
    assert_eq!((at(&w, 1), at(&w, 2)), (Some("w1"), None));
    assert!(record(&w, 1).attempt().is_some_and(|attempt| attempt.alone));
    w.run(3, |_| ());
    assert_eq!(at(&w, 3), None, "nothing is placed beside it");
    // The one that has had attempts goes first, and alone again.
    completes(&mut w, "w1", 11, 1);
    assert_eq!((at(&w, 2), at(&w, 3)), (Some("w1"), None));
    completes(&mut w, "w1", 11, 2);
    assert_eq!(at(&w, 3), Some("w1"));
    completes(&mut w, "w1", 11, 3);
    w.empty();
}

#[test]
fn what_a_worker_gave_back_makes_no_suspect() {
    let mut w = World::new();
    w.run(1, |_| ());
    w.run(2, |_| ());
    for session in 1..=3 {
        w.join("w1", session, 11, slots(8));
        settle(&mut w);
        assert_eq!((at(&w, 1), at(&w, 2)), (Some("w1"), Some("w1")), "both, each time");
        w.renews("w1", session, |lease| lease.state = LeaseState::Released);
        w.watch_lease("w1");
        settle(&mut w);
        w.unlink("w1", 11);
    }
}

#[test]
fn only_a_task_that_was_lost_alone_is_given_up() {
    // The killer kills whatever it runs on. The other one only ran beside it.
    let mut w = suspects(2);
    for session in 3..=5 {
        assert!(!record(&w, 1).is_done());
        w.join("w1", session, 11, slots(8));
        settle(&mut w);
        assert_eq!((at(&w, 1), at(&w, 2)), (Some("w1"), None));
        lose(&mut w, "w1", session, 11);
    }
    let TaskState::Done { outcome, .. } = &record(&w, 1).state else { panic!("it has ended") };
    assert_eq!(outcome.verdict, Verdict::Lost { workers: 5 });
    w.join("w1", 6, 11, slots(8));
    settle(&mut w);
    completes(&mut w, "w1", 11, 2);
    assert!(record(&w, 2).is_done());
    w.empty();
}

#[test]
fn losses_beside_others_never_end_a_task() {
    for (alone, losses_alone, ends) in
        [(false, 0, false), (false, 2, false), (true, 0, false), (true, 1, false), (true, 2, true)]
    {
        let mut w = World::new();
        w.join("w1", 1, 11, slots(8));
        w.run(1, |_| ());
        // Masters of an older version place suspects beside others.
        w.other_writes(1, |record| {
            (record.losses, record.losses_alone) = (9, losses_alone);
            let TaskState::Dispatched(attempt) = &mut record.state else { panic!("dispatched") };
            attempt.alone = alone;
        });
        w.watch(1);
        lose(&mut w, "w1", 1, 11);
        assert_eq!(record(&w, 1).is_done(), ends, "alone: {alone}, {losses_alone} times before");
    }
}

/// Two workers with two slots each, and on each a task that runs: 2 on `w2`, 3 on `w3`. Task 1 is a
/// suspect.
fn busy() -> World {
    let mut w = suspects(1);
    w.other_writes(1, |record| record.state = TaskState::queued_for(SECOND * 600));
    w.watch(1);
    w.join("w2", 2, 22, slots(2));
    w.run(2, |_| ());
    w.join("w3", 3, 33, slots(2));
    w.run(3, |_| ());
    assert_eq!((at(&w, 2), at(&w, 3)), (Some("w2"), Some("w3")));
    w.other_writes(1, |record| record.state = TaskState::queued_for(Duration::ZERO));
    w.watch(1);
    w
}

#[test]
fn a_worker_is_kept_free_for_a_suspect_that_finds_none() {
    let mut w = busy();
    settle(&mut w);
    assert_eq!(kept(&w, 1).as_deref(), Some("w2 2"));
    let why = w.fleet.explain(w.now, record(&w, 1));
    assert_eq!(
        why,
        "it was lost with its worker 2 times, so it has to run alone: worker w2 is kept free for it and still has 1 other attempts"
    );
    // However many tasks come, none gets there.
    for id in 4..=9 {
        w.run(id, |_| ());
        assert_ne!(at(&w, id), Some("w2"));
    }
    let given = completes(&mut w, "w2", 22, 2);
    assert_eq!((at(&w, 1), given.len()), (Some("w2"), 1), "{given:?}");
    completes(&mut w, "w2", 22, 1);
    assert!((5..=9).any(|id| at(&w, id) == Some("w2")), "it takes others again");
}

#[test]
fn a_suspect_takes_another_worker_that_is_empty_before() {
    let mut w = busy();
    settle(&mut w);
    completes(&mut w, "w3", 33, 3);
    assert_eq!(at(&w, 1), Some("w3"));
    w.run(4, |_| ());
    assert_eq!(at(&w, 4), Some("w2"), "it is not kept free any more");
}

#[test]
fn another_worker_is_kept_free_if_the_first_takes_nothing_any_more() {
    type Change = fn(&mut World);
    let changes: [(&str, Change, &str); 4] = [
        ("lost", |w| lose(w, "w2", 2, 22), "w3 3"),
        ("unlinked", |w| drop(w.unlink("w2", 22)), "w3 3"),
        (
            "cordoned",
            |w| {
                w.renews("w2", 2, |lease| {
                    lease.offer.slots = 2;
                    lease.state = LeaseState::Cordoned;
                });
                w.watch_lease("w2");
            },
            "w3 3",
        ),
        ("nothing", |_| (), "w2 2"),
    ];
    for (what, change, want) in changes {
        let mut w = busy();
        settle(&mut w);
        change(&mut w);
        settle(&mut w);
        assert_eq!(kept(&w, 1).as_deref(), Some(want), "{what}");
    }
}

#[test]
fn a_master_keeps_free_what_another_one_keeps() {
    let mut w = busy();
    settle(&mut w);
    let session = SessionId(3);
    w.other_writes(1, |record| {
        let kept = Some(KeptWorker { worker: name("w3"), session });
        record.state = TaskState::Queued { wait_ms: 0, kept };
    });
    w.watch(1);
    w.run(4, |_| ());
    assert_eq!(at(&w, 4), Some("w2"));
    // Only that session.
    lose(&mut w, "w3", 3, 33);
    w.join("w3", 4, 34, slots(2));
    settle(&mut w);
    assert!(at(&w, 1) == Some("w3") || at(&w, 3) == Some("w3"));
}

#[test]
fn a_worker_is_not_kept_for_a_write_that_is_refused() {
    let mut w = busy();
    w.other_writes(1, |record| record.cancel = true);
    w.ok(1);
    settle(&mut w);
    w.run(4, |_| ());
    assert_eq!(at(&w, 4), Some("w2"));
}

#[test]
fn a_restarted_master_keeps_the_worker_free_and_places_the_suspect() {
    let mut w = busy();
    settle(&mut w);
    w.restart();
    w.link("w2", 2, 24, &[current(&w, 2)]);
    w.link("w3", 3, 34, &[current(&w, 3)]);
    w.pass(WAIT * 3);
    for (worker, session) in [("w2", 2), ("w3", 3)] {
        w.renews(worker, session, slots(2));
        w.watch_lease(worker);
    }
    settle(&mut w);
    w.run(4, |_| ());
    assert_eq!(at(&w, 4), Some("w3"));
    completes(&mut w, "w2", 24, 2);
    assert_eq!(at(&w, 1), Some("w2"));
}

#[test]
fn an_urgent_suspect_preempts_on_the_worker_that_is_kept_free() {
    let mut w = suspects(1);
    w.other_writes(1, |record| {
        record.state = TaskState::queued_for(SECOND * 600);
        Arc::make_mut(&mut record.spec).priority = 90;
    });
    w.watch(1);
    w.join("w2", 2, 22, slots(3));
    w.run(2, |_| ());
    w.run(3, |_| ());
    w.other_writes(1, |record| record.state = TaskState::queued_for(Duration::ZERO));
    let mut stopped = w.watch(1);
    stopped.retain(|line| line.contains("preempt"));
    stopped.extend(settle(&mut w));
    assert_eq!(stopped.len(), 1, "one at a time: {stopped:?}");
    for id in [3, 2] {
        let key = current(&w, id);
        let reason = crate::attempts::PREEMPTED.into();
        w.finish("w2", 22, key, Outcome::bare(Verdict::Returned { reason }));
        settle(&mut w);
    }
    assert_eq!((at(&w, 1), at(&w, 2), at(&w, 3)), (Some("w2"), None, None));
}
