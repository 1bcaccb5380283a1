//! The body of a request on its way to a plugin, from a client or from another plugin.
//!
//! Owns two limits: how large it may be, and how long the client may be silent in its middle. A body over
//! a limit, or one that is no HTTP, is cut there, and a note says so to whoever answers the client: whatever
//! the guest makes of half a body, the client must not take for an answer to the whole.

use crate::body::{BodyError, Cut, Exchange};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A body with limits.
pub(super) struct Limited<B> {
    body: B,
    left: u64,
    limit: u64,
    exchange: Arc<Exchange>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Limited<B> {
    /// At most `limit` bytes; the exchange is told when it does not come to its end.
    pub(super) fn new(body: B, limit: u64, idle: Duration, exchange: Arc<Exchange>) -> Self {
        Self { body, left: limit, limit, exchange, idle, timer: None }
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
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
                    Poll::Ready(()) => {
                        this.exchange.cut_request(Cut::Idle);
                        Poll::Ready(Some(Err(BodyError::Idle(idle))))
                    }
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
                        this.exchange.cut_request(Cut::TooLarge);
                        Poll::Ready(Some(Err(BodyError::TooLarge { limit: this.limit })))
                    }
                }
            }
            Poll::Ready(Some(Err(error))) => {
                this.exchange.cut_request(Cut::Broken);
                Poll::Ready(Some(Err(error.into())))
            }
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
