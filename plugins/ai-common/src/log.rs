//! The log of what was asked and what it cost.
//!
//! Owns the entries, their keys and the prices. It lies in a namespace that the AI plugins share and the
//! plugin `ai-logs` reads. Losing an entry is a line on standard error; it never fails a request.
//!
//! A key is `log/` and the time counted backwards, so that a listing has the newest first; an entry goes by
//! itself after `log_days`.

use crate::api::Api;
use crate::usage::Usage;
use guesthouse_sdk::kv::{self, Bucket, Condition, Expiry, PutOptions};
use guesthouse_sdk::{config, identity};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Where entries are, below this.
pub const PREFIX: &str = "log/";
/// Characters of a summary.
const SUMMARY: usize = 120;
/// Bytes of a prompt that is kept whole.
const LONGEST_PROMPT: usize = 64 << 10;

/// One request to an upstream.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Entry {
    /// Also the cursor of `before`.
    pub id: String,
    /// Milliseconds since 1970.
    pub time: u64,
    /// Which API.
    pub provider: String,
    /// The path that was asked for.
    pub path: String,
    /// The model that answered, else the one that was asked for.
    pub model: Option<String>,
    /// The verified caller's subject.
    pub caller: Option<String>,
    /// The status of the upstream's answer, or of ours in its place.
    pub status: u16,
    /// Whether the answer came to its end and was taken.
    pub complete: bool,
    /// Milliseconds to the end of the answer.
    pub latency_ms: u64,
    /// Milliseconds to the first piece of text.
    pub first_token_ms: Option<u64>,
    /// Tokens of the request.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
    /// Whether the tokens are a guess.
    pub estimated: bool,
    /// US dollars, if the model has a price in the configuration.
    pub cost: Option<f64>,
    /// The beginning of what was asked.
    pub summary: Option<String>,
    /// The request as it was, if the configuration says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The house's id of the request.
    pub request_id: Option<String>,
    /// The upstream's id of the request.
    pub upstream_request_id: Option<String>,
}

/// What is kept of requests (`log`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Off,
    Summary,
    Full,
}

fn mode() -> Mode {
    match config::get("log").as_deref() {
        Some("off") => Mode::Off,
        Some("full") => Mode::Full,
        _ => Mode::Summary,
    }
}

/// The log's namespace.
///
/// # Errors
/// It was not granted, or the storage is down.
pub fn bucket() -> Result<Bucket, kv::Error> {
    kv::open(&config::get("log_namespace").unwrap_or_else(|| "ai-logs".to_owned()))
}

/// An entry in the making.
pub struct Pending {
    entry: Entry,
    began: Instant,
    mode: Mode,
}

impl Pending {
    /// Begins with a request. None when nothing is logged.
    #[must_use]
    pub fn begin(api: Api, path: &str, request_id: Option<String>) -> Option<Self> {
        let mode = mode();
        if mode == Mode::Off {
            return None;
        }
        let time = guesthouse_sdk::now_ms();
        let entry = Entry {
            id: id(time),
            time,
            provider: api.name().to_owned(),
            path: path.to_owned(),
            caller: identity::caller().map(|caller| caller.subject),
            request_id,
            ..Entry::default()
        };
        Some(Self { entry, began: Instant::now(), mode })
    }

    /// The first piece of the answer's text has come.
    pub fn first_token(&mut self) {
        let passed = milliseconds(self.began.elapsed());
        self.entry.first_token_ms.get_or_insert(passed);
    }

    /// The head of the answer has come.
    pub fn answered(&mut self, status: u16, upstream_request_id: Option<String>) {
        self.entry.status = status;
        self.entry.upstream_request_id = upstream_request_id;
    }

    /// What was asked, as far as it was kept while it passed.
    pub fn asked(&mut self, request: &[u8]) {
        let value = serde_json::from_slice::<Value>(request).ok();
        if let Some(value) = &value {
            let model = value.get("model").and_then(Value::as_str);
            self.entry.model = model.map(str::to_owned);
            self.entry.summary = last_text(value).map(|text| shortened(&text));
        }
        if self.mode == Mode::Full && request.len() <= LONGEST_PROMPT {
            self.entry.prompt = String::from_utf8(request.to_vec()).ok();
        }
    }

    /// Writes the entry.
    pub fn finish(mut self, usage: Usage, complete: bool) {
        let entry = &mut self.entry;
        entry.latency_ms = milliseconds(self.began.elapsed());
        entry.complete = complete;
        entry.model = usage.model.or(entry.model.take());
        entry.input_tokens = usage.input;
        entry.output_tokens = usage.output;
        entry.estimated = usage.estimated;
        let prices = config::get("prices").unwrap_or_default();
        entry.cost = cost(&prices, entry);
        if let Err(error) = write(entry) {
            eprintln!("an entry of the AI log was lost: {error}");
        }
    }
}

fn write(entry: &Entry) -> Result<(), String> {
    let text = serde_json::to_vec(entry).map_err(|error| error.to_string())?;
    let days = config::get("log_days").and_then(|days| days.parse::<u64>().ok()).unwrap_or(30);
    let options = PutOptions {
        metadata: Vec::new(),
        expires: Expiry::TtlSeconds(days.saturating_mul(86_400).max(1)),
        condition: Condition::None,
    };
    let bucket = bucket().map_err(|error| format!("{error:?}"))?;
    bucket.put(&key(&entry.id), &text, &options).map_err(|error| format!("{error:?}"))?;
    Ok(())
}

/// The key of an entry.
#[must_use]
pub fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// Sorts the newest first.
fn id(time: u64) -> String {
    let random = RandomState::new().hash_one(time);
    format!("{:016x}{:08x}", u64::MAX - time, random & 0xffff_ffff)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// US dollars for a million tokens.
#[derive(Debug, Deserialize)]
struct Price {
    input: f64,
    output: f64,
}

/// `prices` is JSON: `{"gpt-4o-mini": {"input": 0.15, "output": 0.6}}`. A model has the price of the longest
/// name that it begins with, so that dated versions need none of their own.
fn cost(prices: &str, entry: &Entry) -> Option<f64> {
    let prices: BTreeMap<String, Price> = serde_json::from_str(prices).ok()?;
    let model = entry.model.as_deref()?;
    let (_, price) = prices
        .iter()
        .filter(|(name, _)| model.starts_with(name.as_str()))
        .max_by_key(|(name, _)| name.len())?;
    #[allow(clippy::cast_precision_loss, reason = "nobody spends 2^52 tokens")]
    let part = |tokens: Option<u64>, price: f64| tokens.unwrap_or(0) as f64 * price / 1e6;
    Some(part(entry.input_tokens, price.input) + part(entry.output_tokens, price.output))
}

/// The last thing that the user said.
fn last_text(request: &Value) -> Option<String> {
    if let Some(text) = ["input", "prompt"].iter().find_map(|key| request.get(key)?.as_str()) {
        return Some(text.to_owned());
    }
    if let Some(text) = request.get("input").and_then(|input| input.get("prompt")?.as_str()) {
        return Some(text.to_owned());
    }
    let messages = ["messages", "input"].iter().find_map(|key| request.get(key)?.as_array())?;
    let content = messages
        .iter()
        .rev()
        .find(|message| message.get("role").and_then(Value::as_str) == Some("user"))?
        .get("content")?;
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            parts.iter().find_map(|part| Some(part.get("text")?.as_str()?.to_owned()))
        }
        _ => None,
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(SUMMARY).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_has_the_first_key() {
        assert!(id(2000) < id(1000));
        assert_ne!(id(1000), id(1000));
    }

    #[test]
    fn the_last_user_message_is_the_summary() {
        for (request, expected) in [
            (
                r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}"#,
                Some("c"),
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"image"},{"type":"text","text":"t"}]}]}"#,
                Some("t"),
            ),
            (r#"{"input":"i"}"#, Some("i")),
            (r#"{"input":{"prompt":"p"}}"#, Some("p")),
            (r#"{"messages":"odd"}"#, None),
        ] {
            let value = serde_json::from_str(request).unwrap();
            assert_eq!(last_text(&value).as_deref(), expected, "{request}");
        }
        assert_eq!(shortened(&"ü".repeat(200)).chars().count(), SUMMARY + 1);
    }

    #[test]
    fn the_longest_name_decides_the_price() {
        let prices =
            r#"{"gpt-4o": {"input": 2.5, "output": 10}, "gpt-4o-mini": {"input": 1, "output": 2}}"#;
        let entry = |model: &str| Entry {
            model: Some(model.to_owned()),
            input_tokens: Some(1_000_000),
            output_tokens: Some(500_000),
            ..Entry::default()
        };
        assert_eq!(cost(prices, &entry("gpt-4o-mini-2024-07-18")), Some(2.0));
        assert_eq!(cost(prices, &entry("gpt-4o")), Some(7.5));
        assert_eq!(cost(prices, &entry("other")), None);
        assert_eq!(cost("not json", &entry("gpt-4o")), None);
    }
}
