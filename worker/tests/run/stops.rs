//! Tests that a run ends when it must: at its time limit, at the end of the lease, or when its master
//! revokes it; whether the guest computes or waits, and without help from outside.

use super::{bench::*, guests::*};
use muster_protocol::{lease::KillReason, task::Verdict};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

/// The promise is 100 ms on a dedicated machine; the tests share theirs with others.
const SLACK: Duration = Duration::from_millis(250);

fn endless() -> [String; 3] {
    let talks = with_text(
        "again ",
        "(loop $again (call $say (i32.const 2) (i32.const 1024) (i32.const 6)) (br $again))",
    );
    [LOOP.into(), sleep(), talks]
}

#[test]
fn at_the_time_limit() {
    let limit = Duration::from_millis(300);
    for guest in endless() {
        let mut order = run_spec("");
        order.limits.timeout_ms = limit.as_millis() as u64;
        let seen = check(&guest, order);
        assert_eq!(seen.verdict(), &Verdict::TimedOut { limit_ms: 300 });
        assert!(seen.took >= limit && seen.took < limit + SLACK, "{:?}", seen.took);
    }
}

#[test]
fn at_the_end_of_the_lease_by_itself() {
    for guest in endless() {
        let bench = Bench::new(1);
        on_threads(1, async move {
            let program = bench.compile(&guest);
            let left = Duration::from_millis(200);
            bench.lease(left);
            let seen = bench.run(&program, run_spec(""), bench.gate()).await;
            assert_eq!(seen.killed(), KillReason::Fenced);
            assert!(seen.took < left + SLACK, "{:?}", seen.took);
            let seen = bench.run(&program, run_spec(""), bench.gate()).await;
            assert_eq!(seen.killed(), KillReason::Fenced, "it must not even begin");
            assert!(seen.took < Duration::from_millis(5) && seen.reports.is_empty());
        });
    }
}

#[test]
fn a_lease_renewed_in_time_goes_on() {
    for guest in endless() {
        let bench = Bench::new(1);
        let renewals = bench.clone();
        on_threads(2, async move {
            let program = bench.compile(&guest);
            bench.lease(Duration::from_millis(200));
            tokio::spawn(async move {
                for _ in 0..6 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    renewals.lease(Duration::from_millis(200));
                }
            });
            let seen = bench.run(&program, run_spec(""), bench.gate()).await;
            assert_eq!(seen.killed(), KillReason::Fenced);
            assert!(seen.took > Duration::from_millis(450), "{:?}", seen.took);
        });
    }
}

#[test]
fn at_a_word() {
    for guest in endless() {
        let bench = Bench::new(1);
        on_threads(1, async move {
            let program = bench.compile(&guest);
            let gate = bench.gate();
            let switch = gate.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                switch.kill(KillReason::Revoked);
            });
            let seen = bench.run(&program, run_spec(""), gate).await;
            assert_eq!(seen.killed(), KillReason::Revoked);
            assert!(seen.took < Duration::from_millis(100) + SLACK, "{:?}", seen.took);
        });
    }
}

#[test]
fn one_that_was_killed_before_it_began() {
    let bench = Bench::new(1);
    on_threads(1, async move {
        let program = bench.compile(NOOP);
        let gate = bench.gate();
        gate.kill(KillReason::Revoked);
        assert_eq!(bench.run(&program, run_spec(""), gate).await.killed(), KillReason::Revoked);
    });
}

#[test]
fn neighbours_on_the_same_thread_go_on() {
    let bench = Bench::new(4);
    on_threads(1, async move {
        let (looping, noop) = (bench.compile(LOOP), bench.compile(NOOP));
        let (over, finished) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let neighbour = {
            let (bench, over, finished) = (bench.clone(), over.clone(), finished.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let seen = bench.run(&noop, run_spec(""), bench.gate()).await;
                    assert_eq!(seen.verdict(), &Verdict::Completed);
                    finished.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        };
        let waiting = {
            let bench = bench.clone();
            tokio::spawn(async move {
                let program = bench.compile(&sleep());
                let mut order = run_spec("");
                order.limits.timeout_ms = 500;
                bench.run(&program, order, bench.gate()).await
            })
        };
        let mut order = run_spec("");
        order.limits.timeout_ms = 1_000;
        let seen = bench.run(&looping, order, bench.gate()).await;
        assert!(waiting.is_finished(), "its timer of half that time waited for the one that loops");
        over.store(true, Ordering::SeqCst);
        neighbour.await.unwrap();
        assert_eq!(seen.verdict(), &Verdict::TimedOut { limit_ms: 1_000 });
        let finished = finished.load(Ordering::SeqCst);
        assert!(finished > 0, "{finished} runs beside one that loops");
        assert_eq!(waiting.await.unwrap().verdict(), &Verdict::TimedOut { limit_ms: 500 });
    });
}

#[test]
fn hundreds_that_compute_end_together_without_help() {
    const GUESTS: u32 = 200;
    let bench = Bench::new(GUESTS);
    let late = on_threads(1, async move {
        let program = bench.compile(LOOP);
        // Each guest computes for a tick before the next one begins.
        let until = bench.lease(2 * GUESTS * muster_worker::engine::TICK);
        let runs: Vec<_> = (0..GUESTS)
            .map(|_| {
                let (bench, program) = (bench.clone(), program.clone());
                tokio::spawn(async move {
                    let seen = bench.run(&program, run_spec(""), bench.gate()).await;
                    (seen.killed(), muster_worker::clock::boottime())
                })
            })
            .collect();
        let mut late = Vec::new();
        for run in runs {
            let (reason, ended) = run.await.unwrap();
            assert_eq!(reason, KillReason::Fenced);
            late.push(ended.since(until));
        }
        late
    });
    let most = late.iter().max().unwrap();
    println!("{GUESTS} on one thread ended {most:?} after the lease");
    // If each guest computed for one more tick, this would take twice as long.
    assert!(*most < GUESTS * muster_worker::engine::TICK / 2, "{most:?}");
}
