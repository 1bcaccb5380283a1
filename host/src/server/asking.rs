//! Giving a request to a plugin, from a client or from another plugin.
//!
//! Owns what is the same for both: limits of the body, a version that is there, and what is said when there
//! is no answer. It must never take what a guest made of half a body for an answer to the whole.

use super::failure::{self, Refusal};
use super::limit::Limited;
use crate::body::{Body, BodyError, Cut, Exchange};
use crate::engine::Failure;
use crate::headers;
use crate::plugins::{Slot, State};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;

/// The plugin's answer, or the house's in its place. `idle` is how long the body may be silent; with `patience`
/// the request waits for its turn no longer than that.
pub(super) async fn ask<B>(
    slot: &Slot,
    mut request: Request<B>,
    idle: Duration,
    patience: Option<Duration>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    // What was meant for us alone; the guest does not see which fields that were.
    headers::strip_named(request.headers_mut());
    let Some(version) = slot.active() else {
        let refusal = match slot.state() {
            State::Failed(_) => Refusal::NotLoaded,
            State::Compiling | State::Serving => Refusal::Compiling,
        };
        return failure::response(&refusal);
    };
    let limit = slot.plugin.limits.body;
    let exchange = Arc::new(Exchange::default());
    let request = request.map(|body| {
        if body.is_end_stream() {
            http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
        } else {
            Limited::new(body, limit, idle, exchange.clone()).map_err(to_guest).boxed_unsync()
        }
    });
    let answer = version.handle(request, &exchange, patience).await;
    // What the client broke off says nothing about the plugin.
    if exchange.request_cut().is_none() {
        version.answered(match &answer {
            Ok(response) => response.status().is_server_error(),
            Err(reason) => reason.is_bad_answer(),
        });
    }
    // Whatever the guest made of a body that was cut: the client learns the cause.
    match exchange.request_cut() {
        Some(Cut::TooLarge) => return failure::response(&Refusal::BodyTooLarge(limit)),
        Some(Cut::Broken) => return failure::response(&Refusal::BodyBroken),
        Some(Cut::Idle) => return failure::response(&Refusal::BodyIdle),
        None => {}
    }
    match answer {
        Ok(response) => response,
        Err(reason) => {
            if matches!(reason, Failure::QueueFull { .. } | Failure::NoTurn(_)) {
                version.turned_away(&reason);
            }
            failure::response(&Refusal::Plugin(&reason))
        }
    }
}

/// The error of a request body, in the words of wasi:http.
fn to_guest(error: BodyError) -> wasmtime_wasi_http::Error {
    use wasmtime_wasi_http::Error;
    match error {
        BodyError::Client(error) => Error::Hyper(error),
        BodyError::TooLarge { limit } => Error::HttpRequestBodySize(Some(limit)),
        BodyError::Idle(_) => Error::ConnectionReadTimeout,
        BodyError::Plugin(text) => Error::InternalError(Some(text)),
    }
}
