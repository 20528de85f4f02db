//! Which processes can reach which, how long messages take, and the links between workers and masters.
//! Never reorders the frames of a link, and never delivers a frame to an end that has closed the link.

use crate::world::{MS, Nanos, SECOND, SimEvent, World};
use muster_protocol::message::{ToMaster, ToWorker};
use std::collections::BTreeMap;

/// A process on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A master, by index.
    Master(usize),
    /// A worker, by index.
    Worker(usize),
    /// The registry.
    Registry,
}

/// The number of a link; a later link has a higher number.
pub type LinkId = u64;

/// How long a silent link or connection stays open: the idle timeout of the daemons.
pub const IDLE: Nanos = 2 * SECOND;

/// A link: two ordered streams of frames. Each of its two ends closes it independently.
#[derive(Debug)]
pub struct Link {
    /// The index and the incarnation of the worker that dialled.
    pub worker: (usize, u64),
    /// The index and the incarnation of the master that answered.
    pub master: (usize, u64),
    /// Whether the worker's end is open.
    pub open_below: bool,
    /// Whether the master's end is open.
    pub open_above: bool,
    /// Frames to the master are lost.
    dead_up: bool,
    /// Frames to the worker are lost.
    dead_down: bool,
    last_up: Nanos,
    last_down: Nanos,
    /// The delay of the next dispatch and of all frames after it, and whether the master closes its end
    /// meanwhile.
    late: Option<(Nanos, bool)>,
}

/// The network.
#[derive(Debug, Default)]
pub struct Network {
    /// Directions that are cut, each with the time at which the cut ends.
    cuts: BTreeMap<(Peer, Peer), Nanos>,
    /// All links that were ever dialled.
    pub links: BTreeMap<LinkId, Link>,
    count: LinkId,
}

impl Network {
    /// The master and its incarnation that receive the frames which the worker sends now; `None` if the
    /// link loses them.
    pub fn carries_up(&self, id: LinkId) -> Option<(usize, u64)> {
        let link = self.links.get(&id)?;
        (link.open_below && link.open_above && !link.dead_up).then_some(link.master)
    }

    /// Delays the next dispatch on a link, and all frames after it, by `late`.
    pub fn delay_dispatch(&mut self, id: LinkId, late: Nanos, gives_up: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            link.late = Some((late, gives_up));
        }
    }
}

impl World {
    /// Draws a short delay, of the network or of a process.
    pub fn soon(&mut self) -> Nanos {
        let (low, high) = self.setting.latency;
        if !self.healing && self.setting.disorder && self.rng.once_in(50) {
            return self.rng.below(400 * MS);
        }
        self.rng.between(low, high)
    }

    /// The time at which a cut of this direction ends; 0 if there was none.
    pub fn cut_until(&self, from: Peer, to: Peer) -> Nanos {
        self.network.cuts.get(&(from, to)).copied().unwrap_or(0)
    }

    /// The time at which a message that is sent now arrives. The message waits for the end of a short
    /// cut.
    pub fn arrival(&mut self, from: Peer, to: Peer) -> Nanos {
        let after = self.cut_until(from, to).max(self.now);
        after + self.soon()
    }

    /// Cuts one direction for the duration `lasts`.
    pub fn cut(&mut self, from: Peer, to: Peer, lasts: Nanos) {
        let until = self.cut_until(from, to).max(self.now + lasts);
        self.network.cuts.insert((from, to), until);
        if lasts < IDLE {
            return;
        }
        match (from, to) {
            (peer, Peer::Registry) | (Peer::Registry, peer) => self.connection_breaks(peer),
            (Peer::Worker(worker), Peer::Master(master)) => self.links_fail(worker, master, true),
            (Peer::Master(master), Peer::Worker(worker)) => self.links_fail(worker, master, false),
            _ => {}
        }
    }

    /// Ends every cut.
    pub fn mend(&mut self) {
        self.network.cuts.clear();
    }

    fn links_fail(&mut self, worker: usize, master: usize, up: bool) {
        let fails = |link: &Link| link.worker.0 == worker && link.master.0 == master;
        let links: Vec<LinkId> =
            self.network.links.iter().filter(|(_, link)| fails(link)).map(|(&id, _)| id).collect();
        for id in links {
            if let Some(link) = self.network.links.get_mut(&id) {
                link.dead_up |= up;
                link.dead_down |= !up;
            }
            self.notice_both(id, 3 * IDLE / 2);
        }
    }

    /// Breaks a link; each end notices that at its own time.
    pub fn link_breaks(&mut self, id: LinkId, within: Nanos) {
        let Some(link) = self.network.links.get_mut(&id) else { return };
        (link.dead_up, link.dead_down) = (true, true);
        self.notice_both(id, within);
    }

    fn notice_both(&mut self, id: LinkId, within: Nanos) {
        for above in [false, true] {
            let wait = self.rng.below(within + 1);
            self.later(wait, SimEvent::LinkLost { link: id, above });
        }
    }

    /// A worker dials a master. Returns `None` if that fails.
    pub fn dial(&mut self, worker: usize, master: usize) -> Option<LinkId> {
        let (below, above) = (Peer::Worker(worker), Peer::Master(master));
        let cut = self.cut_until(below, above).max(self.cut_until(above, below));
        let process = &self.masters[master].process;
        if cut > self.now || !process.alive || self.is_still(process) {
            return None;
        }
        self.network.count += 1;
        let id = self.network.count;
        let link = Link {
            worker: (worker, self.workers[worker].process.incarnation),
            master: (master, self.masters[master].process.incarnation),
            open_below: true,
            open_above: true,
            dead_up: false,
            dead_down: false,
            last_up: self.now,
            last_down: self.now,
            late: None,
        };
        self.network.links.insert(id, link);
        Some(id)
    }

    /// A worker sends a frame.
    pub fn send_up(&mut self, id: LinkId, message: ToMaster) {
        let Some(link) = self.network.links.get(&id).filter(|link| link.open_below) else { return };
        if link.dead_up {
            return;
        }
        let (from, to) = (Peer::Worker(link.worker.0), Peer::Master(link.master.0));
        let at = self.arrival(from, to).max(link_order(&self.network, id, true));
        if let Some(link) = self.network.links.get_mut(&id) {
            link.last_up = at;
        }
        self.at(at, SimEvent::Up(id, Box::new(message)));
    }

    /// A master sends a frame.
    pub fn send_down(&mut self, id: LinkId, message: ToWorker) {
        let Some(link) = self.network.links.get(&id).filter(|link| link.open_above) else { return };
        if link.dead_down {
            return;
        }
        let (from, to) = (Peer::Master(link.master.0), Peer::Worker(link.worker.0));
        let mut at = self.arrival(from, to).max(link_order(&self.network, id, false));
        let Some(link) = self.network.links.get_mut(&id) else { return };
        if matches!(message, ToWorker::Dispatch(_))
            && let Some((late, gives_up)) = link.late.take()
        {
            at += late;
            self.counters.late_dispatches += 1;
            if gives_up {
                self.later(IDLE, SimEvent::LinkLost { link: id, above: true });
                self.at(at + IDLE, SimEvent::LinkLost { link: id, above: false });
            }
        }
        if let Some(link) = self.network.links.get_mut(&id) {
            link.last_down = at;
        }
        self.at(at, SimEvent::Down(id, Box::new(message)));
    }
}

fn link_order(network: &Network, id: LinkId, up: bool) -> Nanos {
    network.links.get(&id).map_or(0, |link| if up { link.last_up } else { link.last_down })
}
