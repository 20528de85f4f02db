//! A process becomes silent without breaking a connection. A worker that is cut off or stopped is
//! replaced in time. A worker that still reaches its registry or its masters keeps its runs.

use muster_protocol::lease::LeaseTiming;
use muster_tests::{
    Fleet,
    chaos::{
        between, checker, now_ns,
        run_log::{Run, RunLog},
    },
    fleet::{NATS, text, wait_for},
    net::{Net, around},
};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;

/// The promise of each profile: from the fault to the first effect of the replacement.
const STANDARD: (&str, Duration) = ("standard", Duration::from_secs(5));
const FAST: (&str, Duration) = ("fast", Duration::from_secs(1));

/// A fleet whose workers have journals and have run the guest once, so that no failover includes its
/// compilation.
fn start(lease: &str, workers: &[&str]) -> (Fleet, RunLog) {
    let mut fleet = Fleet::within(Net::proxied(), Some(lease));
    fleet.start_master("m1");
    let journal = |fleet: &Fleet, worker: &str| fleet.path(&format!("{worker}.journal"));
    for worker in workers {
        let journal = journal(&fleet, worker);
        let label = format!("it={worker}");
        let options = ["--slots", "2", "--journal", text(&journal), "--label", &label];
        fleet.start_worker(worker, &options);
    }
    fleet.push("heart");
    let mut witness = RunLog::new(workers.iter().map(|worker| journal(&fleet, worker)));
    for worker in workers {
        let label = format!("it={worker}");
        let input = r#"{"for_ms":1}"#;
        let args = ["task", "run", "heart", "--input", input, "--select", &label, "--wait"];
        fleet.run(&args).ok();
    }
    witness.look().expect("journals are readable");
    assert_eq!(witness.tasks().len(), workers.len());
    (fleet, witness)
}

/// Starts a task that beats for the given time, and waits until it does. Returns its id and its first
/// run.
fn beat(fleet: &Fleet, witness: &mut RunLog, time: Duration) -> (String, Run) {
    let input = format!(r#"{{"for_ms":{},"rest":true}}"#, time.as_millis());
    let task = fleet.run(&["task", "run", "heart", "--input", &input]).ok().text();
    let run = run_after(witness, &task, 0);
    (task, run)
}

/// Waits for a run of a task that began after a stamp and has had an effect. Returns the run.
fn run_after(witness: &mut RunLog, task: &str, after_ns: u64) -> Run {
    wait_for("it to run", || {
        witness.look().expect("journals are readable");
        let mut runs = witness.runs(task).iter();
        runs.find(|run| run.first_ns > after_ns && run.called_ns.is_some()).cloned()
    })
}

fn completed(fleet: &Fleet, task: &str) -> Value {
    fleet.until("its end", task, |record| {
        record["state"]["done"]["outcome"]["verdict"] == "completed"
    })
}

/// Cuts one worker off from everything and stops another one at the same moment. Their tasks must run on
/// other workers in time, each once.
fn silence_two_of_four((lease, within): (&str, Duration)) {
    let timing: LeaseTiming = lease.parse().expect("a profile");
    let workers = ["w1", "w2", "w3", "w4"];
    let (mut fleet, mut witness) = start(lease, &workers);
    // The task lasts longer than the old run can, so the old run cannot end by itself.
    let time = timing.master() + Duration::from_millis(500);
    let tasks = [(); 4].map(|()| beat(&fleet, &mut witness, time));
    let on = |worker: &str| tasks.iter().find(|(_, run)| run.worker == worker);
    let ((cut, cut_run), (stopped, stopped_run)) = workers
        .iter()
        .filter_map(|worker| on(worker))
        .zip(workers.iter().filter_map(|worker| on(worker)).skip(1))
        .next()
        .expect("the least loaded worker is taken: they are on different ones");
    let at_ns = now_ns();
    fleet.net().cut(&around(&cut_run.worker, ["m1", NATS]));
    fleet.signal(&stopped_run.worker, Signal::STOP);
    for (task, how) in [(cut, "cut off"), (stopped, "stopped")] {
        let new = run_after(&mut witness, task, at_ns);
        let took = between(at_ns, new.began_ns());
        // A pause of runs that no fault struck is a delay of the machine, and does not count against the
        // fleet.
        let struck = [&cut_run.worker, &stopped_run.worker];
        let runs = witness.tasks().values().flatten().filter(|run| !struck.contains(&&run.worker));
        let busy = Duration::from_nanos(runs.map(|run| run.pause_ns).max().unwrap_or(0));
        println!("{lease}: {how} → first effect elsewhere after {took:?}; others waited {busy:?}");
        assert!(took <= within + busy, "{how}: {took:?}, others waited {busy:?}");
    }
    fleet.net().heal(&around(&cut_run.worker, ["m1", NATS]));
    fleet.signal(&stopped_run.worker, Signal::CONT);
    for (task, _) in &tasks {
        completed(&fleet, task);
    }
    witness.look().expect("journals are readable");
    let overlaps = checker::overlaps(&witness);
    assert!(overlaps.is_empty(), "{overlaps:?}");
}

#[test]
fn what_a_silent_worker_ran_begins_elsewhere_within_five_seconds() {
    silence_two_of_four(STANDARD);
}

#[test]
fn with_fast_leases_it_begins_elsewhere_within_a_second() {
    silence_two_of_four(FAST);
}

#[test]
fn a_worker_that_reaches_the_registry_but_no_master_delivers_its_outcome_later() {
    let timing = LeaseTiming::STANDARD;
    let (mut fleet, mut witness) = start("standard", &["w1", "w2"]);
    let (task, run) = beat(&fleet, &mut witness, timing.renew_every());
    fleet.net().cut(&around(&run.worker, ["m1"]));
    wait_for("it to end", || {
        witness.look().expect("journals are readable");
        witness.runs(&task)[0].ended.then_some(())
    });
    // The worker must not be declared lost, however long this goes on.
    std::thread::sleep(timing.master() + timing.renew_every());
    assert!(fleet.record(&task)["state"]["dispatched"].is_object(), "nobody could tell the master");
    fleet.net().heal(&around(&run.worker, ["m1"]));
    assert_eq!(completed(&fleet, &task)["attempts"], 1);
}

#[test]
fn a_worker_that_reaches_its_master_but_not_the_registry_is_renewed_through_it() {
    let timing = LeaseTiming::STANDARD;
    let (mut fleet, mut witness) = start("standard", &["w1", "w2"]);
    let (task, run) = beat(&fleet, &mut witness, timing.master() + timing.renew_every() * 2);
    fleet.net().cut(&around(&run.worker, [NATS]));
    assert_eq!(completed(&fleet, &task)["attempts"], 1);
    witness.look().expect("journals are readable");
    assert_eq!(witness.runs(&task).len(), 1);
}
