//! A room that wakes people up: `in 500` rings for everyone 500 ms later, also if the house was closed
//! meanwhile. Several alarms are a queue in the storage, with the earliest one armed.

use guesthouse_sdk::room::{
    AlarmInfo, ConnId, Delivery, Error, Message, Request, Response, Room, alarms, all,
    beginning_with, connections, respond, self_room, storage, text,
};

struct Clock;

guesthouse_sdk::export_room!(Clock);

impl Room for Clock {
    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        let Message::Text(wish) = message else { return Err("texts only".to_owned()) };
        let after: Option<u64> = wish.strip_prefix("in ").and_then(|ms| ms.parse().ok());
        let Some(after) = after else {
            let help = text("say: in MILLISECONDS");
            return connections::send(id, &help, Delivery::Reliable).map_err(|e| e.to_string());
        };
        set(self_room::now() + after).map_err(|error| error.to_string())
    }

    fn on_alarm(_: AlarmInfo) -> Result<(), String> {
        ring().map_err(|error| error.to_string())
    }

    fn on_request(_: Request) -> Response {
        match storage::get(b"rung") {
            Ok(rung) => respond(200, format!("{}\n", number(rung))),
            Err(error) => respond(503, format!("{error}\n")),
        }
    }
}

fn set(at: u64) -> Result<(), Error> {
    // Two for the same moment are two.
    let id = number(storage::get(b"id")?) + 1;
    storage::put(b"id", &id.to_be_bytes())?;
    storage::put(&[&b"a"[..], &at.to_be_bytes(), &id.to_be_bytes()].concat(), b"")?;
    arm()
}

fn ring() -> Result<(), Error> {
    let now = self_room::now();
    for pair in storage::scan(&beginning_with(b"a"), 100, false)? {
        let at = pair.key.get(1..9).and_then(|at| at.try_into().ok()).map_or(0, u64::from_be_bytes);
        if at > now {
            break;
        }
        storage::delete(&pair.key)?;
        let rung = number(storage::get(b"rung")?) + 1;
        storage::put(b"rung", &rung.to_be_bytes())?;
        connections::broadcast(&all(), &text(format!("ring {rung}")), Delivery::Reliable)?;
    }
    arm()
}

fn arm() -> Result<(), Error> {
    let first = storage::scan(&beginning_with(b"a"), 1, false)?;
    match first.first().and_then(|pair| pair.key.get(1..9)?.try_into().ok()) {
        Some(at) => alarms::set(u64::from_be_bytes(at)),
        None => alarms::clear(),
    }
    Ok(())
}

fn number(bytes: Option<Vec<u8>>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}
