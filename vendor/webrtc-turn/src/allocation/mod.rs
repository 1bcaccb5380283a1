//! One client's relay.

pub mod allocation_manager;
pub mod five_tuple;
pub(crate) mod permission;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use allocation_manager::*;
use five_tuple::*;
use parking_lot::Mutex;
use permission::*;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::error::*;
use crate::limits::*;
use crate::proto::chandata::*;
use crate::proto::channum::*;
use crate::proto::data::*;
use crate::proto::peeraddr::*;
use crate::relay::RelaySocket;
use crate::server::Transport;
use crate::stun::agent::*;
use crate::stun::message::*;

/// Longest packet: what UDP can carry.
const LONGEST: usize = 65_536;
/// Packets from peers that one allocation handles before others have their turn.
const BURST: usize = 32;

thread_local! {
    /// One buffer for each thread, and none for each allocation: nothing is kept in it across an await. In
    /// front is room for the header of a ChannelData message.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHANNEL_DATA_HEADER_SIZE + LONGEST + PADDING]);
}

/// Information about an [`Allocation`].
#[derive(Debug, Clone)]
pub struct AllocationInfo {
    /// A number that no other allocation of this server has.
    pub id: u64,
    /// [`FiveTuple`] of this [`Allocation`].
    pub five_tuple: FiveTuple,
    /// How the client is connected.
    pub transport: TransportKind,
    /// Whose it is.
    pub user: String,
    /// Relay address of this [`Allocation`].
    pub relay_addr: SocketAddr,
    /// When it was made.
    pub created: SystemTime,
    /// How long it still lives without a refresh.
    pub remaining: Duration,
    /// Addresses with a permission.
    pub peers: Vec<IpAddr>,
    /// Bytes that were relayed.
    pub bytes_to_peers: u64,
    /// Bytes that were relayed.
    pub bytes_from_peers: u64,
}

/// Who has allocations, and how much all of them relay.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) allocations: AtomicUsize,
    pub(crate) bucket: Bucket,
}

/// `Allocation` is tied to a FiveTuple and relays traffic.
pub struct Allocation {
    pub(crate) id: u64,
    pub(crate) five_tuple: FiveTuple,
    pub(crate) user: Arc<User>,
    /// Of the request that made it: the same once more is a retransmission.
    pub(crate) transaction_id: TransactionId,
    pub(crate) relay_addr: SocketAddr,
    pub(crate) local_addr: SocketAddr,
    pub(crate) closed: CancellationToken,
    turn_socket: Arc<dyn Transport>,
    relay_socket: UdpSocket,
    shared: Arc<Shared>,
    peers: Mutex<Peers>,
    deadline: Mutex<Instant>,
    changed: Notify,
    bucket: Bucket,
    created: SystemTime,
    bytes_to_peers: AtomicU64,
    bytes_from_peers: AtomicU64,
}

impl Allocation {
    pub(crate) fn new(
        id: u64,
        turn_socket: Arc<dyn Transport>,
        relay: RelaySocket,
        five_tuple: FiveTuple,
        user: Arc<User>,
        transaction_id: TransactionId,
        lifetime: Duration,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        Ok(Self {
            id,
            five_tuple,
            user,
            transaction_id,
            relay_addr: relay.external,
            local_addr: relay.local,
            closed: CancellationToken::new(),
            turn_socket,
            relay_socket: UdpSocket::from_std(relay.socket)?,
            peers: Mutex::default(),
            deadline: Mutex::new(Instant::now() + lifetime),
            changed: Notify::new(),
            bucket: Bucket::new(shared.limits.bandwidth),
            shared,
            created: SystemTime::now(),
            bytes_to_peers: AtomicU64::new(0),
            bytes_from_peers: AtomicU64::new(0),
        })
    }

    pub(crate) fn info(&self) -> AllocationInfo {
        let now = Instant::now();
        AllocationInfo {
            id: self.id,
            five_tuple: self.five_tuple,
            transport: self.turn_socket.kind(),
            user: self.user.name.clone(),
            relay_addr: self.relay_addr,
            created: self.created,
            remaining: self.deadline.lock().saturating_duration_since(now),
            peers: self.peers.lock().list(now),
            bytes_to_peers: self.bytes_to_peers.load(Ordering::Relaxed),
            bytes_from_peers: self.bytes_from_peers.load(Ordering::Relaxed),
        }
    }

    /// Updates the allocation's lifetime.
    pub(crate) fn refresh(&self, lifetime: Duration) {
        *self.deadline.lock() = Instant::now() + lifetime;
        self.changed.notify_one();
    }

    /// Gives permissions for these peers, or for none of them.
    ///
    /// # Errors
    /// One of them is denied, or they are too many.
    pub(crate) fn add_permissions(&self, peers: &[SocketAddr]) -> Result<()> {
        let mut permitted = Vec::with_capacity(peers.len());
        for peer in peers {
            permitted.push((peer.ip(), self.shared.admit(*peer)?));
        }
        self.peers.lock().permit(&permitted, self.shared.limits.permissions, Instant::now())
    }

    /// Binds a channel, and gives the permission that goes with it.
    ///
    /// # Errors
    /// The peer is denied, channel or peer are bound otherwise, or they are too many.
    pub(crate) fn add_channel_bind(&self, number: ChannelNumber, peer: SocketAddr) -> Result<()> {
        let reach = self.shared.admit(peer)?;
        let limits = &self.shared.limits;
        let most = (limits.channels, limits.permissions);
        self.peers.lock().bind(number, peer, reach, most, Instant::now())
    }

    /// Sends a client's data through a channel.
    pub(crate) fn send_by_channel(&self, number: ChannelNumber, data: &[u8]) -> Result<()> {
        let now = Instant::now();
        let (peer, reach) = {
            let peers = self.peers.lock();
            let peer = peers.peer(number, now);
            (peer, peer.and_then(|peer| peers.reach(peer.ip(), now)))
        };
        let Some(peer) = peer else {
            count(&self.shared.counters.unpermitted_packets);
            return Err(Error::ErrNoSuchChannelBind);
        };
        self.send(peer, reach, data)
    }

    /// Sends a client's data to a peer.
    pub(crate) fn send_to(&self, peer: SocketAddr, data: &[u8]) -> Result<()> {
        let reach = self.peers.lock().reach(peer.ip(), Instant::now());
        self.send(peer, reach, data)
    }

    fn send(&self, peer: SocketAddr, reach: Option<Reach>, data: &[u8]) -> Result<()> {
        let counters = &self.shared.counters;
        let Some(reach) = reach else {
            count(&counters.unpermitted_packets);
            return Err(Error::ErrNoPermission);
        };
        let to = self.shared.way_to(peer, reach)?;
        if !self.may_relay(data.len()) {
            return Err(Error::ErrQuota);
        }
        // Not by tokio: its `try_send_to` would wait for the first event of a fresh socket. The socket does
        // not block, and what it does not take is lost, as UDP is.
        if let Err(error) = SockRef::from(&self.relay_socket).send_to(data, &to.into()) {
            count(&counters.dropped_packets);
            return Err(error.into());
        }
        let traffic = counters.traffic(self.turn_socket.kind());
        let bytes = data.len() as u64;
        count(&traffic.packets_to_peers);
        traffic.bytes_to_peers.fetch_add(bytes, Ordering::Relaxed);
        self.bytes_to_peers.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn may_relay(&self, bytes: usize) -> bool {
        let may = self.bucket.take(bytes)
            && self.user.bucket.take(bytes)
            && self.shared.bucket.take(bytes);
        if !may {
            count(&self.shared.counters.throttled_packets);
        }
        may
    }

    /// Relays what peers send, until the allocation ends.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let deadline = *self.deadline.lock();
            if deadline <= Instant::now() {
                return;
            }
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = self.changed.notified() => {}
                ready = self.relay_socket.readable() => {
                    if let Err(error) = ready {
                        tracing::debug!("a relay socket failed: {error}");
                        return;
                    }
                    BUFFER.with_borrow_mut(|buffer| self.packets_from_peers(buffer));
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    //  https://tools.ietf.org/html/rfc5766#section-10.3
    //  When the server receives a UDP datagram at a currently allocated
    //  relayed transport address, the server looks up the allocation
    //  associated with the relayed transport address.  The server then
    //  checks to see whether the set of permissions for the allocation allow
    //  the relaying of the UDP datagram as described in Section 8.
    //
    //  If relaying is permitted, then the server checks if there is a
    //  channel bound to the peer that sent the UDP datagram (see
    //  Section 11).  If a channel is bound, then processing proceeds as
    //  described in Section 11.7.
    //
    //  If relaying is permitted but no channel is bound to the peer, then
    //  the server forms and sends a Data indication.  The Data indication
    //  MUST contain both an XOR-PEER-ADDRESS and a DATA attribute.  The DATA
    //  attribute is set to the value of the 'data octets' field from the
    //  datagram, and the XOR-PEER-ADDRESS attribute is set to the source
    //  transport address of the received UDP datagram.  The Data indication
    //  is then sent on the 5-tuple associated with the allocation.
    fn packets_from_peers(&self, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Some(room) =
                buffer.get_mut(CHANNEL_DATA_HEADER_SIZE..CHANNEL_DATA_HEADER_SIZE + LONGEST)
            else {
                return;
            };
            let (n, from) = match self.relay_socket.try_recv_from(room) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier packet.
                Err(_) => continue,
            };
            if let Err(error) = self.packet_from_peer(buffer, n, from) {
                tracing::trace!("a packet from {from} is not relayed: {error}");
            }
        }
    }

    fn packet_from_peer(&self, buffer: &mut [u8], n: usize, from: SocketAddr) -> Result<()> {
        let counters = &self.shared.counters;
        let (from, is_relay) = self.shared.peer_of(from);
        let now = Instant::now();
        let (reach, number) = {
            let peers = self.peers.lock();
            (peers.reach(from.ip(), now), peers.number(from, now))
        };
        let Some(reach) = reach else {
            count(&counters.unpermitted_packets);
            return Err(Error::ErrNoPermission);
        };
        if !is_relay && (reach == Reach::Relays || !self.shared.policy.passes(from.ip())) {
            count(&counters.denied_packets);
            return Err(Error::ErrDenied);
        }
        if !self.may_relay(n) {
            return Err(Error::ErrQuota);
        }
        let client = self.five_tuple.src_addr;
        let sent = if let Some(number) = number {
            let mut end = CHANNEL_DATA_HEADER_SIZE + n;
            if self.turn_socket.kind() != TransportKind::Udp {
                // In a stream, ChannelData ends at a multiple of four.
                let padded = nearest_padded_value_length(end);
                if let Some(padding) = buffer.get_mut(end..padded) {
                    padding.fill(0);
                }
                end = padded;
            }
            let packet = buffer.get_mut(..end).ok_or(Error::ErrUnexpectedEof)?;
            packet[..2].copy_from_slice(&number.0.to_be_bytes());
            packet[2..4].copy_from_slice(&(n as u16).to_be_bytes());
            self.turn_socket.send_to(packet, client)
        } else {
            let data = buffer
                .get(CHANNEL_DATA_HEADER_SIZE..CHANNEL_DATA_HEADER_SIZE + n)
                .ok_or(Error::ErrUnexpectedEof)?;
            // Header and attributes must fit beside the data in what a message can say of its length.
            if n > LONGEST - 64 {
                count(&counters.dropped_packets);
                return Err(Error::ErrBadChannelDataLength);
            }
            let mut msg = Message::new();
            msg.build(&[
                Box::new(TransactionId::new()),
                Box::new(MessageType::new(METHOD_DATA, CLASS_INDICATION)),
                Box::new(PeerAddress { ip: from.ip(), port: from.port() }),
                Box::new(Data(data.to_vec())),
            ])?;
            self.turn_socket.send_to(&msg.raw, client)
        };
        if let Err(error) = sent {
            count(&counters.dropped_packets);
            return Err(error.into());
        }
        let traffic = counters.traffic(self.turn_socket.kind());
        count(&traffic.packets_from_peers);
        traffic.bytes_from_peers.fetch_add(n as u64, Ordering::Relaxed);
        self.bytes_from_peers.fetch_add(n as u64, Ordering::Relaxed);
        Ok(())
    }
}
