//! The body of a request on its way to a plugin.
//!
//! Owns two limits: how large it may be, and how long the client may be silent in its middle. A body over
//! the limit is cut there, and a flag says so to whoever answers the client.

use crate::body::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A body with limits.
pub(super) struct Limited {
    body: Incoming,
    left: u64,
    limit: u64,
    exceeded: Arc<AtomicBool>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Limited {
    /// At most `limit` bytes; `exceeded` is set when more came.
    pub(super) fn new(
        body: Incoming,
        limit: u64,
        idle: Duration,
        exceeded: Arc<AtomicBool>,
    ) -> Self {
        Self { body, left: limit, limit, exceeded, idle, timer: None }
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                let idle = this.idle;
                let timer = this.timer.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + idle))
                });
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Idle(idle)))),
                    Poll::Pending => Poll::Pending,
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.timer = None;
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(size) {
                    Some(left) => {
                        this.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => {
                        this.exceeded.store(true, Relaxed);
                        Poll::Ready(Some(Err(BodyError::TooLarge { limit: this.limit })))
                    }
                }
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Client(error)))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
