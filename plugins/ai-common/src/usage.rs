//! Tokens, from answers and from streams.
//!
//! Owns how usage is found in what an upstream says. What it doesn't say is estimated, and marked so: a
//! stream of OpenAI's protocol tells its usage only if the client asked for it, and asking for the client
//! would change what the client gets.

use crate::api::Api;
use crate::sse::Events;
use guesthouse_sdk::budget;
use serde_json::Value;

/// Bytes of an answer that is one JSON text, of which usage is read.
const LARGEST_ANSWER: usize = 1 << 20;

/// What an answer cost, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model that answered.
    pub model: Option<String>,
    /// Tokens of the request.
    pub input: Option<u64>,
    /// Tokens of the answer.
    pub output: Option<u64>,
    /// Whether a number is a guess.
    pub estimated: bool,
}

impl Usage {
    /// Spends the tokens of the caller's budget, if the operator set one.
    pub fn charge(&self) {
        let spent = self.input.unwrap_or(0).saturating_add(self.output.unwrap_or(0));
        if spent > 0 {
            budget::charge(spent);
        }
    }
}

/// Reads usage from an answer as it passes.
pub struct Reader {
    api: Api,
    kind: Kind,
    usage: Usage,
    /// Pieces of text that came; one is about one token.
    deltas: u64,
}

enum Kind {
    Events(Events),
    Json(Vec<u8>),
    Other,
}

impl Reader {
    /// For an answer of this content type.
    #[must_use]
    pub fn new(api: Api, content_type: &str) -> Self {
        let kind = match content_type.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => Kind::Events(Events::default()),
            "application/json" => Kind::Json(Vec::new()),
            _ => Kind::Other,
        };
        Self { api, kind, usage: Usage::default(), deltas: 0 }
    }

    /// The next bytes. True when the first text of the answer is among them.
    pub fn piece(&mut self, bytes: &[u8]) -> bool {
        match &mut self.kind {
            Kind::Other => false,
            Kind::Json(kept) => {
                let first = kept.is_empty();
                if kept.len() + bytes.len() <= LARGEST_ANSWER {
                    kept.extend_from_slice(bytes);
                } else {
                    self.kind = Kind::Other;
                }
                first
            }
            Kind::Events(events) => {
                let before = self.deltas;
                let (api, usage, deltas) = (self.api, &mut self.usage, &mut self.deltas);
                events.feed(bytes, |data| {
                    if let Ok(value) = serde_json::from_slice::<Value>(data) {
                        read(api, &value, usage);
                        *deltas += u64::from(has_text(&value));
                    }
                });
                before == 0 && self.deltas > 0
            }
        }
    }

    /// What was found; `input_bytes` is the size of the request, for a guess.
    #[must_use]
    pub fn finish(mut self, input_bytes: u64) -> Usage {
        if let Kind::Json(kept) = &self.kind
            && let Ok(value) = serde_json::from_slice::<Value>(kept)
        {
            read(self.api, &value, &mut self.usage);
        }
        if self.deltas > 0 {
            if self.usage.output.is_none() {
                self.usage.output = Some(self.deltas);
                self.usage.estimated = true;
            }
            if self.usage.input.is_none() {
                // About four bytes of English make a token.
                self.usage.input = Some(input_bytes / 4);
                self.usage.estimated = true;
            }
        }
        self.usage
    }
}

/// Takes what one JSON text says: an answer, or the data of an event.
fn read(api: Api, value: &Value, usage: &mut Usage) {
    // Anthropic's first event has the message inside, OpenAI's responses theirs in `response`.
    let inner = ["message", "response"].iter().find_map(|key| value.get(key)).unwrap_or(value);
    if let Some(model) = inner.get("model").and_then(Value::as_str) {
        usage.model = Some(model.to_owned());
    }
    let counts = inner.get("usage").or_else(|| value.get("usage"));
    let count = |keys: [&str; 2]| {
        keys.iter().find_map(|key| counts.and_then(|counts| counts.get(key)?.as_u64()))
    };
    let cached: u64 = if api == Api::Anthropic {
        // Reading from and writing to the cache is counted beside the input.
        ["cache_read_input_tokens", "cache_creation_input_tokens"]
            .iter()
            .filter_map(|key| counts?.get(key)?.as_u64())
            .sum()
    } else {
        0
    };
    if let Some(input) = count(["input_tokens", "prompt_tokens"]) {
        usage.input = Some(input + cached);
    }
    if let Some(output) = count(["output_tokens", "completion_tokens"]) {
        usage.output = Some(output);
    }
}

/// Whether an event brings a piece of the answer.
fn has_text(value: &Value) -> bool {
    let chat = || {
        let delta = value.get("choices")?.get(0)?.get("delta")?;
        let text =
            delta.get("content").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        Some(text || delta.get("tool_calls").is_some())
    };
    let kind = value.get("type").and_then(Value::as_str);
    kind == Some("content_block_delta")
        || kind.is_some_and(|kind| kind.starts_with("response.") && kind.ends_with(".delta"))
        || chat().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(api: Api, text: &str) -> Usage {
        let mut reader = Reader::new(api, "text/event-stream; charset=utf-8");
        for piece in text.as_bytes().chunks(7) {
            reader.piece(piece);
        }
        reader.finish(400)
    }

    #[test]
    fn an_answer_in_one_piece_has_its_usage() {
        let mut reader = Reader::new(Api::OpenAi, "application/json");
        assert!(reader.piece(br#"{"model":"gpt-4o-mini","#));
        assert!(!reader.piece(br#""usage":{"prompt_tokens":3,"completion_tokens":5}}"#));
        let usage = reader.finish(0);
        assert_eq!((usage.input, usage.output, usage.estimated), (Some(3), Some(5), false));
        assert_eq!(usage.model.as_deref(), Some("gpt-4o-mini"));
    }

    #[test]
    fn a_stream_of_anthropic_tells_its_usage_at_both_ends() {
        let usage = stream(
            Api::Anthropic,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\n\n\
             data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"hi\"}}\n\n\
             data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\n",
        );
        assert_eq!(
            usage,
            Usage {
                model: Some("claude".into()),
                input: Some(12),
                output: Some(7),
                estimated: false
            }
        );
    }

    #[test]
    fn a_stream_of_openai_that_tells_nothing_is_estimated() {
        let delta = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
        let usage = stream(Api::OpenAi, &(delta.repeat(6) + "data: [DONE]\n\n"));
        assert_eq!((usage.input, usage.output, usage.estimated), (Some(100), Some(6), true));
        let told =
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":8}}\n\n";
        let usage = stream(Api::OpenAi, &(delta.repeat(6) + told));
        assert_eq!((usage.input, usage.output, usage.estimated), (Some(9), Some(8), false));
    }
}
