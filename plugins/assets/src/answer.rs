//! What a request to the site is answered.
//!
//! Owns the URL rules: the endpoints of the service worker, plain paths, content-hashed ones, directory
//! indexes. A path is decoded once, and only names of the index are ever found, so that nothing can lead
//! out of it.

use crate::site::{File, Site};
use guesthouse_sdk::http::{self, Range};
use percent_encoding::percent_decode_str;
use std::time::{Duration, UNIX_EPOCH};

/// How long the service worker's configuration is valid: an hour.
const CONFIG_VALID_MS: u64 = 3_600_000;
/// For URLs whose content never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For all others: ask each time, and get a 304.
const REVALIDATE: &str = "no-cache";
/// For the cache of the house, which is emptied when a site is published (RFC 9213).
const FOR_THE_HOUSE: (&str, &str) = ("guesthouse-cache-control", "max-age=86400");

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The method.
    pub method: String,
    /// As the client sent it.
    pub path: String,
    /// Request fields.
    pub accept_encoding: Option<String>,
    /// Request fields.
    pub if_none_match: Option<String>,
    /// Request fields.
    pub if_modified_since: Option<String>,
    /// Request fields.
    pub range: Option<String>,
    /// Request fields.
    pub if_range: Option<String>,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub content: Content,
}

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// None.
    None,
    /// This text.
    Text(String),
    /// Bytes of a file.
    File {
        /// Its key.
        key: String,
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
    },
}

impl Reply {
    fn new(status: u16) -> Self {
        let headers = vec![("x-content-type-options", "nosniff".to_owned())];
        Self { status, headers, content: Content::None }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn text(status: u16, text: &str) -> Self {
        let mut reply = Self::new(status).with("content-type", "text/plain; charset=utf-8");
        reply.content = Content::Text(text.to_owned());
        reply
    }
}

/// Decides.
#[must_use]
pub fn answer(site: &Site, ask: &Ask) -> Reply {
    match ask.method.as_str() {
        "GET" | "HEAD" => {}
        "OPTIONS" => return Reply::new(204).with("allow", "GET, HEAD, OPTIONS"),
        _ => {
            return Reply::text(405, "Only GET and HEAD are allowed here.\n")
                .with("allow", "GET, HEAD, OPTIONS");
        }
    }
    let mut reply = endpoint(site, ask).unwrap_or_else(|| asset(site, ask));
    if ask.method == "HEAD" {
        if let Content::Text(text) = &reply.content {
            reply.headers.push(("content-length", text.len().to_string()));
        }
        reply.content = Content::None;
    }
    reply
}

/// What the service worker of the site reads.
fn endpoint(site: &Site, ask: &Ask) -> Option<Reply> {
    let hash = &site.hash;
    let path = ask.path.as_str();
    // The names under which `self.files` of swVersion.js has it: this content for ever.
    let hashed =
        path == format!("/swVersion.{hash}.mjs") || path == format!("/{hash}/swVersion.mjs");
    let (kind, body, cached) = match path {
        "/swVersion.mjs" | "/@/lib/swVersion.mjs" => {
            ("application/javascript", sw_version(hash), true)
        }
        _ if hashed => ("application/javascript", sw_version(hash), true),
        "/swVersion.json" => ("application/json", format!("{{\"swVersion\":\"{hash}\"}}"), true),
        "/swVersion.js" => {
            let name = format!("swVersion.{hash}.mjs");
            let mut files: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&site.manifest).unwrap_or_default();
            files.insert("swVersion.mjs".to_owned(), name.into());
            let files = serde_json::Value::Object(files);
            let body = format!("self.swVersion = \"{hash}\"; self.files= {files};");
            ("application/javascript", body, true)
        }
        "/sw-config.json" => {
            let valid = ask.now_ms + CONFIG_VALID_MS;
            let body = format!(
                "{{\"killSwitch\":false,\"version\":\"v16\",\"swVersion\":\"{hash}\",\"valid\":{valid}}}"
            );
            ("application/json", body, false)
        }
        "/ASSET_MANIFEST" => ("application/json", site.manifest.clone(), true),
        _ => return None,
    };
    let tag = format!("\"{hash}\"");
    let cache_control = match (hashed, cached) {
        (true, _) => IMMUTABLE,
        (false, true) => "public, max-age=0, must-revalidate",
        (false, false) => "no-store",
    };
    let mut reply = Reply::new(200)
        .with("content-type", kind)
        .with("x-hash", hash.clone())
        .with("cache-control", cache_control);
    if cached {
        reply = reply.with("etag", tag.clone()).with(FOR_THE_HOUSE.0, FOR_THE_HOUSE.1);
        if ask.if_none_match.as_deref().is_some_and(|tags| has_tag(tags, &tag)) {
            reply.status = 304;
            return Some(reply);
        }
    }
    reply.content = Content::Text(body);
    Some(reply)
}

fn sw_version(hash: &str) -> String {
    format!("export const swVersion = \"{hash}\" ;")
}

/// A file that was found.
struct Found<'a> {
    path: &'a str,
    file: &'a File,
    /// The URL names the content.
    immutable: bool,
    status: u16,
}

fn asset(site: &Site, ask: &Ask) -> Reply {
    match find(site, &ask.path) {
        Some(found) => reply_with(&found, ask),
        None => match site.file("404.html") {
            Some(file) => {
                let found = Found { path: "404.html", file, immutable: false, status: 404 };
                // A part of an error page, or a 304 for it, would hide that it is one.
                let plain = Ask { accept_encoding: ask.accept_encoding.clone(), ..Ask::default() };
                reply_with(&found, &plain)
            }
            None => Reply::text(404, "Not Found\n").with("cache-control", REVALIDATE),
        },
    }
}

/// The rules of Workers Sites: the raw path, the decoded one, then the index of a directory. A release's
/// hash in front, or a content-hashed name, asks for exactly this content.
fn find<'a>(site: &'a Site, url_path: &str) -> Option<Found<'a>> {
    let raw = url_path.strip_prefix('/')?;
    if let Some(rest) = raw.strip_prefix(site.hash.as_str()).and_then(|rest| rest.strip_prefix('/'))
    {
        return look_up(site, rest).map(|found| Found { immutable: true, ..found });
    }
    if let Some(found) = look_up(site, raw).or_else(|| look_up_older(site, raw)) {
        return Some(found);
    }
    // Pages of a single-page application have no extension; a script that is missing stays missing.
    let last = raw.rsplit('/').next().unwrap_or_default();
    let spa = site.spa.as_deref().filter(|_| !last.contains('.'))?;
    let (path, file) = site.entry(spa)?;
    Some(Found { path, file, immutable: false, status: 200 })
}

/// Whether only a former release may know this path: a page that was loaded before the site was published anew
/// asks for the scripts of its own time.
pub(crate) fn asks_for_older(site: &Site, path: &str) -> bool {
    let raw = path.strip_prefix('/').unwrap_or(path);
    let (first, last) = (raw.split('/').next(), raw.rsplit('/').next());
    let is_release = first.is_some_and(|name| {
        name.len() == site.hash.len() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let is_hashed = last.is_some_and(|name| {
        let mut parts = name.split('.').skip(1);
        parts.any(|part| part.len() == 10 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    (is_release || is_hashed) && look_up(site, raw).is_none()
}

/// Under its content's name, or its release's hash, and nothing else of former releases.
fn look_up_older<'a>(site: &'a Site, raw: &str) -> Option<Found<'a>> {
    let decoded = percent_decode_str(raw).decode_utf8().ok()?;
    site.older.iter().flatten().find_map(|older| {
        let of_release = raw
            .strip_prefix(older.hash.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| look_up(older, rest));
        of_release.map(|found| Found { immutable: true, ..found }).or_else(|| {
            let (path, file) = older.by_name(raw).or_else(|| older.by_name(&decoded))?;
            Some(Found { path, file, immutable: true, status: 200 })
        })
    })
}

fn look_up<'a>(site: &'a Site, raw: &str) -> Option<Found<'a>> {
    let decoded = percent_decode_str(raw).decode_utf8().ok()?;
    let found =
        |(path, file): (&'a str, &'a File), immutable| Found { path, file, immutable, status: 200 };
    for path in [raw, decoded.as_ref()] {
        if let Some(entry) = site.entry(path) {
            return Some(found(entry, false));
        }
        if let Some(entry) = site.by_name(path) {
            return Some(found(entry, true));
        }
    }
    let index = if decoded.is_empty() || decoded.ends_with('/') {
        format!("{decoded}index.html")
    } else {
        format!("{decoded}/index.html")
    };
    site.entry(&index).map(|entry| found(entry, false))
}

fn reply_with(found: &Found<'_>, ask: &Ask) -> Reply {
    let file = found.file;
    let variants = file.encodings.iter().map(|(name, size)| (name.as_str(), *size));
    // A range is of the plain bytes: nobody could put parts of two encodings together.
    let encoding = match ask.range {
        Some(_) => None,
        None => http::encoding(ask.accept_encoding.as_deref(), file.size, variants),
    };
    let short = file.sha256.get(..20).unwrap_or(&file.sha256);
    let (tag, key, size) = match encoding {
        Some(name) => (
            format!("\"{short}-{name}\""),
            format!("file/{}.{}", file.sha256, suffix(name)),
            file.encodings.get(name).copied().unwrap_or(0),
        ),
        None => (format!("\"{short}\""), format!("file/{}", file.sha256), file.size),
    };
    let modified = UNIX_EPOCH + Duration::from_secs(file.modified);
    let mut reply = Reply::new(found.status)
        .with("content-type", content_type(found.path))
        .with("cache-control", if found.immutable { IMMUTABLE } else { REVALIDATE })
        .with("etag", tag.clone())
        .with("last-modified", httpdate::fmt_http_date(modified))
        .with("accept-ranges", "bytes")
        .with("x-hash", file.name.rsplit('.').nth(1).unwrap_or_default())
        .with(FOR_THE_HOUSE.0, FOR_THE_HOUSE.1);
    if !file.encodings.is_empty() {
        reply = reply.with("vary", "Accept-Encoding");
    }
    if not_modified(ask, &tag, short, file.modified) {
        reply.status = 304;
        reply.headers.retain(|(name, _)| *name != "content-type");
        return reply;
    }
    if let Some(name) = encoding {
        reply = reply.with("content-encoding", name);
    }
    let (offset, length) = match wanted_range(ask, &tag, file.modified, size) {
        Range::Whole => (0, size),
        Range::Part(first, last) => {
            reply.status = 206;
            reply = reply.with("content-range", format!("bytes {first}-{last}/{size}"));
            (first, last - first + 1)
        }
        Range::Unsatisfiable => {
            reply.status = 416;
            return reply.with("content-range", format!("bytes */{size}"));
        }
    };
    reply = reply.with("content-length", length.to_string());
    reply.content = if length == 0 { Content::None } else { Content::File { key, offset, length } };
    reply
}

fn suffix(encoding: &str) -> &str {
    match encoding {
        "gzip" => "gz",
        "zstd" => "zst",
        other => other,
    }
}

fn content_type(path: &str) -> String {
    let kind = match path.rsplit('.').next() {
        Some("mjs" | "js") => "application/javascript".to_owned(),
        Some("wasm") => "application/wasm".to_owned(),
        Some("webmanifest") => "application/manifest+json".to_owned(),
        _ => mime_guess::from_path(path).first_or_octet_stream().to_string(),
    };
    let is_text = kind.starts_with("text/")
        || matches!(kind.as_str(), "application/javascript" | "application/json" | "image/svg+xml");
    if is_text { kind + "; charset=utf-8" } else { kind }
}

fn has_tag(tags: &str, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    tags.trim() == "*" || tags.split(',').any(|one| opaque(one) == opaque(tag))
}

fn not_modified(ask: &Ask, tag: &str, short: &str, modified: u64) -> bool {
    if let Some(tags) = &ask.if_none_match {
        // The tag of another encoding of the same content is as good: the client has the content.
        return has_tag(tags, tag)
            || tags.split(',').any(|one| {
                one.trim().trim_start_matches("W/").trim_start_matches('"').starts_with(short)
            });
    }
    seconds(ask.if_modified_since.as_deref()).is_some_and(|since| modified <= since)
}

fn seconds(date: Option<&str>) -> Option<u64> {
    let date = httpdate::parse_http_date(date?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The range that is asked for, unless it is one of another version (`If-Range`).
fn wanted_range(ask: &Ask, tag: &str, modified: u64, size: u64) -> Range {
    if let Some(condition) = &ask.if_range {
        let same = if condition.starts_with('"') {
            condition == tag
        } else {
            seconds(Some(condition)) == Some(modified)
        };
        if !same {
            return Range::Whole;
        }
    }
    http::range(ask.range.as_deref(), size)
}

#[cfg(test)]
mod tests;
