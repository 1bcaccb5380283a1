//! Answers packets.
//!
//! The original owns its sockets and a task for each. Here the embedder has the sockets and hands packets in:
//! nothing waits between a packet and its answer, and one server is shared by all listeners and transports.

mod nonce;
mod request;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use nonce::Nonces;
use request::Request;

use crate::allocation::AllocationInfo;
use crate::allocation::allocation_manager::{Manager, Shared};
use crate::allocation::five_tuple::FiveTuple;
use crate::auth::AuthHandler;
use crate::error::*;
use crate::limits::*;
use crate::proto::{PROTO_TCP, PROTO_UDP};
use crate::relay::RelayAddressGenerator;

/// The way back to clients: a UDP socket, or one connection.
pub trait Transport: Send + Sync {
    /// Sends a packet or drops it; never waits.
    ///
    /// # Errors
    /// It was dropped.
    fn send_to(&self, packet: &[u8], client: SocketAddr) -> io::Result<()>;
    /// Where clients connect to.
    fn local_addr(&self) -> SocketAddr;
    /// What kind it is.
    fn kind(&self) -> TransportKind;
}

/// What a server is made of.
pub struct ServerConfig {
    pub realm: String,
    pub auth_handler: Arc<dyn AuthHandler>,
    pub policy: Arc<dyn Policy>,
    pub relay_addr_generator: Arc<dyn RelayAddressGenerator>,
    pub limits: Limits,
    pub counters: Arc<Counters>,
}

/// Server is an instance of the TURN Server
pub struct Server {
    realm: String,
    auth_handler: Arc<dyn AuthHandler>,
    nonces: Nonces,
    manager: Arc<Manager>,
}

impl Server {
    /// creates a new TURN server
    pub fn new(config: ServerConfig) -> Self {
        let shared = Shared::new(config.policy, config.limits, config.counters);
        Self {
            realm: config.realm,
            auth_handler: config.auth_handler,
            nonces: Nonces::new(),
            manager: Arc::new(Manager::new(config.relay_addr_generator, Arc::new(shared))),
        }
    }

    /// Handles one packet of a client. It must be called within a tokio runtime, which is where relays then
    /// run.
    ///
    /// # Errors
    /// It led to nothing, or to an error response; nobody needs to do anything about it.
    pub fn handle(
        &self,
        packet: &[u8],
        client: SocketAddr,
        transport: &Arc<dyn Transport>,
    ) -> Result<()> {
        Request {
            server: self,
            transport,
            src_addr: client,
            five_tuple: five_tuple(client, &**transport),
        }
        .handle_request(packet)
    }

    /// Ends what a connection had, when the connection ends (RFC 8656, section 3.1).
    pub fn disconnected(&self, client: SocketAddr, transport: &dyn Transport) {
        if let Some(allocation) = self.manager.get_allocation(&five_tuple(client, transport)) {
            self.manager.delete_allocation(&allocation);
        }
    }

    /// Whether a client has an allocation.
    pub fn has_allocation(&self, client: SocketAddr, transport: &dyn Transport) -> bool {
        self.manager.get_allocation(&five_tuple(client, transport)).is_some()
    }

    /// Information about all allocations, the oldest first.
    pub fn get_allocations_info(&self) -> Vec<AllocationInfo> {
        let mut all: Vec<AllocationInfo> =
            self.manager.list().iter().map(|allocation| allocation.info()).collect();
        all.sort_unstable_by_key(|info| info.id);
        all
    }

    /// Allocations at the moment.
    pub fn allocations(&self) -> usize {
        self.manager.len()
    }

    /// Ends one allocation; false when there is none with this number.
    pub fn delete_allocation(&self, id: u64) -> bool {
        let found = self.manager.list().into_iter().find(|allocation| allocation.id == id);
        found.inspect(|allocation| self.manager.delete_allocation(allocation)).is_some()
    }

    /// Ends all allocations of a user; says how many.
    pub fn delete_allocations_by_user(&self, user: &str) -> usize {
        let mut all = self.manager.list();
        all.retain(|allocation| allocation.user.name == user);
        all.iter().for_each(|allocation| self.manager.delete_allocation(allocation));
        all.len()
    }
}

fn five_tuple(client: SocketAddr, transport: &dyn Transport) -> FiveTuple {
    let protocol = match transport.kind() {
        TransportKind::Udp => PROTO_UDP,
        TransportKind::Tcp | TransportKind::Tls => PROTO_TCP,
    };
    FiveTuple { src_addr: client, dst_addr: transport.local_addr(), protocol }
}
