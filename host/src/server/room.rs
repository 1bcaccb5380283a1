//! A request's way to a room.
//!
//! Owns the glue between HTTP and rooms: the 101 (or, over HTTP/2, the 200), the move of the socket to its room's
//! thread, and plain requests. What must hold before a socket is let in, `rooms::door` decides.

use super::failure::{self, Refusal};
use super::limit::Limited;
use super::service::House;
use super::timed_io::TimedIo;
use crate::auth::Caller;
use crate::body::{Body, BodyError};
use crate::config;
use crate::plugins::Slot;
use crate::rooms::socket::Stream;
use crate::rooms::{Opened, door};
use crate::storage::rooms::RoomKey;
use guesthouse_bindings::rooms::types::Principal;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use std::sync::Arc;

/// Bytes of a request to a room: it is handed to the room whole.
const MOST_BODY: u64 = 16 << 20;

/// What counts a connection as open, as long as anyone holds it.
#[derive(Clone)]
pub(super) struct Held {
    _counted: Arc<dyn std::any::Any + Send + Sync>,
}

impl Held {
    pub(super) fn new(counted: Arc<dyn std::any::Any + Send + Sync>) -> Self {
        Self { _counted: counted }
    }
}

impl House {
    /// A request for the room whose name is in segment `at` of the path.
    pub(super) async fn room(
        &self,
        slot: &Slot,
        limits: &config::Rooms,
        at: usize,
        host: &str,
        parts: Parts,
        body: Incoming,
    ) -> Response<Body> {
        let name = match door::name(parts.uri.path(), at) {
            Ok(name) => name,
            Err(closed) => return failure::response(&Refusal::Door(closed)),
        };
        let key = RoomKey { plugin: slot.plugin.name.as_str().into(), name: name.into() };
        if door::wants_websocket(&parts) {
            self.open_socket(limits, key, host, parts).await
        } else {
            self.plain(slot, limits, key, parts, body).await
        }
    }

    async fn open_socket(
        &self,
        limits: &config::Rooms,
        key: RoomKey,
        host: &str,
        mut parts: Parts,
    ) -> Response<Body> {
        // What hyper leaves with a request that asks to speak another protocol.
        let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            return failure::response(&Refusal::Door(door::Closed::Handshake));
        };
        let handshake = match door::check(&parts, host, limits) {
            Ok(handshake) => handshake,
            Err(closed) => return failure::response(&Refusal::Door(closed)),
        };
        let held = parts.extensions.remove::<Held>();
        let (principal, expires_at) = verified(&mut parts);
        let request = door::to_room(&parts, Vec::new(), principal.clone());
        let opened = self
            .rooms
            .connect(&key, request, principal, expires_at, handshake.offered, limits)
            .await;
        let (socket, subprotocol) = match opened {
            Opened::Accepted { socket, subprotocol } => (socket, subprotocol),
            Opened::Refused(response) => return door::from_room(response),
            Opened::Failed(reason) => return failure::response(&Refusal::Room(&reason)),
        };
        let rooms = self.rooms.clone();
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let (stream, already_read) = take(upgraded);
                    rooms.serve(&key, socket, stream, already_read, held);
                }
                // The client was gone before the 101 reached it.
                Err(_) => rooms.lost(&key, &socket),
            }
        });
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        if let Some(subprotocol) = subprotocol
            && let Ok(value) = HeaderValue::from_str(&subprotocol)
        {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        if let Some(accept) = handshake.accept {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        response
    }

    async fn plain(
        &self,
        slot: &Slot,
        limits: &config::Rooms,
        key: RoomKey,
        mut parts: Parts,
        body: Incoming,
    ) -> Response<Body> {
        let limit = slot.plugin.limits.body.min(MOST_BODY);
        let body = Limited::new(body, limit, self.idle, Arc::default());
        let body = match body.collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(BodyError::TooLarge { limit }) => {
                return failure::response(&Refusal::BodyTooLarge(limit));
            }
            // Nobody is there to read what is answered.
            Err(_) => return failure::response(&Refusal::Door(door::Closed::Handshake)),
        };
        let (principal, _) = verified(&mut parts);
        match self.rooms.request(&key, door::to_room(&parts, body, principal), limits).await {
            Ok(response) => door::from_room(response),
            Err(reason) => failure::response(&Refusal::Room(&reason)),
        }
    }
}

/// Who the gate found the client to be, as a room knows it, and until when that holds.
fn verified(parts: &mut Parts) -> (Option<Principal>, Option<u64>) {
    let caller: Option<Arc<Caller>> = parts.extensions.remove();
    let Some(found) = caller.and_then(|caller| caller.principal.clone()) else {
        return (None, None);
    };
    let principal =
        Principal { subject: found.subject.clone(), claims_json: found.claims_json.clone() };
    (Some(principal), found.expires_at)
}

type Take = Box<dyn FnOnce() -> std::io::Result<Box<dyn Stream>> + Send>;

/// The connection behind an upgrade, ready to go to another thread, and what was read of it already.
fn take(upgraded: Upgraded) -> (Take, Vec<u8>) {
    match downcast::<TokioIo<TimedIo>>(upgraded) {
        Ok(parts) => {
            // Out of this thread's reactor here, into that of the room's thread there.
            let stream = parts.io.into_inner().into_stream().into_std();
            let take = move || {
                let stream = tokio::net::TcpStream::from_std(stream?)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            };
            (Box::new(take), parts.read_buf.to_vec())
        }
        // A stream of HTTP/2 is woken by its connection, wherever it is polled.
        Err(upgraded) => {
            (Box::new(move || Ok(Box::new(TokioIo::new(upgraded)) as Box<dyn Stream>)), Vec::new())
        }
    }
}
