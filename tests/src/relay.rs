//! A client of the house's relay that can do what no honest client does.

use crate::PATIENCE;
use std::net::{SocketAddr, UdpSocket};
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

/// The client.
pub struct Client {
    socket: UdpSocket,
    username: String,
    password: String,
    realm: String,
    nonce: String,
}

impl Client {
    /// One that has been challenged and knows the realm and a nonce.
    #[must_use]
    pub fn new(relay: SocketAddr, (username, password): (String, String)) -> Self {
        let local = if relay.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(local).unwrap();
        socket.connect(relay).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let (realm, nonce) = Default::default();
        let mut client = Self { socket, username, password, realm, nonce };
        let challenge = client.exchange(&challenge());
        assert_eq!(code(&challenge), 401);
        let text = |attribute| TextAttribute::get_from_as(&challenge, attribute).unwrap().text;
        client.realm = text(ATTR_REALM);
        client.nonce = text(ATTR_NONCE);
        client
    }

    /// The answer to a packet; it is sent again while none comes, as UDP wants it.
    fn exchange(&self, packet: &Message) -> Message {
        let mut buffer = [0; 2048];
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            self.socket.send(&packet.raw).unwrap();
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let mut answer = Message { raw: buffer[..length].to_vec(), ..Default::default() };
            if answer.decode().is_ok() && answer.transaction_id == packet.transaction_id {
                return answer;
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
        self.socket.send(&build(&all).raw).unwrap();
    }

    /// The next packet that is no answer.
    #[must_use]
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                return buffer[..length].to_vec();
            }
        }
        panic!("nothing comes from the relay")
    }

    /// Sends data through a channel, bound or not.
    pub fn send_by(&self, number: u16, data: &[u8]) {
        let mut packet = number.to_be_bytes().to_vec();
        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
        self.socket.send(&packet).unwrap();
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
