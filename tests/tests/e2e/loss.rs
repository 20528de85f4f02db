//! A registry that has lost writes: the server is killed, and the directory of one of its streams is put
//! back from a copy. No attempt that was dispatched and lost from the registry may run beside its
//! replacement.

use muster_tests::{
    Fleet,
    chaos::{checker, run_log::RunLog},
    fleet::{NATS, text, wait_for},
    net::{Net, around},
};
use std::time::Duration;

/// Much longer than the longest wait of a master that has not noticed the loss: its `L_m` is 4.5 s.
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
    // Now the task is dispatched to w1, and the copy does not contain that.
    fleet.run(&["worker", "uncordon", "w1"]).ok();
    wait_for("it to run", || {
        witness.look().expect("journals are readable");
        witness.runs(&task).iter().any(|run| run.called_ns.is_some()).then_some(())
    });
    fleet.run(&["worker", "uncordon", "w2"]).ok();
    // The worker reaches the registry but no master, so no master learns what it runs.
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
