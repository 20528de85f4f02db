//! What programs are given, and which verdict follows from how they end.

use super::{bench::*, guests::*};
use muster_protocol::{
    limit,
    message::LogSource,
    task::{Data, Verdict},
};

fn failed(code: u8, message: &str) -> Verdict {
    Verdict::Failed { code, message: message.into() }
}

#[test]
fn input_becomes_output() {
    let seen = check(&echo(), run_spec("hello"));
    assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, "hello"));
    assert!(seen.outcome().run_us > 0 && seen.reports.is_empty());
    let large = "x".repeat(200_000);
    assert_eq!(check(&echo(), run_spec(&large)).output(), large);
}

#[test]
fn exit_codes_are_verdicts() {
    for (code, verdict) in [(0, Verdict::Completed), (3, failed(3, "")), (200, failed(200, ""))] {
        let exit = command(&format!(r#"(func (export "_start") (call $exit (i32.const {code})))"#));
        assert_eq!(check(&exit, run_spec("")).verdict(), &verdict);
    }
}

#[test]
fn a_failure_keeps_its_output_and_the_end_of_stderr() {
    let guest = with_text(
        "one\\ntwo\\n",
        "(call $say (i32.const 1) (i32.const 1024) (i32.const 3))
         (call $say (i32.const 2) (i32.const 1024) (i32.const 8))
         (call $exit (i32.const 9))",
    );
    let seen = check(&guest, run_spec(""));
    assert_eq!(seen.verdict(), &failed(9, "two"));
    assert_eq!((seen.output(), &*seen.outcome().stderr), ("one", "one\ntwo\n"));
    assert_eq!(seen.log(LogSource::Stderr), "one\ntwo\n");
}

#[test]
fn traps_have_words_and_names() {
    let named = |body: &str| {
        format!(
            r#"(module (memory 1) (func $inner {body}) (func $main (export "_start") call $inner))"#
        )
    };
    for (body, words) in [
        ("unreachable", "wasm `unreachable` instruction executed in inner < main"),
        ("(drop (i32.load (i32.const -1)))", "out of bounds memory access in inner < main"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer divide by zero in inner"),
    ] {
        let seen = check(&named(body), run_spec(""));
        let Verdict::Trapped { message } = seen.verdict() else { panic!("{:?}", seen.ended) };
        assert!(message.starts_with(words), "{message}");
        assert_eq!(seen.outcome().output, Data::EMPTY);
    }
    let start = r#"(module (func $init unreachable) (start $init) (func (export "_start")))"#;
    let seen = check(start, run_spec(""));
    let Verdict::Trapped { message } = seen.verdict() else { panic!("{:?}", seen.ended) };
    assert!(message.ends_with("in init"), "{message}");
}

#[test]
fn nothing_is_granted() {
    // Each guest's exit code is the result: the number of environment variables, and the answer for the
    // first directory (8 is "bad file descriptor").
    let environ = command(
        r#"(func (export "_start")
            (drop (call $environ (i32.const 16) (i32.const 20)))
            (call $exit (i32.load (i32.const 16))))"#,
    );
    assert_eq!(check(&environ, run_spec("")).verdict(), &Verdict::Completed);
    let preopen = command(
        r#"(func (export "_start") (call $exit (call $prestat (i32.const 3) (i32.const 16))))"#,
    );
    assert_eq!(check(&preopen, run_spec("")).verdict(), &failed(8, ""));
}

#[test]
fn arguments_follow_the_name() {
    let guest = command(
        r#"(func (export "_start")
            (drop (call $args_sizes (i32.const 16) (i32.const 20)))
            (drop (call $args (i32.const 64) (i32.const 1024)))
            (call $say (i32.const 1) (i32.const 1024) (i32.load (i32.const 20))))"#,
    );
    let mut order = run_spec("");
    order.args = vec!["one".into(), "two words".into()];
    assert_eq!(check(&guest, order).output(), "task\0one\0two words\0");
}

#[test]
fn components_run_like_programs() {
    let bench = Bench::new(1);
    on_threads(1, async move {
        let program = bench.engine.compile(&component(&echo())).unwrap();
        let seen = bench.run(&program, run_spec("hello"), bench.gate()).await;
        assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, "hello"));
        // WASI 0.2 has no exit codes, only success and failure.
        let exit = command(r#"(func (export "_start") (call $exit (i32.const 3)))"#);
        let program = bench.engine.compile(&component(&exit)).unwrap();
        let seen = bench.run(&program, run_spec(""), bench.gate()).await;
        assert_eq!(seen.verdict(), &failed(1, ""));
    });
}

#[test]
fn stderr_is_bounded_and_says_what_is_missing() {
    let guest = with_text(
        "0123456789abcdef\\n",
        "(local $left i32) (local.set $left (i32.const 20000))
         (loop $again
            (call $say (i32.const 2) (i32.const 1024) (i32.const 17))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $again (local.get $left)))",
    );
    let seen = check(&guest, run_spec(""));
    let log = seen.log(LogSource::Stderr);
    assert!(log.len() < 200_000, "{} bytes of 340,000 came through", log.len());
    assert!(seen.log(LogSource::Log).contains("bytes dropped here"));
    let tail = &seen.outcome().stderr;
    assert!(tail.len() <= limit::STDERR_TAIL_MAX && tail.ends_with("0123456789abcdef\n"));
}
