//! Requests to other servers ("fetch"): see `wit/fetch.wit` for what the operator grants.
//!
//! ```no_run
//! use guesthouse_sdk::{Body, Response, fetch};
//!
//! fn proxy(body: guesthouse_sdk::IncomingBody) -> Response {
//!     let request = fetch::Request::new("POST", "https://api.example.com/v1/things")
//!         .with("content-type", "application/json")
//!         .body(Body::Incoming(body));
//!     match request.send() {
//!         Ok(answer) => Response::new(answer.status).body(Body::Incoming(answer.body)),
//!         Err(_) => Response::text(502, "The other side can't be reached.\n"),
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Both bodies stream, at the same time: what is not sent when the head of the answer comes is sent while the body of
//! the answer is read or handed on. Who drops that body before its end sends no more. A client that goes away ends the
//! request.

pub use crate::bindings::guesthouse::fetch::grants::{Refusal, check};
use crate::bindings::wasi::http0_2_12::outgoing_handler;
pub use crate::bindings::wasi::http0_2_12::types::ErrorCode;
use crate::bindings::wasi::http0_2_12::types::{
    Fields, Method, OutgoingRequest, RequestOptions, Scheme,
};
use crate::stream::{self, Body, IncomingBody};
use crate::upload::{Upload, wait};
use std::time::Duration;

/// A request on its way out.
pub struct Request {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// With scheme and host.
    pub url: String,
    /// Header fields; those that belong to the connection are the host's.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
    /// How long the head of the response may take, up to the operator's limit.
    pub first_byte: Option<Duration>,
    /// How long the response may pause, up to the operator's limit.
    pub between_bytes: Option<Duration>,
}

/// The answer of another server.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: IncomingBody,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The request can't be made of these parts.
    Invalid(&'static str),
    /// It was made, and this came of it.
    Failed(ErrorCode),
}

impl Error {
    /// Whether the operator has not granted the destination.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Failed(ErrorCode::HttpRequestDenied))
    }

    /// Whether the request was ended in the middle: its own body failed, or the client for whom it was made has gone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Failed(ErrorCode::ConnectionTerminated))
    }

    /// Whether the other side took too long.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Failed(
                ErrorCode::ConnectionTimeout
                    | ErrorCode::ConnectionReadTimeout
                    | ErrorCode::HttpResponseTimeout
                    | ErrorCode::DnsTimeout
            )
        )
    }
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: Body::Empty,
            first_byte: None,
            between_bytes: None,
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Sends it, and waits for the head of the response.
    ///
    /// # Errors
    /// See [`Error`]. An answer with an error status is an answer.
    pub fn send(self) -> Result<Response, Error> {
        let fields = Fields::new();
        for (name, value) in &self.headers {
            fields
                .append(name, value.as_bytes())
                .map_err(|_| Error::Invalid("a header field can't be sent"))?;
        }
        let request = OutgoingRequest::new(fields);
        let (scheme, authority, path) = parts(&self.url)?;
        let set = request
            .set_method(&method(&self.method))
            .and_then(|()| request.set_scheme(Some(&scheme)))
            .and_then(|()| request.set_authority(Some(authority)))
            .and_then(|()| request.set_path_with_query(Some(path)));
        set.map_err(|()| Error::Invalid("the method or URL can't be sent"))?;

        let options = RequestOptions::new();
        let nanoseconds = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        _ = options.set_first_byte_timeout(nanoseconds(self.first_byte));
        _ = options.set_between_bytes_timeout(nanoseconds(self.between_bytes));

        let body = if self.body.is_empty() {
            None
        } else {
            Some(request.body().map_err(|()| Error::Invalid("the body can't be sent"))?)
        };
        let future = outgoing_handler::handle(request, Some(options)).map_err(Error::Failed)?;
        let mut upload = body.and_then(|body| {
            let stream = body.write().ok()?;
            Some(Upload::new(self.body, stream, body))
        });
        let answer = loop {
            let mut moved = false;
            if let Some(body) = upload.take() {
                (upload, moved) = body.step();
            }
            match future.get() {
                Some(Ok(answer)) => break answer.map_err(Error::Failed)?,
                Some(Err(())) => return Err(Error::Invalid("the answer was taken before")),
                None if moved => {}
                None => {
                    let mut all = vec![future.subscribe()];
                    if let Some(upload) = &upload {
                        upload.subscribe(&mut all);
                    }
                    wait(&all);
                }
            }
        };
        let headers = stream::texts(answer.headers().entries());
        let status = answer.status();
        let body = answer.consume().ok().and_then(IncomingBody::new);
        let body = body.ok_or(Error::Invalid("the answer was taken before"))?;
        Ok(Response { status, headers, body: body.sending(upload) })
    }
}

impl Response {
    /// The first field of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn parts(url: &str) -> Result<(Scheme, &str, &str), Error> {
    let (scheme, rest) = url.split_once("://").ok_or(Error::Invalid("the URL has no scheme"))?;
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => Scheme::Other(other.to_owned()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // What stands behind a `#` is not sent.
    let path = path.split('#').next().unwrap_or_default();
    Ok((scheme, authority, if path.is_empty() { "/" } else { path }))
}
