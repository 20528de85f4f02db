//! What a guest's HTTP requests may and may not do, against servers on loopback that report what
//! reached them. Never sends a request to another machine.

use super::bench::*;
use muster_protocol::{
    Time,
    grant::Grants,
    lease::KillReason,
    message::AttemptKey,
    task::{Limits, Verdict},
};
use muster_worker::{
    clock::boottime,
    run::RunSpec,
    sandbox::{ATTEMPT_HEADER, REQUESTS_MAX, TASK_HEADER},
};
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long nothing may arrive until the test concludes that nothing more is on its way. A kernel that
/// probes a full receiver does so after 200 ms.
const QUIET: Duration = Duration::from_millis(500);

/// How long a guest may take to fill all buffers between it and a server that does not read. If it
/// takes longer, the tests see less and still hold.
const FILLING: Duration = Duration::from_millis(300);

/// More bytes than the kernel and the worker buffer between a guest and its server.
const BODY: u64 = 1 << 30;

/// The guest of `examples/fetch`.
fn guest() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../.muster/guests/fetch.wasm");
    let core = std::fs::read(path).expect("it is built: run setup/guests");
    muster_module::to_component(&core).unwrap()
}

/// A run that sends the requests in `lines`, with the grants in `rules`.
fn asking(rules: &[&str], lines: &str) -> RunSpec {
    let http = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    RunSpec { grants: Arc::new(Grants { http, ..Grants::default() }), ..run_spec(lines) }
}

/// Runs the guest with a lease that does not end.
fn ask(order: RunSpec) -> Seen {
    let bench = Bench::new(1);
    on_threads(1, async move {
        let program = bench.engine.compile(&guest()).unwrap();
        bench.run(&program, order, bench.gate()).await
    })
}

fn failure(seen: &Seen) -> &str {
    match seen.verdict() {
        Verdict::Failed { message, .. } => message,
        verdict => panic!("{verdict:?}"),
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Whether any client ever connected.
fn was_reached(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    match listener.accept() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// The lines of a request before its body, in lower case.
fn head(stream: &TcpStream) -> Vec<String> {
    let lines = BufReader::new(stream).lines().map(|line| line.unwrap().to_lowercase());
    lines.take_while(|line| !line.is_empty()).collect()
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";

/// Serves one connection.
fn once<T: Send + 'static>(
    listener: TcpListener,
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || serve(listener.accept().unwrap().0))
}

#[test]
fn what_is_not_allowed_is_never_connected_to() {
    let (listener, address) = listen();
    let port = address.port();
    let any = format!("*:{port}");
    let named = format!("name.example:{port}");
    let short = format!("127.1:{port}");
    for (rule, host, error) in [
        (None, "127.0.0.1", "HttpRequestDenied"),
        (None, "localhost", "HttpRequestDenied"),
        (Some("127.0.0.1:1"), "127.0.0.1", "HttpRequestDenied"),
        (Some(&*named), "localhost", "HttpRequestDenied"),
        (Some(&*named), "127.0.0.1", "HttpRequestDenied"),
        // This rule allows any name and any address, except those of the machine itself.
        (Some(&*any), "localhost", "HttpRequestDenied"),
        (Some(&*any), "127.0.0.1", "HttpRequestDenied"),
        (Some(&*any), "[::1]", "HttpRequestDenied"),
        // These are not written as addresses, so they count as names, which are allowed; they resolve
        // to loopback.
        (Some(&*any), "127.1", "DestinationIpProhibited"),
        (Some(&*any), "2130706433", "DestinationIpProhibited"),
        (Some(&*short), "127.1", "DestinationIpProhibited"),
    ] {
        let rules: Vec<&str> = rule.into_iter().collect();
        let seen = ask(asking(&rules, &format!("http://{host}:{port}/")));
        assert!(failure(&seen).contains(error), "{rule:?}, {host}: {}", failure(&seen));
    }
    assert!(!was_reached(&listener));
}

#[test]
fn an_allowed_place_answers() {
    let (listener, address) = listen();
    let server = once(listener, |mut stream| {
        let head = head(&stream);
        stream.write_all(HELLO).unwrap();
        head
    });
    let rule = address.to_string();
    let seen = ask(asking(&[&rule], &format!("http://{address}/a?b=c\nheader x-color blue")));
    assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, "hello"));
    let head = server.join().unwrap();
    assert_eq!(head[0], "get /a?b=c http/1.1");
    let AttemptKey { task, attempt } = KEY;
    for (name, value) in [
        (TASK_HEADER, task.to_string()),
        (ATTEMPT_HEADER, attempt.to_string()),
        ("host", rule),
        ("x-color", "blue".to_string()),
    ] {
        let named: Vec<_> = head.iter().filter(|line| line.starts_with(name)).collect();
        assert_eq!(named, [&format!("{name}: {value}")], "{head:?}");
    }
}

#[test]
fn a_guest_cannot_name_another_task() {
    let (listener, address) = listen();
    for name in [TASK_HEADER, ATTEMPT_HEADER, "Muster-Task", "MUSTER-ATTEMPT", "host"] {
        let lines = format!("http://{address}/\nheader {name} another");
        let seen = ask(asking(&[&address.to_string()], &lines));
        assert_eq!(failure(&seen), format!("the header {name}: HeaderError::Forbidden"));
    }
    assert!(!was_reached(&listener));
}

/// Reads until the other side ends the connection or nothing arrives for [`QUIET`]. Returns the number
/// of bytes, the time of the last one, and whether the connection has ended.
fn drain(mut stream: &TcpStream) -> (usize, Time, bool) {
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let (mut buffer, mut size, mut last) = (vec![0; 1 << 16], 0, Time::ZERO);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (size, last, true),
            Ok(read) => (size, last) = (size + read, boottime()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (size, last, false),
            Err(_) => return (size, last, true),
        }
    }
}

/// A run that posts more bytes than the server reads.
fn posting(address: SocketAddr) -> RunSpec {
    let limits = Limits { timeout_ms: 60_000, ..run_spec("").limits };
    let lines = format!("http://{address}/\nbody {BODY}");
    RunSpec { limits, ..asking(&[&address.to_string()], &lines) }
}

#[test]
fn a_worker_held_up_across_the_leases_end_sends_nothing_more() {
    let bench = Bench::new(1);
    let (listener, address) = listen();
    let ((hold, held), (go, gone)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let (tell, told) = oneshot::channel();
    let lease = bench.clone();
    let server = once(listener, move |stream| {
        held.recv().unwrap();
        // Everything that was sent but not read yet; the worker still has more to send.
        let (before, came, _) = drain(&stream);
        let until = lease.lease(Duration::ZERO);
        go.send(()).unwrap();
        let (late, _, is_over) = drain(&stream);
        tell.send(()).unwrap();
        assert!(before > 0 && came < until, "{before} bytes, {came:?}, {until:?}");
        assert_eq!(late, 0, "bytes came after the lease's end");
        assert!(is_over, "the connection has ended");
    });
    on_threads(1, async move {
        let program = bench.engine.compile(&guest()).unwrap();
        let mut run = std::pin::pin!(bench.run(&program, posting(address), bench.gate()));
        tokio::select! {
            seen = &mut run => panic!("{:?}", seen.ended),
            () = tokio::time::sleep(FILLING) => {}
        }
        // This blocks the only thread, as if the process were stopped.
        hold.send(()).unwrap();
        gone.recv().unwrap();
        // Now the loop of the connection goes on, while nothing polls the run.
        told.await.unwrap();
        assert_eq!(run.await.killed(), KillReason::Fenced);
    });
    server.join().unwrap();
}

#[test]
fn what_waits_to_be_sent_is_dropped_at_the_leases_end() {
    let bench = Bench::new(1);
    let (listener, address) = listen();
    let (tell, told) = mpsc::channel();
    let server = once(listener, move |stream| {
        // The server reads nothing before the run has ended.
        told.recv().unwrap();
        let arrived = reset(&stream);
        let (size, ..) = drain(&stream);
        assert!(arrived > 0 && size as u64 <= arrived, "{size} bytes, not {arrived}");
    });
    on_threads(1, async move {
        let program = bench.engine.compile(&guest()).unwrap();
        bench.lease(FILLING);
        let seen = bench.run(&program, posting(address), bench.gate()).await;
        assert_eq!(seen.killed(), KillReason::Fenced);
        tell.send(()).unwrap();
        tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
    });
}

/// Waits until the other side's kernel has reset the connection; returns how many bytes had arrived by
/// then.
fn reset(stream: &TcpStream) -> u64 {
    let began = Instant::now();
    loop {
        match stream.take_error().unwrap() {
            Some(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Some(error) => panic!("{error}"),
            None => assert!(began.elapsed() < Duration::from_secs(5), "it is not reset"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    rustix::io::ioctl_fionread(stream).unwrap()
}

#[test]
fn what_waits_to_be_sent_is_dropped_at_the_runs_end() {
    // More than the kernel of a server that does not read takes, and less than the worker's kernel
    // takes.
    const SENT: u64 = 1 << 20;
    let (listener, address) = listen();
    let (tell, told) = mpsc::channel();
    let server = once(listener, move |stream| {
        // The server reads nothing before the run has ended.
        told.recv().unwrap();
        let arrived = reset(&stream);
        let (size, ..) = drain(&stream);
        assert!(size as u64 <= arrived && arrived < SENT, "{size} bytes, then {arrived}");
    });
    let lines = format!("http://{address}/\nbody {SENT}\nforget");
    let seen = ask(asking(&[&address.to_string()], &lines));
    assert_eq!(seen.verdict(), &Verdict::Completed, "its lease holds and its time is not over");
    tell.send(()).unwrap();
    server.join().unwrap();
}

#[test]
fn a_request_that_was_answered_ends_in_good_order() {
    for end in ["connection: close", "connection: keep-alive"] {
        let (listener, address) = listen();
        let server = once(listener, move |mut stream| {
            head(&stream);
            drain(&stream);
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{end}\r\n\r\nhello").unwrap();
            stream.read(&mut [0])
        });
        let lines = format!("http://{address}/\nbody 65536");
        let seen = ask(asking(&[&address.to_string()], &lines));
        assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, "hello"));
        assert_eq!(server.join().unwrap().unwrap(), 0, "it is not reset");
    }
}

#[test]
fn a_request_that_was_not_answered_is_reset_at_the_leases_end() {
    let bench = Bench::new(1);
    let (listener, address) = listen();
    let server = once(listener, |mut stream| {
        head(&stream);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.read(&mut [0])
    });
    on_threads(1, async move {
        let program = bench.engine.compile(&guest()).unwrap();
        let order = asking(&[&address.to_string()], &format!("http://{address}/"));
        bench.lease(FILLING);
        let seen = bench.run(&program, order, bench.gate()).await;
        assert_eq!(seen.killed(), KillReason::Fenced);
    });
    // A connection that is closed in good order would say that the guest had sent everything; only the
    // guest may say that.
    let error = server.join().unwrap().expect_err("it ended in good order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn nothing_of_a_run_is_left_when_it_has_ended() {
    let bench = Bench::new(1);
    let (listener, address) = listen();
    on_threads(1, async move {
        let program = bench.engine.compile(&guest()).unwrap();
        let gate = bench.gate();
        let mut run = std::pin::pin!(bench.run(&program, posting(address), gate.clone()));
        tokio::select! {
            seen = &mut run => panic!("{:?}", seen.ended),
            () = tokio::time::sleep(FILLING) => {}
        }
        let (stream, _) = listener.accept().unwrap();
        gate.kill(KillReason::Revoked);
        assert_eq!(run.await.killed(), KillReason::Revoked);
        // The reset must be there at once: a master that hears of the run's end may start another
        // attempt.
        let error = stream.take_error().unwrap().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "its connection is still there");
    });
}

#[test]
fn only_so_many_requests_are_under_way_at_once() {
    const ASKED: usize = REQUESTS_MAX + 8;
    let (listener, address) = listen();
    // The number of open requests, and the highest number so far.
    let open = Arc::new((Mutex::new((0_usize, 0_usize)), Condvar::new()));
    let counts = open.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().take(ASKED).flatten() {
            let open = counts.clone();
            std::thread::spawn(move || {
                let mut counts = open.0.lock().unwrap();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
                open.1.notify_all();
                // No request is answered before [`REQUESTS_MAX`] of them are open. Then the server
                // waits a while, so that a request beyond the limit would have time to arrive.
                let many = open.1.wait_while(counts, |counts| counts.1 < REQUESTS_MAX).unwrap();
                drop(many);
                head(&stream);
                std::thread::sleep(Duration::from_millis(100));
                // Counted before the answer, since the next request may follow the answer at once.
                open.0.lock().unwrap().0 -= 1;
                stream.write_all(HELLO).unwrap();
            });
        }
    });
    let lines: String = (0..ASKED).map(|_| format!("http://{address}/\n")).collect();
    let seen = ask(asking(&[&address.to_string()], &lines));
    assert_eq!((seen.verdict(), seen.output()), (&Verdict::Completed, &*"hello".repeat(ASKED)));
    assert_eq!(*open.0.lock().unwrap(), (0, REQUESTS_MAX));
}

#[test]
fn an_answer_that_stalls_ends_when_the_guest_says() {
    let (listener, address) = listen();
    let server = once(listener, |mut stream| {
        head(&stream);
        stream.write_all(&HELLO[..HELLO.len() - 2]).unwrap();
        // This waits until the guest gives up.
        let _ = stream.read(&mut [0]);
    });
    let lines = format!("http://{address}/\nbetween 300");
    let seen = ask(asking(&[&address.to_string()], &lines));
    let error = failure(&seen);
    assert!(error.contains("broke off") && error.contains("connection read timeout"), "{error}");
    let took = seen.took;
    assert!((300..2_000).contains(&took.as_millis()), "{took:?}");
    server.join().unwrap();
}
