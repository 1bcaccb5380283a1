//! What the author of a Rust plugin depends on.
//!
//! A plugin is a type that answers requests and one line that exports it:
//!
//! ```no_run
//! use guesthouse_sdk::{Handler, Request, Response};
//!
//! struct Hello;
//!
//! impl Handler for Hello {
//!     fn handle(request: Request) -> Response {
//!         Response::text(200, format!("hello, {}\n", request.path()))
//!     }
//! }
//!
//! guesthouse_sdk::export!(Hello);
//! # fn main() {}
//! ```
//!
//! The style is synchronous, as wasi:http 0.2 is: a call that waits lets other instances work. Bodies
//! stream: what is handed from a KV stream or a request to a response never enters the plugin's memory.

#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "guesthouse:plugin/http-plugin",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "guesthouse_sdk::bindings",
    });
}

pub mod fetch;
pub mod http;
pub mod kv;
pub mod peers;
pub mod room;
mod stream;
mod upload;

pub use bindings::wasi::io::streams::{InputStream, StreamError};
pub use stream::{Body, Cut, IncomingBody, ReadError, Watch};

use bindings::exports::wasi::http0_2_12::incoming_handler::Guest;
use bindings::wasi::http0_2_12::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use std::cell::OnceCell;

/// Answers requests.
pub trait Handler {
    /// The answer to one request.
    fn handle(request: Request) -> Response;
}

/// A request.
pub struct Request {
    inner: IncomingRequest,
    method: Method,
    path: String,
    query: Option<String>,
    /// All fields, fetched when the first is asked for: three calls of the host, as many as one field would be.
    fields: OnceCell<Vec<(String, Vec<u8>)>>,
}

impl Request {
    /// `GET`, `HEAD` and so on.
    #[must_use]
    pub fn method(&self) -> String {
        match &self.method {
            Method::Get => "GET".into(),
            Method::Head => "HEAD".into(),
            Method::Post => "POST".into(),
            Method::Put => "PUT".into(),
            Method::Delete => "DELETE".into(),
            Method::Connect => "CONNECT".into(),
            Method::Options => "OPTIONS".into(),
            Method::Trace => "TRACE".into(),
            Method::Patch => "PATCH".into(),
            Method::Other(other) => other.clone(),
        }
    }

    /// The path as the client sent it, still percent-encoded, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host that the client means, with its port if it named one. There is no field `host` among the headers.
    #[must_use]
    pub fn authority(&self) -> Option<String> {
        self.inner.authority()
    }

    /// What stands behind the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The first field of this name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.values(name).next()?;
        String::from_utf8(value.to_vec()).ok()
    }

    /// All fields, in lower case and in their order. A value that is not text is left out.
    #[must_use]
    pub fn all_headers(&self) -> Vec<(String, String)> {
        stream::texts(self.fields().to_vec())
    }

    /// The body; none when it was taken before.
    #[must_use]
    pub fn body(&self) -> Option<IncomingBody> {
        IncomingBody::new(self.inner.consume().ok()?)
    }

    /// All fields of this name that are text, in their order.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.values(name).filter_map(|value| String::from_utf8(value.to_vec()).ok()).collect()
    }

    fn fields(&self) -> &[(String, Vec<u8>)] {
        self.fields.get_or_init(|| self.inner.headers().entries())
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let fields = self.fields().iter();
        fields.filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// An answer.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

impl Response {
    /// An answer without a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Empty }
    }

    /// Plain text.
    #[must_use]
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::new(status)
            .with("content-type", "text/plain; charset=utf-8")
            .body(Body::Bytes(text.into().into_bytes()))
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// JSON that is written already.
    #[must_use]
    pub fn json(status: u16, text: impl Into<String>) -> Self {
        Self::new(status)
            .with("content-type", "application/json")
            .body(Body::Bytes(text.into().into_bytes()))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Says how long the body is, where that is known and was not said: clients show their progress by it, and notice
    /// what is cut. Not where it may not be (RFC 9110 §8.6), nor of a body that was left out because `HEAD` was asked.
    fn with_length(self, is_head: bool) -> Self {
        let length = match &self.body {
            Body::Bytes(bytes) => bytes.len(),
            Body::Empty if !is_head => 0,
            _ => return self,
        };
        let has_none = matches!(self.status, 100..200 | 204 | 304);
        let is_said =
            self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if has_none || is_said { self } else { self.with("content-length", length.to_string()) }
    }

    /// Sends it. A client that goes away meanwhile is no error.
    fn send(self, out: ResponseOutparam) {
        let response = OutgoingResponse::new(fields(self.headers));
        // It is 200 from the start.
        if self.status != 200 && response.set_status_code(self.status).is_err() {
            eprintln!("{} is not a status code", self.status);
        }
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        let Ok(stream) = body.write() else { return };
        let (end, after) = self.body.send(&stream);
        drop(stream);
        // What was cut on its way in is cut on its way out: dropped without `finish`, it has no end.
        if end.is_ok() {
            _ = OutgoingBody::finish(body, None);
        } else {
            drop(body);
        }
        if let Some(watch) = after {
            watch.end(end.is_ok());
        }
    }
}

/// These fields, in one call of the host if it takes them all.
fn fields(headers: Vec<(String, String)>) -> Fields {
    let headers: Vec<(String, Vec<u8>)> =
        headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    if let Ok(fields) = Fields::from_list(&headers) {
        return fields;
    }
    let fields = Fields::new();
    for (name, value) in &headers {
        if fields.append(name, value).is_err() {
            eprintln!("the header field {name} is not valid and was left out");
        }
    }
    fields
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// The plugin's settings, from `config = { … }` in the operator's configuration.
pub mod config {
    use crate::bindings::wasi::config::store;

    /// One setting.
    #[must_use]
    pub fn get(key: &str) -> Option<String> {
        store::get(key).ok().flatten()
    }
}

/// Secrets that the operator granted: see `wit/secrets.wit`, which is its manual.
pub mod secrets {
    use crate::bindings::guesthouse::secrets::store;

    /// The text of one; none when its name is not granted. Keep it no longer than needed, and never log it.
    #[must_use]
    pub fn get(name: &str) -> Option<String> {
        store::get(name).map(|secret| secret.reveal())
    }
}

/// Who is calling: see `wit/identity.wit`, which is its manual.
pub mod identity {
    pub use crate::bindings::guesthouse::identity::identity::{Principal, caller};
}

/// What the caller may still spend: see `wit/budget.wit`, which is its manual.
pub mod budget {
    pub use crate::bindings::guesthouse::budget::tokens::{
        Exhausted, Reservation, charge, remaining, reserve,
    };
}

/// The export behind [`export!`]; not for use by itself.
#[doc(hidden)]
pub struct Exported<H>(std::marker::PhantomData<H>);

impl<H: Handler> Guest for Exported<H> {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let fields = OnceCell::new();
        let method = request.method();
        let is_head = matches!(method, Method::Head);
        let request = Request { inner: request, method, path, query, fields };
        H::handle(request).with_length(is_head).send(out);
    }
}

/// Exports a [`Handler`] as this component's `wasi:http/incoming-handler`.
#[macro_export]
macro_rules! export {
    ($handler:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::Exported<$handler>;
    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_where_that_is_known() {
        let bytes = |status| Response::new(status).body(Body::Bytes(b"four".to_vec()));
        let pieces = Response::new(200).body(Body::Pieces(Box::new(|| None)));
        for (response, is_head, expected) in [
            (bytes(200), false, Some("4")),
            (bytes(200), true, Some("4")),
            (bytes(200).with("Content-Length", "9"), false, Some("9")),
            (bytes(304), false, None),
            (pieces, false, None),
            (Response::new(201), false, Some("0")),
            (Response::new(200), true, None),
            (Response::new(204), false, None),
            (Response::new(103), false, None),
        ] {
            let status = response.status;
            let said = response.with_length(is_head).headers;
            let values: Vec<_> = said.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(values, expected.as_slice(), "{status}, {is_head}");
        }
    }
}
