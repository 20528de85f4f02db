//! What QUIC does alone: requests and replies of 200 bytes, each on its own stream, between two
//! endpoints of this process with Muster's settings and certificates. Never a frame of Muster's.

use crate::figures::Times;
use anyhow::Context as _;
use futures::{StreamExt as _, stream::FuturesUnordered};
use muster_protocol::subject::Names;
use muster_tests::Fleet;
use muster_wire::{link::quic, tls};
use quinn::{Connection, Endpoint};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

/// The size of a request and of its reply, in bytes: about that of a dispatch and of an outcome.
const SIZE: usize = 200;

/// The two ends of one link.
pub struct Pair {
    /// The end that sends requests.
    asks: Connection,
    /// Kept alive for the connection.
    _endpoints: [Endpoint; 2],
}

impl Pair {
    /// Links two endpoints with the certificates of the fleet's master `m1` and worker `w1`.
    ///
    /// # Errors
    ///
    /// The certificates are missing, or the connection failed.
    pub async fn new(fleet: &Fleet) -> anyhow::Result<Self> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let file = |name: String| fleet.path("tls").join(name);
        let files = |who: &str| tls::Files {
            ca: file("ca.pem".into()),
            cert: file(format!("{who}.pem")),
            key: file(format!("{who}.key")),
        };
        let server = Endpoint::server(quic::server(tls::server(&files("m1"))?)?, here)?;
        let mut client = Endpoint::client(here)?;
        client.set_default_client_config(quic::client(tls::client(&files("w1"))?)?);
        let connecting =
            client.connect(server.local_addr()?, &Names::new(Default::default()).master_host())?;
        let (accepted, asks) = tokio::join!(
            async { anyhow::Ok(server.accept().await.context("the endpoint closed")?.await?) },
            connecting
        );
        tokio::spawn(answer(accepted?));
        Ok(Pair { asks: asks?, _endpoints: [server, client] })
    }

    /// Sends one request after another. Returns the duration of each.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub async fn one_at_a_time(&self, count: usize) -> anyhow::Result<Times> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            ask(&self.asks).await?;
            times.push(began.elapsed());
        }
        Ok(Times::new(times))
    }

    /// Sends requests with `in_flight` of them in flight at once. Returns requests a second.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub async fn pipelined(&self, count: usize, in_flight: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        let mut open = FuturesUnordered::new();
        for _ in 0..count {
            open.push(ask(&self.asks));
            if open.len() >= in_flight {
                open.next().await.context("a reply")??;
            }
        }
        while let Some(reply) = open.next().await {
            reply?;
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }
}

async fn ask(connection: &Connection) -> anyhow::Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[b'x'; SIZE]).await?;
    send.finish()?;
    let reply = receive.read_to_end(SIZE).await?;
    anyhow::ensure!(reply.len() == SIZE, "a reply of {} bytes", reply.len());
    Ok(())
}

async fn answer(connection: Connection) -> anyhow::Result<()> {
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        tokio::spawn(async move {
            let request = receive.read_to_end(SIZE).await?;
            send.write_all(&request).await?;
            send.finish()?;
            anyhow::Ok(())
        });
    }
}
