//! Where a request really comes from.
//!
//! The address of the connection, unless that is a proxy that the operator trusts: then what the proxy
//! noted. Anyone can write `X-Forwarded-For`, so it is read from its end, and only as far as it was written
//! by someone who is trusted.

use crate::config::Network;
use http::HeaderMap;
use std::net::IpAddr;

/// The client's address.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    if trusted.is_empty() {
        return client;
    }
    let mut noted = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        // A field that isn't text says nothing; what stood before it can't be believed either.
        match value.to_str() {
            Ok(text) => noted.extend(text.split(',').map(str::trim)),
            Err(_) => noted.clear(),
        }
    }
    while is_trusted(client)
        && let Some(before) = noted.pop()
    {
        let Some(address) = parse(before) else { break };
        client = address.to_canonical();
    }
    client
}

/// An address, as proxies write it: bare, in brackets, with a port.
fn parse(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|t| Network::parse(t).unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_the_operator_says_so() {
        assert_eq!(address("9.9.9.9", &["1.1.1.1"], &[]), "9.9.9.9");
        assert_eq!(address("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"]), "9.9.9.9");
        assert_eq!(address("::ffff:9.9.9.9", &[], &[]), "9.9.9.9");
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_what_the_client_wrote_before_it_is_not() {
        let trusted = &["10.0.0.0/8"];
        assert_eq!(address("10.0.0.1", &["6.6.6.6, 1.1.1.1"], trusted), "1.1.1.1");
        assert_eq!(address("10.0.0.1", &["6.6.6.6", "1.1.1.1, 10.0.0.2"], trusted), "1.1.1.1");
        assert_eq!(address("10.0.0.1", &["1.1.1.1:4711"], trusted), "1.1.1.1");
        assert_eq!(address("10.0.0.1", &["[2001:db8::1]"], trusted), "2001:db8::1");
        assert_eq!(address("10.0.0.1", &[], trusted), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["1.1.1.1, rubbish"], trusted), "10.0.0.1");
    }
}
