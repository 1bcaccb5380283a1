//! What all rooms of one plugin use together.
//!
//! Owns the counts of bytes, keys, connections and events of a plugin's rooms. A room counts what it changes when
//! the change is made; what rooms on several threads begin at the same moment may go beyond a limit by what they
//! began. The danger that shaped it: limits of one room, and a client that makes as many rooms as it likes.

use crate::config;
use crate::storage::StoreError;
use crate::storage::rooms::{RoomMeta, RoomStore};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Rooms that are read at a time when a house starts.
const PAGE: usize = 1000;
/// Events that may come at once, as the time in which they are allowed.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Over which time events are counted for whoever looks.
const OF_LATE: f64 = 10.0;

/// What the rooms of one plugin use.
#[derive(Debug, Default)]
pub struct Usage {
    bytes: AtomicU64,
    keys: AtomicU64,
    sockets: AtomicUsize,
    /// When all events so far have had their share of time.
    until: Mutex<Option<Instant>>,
}

impl Usage {
    /// A room's meta row has become another.
    pub fn change(&self, from: &RoomMeta, to: &RoomMeta) {
        for (count, from, to) in
            [(&self.bytes, from.bytes, to.bytes), (&self.keys, from.keys, to.keys)]
        {
            // In one step, so that no two rooms take the same old count.
            _ = count.fetch_update(Relaxed, Relaxed, |all| {
                Some(all.saturating_add(to).saturating_sub(from))
            });
        }
    }

    /// Whether a room may go from one to the other. Going down is always allowed.
    ///
    /// # Errors
    /// The name of the limit, and what it is.
    pub fn allows(
        &self,
        from: &RoomMeta,
        to: &RoomMeta,
        limits: &config::Rooms,
    ) -> Result<(), (&'static str, u64)> {
        let over = |all: &AtomicU64, from: u64, to: u64, limit: u64| {
            to > from && all.load(Relaxed).saturating_add(to).saturating_sub(from) > limit
        };
        if over(&self.bytes, from.bytes, to.bytes, limits.plugin_storage) {
            return Err(("rooms.plugin_storage", limits.plugin_storage));
        }
        if over(&self.keys, from.keys, to.keys, limits.plugin_keys) {
            return Err(("rooms.plugin_keys", limits.plugin_keys));
        }
        Ok(())
    }

    /// Open connections.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Relaxed)
    }

    /// A place for one more connection.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.sockets.fetch_add(1, Relaxed);
        Seat(self.clone())
    }

    /// Counts an event. How long its room must wait before it takes the next.
    pub fn share(&self, events_a_second: u32, now: Instant) -> Duration {
        let each = Duration::from_secs(1) / events_a_second.max(1);
        let mut until = self.until.lock();
        let end = until.map_or(now, |until| until.max(now)) + each;
        *until = Some(end);
        end.saturating_duration_since(now).saturating_sub(AT_ONCE)
    }
}

/// The place of a connection; given back when it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Usage>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
    }
}

/// The usage of all plugins, by name.
#[derive(Default)]
pub(super) struct Usages(Mutex<HashMap<Arc<str>, Arc<Usage>>>);

impl Usages {
    /// Counts what is kept.
    pub(super) async fn count(store: &Arc<dyn RoomStore>) -> Result<Self, StoreError> {
        let (usages, mut after) = (Self::default(), None);
        loop {
            let page = store.rooms(None, after.as_ref(), PAGE).resolve().await?;
            for (key, meta) in &page {
                usages.of(&key.plugin).change(&RoomMeta::default(), meta);
            }
            match page.last() {
                Some((last, _)) => after = Some(last.clone()),
                None => return Ok(usages),
            }
        }
    }

    pub(super) fn of(&self, plugin: &Arc<str>) -> Arc<Usage> {
        self.0.lock().entry(plugin.clone()).or_default().clone()
    }
}

/// Events in a second, of late.
#[derive(Debug, Default)]
pub struct Rate(Mutex<Option<(f64, Instant)>>);

impl Rate {
    /// One more.
    pub fn count(&self) {
        self.count_at(Instant::now());
    }

    fn count_at(&self, now: Instant) {
        let rate = self.at(now) + 1.0 / OF_LATE;
        *self.0.lock() = Some((rate, now));
    }

    /// How many they are now: old ones count less and less.
    pub fn now(&self) -> f64 {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> f64 {
        self.0.lock().map_or(0.0, |(rate, at)| {
            rate * (-now.saturating_duration_since(at).as_secs_f64() / OF_LATE).exp()
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn meta(bytes: u64, keys: u64) -> RoomMeta {
        RoomMeta { bytes, keys, ..RoomMeta::default() }
    }

    #[test]
    fn rooms_count_together_and_may_always_go_down() {
        let usage = Usage::default();
        let limits =
            config::Rooms { plugin_storage: 100, plugin_keys: 10, ..config::Rooms::default() };
        usage.change(&meta(0, 0), &meta(60, 2));
        assert_eq!(usage.allows(&meta(0, 0), &meta(40, 8), &limits), Ok(()));
        let over = usage.allows(&meta(0, 0), &meta(41, 1), &limits);
        assert_eq!(over, Err(("rooms.plugin_storage", 100)));
        let over = usage.allows(&meta(0, 0), &meta(1, 9), &limits);
        assert_eq!(over, Err(("rooms.plugin_keys", 10)));
        usage.change(&meta(0, 0), &meta(90, 20));
        assert_eq!(usage.allows(&meta(90, 20), &meta(80, 19), &limits), Ok(()));
        usage.change(&meta(90, 20), &meta(0, 0));
        assert_eq!(usage.allows(&meta(60, 2), &meta(100, 10), &limits), Ok(()));
    }

    #[test]
    fn a_second_s_worth_of_events_may_come_at_once_and_the_rest_waits() {
        let (usage, now) = (Usage::default(), Instant::now());
        let waits: Vec<Duration> = (0..30).map(|_| usage.share(10, now)).collect();
        assert!(waits.iter().take(10).all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits.last(), Some(&Duration::from_secs(2)));
        let later = now + Duration::from_secs(60);
        assert_eq!(usage.share(10, later), Duration::ZERO);
    }

    #[test]
    fn the_rate_is_what_came_of_late_and_fades() {
        let (rate, mut now) = (Rate::default(), Instant::now());
        for _ in 0..1000 {
            now += Duration::from_millis(100);
            rate.count_at(now);
        }
        assert!((9.0..11.0).contains(&rate.at(now)), "{}", rate.at(now));
        assert!(rate.at(now + Duration::from_secs(60)) < 0.1);
    }
}
