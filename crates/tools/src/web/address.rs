//! Which addresses are on the public web.
//!
//! The ranges are those of the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890
//! and its successors). What carries an IPv4 address inside an IPv6 one (mapped,
//! compatible, NAT64, 6to4, Teredo) is refused as a whole: no page needs it, and it hides
//! where a packet ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The public networks and those that the operator allows.
#[derive(Debug)]
pub(super) struct Networks {
    allowed: Vec<IpNet>,
}

impl Networks {
    pub(super) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    pub(super) fn allow(&self, address: IpAddr) -> bool {
        let allowed = self.allowed.iter().any(|net| net.contains(&address));
        allowed
            || match address {
                IpAddr::V4(address) => is_public_v4(address),
                IpAddr::V6(address) => is_public_v6(address),
            }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // This network, private, loopback, link-local, private, private.
        [0 | 10 | 127, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => true,
        // Carrier-grade NAT (RFC 6598).
        [100, 64..=127, ..] => true,
        // Protocol assignments, documentation, 6to4 relays, AS112.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [192, 31, 196, _] | [192, 175, 48, _] => true,
        [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Benchmarks (RFC 2544).
        [198, 18 | 19, ..] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Only 2000::/3 is given out; the rest holds loopback, mapped and compatible IPv4,
    // NAT64, unique local, link-local, site-local and multicast addresses.
    match address.segments() {
        // Protocol assignments: Teredo, ORCHID, benchmarks and others.
        [0x2001, 0..=0x01ff, ..] => false,
        // Documentation, 6to4, documentation.
        [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let public = [
            "1.1.1.1",
            "93.184.216.34",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.1.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
        ];
        let special = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        let networks = Networks::new(Vec::new());
        for text in public {
            assert!(networks.allow(text.parse().unwrap()), "{text}");
        }
        for text in special {
            assert!(!networks.allow(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_operator_may_open_a_network() {
        let networks = Networks::new(vec!["10.1.0.0/16".parse().unwrap()]);
        assert!(networks.allow("10.1.2.3".parse().unwrap()));
        assert!(!networks.allow("10.2.0.1".parse().unwrap()));
        assert!(!networks.allow("::ffff:10.1.2.3".parse().unwrap()));
    }
}
