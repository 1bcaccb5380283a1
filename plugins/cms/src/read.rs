//! What a reader is answered, when the document is found.
//!
//! Owns the head of a response and which bytes follow: entity tag, conditions, ranges, compressed variants, and the
//! fields that keep a document from acting as the site. A pure function over the version. The danger that shaped
//! it: a page of one caller that runs with the cookies of another.

use crate::document::Version;
use crate::fields::cache_control;
use guesthouse_sdk::http::{self, Range};
use std::time::{Duration, UNIX_EPOCH};

/// What a document may do in a browser: run, but as nobody. Without `allow-same-origin` it has no cookies, no
/// storage, and no access to anything else that this site serves.
const SANDBOX: &str = "sandbox allow-downloads allow-forms allow-modals allow-popups \
     allow-popups-to-escape-sandbox allow-scripts";

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Without a body.
    pub head: bool,
    /// Request fields.
    pub accept_encoding: Option<String>,
    /// Request fields.
    pub if_match: Option<String>,
    /// Request fields.
    pub if_none_match: Option<String>,
    /// Request fields.
    pub if_modified_since: Option<String>,
    /// Request fields.
    pub if_unmodified_since: Option<String>,
    /// Request fields.
    pub range: Option<String>,
    /// Request fields.
    pub if_range: Option<String>,
}

/// Under which circumstances a document is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Whether anyone may read it.
    pub public: bool,
    /// Whether the version was asked for by its number.
    pub immutable: bool,
    /// Whether the address is a host of its own for documents.
    pub own_host: bool,
    /// `max_age`, in seconds.
    pub longest: u64,
    /// `embedder_policy`; empty: none.
    pub embedder_policy: String,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// Key, first byte and number of bytes; none: no body.
    pub bytes: Option<(String, u64, u64)>,
}

/// The name of a variant's key.
#[must_use]
pub fn key_of(blob: &str, variant: Option<&str>) -> String {
    match variant {
        Some(variant) => format!("{blob}.{variant}"),
        None => blob.to_owned(),
    }
}

/// A tag without the name of its variant: the content is what it names.
#[must_use]
pub fn content_tag(tag: &str) -> &str {
    tag.strip_suffix("-br").or_else(|| tag.strip_suffix("-gzip")).unwrap_or(tag)
}

/// Decides.
#[must_use]
pub fn reply(version: &Version, shown: &Shown, ask: &Ask) -> Reply {
    let variants = version.variants.iter().map(|(name, size)| (name.as_str(), *size));
    // A range is of the plain bytes: nobody could put parts of two encodings together.
    let encoding = match ask.range {
        Some(_) => None,
        None => http::encoding(ask.accept_encoding.as_deref(), version.size, variants),
    };
    let (tag, size) = match encoding {
        Some(name) => (format!("{}-{name}", version.tag), version.variants.get(name).copied()),
        None => (version.tag.clone(), Some(version.size)),
    };
    let size = size.unwrap_or_default();
    let modified = version.at / 1000;
    let mut headers = head(version, shown, &tag, modified);
    let nothing = |status: u16, headers| Reply { status, headers, bytes: None };
    if let Some(status) = condition(ask, &version.tag, modified) {
        headers.retain(|(name, _)| name != "content-type" || status == 412);
        return nothing(status, headers);
    }
    if let Some(name) = encoding {
        headers.push(("content-encoding".into(), name.to_owned()));
    }
    let (status, first, length) = match range(ask, &tag, modified, size) {
        Range::Whole => (200, 0, size),
        Range::Part(first, last) => {
            headers.push(("content-range".into(), format!("bytes {first}-{last}/{size}")));
            (206, first, last - first + 1)
        }
        Range::Unsatisfiable => {
            headers.push(("content-range".into(), format!("bytes */{size}")));
            return nothing(416, headers);
        }
    };
    headers.push(("content-length".into(), length.to_string()));
    let bytes = (!ask.head && length > 0).then(|| (key_of(&version.blob, encoding), first, length));
    Reply { status, headers, bytes }
}

fn head(version: &Version, shown: &Shown, tag: &str, modified: u64) -> Vec<(String, String)> {
    let fields = &version.fields;
    let date = UNIX_EPOCH + Duration::from_secs(modified);
    let cache =
        cache_control(fields.cache.as_deref(), shown.public, shown.immutable, shown.longest);
    let mut headers: Vec<(String, String)> =
        fields.meta.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    add("content-type", fields.kind.clone());
    add("etag", format!("\"{tag}\""));
    add("last-modified", httpdate::fmt_http_date(date));
    add("cache-control", cache);
    add("accept-ranges", "bytes".into());
    add("x-version", version.number.to_string());
    add("x-content-type-options", "nosniff".into());
    add("referrer-policy", "no-referrer".into());
    if !shown.own_host {
        add("content-security-policy", SANDBOX.into());
    }
    if shown.public {
        add("cross-origin-resource-policy", "cross-origin".into());
    }
    if !shown.embedder_policy.is_empty() {
        add("cross-origin-embedder-policy", shown.embedder_policy.clone());
    }
    if let Some(disposition) = &fields.disposition {
        add("content-disposition", disposition.clone());
    }
    if let Some(language) = &fields.language {
        add("content-language", language.clone());
    }
    let mut vary = Vec::new();
    if !version.variants.is_empty() {
        vary.push("Accept-Encoding");
    }
    if !shown.public {
        vary.extend(["Authorization", "Cookie"]);
    }
    if !vary.is_empty() {
        add("vary", vary.join(", "));
    }
    headers
}

/// The conditions of a reader, in the order of RFC 9110 §13.2.2.
fn condition(ask: &Ask, tag: &str, modified: u64) -> Option<u16> {
    if let Some(tags) = &ask.if_match {
        if !matches(tags, tag, false) {
            return Some(412);
        }
    } else if seconds(ask.if_unmodified_since.as_deref()).is_some_and(|since| modified > since) {
        return Some(412);
    }
    let fresh = match &ask.if_none_match {
        Some(tags) => matches(tags, tag, true),
        None => seconds(ask.if_modified_since.as_deref()).is_some_and(|since| modified <= since),
    };
    fresh.then_some(304)
}

/// Whether a list of tags names this content, in whatever encoding.
#[must_use]
pub fn matches(tags: &str, tag: &str, weak: bool) -> bool {
    tags.trim() == "*" || http::tags(tags, weak).any(|one| content_tag(one) == tag)
}

fn seconds(date: Option<&str>) -> Option<u64> {
    let date = httpdate::parse_http_date(date?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn range(ask: &Ask, tag: &str, modified: u64, size: u64) -> Range {
    if let Some(condition) = &ask.if_range {
        let same = match condition.trim().strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"') == Some(tag),
            None => seconds(Some(condition)) == Some(modified),
        };
        if !same {
            return Range::Whole;
        }
    }
    http::range(ask.range.as_deref(), size)
}

/// What must hold for a document to be written, deleted or restored.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// `If-Match`
    pub if_match: Option<String>,
    /// `If-None-Match`
    pub if_none_match: Option<String>,
}

impl Conditions {
    /// Whether it holds for what is there.
    #[must_use]
    pub fn hold(&self, current: Option<&Version>) -> bool {
        let named = |tags: &Option<String>, weak| {
            tags.as_ref()
                .map(|tags| current.is_some_and(|version| matches(tags, &version.tag, weak)))
        };
        named(&self.if_match, false) != Some(false)
            && named(&self.if_none_match, true) != Some(true)
    }
}

#[cfg(test)]
#[path = "read/tests.rs"]
mod tests;
