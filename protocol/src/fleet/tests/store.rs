//! Submissions, and what becomes of writes: nothing is sent before it is stored, nothing is
//! answered before it is stored, and no answer that the registry fails to give loses anything.

use super::*;

/// A task that is running as attempt A at w1, whose link is 11; its revision is 2.
fn running() -> (World, AttemptKey) {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.run(1, |_| ());
    let key = w.key(1, 'A');
    w.news();
    (w, key)
}

#[test]
fn with_a_free_slot_a_task_is_created_as_dispatched_and_ends_with_a_second_write() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    check(w.submit(1, vec![new_task(1, |_| ())]), &["write t1@0: A at w1"]);
    check(w.ok(1), &["reply 1: Stored(1)", "link 11: dispatch t1 A"]);
    let key = w.key(1, 'A');
    let end = w.finish("w1", 11, key, outcome(Verdict::Completed));
    check(end, &["write t1@2: completed"]);
    check(w.ok(1), &["tell t1: completed", "link 11: ack t1 A"]);
    assert_eq!(w.news(), ["task t1 dispatched", "task t1 completed"]);
    w.empty();
}

#[test]
fn without_a_slot_a_task_is_stored_as_queued_and_dispatched_when_one_comes() {
    let mut w = World::new();
    check(w.submit(1, vec![new_task(1, |_| ())]), &["write t1@0: queued"]);
    check(w.ok(1), &["reply 1: Stored(1)"]);
    w.renews("w1", 1, |_| ());
    check(w.watch_lease("w1"), &[]);
    check(w.link("w1", 1, 11, &[]), &["write t1@1: A at w1"]);
    check(w.ok(1), &["link 11: dispatch t1 A"]);
    let key = w.key(1, 'A');
    let end = w.finish("w1", 11, key, outcome(Verdict::Completed));
    check(end, &["write t1@3: completed"]);
    w.ok(1);
    w.empty();
}

#[test]
fn a_submission_is_answered_when_the_last_of_its_tasks_is_stored() {
    let mut w = World::new();
    let tasks = (1..=3).map(|id| new_task(id, |_| ())).collect();
    w.submit(1, tasks);
    check(w.ok(2), &[]);
    check(w.unsure(3, false), &["read t3"]);
    check(w.ok(1), &[]);
    check(w.read(3), &["write t3@0: queued"]);
    check(w.ok(3), &["reply 1: Stored(3)"]);
}

#[test]
fn a_repeated_submission_is_stored_once_and_answered_twice() {
    let mut w = World::new();
    w.submit(1, vec![new_task(1, |_| ()), new_task(2, |_| ())]);
    w.ok(1);
    check(w.submit(2, vec![new_task(1, |_| ()), new_task(2, |_| ())]), &[]);
    check(w.ok(2), &["reply 1: Stored(2)", "reply 2: Stored(2)"]);
    check(w.submit(3, vec![new_task(1, |_| ()), new_task(1, |_| ())]), &["reply 3: Stored(2)"]);
}

#[test]
fn a_submission_that_names_a_task_twice_is_answered_once() {
    let mut w = World::new();
    w.submit(1, vec![new_task(1, |_| ()), new_task(1, |_| ())]);
    check(w.ok(1), &["reply 1: Stored(2)"]);
}

#[test]
fn a_submission_repeated_after_the_end_finds_the_end_and_runs_nothing() {
    let (mut w, key) = running();
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    w.ok(1);
    w.news();
    check(w.submit(2, vec![new_task(1, |_| ())]), &["write t1@0: B at w1"]);
    check(w.ok(1), &["reply 2: Stored(1)"]);
    assert_eq!(w.news(), Vec::<String>::new());
    w.empty();
}

#[test]
fn nothing_is_written_while_the_registry_is_down() {
    let mut w = World::new();
    w.see(Event::RegistryDown);
    check(w.submit(1, vec![new_task(1, |_| ())]), &[]);
    assert_eq!(w.fleet.wakeup(), None);
    check(w.pass(SECOND * 60), &[]);
}

#[test]
fn nothing_is_decided_before_all_is_loaded() {
    let mut w = World::unloaded();
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    check(w.submit(1, vec![new_task(1, |_| ())]), &[]);
    check(w.pass(SECOND * 60), &[]);
    assert_eq!(w.fleet.wakeup(), None, "a loop would spin");
    check(w.see(Event::Loaded(w.found())), &["write t1@0: queued"]);
}

// For each kind of write: its answer is lost although it landed; it never landed; it lands late.

/// Brings a world to the point where task 1's next write is of some kind.
type Before = fn() -> World;

fn creating() -> World {
    let mut w = World::new();
    w.submit(1, vec![new_task(1, |_| ())]);
    w
}

fn creating_dispatched() -> World {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.submit(1, vec![new_task(1, |_| ())]);
    w
}

fn dispatching() -> World {
    let mut w = World::new();
    w.run(1, |_| ());
    w.join("w1", 1, 11, |_| ());
    w
}

fn concluding() -> World {
    let (mut w, key) = running();
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    w
}

fn retrying() -> World {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    w.run(1, |spec| spec.retry.attempts_max = 2);
    let key = w.key(1, 'A');
    w.finish("w1", 11, key, failed());
    w
}

fn cancelling() -> World {
    let (mut w, _) = running();
    w.cancel(9, 1);
    w
}

fn bereaving() -> World {
    let (mut w, _) = running();
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    w.watch_lease("w1");
    w
}

const KINDS: [(&str, Before); 7] = [
    ("create queued", creating),
    ("create dispatched", creating_dispatched),
    ("dispatch", dispatching),
    ("end", concluding),
    ("retry", retrying),
    ("cancel", cancelling),
    ("take from a lost worker", bereaving),
];

/// Carries out whatever is asked for until the task is over; the outcomes that were told.
fn play_out(w: &mut World) -> Vec<String> {
    let mut told = Vec::new();
    w.join("w2", 2, 22, |_| ());
    for _ in 0..20 {
        let mut lines = w.pass(SECOND);
        if w.writes.contains_key(&TaskId(1)) {
            lines.extend(w.ok(1));
        }
        lines.extend(w.watch(1));
        lines.extend(w.read(1));
        let held = w.tasks[&TaskId(1)].0.attempt().cloned();
        if let Some(attempt) = held {
            let link = if attempt.worker == name("w1") { 11 } else { 22 };
            let key = AttemptKey { task: TaskId(1), attempt: attempt.id };
            let verdict =
                if w.tasks[&TaskId(1)].0.cancel { Verdict::Cancelled } else { Verdict::Completed };
            lines.extend(w.finish(attempt.worker.as_str(), link, key, outcome(verdict)));
        }
        told.extend(lines.into_iter().filter(|line| line.starts_with("tell")));
    }
    w.empty();
    told
}

#[track_caller]
fn told_once(what: &str, mut w: World, before: Vec<String>) {
    let mut told: Vec<String> =
        before.into_iter().filter(|line| line.starts_with("tell")).collect();
    told.extend(play_out(&mut w));
    assert_eq!(told.len(), 1, "{what}: {told:?}");
    assert!(w.tasks[&TaskId(1)].0.is_done(), "{what}");
}

#[test]
fn a_write_whose_answer_was_lost_is_read_and_taken_for_what_it_came_to() {
    for (what, before) in KINDS {
        for landed in [false, true] {
            let mut w = before();
            check(w.unsure(1, landed), &["read t1"]);
            assert!(w.writes.is_empty(), "{what}: nothing is written before the read");
            let lines = w.read(1);
            let again = lines.iter().any(|line| line.starts_with("write t1"));
            if !landed {
                assert!(again, "{what}: {lines:?}");
            }
            told_once(what, w, lines);
        }
    }
}

#[test]
fn a_read_that_is_not_answered_is_asked_again() {
    for (what, before) in KINDS {
        let mut w = before();
        w.unsure(1, true);
        check(w.pass(ASK_AGAIN), &["read t1"]);
        check(w.pass(ASK_AGAIN), &["read t1"]);
        let lines = w.read(1);
        told_once(what, w, lines);
    }
}

#[test]
fn a_write_that_lands_late_makes_the_next_one_conflict_and_is_taken_for_the_truth() {
    for (what, before) in KINDS {
        let mut w = before();
        w.unsure(1, false);
        w.read(1);
        assert!(w.ghost(1), "{what}: it lands after the read and before the next write");
        let lines = w.ok(1);
        let sent = w.tasks[&TaskId(1)].0.attempt().map(|attempt| attempt.id);
        if let Some(line) = lines.iter().find(|line| line.contains("dispatch t1")) {
            let letter = line.chars().last().expect("a letter");
            assert_eq!(sent, Some(w.key(1, letter).attempt), "{what}: {line}");
        }
        told_once(what, w, lines);
    }
}

#[test]
fn a_write_that_lands_too_late_changes_nothing() {
    for (what, before) in KINDS {
        let mut w = before();
        w.unsure(1, false);
        w.read(1);
        let lines = w.ok(1);
        assert!(!w.ghost(1), "{what}");
        told_once(what, w, lines);
    }
}

#[test]
fn the_watch_may_be_quicker_than_the_answer_to_a_write() {
    for (what, before) in KINDS {
        for lost in [false, true] {
            let mut w = before();
            let task = TaskId(1);
            let (expect, record) = w.writes.remove(&task).expect("a write is under way");
            let answer = w.cas(expect, &record);
            let mut lines = w.watch(1);
            let answer = if lost { CasAnswer::Unknown } else { answer };
            lines.extend(w.see(Event::TaskWritten { task, answer }));
            lines.extend(w.read(1));
            told_once(what, w, lines);
        }
    }
}

#[test]
fn a_conflict_shows_what_another_master_wrote_and_that_counts() {
    // Another master has cancelled it meanwhile.
    for (what, before) in KINDS {
        let mut w = before();
        if w.tasks.contains_key(&TaskId(1)) {
            w.other_writes(1, |record| record.cancel = true);
            let lines = w.ok(1);
            told_once(what, w, lines);
        }
    }
}

#[test]
fn an_answer_older_than_what_the_watch_has_shown_does_not_turn_time_back() {
    let mut w = creating_dispatched();
    let task = TaskId(1);
    let (expect, record) = w.writes.remove(&task).expect("a write is under way");
    let answer = w.cas(expect, &record);
    w.other_writes(1, |record| {
        record.state = TaskState::Done {
            outcome: Arc::new(outcome(Verdict::Completed)),
            attempt: None,
            ended_at: WallMillis(0),
        };
    });
    w.watch(1);
    check(w.see(Event::TaskWritten { task, answer }), &[]);
    w.empty();
}

#[test]
fn a_read_answered_late_does_not_make_a_stored_task_unknown() {
    let mut w = creating();
    w.unsure(1, false);
    w.read(1);
    w.ok(1);
    // The leader was asked twice, and the first asking is answered now.
    check(w.see(Event::TaskRead { task: TaskId(1), read: 0, found: None }), &[]);
    assert_eq!(w.fleet.tasks_open(), 1);
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    check(w.link("w1", 1, 11, &[]), &["write t1@1: A at w1"]);
}

#[test]
fn a_removed_record_frees_its_worker_and_those_who_wait() {
    let (mut w, key) = running();
    w.cancel(9, 1);
    w.tasks.clear();
    check(w.ok(1), &["link 11: revoke t1 A", "reply 9: CancelStored"]);
    w.empty();
    check(w.finish("w1", 11, key, outcome(Verdict::Cancelled)), &["read t1"]);
    check(w.read(1), &["link 11: refuse t1 A"]);
}

#[test]
fn a_conflict_that_shows_nothing_new_is_asked_about_later() {
    let (mut w, key) = running();
    let (old, revision) = w.tasks[&TaskId(1)].clone();
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    w.writes.clear();
    let answer = CasAnswer::Conflict(Some((Box::new(old), revision)));
    check(w.see(Event::TaskWritten { task: TaskId(1), answer }), &[]);
    check(w.pass(ASK_AGAIN), &["read t1"]);
    check(w.read(1), &["write t1@2: completed"]);
}

#[test]
fn an_old_record_does_not_bring_a_finished_task_back() {
    let (mut w, key) = running();
    let (old, at) = w.tasks[&TaskId(1)].clone();
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    w.ok(1);
    check(w.see(Event::TaskSeen(Box::new(old), at)), &[]);
    w.empty();
    check(w.watch(1), &[]);
    w.empty();
    assert_eq!(format!("{:?}", w.fleet.tombstones), format!("{:?}", record::Tombstones::default()));
}

#[test]
fn no_more_writes_are_under_way_than_allowed_and_the_rest_follow() {
    let mut w = World::new();
    let count = limit::WRITES_MAX as u128 + 100;
    let lines = w.submit(1, (1..=count).map(|id| new_task(id, |_| ())).collect());
    assert_eq!(lines.len(), limit::WRITES_MAX);
    w.join("w1", 1, 11, |lease| lease.offer.slots = 50);
    let mut replies = 0;
    while let Some((&TaskId(id), _)) = w.writes.first_key_value() {
        let lines = w.ok(id);
        replies += lines.iter().filter(|line| line.starts_with("reply")).count();
        assert!(w.writes.len() <= limit::WRITES_MAX);
    }
    assert_eq!(replies, 1);
    assert_eq!(w.tasks.len() as u128, count);
    let dispatched = w.tasks.values().filter(|(record, _)| record.attempt().is_some()).count();
    assert_eq!(dispatched, 50);
}
