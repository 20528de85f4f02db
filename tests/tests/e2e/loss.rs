//! A registry that has lost writes: the server is killed, and the folder of one of its streams is put
//! back from a copy. Nothing that was given out and forgotten may run beside its replacement.

use muster_tests::{
    Fleet,
    chaos::{checker, run_log::RunLog},
    fleet::{NATS, text, wait_for},
    net::{Net, around},
};
use std::time::Duration;

/// Well beyond the longest wait of a master that has noticed nothing: its `L_m` is 4.5 s.
const WATCHED: Duration = Duration::from_secs(12);

#[test]
fn a_task_whose_dispatch_the_registry_forgot_does_not_run_beside_itself() {
    let mut fleet = Fleet::within(Net::proxied(), Some("standard"));
    fleet.start_master("m1");
    let journals = ["w1", "w2"].map(|worker| fleet.path(&format!("{worker}.journal")));
    for (worker, journal) in ["w1", "w2"].into_iter().zip(&journals) {
        fleet.start_worker(worker, &["--slots", "1", "--journal", text(journal)]);
    }
    fleet.push("heart");
    let mut witness = RunLog::new(journals);
    for worker in ["w1", "w2"] {
        fleet.run(&["worker", "cordon", worker]).ok();
    }
    let input = r#"{"for_ms":60000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", input]).ok().text();
    let copy = fleet.copy_disk(NATS, Some("tasks")).expect("the disk can be read");
    // Now it is given to w1, and the copy knows nothing of that.
    fleet.run(&["worker", "uncordon", "w1"]).ok();
    wait_for("it to run", || {
        witness.look().expect("journals are readable");
        witness.runs(&task).iter().any(|run| run.called_ns.is_some()).then_some(())
    });
    fleet.run(&["worker", "uncordon", "w2"]).ok();
    // It reaches the registry and no master, so that no master hears of what it runs.
    fleet.net().cut(&around("w1", ["m1"]));
    fleet.kill(NATS);
    fleet.put_back(&copy).expect("the disk can be written");
    fleet.launch_nats(NATS);
    std::thread::sleep(WATCHED);
    witness.look().expect("journals are readable");
    let overlaps = checker::overlaps(&witness);
    assert!(overlaps.is_empty(), "{overlaps:?}");
    assert_eq!(witness.runs(&task).len(), 1, "nothing is given out before that has ended");
    let explained = fleet.run(&["task", "explain", &task]).ok().text();
    assert!(explained.contains("has lost writes"), "{explained}");
}
