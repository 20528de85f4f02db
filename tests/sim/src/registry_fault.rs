//! Faults of the registry: outages, lost writes, deleted streams, and broken connections. Never a fault
//! that a real server could not have.

use crate::{
    network::Peer,
    world::{MS, Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{Revision, TaskId};

impl World {
    /// Makes the registry unreachable for the duration `lasts`.
    pub fn outage(&mut self, lasts: Nanos) {
        self.counters.outages += 1;
        // Either the server restarts, or the network to it fails.
        self.registry.server += self.rng.below(2);
        self.registry.down_until = self.registry.down_until.max(self.now + lasts);
        self.all_connections_break();
    }

    /// A node of the cluster fails. The streams that it led have no leader for up to `lasts`, and the
    /// connections to it break.
    pub fn node_fails(&mut self, lasts: Nanos) {
        self.counters.nodes_lost += 1;
        for stream in 0..3 {
            if self.rng.once_in(2) {
                let until = self.now + self.rng.between(lasts / 4, lasts);
                let known = self.registry.elects_until[stream];
                self.registry.elects_until[stream] = until.max(known);
            }
        }
        let masters = (0..self.masters.len()).map(Peer::Master);
        let all: Vec<Peer> = masters.chain((0..self.workers.len()).map(Peer::Worker)).collect();
        for peer in all {
            if self.rng.once_in(3) {
                self.connection_breaks(peer);
            }
        }
    }

    fn all_connections_break(&mut self) {
        for at in 0..self.masters.len() {
            self.connection_breaks(Peer::Master(at));
        }
        for at in 0..self.workers.len() {
            self.connection_breaks(Peer::Worker(at));
        }
    }

    /// Loses every write to these streams after these times, and restarts the server.
    pub fn roll_back(&mut self, to: [Option<Nanos>; 3]) {
        self.counters.rollbacks += 1;
        let before: Vec<(TaskId, Revision)> =
            self.registry.tasks.values.iter().map(|(id, (_, at))| (*id, *at)).collect();
        let [workers, masters, tasks] = to;
        if let Some(to) = workers {
            self.registry.workers.rewind(to);
        }
        if let Some(to) = masters {
            self.registry.masters.rewind(to);
        }
        if let Some(to) = tasks {
            self.registry.tasks.rewind(to);
        }
        for (id, _) in before {
            if !self.registry.tasks.values.contains_key(&id) {
                self.checker.exempt(id);
            }
        }
        self.registry.server += 1;
        let most = self.rng.pick(&[50 * MS, 300 * MS, 2 * SECOND]);
        let lasts = self.rng.between(MS, most);
        self.registry.down_until = self.registry.down_until.max(self.now + lasts);
        self.all_connections_break();
    }

    /// Deletes a stream. The masters create it again when their watches notice that.
    pub fn make_anew(&mut self, stream: usize) {
        self.counters.made_anew += 1;
        match stream {
            0 => self.registry.workers.make_anew(),
            1 => self.registry.masters.make_anew(),
            _ => {
                for id in core::mem::take(&mut self.registry.tasks.values).into_keys() {
                    self.checker.exempt(id);
                }
                self.registry.tasks.make_anew();
            }
        }
        self.consumers_end(stream);
        for at in 0..self.masters.len() {
            let (peer, number) = (Peer::Master(at), self.masters[at].connection.number);
            let wait = self.rng.below(300 * MS);
            self.later(wait, SimEvent::ConnectionLost(peer, number));
        }
    }

    /// Breaks a connection several times in quick succession; the process reconnects each time.
    pub fn flaps(&mut self, peer: Peer, times: u64) {
        self.counters.flaps += 1;
        let mut wait = 0;
        for _ in 0..times {
            wait += self.rng.between(20 * MS, 200 * MS);
            self.later(wait, SimEvent::Flap(peer));
        }
    }

    /// Closes the present connection of a process at once.
    pub fn flap(&mut self, peer: Peer) {
        let Some(connection) = self.connection(peer) else { return };
        if connection.up && connection.alive {
            connection.alive = false;
            let number = connection.number;
            self.later(0, SimEvent::ConnectionLost(peer, number));
        }
    }
}
