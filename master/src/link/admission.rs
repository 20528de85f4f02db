//! Decides which incoming connections may begin a handshake. Never looks at certificates.
//!
//! While few handshakes are under way, each is begun at once. Otherwise an address has to prove first that
//! it receives what it is sent: a stateless Retry (RFC 9000, section 8.1.2), which costs no signature
//! and keeps no state. Packets of an address that has many handshakes under way, or whose handshakes fail
//! again and again, are ignored for some seconds. An honest worker there tries again.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Handshakes under way at once.
const HANDSHAKES_MAX: usize = 256;
/// Handshakes under way at once with one address. A site behind one address may have many workers.
const HANDSHAKES_OF_ADDRESS_MAX: usize = 64;
/// Handshakes that are begun without a Retry: under way at once, and in each [`WINDOW`].
const FREE_UNDER_WAY: usize = 32;
const FREE_BEGUN: usize = 256;
/// Failed handshakes of one address in a [`WINDOW`].
const FAILURES_MAX: usize = 64;
/// The time over which handshakes and failures are counted.
const WINDOW: Duration = Duration::from_secs(4);
/// Addresses that are remembered. Beyond it those without a handshake under way are forgotten.
const ADDRESSES_MAX: usize = 4 * 1024;

/// What to do about an incoming connection.
#[derive(Debug)]
pub(super) enum Decision {
    /// Begin the handshake, and keep this until it is over.
    Begin(Handshake),
    /// Demand a proof of the address.
    Retry,
    /// Drop the packet without an answer; the client sends it again.
    Ignore,
}

/// A handshake that is under way.
#[derive(Debug)]
pub(super) struct Handshake {
    address: IpAddr,
    is_proven: bool,
    admission: Admission,
}

/// See the [module](self). Clones share one state.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    under_way: usize,
    begun: Counter,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug, Default)]
struct Address {
    under_way: usize,
    failed: Counter,
}

/// Counts in windows of time.
#[derive(Debug, Default)]
struct Counter {
    since: Option<Instant>,
    count: usize,
}

impl Counter {
    fn at(&self, now: Instant) -> usize {
        let is_current = self.since.is_some_and(|since| now < since + WINDOW);
        if is_current { self.count } else { 0 }
    }

    fn add(&mut self, now: Instant) {
        let before = self.at(now);
        if before == 0 {
            self.since = Some(now);
        }
        self.count = before + 1;
    }
}

impl Admission {
    /// Decides about a connection from `from`, which may have proven its address.
    pub(super) fn judge(&self, now: Instant, from: SocketAddr, is_proven: bool) -> Decision {
        let mut counts = self.0.lock().expect("no holder of this lock panics");
        let counts = &mut *counts;
        let is_loaded = counts.under_way >= FREE_UNDER_WAY || counts.begun.at(now) >= FREE_BEGUN;
        if is_loaded && !is_proven {
            return Decision::Retry;
        }
        let address = network(from.ip());
        let known = counts.addresses.get(&address);
        let (same, failed) = known.map_or((0, 0), |known| (known.under_way, known.failed.at(now)));
        if counts.under_way >= HANDSHAKES_MAX
            || same >= HANDSHAKES_OF_ADDRESS_MAX
            || failed >= FAILURES_MAX
        {
            return Decision::Ignore;
        }
        if known.is_none() && counts.addresses.len() >= ADDRESSES_MAX {
            counts.addresses.retain(|_, address| address.under_way > 0);
        }
        counts.under_way += 1;
        counts.begun.add(now);
        counts.addresses.entry(address).or_default().under_way += 1;
        Decision::Begin(Handshake { address, is_proven, admission: self.clone() })
    }
}

impl Handshake {
    /// The handshake has failed. Counts only against an address that was proven: anybody can send in the
    /// name of another one.
    pub(super) fn failed(self, now: Instant) {
        if self.is_proven {
            let mut counts = self.admission.0.lock().expect("no holder of this lock panics");
            if let Some(address) = counts.addresses.get_mut(&self.address) {
                address.failed.add(now);
            }
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut counts = self.admission.0.lock().expect("no holder of this lock panics");
        counts.under_way -= 1;
        if let Some(address) = counts.addresses.get_mut(&self.address) {
            address.under_way -= 1;
            if address.under_way == 0 && address.failed.count == 0 {
                counts.addresses.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, since a host chooses the others.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 9))
    }

    fn begun(verdict: Decision) -> Handshake {
        match verdict {
            Decision::Begin(handshake) => handshake,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn under_load_an_address_has_to_be_proven() {
        let (admission, now) = (Admission::default(), Instant::now());
        let held: Vec<_> = (0..FREE_UNDER_WAY)
            .map(|host| begun(admission.judge(now, from(host as u8), false)))
            .collect();
        assert!(matches!(admission.judge(now, from(99), false), Decision::Retry));
        begun(admission.judge(now, from(99), true));
        drop(held);
        begun(admission.judge(now, from(99), false));
    }

    #[test]
    fn many_short_handshakes_are_a_load_as_well() {
        let (admission, now) = (Admission::default(), Instant::now());
        for _ in 0..FREE_BEGUN {
            begun(admission.judge(now, from(1), false));
        }
        assert!(matches!(admission.judge(now, from(2), false), Decision::Retry));
        begun(admission.judge(now + WINDOW, from(2), false));
    }

    #[test]
    fn one_address_takes_no_more_than_its_share() {
        let (admission, now) = (Admission::default(), Instant::now());
        let held: Vec<_> = (0..HANDSHAKES_OF_ADDRESS_MAX)
            .map(|_| begun(admission.judge(now, from(1), true)))
            .collect();
        assert!(matches!(admission.judge(now, from(1), true), Decision::Ignore));
        begun(admission.judge(now, from(2), true));
        drop(held);
        begun(admission.judge(now, from(1), true));
    }

    #[test]
    fn an_address_whose_handshakes_fail_is_left_alone_for_a_while() {
        let (admission, now) = (Admission::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            begun(admission.judge(now, from(1), true)).failed(now);
        }
        assert!(matches!(admission.judge(now, from(1), true), Decision::Ignore));
        begun(admission.judge(now, from(2), true));
        begun(admission.judge(now + WINDOW, from(1), true));
    }

    #[test]
    fn failures_in_the_name_of_an_address_do_not_count_against_it() {
        let (admission, mut now) = (Admission::default(), Instant::now());
        for _ in 0..2 * FAILURES_MAX {
            begun(admission.judge(now, from(1), false)).failed(now);
        }
        now += WINDOW;
        begun(admission.judge(now, from(1), false));
        assert!(admission.0.lock().expect("no panic").addresses.is_empty());
    }

    #[test]
    fn addresses_are_not_remembered_without_a_bound() {
        let (admission, now) = (Admission::default(), Instant::now());
        for at in 0..=ADDRESSES_MAX as u32 {
            let from = SocketAddr::from((std::net::Ipv4Addr::from(at), 9));
            begun(admission.judge(now, from, true)).failed(now);
        }
        assert_eq!(admission.0.lock().expect("no panic").addresses.len(), 1);
    }

    #[test]
    fn a_host_of_ipv6_is_one_address() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
