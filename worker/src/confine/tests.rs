//! What a confined thread can and cannot reach. Each test enters its domain on a thread of its own, so
//! that the test process itself is not confined.

use super::*;
use rustix::process::{Signal, getppid, kill_process, test_kill_process};
use std::{
    io::{self, ErrorKind},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
};

/// Runs a test on a thread of its own. Says so if the kernel does not enforce everything, and the test
/// was cut short.
fn on_a_thread(test: impl FnOnce(&Path) -> Enforced + Send + 'static) {
    let dir = std::env::temp_dir().join(format!(
        "muster-confine-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    fs::create_dir_all(dir.join("state")).expect("a directory");
    let theirs = dir.clone();
    let enforced = std::thread::spawn(move || test(&theirs)).join().expect("it does not panic");
    if enforced != Enforced::Fully {
        eprintln!("not tested in full: the kernel enforces {enforced:?}");
    }
    fs::remove_dir_all(dir).expect("it is ours, and this thread is free");
}

fn denied<T>(result: io::Result<T>) -> bool {
    matches!(result.map_err(|error| error.kind()), Err(ErrorKind::PermissionDenied))
}

fn reach(dir: &Path) -> Files {
    let read = SYSTEM.iter().map(PathBuf::from).collect();
    Files {
        read,
        run: programs(),
        keep: vec![dir.join("state")],
        append: vec![dir.join("journal")],
        ..Files::default()
    }
}

#[test]
fn a_confined_worker_reaches_its_own_and_nothing_else() {
    on_a_thread(|dir| {
        fs::write(dir.join("other"), "not its own").expect("free as yet");
        fs::write(dir.join("journal"), "a line\n").expect("free as yet");
        let enforced = enter(&reach(dir)).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        let state = dir.join("state");
        fs::create_dir(state.join("deep")).expect("its own");
        fs::write(state.join("deep/file"), "text").expect("its own");
        fs::rename(state.join("deep/file"), state.join("file")).expect("its own");
        fs::remove_dir(state.join("deep")).expect("its own");
        let append = || File::options().append(true).create(true).open(dir.join("journal"));
        append().expect("its own");
        assert!(denied(fs::write(dir.join("new"), "")), "another directory");
        assert!(denied(fs::read(dir.join("other"))), "another file");
        assert!(denied(fs::remove_file(dir.join("other"))));
        assert!(denied(fs::rename(state.join("file"), dir.join("file"))));
        assert!(denied(fs::read(dir.join("journal"))), "for writing alone");
        assert!(denied(fs::read_dir("/")), "the root");
        fs::read_to_string("/proc/self/status").expect("the system's");
        fs::read_dir("/etc").expect("the system's");
        File::options().read(true).write(true).open(NULL).expect("the null device");
        enforced
    });
}

#[test]
fn a_confined_worker_starts_only_itself() {
    on_a_thread(|dir| {
        let enforced = enter(&reach(dir)).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        let run = |program: &str| Command::new(program).arg("--list").output();
        assert!(run("/proc/self/exe").expect("itself").status.success());
        assert!(denied(run("/bin/true")));
        enforced
    });
}

#[test]
fn a_confined_worker_dials_but_does_not_listen_and_signals_nobody_outside() {
    on_a_thread(|dir| {
        let outside = TcpListener::bind("127.0.0.1:0").expect("free as yet");
        let address = outside.local_addr().expect("an address");
        let parent = getppid().expect("a parent");
        test_kill_process(parent).expect("free as yet");
        let enforced = enter(&reach(dir)).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        assert!(denied(TcpListener::bind("127.0.0.1:0")));
        TcpStream::connect(address).expect("NATS is reached so");
        UdpSocket::bind("127.0.0.1:0").expect("masters are reached so");
        assert!(test_kill_process(parent).is_err(), "it is outside");
        let mut child = Command::new("/proc/self/exe")
            .args(["confine::tests::waits", "--exact", "--ignored"])
            .spawn()
            .expect("itself");
        kill_process(rustix::process::Pid::from_child(&child), Signal::KILL).expect("a child");
        assert!(!child.wait().expect("a child").success());
        enforced
    });
}

#[test]
#[ignore = "the process that another test ends"]
fn waits() {
    std::thread::park_timeout(std::time::Duration::from_secs(30));
}

#[test]
fn what_is_shut_keeps_what_is_open_and_gets_nothing_more() {
    on_a_thread(|dir| {
        let open = fs::write(dir.join("state/file"), "text")
            .and_then(|()| File::options().write(true).open(dir.join("state/file")));
        shut().expect("a domain");
        // A second domain on top reports how much of it the kernel enforces.
        let enforced = enter(&Files::default()).expect("a domain");
        if enforced == Enforced::Fully {
            use std::io::Write as _;
            open.expect("a file").write_all(b"more").expect("it was open");
            assert!(denied(fs::read(dir.join("state/file"))));
            assert!(denied(File::open("/proc/self/status")));
            assert!(denied(File::open("/dev/null")));
            assert!(denied(TcpStream::connect("127.0.0.1:1")));
        }
        enforced
    });
}
