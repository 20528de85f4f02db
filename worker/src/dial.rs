//! Dials a master by its name: all addresses of the name, side by side, over QUIC, and over TCP where QUIC gets
//! no answer. Never trusts an address; the certificate decides.

use futures::{StreamExt as _, stream::FuturesUnordered};
use muster_protocol::{api::Transport, subject::Names};
use muster_wire::link::{Connection, ConnectionEnd, quic, tcp};
use quinn::Endpoint;
use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// How long a master may take to accept a connection, and then to say the first thing.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(3);

/// How long the first address of a master is tried before the next one is tried as well, as in RFC
/// 8305. The same for QUIC and then TCP, if QUIC is in doubt.
const DIAL_NEXT: Duration = Duration::from_millis(250);

/// TLS with one certificate, over QUIC and over TCP.
#[derive(Clone)]
pub(crate) struct DialTls {
    quic: quinn::ClientConfig,
    tcp: Arc<rustls::ClientConfig>,
}

impl DialTls {
    pub(crate) fn new(tls: rustls::ClientConfig) -> anyhow::Result<Self> {
        Ok(DialTls { quic: quic::client(tls.clone())?, tcp: Arc::new(tls) })
    }
}

/// Dials the masters of a fleet.
#[derive(Clone)]
pub(crate) struct Dialler {
    endpoint: Endpoint,
    /// The name that a master's certificate has.
    host: String,
}

impl Dialler {
    pub(crate) fn new(names: &Names) -> std::io::Result<Self> {
        // Any port and any address, since an edge host may be behind any NAT or firewall. An IPv6 socket
        // reaches IPv4 as well, where the machine has IPv6 at all.
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let endpoint =
            Endpoint::client(any).or_else(|_| Endpoint::client(([0, 0, 0, 0], 0).into()))?;
        Ok(Dialler { endpoint, host: names.master_host() })
    }

    /// Connects to a master (`HOST:PORT`). TCP is dialled after QUIC has failed, or, if QUIC is in doubt, a
    /// moment after it: the lease of a worker that had a link does not wait.
    pub(crate) async fn dial(
        &self,
        tls: &DialTls,
        master: &str,
        quic_in_doubt: bool,
    ) -> anyhow::Result<Connection> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(master).await?.collect();
        if addresses.is_empty() {
            anyhow::bail!("the name {master} has no address");
        }
        let addresses = &addresses;
        let over = |transport| async move {
            match transport {
                Transport::Quic => self.over_quic(tls, addresses).await,
                Transport::Tcp => self.over_tcp(tls, addresses).await,
            }
        };
        if quic_in_doubt {
            let both = first_of([Transport::Quic, Transport::Tcp].into_iter(), over);
            return both.await.expect("there are two");
        }
        let refused = match over(Transport::Quic).await {
            Err(cause) if is_silent(&cause) => cause,
            dialled => return dialled,
        };
        let dialled = over(Transport::Tcp).await;
        dialled.map_err(|cause| {
            let both = format!("{refused}; over TCP: {cause}");
            cause.context(both)
        })
    }

    /// The same over QUIC only.
    pub(crate) async fn dial_quic(
        &self,
        tls: &DialTls,
        master: &str,
    ) -> anyhow::Result<Connection> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(master).await?.collect();
        self.over_quic(tls, &addresses).await
    }

    async fn over_quic(
        &self,
        tls: &DialTls,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Connection> {
        let local_v6 = self.endpoint.local_addr()?.is_ipv6();
        let addresses = addresses.iter().map(|&address| match address {
            SocketAddr::V4(v4) if local_v6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            other => other,
        });
        let dial = |address| async move {
            let connecting = self.endpoint.connect_with(tls.quic.clone(), address, &self.host)?;
            in_time(address, async { Ok(connecting.await?.into()) }).await
        };
        one_of(addresses, dial).await
    }

    async fn over_tcp(
        &self,
        tls: &DialTls,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Connection> {
        let dial = |address| in_time(address, tcp::connect(address, tls.tcp.clone(), &self.host));
        one_of(addresses.iter().copied(), dial).await
    }
}

async fn in_time(
    address: SocketAddr,
    connecting: impl Future<Output = Result<Connection, ConnectionEnd>>,
) -> anyhow::Result<Connection> {
    let connected = tokio::time::timeout(DIAL_MAX, connecting).await;
    let late = |_| {
        let late = format!("{address} did not answer within {DIAL_MAX:?}");
        anyhow::Error::new(ConnectionEnd::Silent).context(late)
    };
    Ok(connected.map_err(late)??)
}

/// Whether a dial failed, or a link ended, because nothing came back. A master that refuses this worker over QUIC
/// would refuse it over TCP as well.
pub(crate) fn is_silent(cause: &anyhow::Error) -> bool {
    cause.downcast_ref::<ConnectionEnd>() == Some(&ConnectionEnd::Silent)
}

async fn one_of<F>(
    addresses: impl Iterator<Item = SocketAddr>,
    dial: impl Fn(SocketAddr) -> F,
) -> anyhow::Result<Connection>
where
    F: Future<Output = anyhow::Result<Connection>>,
{
    let dialled = first_of(addresses, dial).await;
    dialled.unwrap_or_else(|| anyhow::bail!("the name of the master has no address"))
}

/// Dials side by side: the next address, or transport, [`DIAL_NEXT`] after the one before, or as soon as one has
/// failed. Returns the first success, or else the last failure; `None` if there is none.
async fn first_of<A, T, F>(
    addresses: impl Iterator<Item = A>,
    dial: impl Fn(A) -> F,
) -> Option<anyhow::Result<T>>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut addresses = addresses.fuse();
    let mut dialling = FuturesUnordered::new();
    let mut failure = None;
    loop {
        let next = addresses.next();
        let is_last = next.is_none();
        dialling.extend(next.map(&dial));
        let turn = async {
            match is_last {
                true => std::future::pending().await,
                false => tokio::time::sleep(DIAL_NEXT).await,
            }
        };
        tokio::select! {
            dialled = dialling.next() => match dialled {
                Some(Ok(connection)) => return Some(Ok(connection)),
                Some(Err(cause)) => failure = Some(Err(cause)),
                None => return failure,
            },
            () = turn => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many milliseconds it takes to reach one of these addresses, and which one is reached. Each
    /// answers after so many milliseconds, with success (`true`) or a failure.
    fn reached(addresses: &[(u64, bool)]) -> (u64, Option<u64>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let began = tokio::time::Instant::now();
            let dial = |&(after, is_well): &(u64, bool)| async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                anyhow::ensure!(is_well, "refused");
                Ok(after)
            };
            let reached = first_of(addresses.iter(), dial).await.and_then(Result::ok);
            (began.elapsed().as_millis() as u64, reached)
        })
    }

    #[test]
    fn a_dead_address_costs_a_moment_and_not_the_limit_of_a_dial() {
        let dead = (DIAL_MAX.as_millis() as u64, false);
        for (addresses, reached_after) in [
            (&[(7, true)][..], (7, Some(7))),
            (&[dead, (7, true)], (257, Some(7))),
            (&[(5, false), (7, true)], (12, Some(7))),
            (&[(400, true), (7, true)], (257, Some(7))),
            (&[dead, dead], (3_250, None)),
            (&[], (0, None)),
        ] {
            assert_eq!(reached(addresses), reached_after, "{addresses:?}");
        }
    }
}
