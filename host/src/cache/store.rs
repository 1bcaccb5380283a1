//! Where responses are kept.
//!
//! Owns the memory. Several shards, each with a lock that is held for a look-up and no longer; eviction by
//! the clock algorithm, so that a hit writes one flag and moves nothing.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const SHARDS: usize = 32;
/// Responses for one key that differ by `Vary`.
const VARIANTS: usize = 8;
/// What an entry costs beside its bytes, roughly: maps, pointers, the header map's own tables.
const OVERHEAD: u64 = 1024;
/// How long requests for something that could not be kept go to the plugin side by side.
const ALONE_FOR: Duration = Duration::from_secs(2);
/// How many such keys a shard remembers.
const ALONE: usize = 1024;

/// A response that is kept.
pub(super) struct Stored {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// When it came, and how old it was then.
    pub(super) at: Instant,
    pub(super) initial_age: Duration,
    pub(super) fresh_for: Duration,
    pub(super) targeted: bool,
    /// The request fields that it was chosen by, as they were.
    pub(super) vary: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl Stored {
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.initial_age.saturating_add(now.saturating_duration_since(self.at))
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.fresh_for
    }

    fn is_for(&self, request: &HeaderMap) -> bool {
        self.vary.iter().all(|(name, value)| request.get(name) == value.as_ref())
    }

    fn cost(&self, key: &OwnedKey) -> u64 {
        let headers: usize = self.headers.iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
        OVERHEAD + (self.body.len() + headers + key.host.len() + key.target.len()) as u64
    }
}

/// What a response is kept under; borrowed from the request.
pub(super) struct Key<'a> {
    pub(super) hash: u64,
    pub(super) generation: u64,
    pub(super) host: &'a str,
    pub(super) target: &'a str,
}

/// The same, on its own.
#[derive(Clone, Debug)]
pub(super) struct OwnedKey {
    pub(super) hash: u64,
    pub(super) generation: u64,
    pub(super) host: Box<str>,
    pub(super) target: Box<str>,
}

impl OwnedKey {
    fn is(&self, generation: u64, host: &str, target: &str) -> bool {
        self.generation == generation && *self.target == *target && *self.host == *host
    }
}

pub(super) enum Lookup {
    Found(Arc<Stored>),
    Nothing,
}

/// Whether to ask the plugin.
pub(super) enum Join {
    /// Yes, and others wait for it.
    First(Flight),
    /// Yes, and nobody waits: the last answers could not be kept.
    Alone,
    /// No: someone is asking.
    Wait(BoxFuture<'static, ()>),
}

/// A request to the plugin that others wait for. Dropped, it lets them go.
pub(super) struct Flight {
    waiters: Arc<Semaphore>,
    shards: Shards,
    hash: u64,
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(shard) = self.shards.shard(self.hash) {
            shard.lock().flights.remove(&self.hash);
        }
        self.waiters.close();
    }
}

struct Slot {
    key: OwnedKey,
    variants: Vec<Arc<Stored>>,
    cost: u64,
    used: bool,
}

#[derive(Default)]
struct Shard {
    /// By hash; two keys with one hash share a place, and the later one has it.
    index: HashMap<u64, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    hand: usize,
    bytes: u64,
    flights: HashMap<u64, Arc<Semaphore>>,
    alone: HashMap<u64, Instant>,
}

/// All shards.
#[derive(Clone)]
pub(super) struct Shards {
    shards: Arc<[Mutex<Shard>]>,
    hasher: RandomState,
    /// Bytes of one shard.
    budget: u64,
}

impl Shards {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            budget: max_bytes / SHARDS as u64,
        }
    }

    pub(super) fn key<'a>(&self, generation: u64, host: &'a str, target: &'a str) -> Key<'a> {
        let hash = self.hasher.hash_one((generation, host, target));
        Key { hash, generation, host, target }
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::try_from(hash >> 32).unwrap_or(0) % SHARDS)
    }

    pub(super) fn find(&self, key: &Key<'_>, request: &HeaderMap) -> Lookup {
        let Some(shard) = self.shard(key.hash) else { return Lookup::Nothing };
        let mut shard = shard.lock();
        let Some(slot) = shard.slot(key.hash) else { return Lookup::Nothing };
        if !slot.key.is(key.generation, key.host, key.target) {
            return Lookup::Nothing;
        }
        slot.used = true;
        match slot.variants.iter().find(|stored| stored.is_for(request)) {
            Some(stored) => Lookup::Found(stored.clone()),
            None => Lookup::Nothing,
        }
    }

    pub(super) fn join(&self, key: &Key<'_>, now: Instant) -> Join {
        let Some(shard) = self.shard(key.hash) else { return Join::Alone };
        let mut shard = shard.lock();
        if let Some(until) = shard.alone.get(&key.hash) {
            if now < *until {
                return Join::Alone;
            }
            shard.alone.remove(&key.hash);
        }
        if let Some(waiters) = shard.flights.get(&key.hash) {
            let waiters = waiters.clone();
            // There is never a permit: the wait ends when the semaphore is closed.
            return Join::Wait(async move { drop(waiters.acquire_owned().await) }.boxed());
        }
        let waiters = Arc::new(Semaphore::new(0));
        shard.flights.insert(key.hash, waiters.clone());
        Join::First(Flight { waiters, shards: self.clone(), hash: key.hash })
    }

    /// The answer could not be kept: let the next ones go side by side for a while.
    pub(super) fn let_go_alone(&self, key: &OwnedKey) {
        let Some(shard) = self.shard(key.hash) else { return };
        let mut shard = shard.lock();
        if shard.alone.len() >= ALONE {
            shard.alone.clear();
        }
        shard.alone.insert(key.hash, Instant::now() + ALONE_FOR);
    }

    pub(super) fn remove(&self, key: &OwnedKey) {
        if let Some(shard) = self.shard(key.hash) {
            shard.lock().remove(key.hash);
        }
    }

    pub(super) fn insert(&self, key: &OwnedKey, stored: Arc<Stored>) {
        let cost = stored.cost(key);
        if cost > self.budget {
            return;
        }
        let Some(shard) = self.shard(key.hash) else { return };
        let mut shard = shard.lock();
        let mut variants = match shard.remove(key.hash) {
            Some(slot) if slot.key.is(key.generation, &key.host, &key.target) => slot.variants,
            _ => Vec::new(),
        };
        variants.retain(|other| other.vary != stored.vary);
        variants.insert(0, stored);
        variants.truncate(VARIANTS);
        let cost: u64 = variants.iter().map(|stored| stored.cost(key)).sum();
        while shard.bytes + cost > self.budget {
            if !shard.evict() {
                return;
            }
        }
        shard.add(Slot { key: key.clone(), variants, cost, used: false });
    }

    pub(super) fn remove_generation(&self, generation: u64) {
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            let gone: Vec<u64> = shard
                .slots
                .iter()
                .flatten()
                .filter(|slot| slot.key.generation == generation)
                .map(|slot| slot.key.hash)
                .collect();
            for hash in gone {
                shard.remove(hash);
            }
        }
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(entries, bytes), shard| {
            let shard = shard.lock();
            (entries + shard.index.len() as u64, bytes + shard.bytes)
        })
    }
}

impl Shard {
    fn slot(&mut self, hash: u64) -> Option<&mut Slot> {
        self.slots.get_mut(*self.index.get(&hash)?)?.as_mut()
    }

    fn add(&mut self, slot: Slot) {
        self.bytes += slot.cost;
        let hash = slot.key.hash;
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
            self.index.insert(hash, at);
        }
    }

    fn remove(&mut self, hash: u64) -> Option<Slot> {
        let at = self.index.remove(&hash)?;
        let slot = self.slots.get_mut(at)?.take()?;
        self.free.push(at);
        self.bytes = self.bytes.saturating_sub(slot.cost);
        Some(slot)
    }

    /// Removes the next entry that was not used since the hand last came by.
    fn evict(&mut self) -> bool {
        // Twice around: the first round clears the flags.
        for _ in 0..self.slots.len().saturating_mul(2) {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            if let Some(Some(slot)) = self.slots.get_mut(self.hand) {
                if slot.used {
                    slot.used = false;
                    continue;
                }
                let hash = slot.key.hash;
                self.remove(hash);
                return true;
            }
        }
        false
    }
}
