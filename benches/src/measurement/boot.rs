//! From the start of a worker's process to its lease and its link: `muster-worker` with an empty
//! directory, as on a new host. Never includes the creation of its certificate, which an operator does
//! once.

use crate::{
    figures::Times,
    measure::{Measure, Target},
};
use muster_tests::Fleet;
use std::time::{Duration, Instant};

const STARTS: usize = 20;

/// How often the state is checked: a start may be noticed this late.
const LOOK_EVERY: Duration = Duration::from_micros(200);

const READY_WITHIN: Duration = Duration::from_secs(30);

const MILLIS_MOST: f64 = 150.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    let mut times = Vec::new();
    for number in 0..STARTS {
        let name = format!("w{number}");
        fleet.certificate("worker", &name);
        let began = Instant::now();
        fleet.launch_lone_worker(&name, &["--slots", "2"]);
        while !fleet.is_ready(&name) {
            anyhow::ensure!(began.elapsed() < READY_WITHIN, "it does not become ready");
            std::thread::sleep(LOOK_EVERY);
        }
        times.push(began.elapsed());
        fleet.kill(&name);
    }
    let times = Times::new(times);
    let note = format!("most {:.0} ms of {STARTS}", times.millis(100.0));
    let p50 = Measure::new("worker start → leased and linked, p50", times.millis(50.0), "ms");
    Ok(vec![p50.aims(Target::AtMost(MILLIS_MOST)).note(note)])
}
