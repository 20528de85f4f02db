//! Memory: what is placed on a worker stays within what its runs may have together.

use super::*;

const MIB: u64 = 1 << 20;

fn offers(slots: u32, total_mib: Option<u64>) -> impl FnOnce(&mut Lease) {
    move |lease| {
        lease.offer.slots = slots;
        lease.offer.memory_total = total_mib.map(|total| total * MIB);
    }
}

/// The workers of the tasks with these limits, in MiB, submitted one after the other; `-` for those that
/// wait.
fn placed(w: &mut World, limits: &[u64]) -> String {
    let mut workers = Vec::new();
    for (id, limit) in (1..).zip(limits) {
        w.run(id, |spec| spec.limits.memory_bytes = limit * MIB);
        let record = &w.tasks[&TaskId(id)].0;
        let worker = record.attempt().map(|attempt| attempt.worker.to_string());
        workers.push(worker.unwrap_or_else(|| "-".into()));
    }
    workers.join(" ")
}

#[test]
fn attempts_on_a_worker_stay_within_its_memory() {
    let cases: [(u32, Option<u64>, &[u64], &str); 6] = [
        (4, None, &[4_000, 4_000, 4_000], "w1 w1 w1"),
        (4, Some(300), &[128, 128, 128], "w1 w1 -"),
        (4, Some(384), &[128, 128, 128, 1], "w1 w1 w1 -"),
        // A small one goes past one that does not fit.
        (4, Some(300), &[200, 128, 100], "w1 - w1"),
        // More than it has for all of them never fits.
        (4, Some(300), &[301, 300], "- w1"),
        (1, Some(300), &[300], "w1"),
    ];
    for (slots, total, limits, want) in cases {
        let mut w = World::new();
        w.join("w1", 1, 11, offers(slots, total));
        assert_eq!(placed(&mut w, limits), want, "{slots} slots, {total:?} MiB: {limits:?}");
    }
}

#[test]
fn a_more_loaded_worker_is_chosen_if_only_that_one_has_the_memory() {
    let mut w = World::new();
    w.join("w1", 1, 11, offers(8, Some(200)));
    w.join("w2", 2, 22, offers(8, Some(200)));
    // w1 has no memory left with one attempt; w2 has with three.
    assert_eq!(placed(&mut w, &[150, 30, 30, 100]), "w1 w2 w1 w2");
    let mut w = World::new();
    w.join("w1", 1, 11, offers(8, Some(200)));
    w.join("w2", 2, 22, offers(8, None));
    assert_eq!(placed(&mut w, &[200, 200, 1, 200]), "w1 w2 w2 w2");
}

#[test]
fn memory_becomes_free_with_the_outcome() {
    let mut w = World::new();
    w.join("w1", 1, 11, offers(4, Some(200)));
    assert_eq!(placed(&mut w, &[150, 100]), "w1 -");
    let key = w.key(1, 'A');
    let lines = w.finish("w1", 11, key, outcome(Verdict::Completed));
    check(lines, &["write t1@2: completed", "write t2@3: B at w1"]);
}

#[test]
fn attempts_that_wait_for_a_slot_need_no_memory() {
    let mut w = World::new();
    w.join("w1", 1, 11, offers(2, Some(256)));
    w.run(999, |_| ());
    let key = w.key(999, 'A');
    w.finish("w1", 11, key, Outcome { run_us: 10_000, ..Outcome::bare(Verdict::Completed) });
    w.ok(999);
    w.submit(1, (1..=9).map(|id| new_task(id, |_| ())).collect());
    let given = w.writes.values().filter(|(_, record)| record.attempt().is_some());
    assert_eq!(given.count(), 6, "two that run, and as many as end in 20 ms");
}

#[test]
fn only_a_run_whose_end_makes_enough_room_is_preempted() {
    for (victims, preempted) in [(vec![50, 150], "t2 B"), (vec![50, 50, 50, 50], "")] {
        let mut w = World::new();
        w.join("w1", 1, 11, offers(8, Some(200)));
        let count = victims.len() as u128;
        for (id, limit) in (1..).zip(victims) {
            w.run(id, |spec| {
                spec.priority = 10;
                spec.limits.memory_bytes = limit * MIB;
            });
        }
        let urgent = count + 1;
        w.submit(1, vec![new_task(urgent, |spec| spec.limits.memory_bytes = 100 * MIB)]);
        let lines = w.ok(urgent).join(", ");
        let want =
            if preempted.is_empty() { String::new() } else { format!("preempt {preempted}") };
        assert!(lines.contains(&want) && lines.contains("preempt") != want.is_empty(), "{lines}");
    }
}

#[test]
fn explanations_name_the_memory() {
    let mut w = World::new();
    w.join("w1", 1, 11, offers(4, Some(300)));
    w.join("w2", 2, 22, offers(1, Some(200)));
    assert_eq!(placed(&mut w, &[400, 200, 200, 200]), "- w1 w2 -");
    let why = |id| w.fleet.explain(w.now, &w.tasks[&TaskId(id)].0);
    assert_eq!(
        why(1),
        "its limit of memory is 400 MiB, and workers of group default that have its labels give a run at most 300 MiB"
    );
    assert_eq!(
        why(4),
        "the 2 workers of group default that fit have less than 200 MiB of memory left beside what runs there"
    );
}
