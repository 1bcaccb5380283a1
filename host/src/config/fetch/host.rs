//! The one spelling of a host.
//!
//! Owns what counts as a host in a grant and in a request. What can be read in two ways is no host: system
//! resolvers take `0x7f.1`, `2130706433` or `0177.0.0.1` for 127.0.0.1, and a check that reads them as names
//! has been passed by the time the resolver reads them as addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host, in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name in lower case, without a trailing dot.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URL: a name, an IPv4 address with four decimal parts, or an IPv6
    /// address in brackets.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or("has no closing bracket")?;
            if inner.contains(['%', '.']) {
                return Err(
                    "has a zone or a mixed notation: write the IPv6 address in hexadecimal",
                );
            }
            let address: Ipv6Addr =
                inner.parse().map_err(|_| "is not an IPv6 address in brackets")?;
            return Ok(Self::Address(address.into()));
        }
        if !text.is_ascii() {
            return Err("has letters beyond ASCII: write an international name in its xn-- form");
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        if text.ends_with('.') {
            return Err("ends with a dot: leave it out");
        }
        if text.is_empty() || text.len() > 253 {
            return Err("is empty, or longer than 253 characters");
        }
        if !text.split('.').all(is_label) {
            return Err("is not a name: its parts are letters, digits, `-` and `_`, 63 at most");
        }
        if text.rsplit('.').next().is_some_and(is_number) {
            return Err("ends with a number: write an IPv4 address as four decimal numbers");
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    /// Whether only a private network can know it, so that a grant for it means that network: an address,
    /// `localhost`, a name without dots, or one under a domain that is reserved for private use.
    #[must_use]
    pub fn is_private_by_name(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Name(name) => {
                !name.contains('.')
                    || [".localhost", ".local", ".internal", ".lan", ".home.arpa"]
                        .iter()
                        .any(|end| name.ends_with(end))
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// What an address parser would read as a number: no top-level domain looks like it.
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .get(..2)
        .filter(|start| start.eq_ignore_ascii_case("0x"))
        .and_then(|_| label.get(2..))
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || label.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (text, expected) in [
            ("example.com", "example.com"),
            ("API.Example.COM", "api.example.com"),
            ("xn--nxasmq6b.example", "xn--nxasmq6b.example"),
            ("93.184.215.14", "93.184.215.14"),
            ("[2606:4700::1111]", "[2606:4700::1111]"),
            ("[2606:4700:0:0:0:0:0:1111]", "[2606:4700::1111]"),
            ("_dmarc.example.com", "_dmarc.example.com"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_host() {
        for text in [
            "0x7f.1",
            "0x7f000001",
            "0X7F.0.0.1",
            "2130706433",
            "0177.0.0.1",
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            "localhost.",
            "example.com.",
            "127.0.0.01",
            "256.0.0.1",
            "1.2.3.4.5",
            "[::ffff:127.0.0.1]",
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]",
            "[::1",
            "::1",
            "",
            "exa mple.com",
            "example..com",
            ".example.com",
            "a@b",
            "a:b",
            "%31%32%37.0.0.1",
            "①②⑦.⓪.⓪.①",
            "127。0。0。1",
            "ｅxample.com",
            "ex\u{ad}ample.com",
            "-a.example",
            "a-.example",
            "foo.0x",
        ] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_host_reads_as_itself(text in "\\PC{0,40}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()).unwrap(), host);
            }
        }

        #[test]
        fn a_name_is_never_an_address_for_a_lenient_parser(text in "[0-9a-fx.]{1,20}") {
            if let Ok(Host::Name(name)) = Host::parse(&text) {
                // inet_aton takes nothing whose last part is not a number.
                let last = name.rsplit('.').next().unwrap().to_owned();
                prop_assert!(last.parse::<u64>().is_err());
                prop_assert!(!last.starts_with("0x") || u64::from_str_radix(&last[2..], 16).is_err());
            }
        }
    }
}
