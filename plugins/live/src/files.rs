//! Public files of a room: `/live/{room}/public/{path}`.
//!
//! Owns them. They are users' content on the house's own address, so they come in a box and with the type that their
//! name says.

use crate::answer::{Answer, BOX, field};
use crate::keep::{delete_all, get_blob, get_json, put_blob, put_json, scan};
use crate::state::{Done, Live, refuse};
use guesthouse_sdk::room::{Request, storage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Bytes of a path.
const PATH: usize = 256;
/// Files of one room.
const FILES: usize = 1000;

fn about_key(path: &str) -> Vec<u8> {
    [b"P", path.as_bytes()].concat()
}

fn bytes_key(path: &str) -> Vec<u8> {
    [b"p", path.as_bytes(), &[0]].concat()
}

/// Answers a request about a file; the path is decoded.
///
/// # Errors
/// What the client did wrong.
pub fn answer(live: &mut Live, request: &Request, path: &str) -> Done<Answer> {
    let decent = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if path.is_empty() && request.method == "GET" {
        let all = scan(b"P")?;
        let all: Vec<Value> =
            all.iter().filter_map(|pair| serde_json::from_slice(&pair.value).ok()).collect();
        return Ok(Answer::json(200, &json!({ "files": all })));
    }
    if !decent || path.len() > PATH || path.chars().any(char::is_control) {
        return Err(refuse(400, "That is no path of a file"));
    }
    match request.method.as_str() {
        "GET" | "HEAD" => get(request, path),
        "PUT" => put(live, request, path),
        "DELETE" => {
            if !live.may_write(request.principal.as_ref()) {
                return Err(refuse(403, "You may read this room but not change it"));
            }
            if get_json::<Value>(&about_key(path))?.is_none() {
                return Err(refuse(404, "File not found"));
            }
            storage::delete(&about_key(path))?;
            delete_all(&bytes_key(path))?;
            Ok(Answer::new(
                200,
                "text/plain; charset=utf-8",
                format!("File {path} deleted successfully"),
            ))
        }
        _ => Ok(Answer::method("GET, HEAD, PUT, DELETE")),
    }
}

fn get(request: &Request, path: &str) -> Done<Answer> {
    let Some(about) = get_json::<Value>(&about_key(path))? else {
        return Err(refuse(404, "File not found"));
    };
    let tag = format!("\"{}\"", about.get("tag").and_then(Value::as_str).unwrap_or_default());
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let kind = match kind.type_() {
        mime_guess::mime::TEXT => format!("{kind}; charset=utf-8"),
        _ => kind.to_string(),
    };
    let known = field(request, "if-none-match").unwrap_or_default();
    let answer = if known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag) {
        Answer::new(304, &kind, "")
    } else {
        Answer::new(200, &kind, get_blob(&bytes_key(path))?)
    };
    Ok(answer
        .with("etag", &tag)
        .with("cache-control", "no-cache")
        .with("cross-origin-embedder-policy", "require-corp")
        .with("content-security-policy", BOX))
}

fn put(live: &mut Live, request: &Request, path: &str) -> Done<Answer> {
    if !live.may_write(request.principal.as_ref()) {
        return Err(refuse(403, "You may read this room but not change it"));
    }
    let most = live.settings.file;
    if request.body.len() > most {
        return Err(refuse(413, format!("A file may have {most} bytes (max_file)")));
    }
    let usage = storage::usage();
    if usage.bytes + request.body.len() as u64 + 4096 > usage.max_bytes {
        return Err(refuse(507, "The room has no place left (rooms.storage)"));
    }
    let before: Option<Value> = get_json(&about_key(path))?;
    if before.is_none() && scan(b"P")?.len() >= FILES {
        return Err(refuse(507, format!("A room may have {FILES} files")));
    }
    live.create(request.principal.as_ref())?;
    let tag: String = hex::encode(Sha256::digest(&request.body)).chars().take(32).collect();
    let about = json!({ "path": path, "bytes": request.body.len(), "tag": tag });
    put_json(&about_key(path), &about)?;
    put_blob(&bytes_key(path), &request.body)?;
    let status = if before.is_some() { 200 } else { 201 };
    let text = format!("File {path} uploaded successfully");
    Ok(Answer::new(status, "text/plain; charset=utf-8", text).with("etag", &format!("\"{tag}\"")))
}
