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
//! From a room, a call is a commit point.

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
    let to = RoomRef { class: class.to_owned(), name: name.to_owned() };
    let request = CallRequest {
        method: method.to_owned(),
        path_with_query: path_with_query.to_owned(),
        headers: Vec::new(),
        body: body.to_vec(),
    };
    call_with(&to, &request)
}

/// The same, with header fields.
///
/// # Errors
/// What [`Error`] lists.
pub fn call_with(to: &RoomRef, request: &CallRequest) -> Result<Response, Error> {
    crate::bindings::guesthouse::rooms::peers::call(to, request)
}
