//! Measures what a run costs: `cargo nextest run --release --run-ignored only measure`.

use super::{bench::*, guests::*};
use std::time::{Duration, Instant};

fn measure(name: &'static str, wasm: Vec<u8>, input: &'static str) {
    const RUNS: usize = 20_000;
    let bench = Bench::new(4);
    on_threads(1, async move {
        let program = bench.engine.compile(&wasm).unwrap();
        let (reports, _receiver) = tokio::sync::mpsc::channel(9);
        let around = bench.around(reports);
        let mut times: Vec<Duration> = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let (order, gate, around) = (run_spec(input), bench.gate(), around.clone());
            let began = Instant::now();
            muster_worker::run::run(&bench.engine, &program, order, gate, around).await;
            times.push(began.elapsed());
            tokio::task::consume_budget().await;
        }
        times.sort();
        let [p50, p99] = [RUNS / 2, RUNS * 99 / 100].map(|rank| times[rank]);
        println!("{name}: p50 {p50:?}, p99 {p99:?}, most {:?}", times[RUNS - 1]);
    });
}

#[test]
#[ignore = "a measurement"]
fn measure_runs() {
    let echo_task = "(call $result (i32.const 0) (local.get $at) (local.get $size))";
    measure("noop, core", wat::parse_str(NOOP).unwrap(), "");
    measure("echo, core", wat::parse_str(echo()).unwrap(), "hello");
    measure("echo, component", component(&echo()), "hello");
    measure("echo, SDK", task(echo_task), "hello");
}
