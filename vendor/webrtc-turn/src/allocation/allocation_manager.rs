//! All allocations of a server, whatever listener they came by.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::permission::Reach;
use super::*;
use crate::relay::*;
use crate::server::Transport;
use crate::stun::agent::TransactionId;

/// How long a reserved port is kept (RFC 8656, section 7.2).
const RESERVATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Reservations that are kept at a time.
const RESERVATIONS: usize = 256;

/// What allocations share.
pub(crate) struct Shared {
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
    /// Of all allocations together.
    pub(crate) bucket: Bucket,
    relays: RwLock<Relays>,
}

/// The relays that are alive. They are the only addresses of this machine that may be peers: two clients who
/// both come through this server.
#[derive(Default)]
struct Relays {
    by_external: HashMap<SocketAddr, SocketAddr>,
    by_local: HashMap<SocketAddr, SocketAddr>,
}

impl Shared {
    pub(crate) fn new(policy: Arc<dyn Policy>, limits: Limits, counters: Arc<Counters>) -> Self {
        let bucket = Bucket::new(limits.total_bandwidth);
        Self { policy, limits, counters, bucket, relays: RwLock::default() }
    }

    /// Whether an address may become a peer.
    pub(crate) fn admit(&self, peer: SocketAddr) -> Result<Reach> {
        if self.policy.admits(peer.ip()) {
            return Ok(Reach::Address);
        }
        // Not the port: some clients ask for permission with none. Each packet is checked with its port.
        let relays = self.relays.read();
        if relays.by_external.keys().any(|relay| relay.ip() == peer.ip()) {
            return Ok(Reach::Relays);
        }
        count(&self.counters.denied_peers);
        Err(Error::ErrDenied)
    }

    /// Where a packet for a peer is sent: to another relay directly, since not every NAT leads back in.
    pub(crate) fn way_to(&self, peer: SocketAddr, reach: Reach) -> Result<SocketAddr> {
        if let Some(local) = self.relays.read().by_external.get(&peer) {
            return Ok(*local);
        }
        if reach == Reach::Address && self.policy.passes(peer.ip()) {
            return Ok(peer);
        }
        count(&self.counters.denied_packets);
        Err(Error::ErrDenied)
    }

    /// As who a sender is known, and whether it is another relay.
    pub(crate) fn peer_of(&self, from: SocketAddr) -> (SocketAddr, bool) {
        match self.relays.read().by_local.get(&from) {
            Some(external) => (*external, true),
            None => (from, false),
        }
    }
}

struct Reservation {
    relay: RelaySocket,
    user: String,
    until: Instant,
}

/// `Manager` is used to hold active allocations.
pub(crate) struct Manager {
    allocations: RwLock<HashMap<FiveTuple, Arc<Allocation>>>,
    users: Mutex<HashMap<String, Arc<User>>>,
    reservations: Mutex<HashMap<[u8; 8], Reservation>>,
    relay_addr_generator: Arc<dyn RelayAddressGenerator>,
    next: AtomicU64,
    /// Allocations that are there or being made.
    places: AtomicUsize,
    pub(crate) shared: Arc<Shared>,
}

/// Why there is no new allocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The user has as many as it may.
    UserQuota,
    /// The server has as many as it may, or no port is left.
    Capacity,
}

/// What is asked of a new allocation.
pub(crate) struct Wish {
    pub(crate) ipv4: bool,
    pub(crate) port: PortWish,
    pub(crate) token: Option<[u8; 8]>,
    pub(crate) lifetime: Duration,
    pub(crate) transaction_id: TransactionId,
}

impl Manager {
    pub(crate) fn new(
        relay_addr_generator: Arc<dyn RelayAddressGenerator>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            allocations: RwLock::default(),
            users: Mutex::default(),
            reservations: Mutex::default(),
            relay_addr_generator,
            next: AtomicU64::new(1),
            places: AtomicUsize::new(0),
            shared,
        }
    }

    pub(crate) fn has_family(&self, ipv4: bool) -> bool {
        self.relay_addr_generator.has_family(ipv4)
    }

    /// Fetches the [`Allocation`] matching the passed [`FiveTuple`].
    pub(crate) fn get_allocation(&self, five_tuple: &FiveTuple) -> Option<Arc<Allocation>> {
        self.allocations.read().get(five_tuple).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<Allocation>> {
        self.allocations.read().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.allocations.read().len()
    }

    /// Creates a new [`Allocation`] and starts relaying. The token is of a second port that was reserved.
    pub(crate) fn create_allocation(
        self: &Arc<Self>,
        five_tuple: FiveTuple,
        turn_socket: Arc<dyn Transport>,
        user: &str,
        wish: &Wish,
    ) -> std::result::Result<(Arc<Allocation>, Option<[u8; 8]>), Refusal> {
        // The place first: listeners on several threads would otherwise take the last one together.
        let most = self.shared.limits.allocations;
        let free = |taken: usize| (taken < most).then_some(taken + 1);
        if self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_err() {
            return Err(Refusal::Capacity);
        }
        let made = self.join(user).and_then(|user| {
            let made = self.make(five_tuple, turn_socket, user.clone(), wish);
            made.ok_or_else(|| {
                self.leave(&user);
                Refusal::Capacity
            })
        });
        if made.is_err() {
            self.places.fetch_sub(1, Ordering::Relaxed);
        }
        made
    }

    fn make(
        self: &Arc<Self>,
        five_tuple: FiveTuple,
        turn_socket: Arc<dyn Transport>,
        user: Arc<User>,
        wish: &Wish,
    ) -> Option<(Arc<Allocation>, Option<[u8; 8]>)> {
        let (relay, second) = match wish.token {
            Some(token) => (self.take_reservation(&token, &user.name)?, None),
            None => match self.relay_addr_generator.allocate(wish.ipv4, wish.port) {
                Ok(relay) => relay,
                Err(error) => {
                    tracing::warn!("no relay socket: {error}");
                    return None;
                }
            },
        };
        let token = match second {
            Some(relay) => Some(self.reserve(relay, &user.name)?),
            None => None,
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let allocation = Allocation::new(
            id,
            turn_socket,
            relay,
            five_tuple,
            user,
            wish.transaction_id,
            wish.lifetime,
            self.shared.clone(),
        );
        let allocation = match allocation {
            Ok(allocation) => Arc::new(allocation),
            Err(error) => {
                tracing::warn!("no relay socket: {error}");
                return None;
            }
        };
        {
            let mut relays = self.shared.relays.write();
            relays.by_external.insert(allocation.relay_addr, allocation.local_addr);
            relays.by_local.insert(allocation.local_addr, allocation.relay_addr);
        }
        self.allocations.write().insert(five_tuple, allocation.clone());
        let (manager, running) = (self.clone(), allocation.clone());
        tokio::spawn(async move {
            running.clone().run().await;
            manager.remove(&running);
        });
        Some((allocation, token))
    }

    /// Removes an [`Allocation`]: at once from what is looked up, and its socket when its task has ended.
    pub(crate) fn delete_allocation(&self, allocation: &Arc<Allocation>) {
        self.remove(allocation);
        allocation.closed.cancel();
    }

    fn remove(&self, allocation: &Arc<Allocation>) {
        {
            let mut allocations = self.allocations.write();
            match allocations.get(&allocation.five_tuple) {
                Some(found) if Arc::ptr_eq(found, allocation) => {
                    allocations.remove(&allocation.five_tuple);
                }
                // It was removed before, and the same client may have a new one.
                _ => return,
            }
        }
        {
            let mut relays = self.shared.relays.write();
            relays.by_external.remove(&allocation.relay_addr);
            relays.by_local.remove(&allocation.local_addr);
        }
        self.leave(&allocation.user);
        self.places.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more allocation of a user.
    fn join(&self, name: &str) -> std::result::Result<Arc<User>, Refusal> {
        let limits = &self.shared.limits;
        let mut users = self.users.lock();
        if let Some(user) = users.get(name) {
            if user.allocations.load(Ordering::Relaxed) >= limits.user_allocations {
                return Err(Refusal::UserQuota);
            }
            user.allocations.fetch_add(1, Ordering::Relaxed);
            return Ok(user.clone());
        }
        if limits.user_allocations == 0 {
            return Err(Refusal::UserQuota);
        }
        let user = Arc::new(User {
            name: name.to_owned(),
            allocations: AtomicUsize::new(1),
            bucket: Bucket::new(limits.user_bandwidth),
        });
        users.insert(name.to_owned(), user.clone());
        Ok(user)
    }

    /// Counts one less; who has none is forgotten.
    fn leave(&self, user: &Arc<User>) {
        let mut users = self.users.lock();
        if user.allocations.fetch_sub(1, Ordering::Relaxed) == 1 {
            users.remove(&user.name);
        }
    }

    fn reserve(&self, relay: RelaySocket, user: &str) -> Option<[u8; 8]> {
        let now = Instant::now();
        let mut reservations = self.reservations.lock();
        reservations.retain(|_, reservation| reservation.until > now);
        if reservations.len() >= RESERVATIONS {
            return None;
        }
        let token = rand::random::<[u8; 8]>();
        let until = now + RESERVATION_TIMEOUT;
        reservations.insert(token, Reservation { relay, user: user.to_owned(), until });
        Some(token)
    }

    fn take_reservation(&self, token: &[u8; 8], user: &str) -> Option<RelaySocket> {
        let now = Instant::now();
        let mut reservations = self.reservations.lock();
        reservations.retain(|_, reservation| reservation.until > now);
        if reservations.get(token)?.user != user {
            return None;
        }
        Some(reservations.remove(token)?.relay)
    }
}
