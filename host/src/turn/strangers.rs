//! How often somebody is answered who has proved nothing.
//!
//! A sender of UDP may lie about who it is, and an answer then goes to somebody who has asked nothing. So answers to
//! one network are few. Nothing is remembered of a sender but in a table whose size never changes: two networks that
//! fall into one place share its quota.

use crate::config::Quota;
use crate::quota::rate;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Places, of eight bytes each.
const PLACES: usize = 1 << 16;

pub(super) struct Strangers {
    quota: Quota,
    start: Instant,
    /// So that nobody can choose whose place to share.
    hasher: RandomState,
    places: Vec<AtomicU64>,
}

impl Strangers {
    pub(super) fn new(quota: Quota) -> Self {
        let places = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Self { quota, start: Instant::now(), hasher: RandomState::new(), places }
    }

    /// Whether one more answer may be sent there.
    pub(super) fn may_answer(&self, address: IpAddr) -> bool {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.may_answer_at(address, now)
    }

    fn may_answer_at(&self, address: IpAddr, now: u64) -> bool {
        let hash = self.hasher.hash_one(network(address)) % (PLACES as u64);
        let Some(place) = usize::try_from(hash).ok().and_then(|at| self.places.get(at)) else {
            return false;
        };
        place
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |mut full_at| {
                rate::take(self.quota, &mut full_at, now).allowed.then_some(full_at)
            })
            .is_ok()
    }
}

/// The network of an address: a /24, or a /56.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::from((address.to_bits() & !0xff).to_be_bytes()),
        IpAddr::V6(address) => IpAddr::from((address.to_bits() & !((1 << 72) - 1)).to_be_bytes()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_a_24_or_a_56() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.254", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("192.0.2.1", "::ffff:192.0.2.9", true),
            ("2001:db8:0:100::1", "2001:db8:0:1ff:ffff::1", true),
            ("2001:db8:0:100::1", "2001:db8:0:200::1", false),
        ] {
            assert_eq!(network(address(one)) == network(address(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn each_network_has_its_quota_and_gets_it_back() {
        let strangers = Strangers::new(Quota { count: 3, per: Duration::from_secs(3) });
        let ask = |text: &str, now| strangers.may_answer_at(address(text), now);
        assert!(ask("192.0.2.1", 0) && ask("192.0.2.2", 0) && ask("192.0.2.3", 0));
        assert!(!ask("192.0.2.4", 0));
        assert!(ask("192.0.2.4", 1_000_000));
        assert!(!ask("192.0.2.4", 1_000_000));
        // Of a few other networks, hardly all share its place.
        assert!((0..20).any(|n| ask(&format!("198.51.{n}.1"), 0)));
    }
}
