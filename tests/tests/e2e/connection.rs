//! A master's connection to NATS: what was not sent before the connection broke is never sent. After a
//! loss of writes the registry assigns revisions again, and then compare-and-set cannot recognize a late
//! write.

use futures::StreamExt;
use muster_tests::{
    fleet::{text, wait_for},
    place,
};
use muster_wire::nats::{Address, NatsArgs, Refusals};
use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};

/// Longer than any client here takes to reconnect, which is a few milliseconds.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(2);

/// A nats-server that requires a password; killed when it is dropped.
struct Server(Child);

impl Server {
    fn start() -> (Self, tempfile::TempDir, u16) {
        let dir = tempfile::tempdir().expect("a directory");
        let child = Command::new(place::nats_server())
            .args(["--addr", "127.0.0.1", "--port", "-1", "--user", "me", "--pass", "secret"])
            .args(["--ports_file_dir", text(dir.path())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        let file = dir.path().join(format!("nats-server_{}.ports", child.id()));
        let port = wait_for("nats-server to listen", || {
            let ports: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
            ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
        });
        (Server(child), dir, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A proxy. It breaks its first connection when told to; later connections work.
async fn proxy(to: u16) -> (u16, tokio::sync::oneshot::Sender<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (cut, mut is_cut) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let first = pass(&listener, to).await;
        let _ = (&mut is_cut).await;
        first.abort();
        loop {
            pass(&listener, to).await;
        }
    });
    (port, cut)
}

async fn pass(listener: &TcpListener, to: u16) -> tokio::task::JoinHandle<()> {
    let (mut from, _) = listener.accept().await.expect("a connection");
    tokio::spawn(async move {
        if let Ok(mut to) = TcpStream::connect(("127.0.0.1", to)).await {
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        }
    })
}

/// Breaks a client's connection, then publishes through the client. Returns whether the message arrives.
async fn is_heard_after_a_break(once: bool) -> bool {
    let (_server, _dir, port) = Server::start();
    let direct = async_nats::ConnectOptions::with_user_and_password("me".into(), "secret".into())
        .connect(format!("127.0.0.1:{port}"))
        .await
        .expect("nats-server answers");
    let mut heard = direct.subscribe("said").await.expect("a subscription");
    direct.flush().await.expect("it is known to the server");
    let (by, cut) = proxy(port).await;
    let address: Address = format!("nats://me:%73ecret@127.0.0.1:{by}").parse().expect("a URL");
    let access = NatsArgs::from(address).access().expect("usable");
    let broken = Arc::new(AtomicBool::new(false));
    let noticed = broken.clone();
    let on_break = move || noticed.store(true, Ordering::SeqCst);
    let client = if once {
        access.connect_once("once".into(), &Refusals::default(), on_break).await
    } else {
        let options = access.options("for ever".into()).event_callback(move |event| {
            if matches!(event, async_nats::Event::Disconnected) {
                on_break();
            }
            std::future::ready(())
        });
        access.connect(options).await
    };
    let client = client.expect("the password is in the URL");
    client.publish("said", "before".into()).await.expect("it is connected");
    client.flush().await.expect("it is connected");
    let first = heard.next().await.expect("a message");
    assert_eq!(first.payload, "before");
    cut.send(()).expect("the proxy runs");
    while !broken.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Whether the client refuses or accepts the message, it must not arrive.
    let _ = client.publish("said", "after".into()).await;
    tokio::time::timeout(COMES_BACK_WITHIN, heard.next()).await.is_ok()
}

#[tokio::test]
async fn a_connection_that_is_made_once_sends_nothing_after_it_broke() {
    assert!(is_heard_after_a_break(false).await, "the others do, or this test shows nothing");
    assert!(!is_heard_after_a_break(true).await);
}
