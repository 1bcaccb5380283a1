//! A whole server, without listeners: packets go in, and what is sent back is looked at.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::auth::*;
use crate::limits::*;
use crate::proto::channum::ChannelNumber;
use crate::proto::evenport::EvenPort;
use crate::proto::lifetime::Lifetime;
use crate::proto::peeraddr::PeerAddress;
use crate::proto::relayaddr::RelayedAddress;
use crate::proto::reqfamily::*;
use crate::proto::reqtrans::RequestedTransport;
use crate::proto::rsrvtoken::ReservationToken;
use crate::proto::*;
use crate::relay::*;
use crate::server::*;
use crate::stun::agent::TransactionId;
use crate::stun::attributes::*;
use crate::stun::error_code::*;
use crate::stun::integrity::MessageIntegrity;
use crate::stun::message::*;
use crate::stun::textattrs::*;

const REALM: &str = "example.org";

/// Passwords are the username backwards.
struct Users;

impl AuthHandler for Users {
    fn auth_handle(
        &self,
        name: &str,
        realm: &str,
        _: SocketAddr,
    ) -> std::result::Result<Credentials, AuthError> {
        let (kind, user) = name.split_once(':').ok_or(AuthError::Unknown)?;
        match kind {
            "old" => return Err(AuthError::Expired),
            "new" => {}
            _ => return Err(AuthError::Unknown),
        }
        let key = generate_auth_key(name, realm, &password(name));
        Ok(Credentials { keys: vec![[0; 16], key], user: user.to_owned() })
    }
}

fn password(name: &str) -> String {
    name.chars().rev().collect()
}

#[derive(Default)]
struct Rules {
    denied: Mutex<HashSet<IpAddr>>,
    silent: Mutex<bool>,
}

impl Policy for Rules {
    fn admits(&self, peer: IpAddr) -> bool {
        !self.denied.lock().contains(&peer)
    }
    fn passes(&self, peer: IpAddr) -> bool {
        self.admits(peer)
    }
    fn may_answer(&self, _: IpAddr) -> bool {
        !*self.silent.lock()
    }
}

struct Line {
    kind: TransportKind,
    sent: Mutex<Vec<Vec<u8>>>,
}

impl Transport for Line {
    fn send_to(&self, packet: &[u8], _: SocketAddr) -> io::Result<()> {
        self.sent.lock().push(packet.to_vec());
        Ok(())
    }
    fn local_addr(&self) -> SocketAddr {
        "192.0.2.1:3478".parse().unwrap()
    }
    fn kind(&self) -> TransportKind {
        self.kind
    }
}

struct House {
    server: Server,
    rules: Arc<Rules>,
    counters: Arc<Counters>,
    line: Arc<Line>,
}

fn house(limits: Limits) -> House {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (rules, counters) = (Arc::new(Rules::default()), Arc::new(Counters::default()));
    let relay = RelayAddressGeneratorRanges {
        addresses: vec![RelayAddress { bind: loopback, external: loopback }],
        ports: 49152..=65535,
        buffer: 0,
    };
    let server = Server::new(ServerConfig {
        realm: REALM.to_owned(),
        auth_handler: Arc::new(Users),
        policy: rules.clone(),
        relay_addr_generator: Arc::new(relay),
        limits,
        counters: counters.clone(),
    });
    let line = Arc::new(Line { kind: TransportKind::Udp, sent: Mutex::default() });
    House { server, rules, counters, line }
}

/// One client of the house.
struct Client<'a> {
    house: &'a House,
    address: SocketAddr,
    username: String,
    password: String,
    realm: String,
    nonce: String,
}

type Attributes = Vec<Box<dyn Setter>>;

impl House {
    fn client(&self, port: u16, username: &str) -> Client<'_> {
        let mut client = Client {
            house: self,
            address: SocketAddr::from(([192, 0, 2, 7], port)),
            username: username.to_owned(),
            password: password(username),
            realm: REALM.to_owned(),
            nonce: String::new(),
        };
        let challenge = client.bare(METHOD_ALLOCATE, vec![udp()]).unwrap();
        assert_eq!(code(&challenge), 401);
        client.nonce = TextAttribute::get_from_as(&challenge, ATTR_NONCE).unwrap().text;
        client
    }

    fn exchange(&self, packet: &[u8], from: SocketAddr) -> Option<Message> {
        let line: Arc<dyn Transport> = self.line.clone();
        _ = self.server.handle(packet, from, &line);
        let mut m = Message { raw: self.line.sent.lock().pop()?, ..Default::default() };
        m.decode().unwrap();
        Some(m)
    }

    fn count(&self, name: &str) -> u64 {
        self.counters.list().into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

fn udp() -> Box<dyn Setter> {
    Box::new(RequestedTransport { protocol: PROTO_UDP })
}

fn peer(address: SocketAddr) -> Box<dyn Setter> {
    Box::new(PeerAddress { ip: address.ip(), port: address.port() })
}

fn code(m: &Message) -> u16 {
    let mut code = ErrorCodeAttribute::default();
    code.get_from(m).map_or(0, |()| code.code.0)
}

impl Client<'_> {
    fn bare(&self, method: Method, attributes: Attributes) -> Option<Message> {
        self.house.exchange(&self.packet(method, attributes, false).raw, self.address)
    }

    fn packet(&self, method: Method, attributes: Attributes, signed: bool) -> Message {
        let mut all: Attributes =
            vec![Box::new(TransactionId::new()), Box::new(MessageType::new(method, CLASS_REQUEST))];
        all.extend(attributes);
        if signed {
            all.push(Box::new(Username::new(ATTR_USERNAME, self.username.clone())));
            all.push(Box::new(Realm::new(ATTR_REALM, self.realm.clone())));
            all.push(Box::new(Nonce::new(ATTR_NONCE, self.nonce.clone())));
            let key = generate_auth_key(&self.username, &self.realm, &self.password);
            all.push(Box::new(MessageIntegrity(key.to_vec())));
        }
        let mut m = Message::new();
        m.build(&all).unwrap();
        m
    }

    fn ask(&self, method: Method, attributes: Attributes) -> Message {
        let packet = self.packet(method, attributes, true);
        self.house.exchange(&packet.raw, self.address).expect("an answer")
    }

    fn allocate(&self) -> Message {
        self.ask(METHOD_ALLOCATE, vec![udp()])
    }

    fn relay(&self) -> SocketAddr {
        let answer = self.allocate();
        assert_eq!(code(&answer), 0);
        relay_of(&answer)
    }
}

fn relay_of(answer: &Message) -> SocketAddr {
    let mut relay = RelayedAddress::default();
    relay.get_from(answer).unwrap();
    SocketAddr::new(relay.ip, relay.port)
}

#[test]
fn a_stranger_gets_a_short_challenge_and_no_name_of_the_software() {
    let house = house(Limits::default());
    let client = house.client(1, "new:alice");
    let answer = client.bare(METHOD_ALLOCATE, vec![udp()]).unwrap();
    assert!(!answer.contains(ATTR_SOFTWARE));
    // Header, code, nonce and realm: there is nothing to leave out. The request has 28 bytes.
    assert!(answer.raw.len() <= 64, "{} bytes", answer.raw.len());
    *house.rules.silent.lock() = true;
    assert!(client.bare(METHOD_ALLOCATE, vec![udp()]).is_none());
    assert!(client.bare(METHOD_BINDING, vec![]).is_none());
    assert_eq!(house.count("unanswered"), 2);
}

#[test]
fn a_binding_request_is_told_its_address() {
    let house = house(Limits::default());
    let answer = house.client(7, "new:alice").bare(METHOD_BINDING, vec![]).unwrap();
    let mut address = crate::stun::xoraddr::XorMappedAddress::default();
    address.get_from(&answer).unwrap();
    assert_eq!((address.ip.to_string().as_str(), address.port), ("192.0.2.7", 7));
    assert!(answer.raw.len() <= 32);
}

#[test]
fn who_cannot_prove_it_is_refused_with_the_right_code() {
    let house = house(Limits::default());
    let good = || house.client(1, "new:alice");
    let wrong = Client { password: "wrong".into(), ..good() };
    assert_eq!(code(&wrong.allocate()), 401);
    assert_eq!(code(&Client { realm: "other.org".into(), ..good() }.allocate()), 401);
    assert_eq!(code(&house.client(1, "nobody:alice").allocate()), 401);
    assert_eq!(code(&house.client(1, "old:alice").allocate()), 401);
    let stale = Client { nonce: "AAAAAAAAAAAAAAAA".into(), ..good() }.allocate();
    assert_eq!(code(&stale), 438);
    assert!(stale.contains(ATTR_NONCE) && stale.contains(ATTR_REALM));
    // The nonce of one address does not do for another.
    let elsewhere = Client { address: "192.0.2.8:1".parse().unwrap(), ..good() };
    assert_eq!(code(&elsewhere.allocate()), 438);
    assert_eq!(house.count("bad_credentials"), 3);
    assert_eq!(house.count("expired_credentials"), 1);
    assert_eq!(house.count("stale_nonces"), 2);
    assert_eq!(house.server.allocations(), 0);
}

#[tokio::test]
async fn data_goes_both_ways_by_indication_and_by_channel() {
    let house = house(Limits::default());
    let client = house.client(1, "new:alice");
    let relay = client.relay();
    let there = UdpSocket::bind("127.0.0.1:0").unwrap();
    there.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = there.local_addr().unwrap();
    let line: Arc<dyn Transport> = house.line.clone();
    let mut buffer = [0; 100];

    let mut send = Message::new();
    send.build(&[
        Box::new(TransactionId::new()),
        Box::new(MessageType::new(METHOD_SEND, CLASS_INDICATION)),
        peer(address),
        Box::new(crate::proto::data::Data(b"hello".to_vec())),
    ])
    .unwrap();
    // Without a permission nothing goes out.
    assert!(house.server.handle(&send.raw, client.address, &line).is_err());
    assert_eq!(code(&client.ask(METHOD_CREATE_PERMISSION, vec![peer(address)])), 0);
    house.server.handle(&send.raw, client.address, &line).unwrap();
    let (n, from) = there.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..n], from), (&b"hello"[..], relay));

    there.send_to(b"and back", relay).unwrap();
    let indication = arrived(&house).await;
    let mut m = Message { raw: indication, ..Default::default() };
    m.decode().unwrap();
    assert_eq!(m.typ, MessageType::new(METHOD_DATA, CLASS_INDICATION));
    assert_eq!(m.get(ATTR_DATA).unwrap(), b"and back");

    let bound =
        client.ask(METHOD_CHANNEL_BIND, vec![Box::new(ChannelNumber(0x4000)), peer(address)]);
    assert_eq!(code(&bound), 0);
    house.server.handle(b"\x40\x00\x00\x03abc\x00", client.address, &line).unwrap();
    let (n, _) = there.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"abc");
    there.send_to(b"12345", relay).unwrap();
    assert_eq!(arrived(&house).await, b"\x40\x00\x00\x0512345");

    let infos = house.server.get_allocations_info();
    assert_eq!(infos.len(), 1);
    assert_eq!((infos[0].bytes_to_peers, infos[0].bytes_from_peers), (8, 13));
    assert_eq!(infos[0].user, "alice");
}

async fn arrived(house: &House) -> Vec<u8> {
    loop {
        if let Some(packet) = house.line.sent.lock().pop() {
            return packet;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_denied_peer_is_forbidden_and_nothing_reaches_it() {
    let house = house(Limits::default());
    let client = house.client(1, "new:alice");
    let relay = client.relay();
    let denied: SocketAddr = "127.0.0.2:5000".parse().unwrap();
    house.rules.denied.lock().insert(denied.ip());
    assert_eq!(code(&client.ask(METHOD_CREATE_PERMISSION, vec![peer(denied)])), 403);
    // One of several: none of them.
    let allowed: SocketAddr = "127.0.0.3:5000".parse().unwrap();
    let both = client.ask(METHOD_CREATE_PERMISSION, vec![peer(allowed), peer(denied)]);
    assert_eq!(code(&both), 403);
    assert!(house.server.get_allocations_info()[0].peers.is_empty());
    let bind = vec![Box::new(ChannelNumber(0x4000)) as Box<dyn Setter>, peer(denied)];
    assert_eq!(code(&client.ask(METHOD_CHANNEL_BIND, bind)), 403);
    assert_eq!(house.count("denied_peers"), 3);

    // An address that is denied after it was permitted: each packet is checked, out and in.
    let there = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = there.local_addr().unwrap();
    let bind = vec![Box::new(ChannelNumber(0x4000)) as Box<dyn Setter>, peer(address)];
    assert_eq!(code(&client.ask(METHOD_CHANNEL_BIND, bind)), 0);
    house.rules.denied.lock().insert(address.ip());
    let line: Arc<dyn Transport> = house.line.clone();
    assert!(house.server.handle(b"\x40\x00\x00\x01a", client.address, &line).is_err());
    there.send_to(b"in", relay).unwrap();
    while house.count("denied_packets") < 2 {
        tokio::task::yield_now().await;
    }
    assert!(house.line.sent.lock().is_empty());
}

#[tokio::test]
async fn two_clients_reach_each_other_through_their_relays_and_no_other_port_there() {
    let house = house(Limits::default());
    // This machine is denied, as in a house; relays are on it all the same.
    house.rules.denied.lock().insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (alice, bob) = (house.client(1, "new:alice"), house.client(2, "new:bob"));
    let (first, second) = (alice.relay(), bob.relay());
    let bind = |to| vec![Box::new(ChannelNumber(0x4000)) as Box<dyn Setter>, peer(to)];
    assert_eq!(code(&alice.ask(METHOD_CHANNEL_BIND, bind(second))), 0);
    assert_eq!(code(&bob.ask(METHOD_CHANNEL_BIND, bind(first))), 0);
    let line: Arc<dyn Transport> = house.line.clone();
    house.server.handle(b"\x40\x00\x00\x02hi", alice.address, &line).unwrap();
    assert_eq!(arrived(&house).await, b"\x40\x00\x00\x02hi");

    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let bind = vec![Box::new(ChannelNumber(0x4001)) as Box<dyn Setter>, peer(address)];
    assert_eq!(code(&alice.ask(METHOD_CHANNEL_BIND, bind)), 0, "the address is that of a relay");
    assert!(house.server.handle(b"\x40\x01\x00\x02hi", alice.address, &line).is_err());
    other.send_to(b"in", first).unwrap();
    while house.count("denied_packets") < 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_allocation_is_its_users_alone_and_once() {
    let house = house(Limits::default());
    let alice = house.client(1, "new:alice");
    let packet = alice.packet(METHOD_ALLOCATE, vec![udp()], true);
    let first = house.exchange(&packet.raw, alice.address).unwrap();
    // A retransmission is answered as the first time; another request is a mismatch.
    let again = house.exchange(&packet.raw, alice.address).unwrap();
    assert_eq!(relay_of(&first), relay_of(&again));
    assert_eq!(code(&alice.allocate()), 437);

    let mallory = house.client(1, "new:mallory");
    let address: SocketAddr = "127.0.0.1:5000".parse().unwrap();
    assert_eq!(code(&mallory.ask(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::ZERO))])), 441);
    assert_eq!(code(&mallory.ask(METHOD_CREATE_PERMISSION, vec![peer(address)])), 441);
    let bind = vec![Box::new(ChannelNumber(0x4000)) as Box<dyn Setter>, peer(address)];
    assert_eq!(code(&mallory.ask(METHOD_CHANNEL_BIND, bind)), 441);
    assert_eq!(house.count("refused_foreign"), 3);

    assert_eq!(code(&alice.ask(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::ZERO))])), 0);
    assert_eq!(code(&alice.ask(METHOD_REFRESH, vec![])), 437);
    assert_eq!(house.server.allocations(), 0);
}

#[tokio::test]
async fn quotas_hold_and_what_ends_makes_room() {
    let limits = Limits {
        allocations: 3,
        user_allocations: 2,
        permissions: 2,
        channels: 1,
        lifetime: Duration::from_secs(700),
        ..Limits::default()
    };
    let house = house(limits);
    let first = house.client(1, "new:alice");
    first.relay();
    house.client(2, "new:alice").relay();
    assert_eq!(code(&house.client(3, "new:alice").allocate()), 486);
    house.client(4, "new:bob").relay();
    assert_eq!(code(&house.client(5, "new:carol").allocate()), 508);

    let ask =
        |n: u8| first.ask(METHOD_CREATE_PERMISSION, vec![peer(([198, 51, 100, n], 1).into())]);
    assert_eq!([1, 2, 3].map(|n| code(&ask(n))), [0, 0, 508]);
    let bind = |number, n: u8| {
        let peer = peer(([198, 51, 100, n], 1).into());
        code(&first.ask(METHOD_CHANNEL_BIND, vec![Box::new(ChannelNumber(number)), peer]))
    };
    assert_eq!([bind(0x4000, 1), bind(0x4001, 2), bind(0x4000, 2)], [0, 508, 400]);
    assert_eq!(bind(0x3fff, 2), 400);

    let long = first.ask(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::from_secs(90_000)))]);
    let mut lifetime = Lifetime::default();
    lifetime.get_from(&long).unwrap();
    assert_eq!(lifetime.0.as_secs(), 700);

    assert_eq!(house.server.delete_allocations_by_user("alice"), 2);
    house.client(3, "new:alice").relay();
    let id = house.server.get_allocations_info()[0].id;
    assert!(house.server.delete_allocation(id) && !house.server.delete_allocation(id));
}

#[tokio::test]
async fn what_the_server_does_not_have_is_refused_by_name() {
    let house = house(Limits::default());
    let client = house.client(1, "new:alice");
    let ask = |attributes| code(&client.ask(METHOD_ALLOCATE, attributes));
    assert_eq!(ask(vec![]), 400);
    assert_eq!(ask(vec![Box::new(RequestedTransport { protocol: PROTO_TCP })]), 442);
    assert_eq!(ask(vec![udp(), Box::new(REQUESTED_FAMILY_IPV6)]), 440);
    assert_eq!(ask(vec![udp(), Box::new(RequestedAddressFamily(9))]), 440);
    let fragment = RawAttribute { typ: ATTR_DONT_FRAGMENT, length: 0, value: vec![] };
    assert_eq!(ask(vec![udp(), Box::new(fragment)]), 420);
    let token = || Box::new(ReservationToken(vec![7; 8]));
    assert_eq!(ask(vec![udp(), token()]), 508);
    assert_eq!(ask(vec![udp(), token(), Box::new(EvenPort { reserve_port: true })]), 400);
    let address: SocketAddr = "[2001:db8::1]:5000".parse().unwrap();
    client.relay();
    assert_eq!(code(&client.ask(METHOD_CREATE_PERMISSION, vec![peer(address)])), 443);
    assert_eq!(code(&client.ask(METHOD_CREATE_PERMISSION, vec![])), 400);
}

#[tokio::test]
async fn a_reserved_port_is_for_the_user_who_reserved_it() {
    let house = house(Limits::default());
    let alice = house.client(1, "new:alice");
    let answer = alice.ask(METHOD_ALLOCATE, vec![udp(), Box::new(EvenPort { reserve_port: true })]);
    let mut token = ReservationToken::default();
    token.get_from(&answer).unwrap();
    let token = || Box::new(ReservationToken(token.0.clone()));
    assert_eq!(code(&house.client(2, "new:bob").ask(METHOD_ALLOCATE, vec![udp(), token()])), 508);
    let second = house.client(3, "new:alice").ask(METHOD_ALLOCATE, vec![udp(), token()]);
    assert_eq!(relay_of(&second).port(), relay_of(&answer).port() + 1);
}

#[tokio::test]
async fn bytes_beyond_the_bandwidth_are_dropped() {
    let house = house(Limits { bandwidth: 1000, ..Limits::default() });
    let client = house.client(1, "new:alice");
    client.relay();
    let there = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bind =
        vec![Box::new(ChannelNumber(0x4000)) as Box<dyn Setter>, peer(there.local_addr().unwrap())];
    assert_eq!(code(&client.ask(METHOD_CHANNEL_BIND, bind)), 0);
    let mut packet = b"\x40\x00\x03\x84".to_vec();
    packet.extend([7; 900]);
    let line: Arc<dyn Transport> = house.line.clone();
    assert!(house.server.handle(&packet, client.address, &line).is_ok());
    assert!(house.server.handle(&packet, client.address, &line).is_err());
    assert_eq!(house.count("throttled_packets"), 1);
    assert_eq!(house.counters.traffic[0].bytes_to_peers.load(Ordering::Relaxed), 900);
}

#[test]
fn strangers_leave_nothing_behind() {
    let house = house(Limits::default());
    let client = house.client(1, "new:alice");
    let packet = client.packet(METHOD_ALLOCATE, vec![udp()], false).raw;
    for port in 1..=10_000 {
        house.exchange(&packet, SocketAddr::from(([192, 0, 2, 9], port))).unwrap();
    }
    assert_eq!(house.server.allocations(), 0);
    // A stream's padding and a stranger's data are nothing either.
    assert!(house.exchange(b"\x40\x00\x00\x01a", client.address).is_none());
}

proptest::proptest! {
    #[test]
    fn no_packet_makes_it_panic(packet: Vec<u8>) {
        house(Limits::default()).exchange(&packet, "192.0.2.7:1".parse().unwrap());
    }
}
