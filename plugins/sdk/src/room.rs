//! Rooms (`guesthouse:rooms`): see `wit/rooms.wit`, which is their manual.
//!
//! A room is a type that answers events and one line that exports it:
//!
//! ```no_run
//! use guesthouse_sdk::room::{ConnId, Delivery, Message, Room, connections};
//!
//! struct Echo;
//!
//! impl Room for Echo {
//!     fn on_message(id: ConnId, message: Message) -> Result<(), String> {
//!         connections::send(id, &message, Delivery::Reliable).map_err(|e| e.to_string())
//!     }
//! }
//!
//! guesthouse_sdk::export_room!(Echo);
//! # fn main() {}
//! ```

#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "guesthouse:rooms/room-only",
        pub_export_macro: true,
        export_macro_name: "export_room",
        default_bindings_module: "guesthouse_sdk::room::bindings",
        with: {
            "guesthouse:rooms/types@0.1.0": crate::bindings::guesthouse::rooms::types,
            "guesthouse:rooms/peers@0.1.0": crate::bindings::guesthouse::rooms::peers,
        },
    });
}

pub use crate::bindings::guesthouse::rooms::types::{
    Accept, AlarmInfo, CloseInfo, ConnId, Connection, Error, Header, Message, Peer, Principal,
    Request, Response,
};
pub use bindings::exports::guesthouse::rooms::room::Guest;
pub use bindings::guesthouse::rooms::connections::{Audience, Delivery, RelayPiece, RelayRule};
pub use bindings::guesthouse::rooms::storage::{KeyRange, Pair};
pub use bindings::guesthouse::rooms::{alarms, connections, self_room, storage};

/// What a room does. Each call is one event: a transaction. What is not written here does the obvious.
pub trait Room {
    /// Before the first event of a fresh instance.
    ///
    /// # Errors
    /// Fails the event that woke the room.
    fn on_start() -> Result<(), String> {
        Ok(())
    }

    /// A client wants to come in. Everyone may, unless this says otherwise.
    ///
    /// # Errors
    /// The answer to the client.
    fn on_connect(_id: ConnId, _request: Request) -> Result<Accept, Response> {
        Ok(Accept::default())
    }

    /// A message.
    ///
    /// # Errors
    /// Takes back what the event did, and closes the connection with 1011.
    fn on_message(id: ConnId, message: Message) -> Result<(), String>;

    /// A connection has ended.
    ///
    /// # Errors
    /// Takes back what the event did.
    fn on_close(_connection: Connection, _info: CloseInfo) -> Result<(), String> {
        Ok(())
    }

    /// The alarm.
    ///
    /// # Errors
    /// It is tried again later.
    fn on_alarm(_info: AlarmInfo) -> Result<(), String> {
        Ok(())
    }

    /// A plain request.
    fn on_request(_request: Request) -> Response {
        respond(404, "This room answers no requests.\n")
    }
}

#[allow(clippy::derivable_impls, reason = "the type is generated")]
impl Default for Accept {
    fn default() -> Self {
        Self { subprotocol: None, tags: Vec::new(), attachment: Vec::new() }
    }
}

/// A plain answer.
#[must_use]
pub fn respond(status: u16, text: impl Into<String>) -> Response {
    let value = b"text/plain; charset=utf-8".to_vec();
    let headers = vec![Header { name: "content-type".to_owned(), value }];
    Response { status, headers, body: text.into().into_bytes() }
}

/// Everyone.
#[must_use]
pub fn all() -> Audience {
    Audience { tags: Vec::new(), except: Vec::new() }
}

/// Everyone but this one.
#[must_use]
pub fn all_but(id: ConnId) -> Audience {
    Audience { tags: Vec::new(), except: vec![id] }
}

/// A text message.
#[must_use]
pub fn text(text: impl Into<String>) -> Message {
    Message::Text(text.into())
}

/// The keys that begin with this.
#[must_use]
pub fn beginning_with(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return KeyRange { start: prefix.to_vec(), end: Some(end) };
        }
    }
    KeyRange { start: prefix.to_vec(), end: None }
}

/// The export behind [`export_room!`](crate::export_room); not for use by itself.
#[doc(hidden)]
pub struct Exported<R>(std::marker::PhantomData<R>);

impl<R: Room> Guest for Exported<R> {
    fn on_start() -> Result<(), String> {
        R::on_start()
    }

    fn on_connect(id: ConnId, request: Request) -> Result<Accept, Response> {
        R::on_connect(id, request)
    }

    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        R::on_message(id, message)
    }

    fn on_close(connection: Connection, info: CloseInfo) -> Result<(), String> {
        R::on_close(connection, info)
    }

    fn on_alarm(info: AlarmInfo) -> Result<(), String> {
        R::on_alarm(info)
    }

    fn on_request(request: Request) -> Response {
        R::on_request(request)
    }
}

/// Exports a [`Room`](crate::room::Room) as this component's `guesthouse:rooms/room`.
#[macro_export]
macro_rules! export_room {
    ($room:ty) => {
        // Elsewhere nothing is exported, and the room is looked at all the same.
        const _: fn() -> Result<(), String> = <$room as $crate::room::Room>::on_start;
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::room::Exported<$room>;
    $crate::room::bindings::export_room!(Exported with_types_in $crate::room::bindings);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_prefix_ends_where_the_prefix_does() {
        assert_eq!(beginning_with(b"a").end, Some(b"b".to_vec()));
        assert_eq!(beginning_with(b"a\xff").end, Some(b"b".to_vec()));
        assert_eq!(beginning_with(b"\xff").end, None);
        assert_eq!(beginning_with(b"").end, None);
    }
}
