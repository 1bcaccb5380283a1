//! Answers to plain requests.
//!
//! Owns their common fields: who may read them from other pages, that nothing guesses a type, and that what users
//! wrote runs in a box of its own and never as a page of this house.

use crate::state::Refusal;
use guesthouse_sdk::room::{Header, Request, Response};
use serde_json::{Value, json};
use short_hash::short_hash;

/// JavaScript.
pub const SCRIPT: &str = "application/javascript; charset=UTF-8";
/// Pages.
pub const PAGE: &str = "text/html; charset=UTF-8";
/// What a page of users may do: run, and nothing in the name of this house. It has no origin, no storage, no
/// cookies.
pub const BOX: &str = "sandbox allow-scripts allow-forms allow-modals allow-popups allow-pointer-lock allow-downloads";

/// An answer in the making.
pub struct Answer(Response);

impl Answer {
    /// With a body.
    #[must_use]
    pub fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self(Response { status, headers: Vec::new(), body: body.into() })
            .with("content-type", kind)
            .with("access-control-allow-origin", "*")
            .with("access-control-expose-headers", "content_hash, etag")
            .with("cross-origin-resource-policy", "cross-origin")
            .with("x-content-type-options", "nosniff")
    }

    /// A text of the session, as it is now.
    #[must_use]
    pub fn current(kind: &str, body: &str) -> Self {
        Self::new(200, kind, body)
            .with("cache-control", "no-cache")
            .with("cross-origin-embedder-policy", "require-corp")
            .with("content_hash", &short_hash(body))
    }

    /// JSON.
    #[must_use]
    pub fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json; charset=UTF-8", value.to_string())
            .with("cache-control", "no-cache")
    }

    /// What the room does not do.
    #[must_use]
    pub fn refusal(refusal: &Refusal) -> Self {
        Self::json(refusal.status, &json!({ "error": refusal.message }))
    }

    /// Another method is wanted.
    #[must_use]
    pub fn method(allowed: &str) -> Self {
        Self::json(405, &json!({ "error": format!("Method not allowed; allowed are {allowed}") }))
            .with("allow", allowed)
    }

    /// Adds a field, or replaces it.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.headers.retain(|header| header.name != name);
        let value = value.as_bytes().to_vec();
        self.0.headers.push(Header { name: name.to_owned(), value });
        self
    }

    /// Forever, for what never changes.
    #[must_use]
    pub fn immutable(self) -> Self {
        self.with("cache-control", "public, max-age=31536000, immutable")
    }

    /// The response.
    #[must_use]
    pub fn done(self) -> Response {
        self.0
    }
}

/// The answer to a browser that asks what it may send.
#[must_use]
pub fn preflight() -> Answer {
    Answer(Response { status: 204, headers: Vec::new(), body: Vec::new() })
        .with("access-control-allow-origin", "*")
        .with("access-control-allow-methods", "GET, HEAD, PUT, POST, DELETE, OPTIONS")
        .with(
            "access-control-allow-headers",
            "content-type, authorization, accept, mcp-protocol-version, mcp-method, mcp-name, last-event-id, x-codespace",
        )
        .with("access-control-max-age", "86400")
}

/// A field of a request.
#[must_use]
pub fn field<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let header = request.headers.iter().find(|header| header.name == name)?;
    std::str::from_utf8(&header.value).ok()
}

/// Whether a request says that its body is JSON. A page of another origin can't send that without asking first, and
/// is then told that it comes without cookies: so no page can write in the name of its visitor.
#[must_use]
pub fn says_json(request: &Request) -> bool {
    let kind = field(request, "content-type").unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A parameter of the query, decoded.
#[must_use]
pub fn parameter(request: &Request, name: &str) -> Option<String> {
    let (_, query) = request.path_with_query.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let value = value.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&value).decode_utf8().ok()?;
    Some(decoded.into_owned())
}
