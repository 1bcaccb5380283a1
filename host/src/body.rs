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
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
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

/// What a guest gives, and a word to what it started for it when nobody wants the rest.
pub struct GuestBody {
    body: WasiBody,
    /// Bytes to come, when their number was declared: whoever has them all asks for no more.
    left: Option<u64>,
    gone: Option<CancellationToken>,
    /// Set before the body ends, when the guest ended in the middle of it. wasmtime ends the body of an
    /// instance that is dropped as if it were whole; it must not reach the client as if it were.
    broken: Option<Arc<AtomicBool>>,
}

impl From<WasiBody> for GuestBody {
    fn from(body: WasiBody) -> Self {
        Self { body, left: None, gone: None, broken: None }
    }
}

impl GuestBody {
    /// A body that, dropped before its end, cancels `gone`.
    #[must_use]
    pub fn telling(body: WasiBody, left: Option<u64>, gone: CancellationToken) -> Self {
        Self { body, left, gone: Some(gone), broken: None }
    }

    /// With a word from the guest's side: whether it ended in the middle.
    #[must_use]
    pub fn unless(mut self, broken: Arc<AtomicBool>) -> Self {
        self.broken = Some(broken);
        self
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        match &poll {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(length));
                if self.left == Some(0) {
                    self.gone = None;
                }
            }
            Poll::Ready(None)
                if self.broken.as_ref().is_some_and(|broken| broken.load(Acquire)) =>
            {
                return Poll::Ready(Some(Err(BodyError::Plugin(
                    "it ended in the middle; the log says why".to_owned(),
                ))));
            }
            Poll::Ready(None) => self.gone = None,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        poll.map_err(|error| BodyError::Plugin(error.to_string()))
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.take()
            && !self.body.is_end_stream()
        {
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
