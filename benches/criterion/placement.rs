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
    let rig = || FleetRig::new(WORKERS, 1, labels);
    group.bench_function("all free", |bencher| {
        let mut rig = rig();
        bencher.iter_custom(|rounds| times(rounds, &mut rig, noop));
    });
    group.bench_function("all free, one zone of ten is wanted", |bencher| {
        let (mut rig, spec) = (rig(), wanting("zone", "z9"));
        bencher.iter_custom(|rounds| times(rounds, &mut rig, &spec));
    });
    group.bench_function("all free, one host is wanted", |bencher| {
        let (mut rig, spec) = (rig(), wanting("host", "h9999"));
        bencher.iter_custom(|rounds| times(rounds, &mut rig, &spec));
    });
    group.bench_function("one free", |bencher| {
        let mut rig = rig();
        rig.fill(WORKERS - 1);
        bencher.iter_custom(|rounds| times(rounds, &mut rig, noop));
    });
    group.bench_function("all free, and a task waits that fits nowhere", |bencher| {
        let mut rig = rig();
        let waits = rig.submission(1, wanting("host", "nobody"));
        rig.tell(vec![waits]);
        rig.answer_all();
        bencher.iter_custom(|rounds| times(rounds, &mut rig, noop));
    });
    group.finish();
}

/// Places a task and returns the fleet to its earlier state, `rounds` times. Returns how long the
/// placement took.
fn times(rounds: u64, rig: &mut FleetRig, spec: impl Fn(u64) -> TaskSpec) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..rounds {
        let submission = rig.submission(1, &spec);
        took += rig.tell(vec![submission]);
        rig.answer_all();
        rig.finish(1);
        rig.answer_all();
    }
    took
}

criterion_group!(benches, places);
criterion_main!(benches);
