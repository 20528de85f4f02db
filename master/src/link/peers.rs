//! The links and transfers of each worker, and their bounds. One worker alone cannot take all transfers.

use muster_protocol::{WorkerId, fleet::LinkId};
use muster_wire::quic;
use quinn::Connection;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Links of one worker at once: a new one may come up before an old one is noticed to be down, and a host
/// may be dialled by several names.
const LINKS_MAX: usize = 4;

/// Objects that are transferred at once, up to 64 MiB each: what they may cost of this process's memory.
const OBJECTS_MAX: usize = 8;
/// The same of one worker.
const OBJECTS_OF_WORKER_MAX: usize = 4;

/// See the [module](self).
pub(super) struct Peers {
    workers: Mutex<HashMap<WorkerId, Peer>>,
    /// Permits for objects in the memory of this process.
    objects: Semaphore,
}

struct Peer {
    /// The oldest first.
    links: VecDeque<(LinkId, Connection)>,
    objects: Arc<Semaphore>,
}

/// The right to have one object in memory.
pub(super) struct TransferPermit<'a> {
    _of_worker: tokio::sync::OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl Peers {
    pub(super) fn new() -> Self {
        Peers { workers: Mutex::default(), objects: Semaphore::new(OBJECTS_MAX) }
    }

    /// A link of this worker is up. Closes the worker's oldest link if it has too many. Returns the permits
    /// for its objects.
    pub(super) fn joined(
        &self,
        worker: &WorkerId,
        link: LinkId,
        connection: Connection,
    ) -> Arc<Semaphore> {
        let mut workers = self.workers.lock().expect("no holder of this lock panics");
        let peer = workers.entry(worker.clone()).or_insert_with(|| Peer {
            links: VecDeque::new(),
            objects: Arc::new(Semaphore::new(OBJECTS_OF_WORKER_MAX)),
        });
        peer.links.push_back((link, connection));
        if peer.links.len() > LINKS_MAX
            && let Some((link, oldest)) = peer.links.pop_front()
        {
            tracing::warn!(%worker, link, "it has more than {LINKS_MAX} links; the oldest is closed");
            oldest.close(quic::TOO_MANY_LINKS.into(), b"the worker has too many links");
        }
        peer.objects.clone()
    }

    /// A link of this worker is down.
    pub(super) fn left(&self, worker: &WorkerId, link: LinkId) {
        let mut workers = self.workers.lock().expect("no holder of this lock panics");
        if let Some(peer) = workers.get_mut(worker) {
            peer.links.retain(|&(of, _)| of != link);
        }
        // Transfers of a link that is down may still have permits.
        workers.retain(|_, peer| {
            !peer.links.is_empty() || peer.objects.available_permits() < OBJECTS_OF_WORKER_MAX
        });
    }

    /// Waits until a worker with these permits may have another object in memory.
    pub(super) async fn transfer(&self, of_worker: Arc<Semaphore>) -> Option<TransferPermit<'_>> {
        // Its own share first: a worker that has taken it waits without a place among the others.
        let of_worker = of_worker.acquire_owned().await.ok()?;
        let of_all = self.objects.acquire().await.ok()?;
        Some(TransferPermit { _of_worker: of_worker, _of_all: of_all })
    }
}
