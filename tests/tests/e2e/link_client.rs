//! A client that speaks frames to a master as a worker would, byte by byte.

use muster_protocol::{
    frame::FrameRange,
    lease::Home,
    message::{StreamRequest, ToWorker},
};
use muster_tests::Fleet;
use muster_wire::{
    frames::{self, FrameReader, FrameWriter},
    link::{Connection, ConnectionEnd, quic, tcp},
    tls,
};
use quinn::Endpoint;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// Any port of this machine.
pub const HERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("threads").block_on(future)
}

/// The certificate files of this name, which are made if there are none.
pub fn files(fleet: &Fleet, role: &str, name: &str) -> tls::Files {
    fleet.certificate(role, name);
    let file = |ending: &str| fleet.path("tls").join(format!("{name}.{ending}"));
    tls::Files { ca: fleet.path("tls/ca.pem"), cert: file("pem"), key: file("key") }
}

/// Dials the master `m1` as worker `w9`, with these encodings.
pub async fn dial(fleet: &Fleet, alpn: &[&[u8]]) -> (Endpoint, Result<Connection, ConnectionEnd>) {
    let tls = tls::client(&files(fleet, "worker", "w9")).expect("certificates");
    dial_with(fleet, tls, alpn).await
}

/// Dials the master `m1` with this TLS, and with these encodings.
pub async fn dial_with(
    fleet: &Fleet,
    mut tls: rustls::ClientConfig,
    alpn: &[&[u8]],
) -> (Endpoint, Result<Connection, ConnectionEnd>) {
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let mut endpoint = Endpoint::client(SocketAddr::from(HERE)).expect("a port");
    endpoint.set_default_client_config(quic::client(tls).expect("TLS 1.3"));
    let master: SocketAddr = fleet.quic("m1").parse().expect("an address");
    let connecting = endpoint.connect(master, &fleet.names().master_host()).expect("a name");
    (endpoint, connecting.await.map(Connection::from).map_err(ConnectionEnd::from))
}

/// Dials the master `m1` over TCP as worker `w9`, with these encodings.
pub async fn dial_tcp(fleet: &Fleet, alpn: &[&[u8]]) -> Result<Connection, ConnectionEnd> {
    let tls = tls::client(&files(fleet, "worker", "w9")).expect("certificates");
    dial_tcp_with(fleet, tls, alpn).await
}

/// Dials the master `m1` over TCP with this TLS, and with these encodings.
pub async fn dial_tcp_with(
    fleet: &Fleet,
    mut tls: rustls::ClientConfig,
    alpn: &[&[u8]],
) -> Result<Connection, ConnectionEnd> {
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let master: SocketAddr = fleet.quic("m1").parse().expect("an address");
    tcp::connect(master, Arc::new(tls), &fleet.names().master_host()).await
}

/// The control stream of a link, after the master's Welcome.
pub async fn welcomed(connection: &Connection) -> (FrameReader, FrameWriter, Home, FrameRange) {
    let encoding = frames::encoding(connection);
    let (send, receive) = connection.open_bi().await.expect("a stream");
    let mut reader = FrameReader::new(receive, encoding);
    let mut writer = FrameWriter::new(send, encoding);
    writer.send(&StreamRequest::Control).await.expect("it is up");
    match reader.next().await.expect("it is up") {
        Some(ToWorker::Welcome { master, frames, .. }) => (reader, writer, master, frames),
        other => panic!("{other:?}"),
    }
}

/// The memory of this process that is in use, in bytes.
pub fn resident_bytes(fleet: &Fleet, name: &str) -> u64 {
    let path = format!("/proc/{}/status", fleet.pid(name));
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kib << 10
}
