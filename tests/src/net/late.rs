//! Network paths between the nodes of a registry on which only raft messages to one node are late. So
//! the replicas of that node lag behind what clients may ask them for. Never reorders raft messages, and
//! never changes a byte.

use super::proxy::{ANYWHERE, runtime};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::{Mutex, mpsc},
    time::Instant,
};

/// The node that receives raft messages late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hears {
    /// The node that is dialled.
    Dialled,
    /// The node that dials.
    Dialling,
}

/// The network paths to and from the late node.
pub struct LateRoutes {
    runtime: Runtime,
    ways: BTreeMap<(SocketAddr, Hears), SocketAddr>,
    /// The delay, in milliseconds.
    late_ms: Arc<AtomicU64>,
}

impl LateRoutes {
    /// Paths without a delay.
    pub fn new() -> Self {
        LateRoutes { runtime: runtime(), ways: BTreeMap::new(), late_ms: Arc::default() }
    }

    /// Sets the delay of the messages from now on.
    pub fn set(&self, late: Duration) {
        self.late_ms.store(late.as_millis() as u64, Ordering::SeqCst);
    }

    /// The address to dial instead of `target`.
    pub fn way(&mut self, target: SocketAddr, hears: Hears) -> SocketAddr {
        if let Some(entry) = self.ways.get(&(target, hears)) {
            return *entry;
        }
        let late_ms = self.late_ms.clone();
        let entry = self.runtime.block_on(async {
            let listener = TcpListener::bind(ANYWHERE).await.expect("a free port");
            let entry = listener.local_addr().expect("it is bound");
            tokio::spawn(connections(listener, target, hears, late_ms));
            entry
        });
        self.ways.insert((target, hears), entry);
        entry
    }
}

impl Default for LateRoutes {
    fn default() -> Self {
        LateRoutes::new()
    }
}

async fn connections(
    listener: TcpListener,
    target: SocketAddr,
    hears: Hears,
    late_ms: Arc<AtomicU64>,
) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let late_ms = late_ms.clone();
        tokio::spawn(async move {
            // A node that does not run yet refuses connections; this proxy closes the connection
            // instead.
            let Ok(far) = TcpStream::connect(target).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let (there, back) = match hears {
                Hears::Dialled => (late_ms, Arc::default()),
                Hears::Dialling => (Arc::default(), late_ms),
            };
            // When one direction ends, the whole connection ends.
            tokio::select! {
                () = pass(near_in, far_out, there) => {}
                () = pass(far_in, near_out, back) => {}
            }
        });
    }
}

/// Passes messages on until one side closes the connection.
async fn pass(from: OwnedReadHalf, to: OwnedWriteHalf, late_ms: Arc<AtomicU64>) {
    let (mut from, to) = (BufReader::new(from), Mutex::new(to));
    let (wait, mut waiting) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let now = async {
        let mut message = Vec::new();
        while from.read_until(b'\n', &mut message).await.is_ok_and(|size| size > 0) {
            if let Some(size) = payload(&message) {
                let begins = message.len();
                message.resize(begins + size + b"\r\n".len(), 0);
                if from.read_exact(&mut message[begins..]).await.is_err() {
                    return;
                }
            }
            let message = std::mem::take(&mut message);
            if is_of_raft(&message) {
                let late = Duration::from_millis(late_ms.load(Ordering::SeqCst));
                let _ = wait.send((Instant::now() + late, message));
            } else if to.lock().await.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    let later = async {
        while let Some((due, message)) = waiting.recv().await {
            tokio::time::sleep_until(due).await;
            if to.lock().await.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = now => {}
        () = later => {}
    }
}

/// The size of the payload that follows the first line of a message, if the message has one.
fn payload(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line).ok()?;
    let is_message = line.starts_with("RMSG ") || line.starts_with("HMSG ");
    is_message.then(|| line.split_whitespace().next_back()?.parse().ok()).flatten()
}

/// Whether a message is a raft message, by its subject. On a route for a single account the line does
/// not name the account.
fn is_of_raft(message: &[u8]) -> bool {
    let end = message.iter().position(|&byte| byte == b'\r').unwrap_or(0);
    let Ok(line) = std::str::from_utf8(&message[..end]) else { return false };
    let mut words = line.split_whitespace();
    let is_message = words.next().is_some_and(|verb| verb == "RMSG" || verb == "HMSG");
    is_message && words.take(2).any(|word| word.starts_with("$NRG."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_raft_are_told_by_their_subject() {
        for (line, size, is_raft) in [
            ("RMSG $SYS $NRG.AE.S-R3F-x $NRG.R.y 120\r\n", Some(120), true),
            ("RMSG $NRG.V.S-R3F-x 7\r\n", Some(7), true),
            ("HMSG $G $KV.b.k _INBOX.a 20 300\r\n", Some(300), false),
            ("RMSG $G $JS.API.STREAM.INFO.$NRG _R_.a 0\r\n", Some(0), false),
            ("RS+ $SYS $NRG.AE.S-R3F-x\r\n", None, false),
            ("PING\r\n", None, false),
        ] {
            assert_eq!((payload(line.as_bytes()), is_of_raft(line.as_bytes())), (size, is_raft));
        }
    }
}
