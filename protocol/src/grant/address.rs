//! Addresses: which network they are in, and whether they belong to the public internet. Never a name.

use core::net::IpAddr;

/// The bits of a whole address.
pub(super) fn whole(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether an address is in a network, which has this many bits.
pub(super) fn in_net(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    match (address, net) {
        (IpAddr::V4(address), IpAddr::V4(net)) => {
            let shift = 32 - u32::from(bits.min(32));
            address.to_bits().checked_shr(shift) == net.to_bits().checked_shr(shift)
        }
        (IpAddr::V6(address), IpAddr::V6(net)) => {
            let shift = 128 - u32::from(bits.min(128));
            address.to_bits().checked_shr(shift) == net.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}

/// Whether an address belongs to the public internet, by IANA's registries of special-purpose
/// addresses. An address that is not known to be public counts as not public.
pub fn is_public(address: IpAddr) -> bool {
    let within = |nets: &[(&str, u8)]| {
        nets.iter()
            .any(|(net, bits)| net.parse::<IpAddr>().is_ok_and(|net| in_net(address, net, *bits)))
    };
    match address {
        IpAddr::V4(_) => !within(&[
            ("0.0.0.0", 8),
            ("10.0.0.0", 8),
            ("100.64.0.0", 10),
            ("127.0.0.0", 8),
            // A public address at which agents of cloud providers answer their virtual machines.
            ("168.63.129.16", 32),
            ("169.254.0.0", 16),
            ("172.16.0.0", 12),
            ("192.0.0.0", 24),
            ("192.0.2.0", 24),
            ("192.88.99.0", 24),
            ("192.168.0.0", 16),
            ("198.18.0.0", 15),
            ("198.51.100.0", 24),
            ("203.0.113.0", 24),
            ("224.0.0.0", 3),
        ]),
        // Only the blocks that are allocated for the public internet, without the special blocks in
        // them and those that embed an IPv4 address.
        IpAddr::V6(_) => {
            within(&[("2000::", 3)])
                && !within(&[("2001::", 23), ("2001:db8::", 32), ("2002::", 16), ("3fff::", 20)])
        }
    }
}
