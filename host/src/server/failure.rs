//! What a client sees when something went wrong.
//!
//! Owns the one mapping from errors to status codes. Nothing internal ever passes here: a client gets a
//! status, a sentence that would be the same for any plugin, and the id under which the operator finds
//! the rest.

use crate::body::Body;
use crate::engine::Failure;
use crate::rooms::{RoomFailure, door};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response, StatusCode};

/// Seconds after which a client that found the queue full may come again.
const RETRY_QUEUE: HeaderValue = HeaderValue::from_static("1");
/// The same for a plugin that is being compiled.
const RETRY_COMPILE: HeaderValue = HeaderValue::from_static("2");

/// How the house asks for a proof.
const BEARER: &str = "Bearer realm=\"guesthouse\"";

/// Why the house itself answers.
#[derive(Debug)]
pub(super) enum Refusal<'a> {
    /// No route leads there.
    NoRoute,
    /// A route leads there, but not for this method.
    Method(&'a str),
    /// The request has no usable Host.
    Host,
    /// The body is over the plugin's limit.
    BodyTooLarge(u64),
    /// The body is no HTTP.
    BodyBroken,
    /// The body did not come.
    BodyIdle,
    /// The plugin is being compiled.
    Compiling,
    /// The plugin could not be loaded.
    NotLoaded,
    /// The plugin gave no answer.
    Plugin(&'a Failure),
    /// A room gave no answer.
    Room(&'a RoomFailure),
    /// A client may not come into a room.
    Door(door::Closed),
    /// It is about who calls.
    Caller(CallerRefusal<'a>),
    /// The storage failed.
    Storage,
}

/// Why a caller may not pass.
#[derive(Debug)]
pub(super) enum CallerRefusal<'a> {
    /// The route asks for a caller, and there is none.
    Unauthorized {
        /// A word for the client, of letters, digits and hyphens.
        reason: &'a str,
        /// Whether the client showed something.
        shown: bool,
    },
    /// The caller is known and may not come in here.
    Forbidden(&'a str),
    /// Nobody can say who the caller is at the moment.
    Unavailable(&'a str),
    /// The caller has taken all of these, `requests` or `tokens`, and may come again in so many seconds.
    TooMany(&'a str, u64),
}

/// On an answer that the house gives itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfHouse;

/// The answer for a refusal.
pub(super) fn response(refusal: &Refusal<'_>) -> Response<Body> {
    let mut response = said(refusal);
    response.extensions_mut().insert(OfHouse);
    response
}

fn said(refusal: &Refusal<'_>) -> Response<Body> {
    let (status, text) = match refusal {
        Refusal::NoRoute => (StatusCode::NOT_FOUND, "There is nothing here.".to_owned()),
        Refusal::Method(_) => {
            (StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed here.".to_owned())
        }
        Refusal::Host => {
            (StatusCode::BAD_REQUEST, "The request needs exactly one valid Host header.".to_owned())
        }
        Refusal::BodyTooLarge(limit) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The request body may have at most {limit} bytes here."),
        ),
        Refusal::BodyBroken => {
            (StatusCode::BAD_REQUEST, "The request body is not valid HTTP.".to_owned())
        }
        Refusal::BodyIdle => {
            (StatusCode::REQUEST_TIMEOUT, "The request body did not come in time.".to_owned())
        }
        Refusal::Compiling => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This part of the site is being prepared. Try again in a moment.".to_owned(),
        ),
        Refusal::NotLoaded => {
            (StatusCode::SERVICE_UNAVAILABLE, "This part of the site is out of order.".to_owned())
        }
        Refusal::Plugin(failure) => of_plugin(failure),
        Refusal::Room(RoomFailure::Guest(failure)) => of_plugin(failure),
        Refusal::Room(failure) => of_room(failure),
        Refusal::Door(closed) => (of_door(*closed), closed.to_string()),
        Refusal::Storage => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This can't be answered at the moment. Try again soon.".to_owned(),
        ),
        Refusal::Caller(refusal) => return about_caller(refusal),
    };
    let mut response = Response::new(Body::from(text + "\n"));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match refusal {
        Refusal::Method(allow) => {
            if let Ok(allow) = HeaderValue::from_str(allow) {
                headers.insert(ALLOW, allow);
            }
        }
        Refusal::Compiling => {
            headers.insert(RETRY_AFTER, RETRY_COMPILE);
        }
        Refusal::Door(door::Closed::Version) => {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        Refusal::Storage
        | Refusal::Plugin(
            Failure::QueueFull { .. }
            | Failure::NoTurn(_)
            | Failure::NoPlace(_)
            | Failure::Replaced(_),
        )
        | Refusal::Room(
            RoomFailure::Busy(_)
            | RoomFailure::Full(_)
            | RoomFailure::AllFull(_)
            | RoomFailure::NoInstance
            | RoomFailure::Closing,
        ) => {
            headers.insert(RETRY_AFTER, RETRY_QUEUE);
        }
        Refusal::Plugin(Failure::Broken { after }) | Refusal::Room(RoomFailure::Resting(after)) => {
            // Whole seconds, and not before the time has come.
            let seconds = after.as_secs().saturating_add(1);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        _ => {}
    }
    response
}

fn of_room(failure: &RoomFailure) -> (StatusCode, String) {
    match failure {
        RoomFailure::Busy(_)
        | RoomFailure::Full(_)
        | RoomFailure::AllFull(_)
        | RoomFailure::NoInstance => {
            (StatusCode::SERVICE_UNAVAILABLE, "This room is full. Try again later.".to_owned())
        }
        RoomFailure::Gone => (StatusCode::NOT_FOUND, "There is nothing here.".to_owned()),
        RoomFailure::Closing => {
            (StatusCode::SERVICE_UNAVAILABLE, "The house is closing.".to_owned())
        }
        RoomFailure::Schema { .. } | RoomFailure::Resting(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "This room is out of order.".to_owned())
        }
        RoomFailure::Guest(_) | RoomFailure::Refused(_) | RoomFailure::Storage => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here.".to_owned())
        }
    }
}

fn of_door(closed: door::Closed) -> StatusCode {
    match closed {
        door::Closed::Name => StatusCode::NOT_FOUND,
        door::Closed::Origin => StatusCode::FORBIDDEN,
        door::Closed::Handshake => StatusCode::BAD_REQUEST,
        door::Closed::Version => StatusCode::UPGRADE_REQUIRED,
    }
}

/// As JSON: programs act upon the reason.
fn about_caller(refusal: &CallerRefusal<'_>) -> Response<Body> {
    let (status, error, reason) = match refusal {
        CallerRefusal::Unauthorized { reason, .. } => {
            (StatusCode::UNAUTHORIZED, "unauthorized", reason)
        }
        CallerRefusal::Forbidden(reason) => (StatusCode::FORBIDDEN, "forbidden", reason),
        CallerRefusal::Unavailable(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason)
        }
        CallerRefusal::TooMany(what, _) => (StatusCode::TOO_MANY_REQUESTS, "too-many", what),
    };
    let text = serde_json::json!({ "error": error, "reason": reason }).to_string();
    let mut response = Response::new(Body::from(text + "\n"));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // RFC 6750 §3: who showed nothing is told no error.
    let challenge = match refusal {
        CallerRefusal::Unauthorized { shown: false, .. } => Some(BEARER.to_owned()),
        CallerRefusal::Unauthorized { shown: true, reason } => {
            Some(format!("{BEARER}, error=\"invalid_token\", error_description=\"{reason}\""))
        }
        CallerRefusal::Forbidden(reason) => {
            Some(format!("{BEARER}, error=\"insufficient_scope\", error_description=\"{reason}\""))
        }
        CallerRefusal::Unavailable(_) | CallerRefusal::TooMany(..) => None,
    };
    if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    match refusal {
        CallerRefusal::Unavailable(_) => {
            headers.insert(RETRY_AFTER, RETRY_QUEUE);
        }
        CallerRefusal::TooMany(_, seconds) => {
            headers.insert(RETRY_AFTER, HeaderValue::from((*seconds).max(1)));
        }
        CallerRefusal::Unauthorized { .. } | CallerRefusal::Forbidden(_) => {}
    }
    response
}

fn of_plugin(failure: &Failure) -> (StatusCode, String) {
    match failure {
        Failure::Trapped(_)
        | Failure::Memory(_)
        | Failure::MemoryOfAll
        | Failure::Silent
        | Failure::Instance(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here.".to_owned())
        }
        Failure::Stack(status) => {
            (*status, "This is nested too deeply: it can't be read to its end.".to_owned())
        }
        Failure::Cpu(_) | Failure::Wall(_) => {
            (StatusCode::GATEWAY_TIMEOUT, "The answer took too long.".to_owned())
        }
        Failure::GaveUp(_) => {
            (StatusCode::BAD_GATEWAY, "No answer could be made from what was at hand.".to_owned())
        }
        Failure::QueueFull { .. } | Failure::NoTurn(_) | Failure::NoPlace(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many requests at the moment. Try again soon.".to_owned(),
        ),
        Failure::Broken { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This part of the site is out of order for a moment. Try again soon.".to_owned(),
        ),
        Failure::Replaced(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This took too long while the site was being renewed. Try again.".to_owned(),
        ),
        Failure::Dropped => (StatusCode::SERVICE_UNAVAILABLE, "The house is closing.".to_owned()),
    }
}
