//! Who gets what: groups, selectors, memory, priorities, load.

use super::*;
use crate::{
    grant::ModuleRule,
    signature::{KeyId, Signature, SignatureParts},
};

fn give_all(w: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((&TaskId(id), _)) = w.writes.first_key_value() {
        lines.extend(w.ok(id));
    }
    lines.retain(|line| line.contains("dispatch"));
    lines
}

fn slots(count: u32) -> impl FnOnce(&mut Lease) {
    move |lease| lease.offer.slots = count
}

#[test]
fn the_least_loaded_worker_comes_first_by_attempts_per_slot() {
    let mut w = World::new();
    w.join("big", 1, 11, slots(4));
    w.join("small", 2, 22, slots(2));
    w.submit(1, (1..=7).map(|id| new_task(id, |_| ())).collect());
    let given: Vec<_> = (1..=6)
        .map(|id| w.writes[&TaskId(id)].1.attempt().expect("given").worker.clone())
        .collect();
    let given: Vec<_> = given.iter().map(WorkerId::as_str).collect();
    assert_eq!(given, ["big", "small", "big", "big", "small", "big"]);
    assert_eq!(w.writes[&TaskId(7)].1.state.word(), "queued", "nobody has more than its slots");
}

/// A worker may write any offer to the registry. Masters believe its certificate.
#[test]
fn a_worker_is_given_nothing_while_it_offers_more_than_its_certificate_permits() {
    let mut w = World::new();
    w.entitlement =
        Arc::new("muster:entitlement?group=default&slots=1".parse().expect("an entitlement"));
    w.join("w1", 1, 11, slots(2));
    check(w.run(1, |_| ()), &["reply 101: Stored(1)"]);
    let shown = &w.fleet.workers(None)[0];
    assert_eq!(shown.denied.as_deref(), Some("permits 1 slots, not 2"));
    // Another link shows another certificate of the same worker.
    w.entitlement = Arc::new(Entitlement::any());
    w.link("w1", 1, 12, &[]);
    assert_eq!(give_all(&mut w), ["link 12: dispatch t1 A"]);
    w.unlink("w1", 12);
    check(w.run(2, |_| ()), &["reply 102: Stored(1)"]);
    // A later session keeps to it.
    w.renews("w1", 3, slots(1));
    w.watch_lease("w1");
    w.link("w1", 3, 11, &[]);
    assert_eq!(w.fleet.workers(None)[0].denied, None);
}

#[test]
fn higher_priority_goes_first_and_then_the_earlier_submission() {
    let mut w = World::new();
    for (id, priority) in [(1, 50), (2, 10), (3, 50), (4, 90)] {
        w.now = w.now + SECOND;
        w.run(id, |spec| spec.priority = priority);
    }
    w.join("w1", 1, 11, slots(1));
    let mut order = Vec::new();
    while let Some(line) = give_all(&mut w).pop() {
        let letter = line.chars().last().expect("a letter");
        let id = line["link 11: dispatch t".len()..][..1].parse().expect("a task");
        order.push(id);
        let key = w.key(id, letter);
        w.finish("w1", 11, key, outcome(Verdict::Completed));
    }
    assert_eq!(order, [4, 1, 3, 2]);
    w.empty();
}

#[test]
fn a_task_that_lost_its_worker_goes_before_all_of_its_priority_that_were_never_begun() {
    let mut w = World::new();
    // It waits for the second worker, and was submitted first.
    w.run(2, |spec| spec.selector = [("disk".into(), "ssd".into())].into());
    w.now = w.now + SECOND;
    w.join("w1", 1, 11, slots(1));
    w.run(1, |_| ());
    w.run(3, |spec| spec.priority += 1);
    w.renews("w1", 1, |lease| lease.state = LeaseState::Lost);
    check(w.watch_lease("w1"), &["write t1@3: queued"]);
    w.ok(1);
    w.join("w2", 2, 22, |lease| {
        lease.offer.slots = 1;
        lease.offer.labels = [("disk".into(), "ssd".into())].into();
    });
    let mut order = Vec::new();
    while let Some(line) = give_all(&mut w).pop() {
        let letter = line.chars().last().expect("a letter");
        let id: u128 = line["link 22: dispatch t".len()..][..1].parse().expect("a task");
        order.push(id);
        let key = w.key(id, letter);
        w.finish("w2", 22, key, outcome(Verdict::Completed));
    }
    assert_eq!(order, [3, 1, 2]);
    w.empty();
}

#[test]
fn a_task_goes_only_where_group_labels_and_memory_fit() {
    type Change = fn(&mut TaskSpec);
    let cases: [(&str, Change, bool); 7] = [
        ("nothing asked", |_| (), true),
        ("its group", |spec| spec.group = "default".parse().expect("a name"), true),
        ("another group", |spec| spec.group = "other".parse().expect("a name"), false),
        ("a label it has", |spec| spec.selector = [("disk".into(), "ssd".into())].into(), true),
        ("another value", |spec| spec.selector = [("disk".into(), "tape".into())].into(), false),
        ("a label it lacks", |spec| spec.selector = [("gpu".into(), "1".into())].into(), false),
        ("more memory", |spec| spec.limits.memory_bytes = 1 << 30, false),
    ];
    for (what, change, fits) in cases {
        let mut w = World::new();
        w.join("w1", 1, 11, |lease| {
            lease.offer.labels = [("disk".into(), "ssd".into())].into();
            lease.offer.memory_bytes = (1 << 30) - 1;
        });
        w.submit(1, vec![new_task(1, change)]);
        assert_eq!(w.writes[&TaskId(1)].1.attempt().is_some(), fits, "{what}");
    }
}

#[test]
fn an_unwell_worker_comes_last_and_is_not_left_out() {
    let unwell = |lease: &mut Lease| {
        lease.offer.slots = 2;
        lease.unwell = Some("a disk is full".into());
    };
    let mut w = World::new();
    w.join("w1", 1, 11, unwell);
    w.join("w2", 2, 22, slots(2));
    w.submit(1, (1..=3).map(|id| new_task(id, |_| ())).collect());
    let links = |lines: Vec<String>| -> Vec<String> {
        lines.iter().filter_map(|line| line.split(':').next()).map(Into::into).collect()
    };
    assert_eq!(links(give_all(&mut w)), ["link 22", "link 22", "link 11"]);
    // Where it is the only one, it is tried again as often as any other.
    w.unlink("w2", 22);
    w.submit(2, vec![new_task(4, |_| ())]);
    assert_eq!(links(give_all(&mut w)), ["link 11"]);
    let key = w.key(4, 'D');
    w.finish("w1", 11, key, outcome(Verdict::Returned { reason: "no room".into() }));
    assert_eq!(links(give_all(&mut w)), ["link 11"]);
    // Well again, it is the least loaded.
    w.link("w2", 2, 23, &[w.key(1, 'A'), w.key(2, 'B')]);
    let key = w.key(4, 'E');
    w.finish("w1", 11, key, outcome(Verdict::Completed));
    w.ok(4);
    w.renews("w1", 1, slots(2));
    w.watch_lease("w1");
    let key = w.key(1, 'A');
    w.finish("w2", 23, key, outcome(Verdict::Completed));
    w.ok(1);
    w.renews("w2", 2, |lease| {
        lease.offer.slots = 1;
        lease.unwell = Some("a disk is full".into());
    });
    w.watch_lease("w2");
    w.submit(3, vec![new_task(5, |_| ())]);
    assert_eq!(links(give_all(&mut w)), ["link 11"]);
}

#[test]
fn a_class_that_fits_nowhere_blocks_nobody() {
    let mut w = World::new();
    for id in 1..=20 {
        w.run(id, |spec| {
            spec.priority = 100;
            spec.limits.memory_bytes = 1_000_000 + id as u64;
        });
    }
    w.run(50, |spec| spec.limits.memory_bytes = 1);
    w.join("w1", 1, 11, |lease| lease.offer.memory_bytes = 1_000);
    check(give_all(&mut w), &["link 11: dispatch t50 A"]);
    // One that has the memory gets the rest, in their order.
    w.join("w2", 2, 22, |lease| {
        lease.offer.memory_bytes = 2_000_000;
        lease.offer.slots = 2;
    });
    check(give_all(&mut w), &["link 22: dispatch t1 B", "link 22: dispatch t2 C"]);
}

#[test]
fn a_worker_holds_ahead_what_it_runs_in_20_ms_and_no_long_task() {
    for (run_us, held) in [(None, 2), (Some(40_000_000), 2), (Some(10_000), 6), (Some(1), 258)] {
        let mut w = World::new();
        w.join("w1", 1, 11, slots(2));
        if let Some(run_us) = run_us {
            w.run(999, |_| ());
            let key = w.key(999, 'A');
            let end = Outcome { run_us, ..Outcome::bare(Verdict::Completed) };
            w.finish("w1", 11, key, end);
            w.ok(999);
        }
        w.submit(1, (1..=300).map(|id| new_task(id, |_| ())).collect());
        let given = w.writes.values().filter(|(_, record)| record.attempt().is_some());
        assert_eq!(given.count(), held, "{run_us:?} µs");
    }
}

#[test]
fn a_worker_takes_what_was_placed_there_even_if_its_runs_take_longer_meanwhile() {
    let mut w = World::new();
    w.join("w1", 1, 11, slots(2));
    let end = |run_us| Outcome { run_us, ..Outcome::bare(Verdict::Completed) };
    for task in [998, 999] {
        w.run(task, |_| ());
    }
    let key = w.key(998, 'A');
    w.finish("w1", 11, key, end(1));
    w.ok(998);
    w.submit(1, (1..=300).map(|id| new_task(id, |_| ())).collect());
    let given = w.writes.values().filter(|(_, record)| record.attempt().is_some());
    assert_eq!(given.count(), 257, "one is there already");
    // Their writes are still under way when a run has taken long.
    let key = w.key(999, 'B');
    w.finish("w1", 11, key, end(40_000_000));
    give_all(&mut w);
    assert_eq!(w.held_max[&TaskId(1)], 258);
}

#[test]
fn what_was_cancelled_before_it_ran_does_not_make_a_worker_look_quick() {
    let mut w = World::new();
    w.join("w1", 1, 11, slots(1));
    w.run(1, |_| ());
    w.cancel(1, 1);
    w.ok(1);
    let key = w.key(1, 'A');
    w.finish("w1", 11, key, Outcome::bare(Verdict::Cancelled));
    w.ok(1);
    w.submit(2, (2..=9).map(|id| new_task(id, |_| ())).collect());
    let given = w.writes.values().filter(|(_, record)| record.attempt().is_some());
    assert_eq!(given.count(), 1);
}

#[test]
fn a_worker_gets_nothing_without_a_link_of_its_session_or_while_it_drains() {
    let mut w = World::new();
    w.join("w1", 1, 11, slots(1));
    w.unlink("w1", 11);
    w.run(1, |_| ());
    assert_eq!(w.tasks[&TaskId(1)].0.state.word(), "queued");
    check(w.link("w1", 7, 12, &[]), &[]);
    w.renews("w1", 1, |lease| lease.state = LeaseState::Draining);
    w.watch_lease("w1");
    check(w.link("w1", 1, 13, &[]), &[]);
    w.renews("w1", 1, |_| ());
    check(w.watch_lease("w1"), &["write t1@2: A at w1"]);
}

#[test]
fn a_worker_that_changes_its_group_gets_nothing_of_the_old_one() {
    for vanished in [false, true] {
        let mut w = World::new();
        w.join("w1", 1, 11, slots(1));
        if vanished {
            w.see(Event::LeaseGone(name("w1"), 99));
        }
        w.renews("w1", 1, |lease| lease.offer.group = "other".parse().expect("a name"));
        w.watch_lease("w1");
        check(w.submit(1, vec![new_task(1, |_| ())]), &["write t1@0: queued"]);
    }
}

#[test]
fn an_empty_group_is_told_of_once_and_again_after_it_had_a_worker() {
    let mut w = World::new();
    w.run(1, |spec| spec.limits.memory_bytes = 1 << 20);
    w.run(2, |_| ());
    assert_eq!(w.news(), ["group default empty"]);
    w.renews("w1", 1, |lease| lease.offer.memory_bytes = 1);
    w.watch_lease("w1");
    w.link("w1", 1, 11, &[]);
    w.news();
    w.unlink("w1", 11);
    w.run(3, |_| ());
    w.run(4, |_| ());
    assert_eq!(w.news(), ["group default empty"]);
}

#[test]
fn groups_are_forgotten_with_their_last_task() {
    let mut w = World::new();
    for id in 1..=50 {
        w.run(id, |spec| spec.group = format!("g{id}").parse().expect("a name"));
        w.cancel(1, id);
        w.ok(id);
    }
    assert!(w.fleet.scheduler.is_empty());
    w.empty();
}

#[test]
fn a_place_becomes_free_with_the_outcome_not_with_its_commit() {
    let mut w = World::new();
    w.join("w1", 1, 11, slots(1));
    w.run(1, |_| ());
    w.run(2, |_| ());
    let key = w.key(1, 'A');
    let lines = w.finish("w1", 11, key, outcome(Verdict::Completed));
    check(lines, &["write t1@2: completed", "write t2@3: B at w1"]);
}

#[test]
fn explanations_say_what_is_missing() {
    let mut w = World::new();
    let why = |w: &World, id| w.fleet.explain(w.now, &w.tasks[&TaskId(id)].0);
    w.run(1, |_| ());
    assert_eq!(
        why(&w, 1),
        "no worker of group default is connected to this master and takes new attempts"
    );
    w.join("w1", 1, 11, |lease| lease.offer.memory_bytes = 1);
    assert_eq!(
        why(&w, 1),
        "its limit of memory is 128 MiB, and workers of group default that have its labels give a run at most 0 MiB"
    );
    w.join("w2", 2, 22, slots(1));
    w.ok(1);
    assert_eq!(why(&w, 1), "given to worker w2");
    w.run(2, |_| ());
    assert_eq!(why(&w, 2), "all slots of the 1 workers of group default that fit are taken");
    w.unlink("w2", 22);
    assert_eq!(
        why(&w, 1),
        "given to worker w2, which is not connected; waiting for the end of its lease, at most another 4.5 s"
    );
    w.link("w2", 2, 23, &[w.key(1, 'A')]);
    w.cancel(1, 1);
    w.ok(1);
    assert_eq!(why(&w, 1), "being cancelled on worker w2");
    let key = w.key(1, 'A');
    w.finish("w2", 23, key, Outcome::bare(Verdict::Cancelled));
    w.ok(1);
    assert_eq!(why(&w, 1), "cancelled");
}

#[test]
fn a_task_goes_only_where_the_policy_grants_what_it_wants() {
    let wants_http = |spec: &mut TaskSpec| {
        Arc::make_mut(&mut spec.grants).http.insert("api.example.com".parse().expect("a rule"));
    };
    let mut w = World::new();
    w.join("closed", 1, 11, slots(8));
    w.run(1, wants_http);
    let record = w.tasks[&TaskId(1)].0.clone();
    assert_eq!(record.state.word(), "queued");
    let why = w.fleet.explain(w.now, &record);
    assert!(why.ends_with("the policy of closed does not allow HTTP to api.example.com"), "{why}");
    assert_eq!(w.fleet.denied(&record.spec).as_deref(), Some(&why[..]));
    w.run(2, |_| ());
    assert_eq!(w.tasks[&TaskId(2)].0.attempt().map(|a| a.worker.as_str()), Some("closed"));
    w.join("open", 2, 22, |lease| {
        Arc::make_mut(&mut lease.offer.policy)
            .http
            .insert("*.example.com".parse().expect("a rule"));
    });
    assert_eq!(give_all(&mut w), ["link 22: dispatch t1 B"]);
    assert_eq!(w.fleet.denied(&record.spec), None);
}

#[test]
fn a_task_goes_only_where_its_module_may_have_its_secret() {
    let has_secret = |digest: Digest| {
        move |lease: &mut Lease| {
            let policy = Arc::make_mut(&mut lease.offer.policy);
            policy.secrets.insert("KEY".into());
            let rule = ModuleRule { digests: [digest].into(), ..ModuleRule::default() };
            policy.secret_modules.insert("KEY".into(), rule);
        }
    };
    let asks = |spec: &mut TaskSpec| {
        Arc::make_mut(&mut spec.grants).secrets.insert("KEY".into());
    };
    let mut w = World::new();
    w.join("of-others", 1, 11, has_secret(Digest([9; 32])));
    w.run(1, asks);
    let record = w.tasks[&TaskId(1)].0.clone();
    assert_eq!(record.state.word(), "queued");
    let why = w.fleet.denied(&record.spec).expect("denied");
    assert!(
        why.contains("the policy of of-others keeps the secret KEY for other modules"),
        "{why}"
    );
    w.join("of-it", 2, 22, has_secret(record.spec.module.digest));
    assert_eq!(give_all(&mut w), ["link 22: dispatch t1 A"]);
}

#[test]
fn a_task_goes_only_where_its_module_is_signed_as_demanded() {
    let id = KeyId([1; 8]);
    let demands = |lease: &mut Lease| {
        Arc::make_mut(&mut lease.offer.policy).signers.insert(id);
    };
    let mut w = World::new();
    w.join("strict", 1, 11, demands);
    w.run(1, |_| ());
    let record = w.tasks[&TaskId(1)].0.clone();
    assert_eq!(record.state.word(), "queued");
    let why = w.fleet.explain(w.now, &record);
    assert!(why.contains("the policy of strict demands a module that is signed"), "{why}");
    w.run(2, |spec| {
        let parts = SignatureParts { of_bytes: [1; 64], comment: "", of_comment: [2; 64] };
        spec.signature = Signature::new(id, parts).ok();
    });
    assert_eq!(w.tasks[&TaskId(2)].0.attempt().map(|a| a.worker.as_str()), Some("strict"));
}

#[test]
fn nobody_denies_a_task_for_which_nobody_is_there() {
    let mut w = World::new();
    w.join("small", 1, 11, |lease| lease.offer.memory_bytes = 1);
    let task = new_task(1, |spec| Arc::make_mut(&mut spec.grants).random = true);
    assert_eq!(w.fleet.denied(&task.spec), None, "it does not fit anyway");
}

#[test]
fn a_task_waits_in_line_for_so_long_and_no_longer() {
    let mut w = World::new();
    w.run(1, |spec| spec.limits.queue_ms = 10_000);
    w.run(2, |_| ());
    w.pass(SECOND * 9);
    assert!(w.writes.is_empty());
    w.pass(SECOND * 2);
    let Some((_, ended)) = w.writes.get(&TaskId(1)) else { panic!("it has ended") };
    let TaskState::Done { outcome, .. } = &ended.state else { panic!("it has ended") };
    assert_eq!(outcome.verdict.reason(), "ended over its limit queue_ms of 10000");
    assert_eq!(w.writes.len(), 1, "the other waits on");
    w.ok(1);
    w.join("w1", 1, 11, slots(1));
    assert_eq!(give_all(&mut w), ["link 11: dispatch t2 A"]);
}

#[test]
fn a_task_that_was_given_out_in_time_has_left_the_line() {
    let mut w = World::new();
    w.run(1, |spec| spec.limits.queue_ms = 1_000);
    w.join("w1", 1, 11, slots(1));
    give_all(&mut w);
    let record = w.tasks[&TaskId(1)].0.clone();
    assert!(record.attempt().is_some());
    w.pass(SECOND * 2);
    assert!(w.writes.is_empty());
}

#[test]
fn a_worker_that_gains_a_secret_within_its_session_is_given_the_tasks_that_ask_for_it() {
    let asks = |spec: &mut TaskSpec| {
        Arc::make_mut(&mut spec.grants).secrets.insert("KEY".into());
    };
    let mut w = World::new();
    w.join("w1", 1, 11, slots(8));
    w.run(1, asks);
    assert_eq!(w.tasks[&TaskId(1)].0.state.word(), "queued");
    w.renews("w1", 1, |lease| {
        lease.offer.slots = 8;
        Arc::make_mut(&mut lease.offer.policy).secrets.insert("KEY".into());
    });
    w.watch_lease("w1");
    assert_eq!(give_all(&mut w), ["link 11: dispatch t1 A"]);
    w.renews("w1", 1, slots(8));
    w.watch_lease("w1");
    w.run(2, asks);
    assert_eq!(w.tasks[&TaskId(2)].0.state.word(), "queued", "it has lost it again");
    w.run(3, |_| ());
    assert_eq!(w.tasks[&TaskId(3)].0.state.word(), "dispatched", "and takes other tasks");
}
