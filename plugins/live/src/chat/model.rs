//! How a language model is asked, and what its stream says: Anthropic's messages and OpenAI's chat completions.
//!
//! Owns the two protocols and nothing of what is done with an answer. The model is behind another plugin, which has
//! the key, and is called within the process. What comes back was written by somebody else's program: nothing of it is
//! kept without a bound, and what does not make sense is left out.

use super::asked::{Message, Part, Role, inline};
use crate::settings::Settings;
use ai_common::Api;
use guesthouse_sdk::{Body, fetch};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Calls of tools in one answer.
const CALLS: usize = 16;

/// A model.
pub(super) struct Model {
    pub(super) api: Api,
    plugin: String,
    name: String,
    tokens: u64,
    tools: Vec<Value>,
}

/// A call of a tool that the model wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON, as it came.
    pub(super) input: String,
}

/// What a tool said.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) call: String,
    pub(super) text: String,
    pub(super) failed: bool,
}

/// What was said since the client asked.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    Answer { text: String, calls: Vec<Call> },
    Outcomes(Vec<Outcome>),
}

/// What a stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A piece of text.
    Text(String),
    /// The beginning of a call: its number in this answer, its id, its tool.
    Call(usize, String, String),
    /// A piece of the input of that call.
    Input(usize, String),
    /// Why the answer ends: as the clients' protocol calls it.
    End(&'static str),
    /// The model can't go on.
    Error(String),
}

impl Model {
    /// The one that the operator has set. None: chat is switched off.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let chat = &settings.chat;
        if chat.plugin.is_empty() {
            return None;
        }
        let api = match (chat.api.as_str(), chat.plugin.as_str()) {
            ("openai", _) | ("", "openai") => Api::OpenAi,
            _ => Api::Anthropic,
        };
        let name = match (chat.model.as_str(), api) {
            ("", Api::OpenAi) => "gpt-4o-mini",
            ("", _) => "claude-sonnet-4-5",
            (name, _) => name,
        };
        Some(Self {
            api,
            plugin: chat.plugin.clone(),
            name: name.to_owned(),
            tokens: chat.tokens,
            tools: if chat.tools { crate::mcp::tools() } else { Vec::new() },
        })
    }

    /// The plugin that has the key.
    pub(super) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// A request for the next answer.
    pub(super) fn request(
        &self,
        system: &str,
        messages: &[Message],
        turns: &[Turn],
    ) -> (fetch::Request, u64) {
        let (path, body) = match self.api {
            Api::OpenAi => ("openai/v1/chat/completions", self.openai(system, messages, turns)),
            _ => ("anthropic/v1/messages", self.anthropic(system, messages, turns)),
        };
        let body = body.to_string().into_bytes();
        let length = body.len() as u64;
        let url = format!("http://{}.internal/{path}", self.plugin);
        let request = fetch::Request::new("POST", url)
            .with("content-type", "application/json")
            .with("accept", "text/event-stream")
            .body(Body::Bytes(body));
        (request, length)
    }

    /// Tools without the room, which is not for the model to say.
    fn tools(&self, as_api: impl Fn(&str, &str, Value) -> Value) -> Vec<Value> {
        let tools = self.tools.iter().map(|tool| {
            let text = |name: &str| tool.get(name).and_then(Value::as_str).unwrap_or_default();
            let mut schema = tool.get("inputSchema").cloned().unwrap_or_default();
            if let Some(fields) = schema.pointer_mut("/properties").and_then(Value::as_object_mut) {
                fields.remove("codeSpace");
            }
            as_api(text("name"), text("description"), schema)
        });
        tools.collect()
    }

    fn anthropic(&self, system: &str, messages: &[Message], turns: &[Turn]) -> Value {
        let mut system = vec![json!({ "type": "text", "text": system })];
        let mut said = Vec::new();
        for message in messages {
            let role = match message.role {
                Role::System => {
                    system
                        .extend(texts(message).map(|text| json!({ "type": "text", "text": text })));
                    continue;
                }
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let parts: Vec<Value> = message
                .parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => json!({ "type": "text", "text": text }),
                    Part::Image(url) => {
                        let source = match inline(url) {
                            Some((kind, data)) => {
                                json!({ "type": "base64", "media_type": kind, "data": data })
                            }
                            None => json!({ "type": "url", "url": url }),
                        };
                        json!({ "type": "image", "source": source })
                    }
                })
                .collect();
            if !parts.is_empty() {
                said.push(json!({ "role": role, "content": parts }));
            }
        }
        said.extend(turns.iter().map(|turn| match turn {
            Turn::Answer { text, calls } => {
                let mut parts = Vec::new();
                if !text.is_empty() {
                    parts.push(json!({ "type": "text", "text": text }));
                }
                parts.extend(calls.iter().map(|call| {
                    let input = arguments(&call.input).unwrap_or_else(|| json!({}));
                    json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
                }));
                json!({ "role": "assistant", "content": parts })
            }
            Turn::Outcomes(outcomes) => {
                let parts = outcomes.iter().map(|outcome| {
                    json!({
                        "type": "tool_result", "tool_use_id": outcome.call,
                        "content": outcome.text, "is_error": outcome.failed,
                    })
                });
                json!({ "role": "user", "content": parts.collect::<Vec<_>>() })
            }
        }));
        let mut body = json!({
            "model": self.name, "max_tokens": self.tokens, "stream": true, "system": system, "messages": said,
        });
        let tools = self.tools(|name, about, schema| {
            json!({ "name": name, "description": about, "input_schema": schema })
        });
        if let Some(fields) = body.as_object_mut().filter(|_| !tools.is_empty()) {
            fields.insert("tools".to_owned(), tools.into());
            fields.insert("tool_choice".to_owned(), json!({ "type": "auto" }));
        }
        body
    }

    fn openai(&self, system: &str, messages: &[Message], turns: &[Turn]) -> Value {
        let mut said = vec![json!({ "role": "system", "content": system })];
        for message in messages {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            // Only users may show images.
            let content = if message.role == Role::User {
                let parts = message.parts.iter().map(|part| match part {
                    Part::Text(text) => json!({ "type": "text", "text": text }),
                    Part::Image(url) => json!({ "type": "image_url", "image_url": { "url": url } }),
                });
                parts.collect::<Value>()
            } else {
                texts(message).collect::<Vec<_>>().join("\n").into()
            };
            if !message.parts.is_empty() {
                said.push(json!({ "role": role, "content": content }));
            }
        }
        for turn in turns {
            match turn {
                Turn::Answer { text, calls } => {
                    let calls: Vec<Value> = calls
                        .iter()
                        .map(|call| {
                            let input = arguments(&call.input).unwrap_or_else(|| json!({}));
                            let function = json!({ "name": call.name, "arguments": input.to_string() });
                            json!({ "id": call.id, "type": "function", "function": function })
                        })
                        .collect();
                    said.push(
                        json!({ "role": "assistant", "content": text, "tool_calls": calls }),
                    );
                }
                Turn::Outcomes(outcomes) => said.extend(outcomes.iter().map(|outcome| {
                    json!({ "role": "tool", "tool_call_id": outcome.call, "content": outcome.text })
                })),
            }
        }
        let mut body = json!({
            "model": self.name, "max_completion_tokens": self.tokens, "stream": true,
            "stream_options": { "include_usage": true }, "messages": said,
        });
        let tools = self.tools(|name, about, schema| {
            let function = json!({ "name": name, "description": about, "parameters": schema });
            json!({ "type": "function", "function": function })
        });
        if let Some(fields) = body.as_object_mut().filter(|_| !tools.is_empty()) {
            fields.insert("tools".to_owned(), tools.into());
            fields.insert("tool_choice".to_owned(), "auto".into());
        }
        body
    }
}

fn texts(message: &Message) -> impl Iterator<Item = &str> {
    message.parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Image(_) => None,
    })
}

/// What a tool is called with. None: that is no JSON object. Nothing at all is an empty one.
pub(super) fn arguments(input: &str) -> Option<Value> {
    if input.trim().is_empty() {
        return Some(json!({}));
    }
    serde_json::from_str(input).ok().filter(Value::is_object)
}

/// Reads the events of one answer.
pub(super) struct Reading {
    api: Api,
    /// Which call a block or an index of the stream is about.
    calls: BTreeMap<u64, usize>,
}

impl Reading {
    pub(super) fn new(api: Api) -> Self {
        Self { api, calls: BTreeMap::new() }
    }

    /// What the data of an event says.
    pub(super) fn data(&mut self, data: &[u8], mut say: impl FnMut(Event)) {
        let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
        // Both tell of failures so.
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            let message = error.get("message").and_then(Value::as_str);
            return say(Event::Error(message.unwrap_or("the model failed").to_owned()));
        }
        match self.api {
            Api::OpenAi => self.openai(&value, say),
            _ => self.anthropic(&value, &mut say),
        }
    }

    /// A call begins. None: there are too many.
    fn call(&mut self, index: u64) -> Option<usize> {
        let number = self.calls.len();
        if number >= CALLS {
            return None;
        }
        self.calls.insert(index, number);
        Some(number)
    }

    fn anthropic(&mut self, value: &Value, say: &mut impl FnMut(Event)) {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let index = value.get("index").and_then(Value::as_u64).unwrap_or_default();
        match text("/type") {
            Some("content_block_start") => match text("/content_block/type") {
                Some("tool_use") => {
                    let (Some(id), Some(name)) =
                        (text("/content_block/id"), text("/content_block/name"))
                    else {
                        return;
                    };
                    match self.call(index) {
                        Some(number) => say(Event::Call(number, id.to_owned(), name.to_owned())),
                        None => say(Event::Error("the model calls too many tools".to_owned())),
                    }
                }
                Some("text") => say_text(text("/content_block/text"), say),
                _ => {}
            },
            Some("content_block_delta") => match text("/delta/type") {
                Some("text_delta") => say_text(text("/delta/text"), say),
                Some("input_json_delta") => {
                    if let (Some(number), Some(piece)) =
                        (self.calls.get(&index), text("/delta/partial_json"))
                        && !piece.is_empty()
                    {
                        say(Event::Input(*number, piece.to_owned()));
                    }
                }
                _ => {}
            },
            Some("message_delta") => {
                if let Some(reason) = text("/delta/stop_reason") {
                    say(Event::End(match reason {
                        "end_turn" | "stop_sequence" => "stop",
                        "max_tokens" | "model_context_window_exceeded" => "length",
                        "tool_use" => "tool-calls",
                        "refusal" => "content-filter",
                        _ => "other",
                    }));
                }
            }
            _ => {}
        }
    }

    fn openai(&mut self, value: &Value, mut say: impl FnMut(Event)) {
        let Some(choice) = value.pointer("/choices/0") else { return };
        let text = |pointer: &str| choice.pointer(pointer).and_then(Value::as_str);
        say_text(text("/delta/content"), &mut say);
        let calls = choice.pointer("/delta/tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str);
            let index = call.get("index").and_then(Value::as_u64).unwrap_or_default();
            let number = match self.calls.get(&index) {
                Some(number) => *number,
                None => {
                    let Some(number) = self.call(index) else {
                        return say(Event::Error("the model calls too many tools".to_owned()));
                    };
                    let name = text("/function/name").unwrap_or_default().to_owned();
                    let id = text("/id").map_or_else(|| format!("call_{number}"), str::to_owned);
                    say(Event::Call(number, id, name));
                    number
                }
            };
            if let Some(piece) = text("/function/arguments").filter(|piece| !piece.is_empty()) {
                say(Event::Input(number, piece.to_owned()));
            }
        }
        if let Some(reason) = text("/finish_reason") {
            say(Event::End(match reason {
                "stop" => "stop",
                "length" => "length",
                "tool_calls" | "function_call" => "tool-calls",
                "content_filter" => "content-filter",
                _ => "other",
            }));
        }
    }
}

fn say_text(text: Option<&str>, say: &mut impl FnMut(Event)) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        say(Event::Text(text.to_owned()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model(api: Api) -> Model {
        Model {
            api,
            plugin: "p".to_owned(),
            name: "m".to_owned(),
            tokens: 9,
            tools: crate::mcp::tools(),
        }
    }

    fn conversation() -> (Vec<Message>, Vec<Turn>) {
        let message = |role, text: &str| Message { role, parts: vec![Part::Text(text.to_owned())] };
        let mut asks = message(Role::User, "look");
        asks.parts.push(Part::Image("data:image/png;base64,AA==".to_owned()));
        let call = Call {
            id: "c1".to_owned(),
            name: "find_lines".to_owned(),
            input: "{\"a\":1}".to_owned(),
        };
        let outcome = Outcome { call: "c1".to_owned(), text: "found".to_owned(), failed: false };
        (
            vec![message(Role::System, "be brief"), asks, message(Role::Assistant, "yes")],
            vec![
                Turn::Answer { text: "I look".to_owned(), calls: vec![call] },
                Turn::Outcomes(vec![outcome]),
            ],
        )
    }

    #[test]
    fn anthropic_is_asked_in_its_own_way() {
        let (messages, turns) = conversation();
        let body = model(Api::Anthropic).anthropic("s", &messages, &turns);
        assert_eq!((&body["model"], &body["max_tokens"]), (&json!("m"), &json!(9)));
        assert_eq!(
            (&body["stream"], &body["tool_choice"]),
            (&json!(true), &json!({ "type": "auto" }))
        );
        assert_eq!(body["system"][1]["text"], "be brief");
        let said = body["messages"].as_array().unwrap();
        let roles: Vec<&str> = said.iter().map(|one| one["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "assistant", "user"]);
        assert_eq!(
            said[0]["content"][1]["source"],
            json!({ "type": "base64", "media_type": "image/png", "data": "AA==" })
        );
        assert_eq!(
            said[2]["content"][1],
            json!({ "type": "tool_use", "id": "c1", "name": "find_lines", "input": { "a": 1 } })
        );
        assert_eq!(said[3]["content"][0]["tool_use_id"], "c1");
        assert_eq!(body["tools"].as_array().unwrap().len(), 7);
        for tool in body["tools"].as_array().unwrap() {
            assert_eq!(tool["input_schema"]["properties"]["codeSpace"], Value::Null);
        }
        let plain = Model { tools: Vec::new(), ..model(Api::Anthropic) };
        assert_eq!(plain.anthropic("s", &messages, &[])["tools"], Value::Null);
    }

    #[test]
    fn openai_is_asked_in_its_own_way() {
        let (messages, turns) = conversation();
        let body = model(Api::OpenAi).openai("s", &messages, &turns);
        let said = body["messages"].as_array().unwrap();
        let roles: Vec<&str> = said.iter().map(|one| one["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "system", "user", "assistant", "assistant", "tool"]);
        assert_eq!(said[2]["content"][1]["image_url"]["url"], "data:image/png;base64,AA==");
        assert_eq!(said[4]["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
        assert_eq!(said[5]["tool_call_id"], "c1");
        assert_eq!(body["tools"][0]["function"]["name"], "read_code");
        assert_eq!(body["stream_options"]["include_usage"], true);
    }

    fn read(api: Api, stream: &[Value]) -> Vec<Event> {
        let (mut reading, mut events) = (Reading::new(api), Vec::new());
        for value in stream {
            reading.data(value.to_string().as_bytes(), |event| events.push(event));
        }
        events
    }

    fn wanted() -> Vec<Event> {
        vec![
            Event::Text("I".to_owned()),
            Event::Text(" do".to_owned()),
            Event::Call(0, "a".to_owned(), "read_code".to_owned()),
            Event::Call(1, "b".to_owned(), "find_lines".to_owned()),
            Event::Input(1, "{\"pat".to_owned()),
            Event::Input(1, "tern\":1}".to_owned()),
            Event::End("tool-calls"),
        ]
    }

    #[test]
    fn a_stream_of_anthropic_is_read() {
        let start = |index: u64, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
        let delta = |index: u64, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
        let piece = |text: &str| json!({ "type": "input_json_delta", "partial_json": text });
        let stream = [
            json!({ "type": "message_start", "message": { "usage": {} } }),
            start(0, json!({ "type": "text", "text": "" })),
            json!({ "type": "ping" }),
            delta(0, json!({ "type": "text_delta", "text": "I" })),
            delta(0, json!({ "type": "text_delta", "text": " do" })),
            json!({ "type": "content_block_stop", "index": 0 }),
            start(1, json!({ "type": "thinking", "thinking": "" })),
            start(2, json!({ "type": "tool_use", "id": "a", "name": "read_code", "input": {} })),
            delta(2, piece("")),
            start(3, json!({ "type": "tool_use", "id": "b", "name": "find_lines", "input": {} })),
            delta(3, piece("{\"pat")),
            delta(3, piece("tern\":1}")),
            delta(9, piece("nobody's")),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" } }),
            json!({ "type": "message_stop" }),
        ];
        assert_eq!(read(Api::Anthropic, &stream), wanted());
        let failed = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
        assert_eq!(read(Api::Anthropic, &[failed]), [Event::Error("Overloaded".to_owned())]);
    }

    #[test]
    fn a_stream_of_openai_is_read() {
        let chunk = |delta: Value, end: Value| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": end }] });
        let call = |value: Value| json!({ "tool_calls": [value] });
        let stream = [
            chunk(json!({ "role": "assistant", "content": "" }), Value::Null),
            chunk(json!({ "content": "I" }), Value::Null),
            chunk(json!({ "content": " do" }), Value::Null),
            chunk(
                call(
                    json!({ "index": 0, "id": "a", "function": { "name": "read_code", "arguments": "" } }),
                ),
                Value::Null,
            ),
            chunk(
                call(
                    json!({ "index": 1, "id": "b", "function": { "name": "find_lines", "arguments": "{\"pat" } }),
                ),
                Value::Null,
            ),
            chunk(
                call(json!({ "index": 1, "function": { "arguments": "tern\":1}" } })),
                Value::Null,
            ),
            chunk(json!({}), json!("tool_calls")),
            json!({ "choices": [], "usage": { "prompt_tokens": 1 } }),
        ];
        assert_eq!(read(Api::OpenAi, &stream), wanted());
    }

    #[test]
    fn a_model_that_calls_without_end_is_stopped() {
        let calls: Vec<Value> = (0..=CALLS)
            .map(|index| {
                json!({ "type": "content_block_start", "index": index,
                "content_block": { "type": "tool_use", "id": "x", "name": "read_code" } })
            })
            .collect();
        let events = read(Api::Anthropic, &calls);
        assert!(matches!(events[CALLS - 1], Event::Call(..)));
        assert!(matches!(events[CALLS], Event::Error(_)));
    }

    #[test]
    fn a_tool_is_called_with_an_object_or_not_at_all() {
        assert_eq!(arguments(""), Some(json!({})));
        assert_eq!(arguments("{\"a\": 1}"), Some(json!({ "a": 1 })));
        for text in ["[]", "{", "1", "null"] {
            assert_eq!(arguments(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[\\[\\]{}\",:a-z0-9]{0,80}") {
            for api in [Api::Anthropic, Api::OpenAi] {
                Reading::new(api).data(text.as_bytes(), |_| ());
            }
        }
    }
}
