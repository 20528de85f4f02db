//! How the hosts of a fleet reach each other, and how one is kept from reaching another: not at all,
//! through proxies on loopback, or in network namespaces. Never a rule or an address outside of what
//! it made itself.

mod apart;
mod late;
mod proxy;

pub use apart::Namespaces;
pub use late::{Hears, LateRoutes};
pub use proxy::Proxies;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

/// What goes over a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC, from a worker to a master.
    Udp,
    /// NATS.
    Tcp,
}

/// The net of a fleet.
pub enum Net {
    /// Everybody on loopback; nobody can be cut off.
    Plain,
    /// Everybody on loopback, each way through a proxy that may lose what it is given.
    Proxied(Proxies),
    /// Everybody in a network namespace of its own.
    Apart(Namespaces),
}

impl Net {
    /// Proxies on loopback: they need no rights.
    pub fn proxied() -> Self {
        Net::Proxied(Proxies::new())
    }

    /// Where a host listens.
    pub fn address(&mut self, host: &str) -> IpAddr {
        match self {
            Net::Plain | Net::Proxied(_) => Ipv4Addr::LOCALHOST.into(),
            Net::Apart(namespaces) => namespaces.address(host).into(),
        }
    }

    /// Where this program listens so that every host reaches it, whatever is cut between hosts.
    pub fn own_address(&self) -> IpAddr {
        match self {
            Net::Plain | Net::Proxied(_) => Ipv4Addr::LOCALHOST.into(),
            Net::Apart(_) => apart::OWN_ADDRESS.into(),
        }
    }

    /// A program on a host.
    pub fn command(&mut self, host: &str, program: &Path) -> Command {
        match self {
            Net::Plain | Net::Proxied(_) => Command::new(program),
            Net::Apart(namespaces) => namespaces.command(host, program),
        }
    }

    /// What `from` must dial to reach what listens at `at` on the host `to`.
    pub fn way(&mut self, from: &str, to: &str, at: SocketAddr, carrier: Carrier) -> SocketAddr {
        match self {
            Net::Plain | Net::Apart(_) => at,
            Net::Proxied(proxies) => proxies.way(from, to, at, carrier),
        }
    }

    /// Loses silently all that goes these ways, each from one host to another, from now on.
    pub fn cut(&mut self, ways: &[(&str, &str)]) {
        self.set(ways, true);
    }

    /// Ends a cut.
    pub fn heal(&mut self, ways: &[(&str, &str)]) {
        self.set(ways, false);
    }

    /// Ends every TCP connection that `host` has made to `other`, at once and at both ends, and refuses
    /// new ones until [`Net::mend`].
    pub fn sever(&mut self, host: &str, other: &str) {
        self.set_broken(host, other, true);
    }

    /// Lets connections from `host` to `other` be made again.
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
            Net::Proxied(proxies) => ways.iter().for_each(|(from, to)| proxies.set(from, to, lost)),
            Net::Apart(namespaces) => namespaces.set(ways, lost),
        }
    }
}

/// Every way between a host and others, in both directions.
pub fn around<'a>(
    host: &'a str,
    others: impl IntoIterator<Item = &'a str>,
) -> Vec<(&'a str, &'a str)> {
    others.into_iter().flat_map(|other| [(host, other), (other, host)]).collect()
}
