//! Places one task among 10,000 workers: from its submission to the write that names its worker. Never
//! includes the write itself.

use criterion::{Criterion, criterion_group, criterion_main};
use muster_benches::fleet_rig::{FleetRig, noop};
use muster_protocol::task::TaskSpec;
use std::{collections::BTreeMap, time::Duration};

const WORKERS: usize = 10_000;

/// The labels of a worker: every tenth worker is in the same zone, and each worker is its own host.
fn labels(number: usize) -> BTreeMap<String, String> {
    let host = format!("h{number}");
    BTreeMap::from([("host".into(), host), ("zone".into(), format!("z{}", number % 10))])
}

fn wanting(key: &'static str, value: &'static str) -> impl Fn(u64) -> TaskSpec {
    move |number| {
        let selector = BTreeMap::from([(key.into(), value.into())]);
        TaskSpec { selector, ..noop(number) }
    }
}

fn places(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement/1 task, 10,000 workers");
    let mind = || FleetRig::new(WORKERS, 1, labels);
    group.bench_function("all free", |bencher| {
        let mut mind = mind();
        bencher.iter_custom(|rounds| times(rounds, &mut mind, noop));
    });
    group.bench_function("all free, one zone of ten is wanted", |bencher| {
        let (mut mind, spec) = (mind(), wanting("zone", "z9"));
        bencher.iter_custom(|rounds| times(rounds, &mut mind, &spec));
    });
    group.bench_function("all free, one host is wanted", |bencher| {
        let (mut mind, spec) = (mind(), wanting("host", "h9999"));
        bencher.iter_custom(|rounds| times(rounds, &mut mind, &spec));
    });
    group.bench_function("one free", |bencher| {
        let mut mind = mind();
        mind.fill(WORKERS - 1);
        bencher.iter_custom(|rounds| times(rounds, &mut mind, noop));
    });
    group.bench_function("all free, and a task waits that fits nowhere", |bencher| {
        let mut mind = mind();
        let waits = mind.submission(1, wanting("host", "nobody"));
        mind.tell(vec![waits]);
        mind.answer_all();
        bencher.iter_custom(|rounds| times(rounds, &mut mind, noop));
    });
    group.finish();
}

/// Places a task and returns the fleet to its earlier state, `rounds` times. Returns how long the
/// placement took.
fn times(rounds: u64, mind: &mut FleetRig, spec: impl Fn(u64) -> TaskSpec) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..rounds {
        let submission = mind.submission(1, &spec);
        took += mind.tell(vec![submission]);
        mind.answer_all();
        mind.finish(1);
        mind.answer_all();
    }
    took
}

criterion_group!(benches, places);
criterion_main!(benches);
