//! A log that cannot be written costs only its lines: daemons continue, and a command ends with the same
//! result.

use muster_tests::Fleet;
use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read, Write as _, pipe},
    process::Stdio,
};

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("the kernel has one").into()
}

fn unread() -> Stdio {
    pipe().expect("a pipe").1.into()
}

/// A pipe that is full, and its reader.
fn stuck() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe can refuse");
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("a pipe can block");
    (reader, writer)
}

#[test]
fn a_daemon_whose_log_cannot_be_written_goes_on() {
    for (what, log) in [("a full disk", full as fn() -> Stdio), ("a pipe without a reader", unread)]
    {
        let mut fleet = Fleet::registry();
        fleet.log_to("m1", log());
        fleet.start_master("m1");
        fleet.log_to("w1", log());
        fleet.start_worker("w1", &[]);
        fleet.push("upper");
        let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
        assert_eq!(ran.text(), "A", "{what}");
        assert!(fleet.bury().is_empty(), "{what} ended a daemon");
    }
}

#[test]
fn a_daemon_whose_log_nobody_reads_goes_on_and_says_later_what_happened() {
    let mut fleet = Fleet::start(0, 0);
    let (mut reader, writer) = stuck();
    fleet.log_to("w1", writer.into());
    fleet.start_worker("w1", &["--unsupervised"]);
    fleet.push("upper");
    let ran = fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    assert_eq!(ran.text(), "A");
    // The queued lines are written when there is space again.
    let reading = std::thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).map(|_| log)
    });
    fleet.signal("w1", rustix::process::Signal::TERM);
    assert_eq!(fleet.ended("w1"), 0);
    let log = reading.join().expect("no panic").expect("it can be read");
    assert!(log.contains("started"), "{}", log.trim_start_matches('.'));
}

#[test]
fn the_reader_of_standard_error_may_leave_and_the_exit_code_is_the_guests() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    for log in [full(), unread()] {
        // Without input the command reports an error, and sets its exit code.
        let mut command = fleet.muster(&["task", "run", "upper", "--wait"]);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status();
        assert_eq!(status.expect("muster starts").code(), Some(3));
    }
}
