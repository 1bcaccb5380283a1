//! The operator's API.
//!
//! Owns the second door of the house. Everything but the bare "are you there?" and the dashboard's page, which has
//! nothing in it, needs the token. Nothing is answered to any other web page: a request with a foreign `Origin`,
//! or for a host that is not this door's own address, comes from a browser that someone lured here.
//! docs/admin-api.md lists the calls.

mod canary;
mod dashboard;
mod deployments;
mod error;
mod kv;
mod metrics;
mod rooms;
mod token;
mod turn;

pub use token::Token;

use crate::answers::{Answers, BOUNDS};
use crate::body::Body;
use crate::cache::ResponseCache;
use crate::engine::Engine;
use crate::plugins::{Plugins, Slot, State};
use crate::rooms::Rooms;
use crate::server::House;
use crate::storage::Store;
use crate::turn::Relay;
use bytes::Bytes;
use error::{ApiError, json_response};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where a browser says that a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Answer = Result<Response<Body>, ApiError>;

/// The API and what it acts on.
pub struct Admin {
    store: Arc<dyn Store>,
    plugins: Arc<Plugins>,
    rooms: Arc<Rooms>,
    house: Arc<House>,
    cache: Option<Arc<ResponseCache>>,
    engine: Arc<Engine>,
    relay: Option<Arc<Relay>>,
    token: Token,
    address: SocketAddr,
    since: SystemTime,
}

/// Serves until `shutdown`.
pub async fn serve(admin: Arc<Admin>, listener: TcpListener, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("no admin connection could be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        _ = stream.set_nodelay(true);
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(admin.handle(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("admin connection ended: {error}");
            }
        });
    }
}

impl Admin {
    /// The API for this house, at this address.
    pub fn new(
        store: Arc<dyn Store>,
        house: Arc<House>,
        cache: Option<Arc<ResponseCache>>,
        engine: Arc<Engine>,
        relay: Option<Arc<Relay>>,
        token: Token,
        address: SocketAddr,
    ) -> Arc<Self> {
        let (plugins, rooms) = (house.plugins.clone(), house.rooms.clone());
        let since = SystemTime::now();
        Arc::new(Self { store, plugins, rooms, house, cache, engine, relay, token, address, since })
    }

    /// Answers one call.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        match self.route(request).await {
            Ok(response) => response,
            Err(error) => {
                let mut response = error.response();
                if error.status == StatusCode::UNAUTHORIZED {
                    response.headers_mut().insert(
                        header::WWW_AUTHENTICATE,
                        HeaderValue::from_static("Bearer realm=\"guesthouse admin\""),
                    );
                }
                response
            }
        }
    }

    async fn route<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let is_page = request.uri().path() == "/" && request.method() == Method::GET;
        self.refuse_browsers(request.headers(), is_page)?;
        if is_page {
            return Ok(dashboard::page());
        }
        let path = request.uri().path().to_owned();
        let segments: Vec<String> = path
            .trim_start_matches('/')
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8().map(|text| text.into_owned()))
            .collect::<Result<_, _>>()
            .map_err(|_| ApiError::invalid("The path is not UTF-8 once decoded."))?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let authorized = self.token.is_in(request.headers());
        if segments == ["v1", "health"] && !authorized {
            return Ok(json_response(StatusCode::OK, &json!({"status": "ok"})));
        }
        if !authorized {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "The admin API needs the token of this house: `Authorization: Bearer …`, from the file \
                 admin-token of the data folder.",
            ));
        }
        let method = request.method().clone();
        match (method.as_str(), segments.as_slice()) {
            ("GET", ["metrics"]) => Ok(metrics::answer(self)),
            ("GET", ["v1", "health"]) => Ok(json_response(StatusCode::OK, &self.health())),
            ("GET", ["v1", "plugins"]) => {
                let active = self.plugins.active();
                let all: Vec<Value> =
                    active.slots().keys().map(|name| canary::status(&active, name)).collect();
                Ok(json_response(StatusCode::OK, &json!({"plugins": all})))
            }
            ("GET", ["v1", "plugins", name]) => {
                self.slot(name)?;
                let status = canary::status(&self.plugins.active(), name);
                Ok(json_response(StatusCode::OK, &status))
            }
            ("POST", ["v1", "plugins", name, "purge"]) => {
                self.slot(name)?;
                let purged = self.purge(name);
                Ok(json_response(StatusCode::OK, &json!({"purged": purged})))
            }
            (_, ["v1", "deployments"])
            | ("GET", ["v1", "plugins", _, "versions"])
            | ("POST", ["v1", "plugins", _, "promote" | "rollback"]) => {
                deployments::route(self, request, &segments).await
            }
            (method, ["v1", "rooms", rest @ ..]) => {
                rooms::route(self, method, request.uri().query(), rest).await
            }
            (method, ["v1", "turn", rest @ ..]) => turn::route(self, method, rest),
            (_, ["v1", "kv", rest @ ..]) => kv::route(self, request, rest).await,
            (_, [""] | ["metrics"] | ["v1", "health" | "plugins", ..]) if method != Method::GET => {
                Err(ApiError::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method",
                    format!("{method} is not a method of {path}."),
                ))
            }
            _ => Err(ApiError::not_found(format!(
                "There is no call {method} {path}; docs/admin-api.md lists them."
            ))),
        }
    }

    /// DNS rebinding and forged cross-site requests come with a foreign host or an origin. The dashboard's own
    /// requests come with neither; to its page a link may lead from anywhere, and it is in no frame.
    fn refuse_browsers(&self, headers: &http::HeaderMap, is_page: bool) -> Result<(), ApiError> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        let name = host
            .parse::<http::uri::Authority>()
            .map(|authority| authority.host().trim_matches(['[', ']']).to_owned())
            .unwrap_or_default();
        let own = name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(|ip| {
                ip.is_loopback() || ip == self.address.ip() || self.address.ip().is_unspecified()
            });
        let foreign = headers.contains_key(header::ORIGIN)
            && text(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) != Some(host);
        let site = text(SEC_FETCH_SITE);
        let lured = !is_page && site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
        if foreign || lured || !own {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "not-for-browsers",
                "The admin API answers programs and its own dashboard, by its own address, and no other web \
                 pages.",
            ));
        }
        Ok(())
    }

    fn slot(&self, name: &str) -> Result<Arc<Slot>, ApiError> {
        let active = self.plugins.active();
        active.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = active.slots().keys().map(String::as_str).collect();
            ApiError::not_found(format!(
                "There is no plugin `{name}`; this house has: {}.",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ))
        })
    }

    /// Empties a plugin's part of the response cache, that of its canary too. Whether it has one.
    fn purge(&self, name: &str) -> bool {
        let active = self.plugins.active();
        let caches = active.versions(name).filter_map(|slot| slot.cache.as_ref());
        caches.inspect(|cache| cache.purge()).count() > 0
    }

    fn health(&self) -> Value {
        let decisions = self.engine.decisions();
        json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "engine": {
                "pooling": decisions.pooling,
                "why": decisions.pooling_reason,
                "pagemap_scan": decisions.pagemap_scan,
                "slots": decisions.slots,
                "compilations": self.engine.compilations(),
            },
            "deployment": deployments::summary(&self.plugins),
            "connections": self.house.connections.load(Relaxed),
            "answers": show_answers(&self.house.answers),
            "cache": self.cache.as_ref().map(|cache| cache.stats()),
            "turn": self.relay.as_ref().map(|relay| json!({
                "allocations": relay.server().allocations(),
                "connections": relay.connections(),
            })),
            "plugins": self.plugins.active().slots().values().map(|slot| {
                let (state, _) = state(slot);
                (slot.plugin.name.clone(), json!(state))
            }).collect::<serde_json::Map<_, _>>(),
        })
    }

    async fn read_body<B>(body: B, most: usize) -> Result<Bytes, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let body = http_body_util::Limited::new(
            body.map_err(|error| std::io::Error::other(error.to_string())),
            most,
        );
        Ok(body
            .collect()
            .await
            .map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    ApiError::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "too-large",
                        format!("This call takes at most {most} bytes; send less at a time."),
                    )
                } else {
                    ApiError::invalid("The body was cut off.")
                }
            })?
            .to_bytes())
    }
}

fn state(slot: &Slot) -> (&'static str, Option<String>) {
    match slot.state() {
        State::Compiling => ("compiling", None),
        State::Serving => ("serving", None),
        State::Failed(why) => ("failed", Some(why)),
    }
}

/// Answers by the class of their status, and by the time until their head was there: pairs of an upper bound in
/// microseconds and a count; the last has no bound.
fn show_answers(answers: &Answers) -> Value {
    let sum = answers.sum();
    let statuses: serde_json::Map<String, Value> = (1..)
        .zip(sum.statuses)
        .map(|(class, count)| (format!("{class}xx"), count.into()))
        .collect();
    let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
    let times: Vec<(Option<u64>, u64)> = bounds.zip(sum.times).collect();
    json!({ "statuses": statuses, "times": times, "micros": sum.micros })
}

/// What an operator wants to know of a plugin. Secrets by name only.
fn status(slot: &Slot) -> Value {
    let plugin = &slot.plugin;
    let (state, message) = state(slot);
    let version = slot.active();
    json!({
        "name": plugin.name,
        "state": state,
        "message": message,
        "number": slot.number,
        "digest": slot.digest,
        "component": plugin.component,
        "routes": plugin.routes.iter().map(|route| route.text.as_str()).collect::<Vec<_>>(),
        "kv": plugin.kv,
        "calls": plugin.calls,
        "secrets": plugin.secrets,
        "config": plugin.config,
        "cache": slot.cache.is_some(),
        "answers": show_answers(&slot.answers),
        "version": version.as_ref().map(|version| json!({
            "digest": version.digest,
            "size": version.size,
            "interface": version.interface(),
            "requests": version.counters.requests.load(Relaxed),
            "running": version.running(),
            "queued": version.queued(),
            "breaker": version.breaker(),
            "failures": version.counters.failures.load(Relaxed),
            "instances_made": version.counters.instances.load(Relaxed),
            "instances_waiting": version.waiting_instances(),
            "moved_to_slow_lane": version.counters.moved.load(Relaxed),
            "cpu_micros": version.counters.cpu.load(Relaxed),
        })),
    })
}
