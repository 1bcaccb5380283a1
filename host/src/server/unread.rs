//! Whether a client still sends what nobody will read.
//!
//! Owns a note of one connection: the body of a request of HTTP/1 was dropped before its end. Whoever closes the
//! connection then must first let the client read its answer. (HTTP/2 says so by stream, and needs no note.)

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

/// The note.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Whether a body was dropped before its end.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// The request with a body that makes the note when it is dropped too early.
    pub(super) fn watch(&self, request: Request<Incoming>) -> Request<Sent> {
        let is_watched = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
        let note = is_watched.then(|| self.clone());
        request.map(|body| Sent { body, note })
    }
}

/// A body on its way from a client.
pub(super) struct Sent {
    body: Incoming,
    /// None: it has ended, or nobody needs to know.
    note: Option<Unread>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None) = &poll {
            self.note = None;
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

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(note) = self.note.take()
            && !self.body.is_end_stream()
        {
            note.0.store(true, Relaxed);
        }
    }
}
