//! TypeScript and JSX to JavaScript: `POST /transpile`.
//!
//! Owns the endpoint: what is read from a request, what is answered, which results are kept. It has no process,
//! no network and no file; the work is done by pure functions over the source. The dangers that shaped it: a
//! source that is built to exhaust its reader, and a result that silently is not what was asked for.
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `cors` | `*` | `access-control-allow-origin`; empty: none |
//! | `max_source` | `4194304` | bytes of a source; more is 413 |
//! | `cache` | `default` | namespace for results; empty: none is kept |
//! | `cache_from` | `8192` | bytes of a source from which its result is kept |
//! | `import_map` | none | JSON with `imports`, for `importMap=1` |

mod accessors;
mod decorators;
mod diagnostics;
mod enums;
mod helpers;
mod import_map;
mod members;
mod namespaces;
mod nesting;
mod options;
mod parentheses;
mod pipeline;
mod pragmas;
mod refused;
mod results;

pub use diagnostics::{Diagnostic, as_json, as_text};
pub use import_map::ImportMap;
pub use nesting::too_deep;
pub use options::{Options, SourceMap};
pub use pipeline::{Output, transpile};

use guesthouse_sdk::{Body, Handler, ReadError, Request, Response, config};
use results::Results;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The component.
pub struct Transpile;

guesthouse_sdk::export!(Transpile);

/// Bytes of a source, unless the setting says otherwise.
const MAX_SOURCE: usize = 4 << 20;

impl Handler for Transpile {
    fn handle(request: Request) -> Response {
        let mut response = match request.method().as_str() {
            "POST" => post(&request).unwrap_or_else(|refused| refused),
            "OPTIONS" => Response::new(204)
                .with("allow", "POST, OPTIONS")
                .with("access-control-allow-methods", "POST, OPTIONS")
                .with("access-control-allow-headers", "content-type, authorization, accept")
                .with("access-control-max-age", "86400"),
            _ => refuse(405, "Only POST is allowed here: send a source as the body")
                .with("allow", "POST, OPTIONS"),
        };
        let origin = &settings().cors;
        if !origin.is_empty() {
            response = response.with("access-control-allow-origin", origin);
        }
        response.with("x-content-type-options", "nosniff")
    }
}

fn refuse(status: u16, message: &str) -> Response {
    json_response(status, json!({ "error": message }).to_string())
}

fn json_response(status: u16, body: String) -> Response {
    Response::new(status)
        .with("content-type", "application/json")
        .with("cache-control", "no-store")
        .body(Body::Bytes(body.into_bytes()))
}

/// The table at the top of this file, but for what is seldom asked for.
struct Settings {
    cors: String,
    max_source: usize,
    cache: String,
    cache_from: usize,
}

/// They are the same for as long as there is an instance.
fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let text = |name: &str, default: &str| config::get(name).unwrap_or_else(|| default.to_owned());
    let number = |name: &str, default: usize| {
        config::get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    SETTINGS.get_or_init(|| Settings {
        cors: text("cors", "*"),
        max_source: number("max_source", MAX_SOURCE),
        cache: text("cache", "default"),
        cache_from: number("cache_from", results::FROM),
    })
}

fn post(request: &Request) -> Result<Response, Response> {
    let most = settings().max_source;
    let body = request.body().map_or(Err(ReadError::Cut), |mut body| body.read_all(most));
    let body = body.map_err(|error| match error {
        ReadError::TooLarge => {
            refuse(413, &format!("A source may have {most} bytes (the setting max_source)"))
        }
        ReadError::Cut => refuse(400, "The body could not be read to its end"),
    })?;
    let mut options = Options::default();
    options.read_query(request.query().unwrap_or_default()).map_err(|why| refuse(400, &why))?;
    let source = source(request, body, &mut options).map_err(|why| refuse(400, &why))?;

    let kept = Results::open(source.len());
    let kept = kept.map(|results| (results, results::key(&source, &options)));
    let tag = match &kept {
        Some((_, key)) => format!("\"{}\"", key.get(..32).unwrap_or(key)),
        None => format!("\"{}\"", results::tag(&source, &options)),
    };
    let (found, state) = match kept.as_ref().map(|(results, key)| results.get(key)) {
        Some(Some(output)) => (output, "hit"),
        looked => {
            let map = match config::get("import_map").filter(|_| options.import_map) {
                Some(text) => ImportMap::parse(&text).map_err(|why| {
                    eprintln!("{why}");
                    refuse(500, "The import map of this house can't be read")
                })?,
                None => ImportMap::default(),
            };
            let output = transpile(&source, &options, &map)
                .map_err(|wrong| wrong_source(request, &wrong))?;
            if let Some((results, key)) = &kept {
                results.put(key, &output);
            }
            (output, if looked.is_some() { "miss" } else { "bypass" })
        }
    };
    let response = match &found.map {
        Some(map) => {
            let map: Value = serde_json::from_str(map).unwrap_or_default();
            json_response(200, json!({ "code": found.code, "map": map }).to_string())
        }
        None => Response::new(200)
            .with("content-type", "text/javascript; charset=utf-8")
            .with("cache-control", "no-cache")
            .body(Body::Bytes(found.code.into_bytes())),
    };
    Ok(response.with("etag", tag).with("x-cache", state))
}

/// The source: the body as it is, or `code` of a JSON body.
fn source(request: &Request, body: Vec<u8>, options: &mut Options) -> Result<String, String> {
    let text = String::from_utf8(body).map_err(|_| "The source is not UTF-8".to_owned())?;
    let kind = request.header("content-type").unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    if !is_json {
        return Ok(text);
    }
    let value: Value =
        serde_json::from_str(&text).map_err(|error| format!("The body is not JSON: {error}"))?;
    let Value::Object(fields) = value else {
        return Err("The body must be a JSON object".to_owned());
    };
    options.read_json(&fields)?;
    match fields.get("code") {
        Some(Value::String(code)) => Ok(code.clone()),
        _ => Err("The body has no `code`, which must be a text".to_owned()),
    }
}

fn wrong_source(request: &Request, wrong: &[Diagnostic]) -> Response {
    let accept = request.header("accept").unwrap_or_default();
    let wants_text = accept.split(',').any(|kind| kind.trim().starts_with("text/plain"));
    if wants_text {
        Response::text(422, as_text(wrong)).with("cache-control", "no-store")
    } else {
        json_response(422, as_json(wrong))
    }
}
