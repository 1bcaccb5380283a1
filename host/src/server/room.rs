//! A request's way to a room.
//!
//! Owns the glue between HTTP and rooms: the 101 (or, over HTTP/2, the 200), the move of the socket to its room's
//! thread, and plain requests. What must hold before a socket is let in, `rooms::door` decides.

use super::failure::{self, CallerRefusal, Refusal};
use super::gate::{Passed, Vouched};
use super::limit::Limited;
use super::service::House;
use super::timed_io::TimedIo;
use super::unread::Sent;
use crate::body::{Body, BodyError};
use crate::config;
use crate::plugins::Slot;
use crate::rooms::socket::Stream;
use crate::rooms::{Asked, Opened, door};
use crate::storage::rooms::RoomKey;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
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

/// What a request for a room found on its way.
pub(super) struct Seat<'a> {
    /// The plugin.
    pub(super) slot: &'a Slot,
    /// Its rooms.
    pub(super) limits: &'a config::Rooms,
    /// Which segment of the path is the room's name.
    pub(super) at: usize,
    /// The host that the request is for.
    pub(super) host: &'a str,
    /// What the gate found.
    pub(super) passed: &'a Passed,
}

/// The room that a request is for.
fn key(slot: &Slot, at: usize, parts: &Parts) -> Result<RoomKey, door::Closed> {
    let name = door::name(parts.uri.path(), at)?;
    Ok(RoomKey { plugin: slot.plugin.name.as_str().into(), name: name.into() })
}

impl House {
    /// Looks at a one-time ticket, if a handshake shows one, and leaves for the gate whom it vouches for.
    pub(super) fn take_ticket(&self, slot: &Slot, at: usize, parts: &mut Parts) {
        // Without `auth` there are no tickets, and the word is the room's own.
        if slot.plugin.auth.is_none() || !door::wants_websocket(parts) {
            return;
        }
        if let Some(ticket) = door::lift_ticket(parts) {
            let key = key(slot, at, parts).ok();
            let found = key.and_then(|key| self.gate.tickets.take(&key.to_string(), &ticket));
            parts.extensions.insert(Vouched(found));
        }
    }

    /// A request for a room.
    pub(super) async fn room(&self, seat: Seat<'_>, parts: Parts, body: Sent) -> Response<Body> {
        let Seat { slot, limits, at, host, passed } = seat;
        let key = match key(slot, at, &parts) {
            Ok(key) => key,
            Err(closed) => return failure::response(&Refusal::Door(closed)),
        };
        if door::wants_websocket(&parts) {
            self.open_socket(limits, key, host, parts).await
        } else if parts.method == Method::CONNECT {
            // Another protocol over HTTP/2: what comes then is no body.
            failure::response(&Refusal::Door(door::Closed::Handshake))
        } else if slot.plugin.auth.is_some() && door::wants_ticket(&parts) {
            self.give_ticket(&key, limits, host, passed, &parts)
        } else {
            self.plain(slot, limits, key, parts, body).await
        }
    }

    fn give_ticket(
        &self,
        key: &RoomKey,
        limits: &config::Rooms,
        host: &str,
        passed: &Passed,
        parts: &Parts,
    ) -> Response<Body> {
        if !door::may_come_from(&parts.headers, host, &limits.origins) {
            return failure::response(&Refusal::Door(door::Closed::Origin));
        }
        let Some(principal) = passed.principal() else {
            let reason = "token-missing";
            let refusal = CallerRefusal::Unauthorized { reason, shown: false };
            return failure::response(&Refusal::Caller(refusal));
        };
        let given = self.gate.tickets.give(&key.to_string(), principal.clone(), limits.ticket);
        let ticket = match given {
            Ok(ticket) => ticket,
            Err(error) => {
                tracing::warn!("a ticket was refused: {error}");
                let refusal = CallerRefusal::Unavailable("tickets-used-up");
                return failure::response(&Refusal::Caller(refusal));
            }
        };
        let expires_in = limits.ticket.as_secs();
        let text = serde_json::json!({ "ticket": ticket, "expires_in": expires_in }).to_string();
        let mut response = Response::new(Body::from(text + "\n"));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(door::TICKET));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
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
        let caller = parts.extensions.remove();
        let request = door::to_room(&parts, Vec::new());
        let opened = self.rooms.connect(&key, request, caller, handshake.offered, limits).await;
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
        body: Sent,
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
        let caller = parts.extensions.remove();
        let request = door::to_room(&parts, body);
        let asked = Asked { request, caller, waiting: Arc::default() };
        match self.rooms.request(&key, asked, limits).await {
            Ok(response) => door::from_room(response),
            Err(reason) => failure::response(&Refusal::Room(&reason)),
        }
    }
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
