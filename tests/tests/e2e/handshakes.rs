//! A flood of connections from somebody without a certificate.

use crate::link_client::{HERE, block_on, files, resident_bytes};
use muster_protocol::frame::Encoding;
use muster_tests::Fleet;
use muster_wire::{quic, tls};
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

#[test]
fn a_flood_of_handshakes_costs_little_memory_and_workers_still_join() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let packets = initials(&fleet, 6_000);
    let master: SocketAddr = fleet.quic("m1").parse().expect("an address");
    let (before, stop) = (resident_bytes(&fleet, "m1"), AtomicBool::new(false));
    let mut most = 0;
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
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
        });
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
