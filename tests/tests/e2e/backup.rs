//! The drill of docs/REGISTRY.md: a fleet whose registry is put back from a copy of its directory goes on, says what it
//! lost, and runs nothing twice at once.

use muster_tests::{
    Fleet,
    chaos::{checker, run_log::RunLog},
    fleet::{NATS, text, wait_for},
    net::Net,
};
use std::time::Duration;

/// For how long masters extend leases without the registry. After a loss nothing is dispatched for five seconds more.
const TOLERANCE_S: u64 = 5;

/// A run that goes on through the whole drill.
const LONG: &str = r#"{"for_ms":600000,"every_us":10000,"rest":true}"#;

/// A run that ends at once.
const SHORT: &str = r#"{"for_ms":100,"every_us":10000,"rest":true}"#;

#[test]
fn a_fleet_is_restored_from_a_copy_of_its_store() {
    let mut fleet = Fleet::within(Net::Plain, Some("standard"));
    fleet.tolerate_outages_of(TOLERANCE_S);
    fleet.start_master("m1");
    let journals = ["w1", "w2"].map(|worker| fleet.path(&format!("{worker}.journal")));
    for (worker, journal) in ["w1", "w2"].into_iter().zip(&journals) {
        fleet.start_worker(worker, &["--slots", "4", "--journal", text(journal)]);
    }
    fleet.push("heart");
    let mut runs = RunLog::new(journals);
    let submit = |fleet: &Fleet, id: &str, input: &str| {
        fleet.run(&["task", "run", "heart", "--id", id, "--input", input]).ok();
    };
    let state = |fleet: &Fleet, id: &str| {
        let shown = fleet.run(&["-o", "json", "task", "get", id]);
        (shown.code == 0).then(|| shown.json()["record"]["state"].clone())
    };
    let until_ended = |fleet: &Fleet, id: &str| {
        wait_for(&format!("{id} to end"), || {
            state(fleet, id).is_some_and(|state| state["done"].is_object()).then_some(())
        });
    };

    // Before the backup: one task that has ended, and one that runs until the end of the drill.
    submit(&fleet, "ended", SHORT);
    until_ended(&fleet, "ended");
    submit(&fleet, "runs", LONG);
    wait_for("it to run", || state(&fleet, "runs").filter(|state| state["dispatched"].is_object()));
    let copy = fleet.copy_store(NATS).expect("the disk can be read");
    // After it: one that nobody will know.
    submit(&fleet, "newer", SHORT);
    until_ended(&fleet, "newer");
    fleet.run(&["secret", "ls"]).ok();

    fleet.kill(NATS);
    fleet.put_back_store(&copy).expect("the disk can be written");
    fleet.start_nats();
    wait_for("the fleet to say so", || {
        let events = fleet.run(&["events", "--since", "10m"]);
        events.text().contains("registry.rewound").then_some(())
    });
    wait_for("a master to answer", || state(&fleet, "ended"));
    assert!(state(&fleet, "ended").is_some_and(|state| state["done"].is_object()));
    assert!(state(&fleet, "newer").is_none(), "it is newer than the backup");
    assert_eq!(fleet.run(&["module", "inspect", "heart"]).code, 0, "modules are in the backup");

    // It goes on: what was lost is submitted again, and what was open runs again.
    submit(&fleet, "newer", SHORT);
    wait_for("what was lost to run", || {
        state(&fleet, "newer").is_some_and(|state| state["done"].is_object()).then_some(())
    });
    let id = fleet.run(&["-o", "json", "task", "get", "runs"]).ok().json();
    let id = id["record"]["id"].as_str().expect("an id").to_owned();
    wait_for("what was open to run", || {
        runs.look().expect("journals are readable");
        (runs.runs(&id).len() >= 2).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    runs.look().expect("journals are readable");
    let overlaps = checker::overlaps(&runs);
    assert!(overlaps.is_empty(), "{overlaps:?}");
    wait_for("all to be well", || (fleet.run(&["check"]).code == 0).then_some(()));
}
