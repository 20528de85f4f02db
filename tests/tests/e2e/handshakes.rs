//! A flood of connections from somebody without a certificate.

use crate::{
    link_client::{HERE, block_on, files, resident_bytes},
    measure::tell,
};
use futures::StreamExt as _;
use muster_protocol::{
    TaskId,
    api::{self, NewTask, Submit},
    frame::Encoding,
    task::{Data, ModuleRef, TaskSpec},
};
use muster_tests::{Fleet, place};
use muster_wire::{link::quic, tls};
use quinn::Endpoint;
use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Packets a second, in bursts of this many.
const RATE: u64 = 6_000;
const BURST: usize = 60;

/// How long the flood lasts at least, and at most.
const FLOOD_MIN: Duration = Duration::from_secs(5);
const FLOOD_MAX: Duration = Duration::from_secs(60);

/// How much memory the flood may cost a master.
const MEMORY_MAX: u64 = 64 << 20;

/// The first packets of this many connections.
fn initials(fleet: &Fleet, count: usize) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind(HERE).expect("a port");
    sink.set_read_timeout(Some(Duration::from_secs(5))).expect("it can wait");
    let mut tls = tls::client(&files(fleet, "worker", "w9")).expect("certificates");
    tls.alpn_protocols = vec![Encoding::Named.alpn().to_vec()];
    let config = quic::client(tls).expect("TLS 1.3");
    let (host, to) = (fleet.names().master_host(), sink.local_addr().expect("it is bound"));
    block_on(async {
        let mut endpoint = Endpoint::client(SocketAddr::from(HERE)).expect("a port");
        endpoint.set_default_client_config(config);
        let mut packets = Vec::new();
        let mut buffer = [0; 2048];
        while packets.len() < count {
            let connecting = endpoint.connect(to, &host).expect("a name");
            tokio::task::yield_now().await;
            let size = tokio::task::block_in_place(|| sink.recv(&mut buffer)).expect("a packet");
            drop(connecting);
            // An Initial has a long header of type 0, and fills a packet.
            if size >= 1_200 && buffer[0] & 0xb0 == 0x80 {
                packets.push(buffer[..size].to_vec());
            }
        }
        packets
    })
}

/// Sends these packets to the master again and again, until told to stop. Returns how many were sent.
fn flood(packets: &[Vec<u8>], master: SocketAddr, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind(HERE).expect("a port");
    let (began, mut sent) = (Instant::now(), 0);
    for burst in packets.chunks(BURST).cycle() {
        if stop.load(Ordering::Relaxed) || began.elapsed() > FLOOD_MAX {
            break;
        }
        for packet in burst {
            let _ = socket.send_to(packet, master);
        }
        sent += burst.len() as u64;
        let due = Duration::from_micros(sent * 1_000_000 / RATE);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    sent
}

#[test]
fn a_flood_of_handshakes_costs_little_memory_and_workers_still_join() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let packets = initials(&fleet, 6_000);
    let master: SocketAddr = fleet.quic("m1").parse().expect("an address");
    let (before, stop) = (resident_bytes(&fleet, "m1"), AtomicBool::new(false));
    let mut most = 0;
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&packets, master, &stop));
        fleet.launch_worker("w2", &["--slots", "1"]);
        let began = Instant::now();
        while began.elapsed() < FLOOD_MIN {
            most = most.max(resident_bytes(&fleet, "m1"));
            std::thread::sleep(Duration::from_millis(50));
        }
        fleet.until_ready("w2");
        let task = fleet.run(&["task", "run", "upper", "--input", "a"]).ok().text();
        fleet.until("its end", &task, |record| record["state"]["done"].is_object());
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().expect("it ends");
        assert!(sent >= RATE, "only {sent} packets");
    });
    let used = most.saturating_sub(before);
    assert!(used < MEMORY_MAX, "{} MiB", used >> 20);
}

/// From the submission of each of many tasks to its end.
fn times(fleet: &Fleet, first: u128) -> Vec<Duration> {
    let digest = muster_module::digest(&std::fs::read(place::guest("noop")).expect("a file"));
    block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("it answers");
        let mut ended = client.subscribe("muster.*.done.>").await.expect("a subscription");
        client.flush().await.expect("it answers");
        let mut times = Vec::new();
        for id in first..first + TASKS {
            let spec = TaskSpec::new(ModuleRef { name: None, digest }, Data::EMPTY).into();
            let submit = Submit { tasks: vec![NewTask { id: TaskId(id), spec }] };
            let body = serde_json::to_vec(&submit).expect("JSON");
            let (began, asked) = (Instant::now(), fleet.names().api(api::Endpoint::TaskSubmit));
            client.request(asked, body.into()).await.expect("an answer");
            ended.next().await.expect("its end");
            times.push(began.elapsed());
            tokio::time::sleep(EVERY).await;
        }
        times
    })
}

/// Tasks that are timed, and how long to wait after each of them.
const TASKS: u128 = 400;
const EVERY: Duration = Duration::from_millis(10);

#[test]
#[ignore = "a measurement, of half a minute"]
fn measure_tasks_during_a_flood_of_handshakes() {
    let fleet = Fleet::start(1, 1);
    fleet.push("noop");
    let packets = initials(&fleet, 6_000);
    let master: SocketAddr = fleet.quic("m1").parse().expect("an address");
    times(&fleet, 1);
    tell("quiet", &mut times(&fleet, 1_001));
    let (before, stop) = (resident_bytes(&fleet, "m1"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&packets, master, &stop));
        std::thread::sleep(Duration::from_secs(1));
        tell("during a flood", &mut times(&fleet, 2_001));
        let used = resident_bytes(&fleet, "m1").saturating_sub(before) >> 20;
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().expect("it ends");
        println!("{sent} packets at {RATE} a second, memory of the master: {used} MiB more");
    });
}
