//! Bodies on their way out and back in.
//!
//! Owns what is watched while bytes pass: sizes, silence, and whether anyone still wants them. It never
//! holds bytes back: a frame is passed on when it comes.

use super::told::Told;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime_wasi_http::{Error, WasiBody};

/// When a request last made progress.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn moved(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Ends when there was no progress for so long.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let until = *self.0.lock() + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The body of a request, as the guest gives it.
pub(super) struct Outgoing {
    body: WasiBody,
    left: u64,
    limit: u64,
    progress: Progress,
}

impl Outgoing {
    /// At most so many bytes.
    pub(super) fn new(body: WasiBody, limit: u64, progress: Progress) -> Self {
        Self { body, left: limit, limit, progress }
    }
}

/// Why the body of a request ended early; found again in the client's error.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutgoingError {
    /// The guest's own error.
    #[error("the request's body failed: {0}")]
    Guest(Error),
    /// It is larger than allowed.
    #[error("the request's body is larger than {0} bytes (limits.outbound_request)")]
    TooLarge(u64),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = OutgoingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutgoingError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress.moved();
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(OutgoingError::Guest)?;
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match self.left.checked_sub(length) {
                Some(left) => self.left = left,
                None => return Err(OutgoingError::TooLarge(self.limit)),
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response, on its way to the guest. Dropping it before its end ends the request.
pub(super) struct Returning<B> {
    body: B,
    left: u64,
    limit: u64,
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
    gone: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The place among the plugin's outbound requests.
    _place: OwnedSemaphorePermit,
    told: Told,
}

impl<B> Returning<B> {
    pub(super) fn new(
        body: B,
        limit: u64,
        idle: Duration,
        gone: Option<CancellationToken>,
        place: OwnedSemaphorePermit,
        told: Told,
    ) -> Self {
        Self {
            body,
            left: limit,
            limit,
            idle,
            alarm: Box::pin(tokio::time::sleep(idle)),
            gone: gone.map(|gone| Box::pin(gone.cancelled_owned())),
            _place: place,
            told,
        }
    }
}

impl<B> Body for Returning<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Some(gone) = &mut this.gone
            && gone.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.alarm.as_mut().reset(Instant::now() + this.idle);
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(length) {
                    Some(left) => this.left = left,
                    None => {
                        this.told.say(|plugin| {
                            tracing::warn!(
                                plugin,
                                "the response to an outbound request is larger than {} bytes \
                                 (limits.outbound_response)",
                                this.limit
                            );
                        });
                        return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(
                            this.limit,
                        )))));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!("the response to an outbound request was cut: {error}");
                Poll::Ready(Some(Err(Error::HttpResponseIncomplete)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                std::task::ready!(this.alarm.as_mut().poll(cx));
                this.told.say(|plugin| {
                    tracing::warn!(
                        plugin,
                        "the response to an outbound request was silent for {:?} (limits.outbound_idle)",
                        this.idle
                    );
                });
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
