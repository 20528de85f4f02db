//! The mind's part in the whole life of a thousand no-op tasks: submitted, stored, placed, ended,
//! committed, with others waiting behind them or none. Never a registry or a worker.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use muster_benches::fleet_rig::{BATCH, FleetRig, noop, unlabelled};
use std::time::Duration;

/// Fleets of as many slots, so that what differs is the number of workers.
const FLEETS: [(usize, u32); 2] = [(2, 5_000), (10_000, 1)];

/// Tasks that wait behind.
const QUEUED: [usize; 2] = [0, 100_000];

fn lives(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan/life of 1,000 tasks");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    for (workers, slots) in FLEETS {
        for queued in QUEUED {
            let mut mind = FleetRig::new(workers, slots, unlabelled);
            if queued > 0 {
                mind.fill(workers * slots as usize + queued);
            }
            let id = BenchmarkId::from_parameter(format!("{workers} workers, {queued} queued"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|lives| (0..lives).map(|_| live(&mut mind)).sum());
            });
        }
    }
    group.finish();
}

/// As many come as go. Where others wait, those that end are not those that came.
fn live(mind: &mut FleetRig) -> Duration {
    let submission = mind.submission(BATCH, noop);
    let mut took = mind.tell(vec![submission]);
    took += mind.answer_all();
    took += mind.finish(BATCH);
    took + mind.answer_all()
}

criterion_group!(benches, lives);
criterion_main!(benches);
