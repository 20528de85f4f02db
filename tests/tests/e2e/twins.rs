//! Two processes under the same worker name: the second one runs nothing beside the first, whether it
//! has its own state directory or a copy of the first one's. Only a lock proves that a session is over.

use muster_protocol::lease::LeaseTiming;
use muster_tests::{
    Fleet,
    chaos::{between, checker, now_ns, run_log::RunLog},
    fleet::{text, wait_for},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{path::PathBuf, process::Command, time::Duration};

/// The log line of a worker whose lease another process holds, without proof that this process is dead.
const WAITS: &str = "another process holds this worker's lease";

/// Much longer than a worker takes to begin a session and a master to dispatch a task to it.
const WHILE_BOTH_RUN: Duration = Duration::from_secs(3);

/// A fleet with the worker `w1`, which runs a long task, and the journals of `w1` and of its twin. With
/// two slots the twin could run more.
struct Pair {
    fleet: Fleet,
    witness: RunLog,
    twin_journal: PathBuf,
    task: String,
    /// The session of the first process.
    first: String,
}

impl Pair {
    fn start() -> Self {
        let mut fleet = Fleet::start(0, 0);
        let (journal, twin_journal) = (fleet.path("w1.journal"), fleet.path("twin.journal"));
        fleet.start_worker("w1", &["--slots", "2", "--journal", text(&journal)]);
        fleet.push("heart");
        let input = r#"{"for_ms":3600000,"rest":true}"#;
        let task = fleet.run(&["task", "run", "heart", "--input", input]).ok().text();
        let witness = RunLog::new([journal, twin_journal.clone()]);
        let first = session(&fleet);
        let mut pair = Pair { fleet, witness, twin_journal, task, first };
        wait_for("it to run", || (pair.runs() == 1).then_some(()));
        pair
    }

    /// Launches the second process, and waits until it logs that it waits.
    fn launch_twin(&mut self, state: &str) {
        let (state, journal) = (self.fleet.path(state), self.twin_journal.clone());
        let slots = ["--slots", "2", "--state-dir", text(&state), "--journal", text(&journal)];
        self.fleet.launch_twin("twin", "w1", &slots);
        wait_for("it to meet the lease of the first", || {
            (self.is_waiting() || self.fleet.is_ready("twin")).then_some(())
        });
    }

    fn is_waiting(&self) -> bool {
        self.fleet.log("twin").contains(WAITS)
    }

    /// Submits another task. Demands for a while that the twin holds no lease and receives no dispatch.
    fn demand_that_the_twin_waits(&mut self) {
        let input = r#"{"for_ms":1}"#;
        let short = ["task", "run", "heart", "--input", input, "--wait"];
        let began_ns = now_ns();
        while between(began_ns, now_ns()) < WHILE_BOTH_RUN {
            self.fleet.run(&short).ok();
            assert!(!self.fleet.is_ready("twin"), "it holds the lease of a worker that runs");
            let lines = self.fleet.journal(&self.twin_journal);
            assert!(lines.is_empty(), "it was given something: {lines:?}");
        }
        assert!(self.is_waiting(), "it must say why it does nothing");
        assert_eq!(session(&self.fleet), self.first, "another session has the lease");
        let record = self.fleet.record(&self.task);
        assert_eq!(record["attempts"], 1, "the first worker was disturbed: {record}");
        assert!(
            !self.fleet.log("w1").contains("another session has the lease"),
            "it lost its lease"
        );
    }

    /// The number of runs of the long task.
    fn runs(&mut self) -> usize {
        self.witness.look().expect("journals are readable");
        let runs = self.witness.runs(&self.task).iter();
        runs.filter(|run| run.called_ns.is_some()).count()
    }

    /// Waits until the twin runs the task. Demands that it waited for the end of the lease, and that no
    /// runs overlapped.
    fn demand_that_the_twin_takes_over(&mut self, struck_ns: u64) {
        wait_for("the twin to run it", || (self.runs() == 2).then_some(()));
        let second = self.witness.runs(&self.task)[1].clone();
        // The last renewal may be as old as the interval between two renewals.
        let timing = LeaseTiming::STANDARD;
        let least = timing.master() - timing.renew_every() * 2;
        let took = between(struck_ns, second.first_ns);
        println!("the twin began {took:?} after the first was struck");
        assert!(took >= least, "{took:?}: nobody could know that the first was dead");
        assert_ne!(session(&self.fleet), self.first, "one process runs under the other's session");
        let is_twins = |line: &Value| line["attempt"] == *second.attempt;
        assert!(self.fleet.journal(&self.twin_journal).iter().any(is_twins));
        let overlaps = checker::overlaps(&self.witness);
        assert!(overlaps.is_empty(), "{overlaps:?}");
    }
}

/// The session that has the lease, as masters know it.
fn session(fleet: &Fleet) -> String {
    let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    workers["workers"][0]["lease"]["session"].as_str().expect("a session").into()
}

#[test]
fn a_second_worker_of_a_name_waits_until_the_first_is_lost() {
    let mut pair = Pair::start();
    pair.launch_twin("twin.state");
    pair.demand_that_the_twin_waits();
    let struck_ns = now_ns();
    pair.fleet.kill("w1");
    pair.demand_that_the_twin_takes_over(struck_ns);
}

#[test]
fn a_copy_of_a_state_directory_proves_nothing() {
    let mut pair = Pair::start();
    let (state, copy) = (pair.fleet.path("w1.state"), pair.fleet.path("copy.state"));
    let copied = Command::new("cp").arg("-a").args([&state, &copy]).status();
    assert!(copied.is_ok_and(|status| status.success()), "its owner may copy a directory");
    pair.launch_twin("copy.state");
    pair.demand_that_the_twin_waits();
    // The process is stopped and holds its lock, so only the end of its lease ends its rights.
    let struck_ns = now_ns();
    pair.fleet.signal("w1", Signal::STOP);
    pair.demand_that_the_twin_takes_over(struck_ns);
    // The process continues, and finds that another one holds its lease. It has the lock of the first
    // directory, which proves nothing about a process that has the lock of the copy.
    let twins = session(&pair.fleet);
    pair.fleet.signal("w1", Signal::CONT);
    wait_for("it to meet the lease of the twin", || {
        pair.fleet.log("w1").contains(WAITS).then_some(())
    });
    std::thread::sleep(LeaseTiming::STANDARD.renew_every() * 4);
    assert_eq!(session(&pair.fleet), twins, "it took the lease from a process that runs");
    assert_eq!(pair.runs(), 2, "both run it");
    let overlaps = checker::overlaps(&pair.witness);
    assert!(overlaps.is_empty(), "{overlaps:?}");
}
