//! The registry of a fleet: one nats-server, or a cluster of several. Each node keeps its directory and
//! its ports when it is started again. Never makes a client depend on which node answers.

use super::{Fleet, room::SMALL_DISK, text, wait_for};
use crate::{
    net::{Carrier, Hears, LateRoutes, Net, own_port},
    place,
};
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// The host name of the node of a registry that has only one.
pub const NATS: &str = "nats-server";

/// The nodes of a registry.
pub(super) struct Nodes {
    /// Additional configuration of each node; usually empty.
    config: String,
    /// The user and password in the URLs, if any.
    pub(super) user: String,
    all: Vec<Node>,
    /// The proxies to and from the last node, if its replicas can lag.
    late: Option<LateRoutes>,
    /// The name of the NATS context that daemons are told instead of URLs.
    pub(super) context: Option<String>,
}

struct Node {
    name: String,
    /// The address for clients; the port is 0 before the node's first start.
    clients: SocketAddr,
    /// The address for the other nodes; the port is 0 before the node's first start.
    routes: SocketAddr,
}

impl Nodes {
    pub(super) fn new(count: usize, config: impl Into<String>) -> Self {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let name = |number| if count == 1 { NATS.into() } else { format!("{NATS}-{number}") };
        let node = |number| Node { name: name(number), clients: anywhere, routes: anywhere };
        Nodes {
            config: config.into(),
            user: String::new(),
            all: (1..=count).map(node).collect(),
            late: None,
            context: None,
        }
    }

    /// Three nodes, of which the last can be made to lag.
    pub(super) fn with_a_late_one() -> Self {
        Nodes { late: Some(LateRoutes::new()), ..Nodes::new(3, "") }
    }

    /// The routes of a node: the address at which it dials each other node, and the address that it
    /// advertises, if that is not the address on which it listens.
    fn routes(&mut self, own: &str) -> (Vec<SocketAddr>, Option<SocketAddr>) {
        let last = self.all.last().map(|node| node.name.clone());
        let is_last = last.as_deref() == Some(own);
        let Some(late) = &mut self.late else {
            let others = self.all.iter().filter(|node| node.name != own);
            return (others.map(|node| node.routes).collect(), None);
        };
        let (mut dials, mut dialled) = (Vec::new(), None);
        for node in &self.all {
            if node.name == own {
                // Either this node is the late one, or only the late node dials this address.
                let hears = if is_last { Hears::Dialled } else { Hears::Dialling };
                dialled = Some(late.way(node.routes, hears));
            } else if is_last {
                dials.push(late.way(node.routes, Hears::Dialling));
            } else if Some(&node.name) == last.as_ref() {
                dials.push(late.way(node.routes, Hears::Dialled));
            } else {
                dials.push(node.routes);
            }
        }
        (dials, dialled)
    }

    /// The URL of this address.
    fn url(&self, address: SocketAddr) -> String {
        let at = if self.user.is_empty() { "" } else { "@" };
        format!("nats://{}{at}{address}", self.user)
    }

    /// The node that a host connects to. Hosts whose names end in a number are distributed over all
    /// nodes.
    fn of(&self, host: &str) -> &Node {
        let digits = host.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let number: usize = digits.parse().unwrap_or(1);
        &self.all[number.saturating_sub(1) % self.all.len()]
    }
}

impl Fleet {
    /// The names of the registry's nodes.
    pub fn nats_nodes(&self) -> Vec<String> {
        self.nats.all.iter().map(|node| node.name.clone()).collect()
    }

    /// The URL of the registry's first node.
    pub fn nats_url(&self) -> String {
        self.nats.url(self.nats.all[0].clients)
    }

    /// The URLs of all nodes.
    pub fn nats_urls(&self) -> Vec<String> {
        self.nats.all.iter().map(|node| self.nats.url(node.clients)).collect()
    }

    /// Whether a host is a node of the registry.
    pub(super) fn is_node(&self, host: &str) -> bool {
        self.nats.all.iter().any(|node| node.name == host)
    }

    /// Starts the registry. A restarted node has the same directory and ports as before.
    pub fn start_nats(&mut self) {
        let nodes = self.nats_nodes();
        // One node after another, so that the nodes without a lag form the cluster before the last node
        // joins.
        for (at, node) in nodes.iter().enumerate() {
            let pid = self.launch_nats(node);
            let file = self.path("nats-ports").join(format!("nats-server_{pid}.ports"));
            let port = wait_for("nats-server to listen", || {
                let ports: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
                ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
            });
            self.nats.all[at].clients.set_port(port);
        }
        if nodes.len() > 1 {
            wait_for("the cluster to have a leader", || {
                let has = |node: &String| self.log(node).contains("metadata leader");
                nodes.iter().all(has).then_some(())
            });
        }
    }

    /// From now on the replicas of the last node lag behind the others by `late`.
    pub fn lag(&self, late: Duration) {
        self.nats.late.as_ref().expect("a registry with a late node").set(late);
    }

    /// Sets the configuration of nats-server for its next start.
    pub fn configure_nats(&mut self, config: impl Into<String>) {
        self.nats.config = config.into();
    }

    /// Sets the user and password in the URLs of processes that are started from now on.
    pub fn ask_as(&mut self, user: impl Into<String>) {
        self.nats.user = user.into();
    }

    /// Launches one node, without waiting until it listens. Returns the id of its process.
    pub fn launch_nats(&mut self, name: &str) -> u32 {
        let ports = self.path("nats-ports");
        std::fs::create_dir_all(&ports).expect("a directory");
        for at in 0..self.nats.all.len() {
            self.locate(at);
        }
        let config = self.path(&format!("{name}.conf"));
        std::fs::write(&config, self.nats_config(name)).expect("a file");
        let store = self.store(name);
        let node = self.nats.all.iter().find(|node| node.name == name).expect("a node");
        let port = node.clients.port();
        let mut command = self.net.command(name, &place::nats_server());
        command
            .args(["--addr", &node.clients.ip().to_string(), "--jetstream"])
            .args(["--port", &port.to_string(), "--store_dir", text(&store)])
            .args(["--ports_file_dir", text(&ports), "--config", text(&config)]);
        self.spawn(name, command)
    }

    /// Chooses the addresses on which a node listens, once. Nodes must know each other's before any of
    /// them listens.
    fn locate(&mut self, at: usize) {
        let node = &mut self.nats.all[at];
        let ip: IpAddr = self.net.address(&node.name);
        node.clients.set_ip(ip);
        node.routes.set_ip(ip);
        for address in [&mut node.clients, &mut node.routes] {
            if address.port() == 0 {
                address.set_port(own_port());
            }
        }
    }

    fn nats_config(&mut self, name: &str) -> String {
        let config = if self.has_disks() { SMALL_DISK.into() } else { self.nats.config.clone() };
        if self.nats.all.len() == 1 {
            return config;
        }
        let (dials, dialled) = self.nats.routes(name);
        let Nodes { all, .. } = &self.nats;
        let own = all.iter().find(|node| node.name == name).expect("a node");
        let routes: Vec<String> =
            dials.iter().map(|routes| format!("\"nats://{routes}\"")).collect();
        // The other nodes dial this address.
        let advertise = dialled.map(|routes| format!("  advertise: \"{routes}\"\n"));
        // A client that learned of the other nodes would bypass the proxies.
        let is_hidden = matches!(self.net, Net::Proxied(_));
        format!(
            "server_name: {name}\n{config}cluster {{\n  name: muster\n  listen: \"{}\"\n{}  \
             no_advertise: {is_hidden}\n  routes: [{}]\n}}\n",
            own.routes,
            advertise.unwrap_or_default(),
            routes.join(", "),
        )
    }

    /// Daemons that are started from now on are told the name of a NATS context instead of URLs.
    pub fn take_context(&mut self, name: &str) {
        self.nats.context = Some(name.into());
    }

    /// The options by which a daemon on a host finds the registry: the URLs of its own node first, then
    /// of the others.
    pub(super) fn nats_from(&mut self, host: &str) -> [String; 2] {
        if let Some(context) = &self.nats.context {
            return ["--context".into(), context.clone()];
        }
        let own = self.nats.of(host);
        let others = self.nats.all.iter().filter(|node| node.name != own.name);
        let urls = std::iter::once(own).chain(others).map(|node| {
            let address = self.net.way(host, &node.name, node.clients, Carrier::Tcp);
            self.nats.url(address)
        });
        ["--nats".into(), urls.collect::<Vec<_>>().join(",")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_spread_over_the_nodes() {
        let of = |count, host| Nodes::new(count, "").of(host).name.clone();
        assert_eq!(of(1, "w7"), NATS);
        assert_eq!(of(3, "m1"), "nats-server-1");
        assert_eq!(of(3, "w3"), "nats-server-3");
        assert_eq!(of(3, "w4"), "nats-server-1");
        assert_eq!(of(3, "client"), "nats-server-1");
    }
}
