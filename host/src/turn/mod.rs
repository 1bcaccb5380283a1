//! The relay for WebRTC: TURN (RFC 8656) over UDP, TCP and TLS.
//!
//! Owns the sockets that clients of the relay talk to, and the runtime on which everything of it happens: a flood
//! of packets delays no request, since it has threads of its own. The protocol itself is webrtc-rs's, patched
//! (`vendor/webrtc-turn`). The danger that shaped it: a relay sends packets to where somebody else wants them, from
//! inside; so it goes nowhere but to the public internet and to other relays of its own (`deny.rs`).

mod credentials;
mod deny;
mod framing;
mod secret;
mod strangers;
mod stream;
mod tls;
mod udp;

pub use secret::{HouseSecrets, house_secrets};

use crate::config::{Config, Turn, TurnListen, TurnTransport};
use anyhow::{Context, bail};
use credentials::RestCredentials;
use deny::Rules;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use stream::Connections;
use tls::Certificate;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use webrtc_turn::limits::{Counters, Limits, TransportKind};
use webrtc_turn::relay::{RelayAddress, RelayAddressGeneratorRanges};
use webrtc_turn::server::{Server, ServerConfig};

/// Bytes that the system keeps of packets for a relay socket, and for a listener, if it may.
const RELAY_BUFFER: usize = 256 << 10;
const LISTENER_BUFFER: usize = 2 << 20;

/// A relay whose doors are there, and not open yet.
pub struct Bound {
    sockets: Vec<Socket>,
    addresses: Vec<RelayAddress>,
    /// Where clients are told that it is, as URIs of RFC 7065.
    pub urls: Vec<String>,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpListener),
    Tls(TcpListener),
}

impl Socket {
    fn address(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(socket) | Self::Tls(socket) => socket.local_addr(),
        }
    }

    fn kind(&self) -> TransportKind {
        match self {
            Self::Udp(_) => TransportKind::Udp,
            Self::Tcp(_) => TransportKind::Tcp,
            Self::Tls(_) => TransportKind::Tls,
        }
    }
}

/// A relay that runs, until it is dropped.
pub struct Relay {
    server: Arc<Server>,
    counters: Arc<Counters>,
    connections: Arc<Connections>,
    listeners: Vec<(TransportKind, SocketAddr)>,
    addresses: Vec<RelayAddress>,
    settings: Turn,
    end: CancellationToken,
    runtime: Option<Runtime>,
}

/// Binds what clients talk to. None where no relay is wanted.
///
/// # Errors
/// The configuration does not allow it, or a port is taken: as a sentence for the operator.
pub fn bind(config: &Config, dev: bool) -> anyhow::Result<Option<Bound>> {
    let turn = &config.turn;
    if turn.allow_private_peers && !dev {
        bail!(
            "{}: `allow_private_peers = true` in [turn] makes the relay a way into this machine's network, and is \
             for tests only: take it out, or start with --env dev.",
            config.file.display()
        );
    }
    if !turn.enabled {
        return Ok(None);
    }
    let listen = match (turn.listen.is_empty(), dev) {
        (false, _) => turn.listen.clone(),
        (true, true) => Turn::on_loopback(),
        (true, false) => return Ok(None),
    };
    let sockets = open(&listen, turn.threads)?;
    let addresses = relay_addresses(turn, &sockets)?;
    let mut urls = turn.urls.clone();
    if urls.is_empty() {
        for socket in &sockets {
            urls.extend(url(socket.kind(), socket.address()?, &addresses));
        }
        urls.dedup();
    }
    Ok(Some(Bound { sockets, addresses, urls }))
}

/// What a client is told of a listener. Of TLS nothing: only the operator knows for which name its certificate is.
fn url(kind: TransportKind, mut address: SocketAddr, relays: &[RelayAddress]) -> Option<String> {
    let relay = relays.iter().find(|relay| relay.bind.is_ipv4() == address.is_ipv4());
    match relay {
        // Behind a NAT, or everywhere: as relays are told.
        Some(relay) if address.ip().is_unspecified() || address.ip() == relay.bind => {
            address.set_ip(relay.external);
        }
        _ if address.ip().is_unspecified() => return None,
        _ => {}
    }
    match kind {
        TransportKind::Udp => Some(format!("turn:{address}?transport=udp")),
        TransportKind::Tcp => Some(format!("turn:{address}?transport=tcp")),
        TransportKind::Tls => None,
    }
}

/// Free ports that are tried until one is free for UDP and TCP.
const PORTS_TRIED: u32 = 64;

fn open(listen: &[TurnListen], threads: usize) -> anyhow::Result<Vec<Socket>> {
    // A free port is taken for UDP and TCP alike, so that one address says it all. One that is free for UDP is often
    // not so for TCP: on a machine with thousands of connections, every third may be one of theirs.
    for last_try in (0..PORTS_TRIED).rev().map(|left| left == 0) {
        let mut sockets = Vec::new();
        let mut free = None;
        let mut taken = None;
        for one in listen {
            let mut address = one.address;
            let shares = one.address.port() == 0 && one.transport != TurnTransport::Tls;
            if shares {
                address.set_port(free.unwrap_or(0));
            }
            // One socket for each thread: the system spreads clients over them.
            let copies = if one.transport == TurnTransport::Udp { threads } else { 1 };
            for _ in 0..copies {
                let socket = bind_one(one.transport, address, copies > 1);
                match socket {
                    Ok(socket) => {
                        let bound = socket.address()?;
                        address = bound;
                        if shares {
                            free = Some(bound.port());
                        }
                        sockets.push(socket);
                    }
                    Err(error) => {
                        let name = match one.transport {
                            TurnTransport::Udp => "UDP",
                            TurnTransport::Tcp | TurnTransport::Tls => "TCP",
                        };
                        taken = Some(anyhow::Error::new(error).context(format!(
                            "the relay can't listen on {address} ({name}); change `listen` in [turn], or \
                             switch the relay off with `enabled = false`"
                        )));
                    }
                }
            }
        }
        match taken {
            None => return Ok(sockets),
            Some(error) if last_try || free.is_none() => return Err(error),
            Some(_) => {}
        }
    }
    bail!("the relay found no free port")
}

fn bind_one(
    transport: TurnTransport,
    address: SocketAddr,
    shared: bool,
) -> std::io::Result<Socket> {
    use socket2::{Domain, Protocol, Type};
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let (kind, protocol) = match transport {
        TurnTransport::Udp => (Type::DGRAM, Protocol::UDP),
        TurnTransport::Tcp | TurnTransport::Tls => (Type::STREAM, Protocol::TCP),
    };
    let socket = socket2::Socket::new(domain, kind, Some(protocol))?;
    if address.is_ipv6() {
        // An IPv4 client is an IPv4 client: never one that is written as IPv6.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    if transport != TurnTransport::Udp {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if transport == TurnTransport::Udp {
        // What the system does not give, it does not give.
        _ = socket.set_recv_buffer_size(LISTENER_BUFFER);
        _ = socket.set_send_buffer_size(LISTENER_BUFFER);
        return Ok(Socket::Udp(socket.into()));
    }
    socket.listen(1024)?;
    Ok(if transport == TurnTransport::Tcp {
        Socket::Tcp(socket.into())
    } else {
        Socket::Tls(socket.into())
    })
}

/// What relays are bound to: as the operator says, else as listeners are, else from where this machine would send.
fn relay_addresses(turn: &Turn, sockets: &[Socket]) -> anyhow::Result<Vec<RelayAddress>> {
    let mut addresses = Vec::new();
    for ipv4 in [true, false] {
        let of_family = |address: &&IpAddr| address.is_ipv4() == ipv4;
        let external = turn.external.iter().find(of_family).copied();
        let listeners: Vec<IpAddr> = sockets
            .iter()
            .filter_map(|socket| Some(socket.address().ok()?.ip()))
            .filter(|address| of_family(&address))
            .collect();
        let bind = match turn.relay.iter().find(of_family) {
            Some(address) => Some(*address),
            None if !turn.relay.is_empty() => None,
            None => match listeners.iter().find(|address| !address.is_unspecified()) {
                Some(address) => Some(*address),
                None if listeners.is_empty() => None,
                None => deny::sends_from(ipv4),
            },
        };
        match (bind, external) {
            (Some(bind), external) => {
                addresses.push(RelayAddress { bind, external: external.unwrap_or(bind) });
            }
            (None, Some(external)) => bail!(
                "`external` in [turn] has {external}, and relays have no address of that family: set `relay`"
            ),
            (None, None) => {}
        }
    }
    if addresses.is_empty() {
        bail!("the relay knows no address for its relays: set `relay` in [turn]");
    }
    for address in &addresses {
        UdpSocket::bind((address.bind, 0)).with_context(|| {
            format!(
                "relays can't be bound to {}: set `relay` in [turn] to an address of this machine, and `external` \
                 to the one that a NAT gives it",
                address.bind
            )
        })?;
    }
    Ok(addresses)
}

impl Relay {
    /// Opens the doors.
    ///
    /// # Errors
    /// A secret or a certificate is missing, or the system gives no thread.
    pub fn start(
        bound: Bound,
        config: &Config,
        secrets: &HouseSecrets,
    ) -> anyhow::Result<Arc<Self>> {
        let turn = &config.turn;
        let certificate = match (&turn.certificate, &turn.key) {
            (Some(certificate), Some(key)) => Some(Certificate::open(certificate, key)?),
            _ => None,
        };
        let counters = Arc::new(Counters::default());
        let rules = Rules::new(turn, bound.addresses.iter().map(|address| address.external));
        let server = Arc::new(Server::new(ServerConfig {
            realm: turn.realm.clone(),
            auth_handler: Arc::new(RestCredentials::new(secrets.relay()?)),
            policy: Arc::new(rules),
            relay_addr_generator: Arc::new(RelayAddressGeneratorRanges {
                addresses: bound.addresses.clone(),
                ports: turn.ports.clone(),
                buffer: RELAY_BUFFER,
            }),
            limits: Limits {
                allocations: turn.allocations,
                user_allocations: turn.user_allocations,
                permissions: turn.permissions,
                channels: turn.channels,
                lifetime: turn.lifetime,
                bandwidth: turn.bandwidth,
                user_bandwidth: turn.user_bandwidth,
                total_bandwidth: turn.total_bandwidth,
            },
            counters: counters.clone(),
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(turn.threads)
            .max_blocking_threads(1)
            .thread_name("turn")
            .enable_all()
            .build()?;
        let end = CancellationToken::new();
        let connections = Arc::new(Connections::new(turn));
        let mut listeners = Vec::new();
        for socket in bound.sockets {
            let entry = (socket.kind(), socket.address()?);
            if !listeners.contains(&entry) {
                listeners.push(entry);
            }
            let (server, end) = (server.clone(), end.clone());
            let _context = runtime.enter();
            match socket {
                Socket::Udp(socket) => {
                    let socket = tokio::net::UdpSocket::from_std(socket)?;
                    runtime.spawn(udp::serve(server, socket, entry.1, end));
                }
                Socket::Tcp(socket) => {
                    let socket = tokio::net::TcpListener::from_std(socket)?;
                    let connections = connections.clone();
                    runtime.spawn(stream::serve(server, socket, None, connections, end));
                }
                Socket::Tls(socket) => {
                    let socket = tokio::net::TcpListener::from_std(socket)?;
                    let certificate = certificate.clone();
                    let certificate =
                        certificate.context("a listener with TLS has no certificate")?;
                    let connections = connections.clone();
                    runtime.spawn(stream::serve(
                        server,
                        socket,
                        Some(certificate),
                        connections,
                        end,
                    ));
                }
            }
        }
        if let Some(certificate) = certificate {
            runtime.spawn(certificate.keep_fresh(end.clone()));
        }
        Ok(Arc::new(Self {
            server,
            counters,
            connections,
            listeners,
            addresses: bound.addresses,
            settings: turn.clone(),
            end,
            runtime: Some(runtime),
        }))
    }

    /// Allocations, counters and the kill switch.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What has happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections over TCP and TLS at the moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// Where clients connect.
    #[must_use]
    pub fn listeners(&self) -> &[(TransportKind, SocketAddr)] {
        &self.listeners
    }

    /// Addresses of relays: where they are bound, and what clients are told.
    pub fn relay_addresses(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.addresses.iter().map(|address| (address.bind, address.external))
    }

    /// `[turn]`
    #[must_use]
    pub fn settings(&self) -> &Turn {
        &self.settings
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped from within another runtime, which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// How long a socket that fails is left alone.
const PAUSE: Duration = Duration::from_millis(100);
