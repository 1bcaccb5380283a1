//! The shared response cache in front of a plugin (RFC 9111).
//!
//! Owns which responses are kept, for whom, and for how long. A hit never touches a guest. It must never
//! answer one caller with what was meant for another, serve what a purge has dropped, or hold more bytes
//! than it was given. The danger that shaped it: a popular page that expires, and a thousand requests that
//! all ask the plugin for it at once. The first asks, the others wait for its answer.
//!
//! A plugin speaks to this cache with the usual fields, or with `Guesthouse-Cache-Control` (see `policy`).

mod conditional;
mod policy;
mod recorder;
mod store;

pub use recorder::Recorder;

use crate::body::Body;
use crate::headers::X_REQUEST_ID;
use conditional::Outcome;
use futures::future::BoxFuture;
use http::header::{
    AGE, AUTHORIZATION, ETAG, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use store::{Key, Lookup, Shards, Stored};

/// RFC 9211: what this cache did.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const HIT: HeaderValue = HeaderValue::from_static("guesthouse; hit");
const MISS: HeaderValue = HeaderValue::from_static("guesthouse; fwd=uri-miss; stored");
const STALE: HeaderValue = HeaderValue::from_static("guesthouse; fwd=stale");
const REVALIDATED: HeaderValue =
    HeaderValue::from_static("guesthouse; hit; fwd=stale; fwd-status=304");

/// The cache of the house.
pub struct ResponseCache {
    shards: Shards,
    max_entry: u64,
    generations: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What the cache has done.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Stats {
    /// Answers without the plugin.
    pub hits: u64,
    /// Requests that went on to the plugin and could be kept.
    pub misses: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Responses held.
    pub entries: u64,
}

/// One plugin's part of the cache.
pub struct Partition {
    cache: Arc<ResponseCache>,
    /// Entries of an earlier generation are not found any more.
    generation: AtomicU64,
}

/// What to do with a request.
pub enum Decision {
    /// Answer this.
    Answer(Response<Body>),
    /// Ask the plugin and show the recorder its response.
    Forward(Recorder),
    /// Someone is asking the same: wait, then start again.
    Wait(BoxFuture<'static, ()>),
    /// The cache has no part in this.
    Bypass,
}

impl ResponseCache {
    /// At most `max_bytes` in all, and no response larger than `max_entry`.
    #[must_use]
    pub fn new(max_bytes: u64, max_entry: u64) -> Arc<Self> {
        Arc::new(Self {
            shards: Shards::new(max_bytes),
            max_entry,
            generations: AtomicU64::new(1),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// A part for one plugin.
    #[must_use]
    pub fn partition(self: &Arc<Self>) -> Partition {
        let generation = self.generations.fetch_add(1, Relaxed);
        Partition { cache: self.clone(), generation: AtomicU64::new(generation) }
    }

    /// What the cache has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (entries, bytes) = self.shards.size();
        Stats { hits: self.hits.load(Relaxed), misses: self.misses.load(Relaxed), bytes, entries }
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.purge();
    }
}

impl Partition {
    /// Drops everything: from now on nothing that was kept before is found.
    pub fn purge(&self) {
        let next = self.cache.generations.fetch_add(1, Relaxed);
        let old = self.generation.swap(next, Relaxed);
        self.cache.shards.remove_generation(old);
    }

    /// Decides about a request; may add a condition to it, for the plugin to say "not modified".
    pub fn start(&self, request: &mut Parts) -> Decision {
        let cache = &self.cache;
        let generation = self.generation.load(Relaxed);
        let host = request
            .uri
            .authority()
            .map(http::uri::Authority::as_str)
            .or_else(|| request.headers.get(HOST)?.to_str().ok())
            .unwrap_or_default();
        let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let key = cache.shards.key(generation, host, target);
        let is_head = request.method == Method::HEAD;
        if !is_head && request.method != Method::GET {
            if request.method.is_safe() {
                return Decision::Bypass;
            }
            // What changes a resource makes the kept response stale (RFC 9111 §4.4).
            return Decision::Forward(Recorder::invalidating(cache.clone(), key.own()));
        }
        if request.headers.contains_key(AUTHORIZATION)
            || request.headers.contains_key(IF_MATCH)
            || request.headers.contains_key(IF_UNMODIFIED_SINCE)
        {
            return Decision::Bypass;
        }
        let wish = policy::wish(&request.headers);
        let now = Instant::now();
        let stale = match cache.shards.find(&key, &request.headers) {
            Lookup::Found(stored)
                if stored.is_fresh(now)
                    && (stored.targeted
                        || (!wish.no_store
                            && wish.max_age.is_none_or(|most| stored.age(now) <= most))) =>
            {
                cache.hits.fetch_add(1, Relaxed);
                return Decision::Answer(stored.answer(&request.headers, now, HIT));
            }
            Lookup::Found(stored) => Some(stored),
            Lookup::Nothing => None,
        };
        if wish.only_if_cached {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            return Decision::Answer(response);
        }
        // A request that asks for a part, or for nothing if it has it already, can't fill the cache.
        let partial = [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE]
            .iter()
            .any(|name| request.headers.contains_key(name));
        if is_head || wish.no_store || (partial && stale.is_none()) {
            return Decision::Bypass;
        }
        cache.misses.fetch_add(1, Relaxed);
        let flight = match cache.shards.join(&key, now) {
            store::Join::First(flight) => Some(flight),
            store::Join::Alone => None,
            store::Join::Wait(other) => return Decision::Wait(other),
        };
        let owned = key.own();
        let original = request.headers.clone();
        if let Some(stale) = &stale {
            stale.make_conditional(&mut request.headers);
        }
        Decision::Forward(Recorder::new(cache.clone(), owned, flight, original, stale))
    }
}

/// The fields of a kept response, with a place for those that each answer sets anew: here, and the id of the
/// request above. A copy of the fields is exactly as large as they are, and one field more would move them all.
fn with_places(mut fields: HeaderMap) -> HeaderMap {
    for name in [AGE, CACHE_STATUS, X_REQUEST_ID] {
        fields.insert(name, HeaderValue::from_static("0"));
    }
    fields
}

impl Stored {
    /// The response for a request, whole, in part, or "not modified".
    fn answer(&self, request: &HeaderMap, now: Instant, status: HeaderValue) -> Response<Body> {
        let mut headers = self.headers.clone();
        headers.insert(AGE, HeaderValue::from(self.age(now).as_secs()));
        headers.insert(CACHE_STATUS, status);
        let outcome = if self.status == StatusCode::OK {
            conditional::evaluate(request, &self.headers, self.body.len() as u64)
        } else {
            Outcome::Whole
        };
        let (status, body) = conditional::apply(&outcome, &mut headers, &self.body);
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = status.unwrap_or(self.status);
        *response.headers_mut() = headers;
        response
    }

    /// Asks the plugin whether the response is still the one.
    fn make_conditional(&self, headers: &mut HeaderMap) {
        for name in [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            headers.remove(name);
        }
        if let Some(tag) = self.headers.get(ETAG) {
            headers.insert(IF_NONE_MATCH, tag.clone());
        } else if let Some(date) = self.headers.get(LAST_MODIFIED) {
            headers.insert(IF_MODIFIED_SINCE, date.clone());
        }
    }
}

use store::OwnedKey;

/// Kept for the recorder: a key that borrows nothing.
impl Key<'_> {
    fn own(&self) -> OwnedKey {
        OwnedKey {
            hash: self.hash,
            generation: self.generation,
            host: self.host.into(),
            target: self.target.into(),
        }
    }
}

#[cfg(test)]
mod tests;
