//! Which addresses a connection may go to.
//!
//! Owns the classes of addresses. Names are granted, but connections go to addresses, and whoever runs a
//! name's DNS decides what those are: so each address is looked at after it was resolved, and what is not
//! plainly public is refused unless the operator meant it. For IPv6 only what is known to be public is
//! public: every way to write an IPv4 address inside an IPv6 one is a way around a list.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of the public internet.
    Public,
    /// This machine.
    Loopback,
    /// RFC 1918, or unique local.
    Private,
    /// Carrier-grade NAT (RFC 6598).
    Shared,
    /// One link only.
    LinkLocal,
    /// Where clouds tell machines their credentials.
    Metadata,
    /// No address.
    Unspecified,
    /// Many machines.
    Multicast,
    /// For documentation, benchmarks, protocols or the future.
    Reserved,
    /// An IPv4 address inside an IPv6 one: mapped, compatible, NAT64, 6to4, Teredo, ISATAP.
    Embedded,
    /// An address of this machine, whatever its kind.
    Own,
}

impl Class {
    /// Whether a connection may go there, given what the grant says of private addresses.
    #[must_use]
    pub fn is_allowed(self, private: bool) -> bool {
        match self {
            Self::Public => true,
            Self::Loopback | Self::Private | Self::Shared | Self::LinkLocal | Self::Own => private,
            // Nobody means these when they say "private".
            Self::Metadata
            | Self::Unspecified
            | Self::Multicast
            | Self::Reserved
            | Self::Embedded => false,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "carrier-grade NAT",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Embedded => "IPv4 inside IPv6",
            Self::Own => "this machine's own",
        })
    }
}

/// The class of an address by its bits alone.
#[must_use]
pub fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // Link-local, shared and public ones that clouds answer metadata on.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [168, 63, 129, 16]
        | [192, 0, 0, 192] => Class::Metadata,
        [0, 0, 0, 0] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [169, 254, ..] => Class::LinkLocal,
        [224..=239, ..] => Class::Multicast,
        // "This network", protocols, documentation, 6to4 relays, benchmarks, the future, broadcast.
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // Compatible, mapped, translated (SIIT), NAT64 with both prefixes, 6to4, Teredo.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0 | 1, ..]
        | [0x2002, ..]
        | [0x2001, 0, ..] => Class::Embedded,
        // ISATAP writes the IPv4 address behind 5efe.
        [.., 0 | 0x200, 0x5efe, _, _] => Class::Embedded,
        // Where EC2 and Google Cloud answer metadata.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
            Class::Metadata
        }
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // Protocols (2001::/23), documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Reserved,
        // Global unicast.
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// The class, where also the machine's own addresses count.
#[must_use]
pub fn class_here(address: IpAddr) -> Class {
    match class(address) {
        Class::Public if is_own(address) => Class::Own,
        class => class,
    }
}

/// Whether an interface of this machine has the address. The system is asked for the way there: to itself
/// it would send from the very address. Nothing is sent.
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    let from: SocketAddr = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let way = || {
        let socket = UdpSocket::bind(from)?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    // No way there: the connection will say so.
    way().is_ok_and(|local| local.ip() == address)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_address_has_its_class() {
        for (address, expected) in [
            ("1.1.1.1", Class::Public),
            ("93.184.215.14", Class::Public),
            ("172.15.255.255", Class::Public),
            ("172.32.0.0", Class::Public),
            ("100.63.255.255", Class::Public),
            ("100.128.0.0", Class::Public),
            ("198.17.255.255", Class::Public),
            ("198.20.0.0", Class::Public),
            ("223.255.255.255", Class::Public),
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("10.0.0.1", Class::Private),
            ("172.16.0.1", Class::Private),
            ("172.31.255.255", Class::Private),
            ("192.168.0.1", Class::Private),
            ("100.64.0.1", Class::Shared),
            ("100.127.255.255", Class::Shared),
            ("169.254.0.1", Class::LinkLocal),
            ("169.254.169.254", Class::Metadata),
            ("169.254.170.2", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("168.63.129.16", Class::Metadata),
            ("192.0.0.192", Class::Metadata),
            ("0.0.0.0", Class::Unspecified),
            ("0.1.2.3", Class::Reserved),
            ("192.0.0.1", Class::Reserved),
            ("192.0.2.1", Class::Reserved),
            ("192.88.99.1", Class::Reserved),
            ("198.18.0.1", Class::Reserved),
            ("198.19.255.255", Class::Reserved),
            ("198.51.100.1", Class::Reserved),
            ("203.0.113.1", Class::Reserved),
            ("240.0.0.1", Class::Reserved),
            ("255.255.255.255", Class::Reserved),
            ("224.0.0.1", Class::Multicast),
            ("239.255.255.255", Class::Multicast),
            ("2606:4700:4700::1111", Class::Public),
            ("2a00:1450:4001:830::200e", Class::Public),
            ("2001:4860:4860::8888", Class::Public),
            ("::", Class::Unspecified),
            ("::1", Class::Loopback),
            ("::7f00:1", Class::Embedded),
            ("::ffff:127.0.0.1", Class::Embedded),
            ("::ffff:8.8.8.8", Class::Embedded),
            ("::ffff:0:127.0.0.1", Class::Embedded),
            ("64:ff9b::7f00:1", Class::Embedded),
            ("64:ff9b::808:808", Class::Embedded),
            ("64:ff9b:1::a00:1", Class::Embedded),
            ("2002:7f00:1::", Class::Embedded),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Class::Embedded),
            ("2606::5efe:10.0.0.1", Class::Embedded),
            ("fe80::200:5efe:a00:1", Class::Embedded),
            ("fd00:ec2::254", Class::Metadata),
            ("fd20:ce::254", Class::Metadata),
            ("fc00::1", Class::Private),
            ("fdff::1", Class::Private),
            ("fec0::1", Class::Private),
            ("fe80::1", Class::LinkLocal),
            ("ff02::1", Class::Multicast),
            ("2001:db8::1", Class::Reserved),
            ("2001:2::1", Class::Reserved),
            ("2001:20::1", Class::Reserved),
            ("3fff::1", Class::Reserved),
            ("5f00::1", Class::Reserved),
            ("100::1", Class::Reserved),
            ("4000::1", Class::Reserved),
        ] {
            assert_eq!(class(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn private_means_private_and_never_metadata() {
        for class in [Class::Loopback, Class::Private, Class::Shared, Class::LinkLocal, Class::Own]
        {
            assert!(!class.is_allowed(false) && class.is_allowed(true), "{class}");
        }
        for class in [
            Class::Metadata,
            Class::Unspecified,
            Class::Multicast,
            Class::Reserved,
            Class::Embedded,
        ] {
            assert!(!class.is_allowed(false) && !class.is_allowed(true), "{class}");
        }
    }

    #[test]
    fn the_machine_knows_its_own_addresses() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("1.1.1.1".parse().unwrap()));
    }

    proptest! {
        /// The standard library's own notion of what is not global must not be public for us.
        #[test]
        fn no_special_ipv4_address_is_public(bits in any::<u32>()) {
            let address = Ipv4Addr::from_bits(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_broadcast() || address.is_documentation() || address.is_unspecified()
                || address.is_multicast();
            prop_assert!(!special || class_v4(address) != Class::Public);
        }

        /// No way of writing an IPv4 address into an IPv6 one makes it public.
        #[test]
        fn an_ipv4_address_inside_is_never_public(bits in any::<u32>(), prefix in 0usize..6) {
            let [a, b, c, d] = bits.to_be_bytes().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let address = match prefix {
                0 => Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                1 => Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                2 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                3 => Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                4 => Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                _ => Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
            };
            prop_assert!(!class_v6(address).is_allowed(false));
            prop_assert!(address.is_loopback() || !class_v6(address).is_allowed(true));
        }
    }
}
