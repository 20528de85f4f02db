//! What a confined thread can and cannot reach. Each test enters its domain on a thread of its own, so
//! that the test process itself is not confined.

use super::*;
use rustix::{
    net::{
        AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, connect, ipproto, listen,
        sendto, socket, socketpair,
    },
    process::{Signal, getppid, kill_process, test_kill_process},
};
use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    process::Command,
};

/// `MSG_FASTOPEN`: connect, and send with the first packet.
const FAST_OPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);

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

fn denied<T>(result: Result<T, impl Into<io::Error>>) -> bool {
    matches!(result.map_err(|error| error.into().kind()), Err(ErrorKind::PermissionDenied))
}

fn reach(dir: &Path, ports: &[u16]) -> Reach {
    Reach {
        read: system::files(),
        run: programs(),
        keep: vec![dir.join("state")],
        ports: Some(ports.iter().copied().collect()),
        ..Reach::default()
    }
}

#[test]
fn a_confined_worker_reaches_its_own_and_nothing_else() {
    on_a_thread(|dir| {
        fs::write(dir.join("other"), "not its own").expect("free as yet");
        let journal = dir.join("journal");
        let opened = File::options().append(true).create(true).open(&journal);
        let mut opened = opened.expect("free as yet");
        let enforced = enter(&reach(dir, &[])).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        let state = dir.join("state");
        fs::create_dir(state.join("deep")).expect("its own");
        fs::write(state.join("deep/file"), "text").expect("its own");
        fs::rename(state.join("deep/file"), state.join("file")).expect("its own");
        fs::remove_dir(state.join("deep")).expect("its own");
        opened.write_all(b"a line\n").expect("it was opened before");
        opened.set_len(0).expect("it was opened before");
        assert!(denied(fs::write(dir.join("new"), "")), "another directory");
        assert!(denied(fs::read(dir.join("other"))), "another file");
        assert!(denied(fs::remove_file(dir.join("other"))));
        assert!(denied(fs::rename(state.join("file"), dir.join("file"))));
        assert!(denied(fs::read(&journal)), "it can be reached only where it is open already");
        assert!(denied(fs::read_dir("/")), "the root");
        fs::read_to_string("/proc/self/status").expect("the system's");
        fs::read_dir("/proc/self/fd").expect("the system's");
        File::options().read(true).write(true).open(NULL).expect("the null device");
        enforced
    });
}

#[test]
fn a_confined_worker_reads_no_secret_of_the_host_and_nothing_of_other_processes() {
    on_a_thread(|dir| {
        let parent = getppid().expect("a parent").as_raw_nonzero();
        let arguments = format!("/proc/{parent}/cmdline");
        assert!(!fs::read(&arguments).expect("free as yet").is_empty());
        fs::read("/etc/passwd").expect("free as yet");
        let enforced = enter(&reach(dir, &[])).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        let environment = format!("/proc/{parent}/environ");
        let others = [arguments.as_str(), &environment, "/proc/1/cmdline", "/proc/kallsyms"];
        for file in ["/etc/shadow", "/etc/passwd", "/etc/machine-id"].iter().chain(&others) {
            assert!(denied(fs::read(file)) || !Path::new(file).exists(), "{file}");
        }
        assert!(denied(fs::read_dir("/etc")));
        assert!(denied(fs::read_dir("/proc")));
        for file in ["/etc/hosts", "/proc/sys/kernel/random/boot_id", "/etc/ssl/certs"] {
            assert!(!denied(File::open(file)), "{file}");
        }
        enforced
    });
}

#[test]
fn a_confined_worker_starts_only_itself() {
    on_a_thread(|dir| {
        let enforced = enter(&reach(dir, &[])).expect("a domain");
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
        let bind = || TcpListener::bind("127.0.0.1:0").expect("free as yet");
        let (nats, other) = (bind(), bind());
        let nats = nats.local_addr().expect("an address");
        let other = other.local_addr().expect("an address");
        let parent = getppid().expect("a parent");
        test_kill_process(parent).expect("free as yet");
        let enforced = enter(&reach(dir, &[nats.port()])).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        let tcp = || socket(AddressFamily::INET, SocketType::STREAM, None).expect("for NATS");
        TcpStream::connect(nats).expect("NATS is reached so");
        UdpSocket::bind("127.0.0.1:0").expect("masters are reached so");
        assert!(denied(TcpStream::connect(other)), "another port");
        assert!(denied(sendto(tcp(), b"first", FAST_OPEN, &other)), "another port");
        assert!(denied(TcpListener::bind("127.0.0.1:0")));
        assert!(denied(listen(tcp(), 1)), "at a port that the kernel chooses");
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
fn the_tcp_ports_of_masters_are_among_those_to_connect_to() {
    let masters = ["hq.example.com:7400".into(), "[2001:db8::1]:7401".into()];
    let collector = "http://127.0.0.1:4318".parse().expect("a collector");
    let ports = ports(None, &Rules::default(), &masters, Some(&collector)).expect("not all ports");
    assert_eq!(ports, BTreeSet::from([NAMES_PORT, 4318, 7400, 7401]));
}

#[test]
fn a_confined_worker_reaches_no_program_by_a_socket_of_another_kind() {
    on_a_thread(|dir| {
        let stream = UnixListener::bind(dir.join("docker.sock")).expect("free as yet");
        let datagrams = UnixDatagram::bind(dir.join("log.sock")).expect("free as yet");
        let port = TcpListener::bind("127.0.0.1:0").expect("free as yet");
        let address = port.local_addr().expect("an address");
        let make = |family, kind, protocol: Option<Protocol>| socket(family, kind, protocol);
        let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::empty(), None);
        let mptcp = || make(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
        if let Ok(mptcp) = mptcp() {
            connect(mptcp, &address).expect("free as yet");
        }
        let enforced = enter(&reach(dir, &[])).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        assert!(denied(UnixStream::connect(dir.join("docker.sock"))));
        assert!(denied(UnixDatagram::unbound()));
        assert!(denied(pair(SocketType::DGRAM)), "its ends could send to any path");
        pair(SocketType::STREAM).expect("the runtime's own");
        assert!(denied(make(AddressFamily::NETLINK, SocketType::RAW, None)));
        assert!(denied(make(AddressFamily::VSOCK, SocketType::STREAM, None)));
        assert!(denied(make(AddressFamily::PACKET, SocketType::RAW, None)));
        assert!(denied(make(AddressFamily::INET, SocketType::RAW, Some(ipproto::TCP))));
        assert!(denied(mptcp()), "Landlock does not restrict it");
        assert!(denied(io_uring()), "it makes sockets of any kind");
        drop((stream, datagrams));
        enforced
    });
}

/// Tries to set up an `io_uring`.
#[allow(unsafe_code)]
fn io_uring() -> io::Result<()> {
    let mut parameters = [0_u8; 256];
    // SAFETY: the kernel reads and writes one `io_uring_params` of 120 bytes at this address.
    let made = unsafe {
        nix::libc::syscall(nix::libc::SYS_io_uring_setup, 4_u32, parameters.as_mut_ptr())
    };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn a_confined_worker_resolves_names_until_their_files_are_replaced() {
    on_a_thread(|dir| {
        let (hosts, new) = (dir.join("hosts"), dir.join("hosts.new"));
        fs::write(&hosts, "old").expect("free as yet");
        fs::write(&new, "new").expect("free as yet");
        let (replace, asked) = std::sync::mpsc::channel();
        let outside = std::thread::spawn({
            let hosts = hosts.clone();
            move || asked.recv().map(|()| fs::rename(new, hosts))
        });
        let mut reach = reach(dir, &[NAMES_PORT]);
        reach.read.push(hosts.clone());
        let enforced = enter(&reach).expect("a domain");
        if enforced != Enforced::Fully {
            return enforced;
        }
        // glibc asks the kernel for its addresses and nscd for the name, and goes on without both.
        let found: Vec<_> = ("localhost", 80).to_socket_addrs().expect("a name").collect();
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        let confined = Confined { enforced, resolver: vec![dir.join("missing"), hosts.clone()] };
        assert_eq!(confined.replaced(), None);
        replace.send(()).expect("it waits");
        outside.join().expect("no panic").expect("it was asked").expect("it is free");
        assert_eq!(confined.replaced(), Some(hosts.as_path()), "the rule was for the old file");
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
        let enforced = enter(&Reach::default()).expect("a domain");
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
