//! Outbound HTTP ("fetch"): `wasi:http/outgoing-handler` 0.2, `wasi:http/client` 0.3, `guesthouse:fetch`.
//!
//! Owns what happens between a guest's request and a server's answer. Nothing leaves that was not granted,
//! nothing is buffered, and secrets that the host adds are in no memory that a guest can read.
//!
//! | file | owns |
//! |---|---|
//! | `policy` | which addresses a connection may go to |
//! | `network` | resolving, checking, connecting, TLS |
//! | `body` | sizes, silence, and the end of interest |
//! | `told` | how often the operator is told |
//!
//! Each destination of each plugin has pools of its own, one for each thread: a connection that was opened
//! for one plugin, with its credentials, never carries another's request, and a request is answered on the
//! thread that it runs on.

mod body;
mod network;
pub mod policy;
mod told;

pub use network::{Network, Resolve};

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
use tokio::sync::Semaphore;
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

/// The destinations that one plugin was granted.
pub struct FetchGrants {
    told: Told,
    destinations: Vec<Destination>,
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
            limits,
            places: Arc::new(Semaphore::new(limits.outbound as usize)),
            told,
        })
    }

    /// Whether there is any destination.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
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

    /// Sends a request to the end of the response's head.
    async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: RequestOptions,
        gone: Option<CancellationToken>,
    ) -> Result<Response<WasiBody>, Error> {
        let target = Target::of(request.uri())
            .map_err(|why| self.deny(request.uri(), &format!("the URL {why}")))?;
        let Some(destination) = self.find(&target, request.uri().path()) else {
            let why = format!(
                "no grant reaches it. To allow it, add \"{target}\" to `fetch` of [plugins.{}]",
                self.told.plugin()
            );
            return Err(self.deny(request.uri(), &why));
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

        let limits = self.limits;
        let capped = |wish: Option<Duration>, limit: Duration| wish.map_or(limit, |w| w.min(limit));
        let connect = capped(options.connect_timeout, limits.outbound_connect);
        let first_byte = capped(options.first_byte_timeout, limits.outbound_first_byte);
        let idle = capped(options.between_bytes_timeout, limits.outbound_idle);

        let place = tokio::time::timeout(connect, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            self.told.say(|plugin| {
                tracing::warn!(
                    plugin,
                    "{} outbound requests are at work, and none ended within {connect:?} (limits.outbound)",
                    limits.outbound
                );
            });
            return Err(Error::ConnectionLimitReached);
        };

        let (mut parts, body) = request.into_parts();
        parts.uri = rewritten(&parts.uri, &target)?;
        strip(&mut parts.headers);
        // The client writes the one that belongs to the URI.
        parts.headers.remove(header::HOST);
        for (name, value) in inject {
            parts.headers.insert(name, value.clone());
        }
        let progress = Progress::start();
        let body = Outgoing::new(body, limits.outbound_request, progress.clone());
        let sending = destination.client().request(Request::from_parts(parts, body));
        let ended = async {
            match &gone {
                Some(gone) => gone.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let response = tokio::select! {
            response = sending => response.map_err(|error| self.explain(&error, &target))?,
            () = progress.stalled(connect + first_byte) => {
                self.told.say(|plugin| {
                    tracing::warn!(
                        plugin,
                        destination = %target,
                        "no response within {first_byte:?} (limits.outbound_first_byte)"
                    );
                });
                return Err(Error::ConnectionReadTimeout);
            }
            () = ended => return Err(Error::ConnectionTerminated),
        };
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        let body =
            Returning::new(body, limits.outbound_response, idle, gone, place, self.told.clone());
        Ok(Response::from_parts(parts, body.boxed_unsync()))
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
    gone: Option<CancellationToken>,
}

impl Outbound {
    /// With the plugin's grants.
    #[must_use]
    pub fn new(grants: Arc<FetchGrants>) -> Self {
        Self { grants, gone: None }
    }

    /// The request that the instance now serves: when its client goes away, outbound requests end.
    pub fn serve(&mut self, gone: Option<CancellationToken>) {
        self.gone = gone;
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
        let sending =
            self.grants.clone().send(request, options.unwrap_or_default(), self.gone.clone());
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
        let found = url.parse::<http::Uri>().ok().and_then(|uri| {
            let target = Target::of(&uri).ok()?;
            self.grants.find(&target, uri.path())
        });
        Ok(match found {
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
