//! A room that does what the tests ask for, also what no room should do.

use guesthouse_sdk::room::{
    Accept, AlarmInfo, CloseInfo, ConnId, Connection, Delivery, Error, Header, KeyRange, Message,
    Request, Response, Room, alarms, all, all_but, beginning_with, connections, respond, self_room,
    storage, text,
};
use std::cell::Cell;

struct Probe;

guesthouse_sdk::export_room!(Probe);

thread_local! {
    static EVENTS: Cell<u32> = const { Cell::new(0) };
}

impl Room for Probe {
    fn on_start() -> Result<(), String> {
        let starts = number(b"starts") + 1;
        if self_room::name() == "unstartable" {
            return Err("this room does not start".to_owned());
        }
        if self_room::name().starts_with("counted") {
            storage::put(b"starts", &starts.to_be_bytes()).map_err(|e| e.to_string())?;
        }
        connections::set_auto_response(Some(("ping", "pong"))).map_err(|e| e.to_string())?;
        connections::set_relay(&[vec![1]]).map_err(|e| e.to_string())
    }

    fn on_connect(id: ConnId, request: Request) -> Result<Accept, Response> {
        let query = request.path_with_query.split_once('?').map_or("", |(_, query)| query);
        let header = |name: &str| {
            request.headers.iter().find(|h| h.name == name).map(|h| String::from_utf8_lossy(&h.value))
        };
        match query {
            "trap" => panic!("a secret that must not leave the house"),
            "refuse" => {
                storage::put(b"refused", b"").unwrap();
                let headers = vec![Header { name: "x-why".into(), value: b"because".to_vec() }];
                return Err(Response { status: 403, headers, body: b"not you".to_vec() });
            }
            "hello" => connections::send(id, &text("hello"), Delivery::Reliable).unwrap(),
            "who" => {
                let who = request.principal.as_ref().map_or("nobody", |p| p.subject.as_str());
                connections::send(id, &text(who), Delivery::Reliable).unwrap();
            }
            "seen" => {
                let mut names: Vec<&str> = request.headers.iter().map(|h| h.name.as_str()).collect();
                names.sort_unstable();
                let seen = format!("{} {}", request.path_with_query, names.join(","));
                connections::send(id, &text(seen), Delivery::Reliable).unwrap();
            }
            _ => {}
        }
        let subprotocol = header("sec-websocket-protocol")
            .and_then(|offered| offered.split(',').map(|p| p.trim().to_owned()).find(|p| p == "v2"));
        let tags = query.strip_prefix("tag=").map(str::to_owned).into_iter().collect();
        storage::put(&key(b"open/", id), b"").map_err(|e| respond(503, e.to_string()))?;
        Ok(Accept { subprotocol, tags, attachment: query.as_bytes().to_vec() })
    }

    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        EVENTS.set(EVENTS.get() + 1);
        let Message::Text(message) = message else {
            return reply(id, "binary").map_err(|e| e.to_string());
        };
        let (command, rest) = message.split_once(' ').unwrap_or((&message, ""));
        command_of(id, command, rest).map_err(|error| error.to_string())
    }

    fn on_close(connection: Connection, info: CloseInfo) -> Result<(), String> {
        let known = connections::get(connection.id).is_some();
        let line = format!(
            "{} {} {} {}",
            info.code,
            String::from_utf8_lossy(&connection.attachment),
            number(&key(b"closed/", connection.id)) + 1,
            if known { "still-known" } else { "gone" },
        );
        storage::put(&key(b"close/", connection.id), line.as_bytes()).map_err(|e| e.to_string())?;
        let times = number(&key(b"closed/", connection.id)) + 1;
        storage::put(&key(b"closed/", connection.id), &times.to_be_bytes())
            .map_err(|e| e.to_string())?;
        storage::delete(&key(b"open/", connection.id)).map_err(|e| e.to_string())
    }

    fn on_alarm(info: AlarmInfo) -> Result<(), String> {
        let rung = number(b"rung") + 1;
        storage::put(b"rung", &rung.to_be_bytes()).map_err(|e| e.to_string())?;
        if storage::get(b"alarm-fails").ok().flatten().is_some() {
            return Err(format!("try {}", info.retry_count));
        }
        if storage::get(b"alarm-traps").ok().flatten().is_some() && info.retry_count == 0 {
            panic!("the first try traps");
        }
        connections::broadcast(&all(), &text(format!("ring {}", info.retry_count)), Delivery::Reliable)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    fn on_request(request: Request) -> Response {
        let query = request.path_with_query.split_once('?').map_or("", |(_, query)| query);
        match query {
            "trap" => panic!("a secret that must not leave the house"),
            "closes" => respond(200, lines(b"close/")),
            "open" => respond(200, lines(b"open/").lines().count().to_string()),
            "log" => respond(200, lines(b"log/")),
            "events" => respond(200, EVENTS.get().to_string()),
            "starts" => respond(200, number(b"starts").to_string()),
            "keys" => respond(200, storage::usage().keys.to_string()),
            "body" => respond(200, format!("{} {}", request.method, request.body.len())),
            "spin" => loop {
                std::hint::black_box(0);
            },
            _ => respond(404, "no"),
        }
    }
}

fn command_of(id: ConnId, command: &str, rest: &str) -> Result<(), Error> {
    match command {
        "echo" => reply(id, rest),
        "say" => connections::broadcast(&all_but(id), &text(rest), Delivery::Reliable).map(drop),
        "tagged" => {
            let (tag, said) = rest.split_once(' ').unwrap();
            let mut to = all();
            to.tags.push(tag.to_owned());
            let count = connections::broadcast(&to, &text(said), Delivery::Reliable)?;
            reply(id, &format!("{count} of {}", connections::count(None)))
        }
        "put" => {
            let (key, value) = rest.split_once(' ').unwrap();
            storage::put(key.as_bytes(), value.as_bytes())?;
            reply(id, "done")
        }
        "get" => {
            let value = storage::get(rest.as_bytes())?;
            let value = value.map_or("none".to_owned(), |v| String::from_utf8_lossy(&v).into_owned());
            reply(id, &value)
        }
        // A log that the checker compares with what clients saw.
        "append" => {
            let next = number(b"next") + 1;
            storage::put(b"next", &next.to_be_bytes())?;
            storage::put(&key(b"log/", next), rest.as_bytes())?;
            connections::broadcast(&all(), &text(format!("{next} {rest}")), Delivery::Reliable)?;
            reply(id, &format!("ok {rest}"))
        }
        "put-and-trap" => {
            storage::put(b"lost", b"1")?;
            reply(id, "must not arrive")?;
            panic!("trapped after writing");
        }
        "put-and-err" => {
            storage::put(b"lost", b"1")?;
            reply(id, "must not arrive")?;
            Err(Error::Invalid("said no after writing".to_owned()))
        }
        "commit-and-trap" => {
            storage::put(b"kept", b"1")?;
            reply(id, "kept")?;
            self_room::commit()?;
            storage::put(b"lost", b"1")?;
            panic!("trapped after committing");
        }
        "attach" => connections::set_attachment(id, rest.as_bytes()),
        "attached" => {
            let connection = connections::get(id).ok_or(Error::NotFound)?;
            reply(id, &String::from_utf8_lossy(&connection.attachment))
        }
        "relayed" => {
            let last = connections::last_relayed(id);
            reply(id, &format!("{last:?}"))
        }
        "build" => reply(id, &guesthouse_sdk::config::get("build").unwrap_or_default()),
        "events" => reply(id, &EVENTS.get().to_string()),
        "close" => {
            let (code, reason) = rest.split_once(' ').unwrap();
            connections::close(id, code.parse().unwrap(), reason)
        }
        "alarm" => {
            alarms::set(self_room::now() + rest.parse::<u64>().unwrap());
            reply(id, "set")
        }
        "usage" => {
            let usage = storage::usage();
            reply(id, &format!("{} {}", usage.keys, usage.bytes))
        }
        "fill" => {
            let (count, size) = rest.split_once(' ').unwrap();
            for n in 0..count.parse::<u64>().unwrap() {
                storage::put(&key(b"fill/", n), &vec![7; size.parse().unwrap()])?;
            }
            reply(id, "filled")
        }
        "scan" => {
            let limit = rest.parse().unwrap();
            let all = KeyRange { start: Vec::new(), end: None };
            reply(id, &storage::scan(&all, limit, false)?.len().to_string())
        }
        "clear" => {
            let mut cleared = 0;
            loop {
                let count = storage::delete_range(&beginning_with(b"fill/"))?;
                cleared += count;
                if count == 0 {
                    break;
                }
            }
            reply(id, &cleared.to_string())
        }
        "storm" => {
            let size: usize = rest.parse().unwrap();
            for _ in 0..9000 {
                connections::broadcast(&all(), &Message::Binary(vec![0; size]), Delivery::Reliable)?;
            }
            Ok(())
        }
        "drops" => {
            for _ in 0..200 {
                let some = Message::Binary(vec![0; 64 << 10]);
                connections::broadcast(&all(), &some, Delivery::Droppable)?;
            }
            Ok(())
        }
        // Asks a server, or another plugin.
        "fetch" => {
            let said = match guesthouse_sdk::fetch::Request::new("GET", rest).send() {
                Ok(mut answer) => {
                    let body = answer.body.read_all(1 << 16).unwrap_or_default();
                    format!("{} {}", answer.status, String::from_utf8_lossy(&body))
                }
                Err(error) => format!("{error:?}"),
            };
            reply(id, &said)
        }
        "spin" => loop {
            std::hint::black_box(0);
        },
        "bomb" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "trap" => panic!("a secret that must not leave the house"),
        _ => reply(id, "what?"),
    }
}

fn reply(id: ConnId, said: &str) -> Result<(), Error> {
    connections::send(id, &text(said), Delivery::Reliable)
}

fn key(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn number(key: &[u8]) -> u64 {
    let bytes = storage::get(key).unwrap();
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn lines(prefix: &[u8]) -> String {
    let mut range = beginning_with(prefix);
    let mut lines = String::new();
    loop {
        let page = storage::scan(&range, 1000, false).unwrap();
        let Some(last) = page.last() else { return lines };
        range.start = [&last.key[..], &[0]].concat();
        for pair in &page {
            lines.push_str(&String::from_utf8_lossy(&pair.value));
            lines.push('\n');
        }
    }
}
