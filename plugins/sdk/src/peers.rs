//! Calls of other rooms (`guesthouse:rooms/peers`): see `wit/rooms.wit` for what they promise.
//!
//! ```no_run
//! use guesthouse_sdk::{Body, Response, peers};
//!
//! fn how_many(room: &str) -> Response {
//!     match peers::call("counter", room, "GET", "/count", &[]) {
//!         Ok(answer) => Response::new(answer.status).body(Body::Bytes(answer.body)),
//!         Err(error) => Response::text(502, format!("{error}\n")),
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! From a room, a call is a commit point; a post is part of the event.

pub use crate::bindings::guesthouse::rooms::peers::{CallRequest, RoomRef};
pub use crate::bindings::guesthouse::rooms::types::{Error, Header, Peer, Response};

/// Calls the room of this name; `class` is the plugin whose room it is.
///
/// # Errors
/// What [`Error`] lists. An answer with an error status is an answer.
pub fn call(
    class: &str,
    name: &str,
    method: &str,
    path_with_query: &str,
    body: &[u8],
) -> Result<Response, Error> {
    let (to, request) = request(class, name, method, path_with_query, body);
    call_with(&to, &request)
}

/// The same, with header fields.
///
/// # Errors
/// What [`Error`] lists.
pub fn call_with(to: &RoomRef, request: &CallRequest) -> Result<Response, Error> {
    crate::bindings::guesthouse::rooms::peers::call(to, request)
}

/// Gives a request to the room of this name, and does not wait for what it does: at most once, and when what the
/// event wrote is durable.
///
/// # Errors
/// It is not granted, malformed or over a limit. What becomes of it is not known.
pub fn post(
    class: &str,
    name: &str,
    method: &str,
    path_with_query: &str,
    body: &[u8],
) -> Result<(), Error> {
    let (to, request) = request(class, name, method, path_with_query, body);
    post_with(&to, &request)
}

/// The same, with header fields.
///
/// # Errors
/// As [`post`].
pub fn post_with(to: &RoomRef, request: &CallRequest) -> Result<(), Error> {
    crate::bindings::guesthouse::rooms::peers::post(to, request)
}

fn request(
    class: &str,
    name: &str,
    method: &str,
    path_with_query: &str,
    body: &[u8],
) -> (RoomRef, CallRequest) {
    let to = RoomRef { class: class.to_owned(), name: name.to_owned() };
    let request = CallRequest {
        method: method.to_owned(),
        path_with_query: path_with_query.to_owned(),
        headers: Vec::new(),
        body: body.to_vec(),
    };
    (to, request)
}
