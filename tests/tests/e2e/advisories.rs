//! Each event is published when what it tells of happens, in words that an operator can act on. Events of sites, registry
//! losses, forged outcomes and unwell hosts are tested in `sites`, `rewound`, `hostile_outcome` and `unwell`.

use muster_tests::{
    Fleet,
    fleet::{NATS, wait_for},
    net::Net,
};
use rustix::process::Signal;

#[test]
fn what_happens_to_tasks_and_workers_is_published() {
    let mut fleet = Fleet::registry();
    // Masters wait for the outage tolerance before they declare a master lost. A short one keeps the test short.
    fleet.tolerate_outages_of(2);
    fleet.start_master("m1");
    fleet.until_published("master.started", &["m1"]);
    fleet.push("upper");
    fleet.push("primes");
    let waits = fleet.run(&["task", "run", "upper", "--group", "nobody"]).ok().text();
    fleet.until_published("group.empty", &["nobody"]);
    fleet.run(&["task", "cancel", &waits]).ok();
    fleet.until_published("task.cancelled", &[&waits]);

    fleet.start_worker("w1", &["--slots", "1"]);
    fleet.until_published("worker.joined", &["w1"]);
    let good = fleet.run(&["task", "run", "upper", "--input", "a"]).ok().text();
    fleet.until_published("task.dispatched", &[&good, "w1"]);
    fleet.until_published("task.completed", &[&good]);
    let bad = ["task", "run", "primes", "--input", "no number", "--retries", "1"];
    let bad = fleet.run(&bad).ok().text();
    fleet.until_published("task.retried", &[&bad, "w1"]);
    fleet.until_published("task.failed", &[&bad]);

    fleet.run(&["worker", "cordon", "w1"]).ok();
    fleet.until_published("worker.cordoned", &["w1"]);
    fleet.run(&["worker", "drain", "w1"]).ok();
    fleet.until_published("worker.draining", &["w1"]);
    fleet.signal("w1", Signal::TERM);
    fleet.until_published("worker.left", &["w1"]);

    fleet.start_master("m2");
    fleet.signal("m2", Signal::TERM);
    fleet.until_published("master.stopped", &["m2"]);
    fleet.start_master("m3");
    fleet.kill("m3");
    fleet.until_published("master.lost", &["m3"]);
}

#[test]
fn a_worker_that_was_fenced_and_workers_that_are_silent_together_are_published() {
    let mut fleet = Fleet::within(Net::Plain, Some("fast"));
    fleet.start_master("m1");
    let workers = ["w1", "w2", "w3", "w4"];
    for worker in workers {
        fleet.start_worker(worker, &["--slots", "1"]);
    }
    // Neither a registry nor a master: the leases end, and the workers stop what they run.
    fleet.kill(NATS);
    fleet.kill("m1");
    for worker in workers {
        wait_for("its lease to end", || {
            fleet.log(worker).contains("the lease lapsed; its runs are killed").then_some(())
        });
    }
    fleet.start_nats();
    fleet.start_master("m1");
    for worker in workers {
        fleet.until_published("worker.fenced", &[worker, "its runs were killed"]);
    }
    for worker in &workers[..3] {
        fleet.signal(worker, Signal::STOP);
    }
    fleet.until_published("failover.held", &["over half of the workers are silent"]);
}
