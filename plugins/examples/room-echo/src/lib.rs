//! A room that sends back what it gets.

use guesthouse_sdk::room::{ConnId, Delivery, Message, Room, connections};

struct Echo;

guesthouse_sdk::export_room!(Echo);

impl Room for Echo {
    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        connections::send(id, &message, Delivery::Reliable).map_err(|error| error.to_string())
    }
}
