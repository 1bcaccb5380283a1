//! Clients over UDP.

use super::PAUSE;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use webrtc_turn::limits::TransportKind;
use webrtc_turn::server::{Server, Transport};

/// Longest packet.
const LONGEST: usize = 65_536;
/// Packets of one listener before others have their turn.
const BURST: usize = 64;

/// The way back through a listener.
struct Listener {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Transport for Listener {
    fn send_to(&self, packet: &[u8], client: SocketAddr) -> io::Result<()> {
        // The socket does not block: what the system does not take now is lost, as UDP is.
        SockRef::from(&self.socket).send_to(packet, &client.into()).map(|_| ())
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Udp
    }
}

/// Handles packets until the end.
pub(super) async fn serve(
    server: Arc<Server>,
    socket: UdpSocket,
    address: SocketAddr,
    end: CancellationToken,
) {
    let listener = Arc::new(Listener { socket, address });
    let transport: Arc<dyn Transport> = listener.clone();
    let mut buffer = vec![0; LONGEST];
    loop {
        let ready = tokio::select! {
            ready = listener.socket.readable() => ready,
            () = end.cancelled() => return,
        };
        if let Err(error) = ready {
            tracing::warn!("the relay's listener on {address} failed: {error}");
            tokio::time::sleep(PAUSE).await;
        }
        for _ in 0..BURST {
            match listener.socket.try_recv_from(&mut buffer) {
                Ok((length, client)) => {
                    let Some(packet) = buffer.get(..length) else { continue };
                    if let Err(error) = server.handle(packet, client, &transport) {
                        tracing::trace!("a packet of {client} led to nothing: {error}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier answer.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}
