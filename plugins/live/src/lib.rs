//! Rooms in which people and agents edit one program and see it run.
//!
//! Owns which door an event comes through. The rules of each door are in its own file, and all doors lead to the
//! same session:
//!
//! | file | owns |
//! |---|---|
//! | `session`, `delta`, `unidiff`, `changes` | the session, its hashes, and differences |
//! | `document`, `wire`, `structs` | the code as a Yjs document, the messages of Yjs, and what an update holds |
//! | `state`, `keep`, `settings` | the room at work, what it keeps, what the operator has set |
//! | `talk`, `protocol` | `/live/{room}/websocket` |
//! | `share` | `/live/{room}/yjs` |
//! | `rest`, `answer`, `page`, `files`, `history` | plain requests |
//! | `mcp`, `lines` | `/live/{room}/mcp` |
//! | `front` | `/mcp`, `/api/room` |
//! | `chat` | `/live/{room}/messages`, `/api/chat` |
//! | `people`, `access` | who is here, and who may do what |
//! | `javascript` | JavaScript of the code |

pub mod access;
pub mod answer;
pub mod changes;
mod chat;
pub mod delta;
pub mod document;
pub mod files;
pub mod front;
pub mod history;
pub mod javascript;
pub mod keep;
pub mod lines;
pub mod mcp;
pub mod page;
pub mod people;
pub mod protocol;
pub mod rest;
pub mod session;
pub mod settings;
pub mod share;
pub mod state;
pub mod structs;
pub mod talk;
pub mod unidiff;
pub mod wire;

use answer::Answer;
use guesthouse_sdk::room::{
    Accept, AlarmInfo, CloseInfo, ConnId, Connection, Message, Request, Response, Room,
    connections, self_room,
};
use state::{Done, Fail, JSON, Live, Refusal, YJS, refuse};

/// The component.
pub struct Rooms;

guesthouse_sdk::export_room!(Rooms);

impl Room for Rooms {
    fn on_start() -> Result<(), String> {
        // So that a client that only wants to know whether it is still connected wakes nobody.
        let pair = (r#"{"type":"ping"}"#, r#"{"type":"pong"}"#);
        connections::set_auto_response(Some(pair)).map_err(|error| error.to_string())
    }

    fn on_connect(id: ConnId, request: Request) -> Result<Accept, Response> {
        let entered = segments(&request.path_with_query).and_then(|(_, path)| {
            let tag = rest::door(&path).ok_or_else(|| refuse(404, "There is no WebSocket here"))?;
            let who = request.principal.as_ref();
            let attached = state::with(|live| match tag {
                JSON => talk::enter(live, id, rest::wished_name(&request), who),
                _ => share::enter(live, id, who),
            })?;
            Ok(Accept {
                subprotocol: None,
                tags: vec![tag.to_owned()],
                attachment: attached.bytes(),
            })
        });
        entered.map_err(|fail| failed(fail).done())
    }

    fn on_message(id: ConnId, message: Message) -> Result<(), String> {
        let Some(from) = connections::get(id) else { return Ok(()) };
        let is_yjs = from.tags.iter().any(|tag| tag == YJS);
        ended(state::with(|live| match &message {
            Message::Text(text) if !is_yjs => talk::hear(live, &from, text),
            Message::Binary(bytes) if is_yjs => share::hear(live, &from, bytes),
            _ => Ok(connections::close(id, 4400, "that is not what is spoken here")?),
        }))
    }

    fn on_close(connection: Connection, _: CloseInfo) -> Result<(), String> {
        if connection.tags.iter().any(|tag| tag == YJS) {
            ended(share::leave(&connection))
        } else {
            ended(talk::leave(&connection))
        }
    }

    fn on_alarm(_: AlarmInfo) -> Result<(), String> {
        ended(state::with(Live::alarm))
    }

    fn on_request(request: Request) -> Response {
        let answer = segments(&request.path_with_query).and_then(|(api, path)| {
            state::with(|live| {
                if api {
                    rest::api(live, &request, &path)
                } else {
                    rest::answer(live, &request, &path)
                }
            })
        });
        match answer {
            Ok(answer) => answer.done(),
            Err(Fail::Broken(why)) => {
                // A response would make true what was written so far: only a trap takes it back.
                eprintln!("{why}");
                std::process::abort()
            }
            Err(refused) => failed(refused).done(),
        }
    }
}

/// What stands behind the room's name, decoded; and whether it is `/api-v1`. `/api/room/{room}/…` is `/live/{room}/…`.
fn segments(target: &str) -> Done<(bool, Vec<String>)> {
    if !session::is_name(&self_room::name()) {
        return Err(refuse(
            400,
            "Invalid codeSpace: a room's name has 1 to 64 letters, digits, dots, dashes or underscores",
        ));
    }
    let path = target.split('?').next().unwrap_or_default();
    let mut parts = path.split('/').skip(1);
    let first = parts.next();
    let api = first == Some("api-v1");
    if first == Some("api") {
        parts.next();
    }
    let decode = |part: &str| {
        percent_encoding::percent_decode_str(part).decode_utf8().ok().map(|text| text.into_owned())
    };
    let path: Option<Vec<String>> = parts.skip(1).map(decode).collect();
    Ok((api, path.ok_or_else(|| refuse(400, "The path is not UTF-8"))?))
}

fn failed(fail: Fail) -> Answer {
    match fail {
        Fail::Refused(refusal) => Answer::refusal(&refusal),
        Fail::Broken(why) => {
            eprintln!("{why}");
            let message = "The room is broken at the moment".to_owned();
            Answer::refusal(&Refusal { status: 500, message })
        }
    }
}

fn ended(done: Done<()>) -> Result<(), String> {
    match done {
        Ok(()) => Ok(()),
        Err(Fail::Refused(refusal)) => Err(refusal.message),
        Err(Fail::Broken(why)) => Err(why),
    }
}
