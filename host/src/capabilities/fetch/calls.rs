//! Requests from one plugin to another: `http://NAME.internal/path`.
//!
//! Owns what such a request is, who may make it, and what goes along: the caller of the request that the
//! calling plugin serves, and the plugins that it came through. Neither network nor DNS is asked. It must never
//! let what a plugin writes into a header pass for a caller. The dangers that shaped it: plugins that call each
//! other in a ring without an end, and rings that wait for places which they hold themselves.

use super::OutgoingError;
use super::told::Told;
use crate::auth::{Caller, strip_forged};
use crate::body::Body;
use crate::config::fetch::{Host, Target};
use futures::future::BoxFuture;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wasmtime_wasi_http::{Error, WasiBody};

/// The domain of plugins.
const DOMAIN: &str = ".internal";

/// The plugin that a target names: `http://NAME.internal`, and no other port.
pub(super) fn callee(target: &Target) -> Option<&str> {
    let Host::Name(name) = &target.host else { return None };
    let name = name.strip_suffix(DOMAIN)?;
    (!target.tls && target.port == 80 && !name.is_empty() && !name.contains('.')).then_some(name)
}

/// One call.
pub struct Call {
    /// The plugin that is called.
    pub callee: Arc<str>,
    /// On whose behalf, and through which plugins; the last of them is the one that calls.
    pub caller: Arc<Caller>,
    /// How long it waits for a place in the plugin that is called.
    pub patience: Duration,
    /// What is asked.
    pub request: Request<WasiBody>,
}

/// Brings a call to the plugin that is active under its name.
pub trait Neighbours: Send + Sync {
    /// The answer; if the plugin gives none, the house's own, as a client would see it.
    fn call(&self, call: Call) -> BoxFuture<'static, Response<Body>>;
}

/// How plugins reach each other: one for the house.
#[derive(Default)]
pub struct Party {
    neighbours: OnceLock<Box<dyn Neighbours>>,
}

impl Party {
    /// Tells who brings calls to their plugins. Before that, plugins are alone.
    pub fn meet(&self, neighbours: Box<dyn Neighbours>) {
        // The house is opened once.
        _ = self.neighbours.set(neighbours);
    }
}

/// The plugins that one plugin may call.
pub struct Calls {
    granted: BTreeSet<String>,
    depth: usize,
    party: Arc<Party>,
}

impl Calls {
    /// *Configure*: `calls` of a plugin, and `engine.call_depth`.
    #[must_use]
    pub fn new(granted: &[String], depth: u32, party: &Arc<Party>) -> Self {
        Self {
            granted: granted.iter().cloned().collect(),
            depth: depth as usize,
            party: party.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.granted.is_empty()
    }

    pub(super) fn is_granted(&self, callee: &str) -> bool {
        self.granted.contains(callee)
    }

    /// Calls a plugin.
    ///
    /// # Errors
    /// The request is none that can be sent.
    pub(super) fn call(
        &self,
        told: &Told,
        callee: Arc<str>,
        caller: Option<&Caller>,
        patience: Duration,
        request: Request<WasiBody>,
    ) -> Result<BoxFuture<'static, Response<Body>>, Error> {
        let mut through = caller.map(|caller| caller.through.clone()).unwrap_or_default();
        through.push(told.plugin().into());
        if through.len() > self.depth {
            told.say(|plugin| {
                tracing::warn!(
                    plugin,
                    "a call of the plugin `{callee}` was not made: it would be {} calls deep, {} \
                     (engine.call_depth)",
                    through.len(),
                    through.join(" → ")
                );
            });
            return Ok(Box::pin(std::future::ready(too_deep(self.depth))));
        }
        let (mut parts, body) = request.into_parts();
        if parts.method == http::Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        strip_forged(&mut parts.headers);
        let host = HeaderValue::from_str(&format!("{callee}{DOMAIN}"));
        parts.headers.insert(HOST, host.map_err(|_| Error::HttpRequestUriInvalid)?);
        // As a client's request: the path alone.
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        parts.uri = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        parts.version = http::Version::HTTP_11;
        // Places that the request itself holds are not given back while it waits for one.
        let patience = if through.contains(&callee) { Duration::ZERO } else { patience };
        let caller = Caller {
            principal: caller.and_then(|caller| caller.principal.clone()),
            // What callers may spend is counted where they come in.
            budget: None,
            through,
        };
        let request = Request::from_parts(parts, body);
        let call = Call { callee, caller: Arc::new(caller), patience, request };
        Ok(match self.party.neighbours.get() {
            Some(neighbours) => neighbours.call(call),
            None => Box::pin(std::future::ready(plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "The house is being opened.\n".to_owned(),
            ))),
        })
    }
}

fn too_deep(depth: usize) -> Response<Body> {
    let text = format!("Plugins call each other, {depth} deep, and no deeper.\n");
    plain(StatusCode::LOOP_DETECTED, text)
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

impl From<OutgoingError> for Error {
    fn from(error: OutgoingError) -> Self {
        match error {
            OutgoingError::Guest(error) => error,
            OutgoingError::TooLarge(limit) => Self::HttpRequestBodySize(Some(limit)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_under_internal_is_a_plugin() {
        let callee_of = |url: &str| {
            let target = Target::of(&url.parse().unwrap()).unwrap();
            callee(&target).map(str::to_owned)
        };
        assert_eq!(callee_of("http://transpile.internal/x"), Some("transpile".into()));
        assert_eq!(callee_of("http://TRANSPILE.Internal:80/"), Some("transpile".into()));
        for other in [
            "https://transpile.internal/",
            "http://transpile.internal:8080/",
            "http://a.transpile.internal/",
            "http://transpile.internal.example.com/",
            "http://internal/",
            "http://127.0.0.1/",
        ] {
            assert_eq!(callee_of(other), None, "{other}");
        }
    }
}
