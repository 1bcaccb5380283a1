//! A whole TURN server for packets of a stranger and of a client.
//!
//! For the fuzz target `packets` and for the tests of `vendor/webrtc-turn`. Its peers are documentation addresses,
//! to which no packet passes: whatever is asked of it, nothing leaves this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::runtime::Runtime;
use webrtc_turn::auth::{AuthError, AuthHandler, Credentials, generate_auth_key};
use webrtc_turn::limits::{Counters, Limits, Policy, TransportKind};
use webrtc_turn::relay::{PortWish, RelayAddressGenerator, RelaySocket};
use webrtc_turn::server::{Server, ServerConfig, Transport};
use webrtc_turn::stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, AttrType};
use webrtc_turn::stun::integrity::MessageIntegrity;
use webrtc_turn::stun::message::{Message, Setter};
use webrtc_turn::stun::textattrs::{Nonce, Realm, TextAttribute, Username};

struct Everyone;

impl AuthHandler for Everyone {
    fn auth_handle(
        &self,
        name: &str,
        realm: &str,
        _: SocketAddr,
    ) -> Result<Credentials, AuthError> {
        Ok(Credentials { keys: vec![generate_auth_key(name, realm, "p")], user: name.to_owned() })
    }
}

impl Policy for Everyone {
    fn admits(&self, peer: IpAddr) -> bool {
        matches!(peer, IpAddr::V4(peer) if peer.octets()[..3] == [192, 0, 2])
    }
    fn passes(&self, _: IpAddr) -> bool {
        false
    }
    fn may_answer(&self, _: IpAddr) -> bool {
        true
    }
}

struct Loopback;

impl RelayAddressGenerator for Loopback {
    fn has_family(&self, ipv4: bool) -> bool {
        ipv4
    }
    fn allocate(&self, _: bool, wish: PortWish) -> io::Result<(RelaySocket, Option<RelaySocket>)> {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            let local = socket.local_addr()?;
            io::Result::Ok(RelaySocket { socket, local, external: local })
        };
        let second = if wish == PortWish::EvenAndNext { Some(socket()?) } else { None };
        Ok((socket()?, second))
    }
}

#[derive(Default)]
struct Line(Mutex<Vec<u8>>);

impl Transport for Line {
    fn send_to(&self, packet: &[u8], _: SocketAddr) -> io::Result<()> {
        *self.0.lock().unwrap() = packet.to_vec();
        Ok(())
    }
    fn local_addr(&self) -> SocketAddr {
        "192.0.2.1:3478".parse().unwrap()
    }
    fn kind(&self) -> TransportKind {
        TransportKind::Udp
    }
}

struct House {
    runtime: Runtime,
    server: Server,
    line: Arc<Line>,
    nonce: String,
}

fn client() -> SocketAddr {
    "192.0.2.7:1000".parse().unwrap()
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let server = Server::new(ServerConfig {
            realm: "r".to_owned(),
            auth_handler: Arc::new(Everyone),
            policy: Arc::new(Everyone),
            relay_addr_generator: Arc::new(Loopback),
            limits: Limits { allocations: 8, ..Limits::default() },
            counters: Arc::new(Counters::default()),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let line = Arc::new(Line::default());
        let transport: Arc<dyn Transport> = line.clone();
        // An Allocate of a stranger, for the nonce.
        let stranger = b"\x00\x03\x00\x00\x21\x12\xa4\x42............";
        _ = server.handle(stranger, client(), &transport);
        let mut challenge = Message { raw: line.0.lock().unwrap().clone(), ..Message::default() };
        challenge.decode().unwrap();
        let nonce = TextAttribute::get_from_as(&challenge, ATTR_NONCE).unwrap().text;
        House { runtime, server, line, nonce }
    })
}

/// The caller's method and attributes, with credentials.
fn signed(nonce: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let (method, mut rest) = bytes.split_first()?;
    let mut m = Message::new();
    m.raw.clear();
    m.write_header();
    m.raw[..2].copy_from_slice(&u16::from(*method & 0x1f).to_be_bytes());
    m.raw[8..20].copy_from_slice(b"............");
    while let Some((head, more)) = rest.split_first_chunk::<3>() {
        let length = usize::from(head[2] % 32).min(more.len());
        m.add(AttrType(u16::from_be_bytes([head[0], head[1]])), &more[..length]);
        rest = &more[length..];
    }
    Username::new(ATTR_USERNAME, "u".to_owned()).add_to(&mut m).ok()?;
    Realm::new(ATTR_REALM, "r".to_owned()).add_to(&mut m).ok()?;
    Nonce::new(ATTR_NONCE, nonce.to_owned()).add_to(&mut m).ok()?;
    let key = generate_auth_key("u", "r", "p");
    MessageIntegrity(key.to_vec()).add_to(&mut m).ok()?;
    Some(m.raw)
}

/// Gives it one packet: with an odd first byte a signed one of a client, whose method and attributes (number, length,
/// value) are the rest; else the rest as it is.
pub fn packet(bytes: &[u8]) {
    let house = house();
    let Some((first, rest)) = bytes.split_first() else { return };
    let packet = if first & 1 == 0 { Some(rest.to_vec()) } else { signed(&house.nonce, rest) };
    let Some(packet) = packet else { return };
    let transport: Arc<dyn Transport> = house.line.clone();
    house.runtime.block_on(async {
        _ = house.server.handle(&packet, client(), &transport);
        // So that an allocation which has ended gives its socket back.
        tokio::task::yield_now().await;
    });
    // What it answers can be read.
    let sent = std::mem::take(&mut *house.line.0.lock().unwrap());
    if !sent.is_empty() {
        let mut answer = Message { raw: sent, ..Message::default() };
        answer.decode().expect("an answer that can be read");
    }
}
