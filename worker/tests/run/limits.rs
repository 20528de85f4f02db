//! Tests that every limit ends a run under its name, and that the next run always has its space.

use super::{bench::*, guests::*};
use muster_protocol::task::{Data, LimitName, Verdict};
use std::time::Duration;

const PAGE: u64 = 65_536;

fn over(limit: LimitName, max: u64) -> Verdict {
    Verdict::OverLimit { limit: limit.into(), max }
}

#[test]
fn memory() {
    let grow = |after: &str| {
        format!(
            r#"(module (memory 1) (func (export "_start")
                (if (i32.eq (memory.grow (i32.const 9)) (i32.const -1)) (then {after}))))"#
        )
    };
    let limited = |pages: u64| {
        let mut order = run_spec("");
        order.limits.memory_bytes = pages * PAGE;
        order
    };
    assert_eq!(check(&grow("unreachable"), limited(10)).verdict(), &Verdict::Completed);
    let killed = over(LimitName::MemoryBytes, 9 * PAGE);
    assert_eq!(check(&grow("unreachable"), limited(9)).verdict(), &killed);
    assert_eq!(check(&grow(""), limited(9)).verdict(), &Verdict::Completed, "it did without");
    let large = r#"(module (memory 20) (func (export "_start")))"#;
    assert_eq!(check(large, limited(9)).verdict(), &killed, "too large to start");
    let own = r#"(module (memory 1 2) (func (export "_start")
        (drop (memory.grow (i32.const 2))) unreachable))"#;
    let seen = check(own, limited(9));
    assert!(matches!(seen.verdict(), Verdict::Trapped { .. }), "its own maximum: {:?}", seen.ended);
}

#[test]
fn all_memory_that_32_bits_can_name() {
    let mut order = run_spec("");
    order.limits.memory_bytes = muster_protocol::limit::MEMORY_MAX;
    let guest = r#"(module (memory 1) (func (export "_start")
        (if (i32.eq (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))
        (i32.store (i32.const -4) (i32.const 1))))"#;
    assert_eq!(check(guest, order).verdict(), &Verdict::Completed);
}

#[test]
fn output() {
    let mut exact = run_spec("12345");
    exact.limits.output_bytes = 5;
    assert_eq!(check(&echo(), exact).output(), "12345");
    let mut more = run_spec("123456");
    more.limits.output_bytes = 5;
    let seen = check(&echo(), more);
    assert_eq!((seen.verdict(), seen.output()), (&over(LimitName::OutputBytes, 5), ""));
}

#[test]
fn random_bytes_of_one_call() {
    let guest = |size: u32| {
        command(&format!(
            r#"(func (export "_start")
                (call $exit (call $random (i32.const 0) (i32.const {size}))))"#
        ))
    };
    assert_eq!(check(&guest(65_536), run_spec("")).verdict(), &Verdict::Completed);
    assert_ne!(check(&guest(65_537), run_spec("")).verdict(), &Verdict::Completed);
}

#[test]
fn a_deep_stack_leaves_room_for_host_calls() {
    // An overflow of the native stack in a host function would abort the whole worker.
    let guest = with_text("deep", "(call $down (i32.const 0))").replace(
        "(func (export",
        "(func $down (param i32)
            (call $say (i32.const 2) (i32.const 1024) (i32.const 4))
            (call $down (local.get 0)))
         (func (export",
    );
    let seen = check(&guest, run_spec(""));
    assert_eq!(seen.verdict(), &over(LimitName::StackBytes, 512 * 1024));
}

#[test]
fn nothing_of_a_run_is_left_for_the_next() {
    // The guest traps if a word in a page differs from the module's data, and then overwrites all of
    // these words. The first pages are cleared by writing, the others are returned to the kernel.
    let spoil = |data: &str, first: u32| {
        format!(
            r#"(module (memory 16) (data (i32.const 65536) "{data}")
                (func (export "_start") (local $at i32)
                    (if (i32.ne (i32.load8_u (i32.const 65536)) (i32.const {first}))
                        (then unreachable))
                    (i32.store8 (i32.const 65536) (i32.const 0))
                    (loop $again
                        (if (i32.load (local.get $at)) (then unreachable))
                        (i32.store (local.get $at) (i32.const 7))
                        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                        (br_if $again (i32.lt_u (local.get $at) (i32.const 1048576))))))"#
        )
    };
    let bench = Bench::new(1);
    on_threads(1, async move {
        let one = bench.compile(&spoil("A", 65));
        let other = bench.compile(&spoil("", 0));
        for program in [&one, &one, &other, &one, &other, &other, &one] {
            let seen = bench.run(program, run_spec(""), bench.gate()).await;
            assert_eq!(seen.verdict(), &Verdict::Completed);
        }
    });
}

/// A program that has as many memories as a run may have, and then waits.
fn largest() -> Vec<u8> {
    let text = r#"(component
        (core module $memory (memory 1))
        (core instance (instantiate $memory))
        (core instance (instantiate $memory))
        (core instance (instantiate $memory))
        (core instance (instantiate $memory))
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $pollable (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $outer))
            (export "pollable" (type $inner (eq $outer)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $inner))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $program
            (import "" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "" "block" (func $block (param i32)))
            (func (export "run") (result i32)
                (call $block (call $subscribe (i64.const 400000000)))
                (i32.const 0)))
        (core instance $instance (instantiate $program (with "" (instance
            (export "subscribe" (func $subscribe))
            (export "block" (func $block))))))
        (func $run (result (result)) (canon lift (core func $instance "run")))
        (instance $exports (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
    wat::parse_str(text).unwrap()
}

#[test]
fn as_many_of_the_largest_kind_as_there_are_slots() {
    const SLOTS: usize = 8;
    let bench = Bench::new(SLOTS as u32);
    on_threads(2, async move {
        let program = bench.engine.compile(&largest()).unwrap();
        let start = |count: usize| {
            let runs = (0..count).map(|_| {
                let (bench, program) = (bench.clone(), program.clone());
                tokio::spawn(async move { bench.run(&program, run_spec(""), bench.gate()).await })
            });
            futures::future::join_all(runs)
        };
        for seen in start(SLOTS).await {
            let seen = seen.unwrap();
            assert_eq!(seen.verdict(), &Verdict::Completed);
            assert!(seen.took < Duration::from_millis(790), "it waited for another's slot");
        }
        for seen in start(SLOTS + 1).await {
            assert_eq!(seen.unwrap().verdict(), &Verdict::Completed, "one too many waits");
        }
    });
}

#[test]
fn a_dropped_run_leaves_its_slot() {
    let bench = Bench::new(1);
    on_threads(1, async move {
        let waits = bench.compile(&sleep());
        let echoes = bench.compile(&echo());
        for _ in 0..3 {
            let dropped = bench.run(&waits, run_spec(""), bench.gate());
            tokio::time::timeout(Duration::from_millis(20), dropped).await.err().unwrap();
            let seen = bench.run(&echoes, run_spec("hello"), bench.gate()).await;
            assert_eq!(seen.outcome().output, Data::Inline("hello".into()));
        }
    });
}
