//! Which server of a cluster is tried next. Never the same one again before the others were tried: the
//! one that broke most often does not answer, and a stopped one takes a connection and says nothing.

use async_nats::ServerAddr;
use std::sync::{Arc, Mutex};

/// How many servers are learned from a cluster.
const LEARNED_MAX: usize = 64;

/// The servers of a cluster, in a circle: those that were named, and those that the cluster has named
/// since. Clones share the circle.
#[derive(Clone, Debug, Default)]
pub struct Servers(Arc<Mutex<Circle>>);

#[derive(Debug, Default)]
struct Circle {
    named: Vec<ServerAddr>,
    learned: Vec<ServerAddr>,
    /// The place of the next server.
    next: usize,
    /// How many were tried since the last connection.
    tries: usize,
}

impl Circle {
    fn len(&self) -> usize {
        self.named.len() + self.learned.len()
    }
}

impl Servers {
    /// Named servers, which are never forgotten.
    pub fn new(named: &[ServerAddr]) -> Self {
        let circle = Circle { named: named.to_vec(), ..Circle::default() };
        Servers(Arc::new(Mutex::new(circle)))
    }

    /// The next server to try, and how many rounds have been tried before it; `None` if there is none.
    pub fn next(&self) -> Option<(ServerAddr, usize)> {
        let mut circle = self.0.lock().expect("no holder of this lock panics");
        let (at, tries, size) = (circle.next, circle.tries, circle.len().max(1));
        (circle.next, circle.tries) = (at % size + 1, tries + 1);
        let found = circle.named.iter().chain(&circle.learned).nth(at % size).cloned();
        found.map(|server| (server, tries / size))
    }

    /// A server is connected: the rounds are counted anew, and begin after it. The cluster has named its
    /// servers by these addresses.
    pub fn connected(&self, addresses: &[String]) {
        let mut circle = self.0.lock().expect("no holder of this lock panics");
        circle.tries = 0;
        let found = addresses.iter().filter_map(|address| address.parse::<ServerAddr>().ok());
        let named = |server: &ServerAddr| circle.named.iter().any(|known| is_same(known, server));
        let learned = found.filter(|server| !named(server)).take(LEARNED_MAX).collect();
        circle.learned = learned;
    }

    /// How many servers are known.
    pub fn len(&self) -> usize {
        self.0.lock().expect("no holder of this lock panics").len()
    }

    /// Whether no server is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn is_same(a: &ServerAddr, b: &ServerAddr) -> bool {
    (a.host(), a.port()) == (b.host(), b.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &[&str]) -> Servers {
        let urls: Vec<ServerAddr> = urls.iter().map(|url| url.parse().expect("a URL")).collect();
        Servers::new(&urls)
    }

    fn tried(servers: &Servers, times: usize) -> Vec<String> {
        let next = |_| servers.next().map(|(server, round)| format!("{} {round}", server.host()));
        (0..times).filter_map(next).collect()
    }

    #[test]
    fn a_server_is_tried_again_after_all_the_others() {
        let servers = servers(&["nats://a", "nats://b", "nats://c"]);
        assert_eq!(tried(&servers, 5), ["a 0", "b 0", "c 0", "a 1", "b 1"]);
        servers.connected(&[]);
        assert_eq!(tried(&servers, 4), ["c 0", "a 0", "b 0", "c 1"], "b broke");
    }

    #[test]
    fn what_the_cluster_names_is_tried_as_well() {
        let servers = servers(&["nats://a:1"]);
        servers.next();
        servers.connected(&["a:1".into(), "b:2".into(), "not a url at all".into(), "c:3".into()]);
        assert_eq!(tried(&servers, 3), ["b 0", "c 0", "a 0"], "a broke");
        servers.connected(&["b:2".into()]);
        assert_eq!(servers.len(), 2, "a server that has left is not tried");
        assert!(super::Servers::default().next().is_none());
    }
}
