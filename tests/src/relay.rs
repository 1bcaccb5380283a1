//! A client of the house's relay that can do what no honest client does.

use crate::PATIENCE;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use webrtc_turn::auth::{generate_auth_key, long_term_credentials};
use webrtc_turn::proto::PROTO_UDP;
use webrtc_turn::proto::channum::ChannelNumber;
use webrtc_turn::proto::data::Data;
use webrtc_turn::proto::lifetime::Lifetime;
use webrtc_turn::proto::peeraddr::PeerAddress;
use webrtc_turn::proto::relayaddr::RelayedAddress;
use webrtc_turn::proto::reqfamily::{REQUESTED_FAMILY_IPV4, REQUESTED_FAMILY_IPV6};
use webrtc_turn::proto::reqtrans::RequestedTransport;
use webrtc_turn::stun::agent::TransactionId;
use webrtc_turn::stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME};
use webrtc_turn::stun::error_code::ErrorCodeAttribute;
use webrtc_turn::stun::integrity::MessageIntegrity;
use webrtc_turn::stun::message::{
    CLASS_INDICATION, CLASS_REQUEST, Getter, METHOD_ALLOCATE, METHOD_CHANNEL_BIND,
    METHOD_CREATE_PERMISSION, METHOD_REFRESH, METHOD_SEND, Message, MessageType, Method, Setter,
};
use webrtc_turn::stun::textattrs::{Nonce, Realm, TextAttribute, Username};

/// How long one look for a packet takes.
const SOON: Duration = Duration::from_millis(500);

type Attributes = Vec<Box<dyn Setter>>;

/// A username that is good for an hour, and its password.
#[must_use]
pub fn credential(secret: &str, user: &str) -> (String, String) {
    expiring(secret, user, 3600)
}

/// The same, for so many seconds from now.
#[must_use]
pub fn expiring(secret: &str, user: &str, seconds: i64) -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let username = format!("{}:{user}", now.checked_add_signed(seconds).unwrap());
    let password = long_term_credentials(&username, secret);
    (username, password)
}

/// How the client is connected.
enum Line {
    Udp(UdpSocket),
    /// With what has come and was no whole packet yet.
    Tcp(TcpStream, RefCell<Vec<u8>>),
}

impl Line {
    fn send(&self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(packet).map(|_| ()),
            Self::Tcp(stream, _) => {
                let mut packet = packet.to_vec();
                packet.resize(packet.len().next_multiple_of(4), 0);
                (&mut &*stream).write_all(&packet)
            }
        }
    }

    /// The next packet; an error when none comes soon.
    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut piece = [0; 65_536];
        match self {
            Self::Udp(socket) => socket.recv(&mut piece).map(|length| piece[..length].to_vec()),
            Self::Tcp(stream, buffer) => loop {
                let mut buffer = buffer.borrow_mut();
                if let Some(&[kind, _, high, low]) = buffer.first_chunk::<4>() {
                    let head = if kind < 0x40 { 20 } else { 4 };
                    let length = head + usize::from(u16::from_be_bytes([high, low]));
                    let padded = length.next_multiple_of(4);
                    if buffer.len() >= padded {
                        let rest = buffer.split_off(padded);
                        let mut packet = std::mem::replace(&mut *buffer, rest);
                        packet.truncate(length);
                        return Ok(packet);
                    }
                }
                match (&mut &*stream).read(&mut piece)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    length => buffer.extend_from_slice(&piece[..length]),
                }
            },
        }
    }
}

/// The client.
pub struct Client {
    line: Line,
    username: String,
    password: String,
    realm: String,
    nonce: String,
}

impl Client {
    /// One that has been challenged and knows the realm and a nonce.
    #[must_use]
    pub fn new(relay: SocketAddr, credential: (String, String)) -> Self {
        let local = if relay.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let mut passed = Vec::new();
        loop {
            let socket = UdpSocket::bind(local).unwrap();
            socket.connect(relay).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            let line = Line::Udp(socket.try_clone().unwrap());
            if let Some(client) = Self::challenged(line, credential.clone()) {
                return client;
            }
            // The port was another client's, whose allocation outlives it. Kept, so that it is not given again.
            passed.push(socket);
        }
    }

    /// The same over TCP.
    #[must_use]
    pub fn over_tcp(relay: SocketAddr, credential: (String, String)) -> Self {
        let stream = TcpStream::connect(relay).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self::challenged(Line::Tcp(stream, RefCell::default()), credential).unwrap()
    }

    /// None: there is an allocation already (437).
    fn challenged(line: Line, (username, password): (String, String)) -> Option<Self> {
        let (realm, nonce) = Default::default();
        let mut client = Self { line, username, password, realm, nonce };
        let challenge = client.exchange(&challenge());
        if code(&challenge) == 437 {
            return None;
        }
        assert_eq!(code(&challenge), 401);
        let text = |attribute| TextAttribute::get_from_as(&challenge, attribute).unwrap().text;
        client.realm = text(ATTR_REALM);
        client.nonce = text(ATTR_NONCE);
        Some(client)
    }

    /// It believes the relay to be of another realm.
    #[must_use]
    pub fn in_realm(self, realm: &str) -> Self {
        Self { realm: realm.to_owned(), ..self }
    }

    /// The same client, from the same address, with another credential.
    #[must_use]
    pub fn with(self, (username, password): (String, String)) -> Self {
        Self { username, password, ..self }
    }

    /// The answer to a packet; over UDP it is sent again while none comes.
    fn exchange(&self, packet: &Message) -> Message {
        let began = std::time::Instant::now();
        let mut sent = false;
        while began.elapsed() < PATIENCE {
            if !sent || matches!(self.line, Line::Udp(_)) {
                self.line.send(&packet.raw).unwrap();
                sent = true;
            }
            // What comes meanwhile and is no answer to this is read past.
            while let Ok(raw) = self.line.receive() {
                let mut answer = Message { raw, ..Default::default() };
                if answer.decode().is_ok() && answer.transaction_id == packet.transaction_id {
                    return answer;
                }
            }
        }
        panic!("no answer of the relay")
    }

    fn ask(&self, method: Method, attributes: Attributes) -> Message {
        let mut all = head(method, CLASS_REQUEST);
        all.extend(attributes);
        all.push(Box::new(Username::new(ATTR_USERNAME, self.username.clone())));
        all.push(Box::new(Realm::new(ATTR_REALM, self.realm.clone())));
        all.push(Box::new(Nonce::new(ATTR_NONCE, self.nonce.clone())));
        let key = generate_auth_key(&self.username, &self.realm, &self.password);
        all.push(Box::new(MessageIntegrity(key.to_vec())));
        self.exchange(&build(&all))
    }

    /// Asks for an allocation: its relay, or the code of the refusal.
    ///
    /// # Errors
    /// The code.
    pub fn allocate(&self, ipv4: bool) -> Result<SocketAddr, u16> {
        let family = if ipv4 { REQUESTED_FAMILY_IPV4 } else { REQUESTED_FAMILY_IPV6 };
        let answer = self.ask(
            METHOD_ALLOCATE,
            vec![Box::new(RequestedTransport { protocol: PROTO_UDP }), Box::new(family)],
        );
        if code(&answer) != 0 {
            return Err(code(&answer));
        }
        let mut relay = RelayedAddress::default();
        relay.get_from(&answer).unwrap();
        Ok(SocketAddr::new(relay.ip, relay.port))
    }

    /// Asks for a permission; the code, 0 for yes.
    #[must_use]
    pub fn permit(&self, peer: SocketAddr) -> u16 {
        code(&self.ask(METHOD_CREATE_PERMISSION, vec![peer_address(peer)]))
    }

    /// Asks for a channel; the code, 0 for yes.
    #[must_use]
    pub fn bind(&self, number: u16, peer: SocketAddr) -> u16 {
        let number = Box::new(ChannelNumber(number));
        code(&self.ask(METHOD_CHANNEL_BIND, vec![number, peer_address(peer)]))
    }

    /// Asks to go on; the code, 0 for yes.
    #[must_use]
    pub fn refresh(&self) -> u16 {
        code(&self.ask(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::from_secs(600)))]))
    }

    /// Sends data to a peer, permitted or not.
    pub fn send(&self, peer: SocketAddr, data: &[u8]) {
        let mut all = head(METHOD_SEND, CLASS_INDICATION);
        all.push(peer_address(peer));
        all.push(Box::new(Data(data.to_vec())));
        self.line.send(&build(&all).raw).unwrap();
    }

    /// The next packet that is no answer.
    #[must_use]
    pub fn receive(&self) -> Vec<u8> {
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            if let Ok(packet) = self.line.receive() {
                return packet;
            }
        }
        panic!("nothing comes from the relay")
    }

    /// The socket of a client over UDP, for whoever sends and receives without it for a while.
    ///
    /// # Panics
    /// It is connected otherwise.
    #[must_use]
    pub fn socket(&self) -> UdpSocket {
        match &self.line {
            Line::Udp(socket) => socket.try_clone().unwrap(),
            Line::Tcp(..) => panic!("not over UDP"),
        }
    }

    /// Gives the allocation back: else it lasts for ten minutes, and the next client of this port finds it there.
    pub fn end(self) {
        if let Line::Udp(socket) = &self.line {
            // Whoever had the socket meanwhile may have made it one that does not wait.
            socket.set_nonblocking(false).unwrap();
        }
        _ = self.ask(METHOD_REFRESH, vec![Box::new(Lifetime(Duration::ZERO))]);
    }

    /// Sends data through a channel, bound or not.
    pub fn send_by(&self, number: u16, data: &[u8]) {
        let mut packet = number.to_be_bytes().to_vec();
        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
        self.line.send(&packet).unwrap();
    }
}

/// What anybody can send.
#[must_use]
pub fn challenge() -> Message {
    let mut all = head(METHOD_ALLOCATE, CLASS_REQUEST);
    all.push(Box::new(RequestedTransport { protocol: PROTO_UDP }));
    build(&all)
}

fn head(method: Method, class: webrtc_turn::stun::message::MessageClass) -> Attributes {
    vec![Box::new(TransactionId::new()), Box::new(MessageType::new(method, class))]
}

fn build(attributes: &[Box<dyn Setter>]) -> Message {
    let mut m = Message::new();
    m.build(attributes).unwrap();
    m
}

fn peer_address(peer: SocketAddr) -> Box<dyn Setter> {
    Box::new(PeerAddress { ip: peer.ip(), port: peer.port() })
}

fn code(m: &Message) -> u16 {
    let mut code = ErrorCodeAttribute::default();
    code.get_from(m).map_or(0, |()| code.code.0)
}
