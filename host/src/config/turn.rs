//! From `[turn]` to [`Turn`].
//!
//! Owns the keys of the relay.

use super::callers::{Network, Quota};
use super::load::{DAY, SECOND};
use super::reader::Reader;
use super::{values, variables};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `[turn]`: the relay for WebRTC.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Whether there is one at all. Default true: in development, and elsewhere where `listen` says.
    pub enabled: bool,
    /// Where clients connect. Default: nowhere, and in development UDP and TCP on loopback.
    pub listen: Vec<TurnListen>,
    /// The certificate chain for TLS, a PEM file.
    pub certificate: Option<PathBuf>,
    /// Its private key, a PEM file.
    pub key: Option<PathBuf>,
    /// The plugin that is told where the relay is. Default `turn`.
    pub plugin: String,
    /// Where clients are told that the relay is. Default: where it listens.
    pub urls: Vec<String>,
    /// The realm of credentials. Default `guesthouse`.
    pub realm: String,
    /// Names of the secrets with which credentials are made, as many as are accepted at a time. Default
    /// `TURN_SECRET`; the first is the house's own where no variable sets it.
    pub secrets: Vec<String>,
    /// Addresses that relays are bound to, at most one of a family. Default: as listeners, or the address from
    /// which this machine would send.
    pub relay: Vec<IpAddr>,
    /// Addresses that clients are told instead, behind a NAT that maps one to one.
    pub external: Vec<IpAddr>,
    /// Ports of relays. Default 49152 to 65535.
    pub ports: RangeInclusive<u16>,
    /// Threads. Default 1.
    pub threads: usize,
    /// Whether loopback and private addresses may be peers. Default false.
    pub allow_private_peers: bool,
    /// Networks that may be no peers, besides those that never may.
    pub deny: Vec<Network>,
    /// Allocations in all. Default 1000.
    pub allocations: usize,
    /// Allocations of one user. Default 10.
    pub user_allocations: usize,
    /// Peers of one allocation. Default 64.
    pub permissions: usize,
    /// Channels of one allocation. Default 64.
    pub channels: usize,
    /// Longest time between two refreshes of an allocation. Default 1 h.
    pub lifetime: Duration,
    /// Bytes in a second of one allocation, both directions together. Default 4 MiB; 0 is no limit.
    pub bandwidth: u64,
    /// The same of one user. Default 8 MiB.
    pub user_bandwidth: u64,
    /// The same of all users. Default 128 MiB.
    pub total_bandwidth: u64,
    /// Connections over TCP and TLS at a time. Default 1000.
    pub connections: usize,
    /// The same from one network: a /24 of IPv4, a /56 of IPv6. Default 100.
    pub network_connections: usize,
    /// Bytes that wait for one connection; more are dropped. Default 256 KiB.
    pub queue: usize,
    /// Answers to clients of one network that have proved nothing. Default 100 in a second.
    pub unauthenticated: Quota,
}

/// An element of `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnListen {
    /// How clients talk to it.
    pub transport: TurnTransport,
    /// Where.
    pub address: SocketAddr,
}

/// How clients talk to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnTransport {
    /// `udp://`
    Udp,
    /// `tcp://`
    Tcp,
    /// `tls://`
    Tls,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: Vec::new(),
            certificate: None,
            key: None,
            plugin: "turn".to_owned(),
            urls: Vec::new(),
            realm: "guesthouse".to_owned(),
            secrets: vec!["TURN_SECRET".to_owned()],
            relay: Vec::new(),
            external: Vec::new(),
            ports: 49_152..=65_535,
            threads: 1,
            allow_private_peers: false,
            deny: Vec::new(),
            allocations: 1000,
            user_allocations: 10,
            permissions: 64,
            channels: 64,
            lifetime: Duration::from_secs(3600),
            bandwidth: 4 << 20,
            user_bandwidth: 8 << 20,
            total_bandwidth: 128 << 20,
            connections: 1000,
            network_connections: 100,
            queue: 256 << 10,
            unauthenticated: Quota { count: 100, per: SECOND },
        }
    }
}

impl Turn {
    /// Where it listens in development when nothing else is said: on loopback, on a port that is free.
    #[must_use]
    pub fn on_loopback() -> Vec<TurnListen> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        [TurnTransport::Udp, TurnTransport::Tcp]
            .map(|transport| TurnListen { transport, address })
            .to_vec()
    }
}

/// Reads `[turn]`.
pub(super) fn turn(mut reader: Reader<'_>, file: &Path, turn: &mut Turn) {
    reader.truth("enabled", &mut turn.enabled);
    for (text, span) in reader.texts("listen") {
        match listen(text) {
            Ok(listen) => turn.listen.push(listen),
            Err(why) => reader.problem(span, why),
        }
    }
    let tls = turn.listen.iter().any(|listen| listen.transport == TurnTransport::Tls);
    for (key, path) in [("certificate", &mut turn.certificate), ("key", &mut turn.key)] {
        if let Some((text, _)) = reader.text(key) {
            *path = Some(file.parent().unwrap_or(Path::new("")).join(text));
        }
    }
    if let Some(value) = reader.get("listen")
        && tls
        && (turn.certificate.is_none() || turn.key.is_none())
    {
        reader.problem(
            value.span(),
            "a listener with TLS needs `certificate` and `key` in [turn]: two PEM files."
                .to_owned(),
        );
    }
    if let Some((text, _)) = reader.text("plugin") {
        turn.plugin = text.to_owned();
    }
    for (text, span) in reader.texts("urls") {
        match variables::expand(text) {
            Ok(url) if url.starts_with("turn:") || url.starts_with("turns:") => turn.urls.push(url),
            Ok(url) => reader.problem(
                span,
                format!(
                    "`{url}` is not the address of a relay: write \"turn:turn.example.com:3478?transport=udp\" \
                     or \"turns:turn.example.com:5349?transport=tcp\"."
                ),
            ),
            Err(why) => reader.problem(span, format!("{why}.")),
        }
    }
    if let Some((text, span)) = reader.text("realm") {
        // It is part of each answer to a stranger, which must not be long.
        if text.is_empty() || text.len() > 64 || text.contains(['"', ':']) {
            reader.problem(
                span,
                "`realm` in [turn] must have 1 to 64 bytes, without quotes and colons.".to_owned(),
            );
        } else {
            turn.realm = text.to_owned();
        }
    }
    if let Some(value) = reader.get("secrets") {
        let names = reader.texts("secrets");
        if names.is_empty() || names.len() > 4 {
            reader.problem(
                value.span(),
                "`secrets` in [turn] must name one to four secrets: the first makes credentials, all are accepted."
                    .to_owned(),
            );
        }
        for (name, span) in &names {
            if !variables::is_name(name) {
                reader.problem(
                    span.clone(),
                    format!("`{name}` is not a name for an environment variable."),
                );
            }
        }
        turn.secrets = names.into_iter().map(|(name, _)| name.to_owned()).collect();
    }
    addresses(&mut reader, "relay", &mut turn.relay);
    addresses(&mut reader, "external", &mut turn.external);
    if let Some((text, span)) = reader.text("ports") {
        match ports(text) {
            Some(ports) => turn.ports = ports,
            None => reader.problem(
                span,
                format!(
                    "`{text}` is not a range of ports for relays: write two numbers from 49152 to 65535, as \
                     \"49152-65535\"."
                ),
            ),
        }
    }
    reader.number("threads", &mut turn.threads, 1..=64);
    reader.truth("allow_private_peers", &mut turn.allow_private_peers);
    for (text, span) in reader.texts("deny") {
        match Network::parse(text) {
            Ok(network) => turn.deny.push(network),
            Err(why) => reader.problem(span, format!("{why}.")),
        }
    }
    reader.number("allocations", &mut turn.allocations, 1..=16_000);
    reader.number("user_allocations", &mut turn.user_allocations, 1..=16_000);
    reader.number("permissions", &mut turn.permissions, 1..=10_000);
    reader.number("channels", &mut turn.channels, 1..=10_000);
    reader.duration("lifetime", &mut turn.lifetime, SECOND * 60..=DAY);
    reader.size("bandwidth", &mut turn.bandwidth, 0..=1 << 40);
    reader.size("user_bandwidth", &mut turn.user_bandwidth, 0..=1 << 40);
    reader.size("total_bandwidth", &mut turn.total_bandwidth, 0..=1 << 40);
    reader.number("connections", &mut turn.connections, 1..=100_000);
    reader.number("network_connections", &mut turn.network_connections, 1..=100_000);
    reader.size("queue", &mut turn.queue, 4096..=64 << 20);
    if let Some((text, span)) = reader.text("unauthenticated") {
        match values::quota(text) {
            Ok(quota) => turn.unauthenticated = quota,
            Err(why) => reader.problem(span, format!("`unauthenticated` in [turn]: {why}.")),
        }
    }
    reader.finish();
}

fn listen(text: &str) -> Result<TurnListen, String> {
    let wrong = || {
        format!(
            "`{text}` is not where a relay can listen: write \"udp://203.0.113.5:3478\", \
             \"tcp://[2001:db8::5]:3478\" or \"tls://203.0.113.5:5349\"."
        )
    };
    let (scheme, address) = text.split_once("://").ok_or_else(wrong)?;
    let transport = match scheme {
        "udp" => TurnTransport::Udp,
        "tcp" => TurnTransport::Tcp,
        "tls" => TurnTransport::Tls,
        _ => return Err(wrong()),
    };
    Ok(TurnListen { transport, address: address.parse().map_err(|_| wrong())? })
}

fn addresses(reader: &mut Reader<'_>, key: &'static str, into: &mut Vec<IpAddr>) {
    for (text, span) in reader.texts(key) {
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => reader.problem(
                span,
                format!("`{key}` in [turn] must be an address of its own, not {address}."),
            ),
            Ok(address) if into.iter().any(|known| known.is_ipv4() == address.is_ipv4()) => reader
                .problem(
                    span,
                    format!("`{key}` in [turn] may have one IPv4 and one IPv6 address."),
                ),
            Ok(address) => into.push(address),
            Err(_) => {
                reader.problem(span, format!("`{text}` in `{key}` of [turn] is not an IP address."))
            }
        }
    }
}

/// Ports below belong to services, and a relay must not pass for one.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first >= 49_152 && first <= last).then_some(first..=last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use crate::config::{Config, TurnTransport};
    use std::path::Path;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/house/config/guesthouse.toml"))
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_whole_table_is_read() {
        let turn = parse(
            r#"[turn]
listen = ["udp://203.0.113.5:3478", "tls://[2001:db8::5]:5349"]
certificate = "turn.crt"
key = "/etc/turn.key"
urls = ["turn:turn.example.com:3478?transport=udp"]
secrets = ["NEW", "OLD"]
relay = ["10.0.0.5", "2001:db8::5"]
external = ["203.0.113.5"]
ports = "50000-50100"
bandwidth = "1MiB"
unauthenticated = "10/s"
deny = ["198.18.0.0/15"]
"#,
        )
        .unwrap()
        .turn;
        assert_eq!(turn.listen.len(), 2);
        assert_eq!(turn.listen.last().unwrap().transport, TurnTransport::Tls);
        assert_eq!(turn.certificate.unwrap(), Path::new("/house/config/turn.crt"));
        assert_eq!(turn.key.unwrap(), Path::new("/etc/turn.key"));
        assert_eq!((turn.ports, turn.bandwidth), (50_000..=50_100, 1 << 20));
        assert_eq!((turn.secrets.len(), turn.unauthenticated.count, turn.deny.len()), (2, 10, 1));
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        for (line, said) in [
            ("listen = [\"0.0.0.0:3478\"]", "udp://203.0.113.5:3478"),
            ("listen = [\"tls://127.0.0.1:5349\"]", "certificate"),
            ("ports = \"1024-2000\"", "from 49152"),
            ("ports = \"60000-50000\"", "from 49152"),
            ("secrets = []", "one to four"),
            ("secrets = [\"a b\"]", "environment variable"),
            ("relay = [\"0.0.0.0\"]", "an address of its own"),
            ("relay = [\"10.0.0.1\", \"10.0.0.2\"]", "one IPv4 and one IPv6"),
            ("urls = [\"https://turn.example.com\"]", "turns:"),
            ("realm = \"\"", "1 to 64"),
            ("allow_private_peer = true", "allow_private_peers"),
            ("deny = [\"everything\"]", "not a network"),
            ("user_allocations = 0", "from 1"),
        ] {
            let error = parse(&format!("[turn]\n{line}\n")).unwrap_err();
            assert!(error.contains(said) && error.contains(":2:"), "{error}");
        }
    }
}
