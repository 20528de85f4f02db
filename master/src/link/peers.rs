//! The links and transfers of each worker, and their bounds. One worker alone cannot take all transfers.

use muster_protocol::{WorkerId, enrolment::Member, fleet::LinkId};
use muster_wire::link::{self, Connection};
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
    state: Mutex<State>,
    /// Permits for objects in the memory of this process.
    objects: Semaphore,
}

#[derive(Default)]
struct State {
    workers: HashMap<WorkerId, Peer>,
    /// Workers of which certificates are revoked.
    revoked: HashMap<WorkerId, Member>,
}

struct Peer {
    /// The oldest first.
    links: VecDeque<Link>,
    objects: Arc<Semaphore>,
}

struct Link {
    link: LinkId,
    connection: Connection,
    /// When its certificate was issued, in seconds since 1970.
    issued: Option<u64>,
}

/// The right to have one object in memory.
pub(super) struct TransferPermit<'a> {
    _of_worker: tokio::sync::OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl Peers {
    pub(super) fn new() -> Self {
        Peers { state: Mutex::default(), objects: Semaphore::new(OBJECTS_MAX) }
    }

    /// A link of this worker is up, with a certificate that was `issued` then. Closes the worker's oldest
    /// link if it has too many. Returns the permits for its objects; `None` if the certificate is revoked.
    pub(super) fn joined(
        &self,
        worker: &WorkerId,
        link: LinkId,
        connection: Connection,
        issued: Option<u64>,
    ) -> Option<Arc<Semaphore>> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if state.revoked.get(worker).is_some_and(|member| member.revokes(issued)) {
            return None;
        }
        let peer = state.workers.entry(worker.clone()).or_insert_with(|| Peer {
            links: VecDeque::new(),
            objects: Arc::new(Semaphore::new(OBJECTS_OF_WORKER_MAX)),
        });
        peer.links.push_back(Link { link, connection, issued });
        if peer.links.len() > LINKS_MAX
            && let Some(Link { link, connection, .. }) = peer.links.pop_front()
        {
            tracing::warn!(%worker, link, "it has more than {LINKS_MAX} links; the oldest is closed");
            connection.close(link::TOO_MANY_LINKS, b"the worker has too many links");
        }
        Some(peer.objects.clone())
    }

    /// What is known of a worker has changed. Closes its links that came up with a revoked certificate.
    pub(super) fn heard(&self, member: &Member) {
        if member.revoked.is_none() {
            return;
        }
        let mut state = self.state.lock().expect("no holder of this lock panics");
        for of in state.workers.get(&member.worker).into_iter().flat_map(|peer| &peer.links) {
            if member.revokes(of.issued) {
                tracing::warn!(worker = %member.worker, link = of.link, "it is revoked; its link is closed");
                of.connection.close(link::REVOKED, b"the worker is revoked");
            }
        }
        state.revoked.insert(member.worker.clone(), member.clone());
    }

    /// A link of this worker is down.
    pub(super) fn left(&self, worker: &WorkerId, link: LinkId) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if let Some(peer) = state.workers.get_mut(worker) {
            peer.links.retain(|of| of.link != link);
        }
        // Transfers of a link that is down may still have permits.
        state.workers.retain(|_, peer| {
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
