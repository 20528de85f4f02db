//! Tests of guests of the SDK's world.

use super::{bench::*, guests::task};
use muster_protocol::{
    lease::KillReason,
    limit,
    message::LogSource,
    task::{LimitName, Verdict},
};
use muster_worker::run::RunSpec;
use std::{sync::atomic::Ordering, time::Duration};

/// Compiles and runs a guest of the SDK.
fn check_task(run: &'static str, order: muster_worker::run::RunSpec) -> Seen {
    let bench = Bench::new(1);
    bench.draining.store(true, Ordering::SeqCst);
    on_threads(1, async move {
        let program = bench.engine.compile(&task(run)).unwrap();
        bench.run(&program, order, bench.gate()).await
    })
}

#[test]
fn a_result_is_the_output() {
    let echo = "(call $result (i32.const 0) (local.get $at) (local.get $size))";
    let seen = check_task(echo, run_spec("hello"));
    assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, "hello"));
    let mut order = run_spec("hello");
    order.limits.output_bytes = 4;
    let seen = check_task(echo, order);
    let over = Verdict::OverLimit { limit: LimitName::OutputBytes.into(), max: 4 };
    assert_eq!((seen.verdict(), seen.output()), (&over, ""));
}

#[test]
fn an_error_is_a_failure_in_its_own_words() {
    let fails = "(call $result (i32.const 1) (local.get $at) (local.get $size))";
    let failed = |message: &str| Verdict::Failed { code: 1, message: message.into() };
    assert_eq!(check_task(fails, run_spec("no such cat")).verdict(), &failed("no such cat"));
    let long = "x".repeat(limit::MESSAGE_SIZE_MAX + 1);
    assert_eq!(check_task(fails, run_spec(&long)).verdict(), &failed(&long[1..]));
}

#[test]
fn a_guest_knows_who_it_is() {
    // Each guest returns one field of the record: the record has the address and the length of its
    // bytes.
    let part = |field: &'static str| check_task(field, run_spec("")).output().to_string();
    let text = |at: u32| {
        format!(
            "(call $context (i32.const 256)) (call $result (i32.const 0)
                (i32.load (i32.const {})) (i32.load (i32.const {})))",
            256 + at,
            260 + at
        )
    };
    assert_eq!(part(text(0).leak()), KEY.task.to_string());
    assert_eq!(part(text(8).leak()), KEY.attempt.to_string());
    assert_eq!(part(text(20).leak()), "w-1");
    let raw = "(call $context (i32.const 256))
        (call $result (i32.const 0) (i32.const 256) (i32.const 49))";
    let seen = check_task(raw, run_spec(""));
    let muster_protocol::task::Data::Inline(bytes) = &seen.outcome().output else { panic!() };
    assert_eq!(bytes[16..20], 3u32.to_le_bytes(), "the attempt's number");
    let left = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    assert!(bytes[32] == 1 && (9_000..=10_000).contains(&left), "{left} ms left");
    assert_eq!(bytes[48], 1, "draining");
}

#[test]
fn lines_of_the_log_are_one_line_each_and_cut() {
    let logs = "(call $log (i32.const 1) (local.get $at) (local.get $size))
        (call $result (i32.const 0) (i32.const 0) (i32.const 0))";
    let seen = check_task(logs, run_spec("one\ntwo"));
    assert_eq!(seen.log(LogSource::Log), "WARN one two\n");
    let seen = check_task(logs, run_spec(&"x".repeat(100_000)));
    assert!(seen.log(LogSource::Log).len() <= limit::LOG_CHUNK_MAX);
}

#[test]
fn progress_is_seldom_and_the_last_is_sent() {
    let steps = "(local $done i64)
        (loop $again
            (local.set $done (i64.add (local.get $done) (i64.const 1)))
            (call $progress (local.get $done) (i64.const 100000))
            (br_if $again (i64.ne (local.get $done) (i64.const 100000))))
        (call $result (i32.const 0) (i32.const 0) (i32.const 0))";
    let seen = check_task(steps, run_spec(""));
    let progress = seen.progress();
    assert_eq!(progress.last(), Some(&(100_000, 100_000)));
    assert!((progress.len() as u128) < 3 + seen.took.as_millis() / 100, "{}", progress.len());
}

#[test]
fn a_report_that_waits_is_sent_while_the_guest_computes() {
    // The second report comes too early to be sent at once, and then the guest reports nothing more.
    let bench = Bench::new(1);
    on_threads(1, async move {
        let guest = task(
            "(call $progress (i64.const 1) (i64.const 9))
             (call $progress (i64.const 2) (i64.const 9))
             (loop $again (br $again)) (unreachable)",
        );
        let program = bench.engine.compile(&guest).unwrap();
        let (reports, mut receiver) = tokio::sync::mpsc::channel(9);
        let around = bench.around(reports);
        let gate = bench.gate();
        let run = muster_worker::run::run(&bench.engine, &program, run_spec(""), gate, around);
        let both = async { (receiver.recv().await, receiver.recv().await) };
        tokio::select! {
            _ = run => panic!("it loops"),
            (_, second) = both => assert_eq!(
                second,
                Some(muster_worker::sandbox::GuestReport::Progress { key: KEY, done: 2, total: 9 })
            ),
            () = tokio::time::sleep(Duration::from_secs(2)) => panic!("nothing came"),
        }
    });
}

/// Stores the checkpoint "said", then returns the checkpoint of an earlier attempt; an error if there
/// is none.
const RESUMES: &str = "
    (call $resume (i32.const 512))
    (call $checkpoint (i32.const 1024) (i32.const 4))
    (if (i32.eqz (i32.load8_u (i32.const 512)))
        (then (return (call $result (i32.const 1) (i32.const 1024) (i32.const 4)))))
    (call $result (i32.const 0) (i32.load (i32.const 516)) (i32.load (i32.const 520)))";

#[test]
fn an_attempt_resumes_from_what_the_one_before_it_has_kept() {
    let bench = Bench::new(1);
    on_threads(1, async move {
        let program = bench.engine.compile(&task(RESUMES)).unwrap();
        let attempt = |number: u32| RunSpec { number, ..run_spec("") };
        let first = bench.run(&program, attempt(1), bench.gate()).await;
        let nothing = Verdict::Failed { code: 1, message: "said".into() };
        assert_eq!(first.verdict(), &nothing, "there is nothing to resume");
        let second = bench.run(&program, attempt(2), bench.gate()).await;
        assert_eq!((second.verdict(), second.output()), (&Verdict::Completed, "said"));
        let again = bench.run(&program, attempt(1), bench.gate()).await;
        assert_eq!(again.verdict(), &nothing, "a first attempt has none before it");
    });
}

#[test]
fn a_checkpoint_has_a_limit_and_a_pace() {
    let bench = Bench::new(1);
    on_threads(1, async move {
        let program = bench.engine.compile(&task(RESUMES)).unwrap();
        let mut small = run_spec("");
        small.limits.checkpoint_bytes = 3;
        let seen = bench.run(&program, small, bench.gate()).await;
        let over = Verdict::OverLimit { limit: LimitName::CheckpointBytes.into(), max: 3 };
        assert_eq!(seen.verdict(), &over);
        let four = "(call $checkpoint (i32.const 1024) (i32.const 4))".repeat(4);
        let program = bench.engine.compile(&task(&format!("{four} {RESUMES}"))).unwrap();
        let seen = bench.run(&program, RunSpec { number: 1, ..run_spec("") }, bench.gate()).await;
        let least = 4 * muster_worker::sandbox::CHECKPOINT_EVERY;
        assert!(seen.took >= least, "five took {:?}", seen.took);
    });
}

#[test]
fn nothing_is_kept_once_the_lease_has_ended() {
    let bench = Bench::new(1);
    on_threads(1, async move {
        let for_ever = "(loop $again
            (call $checkpoint (i32.const 1024) (i32.const 4)) (br $again)) unreachable";
        let program = bench.engine.compile(&task(for_ever)).unwrap();
        bench.lease(Duration::from_millis(100));
        let seen = bench.run(&program, run_spec(""), bench.gate()).await;
        assert_eq!(seen.killed(), KillReason::Fenced);
    });
}
