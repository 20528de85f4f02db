//! That the kernel ends a worker's process which still holds a guest past its lease, although the
//! process is stopped as a whole, and leaves an idle one alone. In processes of their own.

use super::{bench::*, guests::*};
use muster_protocol::lease::LeaseEnd;
use muster_worker::{clock::boottime, deadman::Deadman, gate::Gate};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Says to this very program that it is the process that is to be killed, and whether it runs a guest.
const MODE: &str = "MUSTER_TEST_DEADMAN";

const LEASE: Duration = Duration::from_millis(300);
const MARGIN: Duration = Duration::from_millis(100);

/// How late a kill may be, as promised.
const LATE_MAX: Duration = Duration::from_millis(10);

/// What a machine that is shared adds to the worst of some trials: a process that is killed must
/// still get its turn to die, and the one that waits for it to notice.
const SLACK: Duration = Duration::from_millis(250);

const TRIALS: usize = 12;

#[test]
#[ignore = "the process that another test kills"]
fn child() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let deadman = Deadman::new(MARGIN).unwrap();
    let until = boottime() + LEASE;
    deadman.extend(until).unwrap();
    if mode == "guest" {
        let bench = Bench::new(1);
        let held = deadman.hold().unwrap();
        // Renewed while it runs, so that the timer has to move.
        let until = boottime() + LEASE;
        deadman.extend(until).unwrap();
        // A gate that never closes: only the kernel can end this.
        let gate = Gate::new(LeaseEnd::never());
        println!("\nend {}", (until + MARGIN).as_nanos());
        on_threads(1, async move {
            let _held = held;
            let program = bench.compile(LOOP);
            bench.run(&program, order(""), gate).await;
        });
    }
    drop(deadman.hold().unwrap());
    println!("\nend {}", (until + MARGIN).as_nanos());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    println!("\nalive {}", boottime().as_nanos());
}

/// A process that has said what its end is to be.
fn start(mode: &str) -> (Child, impl FnMut(&str) -> u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["run::deadman::child", "--exact", "--ignored", "--nocapture"])
        .env(MODE, mode)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = move |word: &str| {
        let line = lines.find_map(|line| line.unwrap().strip_prefix(word).map(str::to_string));
        line.expect("it says so").trim().parse().unwrap()
    };
    (child, said)
}

#[test]
fn a_stopped_process_with_a_guest_is_killed_on_time() {
    let mut late: Vec<Duration> = Vec::new();
    for _ in 0..TRIALS {
        let (mut child, mut said) = start("guest");
        let end = said("end ");
        kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        let status = child.wait().unwrap();
        let now = boottime();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
        let end = muster_protocol::Time::from_nanos(end);
        assert!(now >= end, "killed before its time");
        late.push(now.since(end));
    }
    late.sort();
    let [p25, p50, most] = [TRIALS / 4, TRIALS / 2, TRIALS - 1].map(|rank| late[rank]);
    println!("killed after the end of its margin: p50 {p50:?}, most {most:?}");
    assert!(p25 < LATE_MAX && most < LATE_MAX + SLACK, "{late:?}");
}

#[test]
fn an_idle_process_that_was_stopped_for_long_goes_on() {
    let (mut child, mut said) = start("idle");
    let end = said("end ");
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    std::thread::sleep(LEASE + MARGIN + MARGIN);
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    drop(child.stdin.take());
    assert!(said("alive ") > end, "it slept through its lease");
    assert!(child.wait().unwrap().success());
}
