//! A hub and its sites: nats-servers that are joined by leaf nodes, each with a JetStream domain of its
//! own. Never joins servers in another way.

use super::{Fleet, NATS, nats::Nodes};
use crate::{
    net::{Carrier, Net, own_port},
    place,
};
use std::net::{Ipv4Addr, SocketAddr};

/// The JetStream domain of the hub, and its name in the network of a site.
pub const HUB: &str = "hub";

/// The user of the hub that may do everything.
const ALL: &str = "all:a";

/// The user of the hub as whom the leaf node of the site `shop7` connects, with the permissions in the docs.
const SITE: &str = "shop7:change-this-4";

/// The block with that user.
fn documented() -> String {
    let page = std::fs::read_to_string(place::root().join("docs/PERMISSIONS.md")).expect("a page");
    let block = page.split("```\n").find(|part| part.starts_with("{\n  user: shop7"));
    block.expect("the block of a site").to_owned()
}

impl Fleet {
    /// Like [`Fleet::registry`], with a nats-server that accepts leaf nodes. Also returns the address for
    /// them.
    pub fn hub() -> (Self, SocketAddr) {
        let leafs = SocketAddr::from((Ipv4Addr::LOCALHOST, own_port()));
        // A site that learned of this address would bypass its proxy.
        let config = format!(
            "jetstream {{ domain: {HUB} }}\nleafnodes {{ listen: \"{leafs}\", no_advertise: true }}\n\
             authorization {{ users: [ {{ user: all, password: a }}\n{} ] }}\n",
            documented()
        );
        (Fleet::registry_with(config, ALL), leafs)
    }

    /// The registry of a site, whose nats-server is a leaf node of the hub. Its fleet and its domain are
    /// called `name`. Leases have the profile `lease`.
    pub fn site(name: &str, leafs: SocketAddr, lease: Option<&str>) -> Self {
        let mut site = Fleet::leaf(name, leafs, SITE, "", "", lease);
        site.set_variable("MUSTER_FLEET", name.into());
        site
    }

    /// A fleet whose processes connect to a leaf node of the hub, and whose registry is at the hub. The
    /// leaf node has the further configuration `config`, and its account `account` is the one that is joined to
    /// the hub.
    pub fn behind_a_leaf_node(leafs: SocketAddr, config: &str, account: &str) -> Self {
        let account = format!(", account: \"{account}\"");
        let mut fleet = Fleet::leaf("leaf", leafs, ALL, &account, config, None);
        fleet.set_variable("MUSTER_NATS_DOMAIN", HUB.into());
        fleet
    }

    /// A leaf node that connects to the hub as this user of the hub.
    fn leaf(
        domain: &str,
        leafs: SocketAddr,
        user: &str,
        account: &str,
        config: &str,
        lease: Option<&str>,
    ) -> Self {
        let mut net = Net::proxied();
        let leafs = net.way(NATS, HUB, leafs, Carrier::Tcp);
        let config = format!(
            "jetstream {{ domain: {domain} }}\n\
             leafnodes {{ remotes: [ {{ url: \"nats-leaf://{user}@{leafs}\"{account} }} ] }}\n{config}"
        );
        Fleet::make(net, lease, Nodes::new(1, config))
    }

    /// Breaks the connection of a site to its hub, until [`Fleet::join_hub`].
    pub fn leave_hub(&mut self) {
        self.net.sever(NATS, HUB);
    }

    /// Lets a site connect to its hub again.
    pub fn join_hub(&mut self) {
        self.net.mend(NATS, HUB);
    }
}
