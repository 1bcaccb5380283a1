//! Rooms, and an endpoint beside them, that call other rooms and other servers.

use guesthouse_sdk::peers::{self, CallRequest, RoomRef};
use guesthouse_sdk::room::{
    self, AlarmInfo, ConnId, Delivery, Message, Room, alarms, connections, respond, self_room,
    storage,
};
use guesthouse_sdk::{Handler, Request, Response, fetch, identity};
use std::time::Duration;

struct Peers;

guesthouse_sdk::export!(Peers);
guesthouse_sdk::export_room!(Peers);

/// What came of a call, in words.
fn call(class: &str, name: &str, query: &str) -> String {
    match peers::call(class, name, "GET", &format!("/?{query}"), &[]) {
        Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(error) => format!("{error:?}"),
    }
}

/// Whether a post was taken, in words.
fn post(class: &str, name: &str, query: &str) -> String {
    match peers::post(class, name, "POST", &format!("/?{query}"), &[]) {
        Ok(()) => "posted".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

fn get(url: &str) -> String {
    match fetch::Request::new("GET", url).send() {
        Ok(answer) => answer.status.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

fn who() -> String {
    identity::caller().map_or_else(|| "nobody".to_owned(), |caller| caller.subject)
}

impl Handler for Peers {
    fn handle(request: Request) -> Response {
        let mut path = request.path().split('/').skip(2);
        let (class, name) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        if request.path().starts_with("/post/") {
            return Response::text(200, post(class, name, request.query().unwrap_or_default()));
        }
        Response::text(200, call(class, name, request.query().unwrap_or_default()))
    }
}

impl Room for Peers {
    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        let Message::Text(message) = message else { return Ok(()) };
        let mut words = message.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_default();
        let say = |text: String| {
            connections::send(id, &room::text(text), Delivery::Reliable).map_err(|e| e.to_string())
        };
        let put = |key: &str| storage::put(key.as_bytes(), b"1").map_err(|e| e.to_string());
        match next() {
            "call" => say(call(next(), next(), next())),
            // So many, one behind the other, in one event.
            "post" => {
                let (class, name, times) = (next(), next(), next().parse::<u32>().unwrap());
                let answers: Vec<String> =
                    (0..times).map(|n| post(class, name, &format!("append={n}"))).collect();
                say(answers.last().cloned().unwrap_or_default())
            }
            "post-and-trap" => {
                post(next(), next(), next());
                panic!("trapped after a post");
            }
            "fetch" => say(get(next())),
            "who" => say(who()),
            // What was written before stays, what was written after does not.
            "call-and-trap" => {
                put("before")?;
                let answer = call(next(), next(), next());
                put("after")?;
                panic!("trapped after a call: {answer}");
            }
            "fetch-and-trap" => {
                put("before")?;
                let answer = get(next());
                put("after")?;
                panic!("trapped after a request: {answer}");
            }
            // Two requests at once, and a write between them.
            "fetch-twice" => {
                let url = next();
                put("one")?;
                say("one".to_owned())?;
                let first = get(url);
                put("two")?;
                let second = get(url);
                say(format!("{first} {second}"))
            }
            "get" => {
                let value = storage::get(next().as_bytes()).map_err(|e| e.to_string())?;
                say(if value.is_some() { "there" } else { "none" }.to_owned())
            }
            "alarm" => {
                let (url, after) = (next(), next());
                storage::put(b"url", url.as_bytes()).map_err(|e| e.to_string())?;
                alarms::set(self_room::now() + after.parse::<u64>().unwrap());
                say("set".to_owned())
            }
            other => say(format!("{other}?")),
        }
    }

    fn on_alarm(info: AlarmInfo) -> Result<(), String> {
        let url = storage::get(b"url").map_err(|e| e.to_string())?.unwrap_or_default();
        storage::put(b"rung", info.retry_count.to_string().as_bytes()).map_err(|e| e.to_string())?;
        if url.is_empty() {
            return Ok(());
        }
        let answer = get(&String::from_utf8_lossy(&url));
        if answer == "200" { Ok(()) } else { Err(answer) }
    }

    fn on_request(request: room::Request) -> room::Response {
        let query = request.path_with_query.split_once('?').map_or("", |(_, query)| query);
        let (what, rest) = query.split_once('=').unwrap_or((query, ""));
        match what {
            "who" => {
                let subject = |p: &room::Principal| p.subject.clone();
                let principal = request.principal.as_ref().map_or("nobody".to_owned(), subject);
                let peer = request.peer.as_ref().map_or("a client".to_owned(), |peer| {
                    format!("{}/{}", peer.plugin, peer.room.as_deref().unwrap_or("-"))
                });
                respond(200, format!("{principal} {} {peer}", who()))
            }
            "put" => match storage::put(rest.as_bytes(), b"1") {
                Ok(()) => respond(200, "put"),
                Err(error) => respond(500, error.to_string()),
            },
            "get" => match storage::get(rest.as_bytes()) {
                Ok(Some(_)) => respond(200, "there"),
                _ => respond(200, "none"),
            },
            // A list, and who added to it last.
            "append" => {
                let mut list = storage::get(b"list").ok().flatten().unwrap_or_default();
                list.extend(format!("{rest} ").as_bytes());
                let peer = request.peer.as_ref().map_or("a client".to_owned(), |peer| {
                    format!("{}/{}", peer.plugin, peer.room.as_deref().unwrap_or("-"))
                });
                match storage::put(b"list", &list).and_then(|()| storage::put(b"by", peer.as_bytes())) {
                    Ok(()) => respond(200, "appended"),
                    Err(error) => respond(500, error.to_string()),
                }
            }
            "show" => {
                let value = storage::get(rest.as_bytes()).ok().flatten().unwrap_or_default();
                respond(200, String::from_utf8_lossy(&value))
            }
            // Calls the first room of the list with the rest of it.
            "ring" => {
                let (first, rest) = rest.split_once(',').unwrap_or((rest, ""));
                let query = if rest.is_empty() { "who".to_owned() } else { format!("ring={rest}") };
                respond(200, call("peers", first, &query))
            }
            // Calls that room in a while, which may call this one meanwhile.
            "cross" => {
                std::thread::sleep(Duration::from_millis(200));
                respond(200, call("peers", rest, "who"))
            }
            "arm" => {
                alarms::set(self_room::now() + rest.parse().unwrap_or(0));
                respond(200, "armed")
            }
            "slow" => {
                std::thread::sleep(Duration::from_secs(3));
                respond(200, "late")
            }
            "fetch" => respond(200, get(rest)),
            "large" => {
                let to = RoomRef { class: "peers".into(), name: "other".into() };
                let body = vec![0; rest.parse().unwrap_or(0)];
                let (method, path_with_query) = ("POST".into(), "/?length".into());
                let request = CallRequest { method, path_with_query, headers: Vec::new(), body };
                match peers::call_with(&to, &request) {
                    Ok(answer) => respond(200, String::from_utf8_lossy(&answer.body)),
                    Err(error) => respond(200, format!("{error:?}")),
                }
            }
            "length" => respond(200, request.body.len().to_string()),
            "trap" => panic!("as asked"),
            _ => respond(404, "no"),
        }
    }
}
