//! The Model Context Protocol over Streamable HTTP: agents read and edit the room's code.
//!
//! Owns the protocol and the seven tools. Each message is answered in the response to it: there is nothing that the
//! room would say by itself, so there are no sessions and no streams. A tool that fails says so in its result, so
//! that the agent can mend it; only what is no call at all is an error of the protocol.

use crate::answer::{Answer, field};
use crate::lines;
use crate::session::Session;
use crate::state::{Done, Fail, Live, refuse};
use guesthouse_sdk::room::Request;
use serde_json::{Value, json};

/// Versions that begin with a handshake, newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The version without one: each request says by its header fields what it is.
const MODERN: &str = "2026-07-28";
/// Messages of one batch (2025-03-26).
const BATCH: usize = 20;

/// Answers a request to `/mcp`.
///
/// # Errors
/// See [`Fail`].
pub fn answer(live: &mut Live, request: &Request) -> Done<Answer> {
    if request.method != "POST" {
        // Also for GET: no stream is offered.
        return Ok(Answer::method("POST, OPTIONS"));
    }
    if !crate::answer::says_json(request) {
        return Err(refuse(415, "Send a body with content-type application/json"));
    }
    let version = field(request, "mcp-protocol-version").unwrap_or("2025-03-26");
    let modern = version == MODERN;
    if !modern && !VERSIONS.contains(&version) {
        let supported: Vec<&str> = [MODERN].into_iter().chain(VERSIONS).collect();
        let mut error = error(&Value::Null, -32022, "Unsupported protocol version");
        if let Some(error) = error.get_mut("error").and_then(Value::as_object_mut) {
            error
                .insert("data".to_owned(), json!({ "supported": supported, "requested": version }));
        }
        return Ok(Answer::json(400, &error));
    }
    let Ok(message) = serde_json::from_slice::<Value>(&request.body) else {
        return Ok(Answer::json(400, &error(&Value::Null, -32700, "Parse error")));
    };
    let answers = match message {
        Value::Array(batch) if !modern => {
            if batch.is_empty() || batch.len() > BATCH {
                return Ok(Answer::json(
                    400,
                    &error(&Value::Null, -32600, "A batch has 1 to 20 messages"),
                ));
            }
            let mut answers = Vec::new();
            for message in &batch {
                answers.extend(one(live, request, message)?);
            }
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
        message => {
            if !message.is_object() {
                return Ok(Answer::json(400, &error(&Value::Null, -32600, "Invalid Request")));
            }
            if modern && !is_routed(request, &message) {
                let id = message.get("id").unwrap_or(&Value::Null);
                let text =
                    "The header fields mcp-method and mcp-name must say what the message says";
                return Ok(Answer::json(400, &error(id, -32020, text)));
            }
            let answer = one(live, request, &message)?;
            if modern { answer.map(complete) } else { answer }
        }
    };
    Ok(match answers {
        Some(answers) => {
            let code = answers.pointer("/error/code").and_then(Value::as_i64);
            let status = match code {
                Some(-32601) if modern => 404,
                Some(-32600 | -32602) if modern => 400,
                _ => 200,
            };
            Answer::json(status, &answers)
        }
        // Notifications, and answers to questions that nobody asked.
        None => Answer::new(202, "application/json", ""),
    })
}

/// Whether the header fields say what the message says: whoever stands between may go by them.
fn is_routed(request: &Request, message: &Value) -> bool {
    let method = message.get("method").and_then(Value::as_str);
    let name = message.pointer("/params/name").and_then(Value::as_str);
    method.is_none()
        || (field(request, "mcp-method") == method
            && (method != Some("tools/call") || field(request, "mcp-name") == name))
}

/// What results of the version without a handshake have besides.
fn complete(mut answer: Value) -> Value {
    if let Some(result) = answer.get_mut("result").and_then(Value::as_object_mut) {
        result.insert("resultType".to_owned(), "complete".into());
        if result.contains_key("tools") || result.contains_key("supportedVersions") {
            result.insert("ttlMs".to_owned(), 0.into());
            result.insert("cacheScope".to_owned(), "private".into());
        }
    }
    answer
}

fn error(id: &Value, code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

/// One message. None: it wants no answer.
fn one(live: &mut Live, request: &Request, message: &Value) -> Done<Option<Value>> {
    let id = message.get("id").cloned();
    let method = message.get("method").and_then(Value::as_str);
    let sound = message.get("jsonrpc") == Some(&json!("2.0"));
    let (id, method) = match (id, method) {
        (Some(id @ (Value::String(_) | Value::Number(_))), Some(method)) if sound => (id, method),
        (None, Some(_)) if sound => return Ok(None),
        // An answer.
        (Some(_), None) if sound && (message.get("result").or(message.get("error"))).is_some() => {
            return Ok(None);
        }
        (id, _) => return Ok(Some(error(&id.unwrap_or_default(), -32600, "Invalid Request"))),
    };
    let parameters = message.get("params").cloned().unwrap_or_default();
    let result = match method {
        "initialize" => initialize(&parameters),
        "server/discover" => discover(),
        "ping" => json!({}),
        "tools/list" => json!({ "tools": tools() }),
        "tools/call" => {
            let name = parameters.get("name").and_then(Value::as_str).unwrap_or_default();
            let arguments = parameters.get("arguments").cloned().unwrap_or_else(|| json!({}));
            if !tools().iter().any(|tool| tool.get("name").and_then(Value::as_str) == Some(name)) {
                return Ok(Some(error(&id, -32602, &format!("Unknown tool: {name}"))));
            }
            match call(live, request, name, &arguments) {
                Ok(result) => {
                    let text = serde_json::to_string_pretty(&result).unwrap_or_default();
                    json!({ "content": [{ "type": "text", "text": text }], "isError": false })
                }
                Err(Fail::Refused(refusal)) => {
                    json!({ "content": [{ "type": "text", "text": refusal.message }], "isError": true })
                }
                Err(broken) => return Err(broken),
            }
        }
        _ => return Ok(Some(error(&id, -32601, &format!("Method not found: {method}")))),
    };
    Ok(Some(json!({ "jsonrpc": "2.0", "id": id, "result": result })))
}

const INSTRUCTIONS: &str = "These tools read and edit the program of one room. People may edit it at the same time: \
    read before you edit, and prefer small edits.";

fn server() -> Value {
    json!({ "name": "guesthouse-live", "version": env!("CARGO_PKG_VERSION") })
}

fn initialize(parameters: &Value) -> Value {
    let wished = parameters.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let [newest, ..] = VERSIONS;
    let version = VERSIONS.into_iter().find(|known| *known == wished).unwrap_or(newest);
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": server(),
        "instructions": INSTRUCTIONS,
    })
}

fn discover() -> Value {
    let supported: Vec<&str> = [MODERN].into_iter().chain(VERSIONS).collect();
    json!({
        "supportedVersions": supported,
        "capabilities": { "tools": { "listChanged": false } },
        "instructions": INSTRUCTIONS,
        "_meta": { "io.modelcontextprotocol/serverInfo": server() },
    })
}

/// The tools, as they are listed.
#[must_use]
pub fn tools() -> Vec<Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let tool = |name: &str, about: &str, properties: Value, required: &[&str], reads: bool| {
        let mut properties = properties;
        if let Some(fields) = properties.as_object_mut() {
            fields.insert(
                "codeSpace".to_owned(),
                text("The room's name; may be left out, but must not be another room's."),
            );
        }
        json!({
            "name": name, "description": about,
            "inputSchema": {
                "type": "object", "properties": properties, "required": required, "additionalProperties": false,
            },
            "annotations": { "readOnlyHint": reads, "openWorldHint": false },
        })
    };
    vec![
        tool("read_code", "The room's code (TypeScript with JSX).", json!({}), &[], true),
        tool(
            "read_html",
            "The HTML that the page shows before its script runs.",
            json!({}),
            &[],
            true,
        ),
        tool(
            "read_session",
            "Code, HTML, CSS, the JavaScript made of the code, and what is wrong with it.",
            json!({}),
            &[],
            true,
        ),
        tool(
            "update_code",
            "Replaces the whole code.",
            json!({ "code": text("The new code.") }),
            &["code"],
            false,
        ),
        tool(
            "edit_code",
            "Replaces lines of the code. Lines are counted from 1; both ends are included; edits must not overlap; all \
             numbers are those before the edits.",
            json!({ "edits": { "type": "array", "minItems": 1, "items": {
                "type": "object", "required": ["startLine", "endLine", "newContent"], "additionalProperties": false,
                "properties": {
                    "startLine": { "type": "integer", "minimum": 1 },
                    "endLine": { "type": "integer", "minimum": 1 },
                    "newContent": text("What stands there then; empty deletes the lines."),
                },
            } } }),
            &["edits"],
            false,
        ),
        tool(
            "search_and_replace",
            "Replaces a text, or what a regular expression matches (then with $1).",
            json!({
                "search": text("What is searched for."), "replace": text("What it becomes."),
                "isRegex": { "type": "boolean", "default": false },
                "global": { "type": "boolean", "default": true, "description": "All of it, or only the first." },
            }),
            &["search", "replace"],
            false,
        ),
        tool(
            "find_lines",
            "Lines of the code in which a text stands, or that a regular expression matches whatever its case.",
            json!({ "pattern": text("What is searched for."), "isRegex": { "type": "boolean", "default": false } }),
            &["pattern"],
            true,
        ),
    ]
}

fn call(live: &mut Live, request: &Request, name: &str, arguments: &Value) -> Done<Value> {
    let room = live.session().code_space.clone();
    if arguments.get("codeSpace").is_some_and(|named| *named != room.as_str()) {
        return Err(refuse(
            400,
            format!("This is the room {room}: ask another room's tools for another room"),
        ));
    }
    let text = |name: &str| {
        let found = arguments.get(name).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| refuse(400, format!("`{name}` must be a text")))
    };
    let flag = |name: &str, default: bool| match arguments.get(name) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(refuse(400, format!("`{name}` must be true or false"))),
    };
    let session = live.session().clone();
    match name {
        "read_code" => {
            Ok(json!({ "code": session.code, "codeSpace": room, "hash": session.hash() }))
        }
        "read_html" => Ok(json!({ "html": session.html, "codeSpace": room })),
        "read_session" => {
            live.transpile(false)?;
            let mut value = live.session().to_json();
            if let Some(fields) = value.as_object_mut() {
                fields.insert(
                    "errors".to_owned(),
                    live.meta.errors.clone().unwrap_or_else(|| json!([])),
                );
            }
            Ok(value)
        }
        "find_lines" => lines::find(&session.code, &text("pattern")?, flag("isRegex", false)?)
            .map_err(|why| refuse(400, why)),
        "update_code" => {
            let code = text("code")?;
            write(live, request, &session, code)?;
            Ok(told(live, json!({ "success": true, "message": "The code was replaced" })))
        }
        "edit_code" => {
            let edits = arguments.get("edits").cloned().unwrap_or_default();
            let edits: Vec<lines::Edit> = serde_json::from_value(edits)
                .map_err(|error| refuse(400, format!("`edits`: {error}")))?;
            let edited = lines::edit(&session.code, &edits).map_err(|why| refuse(400, why))?;
            write(live, request, &session, edited.text)?;
            Ok(told(
                live,
                json!({
                    "success": true, "diff": edited.diff, "linesChanged": edited.lines_changed,
                }),
            ))
        }
        "search_and_replace" => {
            let (search, replace) = (text("search")?, text("replace")?);
            let (is_regex, all) = (flag("isRegex", false)?, flag("global", true)?);
            let most = live.settings.code;
            let (code, count) =
                lines::replace(&session.code, &search, &replace, is_regex, all, most)
                    .map_err(|why| refuse(400, why))?;
            if count > 0 {
                write(live, request, &session, code)?;
            }
            Ok(told(live, json!({ "success": true, "replacements": count })))
        }
        _ => Err(refuse(400, "Unknown tool")),
    }
}

/// The room's code becomes this, and everyone sees it; what is wrong with it is told to the agent.
fn write(live: &mut Live, request: &Request, session: &Session, code: String) -> Done<()> {
    let new = Session { code, html: String::new(), css: String::new(), ..session.clone() };
    live.fits(&new)?;
    live.writable(request.principal.as_ref())?;
    live.set(&new, None)?;
    live.transpile(false)?;
    Ok(())
}

fn told(live: &mut Live, mut value: Value) -> Value {
    let session = live.session();
    let (room, hash) = (session.code_space.clone(), session.hash());
    if let Some(fields) = value.as_object_mut() {
        fields.insert("codeSpace".to_owned(), room.into());
        fields.insert("hash".to_owned(), hash.into());
        if let Some(errors) = &live.meta.errors {
            fields.insert("errors".to_owned(), errors.clone());
        }
    }
    value
}
