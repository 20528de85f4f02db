//! The network between the hosts of a fleet, and its faults. Hosts reach each other directly, through
//! proxies on loopback, or in network namespaces. Never changes a rule or an address that it did not
//! make itself.

mod apart;
mod cuts;
mod late;
mod port;
mod proxy;

pub use apart::Namespaces;
pub use late::{Hears, LateRoutes};
pub use port::own_port;
pub use proxy::Proxies;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

/// The protocol of a network path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Links, from a worker to a master: UDP, and TCP at the same port.
    Udp,
    /// NATS.
    Tcp,
}

/// The network of a fleet.
pub enum Net {
    /// All hosts are on loopback; no faults are possible.
    Plain,
    /// All hosts are on loopback, and each path goes through a proxy that can lose messages.
    Proxied(Proxies),
    /// Each host is in its own network namespace.
    Apart(Namespaces),
}

impl Net {
    /// A network of proxies on loopback, which need no privileges.
    pub fn proxied() -> Self {
        Net::Proxied(Proxies::new())
    }

    /// The address on which a host listens.
    pub fn address(&mut self, host: &str) -> IpAddr {
        match self {
            Net::Plain | Net::Proxied(_) => Ipv4Addr::LOCALHOST.into(),
            Net::Apart(namespaces) => namespaces.address(host).into(),
        }
    }

    /// The address on which this program listens. Every host reaches it, whatever is cut between hosts.
    pub fn own_address(&self) -> IpAddr {
        match self {
            Net::Plain | Net::Proxied(_) => Ipv4Addr::LOCALHOST.into(),
            Net::Apart(_) => apart::OWN_ADDRESS.into(),
        }
    }

    /// The command that runs a program on a host.
    pub fn command(&mut self, host: &str, program: &Path) -> Command {
        match self {
            Net::Plain | Net::Proxied(_) => Command::new(program),
            Net::Apart(namespaces) => namespaces.command(host, program),
        }
    }

    /// The address that `from` must dial to reach `at` on the host `to`.
    pub fn way(&mut self, from: &str, to: &str, at: SocketAddr, carrier: Carrier) -> SocketAddr {
        match self {
            Net::Plain | Net::Apart(_) => at,
            Net::Proxied(proxies) => proxies.way(from, to, at, carrier),
        }
    }

    /// Silently loses all messages on these paths from now on. Each path leads from one host to another. A
    /// path that is cut several times is whole when each of these cuts has ended.
    pub fn cut(&mut self, ways: &[(&str, &str)]) {
        self.set(ways, true);
    }

    /// Ends the cut of these paths.
    pub fn heal(&mut self, ways: &[(&str, &str)]) {
        self.set(ways, false);
    }

    /// Gives a host another address in the place of the one that it has.
    pub fn readdress(&mut self, host: &str) {
        match self {
            Net::Apart(namespaces) => namespaces.readdress(host),
            Net::Plain | Net::Proxied(_) => {
                panic!("only a host in a namespace has its own address")
            }
        }
    }

    /// Silently loses all datagrams from `host` to `other` from now on, or does so no more.
    pub fn lose_datagrams(&mut self, host: &str, other: &str, lost: bool) {
        match self {
            Net::Proxied(proxies) => proxies.lose_datagrams(host, other, lost),
            Net::Plain | Net::Apart(_) => {
                panic!("only a proxy tells datagrams from other messages")
            }
        }
    }

    /// Closes every TCP connection that `host` has made to `other`, at once and at both ends, and
    /// refuses new ones until [`Net::mend`].
    pub fn sever(&mut self, host: &str, other: &str) {
        self.set_broken(host, other, true);
    }

    /// Allows connections from `host` to `other` again.
    pub fn mend(&mut self, host: &str, other: &str) {
        self.set_broken(host, other, false);
    }

    fn set_broken(&mut self, host: &str, other: &str, is_broken: bool) {
        match self {
            Net::Plain => panic!("no connection can be broken in a plain net"),
            Net::Proxied(proxies) => proxies.set_broken(host, other, is_broken),
            Net::Apart(namespaces) => namespaces.set_broken(host, other, is_broken),
        }
    }

    fn set(&mut self, ways: &[(&str, &str)], lost: bool) {
        match self {
            Net::Plain => panic!("nobody can be cut off in a plain net"),
            Net::Proxied(proxies) => proxies.set(ways, lost),
            Net::Apart(namespaces) => namespaces.set(ways, lost),
        }
    }
}

/// Every path between a host and others, in both directions.
pub fn around<'a>(
    host: &'a str,
    others: impl IntoIterator<Item = &'a str>,
) -> Vec<(&'a str, &'a str)> {
    others.into_iter().flat_map(|other| [(host, other), (other, host)]).collect()
}
