//! The room that `cargo xtask bench` measures: the first letter of a message says what is done.

use guesthouse_sdk::room::{ConnId, Delivery, Message, Room, all, connections, storage, text};
use std::cell::Cell;

struct Bench;

guesthouse_sdk::export_room!(Bench);

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

impl Room for Bench {
    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        let Message::Text(said) = &message else { return Err("not a text".to_owned()) };
        let done = match said.as_bytes().first() {
            Some(b'b') => connections::broadcast(&all(), &message, Delivery::Reliable).map(drop),
            Some(b'a') => {
                NEXT.set(NEXT.get() + 1);
                storage::put(&NEXT.get().to_be_bytes(), said.as_bytes())
                    .and_then(|()| connections::send(id, &text("ok"), Delivery::Reliable))
            }
            _ => connections::send(id, &message, Delivery::Reliable),
        };
        done.map_err(|error| error.to_string())
    }
}
