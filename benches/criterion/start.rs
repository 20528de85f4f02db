//! From the call of `run` in a worker's engine to the first instruction of the guest: store, instance,
//! entry. Never in a fleet; `make bench` measures the whole path from a frame.
//!
//! The benchmark does not time the whole run. The guest reads the wall clock with its first instruction,
//! with the granted resolution of a nanosecond, and the benchmark compares that with the same clock
//! before the call. For the component the time includes a shim of WASI 0.2, which the first call sets
//! up.

use criterion::{Criterion, criterion_group, criterion_main};
use muster_benches::guests;
use muster_protocol::{
    AttemptId, TaskId,
    grant::Grants,
    lease::LeaseEnd,
    message::AttemptKey,
    task::{Data, Limits, Outcome, Verdict},
};
use muster_worker::{
    checkpoint::Checkpoints,
    engine::{Engine, Program},
    gate::RunGate,
    journal::Journal,
    policy::Secrets,
    run::{self, RunSpec},
    sandbox::Surroundings,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::runtime::Runtime;

fn order() -> RunSpec {
    RunSpec {
        key: AttemptKey { task: TaskId(1), attempt: AttemptId(1) },
        number: 1,
        worker: "w1".parse().expect("a name"),
        input: Default::default(),
        args: Vec::new(),
        limits: Limits::default(),
        grants: Arc::new(Grants { clock_ns: 1, ..Grants::default() }),
        secrets: Secrets::default(),
        scratch: None,
        trace: None,
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

/// The time from the call to the guest's first instruction.
async fn start(engine: &Engine, program: &Program, surroundings: Surroundings) -> Duration {
    let (order, gate) = (order(), RunGate::new(LeaseEnd::never()));
    let before = now();
    let ended = run::run(engine, program, order, gate, surroundings).await;
    let ended = ended.into_result();
    let Ok(Outcome { verdict: Verdict::Completed, output: Data::Inline(output), .. }) = ended
    else {
        panic!("it did not complete: {ended:?}");
    };
    let said = output[..].try_into().expect("eight bytes of a clock");
    Duration::from_nanos(u64::from_le_bytes(said)).saturating_sub(before)
}

fn starts(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads");
    let engine = Engine::new(2).expect("an engine");
    let (reports, _heard) = tokio::sync::mpsc::channel(16);
    let (draining, journal) = (Arc::default(), Journal::default());
    let checkpoints = Checkpoints::in_memory();
    let surroundings = Surroundings { reports, draining, journal, checkpoints };
    let guests =
        [("core module", guests::command("clock")), ("component", guests::task("clock-task"))];
    let mut group = criterion.benchmark_group("first instruction");
    for (name, wasm) in guests {
        let program = engine.compile(&wasm.expect("a guest")).expect("it compiles");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(async {
                    let mut sum = Duration::ZERO;
                    for _ in 0..count {
                        sum += start(&engine, &program, surroundings.clone()).await;
                    }
                    sum
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, starts);
criterion_main!(benches);
