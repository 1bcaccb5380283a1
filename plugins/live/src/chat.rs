//! The chat of a room: `/live/{room}/messages` and `/api/chat`.
//!
//! Owns the door: what is looked at before a model is asked, and which status says what is wrong. The answer streams,
//! so this is an endpoint beside the room and not the room itself, whose answers are whole: what it does to the room it
//! does as any caller would, and the room decides each time whether that caller may. The danger that shaped it is the
//! bill: nothing is asked of a model before the caller is known to be one who may write, and a conversation has a bound
//! in size, in steps and in tokens.
//!
//! | file | owns |
//! |---|---|
//! | `asked` | what a client sends, and its checks |
//! | `model` | how a model is asked, and what its stream says |
//! | `reply` | the conversation with the model, and the stream to the client |

mod asked;
mod model;
mod reply;

use crate::session::is_name;
use crate::settings::Settings;
use guesthouse_sdk::peers::{self, CallRequest, Header, RoomRef};
use guesthouse_sdk::{Body, ReadError, Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// Bytes of a request.
const REQUEST: usize = 10 << 20;

/// Answers a request to the chat of a room.
#[must_use]
pub(crate) fn answer(request: &Request, room: &str) -> Response {
    let to = Room::new(room);
    match request.method().as_str() {
        "GET" | "HEAD" => match to.call("GET", "messages", Vec::new()) {
            Ok(answer) => from_room(answer),
            Err(refused) => refused,
        },
        "POST" => post(request, to).unwrap_or_else(|refused| refused),
        _ => error(405, "Method not allowed; allowed are GET, HEAD, POST and OPTIONS")
            .with("allow", "GET, HEAD, POST, OPTIONS"),
    }
}

/// The room that `/api/chat` is about: the page from which it is asked says so.
///
/// # Errors
/// The page is no page of a room.
pub(crate) fn of_referer(referer: Option<&str>) -> Result<String, Response> {
    let referer = referer.ok_or_else(|| error(400, "Missing referer header"))?;
    let after = referer.split_once("://").and_then(|(_, after)| after.split_once('/'));
    let Some((_, path)) = after else { return Err(error(400, "Invalid referer URL")) };
    let mut segments = path.split(['?', '#']).next().unwrap_or_default().split('/');
    match (segments.next(), segments.next().and_then(room_of)) {
        (Some("live"), Some(room)) => Ok(room),
        _ => Err(error(400, "Invalid referer path format")),
    }
}

/// The room of `/live/{room}/messages`.
#[must_use]
pub(crate) fn of_path(path: &str) -> Option<&str> {
    path.strip_prefix("/live/")?.strip_suffix("/messages").filter(|room| !room.contains('/'))
}

/// A segment of a path as the name of a room.
#[must_use]
pub(crate) fn room_of(segment: &str) -> Option<String> {
    let name = percent_decode_str(segment).decode_utf8().ok()?.into_owned();
    is_name(&name).then_some(name)
}

/// An answer of the chat's own.
fn error(status: u16, message: &str) -> Response {
    Response::json(status, json!({ "error": message }).to_string())
}

/// What a room answers, without what every answer gets.
#[must_use]
pub(crate) fn from_room(answer: peers::Response) -> Response {
    let mut response = Response::new(answer.status);
    for header in answer.headers {
        if let Ok(value) = String::from_utf8(header.value)
            && !header.name.starts_with("access-control-")
            && header.name != "x-content-type-options"
        {
            response = response.with(&header.name, value);
        }
    }
    response.body(Body::Bytes(answer.body))
}

/// A room, asked for the caller of this request.
struct Room {
    settings: Settings,
    name: String,
}

impl Room {
    fn new(name: &str) -> Self {
        Self { settings: Settings::read(), name: name.to_owned() }
    }

    fn call(&self, method: &str, path: &str, body: Vec<u8>) -> Result<peers::Response, Response> {
        let to = RoomRef { class: self.settings.class.clone(), name: self.name.clone() };
        let kind = b"application/json".to_vec();
        let request = CallRequest {
            method: method.to_owned(),
            path_with_query: format!("/live/{}/{path}", self.name),
            headers: vec![Header { name: "content-type".to_owned(), value: kind }],
            body,
        };
        peers::call_with(&to, &request).map_err(|why| {
            eprintln!("the room can't be asked: {why}");
            error(503, "The room can't be asked at the moment").with("retry-after", "1")
        })
    }

    /// Whether the caller may write, and so may chat.
    fn may_chat(&self) -> Result<(), Response> {
        let answer = self.call("GET", "access", Vec::new())?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == 200 && value.get("mayWrite") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        Err(error(403, "You may read this room but not change it, so you can't chat in it"))
    }

    /// Keeps the conversation.
    fn keep(&self, conversation: &Value) -> Result<(), Response> {
        let answer = self.call("PUT", "messages", conversation.to_string().into_bytes())?;
        if answer.status == 200 { Ok(()) } else { Err(from_room(answer)) }
    }

    /// Has the room do what the model wants done. The text that the tool says, and whether it failed.
    fn use_tool(&self, name: &str, mut arguments: Value) -> (String, bool) {
        if let Some(fields) = arguments.as_object_mut() {
            fields.insert("codeSpace".to_owned(), self.name.clone().into());
        }
        let message = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": name, "arguments": arguments },
        });
        let Ok(answer) = self.call("POST", "mcp", message.to_string().into_bytes()) else {
            return ("The room can't be asked at the moment".to_owned(), true);
        };
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        match text("/result/content/0/text") {
            Some(said) => {
                let failed = value.pointer("/result/isError") != Some(&Value::Bool(false));
                (said.to_owned(), failed)
            }
            None => (text("/error/message").unwrap_or("The tool failed").to_owned(), true),
        }
    }
}

fn post(request: &Request, room: Room) -> Result<Response, Response> {
    // What a page of another origin can't send without asking first: it would spend its visitor's money.
    let kind = request.header("content-type").unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(error(415, "Send a body with content-type application/json"));
    }
    let too_large = || error(413, "Request too large");
    let told = request.header("content-length").and_then(|length| length.parse::<usize>().ok());
    if told.is_some_and(|length| length > REQUEST) {
        return Err(too_large());
    }
    let body = match request.body().map_or(Ok(Vec::new()), |mut body| body.read_all(REQUEST)) {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return Err(too_large()),
        Err(ReadError::Cut) => return Err(error(400, "The body could not be read to its end")),
    };
    let (asked, messages) = asked::read(&body)?;
    room.may_chat()?;
    room.keep(&asked)?;
    reply::begin(room, asked, messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_that_asks_says_which_room() {
        for (referer, room) in [
            ("https://a.example/live/den", "den"),
            ("http://127.0.0.1:8787/live/den/embed?x=1", "den"),
            ("https://a.example/live/d%2Een#y", "d.en"),
        ] {
            assert_eq!(of_referer(Some(referer)).ok().as_deref(), Some(room), "{referer}");
        }
        for referer in [
            None,
            Some("den"),
            Some("https://a.example"),
            Some("https://a.example/"),
            Some("https://a.example/live"),
            Some("https://a.example/live/"),
            Some("https://a.example/life/den"),
            Some("https://a.example/live/a%2Fb"),
        ] {
            assert_eq!(of_referer(referer).err().map(|no| no.status), Some(400), "{referer:?}");
        }
    }

    #[test]
    fn only_the_messages_of_a_room_are_its_chat() {
        assert_eq!(of_path("/live/den/messages"), Some("den"));
        for path in ["/live/messages", "/live/den", "/live/den/x/messages", "/mcp"] {
            assert_eq!(of_path(path), None, "{path}");
        }
    }
}
