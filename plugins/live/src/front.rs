//! What is asked of the plugin and not of a room: `/mcp`, `/api/room`, and the chat.
//!
//! Owns the way from there to a room. It holds nothing itself: the room decides what its caller may do, and the host
//! tells it who that is.

use crate::chat::{self, room_of};
use crate::settings::Settings;
use guesthouse_sdk::peers::{self, CallRequest, Header, RoomRef};
use guesthouse_sdk::{Body, Handler, ReadError, Request, Response};
use serde_json::json;

/// Bytes of a message to `/mcp`.
const MESSAGE: usize = 4 << 20;
/// Fields that a message to `/mcp` takes along to its room.
const TAKEN_ALONG: [&str; 5] =
    ["content-type", "accept", "mcp-protocol-version", "mcp-method", "mcp-name"];

/// The endpoint.
pub struct Front;

guesthouse_sdk::export!(Front);

impl Handler for Front {
    fn handle(request: Request) -> Response {
        let path = request.path().trim_end_matches('/').to_owned();
        let response = match (path.as_str(), request.method().as_str()) {
            (_, "OPTIONS") => Response::new(204)
                .with("access-control-allow-methods", "GET, POST, OPTIONS")
                .with(
                    "access-control-allow-headers",
                    "content-type, authorization, accept, mcp-protocol-version, mcp-method, mcp-name, x-codespace",
                )
                .with("access-control-max-age", "86400"),
            ("/mcp", "POST") => mcp(&request),
            ("/api/room", "POST") => Response::text(200, new_name()).with("cache-control", "no-store"),
            ("/api/chat", _) => match chat::of_referer(request.header("referer").as_deref()) {
                Ok(room) => chat::answer(&request, &room),
                Err(refused) => refused,
            },
            (path, _) if chat::of_path(path).is_some() => {
                match chat::of_path(path).and_then(room_of) {
                    Some(room) => chat::answer(&request, &room),
                    None => refuse(400, "Invalid codeSpace"),
                }
            }
            ("/mcp" | "/api/room", _) => refuse(405, "Method not allowed; allowed are POST and OPTIONS")
                .with("allow", "POST, OPTIONS"),
            _ => refuse(404, "Not found"),
        };
        response.with("access-control-allow-origin", "*").with("x-content-type-options", "nosniff")
    }
}

fn refuse(status: u16, message: &str) -> Response {
    let body = json!({ "error": message }).to_string();
    Response::new(status)
        .with("content-type", "application/json")
        .body(Body::Bytes(body.into_bytes()))
}

/// A name that nobody has: 124 bits that nobody can foresee.
fn new_name() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || RandomState::new().build_hasher().finish();
    format!("r{:031x}", ((u128::from(half()) << 64) | u128::from(half())) >> 4)
}

/// The room that is meant: by the header `x-codespace` or the query `codeSpace`.
fn room(request: &Request) -> Option<String> {
    let by_query = || {
        let query = request.query()?;
        query.split('&').find_map(|pair| pair.strip_prefix("codeSpace=")).map(str::to_owned)
    };
    room_of(&request.header("x-codespace").or_else(by_query)?)
}

fn mcp(request: &Request) -> Response {
    let Some(room) = room(request) else {
        return refuse(400, "Say which room: by the header X-CodeSpace or the query codeSpace");
    };
    let body = request.body().map_or(Ok(Vec::new()), |mut body| body.read_all(MESSAGE));
    let body = match body {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return refuse(413, "A message may have 4 MiB"),
        Err(ReadError::Cut) => return refuse(400, "The body could not be read to its end"),
    };
    let headers = TAKEN_ALONG.iter().filter_map(|name| {
        let value = request.header(name)?.as_bytes().to_vec();
        Some(Header { name: (*name).to_owned(), value })
    });
    let call = CallRequest {
        method: "POST".to_owned(),
        path_with_query: format!("/live/{room}/mcp"),
        headers: headers.collect(),
        body,
    };
    match peers::call_with(&RoomRef { class: Settings::read().class, name: room }, &call) {
        Ok(answer) => chat::from_room(answer),
        Err(error) => {
            eprintln!("the room can't be asked: {error}");
            refuse(503, "The room can't be asked at the moment").with("retry-after", "1")
        }
    }
}
