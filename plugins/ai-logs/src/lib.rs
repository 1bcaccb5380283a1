//! The newest entries of the AI plugins' log.
//!
//! `GET /ai-logs?limit=&before=&provider=` is a JSON array, the newest first. `limit` is 1 to 100 (20 by
//! itself), `before` the id of an entry after which to go on, `provider` one of `openai`, `anthropic`,
//! `replicate`. When there is more, a `Link` with `rel="next"` leads there.
//!
//! Settings: `log_namespace` (default `ai-logs`). Entries tell who asked for what: give this plugin's route
//! `auth = "required"`.

use ai_common::log::{self, Entry, PREFIX};
use guesthouse_sdk::kv::ListOptions;
use guesthouse_sdk::{Handler, Request, Response};
use serde_json::{Value, json};

/// Entries of one answer by itself, and at most.
const LIMIT: usize = 20;
const MOST: usize = 100;
/// Keys of one listing.
const PAGE: u32 = 500;
/// Keys that are looked at for one answer.
const LOOKED_AT: usize = 50_000;

/// The component.
pub struct AiLogs;

guesthouse_sdk::export!(AiLogs);

impl Handler for AiLogs {
    fn handle(request: Request) -> Response {
        if request.method() != "GET" && request.method() != "HEAD" {
            return Response::text(405, "This path takes GET.\n").with("allow", "GET, HEAD");
        }
        let ask = match Ask::parse(request.query().unwrap_or_default()) {
            Ok(ask) => ask,
            Err(why) => return Response::json(400, json!({ "error": why }).to_string()),
        };
        match newest(&ask) {
            Ok((entries, more)) => {
                let response = Response::json(200, Value::Array(entries).to_string())
                    .with("cache-control", "no-store");
                match more {
                    Some(id) => response.with("link", ask.next(&id)),
                    None => response,
                }
            }
            Err(why) => {
                eprintln!("the log can't be read: {why}");
                Response::json(500, json!({ "error": "The log can't be read." }).to_string())
            }
        }
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Ask {
    limit: usize,
    before: Option<String>,
    provider: Option<String>,
}

impl Ask {
    fn parse(query: &str) -> Result<Self, String> {
        let mut ask = Self { limit: LIMIT, before: None, provider: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                _ if value.is_empty() => {}
                "limit" => {
                    ask.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MOST).contains(limit))
                        .ok_or(format!("`limit` must be a number from 1 to {MOST}."))?;
                }
                "before" if value.len() == 24 && value.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    ask.before = Some(value.to_ascii_lowercase());
                }
                "before" => return Err("`before` must be the id of an entry.".to_owned()),
                "provider" if ["openai", "anthropic", "replicate"].contains(&value) => {
                    ask.provider = Some(value.to_owned());
                }
                "provider" => {
                    return Err("`provider` must be openai, anthropic or replicate.".to_owned());
                }
                other => {
                    return Err(format!("There is no parameter `{}`.", other.escape_default()));
                }
            }
        }
        Ok(ask)
    }

    fn next(&self, id: &str) -> String {
        let provider =
            self.provider.as_ref().map(|name| format!("&provider={name}")).unwrap_or_default();
        format!("</ai-logs?limit={}&before={id}{provider}>; rel=\"next\"", self.limit)
    }
}

/// The entries, and the last one's id when there are more.
fn newest(ask: &Ask) -> Result<(Vec<Value>, Option<String>), String> {
    let bucket = log::bucket().map_err(|error| format!("{error:?}"))?;
    let after = ask.before.as_deref().map(log::key);
    let mut entries = Vec::new();
    let mut last = None;
    let mut cursor = None;
    let mut seen = 0;
    loop {
        let options = ListOptions { prefix: PREFIX.to_owned(), limit: PAGE, cursor: cursor.take() };
        let page = bucket.list(&options).map_err(|error| format!("{error:?}"))?;
        for found in page.keys {
            seen += 1;
            if after.as_ref().is_some_and(|after| found.key <= *after) {
                continue;
            }
            // It may have gone since it was listed.
            let Ok(Some(kept)) = bucket.get(&found.key) else { continue };
            let Ok(entry) = serde_json::from_slice::<Entry>(&kept.value) else { continue };
            if ask.provider.as_ref().is_some_and(|provider| entry.provider != *provider) {
                continue;
            }
            if entries.len() == ask.limit {
                return Ok((entries, last));
            }
            last = Some(entry.id.clone());
            entries.push(serde_json::to_value(entry).map_err(|error| error.to_string())?);
        }
        cursor = page.cursor;
        if cursor.is_none() || seen >= LOOKED_AT {
            return Ok((entries, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_and_a_wrong_one_refused() {
        assert_eq!(Ask::parse(""), Ok(Ask { limit: 20, before: None, provider: None }));
        let id = "0123456789abcdef01234567";
        assert_eq!(
            Ask::parse(&format!("limit=5&before={id}&provider=openai")),
            Ok(Ask { limit: 5, before: Some(id.to_owned()), provider: Some("openai".to_owned()) })
        );
        for wrong in ["limit=0", "limit=101", "limit=x", "before=1", "provider=other", "page=2"] {
            assert!(Ask::parse(wrong).is_err(), "{wrong}");
        }
    }
}
