//! Both ends of links over TCP, on loopback.

use super::*;
use crate::{
    authority::{self, Authority, Issued},
    link::{IDLE_MAX, RecvStream as Receive, SendStream as Send},
    tls,
};
use muster_protocol::{GroupName, entitlement::Entitlement, frame::Encoding, subject::Names};
use std::{fs, path::Path};
use tokio::io::AsyncWriteExt as _;

/// How long what happens at once may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);

/// How long to watch that something does not happen.
const WATCHED_FOR: Duration = Duration::from_millis(300);

type Link = crate::link::Connection;

fn write(dir: &Path, name: &str, issued: &Issued) {
    fs::write(dir.join(format!("{name}.pem")), &issued.cert).expect("a file");
    fs::write(dir.join(format!("{name}.key")), &issued.key).expect("a file");
}

/// TLS of a master and of a worker.
fn tls() -> (ServerConfig, ClientConfig) {
    let thread = std::thread::current().id();
    let dir = format!("muster-tcp-{}-{thread:?}", std::process::id());
    let dir = std::env::temp_dir().join(dir);
    fs::create_dir_all(&dir).expect("a directory");
    let (fleet, lasts) = (GroupName::default(), Duration::from_secs(600));
    write(&dir, "ca", &authority::make(&fleet).expect("an authority"));
    let names = Names::new(fleet);
    let ca = Authority::read(&dir.join("ca.pem"), &dir.join("ca.key")).expect("an authority");
    let (m1, w1) = ("m1".parse().expect("a name"), "w1".parse().expect("a name"));
    write(&dir, "m1", &ca.master(&names, &m1, lasts).expect("a certificate"));
    let any = Entitlement::any();
    write(&dir, "w1", &ca.worker(&names, &w1, &any, lasts).expect("a certificate"));
    let files = |name: &str| tls::Files {
        ca: dir.join("ca.pem"),
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    let both = (tls::server(&files("m1")), tls::client(&files("w1")));
    fs::remove_dir_all(&dir).expect("it is ours");
    (both.0.expect("certificates"), both.1.expect("certificates"))
}

fn host() -> String {
    Names::new(GroupName::default()).master_host()
}

fn listener(tls: ServerConfig) -> (Listener, SocketAddr) {
    let listener = Listener::open(SocketAddr::from(([127, 0, 0, 1], 0)), tls).expect("a port");
    let address = listener.listener.local_addr().expect("it is bound");
    (listener, address)
}

/// The two ends of a link: the master's, and the worker's.
async fn pair() -> (Link, Link) {
    let (server, client) = tls();
    let (listener, address) = listener(server);
    let host = host();
    let (master, worker) = tokio::join!(
        async { listener.next().await.expect("a connection").shake_hands().await },
        connect(address, Arc::new(client), &host)
    );
    (master.expect("it is let in"), worker.expect("it is let in"))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("it does not wait for ever")
}

async fn all(stream: &mut Receive) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = soon(stream.read()).await.expect("it is up") {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_end() {
    let (master, worker) = pair().await;
    assert!(master.peer_certificate().is_some() && worker.peer_certificate().is_some());
    assert_eq!(master.protocol().as_deref(), Some(Encoding::Named.alpn()));
    let sent = vec![7; 3 * LINK_WINDOW as usize / 2];
    let bytes = Bytes::from(sent.clone());
    tokio::spawn(async move {
        let (mut send, mut receive) = master.accept_bi().await.expect("a stream");
        let request = all(&mut receive).await;
        send.write(request.into()).await.expect("it is up");
        // It ends, since it is dropped.
        drop(send);
        let mut logs = master.accept_uni().await.expect("a stream");
        assert_eq!(all(&mut logs).await, b"log");
        master.close(5, b"that is all");
    });
    let (mut send, mut receive) = worker.open_bi().await.expect("a stream");
    let asked = async {
        send.write(bytes).await.expect("it is up");
        send.finish().expect("it is up");
    };
    let ((), answer) = tokio::join!(asked, all(&mut receive));
    assert!(answer == sent, "{} bytes", answer.len());
    let mut logs = worker.open_uni().await.expect("a stream");
    logs.write(Bytes::from_static(b"log")).await.expect("it is up");
    logs.finish().expect("it is up");
    let told = ConnectionEnd::Closed { code: 5, reason: "that is all".into() };
    assert_eq!(soon(worker.closed()).await, told);
    assert_eq!(worker.close_reason(), Some(told.clone()));
    assert_eq!(receive.read().await, Err(told));
}

#[tokio::test]
async fn a_closed_link_gives_nothing_more_of_its_streams() {
    let (master, worker) = pair().await;
    let (mut send, _receive) = worker.open_bi().await.expect("a stream");
    send.write(Bytes::from_static(b"late")).await.expect("it is up");
    let (_send, mut receive) = soon(master.accept_bi()).await.expect("a stream");
    master.close(7, b"revoked");
    assert_eq!(receive.read().await, Err(ConnectionEnd::Here));
    assert_eq!(master.accept_bi().await.map(drop), Err(ConnectionEnd::Here));
    let told = ConnectionEnd::Closed { code: 7, reason: "revoked".into() };
    assert_eq!(soon(worker.closed()).await, told);
    assert_eq!(worker.open_bi().await.map(drop), Err(told));
    // Also if it is closed before anything has arrived.
    let (master, worker) = pair().await;
    master.close(7, b"revoked");
    let told = ConnectionEnd::Closed { code: 7, reason: "revoked".into() };
    assert_eq!(soon(worker.closed()).await, told);
    // The other way round there is no reason: the connection ends.
    let (master, worker) = pair().await;
    worker.close(0, b"");
    assert!(matches!(soon(master.closed()).await, ConnectionEnd::Broken(_)));
}

#[tokio::test]
async fn a_worker_has_no_more_streams_than_over_quic() {
    let (master, worker) = pair().await;
    let mut open: Vec<(Send, Receive)> = Vec::new();
    for _ in 0..STREAMS_MAX + LOG_STREAMS_MAX {
        open.push(soon(worker.open_bi()).await.expect("a stream"));
    }
    let mut accepted = Vec::new();
    for _ in 0..open.len() {
        accepted.push(soon(master.accept_bi()).await.expect("a stream"));
    }
    let _waits = soon(worker.open_bi()).await.expect("it waits in this process");
    let more = tokio::time::timeout(WATCHED_FOR, master.accept_bi()).await;
    assert!(more.is_err(), "the master gets no further stream");
    drop((open.pop(), accepted.pop()));
    soon(master.accept_bi()).await.expect("its place is free");
}

#[tokio::test]
async fn a_worker_has_two_streams_for_logs() {
    let (master, worker) = pair().await;
    let (mut logs, mut accepted) = (Vec::new(), Vec::new());
    for _ in 0..LOG_STREAMS_MAX {
        logs.push(soon(worker.open_uni()).await.expect("a stream"));
        accepted.push(soon(master.accept_uni()).await.expect("a stream"));
    }
    let mut third = soon(worker.open_uni()).await.expect("it is refused later");
    let write = async {
        while third.write(Bytes::from_static(b"more")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(write).await;
    assert!(master.close_reason().is_none());
}

#[tokio::test]
async fn what_nobody_reads_is_bounded_on_each_stream_and_on_the_link() {
    let (master, worker) = pair().await;
    let (mut streams, mut accepted, mut sent) = (Vec::new(), Vec::new(), 0);
    for _ in 0..STREAMS_MAX {
        let (mut send, receive) = soon(worker.open_bi()).await.expect("a stream");
        let piece = Bytes::from(vec![0; 16 * 1024]);
        let mut of_stream = 0;
        let fill = async {
            while send.write(piece.clone()).await.is_ok() {
                of_stream += piece.len();
            }
        };
        let _ = tokio::time::timeout(WATCHED_FOR / 6, fill).await;
        assert!(of_stream <= STREAM_WINDOW as usize, "{of_stream} bytes on one stream");
        sent += of_stream;
        streams.push((send, receive));
        accepted.push(soon(master.accept_bi()).await.expect("a stream"));
    }
    assert!(sent > LINK_WINDOW as usize / 2 && sent <= LINK_WINDOW as usize, "{sent} bytes");
}

/// A peer that completes its handshake and then says nothing more.
#[tokio::test]
async fn a_silent_peer_is_noticed_in_time() {
    let (server, client) = tls();
    let (listener, address) = listener(server.clone());
    let name = ServerName::try_from(host()).expect("a name");
    let silent = async {
        let tcp = TcpStream::connect(address).await.expect("it listens");
        let tls = TlsConnector::from(Arc::new(client.clone())).connect(name, tcp).await;
        let mut tls = tls.expect("it is let in");
        // The preface of HTTP/2, and empty settings.
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("up");
        tls.flush().await.expect("it is up");
        tls
    };
    let incoming = async { listener.next().await.expect("a connection").shake_hands().await };
    let (_silent, master) = tokio::join!(silent, incoming);
    let began = std::time::Instant::now();
    assert_eq!(soon(master.expect("it is let in").closed()).await, ConnectionEnd::Silent);
    assert!(began.elapsed() >= IDLE_MAX / 2, "{:?}", began.elapsed());

    let mute = async {
        let tcp = listener.listener.accept().await.expect("a connection").0;
        TlsAcceptor::from(Arc::new(server)).accept(tcp).await.expect("it is let in")
    };
    let host = host();
    let (_mute, worker) = tokio::join!(mute, connect(address, Arc::new(client), &host));
    assert_eq!(soon(worker.expect("TLS is up").closed()).await, ConnectionEnd::Silent);
}

#[tokio::test]
async fn an_idle_link_stays_up() {
    let (master, worker) = pair().await;
    tokio::time::sleep(IDLE_MAX + IDLE_MAX / 2).await;
    assert_eq!((master.close_reason(), worker.close_reason()), (None, None));
}

#[tokio::test]
async fn peers_without_a_protocol_in_common_say_so() {
    for offered in [&[][..], &[b"muster/9".to_vec()]] {
        let (server, mut client) = tls();
        client.alpn_protocols = offered.to_vec();
        let (listener, address) = listener(server);
        let host = host();
        let (master, worker) = tokio::join!(
            async { listener.next().await.expect("a connection").shake_hands().await },
            connect(address, Arc::new(client), &host)
        );
        assert_eq!(master.map(drop), Err(ConnectionEnd::NothingInCommon));
        assert_eq!(worker.map(drop), Err(ConnectionEnd::NothingInCommon));
    }
}
