//! Tests of tasks that run without a fleet.

use super::guests::*;
use muster_protocol::{
    Digest, TaskId,
    task::{Data, LimitName, ModuleRef, Outcome, TaskSpec, Verdict},
};
use muster_worker::{
    compile::Compiler,
    local::{self, Heard, Task},
    policy::{Rules, Secrets},
    sandbox::GuestReport,
};
use std::{cell::RefCell, sync::Arc, time::Duration};

fn spec(change: impl FnOnce(&mut TaskSpec)) -> TaskSpec {
    let module = ModuleRef { name: None, digest: Digest([0; 32]) };
    let mut spec = TaskSpec::new(module, Data::EMPTY);
    spec.retry.backoff_ms = 1;
    change(&mut spec);
    spec
}

/// Runs a task as the command does. Returns its outcome, and what was heard in the meantime.
fn check(wasm: Vec<u8>, input: &str, spec: TaskSpec) -> (Outcome, Vec<Heard>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let heard = RefCell::new(Vec::new());
    let task = Task {
        id: TaskId(7),
        wasm: wasm.into(),
        input: input.to_string().into(),
        spec,
        secrets: Secrets([("KEY".to_string(), "hush".to_string())].into()),
    };
    let compiler = Compiler::of(env!("CARGO_BIN_EXE_muster-worker").into(), &Rules::default());
    let running = local::run(&compiler, task, |what| heard.borrow_mut().push(what));
    let outcome = runtime.block_on(running).unwrap();
    (outcome, heard.into_inner())
}

#[test]
fn it_is_given_what_it_asks_for() {
    let guest = command(
        r#"(func (export "_start")
            (drop (call $environ (i32.const 16) (i32.const 20)))
            (drop (call $environ_get (i32.const 64) (i32.const 1024)))
            (call $say (i32.const 1) (i32.const 1024) (i32.load (i32.const 20)))
            (call $say (i32.const 2) (i32.const 1024) (i32.const 3))
            (if (call $prestat (i32.const 3) (i32.const 16)) (then (call $exit (i32.const 9)))))"#,
    );
    let granted = spec(|spec| {
        let grants = Arc::make_mut(&mut spec.grants);
        grants.env.insert("A".into(), "1".into());
        grants.secrets.insert("KEY".into());
        grants.dir_bytes = 1 << 20;
    });
    let (outcome, heard) = check(wat::parse_str(&guest).unwrap(), "", granted);
    assert_eq!(outcome.verdict, Verdict::Completed);
    assert_eq!(outcome.output, Data::Inline("A=1\0KEY=hush\0".into()));
    let [Heard::Report(GuestReport::Log(chunk))] = &heard[..] else {
        panic!("{} heard", heard.len())
    };
    assert_eq!(chunk.text, "A=1");
}

#[test]
fn the_next_attempt_resumes_from_the_checkpoint() {
    // Without a checkpoint, the guest stores its input as one and fails; with a checkpoint, it returns
    // that as its output.
    let guest = task(
        "(call $resume (i32.const 256))
         (if (result i32) (i32.load8_u (i32.const 256))
            (then (call $result (i32.const 0)
                (i32.load (i32.const 260)) (i32.load (i32.const 264))))
            (else (call $checkpoint (local.get $at) (local.get $size))
                (call $result (i32.const 1) (i32.const 1024) (i32.const 4))))",
    );
    let (outcome, heard) = check(guest.clone(), "half", spec(|spec| spec.retry.attempts_max = 2));
    assert_eq!(outcome.verdict, Verdict::Completed);
    assert_eq!(outcome.output, Data::Inline("half".into()));
    let [Heard::Again { reason, wait }] = &heard[..] else { panic!("{} heard", heard.len()) };
    assert_eq!(reason, "exit code 1: said");
    assert!(*wait <= Duration::from_millis(1));
    let (outcome, heard) = check(guest, "half", spec(|_| ()));
    assert!(matches!(outcome.verdict, Verdict::Failed { .. }), "{outcome:?}");
    assert!(heard.is_empty(), "one attempt is all it has");
}

#[test]
fn limits_hold_and_refusals_are_verdicts() {
    let limited = spec(|spec| spec.limits.timeout_ms = 100);
    let (outcome, _) = check(wat::parse_str(LOOP).unwrap(), "", limited);
    assert_eq!(outcome.verdict, Verdict::TimedOut { limit_ms: 100 });
    let computes = spec(|spec| spec.limits.cpu_ms = 50);
    let (outcome, _) = check(wat::parse_str(LOOP).unwrap(), "", computes);
    assert_eq!(outcome.verdict, Verdict::OverLimit { limit: LimitName::CpuMs.into(), max: 50 });
    let (outcome, _) = check(b"no Wasm".to_vec(), "", spec(|_| ()));
    assert!(matches!(outcome.verdict, Verdict::Rejected { .. }), "{outcome:?}");
}
