//! Plain requests to a room.
//!
//! Owns the table of paths. What a request may do is decided before it does anything: a refused request has changed
//! nothing.

use crate::answer::{Answer, BOX, PAGE, SCRIPT, parameter, preflight, says_json};
use crate::history::{self, List};
use crate::page::{Script, page};
use crate::session::Session;
use crate::state::{Done, JSON, Live, YJS, refuse};
use crate::{files, keep, mcp, people};
use guesthouse_sdk::room::Request;
use serde_json::{Value, json};

const CSS: &str = "text/css; charset=UTF-8";
/// Where the last conversation is kept.
const CONVERSATION: &[u8] = b"c/";
/// Bytes of it; more would not fit into one transaction.
const MOST_CONVERSATION: usize = 12 << 20;

/// Answers a request. `path` are the segments behind the room's name, decoded.
///
/// # Errors
/// See [`crate::state::Fail`].
pub fn answer(live: &mut Live, request: &Request, path: &[String]) -> Done<Answer> {
    if request.method == "OPTIONS" {
        return Ok(preflight());
    }
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["public", rest @ ..] => return files::answer(live, request, &rest.join("/")),
        ["mcp"] => return mcp::answer(live, request),
        ["access"] => return access(live, request),
        ["messages"] => return messages(live, request),
        ["versions"] if request.method == "POST" => return new_version(live, request),
        ["version", number, "restore"] => return restore(live, request, List::Versions, number),
        ["history", number, "restore"] => return restore(live, request, List::History, number),
        _ if !reads => return Ok(Answer::method("GET, HEAD, OPTIONS")),
        _ => {}
    }
    match segments.as_slice() {
        ["code" | "index.tsx"] => {
            let kind =
                if path.iter().any(|s| s == "code") { SCRIPT } else { "text/tsx; charset=UTF-8" };
            Ok(Answer::current(kind, &live.session().code))
        }
        ["session.json"] => {
            let mut value = live.session().to_json();
            let may_write = live.may_write(request.principal.as_ref());
            if let Some(fields) = value.as_object_mut() {
                fields.insert("exists".to_owned(), live.exists().into());
                fields.insert("mayWrite".to_owned(), may_write.into());
                fields.insert("errors".to_owned(), live.meta.errors.clone().unwrap_or(json!([])));
            }
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            Ok(Answer::current("application/json; charset=UTF-8", &text))
        }
        ["index.js" | "index.mjs" | "js"] => javascript(live, request),
        ["index.css"] => Ok(Answer::current(CSS, &live.session().css)),
        ["htm"] => Ok(boxed(Answer::current(PAGE, &live.session().html))),
        // A script that asks for the room wants what it says.
        [] | [""] if crate::answer::field(request, "sec-fetch-dest") == Some("script") => {
            javascript(live, request)
        }
        [] | [""] | ["embed" | "iframe"] => {
            let none = live.session().transpiled.is_empty();
            live.transpile(none)?;
            let errors = live.meta.errors.clone();
            let import_map = live.settings.import_map.clone();
            let text = page(live.session(), &import_map, Script::Current, errors.as_ref());
            Ok(boxed(Answer::current(PAGE, &text)))
        }
        ["errors"] => {
            live.transpile(false)?;
            let errors = live.meta.errors.clone().unwrap_or_else(|| json!([]));
            Ok(Answer::json(200, &json!({ "errors": errors })))
        }
        ["users"] => Ok(Answer::json(200, &json!({ "users": people::names() }))),
        ["room"] => Ok(Answer::json(200, &json!({ "codeSpace": live.session().code_space }))),
        ["hashCode", number] => {
            let number = number.parse().ok();
            let patch = number.map_or_else(|| Ok(json!({})), history::patch)?;
            Ok(Answer::json(200, &patch))
        }
        ["versions"] => {
            let all = List::Versions.all()?;
            Ok(Answer::json(
                200,
                &json!({
                    "codeSpace": live.session().code_space, "versionCount": all.len(), "versions": all,
                }),
            ))
        }
        ["history"] => {
            let all = List::History.all()?;
            Ok(Answer::json(
                200,
                &json!({ "codeSpace": live.session().code_space, "history": all }),
            ))
        }
        ["history", number] => {
            let (about, session) = entry(List::History, number)?;
            Ok(Answer::json(200, &with_session(about, &session)))
        }
        ["version", number] => {
            let (about, session) = entry(List::Versions, number)?;
            Ok(Answer::json(200, &with_session(about, &session)).immutable())
        }
        ["version", number, what] => version(live, number, what),
        _ => Err(refuse(404, "Not found")),
    }
}

fn boxed(answer: Answer) -> Answer {
    answer.with("content-security-policy", BOX).with("cross-origin-opener-policy", "same-origin")
}

/// JavaScript of the code as it is now; while that can't be made, the last that could.
fn javascript(live: &mut Live, request: &Request) -> Done<Answer> {
    let none = live.session().transpiled.is_empty();
    let known = live.transpile(none)?;
    let session = live.session().clone();
    if session.transpiled.is_empty() {
        let Some(errors) = &live.meta.errors else {
            return Err(refuse(
                503,
                if known {
                    "There is no JavaScript of this code"
                } else {
                    "Nobody makes JavaScript here: the setting `transpile` names no plugin that answers"
                },
            ));
        };
        return Ok(Answer::json(422, &json!({ "errors": errors })));
    }
    let origin = crate::answer::field(request, "host").unwrap_or_default();
    let mut answer = Answer::current(SCRIPT, &session.transpiled)
        .with("x-typescript-types", &format!("//{origin}/live/{}/index.tsx", session.code_space));
    if live.meta.errors.is_some() {
        answer =
            answer.with("warning", "199 - \"the code has errors: this is the last that had none\"");
    }
    Ok(answer)
}

fn number(text: &str) -> Done<u32> {
    text.parse().map_err(|_| refuse(400, "Invalid version number"))
}

fn entry(list: List, text: &str) -> Done<(Value, Session)> {
    list.get(number(text)?)?.ok_or_else(|| {
        refuse(404, if list == List::Versions { "Version not found" } else { "No such state" })
    })
}

fn with_session(mut about: Value, session: &Session) -> Value {
    if let (Some(fields), Value::Object(session)) = (about.as_object_mut(), session.to_json()) {
        fields.extend(session);
    }
    about
}

fn version(live: &Live, text: &str, what: &str) -> Done<Answer> {
    let number = number(text)?;
    let (_, session) = entry(List::Versions, text)?;
    let answer = match what {
        "embed" | "iframe" | "html" => {
            let text = page(&session, &live.settings.import_map, Script::Version(number), None);
            boxed(Answer::current(PAGE, &text))
        }
        "index.js" | "index.mjs" | "js" => Answer::current(SCRIPT, &session.transpiled),
        "index.css" => Answer::current(CSS, &session.css),
        "index.tsx" | "code" => Answer::current(SCRIPT, &session.code),
        _ => return Err(refuse(404, "Invalid version route")),
    };
    Ok(answer.immutable())
}

/// A body that is a JSON object.
///
/// # Errors
/// 400 for what is none, 415 for what does not say so.
pub fn json_body(request: &Request) -> Done<Value> {
    if !says_json(request) {
        return Err(refuse(415, "Send a body with content-type application/json"));
    }
    let value: Option<Value> = serde_json::from_slice(&request.body).ok();
    value.filter(Value::is_object).ok_or_else(|| refuse(400, "Invalid JSON body"))
}

fn new_version(live: &mut Live, request: &Request) -> Done<Answer> {
    let body = json_body(request)?;
    let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
    live.writable(request.principal.as_ref())?;
    let about = history::version(live, message, request.principal.as_ref())?;
    Ok(Answer::json(201, &about))
}

fn restore(live: &mut Live, request: &Request, list: List, text: &str) -> Done<Answer> {
    if request.method != "POST" {
        return Ok(Answer::method("POST"));
    }
    json_body(request)?;
    let (_, session) = entry(list, text)?;
    live.writable(request.principal.as_ref())?;
    // What is there now can be gone back to as well.
    history::save(live)?;
    live.set(&session, None)?;
    Ok(Answer::json(200, &live.session().to_json()))
}

fn access(live: &mut Live, request: &Request) -> Done<Answer> {
    let who = request.principal.as_ref();
    if request.method == "PUT" {
        let wish = json_body(request)?;
        if !live.meta.rights.may_own(who.map(|who| who.subject.as_str())) {
            return Err(refuse(403, "Only the owner of the room may change who writes in it"));
        }
        live.meta.rights.change(&wish).map_err(|why| refuse(400, why))?;
        live.keep_meta()?;
        people::rights_have_changed(live)?;
    } else if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Ok(Answer::method("GET, HEAD, PUT"));
    }
    let mut value = json!({
        "owned": live.meta.rights.owner.is_some(),
        "access": live.meta.rights.access,
        "mayWrite": live.may_write(who),
    });
    // Who is who is for those who are among them.
    if let Some(fields) = value.as_object_mut()
        && live.meta.rights.owner.is_some()
        && who.is_some()
        && live.may_write(who)
    {
        fields.insert("owner".to_owned(), live.meta.rights.owner.clone().into());
        fields.insert("writers".to_owned(), live.meta.rights.writers.clone().into());
    }
    Ok(Answer::json(200, &value))
}

/// The last conversation of the chat, for those who could have had it. The chat itself is an endpoint beside the room,
/// because its answers stream; it comes here to have one kept.
fn messages(live: &mut Live, request: &Request) -> Done<Answer> {
    let who = request.principal.as_ref();
    match (request.method.as_str(), &request.peer) {
        ("GET" | "HEAD", _) => {
            if !live.may_write(who) {
                return Err(refuse(403, "You may read this room but not change it"));
            }
            let kept = keep::get_blob(CONVERSATION)?;
            let kept = if kept.is_empty() { b"{\"messages\":[]}".to_vec() } else { kept };
            Ok(Answer::new(200, "application/json; charset=UTF-8", kept)
                .with("cache-control", "no-store"))
        }
        ("PUT", Some(_)) => {
            if request.body.len() > MOST_CONVERSATION {
                return Err(refuse(413, "The conversation is too long to be kept"));
            }
            live.writable(who)?;
            keep::put_blob(CONVERSATION, &request.body)?;
            Ok(Answer::json(200, &json!({ "success": true })))
        }
        ("POST", _) => Err(refuse(
            503,
            "Nobody chats here: the operator must give the plugin the route /live/{room}/messages",
        )),
        _ => Ok(Answer::method("GET, HEAD, POST")),
    }
}

/// `/api-v1/{room}/{code|run|session}`.
///
/// # Errors
/// See [`crate::state::Fail`].
pub fn api(live: &mut Live, request: &Request, path: &[String]) -> Done<Answer> {
    let action = path.first().map(String::as_str).unwrap_or_default();
    let answer = match (request.method.as_str(), action, path.len()) {
        ("OPTIONS", ..) => return Ok(preflight()),
        ("GET" | "HEAD", "code", 1) => {
            let session = live.session();
            json!({
                "success": true, "codeSpace": session.code_space, "code": session.code, "hash": session.hash(),
            })
        }
        ("PUT", "code", 1) => return put_code(live, request),
        ("POST", "run", 1) => {
            live.writable(request.principal.as_ref())?;
            if live.session().code.is_empty() {
                return Err(refuse(400, "No code to transpile"));
            }
            run(live)?;
            done(live, &["transpiled"], "Code transpiled successfully")
        }
        ("GET" | "HEAD", "session", 1) => {
            let session = live.session();
            json!({
                "success": true, "codeSpace": session.code_space, "hash": session.hash(),
                "session": {
                    "code": session.code, "transpiled": session.transpiled, "html": session.html,
                    "css": session.css, "codeSpace": session.code_space,
                },
            })
        }
        (_, "code", 1) => return Ok(Answer::method("GET, HEAD, PUT")),
        (_, "run", 1) => return Ok(Answer::method("POST")),
        (_, "session", 1) => return Ok(Answer::method("GET, HEAD")),
        _ => return Err(refuse(404, "Not found")),
    };
    Ok(Answer::json(200, &answer))
}

fn done(live: &mut Live, updated: &[&str], message: &str) -> Value {
    let session = live.session();
    json!({
        "success": true, "codeSpace": session.code_space, "hash": session.hash(), "updated": updated,
        "message": message,
    })
}

fn run(live: &mut Live) -> Done<()> {
    if !live.transpile(true)? {
        return Err(refuse(
            503,
            "Nobody makes JavaScript here: the plugin of the setting `transpile` does not answer",
        ));
    }
    match &live.meta.errors {
        None => Ok(()),
        Some(errors) => Err(refuse(
            400,
            format!("Transpilation failed: {}", crate::page::as_text(errors).trim()),
        )),
    }
}

fn put_code(live: &mut Live, request: &Request) -> Done<Answer> {
    let body = json_body(request)?;
    let Some(code) = body.get("code").and_then(Value::as_str) else {
        return Err(refuse(400, "Missing or invalid 'code' field"));
    };
    let session = live.session().clone();
    // What the page shows before it runs was made by the code that goes.
    let new = Session { code: code.to_owned(), html: String::new(), css: String::new(), ..session };
    live.fits(&new)?;
    live.writable(request.principal.as_ref())?;
    live.set(&new, None)?;
    if body.get("run").and_then(Value::as_bool) == Some(true) {
        run(live)?;
        return Ok(Answer::json(
            200,
            &done(live, &["code", "transpiled"], "Code updated and transpiled successfully"),
        ));
    }
    Ok(Answer::json(200, &done(live, &["code"], "Code updated successfully")))
}

/// Whether a request asks for the tag of a connection: `/live/{room}/websocket` or `/live/{room}/yjs`.
#[must_use]
pub fn door(path: &[String]) -> Option<&'static str> {
    match path {
        [one] if one == "websocket" => Some(JSON),
        [one] if one == "yjs" => Some(YJS),
        _ => None,
    }
}

/// The name that a client says in `?name=`.
#[must_use]
pub fn wished_name(request: &Request) -> Option<String> {
    parameter(request, "name").and_then(|name| crate::protocol::name(&name))
}
