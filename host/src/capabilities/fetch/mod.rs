//! Outbound HTTP ("fetch"): `wasi:http/outgoing-handler` 0.2, `wasi:http/client` 0.3, `guesthouse:fetch`.
//!
//! Owns what happens between a guest's request and a server's answer. Nothing leaves that was not granted,
//! nothing is buffered, and secrets that the host adds are in no memory that a guest can read.
//!
//! | file | owns |
//! |---|---|
//! | `calls` | requests to other plugins of the house |
//! | `policy` | which addresses a connection may go to |
//! | `network` | resolving, checking, connecting, TLS |
//! | `body` | sizes, silence, and the end of interest |
//! | `told` | how often the operator is told |
//!
//! Each destination of each plugin has pools of its own, one for each thread: a connection that was opened
//! for one plugin, with its credentials, never carries another's request, and a request is answered on the
//! thread that it runs on.

mod body;
mod calls;
mod network;
pub mod policy;
mod told;

pub use calls::{Call, Calls, Neighbours, Party};
pub use network::{Network, Resolve};

use crate::auth::Caller;
use crate::config::Limits;
use crate::config::fetch::{FetchGrant, Inject, Piece, Target};
use crate::config::secrets::SecretText;
use crate::headers::strip;
use body::{Outgoing, OutgoingError, Progress, Returning};
use guesthouse_bindings::guesthouse::fetch::grants;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use network::{ConnectError, Connector, Route};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use told::Told;
use wasmtime::Result as Trappable;
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// How long a connection is kept for the next request.
const KEEP_IDLE: Duration = Duration::from_secs(60);
/// Idle connections of one destination on one thread.
const MOST_IDLE: usize = 32;
/// Bytes of the head of a response.
const MAX_HEAD: usize = 256 << 10;
/// Header fields of a response.
const MAX_FIELDS: usize = 200;

/// One destination of a plugin, ready for requests.
struct Destination {
    route: Arc<Route>,
    /// What is added to each request, or the secrets that are missing for it.
    inject: Result<Vec<(HeaderName, HeaderValue)>, Vec<String>>,
    clients: RwLock<HashMap<ThreadId, Client<Connector, Outgoing>>>,
}

impl Destination {
    /// The client of this thread.
    fn client(&self) -> Client<Connector, Outgoing> {
        let thread = std::thread::current().id();
        if let Some(client) = self.clients.read().get(&thread) {
            return client.clone();
        }
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .http1_max_buf_size(MAX_HEAD)
            .http1_max_headers(MAX_FIELDS)
            .http2_max_header_list_size(MAX_HEAD as u32)
            .http2_keep_alive_interval(Some(Duration::from_secs(20)))
            .build(Connector(self.route.clone()));
        self.clients.write().entry(thread).or_insert(client).clone()
    }
}

/// Where one request goes.
enum Way<'a> {
    /// Out of the house, with these fields.
    Network {
        target: Target,
        destination: &'a Destination,
        inject: &'a [(HeaderName, HeaderValue)],
    },
    /// To the plugin of this name.
    Plugin(Arc<str>),
}

impl std::fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network { target, .. } => target.fmt(f),
            Self::Plugin(name) => write!(f, "plugin `{name}`"),
        }
    }
}

/// The body that came back.
enum Answer {
    Network(hyper::body::Incoming),
    Plugin(crate::body::Body),
}

/// Which request an instance works on, when it asks others.
#[derive(Clone, Default)]
struct Origin {
    /// Cancelled when the client has gone away.
    gone: Option<CancellationToken>,
    /// Who called, and through which plugins.
    caller: Option<Arc<Caller>>,
}

/// The destinations that one plugin was granted.
pub struct FetchGrants {
    told: Told,
    destinations: Vec<Destination>,
    calls: Calls,
    limits: Limits,
    places: Arc<Semaphore>,
}

impl FetchGrants {
    /// *Configure*: reads roots when TLS is granted, and puts the secrets into their places.
    #[must_use]
    pub fn new(
        plugin: &str,
        grants: &[FetchGrant],
        secrets: &BTreeMap<String, SecretText>,
        limits: Limits,
        network: &Arc<Network>,
        calls: Calls,
    ) -> Arc<Self> {
        let told = Told::new(plugin, limits.log);
        if grants.iter().any(|grant| grant.url.tls)
            && let Err(error) = network.tls()
        {
            tracing::warn!(plugin, "outbound TLS will fail: {error}");
        }
        let destination = |grant: &FetchGrant| Destination {
            inject: fields(&grant.inject, secrets),
            route: Arc::new(Route {
                network: network.clone(),
                told: told.clone(),
                grant: grant.clone(),
                limit: limits.outbound_connect,
            }),
            clients: RwLock::default(),
        };
        Arc::new(Self {
            destinations: grants.iter().map(destination).collect(),
            calls,
            limits,
            places: Arc::new(Semaphore::new(limits.outbound as usize)),
            told,
        })
    }

    /// Whether there is any destination.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty() && self.calls.is_empty()
    }

    fn find(&self, target: &Target, path: &str) -> Option<&Destination> {
        self.destinations.iter().find(|each| each.route.grant.url.matches(target, path))
    }

    fn deny(&self, uri: &http::Uri, why: &str) -> Error {
        // The path and query may hold what is nobody's business.
        let host = uri.host().unwrap_or("?");
        self.told.say(|plugin| {
            tracing::warn!(plugin, host, "an outbound request to `{host}` was denied: {why}");
        });
        Error::HttpRequestDenied
    }

    /// Where a request goes.
    fn way(&self, uri: &http::Uri) -> Result<Way<'_>, Error> {
        let target = Target::of(uri).map_err(|why| self.deny(uri, &format!("the URL {why}")))?;
        let callee = calls::callee(&target);
        if let Some(name) = callee.filter(|name| self.calls.is_granted(name)) {
            return Ok(Way::Plugin(name.into()));
        }
        let Some(destination) = self.find(&target, uri.path()) else {
            let line = match callee {
                Some(name) => format!(
                    "add \"{name}\" to `calls` of [plugins.{0}], if the plugin `{name}` is meant, or \
                     \"{target}\" to its `fetch`",
                    self.told.plugin()
                ),
                None => format!("add \"{target}\" to `fetch` of [plugins.{}]", self.told.plugin()),
            };
            let why = format!("no grant reaches it. To allow it, {line}");
            return Err(self.deny(uri, &why));
        };
        let inject = destination.inject.as_ref().map_err(|missing| {
            self.told.say(|plugin| {
                tracing::warn!(
                    plugin,
                    destination = %target,
                    "an outbound request was refused: the secret `{}` that it is sent with is not set",
                    missing.join("`, `")
                );
            });
            Error::ConfigurationError
        })?;
        Ok(Way::Network { target, destination, inject })
    }

    /// A place among the plugin's outbound requests.
    async fn place(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Error> {
        match tokio::time::timeout(patience, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => {
                self.told.say(|plugin| {
                    tracing::warn!(
                        plugin,
                        "{} outbound requests are at work, and none ended within {patience:?} \
                         (limits.outbound)",
                        self.limits.outbound
                    );
                });
                Err(Error::ConnectionLimitReached)
            }
        }
    }

    /// Sends a request to the end of the response's head.
    async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: RequestOptions,
        origin: Origin,
    ) -> Result<Response<WasiBody>, Error> {
        let way = self.way(request.uri())?;
        let limits = self.limits;
        let capped = |wish: Option<Duration>, limit: Duration| wish.map_or(limit, |w| w.min(limit));
        let connect = capped(options.connect_timeout, limits.outbound_connect);
        let first_byte = capped(options.first_byte_timeout, limits.outbound_first_byte);
        let idle = capped(options.between_bytes_timeout, limits.outbound_idle);
        let Origin { gone, caller } = origin;

        let place = self.place(connect).await?;
        let (mut parts, body) = request.into_parts();
        strip(&mut parts.headers);
        // It is written anew, as it belongs to the URI.
        parts.headers.remove(header::HOST);
        let progress = Progress::start();
        let body = Outgoing::new(body, limits.outbound_request, progress.clone());
        let name = way.to_string();
        let sending = async {
            match way {
                Way::Network { target, destination, inject } => {
                    parts.uri = rewritten(&parts.uri, &target)?;
                    for (name, value) in inject {
                        parts.headers.insert(name, value.clone());
                    }
                    let sent = destination.client().request(Request::from_parts(parts, body));
                    let answer = sent.await.map_err(|error| self.explain(&error, &target))?;
                    Ok::<_, Error>(answer.map(Answer::Network))
                }
                Way::Plugin(callee) => {
                    let request =
                        Request::from_parts(parts, body.map_err(Error::from).boxed_unsync());
                    let call =
                        self.calls.call(&self.told, callee, caller.as_deref(), connect, request);
                    Ok(call?.await.map(Answer::Plugin))
                }
            }
        };
        let ended = async {
            match &gone {
                Some(gone) => gone.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let response = tokio::select! {
            response = sending => response?,
            () = progress.stalled(connect + first_byte) => {
                self.told.say(|plugin| {
                    tracing::warn!(
                        plugin,
                        destination = name,
                        "no response within {first_byte:?} (limits.outbound_first_byte)"
                    );
                });
                return Err(Error::ConnectionReadTimeout);
            }
            () = ended => return Err(Error::ConnectionTerminated),
        };
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        let (limit, told) = (limits.outbound_response, self.told.clone());
        let body = match body {
            Answer::Network(body) => {
                Returning::new(body, limit, idle, gone, place, told).boxed_unsync()
            }
            Answer::Plugin(body) => {
                Returning::new(body, limit, idle, gone, place, told).boxed_unsync()
            }
        };
        Ok(Response::from_parts(parts, body))
    }

    /// What a failure of the client means to a guest; the operator is told where it matters.
    fn explain(&self, error: &hyper_util::client::legacy::Error, target: &Target) -> Error {
        let mut root: &(dyn std::error::Error + 'static) = error;
        let mut cause = Some(root);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<ConnectError>() {
                if !matches!(error, ConnectError::Denied) {
                    self.failed(target, error);
                }
                return match error {
                    ConnectError::Denied => Error::HttpRequestDenied,
                    ConnectError::Dns(_) => Error::DnsError { rcode: None, info_code: None },
                    ConnectError::Unreachable(_) => Error::ConnectionRefused,
                    ConnectError::Timeout(_) => Error::ConnectionTimeout,
                    ConnectError::Certificate(_) => Error::TlsCertificateError,
                    ConnectError::Tls(_) => Error::TlsProtocolError,
                };
            }
            if let Some(error) = error.downcast_ref::<OutgoingError>() {
                return match error {
                    OutgoingError::TooLarge(limit) => {
                        self.failed(target, error);
                        Error::HttpRequestBodySize(Some(*limit))
                    }
                    OutgoingError::Guest(_) => Error::ConnectionTerminated,
                };
            }
            root = error;
            cause = error.source();
        }
        self.failed(target, &format!("an outbound request failed: {root}"));
        Error::HttpProtocolError
    }

    fn failed(&self, target: &Target, why: &dyn std::fmt::Display) {
        self.told.say(|plugin| tracing::warn!(plugin, destination = %target, "{why}"));
    }
}

/// The fields that are added, or the names of the secrets that are missing for them.
fn fields(
    inject: &[Inject],
    secrets: &BTreeMap<String, SecretText>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<String>> {
    let mut fields = Vec::new();
    let mut missing = Vec::new();
    for field in inject {
        let mut text = String::new();
        for piece in &field.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Secret(name) => match secrets.get(name) {
                    Some(secret) => text.push_str(secret.reveal().trim()),
                    None => missing.push(name.clone()),
                },
            }
        }
        match HeaderValue::from_str(&text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                fields.push((field.name.clone(), value));
            }
            // A secret that no header field can carry is as good as none.
            Err(_) => missing.extend(field.pieces.iter().filter_map(|piece| match piece {
                Piece::Secret(name) => Some(name.clone()),
                Piece::Text(_) => None,
            })),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() { Ok(fields) } else { Err(missing) }
}

/// The URI with the one spelling of its authority.
fn rewritten(uri: &http::Uri, target: &Target) -> Result<http::Uri, Error> {
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    http::Uri::builder()
        .scheme(if target.tls { "https" } else { "http" })
        .authority(target.authority())
        .path_and_query(path)
        .build()
        .map_err(|_| Error::HttpRequestUriInvalid)
}

/// *Prepare*: how the requests of one instance leave.
pub struct Outbound {
    grants: Arc<FetchGrants>,
    origin: Origin,
    /// For whom the next request is made, where an instance works for several callers at a time.
    next: Option<Option<Arc<Caller>>>,
}

impl Outbound {
    /// With the plugin's grants.
    #[must_use]
    pub fn new(grants: Arc<FetchGrants>) -> Self {
        Self { grants, origin: Origin::default(), next: None }
    }

    /// The request that the instance now serves: when its client goes away, outbound requests end, and
    /// plugins that are called learn of its caller.
    pub fn serve(&mut self, gone: Option<CancellationToken>, caller: Option<Arc<Caller>>) {
        self.origin = Origin { gone, caller };
    }

    /// One of several requests that the instance now serves. A call for which nobody says whose it is has no
    /// caller, and counts as the deepest of all.
    pub fn serve_one_more(&mut self, caller: Option<&Arc<Caller>>) {
        let depth = |caller: Option<&Arc<Caller>>| caller.map_or(0, |caller| caller.through.len());
        if let Some(caller) = caller
            && depth(Some(caller)) > depth(self.origin.caller.as_ref())
        {
            let through = caller.through.clone();
            self.origin.caller = Some(Arc::new(Caller { through, ..Caller::default() }));
        }
    }

    /// For whom the next request is made; it follows at once.
    pub fn next_is_for(&mut self, caller: Option<Arc<Caller>>) {
        self.next = Some(caller);
    }

    /// The plugin's grants.
    #[must_use]
    pub fn grants(&self) -> &FetchGrants {
        &self.grants
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Error>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sent {
        let mut origin = self.origin.clone();
        if let Some(caller) = self.next.take() {
            origin.caller = caller;
        }
        let sending = self.grants.clone().send(request, options.unwrap_or_default(), origin);
        Box::new(async move {
            // The connection is the pool's: there is nothing to drive here.
            let io: Io = Box::new(std::future::ready(Ok(())));
            Ok((sending.await?, io))
        })
    }
}

/// How an instance sees `guesthouse:fetch`.
pub struct FetchView<'a> {
    /// The plugin's grants.
    pub grants: &'a FetchGrants,
}

struct HasFetch;

impl HasData for HasFetch {
    type Data<'a> = FetchView<'a>;
}

/// *Link*: `guesthouse:fetch`; wasi:http is linked with its hooks.
///
/// # Errors
/// The linker has the interface already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> FetchView<'_>,
) -> Trappable<()> {
    grants::add_to_linker::<T, HasFetch>(linker, view)
}

impl grants::Host for FetchView<'_> {
    fn check(&mut self, url: String) -> Trappable<Result<(), grants::Refusal>> {
        let target = url.parse::<http::Uri>().ok().and_then(|uri| {
            let target = Target::of(&uri).ok()?;
            Some((target, uri))
        });
        let Some((target, uri)) = target else { return Ok(Err(grants::Refusal::NotGranted)) };
        if calls::callee(&target).is_some_and(|name| self.grants.calls.is_granted(name)) {
            return Ok(Ok(()));
        }
        Ok(match self.grants.find(&target, uri.path()) {
            None => Err(grants::Refusal::NotGranted),
            Some(destination) => match &destination.inject {
                Ok(_) => Ok(()),
                Err(missing) => Err(grants::Refusal::SecretsMissing(missing.clone())),
            },
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
