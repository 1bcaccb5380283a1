//! Quotas, counters, and what the embedder decides: none of this is in the original.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is asked before anything leaves or enters a relay.
pub trait Policy: Send + Sync {
    /// Whether an address may become a peer: asked when a permission or a channel is made.
    fn admits(&self, peer: IpAddr) -> bool;
    /// The same, asked for each packet: it may leave out what the first has checked and costs time.
    fn passes(&self, peer: IpAddr) -> bool;
    /// Whether an answer may be sent to somebody who has not proved anything, and may not be who it says.
    fn may_answer(&self, client: IpAddr) -> bool;
}

/// What one server gives out.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Allocations in all.
    pub allocations: usize,
    /// Allocations of one user.
    pub user_allocations: usize,
    /// Permissions of one allocation.
    pub permissions: usize,
    /// Channels of one allocation.
    pub channels: usize,
    /// Longest lifetime of an allocation between two refreshes.
    pub lifetime: Duration,
    /// Bytes in a second that one allocation relays, both directions together; 0 is no limit.
    pub bandwidth: u64,
    /// The same for all allocations of one user.
    pub user_bandwidth: u64,
    /// The same for all allocations together.
    pub total_bandwidth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations: 1000,
            user_allocations: 10,
            permissions: 64,
            channels: 64,
            lifetime: Duration::from_secs(3600),
            bandwidth: 0,
            user_bandwidth: 0,
            total_bandwidth: 0,
        }
    }
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    Udp,
    Tcp,
    Tls,
}

impl TransportKind {
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// As it is called in the URIs of RFC 7065 and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// What has happened since the start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $doc] pub $name: AtomicU64,)*
            /// Bytes and packets by transport.
            pub traffic: [Traffic; 3],
        }

        impl Counters {
            /// Each counter with its name.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }

            /// What each counter counts, in the same order.
            pub fn help() -> Vec<&'static str> {
                vec![$($doc.trim_ascii(),)*]
            }
        }
    };
}

/// What was relayed for clients of one transport.
#[derive(Debug, Default)]
pub struct Traffic {
    pub packets_to_peers: AtomicU64,
    pub bytes_to_peers: AtomicU64,
    pub packets_from_peers: AtomicU64,
    pub bytes_from_peers: AtomicU64,
}

counters! {
    /// Allocations that were made.
    allocations,
    /// Refused: the user has as many as it may (486).
    refused_user_quota,
    /// Refused: the server has as many as it may, or no port is left (508).
    refused_capacity,
    /// Refused: something the server does not have (420, 440, 442).
    refused_unsupported,
    /// Refused: the request makes no sense (400, 437, 443).
    refused_bad_request,
    /// Refused: the allocation is someone else's (441).
    refused_foreign,
    /// Refused: too many permissions or channels (508).
    refused_peer_quota,
    /// Requests without credentials that were answered 401.
    challenged,
    /// Requests with a wrong password, realm or username.
    bad_credentials,
    /// Requests with credentials whose time is over.
    expired_credentials,
    /// Requests with a nonce that is old or not ours (438).
    stale_nonces,
    /// Answers that were not sent: too many to one network that has proved nothing.
    unanswered,
    /// Permissions and channels to denied peers (403).
    denied_peers,
    /// Packets to or from denied peers.
    denied_packets,
    /// Packets to peers without a permission or channel, or from them.
    unpermitted_packets,
    /// Packets over the bandwidth of an allocation, a user or the server.
    throttled_packets,
    /// Packets that the system or a slow client would not take.
    dropped_packets,
    /// Packets that are neither STUN nor TURN.
    malformed_packets,
}

impl Counters {
    pub(crate) fn traffic(&self, kind: TransportKind) -> &Traffic {
        let [udp, tcp, tls] = &self.traffic;
        match kind {
            TransportKind::Udp => udp,
            TransportKind::Tcp => tcp,
            TransportKind::Tls => tls,
        }
    }
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Bytes in a second, of which a second's worth may come at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: u64,
    start: Instant,
    /// Nanoseconds after `start` at which everything is regained.
    full_at: AtomicU64,
}

const SECOND: u64 = 1_000_000_000;

impl Bucket {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate, start: Instant::now(), full_at: AtomicU64::new(0) }
    }

    /// Takes so many bytes; false when they are too many for now.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        if self.rate == 0 {
            return true;
        }
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_at(bytes, now)
    }

    fn take_at(&self, bytes: usize, now: u64) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = bytes.saturating_mul(SECOND) / self.rate.max(1);
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let end = full_at.max(now).saturating_add(cost);
                (end <= now.saturating_add(SECOND)).then_some(end)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_second_through_at_once_and_then_its_rate() {
        let bucket = Bucket::new(1000);
        assert!(bucket.take_at(600, 0));
        assert!(bucket.take_at(400, 0));
        assert!(!bucket.take_at(1, 0));
        assert!(bucket.take_at(100, SECOND / 10));
        assert!(!bucket.take_at(1, SECOND / 10));
        assert!(bucket.take_at(1000, 5 * SECOND));
        assert!(!bucket.take_at(1, 5 * SECOND));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let bucket = Bucket::new(0);
        assert!((0..100).all(|_| bucket.take(usize::MAX)));
    }
}
