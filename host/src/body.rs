//! The bodies that travel through the house.
//!
//! Owns the one body type that the server, the response cache and the engine hand to each other. It
//! never buffers: what is whole stays whole and shared, what streams keeps streaming. The danger that
//! shaped it is a boxed, dynamically dispatched body on the path of a cached answer, where it would
//! cost more than the answer.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8,
    Ordering::{Acquire, Release},
};
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::WasiBody;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side of the connection went away or broke the protocol.
    #[error("the client's connection failed: {0}")]
    Client(#[source] hyper::Error),
    /// The plugin stopped in the middle of its answer; the log says why.
    #[error("the plugin ended its answer early: {0}")]
    Plugin(String),
    /// The client sent or took nothing for too long.
    #[error("the client was silent for {0:?}")]
    Idle(std::time::Duration),
    /// The request body grew beyond the limit of the plugin.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes (`limits.body`).
        limit: u64,
    },
}

impl From<hyper::Error> for BodyError {
    fn from(error: hyper::Error) -> Self {
        Self::Client(error)
    }
}

impl From<wasmtime_wasi_http::Error> for BodyError {
    fn from(error: wasmtime_wasi_http::Error) -> Self {
        Self::Plugin(error.to_string())
    }
}

/// A body of a response (or of a request on its way to a plugin).
pub enum Body {
    /// Nothing.
    Empty,
    /// Everything at once, shared with whoever else holds it.
    Full(Bytes),
    /// What a guest gives, as it gives it.
    Guest(GuestBody),
    /// Bytes as they come.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// Why a request's body did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is larger than it may be.
    TooLarge,
    /// It is no HTTP, or the connection broke.
    Broken,
    /// The client was silent for too long.
    Idle,
}

/// What became of the client's side of a request. A guest that fails because its client sent half a body, or
/// went away, has not failed by itself.
#[derive(Debug, Default)]
pub struct Exchange {
    request_cut: AtomicU8,
    client_gone: AtomicBool,
}

impl Exchange {
    /// The request's body was cut.
    pub fn cut_request(&self, cut: Cut) {
        self.request_cut.store(cut as u8 + 1, Release);
    }

    /// Why the request's body was cut; none when it was not.
    pub fn request_cut(&self) -> Option<Cut> {
        match self.request_cut.load(Acquire) {
            1 => Some(Cut::TooLarge),
            2 => Some(Cut::Broken),
            3 => Some(Cut::Idle),
            _ => None,
        }
    }

    /// Whether the client did not do its part.
    pub fn client_failed(&self) -> bool {
        self.client_gone.load(Acquire) || self.request_cut().is_some()
    }
}

/// What a guest gives, and a word to what it started for it when nobody wants the rest.
pub struct GuestBody {
    body: WasiBody,
    /// Bytes to come, when their number was declared: whoever has them all asks for no more.
    left: Option<u64>,
    gone: Option<CancellationToken>,
    /// Set before the body ends, when the guest ended in the middle of it. wasmtime ends the body of an
    /// instance that is dropped as if it were whole; it must not reach the client as if it were.
    broken: Option<Arc<AtomicBool>>,
    /// Told when it is dropped before its end.
    exchange: Option<Arc<Exchange>>,
}

impl From<WasiBody> for GuestBody {
    fn from(body: WasiBody) -> Self {
        Self { body, left: None, gone: None, broken: None, exchange: None }
    }
}

impl GuestBody {
    /// A body that, dropped before its end, cancels `gone`.
    #[must_use]
    pub fn telling(body: WasiBody, left: Option<u64>, gone: CancellationToken) -> Self {
        Self { body, left, gone: Some(gone), broken: None, exchange: None }
    }

    /// With a word from the guest's side: whether it ended in the middle.
    #[must_use]
    pub fn unless(mut self, broken: Arc<AtomicBool>) -> Self {
        self.broken = Some(broken);
        self
    }

    /// With a word to the guest's side: whether the client went away in the middle.
    #[must_use]
    pub fn of(mut self, exchange: Arc<Exchange>) -> Self {
        self.exchange = Some(exchange);
        self
    }

    /// Nobody has to be told of its end any more.
    fn ended(&mut self) {
        self.gone = None;
        self.exchange = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        match &poll {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(length));
                if self.left == Some(0) {
                    self.ended();
                }
            }
            Poll::Ready(None)
                if self.broken.as_ref().is_some_and(|broken| broken.load(Acquire)) =>
            {
                self.exchange = None;
                return Poll::Ready(Some(Err(BodyError::Plugin(
                    "it ended in the middle; the log says why".to_owned(),
                ))));
            }
            Poll::Ready(None) => self.ended(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        poll.map_err(|error| BodyError::Plugin(error.to_string()))
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        if self.left == Some(0) || self.body.is_end_stream() {
            return;
        }
        if let Some(exchange) = self.exchange.take() {
            exchange.client_gone.store(true, Release);
        }
        if let Some(gone) = self.gone.take() {
            gone.cancel();
        }
    }
}

/// The `Content-Length` of a message, when it has a valid one.
#[must_use]
pub fn declared_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Body {
    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }

    /// A body that streams.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self::Stream(UnsyncBoxBody::new(body))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Guest(body) => body.poll(cx),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Guest(body) => body.body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Guest(body) => body.body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}
