//! A room with history and presence.
//!
//! A client comes in with `?name=ann`, gets what was said before (or, with `&since=N`, what it missed), and learns
//! who comes and goes. What it says is numbered and kept before anyone hears it. Frames are `NUMBER NAME: TEXT`
//! for what is said, `+NAME`, `-NAME` and `=NAME,NAME` for who is there.

use guesthouse_sdk::room::{
    Accept, CloseInfo, ConnId, Connection, Delivery, Error, KeyRange, Message, Request, Response,
    Room, all, beginning_with, connections, respond, storage, text,
};

/// Messages that a newcomer gets at most.
const HISTORY: u32 = 100;

struct Chat;

guesthouse_sdk::export_room!(Chat);

impl Room for Chat {
    fn on_connect(id: ConnId, request: Request) -> Result<Accept, Response> {
        let name = parameter(&request, "name").filter(|name| !name.is_empty() && name.len() <= 64);
        let Some(name) = name else { return Err(respond(400, "Say ?name= who you are.\n")) };
        let since = parameter(&request, "since").and_then(|number| number.parse().ok());
        welcome(id, &name, since).map_err(|error| respond(503, format!("{error}\n")))?;
        Ok(Accept { subprotocol: None, tags: Vec::new(), attachment: name.into_bytes() })
    }

    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        let Message::Text(said) = message else { return Err("texts only".to_owned()) };
        let connection = connections::get(id).ok_or("who says that?")?;
        say(&name_of(&connection), &said).map_err(|error| error.to_string())
    }

    fn on_close(connection: Connection, _: CloseInfo) -> Result<(), String> {
        let gone = text(format!("-{}", name_of(&connection)));
        connections::broadcast(&all(), &gone, Delivery::Reliable)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

fn welcome(id: ConnId, name: &str, since: Option<u64>) -> Result<(), Error> {
    let said = match since {
        Some(since) => {
            let start = key(since + 1);
            storage::scan(&KeyRange { start, ..beginning_with(b"m") }, HISTORY, false)?
        }
        None => {
            let mut last = storage::scan(&beginning_with(b"m"), HISTORY, true)?;
            last.reverse();
            last
        }
    };
    for pair in said {
        let line = String::from_utf8_lossy(&pair.value).into_owned();
        connections::send(id, &text(line), Delivery::Reliable)?;
    }
    let others = connections::list_page(None, None, 1000);
    let names: Vec<String> = others.iter().map(name_of).collect();
    connections::send(id, &text(format!("={}", names.join(","))), Delivery::Reliable)?;
    connections::broadcast(&all(), &text(format!("+{name}")), Delivery::Reliable).map(drop)
}

fn say(name: &str, said: &str) -> Result<(), Error> {
    let last = storage::get(b"last")?.and_then(|bytes| bytes.try_into().ok());
    let number = last.map_or(0, u64::from_be_bytes) + 1;
    let line = format!("{number} {name}: {said}");
    storage::put(b"last", &number.to_be_bytes())?;
    storage::put(&key(number), line.as_bytes())?;
    connections::broadcast(&all(), &text(line), Delivery::Reliable).map(drop)
}

fn key(number: u64) -> Vec<u8> {
    [&b"m"[..], &number.to_be_bytes()].concat()
}

fn name_of(connection: &Connection) -> String {
    String::from_utf8_lossy(&connection.attachment).into_owned()
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    let (_, query) = request.path_with_query.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}
