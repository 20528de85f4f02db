//! Encodes and decodes frames of the control stream, and records in the form of the registry. Never
//! includes the stream itself.

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use muster_benches::fleet_rig::{completed, noop};
use muster_protocol::{
    AttemptId, SessionId, TaskId, WorkerId,
    frame::{self, Encoding, Message},
    lease::{Home, Lease},
    limit::INLINE_SIZE_MAX,
    message::{AttemptKey, Dispatch, ToMaster, ToWorker},
    record,
    task::{Attempt, Data, Outcome, TaskRecord, TaskState},
    time::WallMillis,
};
use std::{hint::black_box, sync::Arc};

const KEY: AttemptKey =
    AttemptKey { task: TaskId(1_700_000_000_000 << 80), attempt: AttemptId(u64::MAX / 3) };

fn worker() -> WorkerId {
    "w1".parse().expect("a name")
}

fn dispatch() -> ToWorker {
    let spec = noop(1);
    ToWorker::Dispatch(Dispatch {
        key: KEY,
        session: SessionId(u64::MAX / 5),
        revision: 1_000_000,
        stream: Default::default(),
        held_max: 256,
        alone: false,
        number: 1,
        module: spec.module.digest,
        signature: spec.signature,
        input: spec.input,
        args: spec.args,
        limits: spec.limits,
        grants: spec.grants,
        trace: None,
    })
}

fn finished(output: usize) -> ToMaster {
    let output = Data::Inline(vec![b'x'; output].into());
    ToMaster::Finished { key: KEY, revision: 1_000_000, outcome: Outcome { output, ..completed() } }
}

fn renew() -> ToMaster {
    let home = Home { master: "m1".parse().expect("a name"), session: SessionId(7) };
    let lease = Lease { home: Some(home), ..Lease::new(worker(), SessionId(u64::MAX / 5)) };
    ToMaster::Renew { expect: 1_000_000, lease }
}

fn in_state(state: TaskState) -> TaskRecord {
    let wall = WallMillis(1_700_000_000_000);
    TaskRecord { attempts: 1, state, ..TaskRecord::queued(KEY.task, Arc::new(noop(1)), wall) }
}

fn dispatched() -> Attempt {
    Attempt {
        id: KEY.attempt,
        number: 1,
        worker: worker(),
        session: SessionId(u64::MAX / 5),
        lease: 1_000_000,
        lease_stream: Default::default(),
        dispatched_at: WallMillis(1_700_000_000_000),
        alone: false,
        to_silent: false,
        unknown: Default::default(),
    }
}

fn frames(criterion: &mut Criterion) {
    for encoding in Encoding::ALL {
        framed(criterion, encoding, "dispatch", &dispatch());
        framed(criterion, encoding, "finished, 16 bytes", &finished(16));
        framed(criterion, encoding, "finished, 16 KiB", &finished(INLINE_SIZE_MAX));
        framed(criterion, encoding, "renew", &renew());
    }
}

/// Encodes into a buffer that is used again, and decodes the result.
fn framed<T: Message>(criterion: &mut Criterion, encoding: Encoding, what: &str, message: &T) {
    let mut bytes = Vec::new();
    frame::encode(encoding, message, &mut bytes).expect("it fits");
    let name = String::from_utf8_lossy(encoding.alpn());
    let mut group = criterion.benchmark_group(format!("frames/{name}/{what}"));
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("write", |bencher: &mut Bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            frame::encode(encoding, black_box(message), &mut out).expect("it fits");
        });
    });
    group.bench_function("read", |bencher: &mut Bencher| {
        let body = &bytes[frame::HEADER_SIZE..];
        bencher.iter(|| frame::decode::<T>(encoding, black_box(body)).expect("a message"));
    });
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let outcome = Arc::new(completed());
    let done = TaskState::Done {
        outcome,
        attempt: Some(dispatched()),
        ended_at: WallMillis(1_700_000_000_001),
    };
    for (what, state) in [("dispatched", TaskState::Dispatched(dispatched())), ("completed", done)]
    {
        let record = in_state(state);
        let text = record::write(&record).expect("it has a form in JSON");
        let mut group = criterion.benchmark_group(format!("records/{what}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("write", |bencher| {
            bencher.iter(|| record::write(black_box(&record)).expect("it has a form"));
        });
        group.bench_function("read", |bencher| {
            bencher.iter(|| record::read::<TaskRecord>(black_box(&text)).expect("a record"));
        });
        group.finish();
    }
}

criterion_group!(benches, frames, records);
criterion_main!(benches);
