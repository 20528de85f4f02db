//! Tests that the kernel kills a worker's process that still holds a guest past its lease, even if the
//! whole process is stopped, or the machine was suspended before; and that the kernel leaves an idle
//! process alone. Each test uses processes of its own.

use super::{bench::*, guests::*};
use muster_protocol::lease::LeaseEnd;
use muster_worker::{clock::boottime, deadman::SharedDeadman, gate::RunGate};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// The variable that tells this very program to be the process that is killed, and whether to run a
/// guest.
const MODE: &str = "MUSTER_TEST_DEADMAN";

const LEASE: Duration = Duration::from_millis(300);
const MARGIN: Duration = Duration::from_millis(100);

/// The promised limit of how late a kill may be.
const LATE_MAX: Duration = Duration::from_millis(10);

/// What a shared machine adds to the slowest trial: the killed process must still be scheduled to die,
/// and the waiting process to notice.
const SLACK: Duration = Duration::from_millis(250);

const TRIALS: usize = 12;

/// The number of trials on a machine that seems to have been suspended. Few are enough: a wrong clock
/// is an hour off, not some milliseconds.
const SUSPENDED_TRIALS: usize = 3;

/// How long the machine seems to have been suspended since it booted, in seconds.
const SUSPENDED_S: u64 = 3600;

/// How long the kernel may take to end a process before the test fails.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[test]
#[ignore = "the process that another test kills"]
fn child() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let deadman = SharedDeadman::new(MARGIN).unwrap();
    let until = boottime() + LEASE;
    deadman.move_end(until).unwrap();
    if mode == "guest" {
        let bench = Bench::new(1);
        let held = deadman.hold().unwrap();
        // The lease is extended while the guest may run, so the timer has to move.
        let until = boottime() + LEASE;
        deadman.move_end(until).unwrap();
        // This gate never closes: only the kernel can end the run.
        let gate = RunGate::new(LeaseEnd::never());
        println!("\nend {}", (until + MARGIN).as_nanos());
        on_threads(1, async move {
            let _held = held;
            let program = bench.compile(LOOP);
            bench.run(&program, run_spec(""), gate).await;
        });
    }
    drop(deadman.hold().unwrap());
    println!("\nend {}", (until + MARGIN).as_nanos());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    println!("\nalive {}", boottime().as_nanos());
}

/// Starts a process in this mode, with a function that reads a number that the process prints.
fn start(mode: &str) -> (Child, impl FnMut(&str) -> u64) {
    start_by(Command::new(std::env::current_exe().unwrap()), mode)
}

/// The same, but another program starts the process: the process' command line follows that program's
/// own arguments.
fn start_by(mut command: Command, mode: &str) -> (Child, impl FnMut(&str) -> u64) {
    let mut child = command
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

/// Waits for the end of a process that this process does not end.
fn ended(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > ENDS_WITHIN {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("nobody has ended it");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// How late a process that has just ended was killed, on this process' clock.
fn since(end_ns: u64) -> Duration {
    let (now, end) = (boottime(), muster_protocol::Time::from_nanos(end_ns));
    assert!(now >= end, "killed before its time");
    now.since(end)
}

#[test]
fn a_stopped_process_with_a_guest_is_killed_on_time() {
    let mut late: Vec<Duration> = Vec::new();
    for _ in 0..TRIALS {
        let (mut child, mut said) = start("guest");
        let end_ns = said("end ");
        kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        let status = ended(&mut child);
        late.push(since(end_ns));
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
    }
    late.sort();
    let [p25, p50, most] = [TRIALS / 4, TRIALS / 2, TRIALS - 1].map(|rank| late[rank]);
    println!("killed after the end of its margin: p50 {p50:?}, most {most:?}");
    assert!(p25 < LATE_MAX && most < LATE_MAX + SLACK, "{late:?}");
}

/// A shell script that runs its arguments and prints their exit status, which the program that starts
/// the shell does not report.
const TELL: &str = r#""$@"; printf '\nstatus %s\n' $?"#;

/// The start of a command line that runs as if the machine had been suspended: its boot clock is ahead
/// of the clock that stops in suspend. `None` if the kernel does not let this user have such a clock.
fn after_a_suspend() -> Option<Command> {
    let command = || {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // Everything in the namespace ends with its first process, which ends with this command.
        command.args(["--pid", "--fork", "--kill-child", "--time", "--boottime"]);
        command.arg(SUSPENDED_S.to_string());
        command
    };
    let tried = command().arg("true").status();
    tried.is_ok_and(|status| status.success()).then(command)
}

#[test]
fn on_a_machine_that_was_suspended_it_is_killed_on_time() {
    for _ in 0..SUSPENDED_TRIALS {
        let Some(mut command) = after_a_suspend() else {
            return eprintln!("not tested: no namespace with a clock of its own is to be had");
        };
        command.args(["sh", "-c", TELL, "sh"]).arg(std::env::current_exe().unwrap());
        let (mut child, mut said) = start_by(command, "guest");
        // Printed in the namespace, on the clock of leases. If that clock stopped in suspend, the
        // number would be an hour too low.
        let end_ns = said("end ") - SUSPENDED_S * 1_000_000_000;
        ended(&mut child);
        let late = since(end_ns);
        assert_eq!(said("status "), 128 + Signal::KILL.as_raw() as u64);
        assert!(late < LATE_MAX + SLACK, "{late:?}");
    }
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
