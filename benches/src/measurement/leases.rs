//! A thousand idle workers with one master and one nats-server: what their leases cost these two
//! processes. Each simulated worker has what a real one has: a certificate, a QUIC link on its own
//! socket, a connection to NATS, and the real state machine of a lease. The lease is renewed each second
//! by compare-and-set in NATS itself, as by workers that reach NATS. Never fewer than 95 of 100 renewals
//! that are due, because the machine is busy, and never an unanswered renewal: the measurement checks
//! both.

use crate::{
    measure::{Measure, Target},
    table::number,
    usage,
};
use anyhow::Context as _;
use async_nats::HeaderMap;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use muster_protocol::{
    ABSENT, SessionId, WorkerId,
    frame::FrameRange,
    lease::{CasAnswer, Lease, LeaseHolder, LeaseStep, LeaseTiming, Offer},
    message::{Hello, StreamRequest, ToMaster, ToWorker},
    record,
    subject::{Bucket, Names},
};
use muster_tests::{Fleet, fleet::NATS};
use muster_wire::{
    cas, clock,
    frames::{self, FrameReader, FrameWriter},
    link::{Connection, quic},
    nats, process, tls,
};
use quinn::Endpoint;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

const WORKERS: usize = 1_000;

/// Handshakes in progress at once.
const JOIN_AT_ONCE: usize = 32;

const SETTLES_IN: Duration = Duration::from_secs(3);
const WATCHED_FOR: Duration = Duration::from_secs(20);

/// The least share of the due renewals that must be answered.
const RENEWED_LEAST: f64 = 0.95;

const MASTER_PERCENT_MOST: f64 = 10.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let mut fleet = Fleet::registry();
    fleet.start_master("m1");
    eprintln!("  certificates");
    certify(&fleet)?;
    tokio::runtime::Runtime::new()?.block_on(measure(&fleet))
}

async fn measure(fleet: &Fleet) -> anyhow::Result<Vec<Measure>> {
    let renewed = Arc::new(AtomicU64::new(0));
    eprintln!("  links");
    let joined = stream::iter(0..WORKERS).map(|number| RenewingWorker::join(fleet, number));
    let joined: Vec<RenewingWorker> = joined.buffer_unordered(JOIN_AT_ONCE).try_collect().await?;
    let mut lives = tokio::task::JoinSet::new();
    for worker in joined {
        lives.spawn(worker.live(renewed.clone()));
    }
    tokio::time::sleep(SETTLES_IN).await;
    let listed = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    let workers = listed["workers"].as_array().context("a list of workers")?;
    let linked = workers.iter().filter(|worker| worker["linked"] == true).count();
    anyhow::ensure!(linked == WORKERS, "{linked} of {WORKERS} are linked");

    eprintln!("  {} s of renewals", WATCHED_FOR.as_secs());
    let used = || anyhow::Ok([usage::cpu(fleet.pid("m1"))?, usage::cpu(fleet.pid(NATS))?]);
    let (before, renewals) = (used()?, renewed.load(Ordering::Relaxed));
    tokio::time::sleep(WATCHED_FOR).await;
    let (after, renewals) = (used()?, renewed.load(Ordering::Relaxed) - renewals);
    if let Some(ended) = lives.try_join_next() {
        return Err(ended?.err().context("a worker has ended")?);
    }
    let rate = renewals as f64 / WATCHED_FOR.as_secs_f64();
    let due = WORKERS as f64 / LeaseTiming::STANDARD.renew_every().as_secs_f64();
    anyhow::ensure!(rate > due * RENEWED_LEAST, "{rate} of {due} renewals a second");
    let percent = |which: usize| {
        (after[which] - before[which]).as_secs_f64() / WATCHED_FOR.as_secs_f64() * 100.0
    };
    let memory = usage::memory(fleet.pid("m1"))?.resident >> 20;
    let note = format!(
        "{} renewals/s; nats-server {} %; the master has {memory} MiB",
        number(rate),
        number(percent(1))
    );
    let name = format!("leases of {} workers, CPU of the master", number(WORKERS as f64));
    let master = Measure::new(name, percent(0), "% of a core");
    Ok(vec![master.aims(Target::AtMost(MASTER_PERCENT_MOST)).note(note)])
}

/// Makes a certificate for each worker, with the command, as operators do.
fn certify(fleet: &Fleet) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..crate::baseline::runtime::processors() {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= WORKERS {
                        break;
                    }
                    fleet.certificate("worker", &name(number));
                }
            });
        }
    });
    Ok(())
}

fn name(number: usize) -> String {
    format!("sim{number:04}")
}

/// A worker that only holds its lease.
struct RenewingWorker {
    holder: LeaseHolder,
    context: nats::JetStream,
    key: cas::Key,
    reader: FrameReader,
    _writer: FrameWriter,
    _endpoint: Endpoint,
}

impl RenewingWorker {
    /// Connects the worker to the master, with the first steps of a real worker.
    async fn join(fleet: &Fleet, number: usize) -> anyhow::Result<Self> {
        let (name, names) = (name(number), Names::new(Default::default()));
        let file = |ending: &str| fleet.path("tls").join(format!("{name}.{ending}"));
        let ca = fleet.path("tls").join("ca.pem");
        let files = tls::Files { ca, cert: file("pem"), key: file("key") };
        let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        endpoint.set_default_client_config(quic::client(tls::client(&files)?)?);
        let master: SocketAddr = fleet.quic("m1").parse()?;
        let connection = endpoint.connect(master, &names.master_host())?.await?;
        let connection = Connection::from(connection);
        let (send, receive) = connection.open_bi().await?;
        let encoding = frames::encoding(&connection);
        let mut reader = FrameReader::new(receive, encoding);
        let mut writer = FrameWriter::new(send, encoding);
        writer.send(&StreamRequest::Control).await?;
        let Some(ToWorker::Welcome { master, version, .. }) = reader.next().await? else {
            anyhow::bail!("the master did not say welcome");
        };
        let worker: WorkerId = name.parse().context("a name")?;
        let session = SessionId(process::random()?);
        let (to, attempts) = (master.session, Vec::new());
        let (holds, said) = (Default::default(), version.clone());
        let hello =
            Hello { to, session, attempts, holds, version: said, frames: FrameRange::SPOKEN };
        writer.send(&ToMaster::Hello(hello)).await?;
        let address: nats::Address = fleet.nats_url().parse()?;
        let access = nats::NatsArgs::from(address).access()?;
        let client = access.connect(access.options(format!("muster-worker {name}"))).await?;
        let key = cas::Key {
            stream: names.stream(Bucket::Workers),
            subject: names.key(Bucket::Workers, &worker),
        };
        let offer = Offer { slots: 2, memory_bytes: 1 << 30, version, ..Offer::default() };
        let lease = Lease { offer, ..Lease::new(worker, session) };
        let mut holder = LeaseHolder::new(LeaseTiming::STANDARD, lease, ABSENT);
        holder.linked(master, true);
        let context = cas::context(client, None);
        Ok(RenewingWorker { holder, context, key, reader, _writer: writer, _endpoint: endpoint })
    }

    /// Renews the lease until an error.
    async fn live(mut self, renewed: Arc<AtomicU64>) -> anyhow::Result<()> {
        loop {
            match self.holder.plan(clock::boottime(), clock::wall()) {
                Some(LeaseStep::Over { .. }) => anyhow::bail!("a lease is over"),
                Some(LeaseStep::Write { expect, lease, doubtful, .. }) => {
                    anyhow::ensure!(!doubtful, "a renewal was not answered");
                    let value = record::write(&lease)?.into();
                    let (key, headers) = (self.key.clone(), HeaderMap::new());
                    let sent = cas::send(&self.context, key, expect, value, None, headers).await;
                    let answer = sent.answer(&self.context).await;
                    let is_written = matches!(answer, CasAnswer::Written(_));
                    renewed.fetch_add(u64::from(is_written), Ordering::Relaxed);
                    self.holder.answered(clock::boottime(), lease.renewal, answer);
                }
                None => {}
            }
            tokio::select! {
                said = self.reader.next::<ToWorker>() => drop(said?.context("the link ended")?),
                () = clock::sleep_until(Some(self.holder.wakeup())) => {}
            }
        }
    }
}
