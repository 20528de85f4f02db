//! Listens for workers, over QUIC and over TCP at the same port, and accepts their connections. Never begins
//! more handshakes than [`Admission`] allows, over both together.

use super::{
    LinkServer,
    admission::{Admission, Decision, Handshake},
    misunderstanding,
};
use anyhow::Context as _;
use muster_wire::{
    link::{Connection, ConnectionEnd, quic, tcp},
    tls,
};
use quinn::Endpoint;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long to wait before the next connection is accepted, if the kernel could not give one: it has no free
/// file for it.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where workers dial. Clones are the same.
#[derive(Clone)]
pub(crate) struct Listeners {
    quic: Endpoint,
    /// Absent if another program has the port.
    tcp: Option<Arc<tcp::Listener>>,
}

impl Listeners {
    /// Listens at an address, with these certificates.
    pub(crate) fn open(address: SocketAddr, files: &tls::Files) -> anyhow::Result<Self> {
        let tls = tls::server(files)?;
        let quic = quic::server(tls.clone()).context("QUIC cannot be set up")?;
        let quic = Endpoint::server(quic, address)
            .with_context(|| format!("UDP {address} cannot be listened on"))?;
        let listens = quic.local_addr().context("the UDP address is unknown")?;
        let tcp = match tcp::Listener::open(listens, tls) {
            Ok(listener) => Some(Arc::new(listener)),
            // A web server may have it, on a host where workers always came over UDP.
            Err(error) => {
                tracing::warn!(%listens, %error, "TCP cannot be listened on: workers need UDP");
                None
            }
        };
        Ok(Listeners { quic, tcp })
    }

    /// The address, with the port that was chosen.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Accepts no more connections, and closes those over QUIC. Those over TCP end with the process.
    pub(crate) fn close(&self) {
        self.quic.close(0u32.into(), b"stopping");
    }

    /// Begins to accept connections.
    pub(super) fn accept(self, host: &Arc<LinkServer>) {
        let admission = Admission::default();
        if let Some(tcp) = self.tcp {
            tokio::spawn(accept_tcp(tcp, admission.clone(), host.clone()));
        }
        tokio::spawn(accept_quic(self.quic, admission, host.clone()));
    }
}

async fn accept_quic(endpoint: Endpoint, admission: Admission, host: Arc<LinkServer>) {
    while let Some(incoming) = endpoint.accept().await {
        let from = incoming.remote_address();
        let is_proven = incoming.remote_address_validated();
        match admission.judge(Instant::now(), from, is_proven) {
            Decision::Begin(handshake) => {
                let connecting = async { Ok(Connection::from(incoming.await?)) };
                tokio::spawn(serve(host.clone(), from, connecting, handshake));
            }
            Decision::Retry => {
                // Refused only where the address is proven already.
                let _ = incoming.retry();
            }
            Decision::Ignore => incoming.ignore(),
        }
    }
}

async fn accept_tcp(listener: Arc<tcp::Listener>, admission: Admission, host: Arc<LinkServer>) {
    loop {
        let incoming = match listener.next().await {
            Ok(incoming) => incoming,
            Err(error) => {
                tracing::warn!(%error, "a connection over TCP cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let from = incoming.remote_address();
        // The handshake of TCP has proven the address. Who may not begin is disconnected.
        if let Decision::Begin(handshake) = admission.judge(Instant::now(), from, true) {
            tokio::spawn(serve(host.clone(), from, incoming.shake_hands(), handshake));
        }
    }
}

/// Serves one connection, from its handshake to its end.
async fn serve(
    host: Arc<LinkServer>,
    from: SocketAddr,
    connecting: impl Future<Output = Result<Connection, ConnectionEnd>>,
    handshake: Handshake,
) {
    match host.admit(connecting, handshake).await {
        Ok(None) => {}
        Ok(Some((connection, worker, entitlement))) => {
            // The main loop logs that a link is down. The cause is for debugging only.
            if let Err(cause) = host.link(connection, worker.clone(), entitlement).await {
                match misunderstanding(&cause) {
                    Some(cause) => {
                        tracing::warn!(%worker, cause, "a worker is not understood")
                    }
                    None => tracing::debug!(%from, %cause, "a link ended"),
                }
            }
        }
        Err(cause) => {
            let cause = misunderstanding(&cause).unwrap_or_else(|| cause.to_string());
            tracing::warn!(%from, cause, "a connection is refused");
        }
    }
}
