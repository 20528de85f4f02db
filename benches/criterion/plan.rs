//! The part of a master's state machine in the lives of a thousand no-op tasks: submitted, stored,
//! placed, ended and committed, with or without a queue behind them. Never includes a registry or a
//! worker.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use muster_benches::fleet_rig::{BATCH, FleetRig, noop, unlabelled};
use std::time::Duration;

/// Workers and slots of each fleet. The number of slots is the same, so that only the number of workers
/// differs.
const FLEETS: [(usize, u32); 2] = [(2, 5_000), (10_000, 1)];

/// The number of tasks that wait in the queue.
const QUEUED: [usize; 2] = [0, 100_000];

fn lives(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan/life of 1,000 tasks");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    for (workers, slots) in FLEETS {
        for queued in QUEUED {
            let mut rig = FleetRig::new(workers, slots, unlabelled);
            if queued > 0 {
                rig.fill(workers * slots as usize + queued);
            }
            let id = BenchmarkId::from_parameter(format!("{workers} workers, {queued} queued"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|lives| (0..lives).map(|_| live(&mut rig)).sum());
            });
        }
    }
    group.finish();
}

/// As many tasks end as are submitted. With a queue, the tasks that end are not the submitted ones.
fn live(rig: &mut FleetRig) -> Duration {
    let submission = rig.submission(BATCH, noop);
    let mut took = rig.tell(vec![submission]);
    took += rig.answer_all();
    took += rig.finish(BATCH);
    took + rig.answer_all()
}

criterion_group!(benches, lives);
criterion_main!(benches);
