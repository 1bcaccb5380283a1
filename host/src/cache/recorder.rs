//! A response on its way from the plugin to the client, and into the cache.
//!
//! Owns the copy. The client gets each piece as it comes; the copy is kept only if the body came to its
//! end, is as long as it said, and the partition was not purged meanwhile.

use super::policy::{self, TARGETED};
use super::store::{Flight, OwnedKey, Stored};
use super::{CACHE_STATUS, MISS, REVALIDATED, ResponseCache, STALE};
use crate::body::{Body, BodyError, declared_length};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

/// Looks at a response and keeps it if it may be kept.
pub struct Recorder {
    cache: Arc<ResponseCache>,
    key: OwnedKey,
    flight: Option<Flight>,
    request: HeaderMap,
    stale: Option<Arc<Stored>>,
    invalidates: bool,
}

impl Recorder {
    pub(super) fn new(
        cache: Arc<ResponseCache>,
        key: OwnedKey,
        flight: Option<Flight>,
        request: HeaderMap,
        stale: Option<Arc<Stored>>,
    ) -> Self {
        Self { cache, key, flight, request, stale, invalidates: false }
    }

    /// For a request that changes the resource.
    pub(super) fn invalidating(cache: Arc<ResponseCache>, key: OwnedKey) -> Self {
        Self { cache, key, flight: None, request: HeaderMap::new(), stale: None, invalidates: true }
    }

    /// Takes the plugin's response and gives the client's.
    pub fn record(self, mut response: Response<Body>) -> Response<Body> {
        if self.invalidates {
            if !response.status().is_client_error() && !response.status().is_server_error() {
                self.cache.shards.remove(&self.key);
            }
            response.headers_mut().remove(&TARGETED);
            return response;
        }
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(stale) = &self.stale
        {
            return self.freshen(stale, &response);
        }
        let now = SystemTime::now();
        let storable = policy::storable(response.status(), response.headers(), now);
        let declared = declared_length(response.headers());
        let storable =
            storable.filter(|_| declared.is_none_or(|size| size <= self.cache.max_entry));
        response.headers_mut().remove(&TARGETED);
        let Some(storable) = storable else {
            self.cache.shards.let_go_alone(&self.key);
            return response;
        };
        let headers = response.headers().clone();
        let stored = Stored {
            status: response.status(),
            vary: vary(&headers, &self.request),
            headers: super::with_places(headers),
            body: Bytes::new(),
            at: Instant::now(),
            initial_age: storable.age,
            fresh_for: storable.fresh_for,
            targeted: storable.targeted,
        };
        let label = if self.stale.is_some() { STALE } else { MISS };
        response.headers_mut().insert(CACHE_STATUS, label);
        response.map(|body| {
            let copy = Copying {
                body,
                copy: BytesMut::new(),
                stored: Some(stored),
                declared,
                recorder: self,
            };
            Body::stream(copy)
        })
    }

    /// The plugin says that what is kept is still right (RFC 9111 §4.3.4).
    fn freshen(&self, stale: &Stored, response: &Response<Body>) -> Response<Body> {
        let mut headers = stale.headers.clone();
        for (name, value) in response.headers() {
            if *name != CONTENT_LENGTH && *name != TARGETED {
                headers.insert(name.clone(), value.clone());
            }
        }
        let mut fields = headers.clone();
        if let Some(targeted) = response.headers().get(&TARGETED) {
            fields.insert(TARGETED, targeted.clone());
        }
        let storable = policy::storable(stale.status, &fields, SystemTime::now());
        let fresh = Arc::new(Stored {
            status: stale.status,
            headers: super::with_places(headers),
            body: stale.body.clone(),
            at: Instant::now(),
            initial_age: storable.map_or_else(Default::default, |s| s.age),
            fresh_for: storable.map_or_else(Default::default, |s| s.fresh_for),
            targeted: storable.is_some_and(|s| s.targeted),
            vary: stale.vary.clone(),
        });
        if storable.is_some() {
            self.cache.shards.insert(&self.key, fresh.clone());
        } else {
            self.cache.shards.remove(&self.key);
        }
        fresh.answer(&self.request, Instant::now(), REVALIDATED)
    }
}

/// The request fields that the response names, as they were in the request.
fn vary(headers: &HeaderMap, request: &HeaderMap) -> Vec<(HeaderName, Option<http::HeaderValue>)> {
    let mut fields: Vec<_> = headers
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .map(|name| {
            let value = request.get(&name).cloned();
            (name, value)
        })
        .collect();
    fields.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    fields.dedup_by(|a, b| a.0 == b.0);
    fields
}

/// A body that is copied while it passes.
struct Copying {
    body: Body,
    copy: BytesMut,
    /// None: it is not to be kept any more.
    stored: Option<Stored>,
    declared: Option<u64>,
    recorder: Recorder,
}

impl Copying {
    fn give_up(&mut self) {
        self.stored = None;
        self.copy = BytesMut::new();
        self.recorder.cache.shards.let_go_alone(&self.recorder.key);
        self.recorder.flight = None;
    }

    fn finish(&mut self) {
        let Some(mut stored) = self.stored.take() else { return };
        let size = self.copy.len() as u64;
        if self.declared.is_none_or(|declared| declared == size) {
            stored.body = std::mem::take(&mut self.copy).freeze();
            // Told apart from chunked bodies no more: what is kept has a known length.
            stored.headers.insert(CONTENT_LENGTH, http::HeaderValue::from(size));
            self.recorder.cache.shards.insert(&self.recorder.key, Arc::new(stored));
        }
        self.recorder.flight = None;
    }
}

impl HttpBody for Copying {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.body).poll_frame(cx);
        match &poll {
            Poll::Ready(Some(Ok(frame))) if this.stored.is_some() => match frame.data_ref() {
                Some(data)
                    if (this.copy.len() + data.len()) as u64 <= this.recorder.cache.max_entry =>
                {
                    this.copy.extend_from_slice(data);
                    // Whoever sends a body of a known length asks for no more than that.
                    let size = this.copy.len() as u64;
                    if this.declared == Some(size) || this.body.is_end_stream() {
                        this.finish();
                    }
                }
                // Too large, or trailers.
                _ => this.give_up(),
            },
            Poll::Ready(Some(Err(_))) => this.give_up(),
            Poll::Ready(None) => this.finish(),
            _ => {}
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        // The end must be seen, or an empty body would never be kept.
        self.stored.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
