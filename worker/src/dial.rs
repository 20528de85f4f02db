//! Dials a master by its name: all addresses of the name, side by side. Never trusts an address; the
//! certificate decides.

use futures::{StreamExt as _, stream::FuturesUnordered};
use quinn::{ClientConfig, Connection, Endpoint};
use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

/// How long a master may take to accept a connection, and then to say the first thing.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(3);

/// How long the first address of a master is tried before the next one is tried as well, as in RFC
/// 8305.
const DIAL_NEXT: Duration = Duration::from_millis(250);

/// A UDP socket to dial from.
pub(crate) fn endpoint() -> std::io::Result<Endpoint> {
    // Any port and any address, since an edge host may be behind any NAT or firewall. An IPv6 socket
    // reaches IPv4 as well, where the machine has IPv6 at all.
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    Endpoint::client(any).or_else(|_| Endpoint::client(([0, 0, 0, 0], 0).into()))
}

/// Connects to a master (`HOST:PORT`) whose certificate has the name `host`.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    quic: &ClientConfig,
    master: &str,
    host: &str,
) -> anyhow::Result<Connection> {
    let local_v6 = endpoint.local_addr()?.is_ipv6();
    let addresses = tokio::net::lookup_host(master).await?.map(|address| match address {
        SocketAddr::V4(v4) if local_v6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        other => other,
    });
    let dialled = first_of(addresses, |address| async move {
        let connecting = endpoint.connect_with(quic.clone(), address, host)?;
        let connected = tokio::time::timeout(DIAL_MAX, connecting).await;
        let late = |_| anyhow::anyhow!("{address} did not answer within {DIAL_MAX:?}");
        Ok(connected.map_err(late)??)
    });
    dialled.await.unwrap_or_else(|| anyhow::bail!("the name {master} has no address"))
}

/// Dials addresses side by side: the next one [`DIAL_NEXT`] after the one before, or as soon as one has
/// failed. Returns the first success, or else the last failure; `None` if there is no address.
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
