//! Where a relay does not send to, and from where it takes nothing.
//!
//! Owns the deny-list: everything that is not plainly public, however it is written, this machine's own addresses,
//! and what the operator adds. The classes of addresses are those of `fetch`: for IPv6 only what is known to be
//! public is public, so that no way to write an IPv4 address inside an IPv6 one leads around the list.

use super::strangers::Strangers;
use crate::capabilities::fetch::policy::{self, Class};
use crate::config::{Network, Turn};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use webrtc_turn::limits::Policy;

/// What may pass.
pub(super) struct Rules {
    private: bool,
    deny: Vec<Network>,
    /// What clients are told: ours, even where no interface has it.
    external: Vec<IpAddr>,
    strangers: Strangers,
}

impl Rules {
    pub(super) fn new(turn: &Turn, external: impl Iterator<Item = IpAddr>) -> Self {
        Self {
            private: turn.allow_private_peers,
            deny: turn.deny.clone(),
            external: external.collect(),
            strangers: Strangers::new(turn.unauthenticated),
        }
    }
}

impl Policy for Rules {
    fn admits(&self, peer: IpAddr) -> bool {
        self.passes(peer) && (self.private || !policy::is_own(peer))
    }

    fn passes(&self, peer: IpAddr) -> bool {
        let class = policy::class(peer);
        class.is_allowed(self.private)
            && !is_sink(peer)
            && (self.private || !self.external.contains(&peer))
            && !self.deny.iter().any(|network| network.contains(peer))
    }

    fn may_answer(&self, client: IpAddr) -> bool {
        self.strangers.may_answer(client)
    }
}

/// Networks that answer for private ones (AS112, RFC 7534 and 7535) or were set aside beside it: public by their
/// bits, and nobody's peer.
fn is_sink(peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(peer) => {
            matches!(peer.octets(), [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _])
        }
        IpAddr::V6(peer) => matches!(peer.segments(), [0x2620, 0x4f, 0x8000, ..]),
    }
}

/// The address from which this machine would send to the internet; nothing is sent.
pub(super) fn sends_from(ipv4: bool) -> Option<IpAddr> {
    let (from, to): (IpAddr, IpAddr) = if ipv4 {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    };
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && policy::class(address) != Class::Loopback).then_some(address)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// First and last addresses of what is denied, and spellings of IPv4 addresses in IPv6 ones.
    const DENIED: &[&str] = &[
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.31.196.0",
        "192.31.196.255",
        "192.52.193.0",
        "192.52.193.255",
        "192.88.99.0",
        "192.88.99.255",
        "192.168.0.0",
        "192.168.255.255",
        "192.175.48.0",
        "192.175.48.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "198.51.100.255",
        "203.0.113.0",
        "203.0.113.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:255.255.255.255",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::",
        "64:ff9b::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b::ffff:ffff",
        "64:ff9b:1::",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        "100::",
        "100::ffff:ffff:ffff:ffff",
        "100:0:0:1::",
        "100:0:0:1:ffff:ffff:ffff:ffff",
        "2001::",
        "2001:0:7f00:1::",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "2002::",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2620:4f:8000::",
        "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
        "3fff::",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        "5f00::",
        "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fc00::",
        "fd00:ec2::254",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80::",
        "fe80::1",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "fec0::",
        "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "ff00::",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:4860::200:5efe:7f00:1",
    ];

    fn rules(private: bool) -> Rules {
        let turn = Turn {
            allow_private_peers: private,
            deny: vec![Network::parse("9.9.9.0/24").unwrap()],
            ..Turn::default()
        };
        Rules::new(&turn, ["8.8.4.4".parse().unwrap()].into_iter())
    }

    #[test]
    fn every_range_is_denied_at_both_ends_and_in_every_spelling() {
        for text in DENIED {
            let peer: IpAddr = text.parse().unwrap();
            assert!(!rules(false).passes(peer) && !rules(false).admits(peer), "{text}");
        }
    }

    #[test]
    fn what_is_public_passes_but_for_our_own_and_what_the_operator_denies() {
        for text in ["1.1.1.1", "8.8.8.8", "192.31.195.255", "198.20.0.0", "2606:4700::1111"] {
            assert!(rules(false).passes(text.parse().unwrap()), "{text}");
        }
        for text in ["8.8.4.4", "9.9.9.9"] {
            assert!(!rules(false).passes(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn private_peers_are_loopback_and_private_ones_and_no_others() {
        for text in ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "fe80::1", "8.8.4.4"]
        {
            assert!(rules(true).admits(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "224.0.0.1",
            "255.255.255.255",
            "2002:7f00:1::",
            "9.9.9.9",
        ] {
            assert!(!rules(true).admits(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_ipv4_address_is_reached_by_another_spelling(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for spelling in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            ] {
                prop_assert!(!rules(false).passes(spelling.into()), "{}", spelling);
            }
        }
    }
}
