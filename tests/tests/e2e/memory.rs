//! Guests that use all the memory that they may have, on a worker whose host has less than all of them
//! together: no guest costs another one its run, and a guest that kills its worker ends alone.

use muster_tests::{Fleet, fleet::text, net::Net, place};
use serde_json::Value;

/// The memory of the worker's host, in bytes. The worker keeps a quarter of it for itself.
const HOST: u64 = 512 << 20;

/// How long a harmless guest runs, in seconds: it still runs whenever a guest beside it has killed the
/// worker.
const NAP: u32 = 6;

/// A guest that touches all the memory that it may have, and then returns after about a second.
fn touches_all() -> Vec<u8> {
    command(
        "(loop $again
           (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then
             (call $touch (i32.sub (memory.size) (i32.const 1)))
             (br $again))))
         (call $nap)",
        "(func $touch (param $page i32) (local $at i32)
           (local.set $at (i32.mul (local.get $page) (i32.const 65536)))
           (loop $again
             (i32.store (local.get $at) (i32.const 1))
             (local.set $at (i32.add (local.get $at) (i32.const 4096)))
             (br_if $again (i32.and (local.get $at) (i32.const 65535)))))",
    )
}

/// A guest that harms nobody: it returns after so many seconds, about.
fn naps(seconds: u32) -> Vec<u8> {
    command(&"(call $nap)".repeat(seconds as usize), "")
}

/// A module whose `_start` is `body`. `$nap` computes for about a second.
fn command(body: &str, functions: &str) -> Vec<u8> {
    let frame = place::root().join("tests/hostile/frame/command.wat");
    let frame = std::fs::read_to_string(frame).expect("a file");
    // The clock's time, in nanoseconds, is stored at 64.
    let nap = "(func $nap (local $until i64)
        (drop (call $clock_time (i32.const 1) (i64.const 1) (i32.const 64)))
        (local.set $until (i64.add (i64.load (i32.const 64)) (i64.const 1000000000)))
        (loop $again
          (drop (call $clock_time (i32.const 1) (i64.const 1) (i32.const 64)))
          (br_if $again (i64.lt_u (i64.load (i32.const 64)) (local.get $until)))))";
    let body = format!("{functions} {nap} (func (export \"_start\") {body})");
    wat::parse_str(frame.replace("{body}", &body)).expect("Wasm text")
}

fn push(fleet: &Fleet, name: &str, bytes: &[u8]) {
    let file = fleet.path(&format!("{name}.wasm"));
    std::fs::write(&file, bytes).expect("a file");
    fleet.run(&["module", "push", text(&file), "--name", name]).ok();
}

fn submit(fleet: &Fleet, module: &str, memory: &str) -> String {
    fleet.run(&["task", "run", module, "--memory", memory]).ok().text()
}

/// The record of a task that has ended, and the word for its end.
fn end(fleet: &Fleet, task: &str) -> (Value, String) {
    let record = fleet.until("its end", task, |record| !record["state"]["done"].is_null());
    let verdict = &record["state"]["done"]["outcome"]["verdict"];
    let word = match verdict {
        Value::Object(verdict) => verdict.keys().next().cloned(),
        verdict => verdict.as_str().map(Into::into),
    };
    (record.clone(), word.unwrap_or_default())
}

/// A fleet whose only worker has more slots than its host has memory for.
fn small_host(options: &[&str]) -> Option<Fleet> {
    let mut fleet = Fleet::within(Net::Plain, Some("fast"));
    fleet.start_master("m1");
    if !fleet.start_worker_with_memory("w1", HOST, options) {
        eprintln!("not tested: a control group with a limit of memory cannot be made here");
        return None;
    }
    push(&fleet, "touches", &touches_all());
    push(&fleet, "naps", &naps(1));
    push(&fleet, "naps-long", &naps(NAP));
    Some(fleet)
}

#[test]
fn guests_that_together_want_more_memory_than_the_host_has_run_one_after_the_other() {
    let Some(fleet) = small_host(&["--slots", "6"]) else { return };
    let pid = fleet.child_pid("w1");
    // Together they have limits of 1,040 MiB.
    let greedy: Vec<_> = (0..4).map(|_| submit(&fleet, "touches", "256MiB")).collect();
    let harmless = submit(&fleet, "naps", "16MiB");
    for task in greedy.iter().chain([&harmless]) {
        let (record, end) = end(&fleet, task);
        assert_eq!((end.as_str(), &record["losses"]), ("completed", &0.into()), "{record}");
    }
    assert_eq!(fleet.child_pid("w1"), pid, "the worker did not restart");
    let never = submit(&fleet, "touches", "512MiB");
    let why = fleet.run(&["task", "get", &never]).ok().text();
    assert!(why.contains("at most 384 MiB"), "{why}");
}

#[test]
fn a_guest_that_kills_its_worker_ends_alone_and_the_one_beside_it_completes() {
    // The operator is wrong about the host: any run of the greedy guest kills the worker.
    let options = ["--slots", "2", "--memory-total-mib", "4096"];
    let Some(fleet) = small_host(&options) else { return };
    let greedy = submit(&fleet, "touches", "1GiB");
    let harmless = submit(&fleet, "naps-long", "16MiB");
    let (record, word) = end(&fleet, &greedy);
    assert_eq!((word.as_str(), &record["losses"]), ("lost", &5.into()), "{record}");
    let events = fleet.run(&["events", "--since", "1h"]).ok().text();
    assert!(events.contains("task.quarantined"), "{events}");
    let (calm, word) = end(&fleet, &harmless);
    assert_eq!((word.as_str(), &calm["losses"]), ("completed", &2.into()), "{calm}");
    let alone = |past: &&Value| past["alone"] == true;
    let history = record["history"].as_array().expect("its attempts");
    assert_eq!(history.iter().filter(alone).count(), 3, "{record}");
}
