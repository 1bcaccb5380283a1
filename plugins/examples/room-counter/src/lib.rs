//! A room that counts: every message adds one, and everyone is told. The number that anyone has seen is on disk.

use guesthouse_sdk::room::{
    ConnId, Delivery, Error, Message, Request, Response, Room, all, connections, respond, storage,
    text,
};

struct Counter;

guesthouse_sdk::export_room!(Counter);

impl Room for Counter {
    fn on_message(_: ConnId, _: Message) -> Result<(), String> {
        add().map(drop).map_err(|error| error.to_string())
    }

    fn on_request(request: Request) -> Response {
        let number = if request.method == "POST" { add() } else { read() };
        match number {
            Ok(number) => respond(200, format!("{number}\n")),
            Err(error) => respond(503, format!("{error}\n")),
        }
    }
}

fn read() -> Result<u64, Error> {
    let bytes = storage::get(b"number")?.unwrap_or_default();
    Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
}

fn add() -> Result<u64, Error> {
    let number = read()? + 1;
    storage::put(b"number", &number.to_le_bytes())?;
    connections::broadcast(&all(), &text(number.to_string()), Delivery::Reliable)?;
    Ok(number)
}
