//! Network paths through proxies on loopback. A proxy that loses messages drops datagrams and holds back
//! the bytes of a connection, like a network that swallows every segment: neither side sees an end. A
//! proxy that breaks connections closes them and refuses new ones. Never changes or reorders what it
//! passes on.

use super::{Carrier, cuts::Cuts, own_port};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Runtime,
    sync::watch,
};

/// The largest possible datagram, in bytes.
const DATAGRAM_MAX: usize = 64 * 1024;

/// The most bytes of one read from a connection.
const CHUNK: usize = 64 * 1024;

/// Any free port of loopback.
pub(super) const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// The proxies of a fleet, one for each pair of hosts.
pub struct Proxies {
    runtime: Runtime,
    ways: BTreeMap<(String, String), Way>,
    cuts: Cuts,
}

/// A proxy between the host that dials and the host that listens.
struct Way {
    target: SocketAddr,
    entry: SocketAddr,
    /// Whether messages from the dialling side are lost.
    there: watch::Sender<bool>,
    /// Whether messages to the dialling side are lost.
    back: watch::Sender<bool>,
    /// Whether connections are closed and refused.
    broken: watch::Sender<bool>,
    /// Whether datagrams are lost, whatever becomes of connections.
    datagrams: watch::Sender<bool>,
}

/// Whether a proxy loses messages, in each direction.
#[derive(Clone)]
struct Losses {
    there: watch::Receiver<bool>,
    back: watch::Receiver<bool>,
    broken: watch::Receiver<bool>,
    datagrams: watch::Receiver<bool>,
}

impl Proxies {
    pub(super) fn new() -> Self {
        Proxies { runtime: runtime(), ways: BTreeMap::new(), cuts: Cuts::default() }
    }

    pub(super) fn way(
        &mut self,
        from: &str,
        to: &str,
        target: SocketAddr,
        carrier: Carrier,
    ) -> SocketAddr {
        let key = (from.to_string(), to.to_string());
        if let Some(way) = self.ways.get(&key).filter(|way| way.target == target) {
            return way.entry;
        }
        let (there, lost_there) = watch::channel(false);
        let (back, lost_back) = watch::channel(false);
        let (broken, is_broken) = watch::channel(false);
        let (datagrams, lost_datagrams) = watch::channel(false);
        let losses = Losses {
            there: lost_there,
            back: lost_back,
            broken: is_broken,
            datagrams: lost_datagrams,
        };
        let entry = self.runtime.block_on(open(target, carrier, losses)).expect("a free port");
        self.ways.insert(key, Way { target, entry, there, back, broken, datagrams });
        entry
    }

    pub(super) fn lose_datagrams(&mut self, from: &str, to: &str, lost: bool) {
        let way = self.ways.get(&(from.to_string(), to.to_string()));
        way.expect("a way that is used").datagrams.send_replace(lost);
    }

    pub(super) fn set_broken(&mut self, from: &str, to: &str, is_broken: bool) {
        if let Some(way) = self.ways.get(&(from.to_string(), to.to_string())) {
            way.broken.send_replace(is_broken);
        }
    }

    pub(super) fn set(&mut self, ways: &[(&str, &str)], lost: bool) {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        for (from, to) in self.cuts.change(ways, lost) {
            if let Some(way) = self.ways.get(&pair(from, to)) {
                way.there.send_replace(lost);
            }
            if let Some(way) = self.ways.get(&pair(to, from)) {
                way.back.send_replace(lost);
            }
        }
    }
}

/// The runtime of the proxies.
pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("proxies")
        .enable_all()
        .build()
        .expect("a thread")
}

async fn open(target: SocketAddr, carrier: Carrier, losses: Losses) -> io::Result<SocketAddr> {
    match carrier {
        Carrier::Udp => {
            let entry = SocketAddr::from((Ipv4Addr::LOCALHOST, own_port()));
            let socket = UdpSocket::bind(entry).await?;
            let listener = TcpListener::bind(entry).await?;
            tokio::spawn(connections(listener, target, losses.clone()));
            tokio::spawn(datagrams(Arc::new(socket), target, losses));
            Ok(entry)
        }
        Carrier::Tcp => {
            let listener = TcpListener::bind(ANYWHERE).await?;
            let entry = listener.local_addr()?;
            tokio::spawn(connections(listener, target, losses));
            Ok(entry)
        }
    }
}

/// Each sender gets its own socket towards the target, so that the answers reach the right sender.
async fn datagrams(socket: Arc<UdpSocket>, target: SocketAddr, losses: Losses) {
    let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((size, sender)) = socket.recv_from(&mut datagram).await else { continue };
        if *losses.there.borrow() || *losses.datagrams.borrow() {
            continue;
        }
        let onward = match senders.get(&sender) {
            Some(onward) => onward.clone(),
            None => {
                let Ok(onward) = towards(target).await else { continue };
                let onward = Arc::new(onward);
                senders.insert(sender, onward.clone());
                let (socket, lost) = (socket.clone(), losses.back.clone());
                tokio::spawn(answers(onward.clone(), socket, sender, lost));
                onward
            }
        };
        // A target that is down returns an error; a network would not.
        let _ = onward.send(&datagram[..size]).await;
    }
}

async fn towards(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(ANYWHERE).await?;
    socket.connect(target).await?;
    Ok(socket)
}

async fn answers(
    onward: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    sender: SocketAddr,
    lost: watch::Receiver<bool>,
) {
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        let Ok(size) = onward.recv(&mut datagram).await else { continue };
        if !*lost.borrow() {
            let _ = socket.send_to(&datagram[..size], sender).await;
        }
    }
}

async fn connections(listener: TcpListener, target: SocketAddr, losses: Losses) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let mut losses = losses.clone();
        if *losses.broken.borrow_and_update() {
            continue;
        }
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            let pumps = async {
                tokio::join!(
                    pump(near_read, far_write, losses.there),
                    pump(far_read, near_write, losses.back)
                );
            };
            tokio::select! {
                () = pumps => {}
                _ = losses.broken.wait_for(|broken| *broken) => {}
            }
        });
    }
}

/// Passes bytes on, including the end of the connection. Holds everything back while the direction is
/// cut.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut lost: watch::Receiver<bool>,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let size = from.read(&mut chunk).await.unwrap_or(0);
        if lost.wait_for(|lost| !lost).await.is_err() {
            return;
        }
        if size == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&chunk[..size]).await.is_err() {
            return;
        }
    }
}
