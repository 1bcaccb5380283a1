//! A request's way through the house.
//!
//! Owns the order of the steps: id, route, limits, caller, cache, plugin, failure, access log. Each step is a call
//! into the module that owns it; nothing is decided here but the order.

use super::access_log::{AccessLog, Entry};
use super::asking;
use super::failure::{self, Refusal};
use super::gate::{Gate, Passed};
use super::preflight;
use super::request_id;
use super::room::{Held, Seat};
use super::unread::{Sent, Unread};
use crate::answers::Answers;
use crate::body::{Body, BodyError, declared_length};
use crate::cache::Decision;
use crate::headers::X_REQUEST_ID;
use crate::plugins::{Canary, Plugins, Slot, Target};
use crate::rooms::{Rooms, door};
use crate::routing::Found;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

/// What serves requests.
pub struct House {
    /// All plugins, and the routes to them.
    pub plugins: Arc<Plugins>,
    /// All rooms.
    pub rooms: Arc<Rooms>,
    /// Who may pass.
    pub gate: Gate,
    /// The access log; none when it is switched off.
    pub log: Option<AccessLog>,
    /// How long a client may be silent in the middle of a body.
    pub idle: Duration,
    /// What was answered that belongs to no plugin.
    pub answers: Answers,
    /// Connections of clients at the moment.
    pub connections: Arc<AtomicUsize>,
}

/// The service of one connection.
pub(super) fn connection(
    house: Arc<House>,
    peer: SocketAddr,
    held: Held,
    unread: Unread,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Logged>,
    Error = Infallible,
    Future = Answering,
> {
    hyper::service::service_fn(move |request| house.serve(unread.watch(request), peer, &held))
}

/// An answer on its way. What the house knows by itself, a kept response above all, is there at once, and costs no
/// task and no future that is as large as everything that a request may meet.
pub(super) enum Answering {
    /// It is there.
    Ready(Option<Box<Response<Logged>>>),
    /// Somebody is asked.
    Running(BoxFuture<'static, Response<Logged>>),
}

impl Future for Answering {
    type Output = Result<Response<Logged>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(*response)),
                None => Poll::Pending,
            },
            Self::Running(future) => future.as_mut().poll(cx).map(Ok),
        }
    }
}

/// What the end of a request needs from its beginning.
struct Opening {
    began: Instant,
    id: HeaderValue,
    entry: Option<Entry>,
    is_head: bool,
}

/// A request that somebody must be asked about.
struct Asking {
    slot: Arc<Slot>,
    /// Which may be the one instead, as soon as it is known who calls.
    canary: Option<Arc<Canary>>,
    room: Option<usize>,
    host: String,
    /// None: the gate must look first.
    passed: Option<Passed>,
    /// What the cache said, when it was asked.
    decision: Option<Decision>,
    parts: Parts,
    body: Sent,
}

/// How far a request comes without waiting.
enum AtOnce {
    /// Which plugin it was, and what the house says.
    Answered(Option<Arc<Slot>>, Response<Body>),
    /// No answer yet.
    Asking(Box<Asking>),
}

impl House {
    fn serve(self: &Arc<Self>, request: Request<Sent>, peer: SocketAddr, held: &Held) -> Answering {
        let opening = self.open(&request, peer);
        match self.at_once(request, peer, &opening.id, held) {
            AtOnce::Answered(slot, response) => {
                Answering::Ready(Some(Box::new(self.close(opening, slot, response))))
            }
            AtOnce::Asking(asking) => {
                let house = self.clone();
                Answering::Running(Box::pin(async move {
                    let (slot, response) = house.answer(*asking, peer).await;
                    house.close(opening, Some(slot), response)
                }))
            }
        }
    }

    fn open(&self, request: &Request<Sent>, peer: SocketAddr) -> Opening {
        let id = request_id::of(request.headers());
        let entry = self.log.is_some().then(|| Entry {
            at: SystemTime::now(),
            peer,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            version: request.version(),
            status: 0,
            plugin: None,
            bytes: 0,
            took: Duration::ZERO,
            id: id.clone(),
            cut: false,
        });
        let is_head = request.method() == http::Method::HEAD;
        Opening { began: Instant::now(), id, entry, is_head }
    }

    fn close(
        self: &Arc<Self>,
        opening: Opening,
        slot: Option<Arc<Slot>>,
        mut response: Response<Body>,
    ) -> Response<Logged> {
        let Opening { began, id, entry, is_head } = opening;
        let answers = slot.as_ref().map_or(&self.answers, |slot| &slot.answers);
        answers.count(response.status().as_u16(), began.elapsed());
        response.headers_mut().insert(X_REQUEST_ID, id);
        if slot.as_ref().is_some_and(|slot| slot.plugin.preflight) {
            preflight::make_readable(&mut response);
        }
        let declared = declared_length(response.headers());
        let bodyless = matches!(response.status().as_u16(), 100..=199 | 204 | 304);
        let line = entry.map(|mut entry| {
            entry.status = response.status().as_u16();
            entry.plugin = slot.as_ref().map(|slot| slot.plugin.clone());
            Box::new(Line { entry: Some(entry), began, house: self.clone() })
        });
        response.map(|body| {
            let known = declared.or(body.size_hint().exact());
            let left = if is_head || bodyless { Some(0) } else { known };
            let ended = left == Some(0) || body.is_end_stream();
            Logged { body, line, left, ended, _slot: slot }
        })
    }

    /// As far as it goes without waiting for anybody.
    fn at_once(
        &self,
        request: Request<Sent>,
        peer: SocketAddr,
        id: &HeaderValue,
        held: &Held,
    ) -> AtOnce {
        let Some(host) = host(&request) else {
            return AtOnce::Answered(None, failure::response(&Refusal::Host));
        };
        // Taken once: whatever is deployed meanwhile, this request is of one deployment.
        let active = self.plugins.active();
        let Target { mut slot, room, mut canary } =
            match active.find(request.method(), Some(host), request.uri().path()) {
                Found::Route(target) => target.clone(),
                Found::MethodNotAllowed { allow } => {
                    return AtOnce::Answered(None, failure::response(&Refusal::Method(allow)));
                }
                Found::None => {
                    return AtOnce::Answered(None, failure::response(&Refusal::NoRoute));
                }
            };
        drop(active);
        // Whom a verified caller gets is decided when they are verified.
        if let Some(canary) = canary.take_if(|_| room.is_some() || slot.plugin.auth.is_none())
            && self.falls_to(&canary, room, &request, peer)
        {
            slot = canary.slot.clone();
        }
        let limit = slot.plugin.limits.body;
        if declared_length(request.headers()).is_some_and(|length| length > limit) {
            let refusal = failure::response(&Refusal::BodyTooLarge(limit));
            return AtOnce::Answered(Some(slot), refusal);
        }
        let host = room.map(|_| host.to_owned()).unwrap_or_default();
        let (mut parts, body) = request.into_parts();
        if let Some(at) = room {
            door::lift_token(&mut parts);
            parts.extensions.insert(held.clone());
            self.take_ticket(&slot, at, &mut parts);
        }
        let passed = self.gate.pass_at_once(&slot.plugin, &mut parts);
        let decision = match (&passed, room, &slot.cache) {
            (Some(_), None, Some(cache)) => match cache.start(&mut parts) {
                Decision::Answer(response) => return AtOnce::Answered(Some(slot), response),
                decision => Some(decision),
            },
            _ => None,
        };
        parts.headers.insert(X_REQUEST_ID, id.clone());
        AtOnce::Asking(Box::new(Asking { slot, canary, room, host, passed, decision, parts, body }))
    }

    /// Whether a canary is the one that is asked, for a room or for whoever is at this address.
    fn falls_to<B>(
        &self,
        canary: &Canary,
        room: Option<usize>,
        request: &Request<B>,
        peer: SocketAddr,
    ) -> bool {
        match room {
            Some(at) => {
                door::name(request.uri().path(), at).is_ok_and(|name| canary.runs_room(&name))
            }
            None => {
                let address = self.gate.address(peer, request.headers());
                canary.serves_caller(None, address)
            }
        }
    }

    /// What whoever must be asked says.
    async fn answer(&self, asking: Asking, peer: SocketAddr) -> (Arc<Slot>, Response<Body>) {
        let Asking { mut slot, canary, room, host, passed, decision, mut parts, body } = asking;
        let passed = match passed {
            Some(passed) => passed,
            None => match self.gate.pass(&slot.plugin, &mut parts, peer).await {
                Ok(passed) => passed,
                Err(refused) => return (slot, refused),
            },
        };
        if let Some(canary) = canary {
            let address = self.gate.address(peer, &parts.headers);
            let principal = passed.principal().map(Arc::as_ref);
            if canary.serves_caller(principal, address) {
                slot = canary.slot.clone();
            }
        }
        if let Some(caller) = &passed.caller {
            parts.extensions.insert(caller.clone());
        }
        let response = match (room, &slot.plugin.rooms) {
            (Some(at), Some(limits)) => {
                let seat = Seat { slot: &slot, limits, at, host: &host, passed: &passed };
                self.room(seat, parts, body).await
            }
            _ => self.through_cache(&slot, &passed, decision, parts, body).await,
        };
        (slot, passed.finish(response))
    }

    async fn through_cache(
        &self,
        slot: &Slot,
        passed: &Passed,
        mut decision: Option<Decision>,
        mut parts: Parts,
        body: Sent,
    ) -> Response<Body> {
        let Some(cache) = &slot.cache else { return self.ask(slot, parts, body).await };
        // What a verified caller reads is for that caller: it neither comes from the cache nor goes there.
        if passed.is_verified() && matches!(parts.method, http::Method::GET | http::Method::HEAD) {
            return self.ask(slot, parts, body).await;
        }
        loop {
            match decision.take().unwrap_or_else(|| cache.start(&mut parts)) {
                Decision::Answer(response) => return response,
                Decision::Bypass => return self.ask(slot, parts, body).await,
                Decision::Wait(other) => other.await,
                Decision::Forward(recorder) => {
                    let response = self.ask(slot, parts, body).await;
                    return recorder.record(response);
                }
            }
        }
    }

    /// Asks the plugin.
    async fn ask(&self, slot: &Slot, parts: Parts, body: Sent) -> Response<Body> {
        asking::ask(slot, Request::from_parts(parts, body), self.idle, None).await
    }
}

/// The host that the client means: the authority of HTTP/2 and of absolute URIs, else the Host header,
/// of which there must be exactly one (RFC 9112 §3.2).
fn host<B>(request: &Request<B>) -> Option<&str> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let header = named.next().map(HeaderValue::to_str).transpose().ok()?;
    if named.next().is_some() {
        return None;
    }
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => header?,
    };
    host.parse::<http::uri::Authority>().ok().map(|_| host)
}

/// A line of the access log in the making; written when the body has ended.
struct Line {
    entry: Option<Entry>,
    began: Instant,
    house: Arc<House>,
}

/// A response body that is counted.
pub(super) struct Logged {
    body: Body,
    line: Option<Box<Line>>,
    /// Bytes still to come, when their number is known: whoever sends them asks for no more.
    left: Option<u64>,
    ended: bool,
    /// The version that answers is there until its answer has ended. Dropped last.
    _slot: Option<Arc<Slot>>,
}

impl Drop for Logged {
    fn drop(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        if let (Some(log), Some(mut entry)) = (&line.house.log, line.entry.take()) {
            entry.took = line.began.elapsed();
            entry.cut = !self.ended;
            log.record(entry);
        }
    }
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        match &poll {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(line)) = (frame.data_ref(), &mut self.line)
                    && let Some(entry) = &mut line.entry
                {
                    entry.bytes = entry.bytes.saturating_add(data.len() as u64);
                }
                if let Some(data) = frame.data_ref() {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                }
                if self.left == Some(0) || self.body.is_end_stream() {
                    self.ended = true;
                }
            }
            Poll::Ready(None) => self.ended = true,
            _ => {}
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
