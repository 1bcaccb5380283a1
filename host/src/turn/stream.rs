//! Clients over TCP and TLS.
//!
//! Owns their connections: how many there may be, how long one may be there for nothing, and how much may wait for a
//! slow reader before it is dropped, as UDP would have dropped it.

use super::PAUSE;
use super::framing::{Frame, frame};
use super::strangers::network;
use super::tls::Certificate;
use crate::config::Turn;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use webrtc_turn::limits::TransportKind;
use webrtc_turn::server::{Server, Transport};

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be silent that has no allocation.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what is sent to it.
const STALLED: Duration = Duration::from_secs(30);
/// Bytes that are read, and written, at a time.
const PIECE: usize = 16 << 10;

/// Bytes of answers that may wait beyond what peers send: over a stream, a client asks only once.
const FOR_ANSWERS: usize = 4 << 10;

/// Whether a packet answers a request: a message of one of the two classes of responses.
fn is_answer(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0b1100_0001 == 1)
}

/// How many connections there are.
pub(super) struct Connections {
    most: usize,
    most_of_network: usize,
    queue: usize,
    count: AtomicUsize,
    networks: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them, counted until it is dropped.
struct Place {
    connections: Arc<Connections>,
    network: IpAddr,
}

impl Connections {
    pub(super) fn new(turn: &Turn) -> Self {
        Self {
            most: turn.connections,
            most_of_network: turn.network_connections,
            queue: turn.queue,
            count: AtomicUsize::new(0),
            networks: Mutex::default(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let network = network(client);
        let mut networks = self.networks.lock();
        if self.count.load(Ordering::Relaxed) >= self.most {
            return None;
        }
        let of_network = networks.entry(network).or_default();
        if *of_network >= self.most_of_network {
            return None;
        }
        *of_network += 1;
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(Place { connections: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut networks = self.connections.networks.lock();
        self.connections.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = networks.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

/// The way back to one client.
struct Connection {
    address: SocketAddr,
    kind: TransportKind,
    packets: mpsc::UnboundedSender<Vec<u8>>,
    /// Bytes that wait to be written.
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

impl Transport for Connection {
    fn send_to(&self, packet: &[u8], _: SocketAddr) -> io::Result<()> {
        let most = self.queue + if is_answer(packet) { FOR_ANSWERS } else { 0 };
        let waiting = self.waiting.fetch_add(packet.len(), Ordering::Relaxed);
        if waiting.saturating_add(packet.len()) > most {
            self.waiting.fetch_sub(packet.len(), Ordering::Relaxed);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.packets.send(packet.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn kind(&self) -> TransportKind {
        self.kind
    }
}

/// Accepts connections until the end.
pub(super) async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    certificate: Option<Certificate>,
    connections: Arc<Connections>,
    end: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("the relay could not accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = connections.take(client.ip()) else {
            tracing::debug!("{client} has too many connections to the relay, or all have");
            continue;
        };
        let (server, certificate, end) = (server.clone(), certificate.clone(), end.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = connection(server, stream, client, certificate, &place) => ended,
                () = end.cancelled() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!("a connection of {client} to the relay ended: {error}");
            }
        });
    }
}

async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    client: SocketAddr,
    certificate: Option<Certificate>,
    place: &Place,
) -> io::Result<()> {
    _ = stream.set_nodelay(true);
    let address = stream.local_addr()?;
    let (packets, waits) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let kind = if certificate.is_some() { TransportKind::Tls } else { TransportKind::Tcp };
    let queue = place.connections.queue;
    let transport: Arc<dyn Transport> =
        Arc::new(Connection { address, kind, packets, waiting: waiting.clone(), queue });
    // Whatever ends it, and also when this is dropped: the allocation goes with the connection.
    let _departure = Departure { server: server.clone(), client, transport: transport.clone() };
    match certificate {
        None => {
            let (from, to) = stream.into_split();
            both(server, from, to, client, transport, waits, waiting).await
        }
        Some(certificate) => {
            let accept = certificate.acceptor().accept(stream);
            let stream = tokio::time::timeout(HANDSHAKE, accept).await??;
            let (from, to) = tokio::io::split(stream);
            both(server, from, to, client, transport, waits, waiting).await
        }
    }
}

struct Departure {
    server: Arc<Server>,
    client: SocketAddr,
    transport: Arc<dyn Transport>,
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.server.disconnected(self.client, &*self.transport);
    }
}

async fn both(
    server: Arc<Server>,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    client: SocketAddr,
    transport: Arc<dyn Transport>,
    waits: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
) -> io::Result<()> {
    tokio::select! {
        ended = read(&server, from, client, &transport) => ended,
        ended = write(to, waits, waiting) => ended,
    }
}

async fn read(
    server: &Server,
    mut from: impl AsyncRead + Unpin,
    client: SocketAddr,
    transport: &Arc<dyn Transport>,
) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(PIECE);
    loop {
        buffer.reserve(PIECE);
        match tokio::time::timeout(IDLE, from.read_buf(&mut buffer)).await {
            Ok(read) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            // A client with an allocation refreshes it, and is otherwise silent as long as it likes.
            Err(_) if server.has_allocation(client, &**transport) => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        let mut taken = 0;
        loop {
            let rest = buffer.get(taken..).unwrap_or_default();
            match frame(rest) {
                Frame::Packet { length, padded } => {
                    let packet = rest.get(..length).unwrap_or_default();
                    if let Err(error) = server.handle(packet, client, transport) {
                        tracing::trace!("a packet of {client} led to nothing: {error}");
                    }
                    taken += padded;
                }
                Frame::Incomplete => break,
                Frame::Foreign => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        buffer.drain(..taken);
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut waits: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE);
    while let Some(packet) = waits.recv().await {
        piece.clear();
        piece.extend_from_slice(&packet);
        while piece.len() < PIECE
            && let Ok(packet) = waits.try_recv()
        {
            piece.extend_from_slice(&packet);
        }
        let written = async {
            to.write_all(&piece).await?;
            to.flush().await
        };
        tokio::time::timeout(STALLED, written).await??;
        waiting.fetch_sub(piece.len(), Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_network_and_in_all() {
        let turn = Turn { connections: 3, network_connections: 2, ..Turn::default() };
        let connections = Arc::new(Connections::new(&turn));
        let take = |text: &str| connections.take(text.parse().unwrap());
        let (first, second) = (take("192.0.2.1"), take("192.0.2.2"));
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.3").is_none());
        let other = take("198.51.100.1");
        assert!(other.is_some() && take("198.51.101.1").is_none());
        drop(first);
        assert!(take("192.0.2.3").is_some());
        drop((second, other));
        assert_eq!(connections.count(), 0);
        assert!(connections.networks.lock().is_empty());
    }

    #[test]
    fn what_a_slow_client_does_not_take_is_dropped() {
        let (packets, mut waits) = mpsc::unbounded_channel();
        let client = SocketAddr::from(([192, 0, 2, 1], 1));
        let connection = Connection {
            address: client,
            kind: TransportKind::Tcp,
            packets,
            waiting: Arc::default(),
            queue: 10,
        };
        assert!(connection.send_to(&[0; 6], client).is_ok());
        assert!(connection.send_to(&[0; 6], client).is_err());
        assert!(connection.send_to(&[0; 4], client).is_ok());
        assert_eq!(waits.try_recv().unwrap().len() + waits.try_recv().unwrap().len(), 10);
        assert!(waits.try_recv().is_err());
        // An answer has a place all the same, as long as the client takes some of them.
        let answer = [1; 20];
        assert!((0..FOR_ANSWERS / 20).all(|_| connection.send_to(&answer, client).is_ok()));
        assert!(connection.send_to(&answer, client).is_err());
        assert!(connection.send_to(&[0; 1], client).is_err());
    }

    #[test]
    fn answers_are_told_from_what_peers_send() {
        for (packet, answer) in [
            // Success and error of Allocate, and of CreatePermission.
            ([0x01, 0x03], true),
            ([0x01, 0x13], true),
            ([0x01, 0x18], true),
            // A Data indication, and ChannelData.
            ([0x00, 0x17], false),
            ([0x40, 0x00], false),
            ([0x41, 0x01], false),
        ] {
            assert_eq!(is_answer(&packet), answer, "{packet:?}");
        }
    }
}
