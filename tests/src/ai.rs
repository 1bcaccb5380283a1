//! An upstream that speaks the APIs of OpenAI (`/oa/v1`), Anthropic (`/an`) and Replicate (`/re`).
//!
//! The model's name is the script: `mock` answers, `error-429` refuses so, `once-429` refuses once, `cut` breaks
//! off in the middle of a stream.

use crate::upstream::{Body, Seen, Upstream, answer, streaming};
use crate::{House, house_folder, plugin};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The keys that the upstream takes.
pub const OPENAI_KEY: &str = "sk-house-openai";
/// The same for Anthropic.
pub const ANTHROPIC_KEY: &str = "sk-house-anthropic";
/// The same for Replicate.
pub const REPLICATE_KEY: &str = "r8_house";

const WORDS: [&str; 4] = ["Hello", " from", " the", " mock"];

/// The plugins as the reference configuration has them, with base URLs from the environment.
#[must_use]
pub fn config() -> String {
    let component = |name: &str| house_folder().join(format!("plugins/{name}.wasm"));
    let prices = "prices = '{\"mock\": {\"input\": 1, \"output\": 2}}'";
    plugin(
        "openai",
        &component("openai"),
        &format!(
            "routes = [\"/openai\", \"/openai/v1/*\", \"/whisper\", \"/summarize\"]\nkv = [\"ai-logs\"]\n\
             config = {{ base_url = \"${{OPENAI_BASE_URL:-https://api.openai.com/v1}}\", {prices} }}\n\
             fetch = [{{ url = \"${{OPENAI_BASE_URL:-https://api.openai.com/v1}}\", \
             inject = {{ authorization = \"Bearer ${{OPENAI_API_KEY}}\" }} }}]\n\
             instances = {{ reuse = 100 }}\nlimits = {{ concurrency = 600, outbound = 600, wall = \"120s\" }}\n"
        ),
    ) + &plugin(
        "anthropic",
        &component("anthropic"),
        "routes = [\"/anthropic\", \"/anthropic/v1/*\"]\nkv = [\"ai-logs\"]\n\
         config = { base_url = \"${ANTHROPIC_BASE_URL:-https://api.anthropic.com}\" }\n\
         fetch = [{ url = \"${ANTHROPIC_BASE_URL:-https://api.anthropic.com}\", \
         inject = { x-api-key = \"${ANTHROPIC_API_KEY}\" } }]\n",
    ) + &plugin(
        "replicate",
        &component("replicate"),
        "routes = [\"/replicate\", \"/replicate/*\"]\nkv = [\"default\", \"ai-logs\"]\n\
         config = { base_url = \"${REPLICATE_BASE_URL:-https://api.replicate.com}\" }\n\
         fetch = [{ url = \"${REPLICATE_BASE_URL:-https://api.replicate.com}\", \
         inject = { authorization = \"Bearer ${REPLICATE_API_TOKEN}\" } }, \
         \"${MOCK_DELIVERY:-https://replicate.delivery}\"]\n",
    ) + &plugin("ai-logs", &component("ai-logs"), "routes = [\"/ai-logs\"]\nkv = [\"ai-logs\"]\n")
}

/// A house with all of them, whose upstream this is.
#[must_use]
pub fn house(upstream: &Upstream) -> House {
    let url = upstream.url();
    House::start_with(
        &config(),
        &[
            ("OPENAI_BASE_URL", &format!("{url}/oa/v1")),
            ("ANTHROPIC_BASE_URL", &format!("{url}/an")),
            ("REPLICATE_BASE_URL", &format!("{url}/re")),
            ("MOCK_DELIVERY", &url),
            ("OPENAI_API_KEY", OPENAI_KEY),
            ("ANTHROPIC_API_KEY", ANTHROPIC_KEY),
            ("REPLICATE_API_TOKEN", REPLICATE_KEY),
        ],
    )
}

/// A client that no proxy of this machine gets into the way of.
#[must_use]
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The entries of the log.
pub async fn logs(house: &House, query: &str) -> Vec<Value> {
    let answer = client().get(format!("{}/ai-logs{query}", house.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// The entry is written after the answer has ended.
pub async fn wait_for_logs(house: &House, query: &str, count: usize) -> Vec<Value> {
    let began = std::time::Instant::now();
    loop {
        let entries = logs(house, query).await;
        if entries.len() >= count {
            return entries;
        }
        assert!(began.elapsed() < crate::PATIENCE, "{entries:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The URL of a picture of which this is the question.
#[must_use]
pub fn picture(house: &House, query: &str) -> String {
    use base64::Engine;
    let code = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(query);
    format!("{}/replicate/{code}.webp", house.url)
}

/// Starts it.
pub async fn start() -> Upstream {
    let refusals = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |seen, body| {
        let refusals = refusals.clone();
        async move { serve(&seen, body, &refusals).await }
    })
    .await
}

/// The same, with predictions that wait until the test says the status they get; 200 is an answer.
pub async fn start_gated(gate: tokio::sync::watch::Receiver<Option<u16>>) -> Upstream {
    Upstream::start(move |seen, body| {
        let mut gate = gate.clone();
        async move {
            if seen.method == "POST" && seen.path().ends_with("/predictions") {
                let status = gate.wait_for(Option::is_some).await.map_or(500, |open| open.unwrap());
                if status != 200 {
                    return refusal(seen.path(), status);
                }
            }
            serve(&seen, body, &AtomicUsize::new(0)).await
        }
    })
    .await
}

async fn serve(seen: &Seen, body: Incoming, refusals: &AtomicUsize) -> Response<Body> {
    let Ok(body) = body.collect().await else { return answer(400, "text/plain", "cut") };
    let body = body.to_bytes();
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let host = seen.header("host").unwrap_or_default().to_owned();
    let path = seen.path().to_owned();
    let key = |name: &str, expected: &str| seen.header(name) == Some(expected);
    if path.starts_with("/oa/") && !key("authorization", &format!("Bearer {OPENAI_KEY}"))
        || path.starts_with("/an/") && !key("x-api-key", ANTHROPIC_KEY)
        || path.starts_with("/re/") && !key("authorization", &format!("Bearer {REPLICATE_KEY}"))
    {
        return refusal(&path, 401);
    }
    let model = request["model"].as_str().unwrap_or_default();
    if let Some(status) = model.strip_prefix("error-") {
        return refusal(&path, status.parse().unwrap());
    }
    if model == "once-429" && refusals.fetch_add(1, SeqCst).is_multiple_of(2) {
        let mut response = refusal(&path, 429);
        response.headers_mut().insert("retry-after", "1".parse().unwrap());
        return response;
    }
    match path.as_str() {
        "/oa/v1/chat/completions" => chat(&request),
        "/oa/v1/audio/transcriptions" => transcription(&body),
        "/oa/v1/models" => {
            let list =
                json!({ "object": "list", "data": [{ "id": seen.target, "object": "model" }] });
            json_answer(200, &list)
        }
        "/an/v1/messages" => message(&request),
        "/picture.webp" => answer(200, "image/webp", vec![9; 50_000]),
        "/events" => {
            let events = WORDS.map(|word| format!("event: output\ndata: {word}\n\n"));
            stream_of(events.into_iter().map(Ok).collect())
        }
        path if path.starts_with("/re/v1/") => prediction(path, &seen.method, &host),
        _ => refusal(&path, 404),
    }
}

fn json_answer(status: u16, value: &Value) -> Response<Body> {
    answer(status, "application/json", value.to_string())
}

fn refusal(path: &str, status: u16) -> Response<Body> {
    let message = "the mock says no";
    let value = if path.starts_with("/an/") {
        json!({ "type": "error", "error": { "type": "mock_error", "message": message } })
    } else {
        json!({ "error": { "message": message, "type": "mock_error", "code": null } })
    };
    let mut response = json_answer(status, &value);
    let headers = response.headers_mut();
    headers.insert("set-cookie", "__cf_bm=1".parse().unwrap());
    if status == 429 {
        headers.insert("retry-after", "7".parse().unwrap());
        headers.insert("x-ratelimit-remaining-requests", "0".parse().unwrap());
    }
    response
}

fn stream_of(events: Vec<std::io::Result<String>>) -> Response<Body> {
    let pieces = events.into_iter().map(|event| event.map(Bytes::from));
    streaming(200, "text/event-stream", futures::stream::iter(pieces))
}

fn chat(request: &Value) -> Response<Body> {
    let usage = json!({ "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12 });
    if request["stream"] == true {
        let chunk = |delta: Value, end: Value| {
            let chunk = json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock-1",
                "choices": [{ "index": 0, "delta": delta, "finish_reason": end }],
            });
            Ok(format!("data: {chunk}\n\n"))
        };
        let mut events: Vec<_> =
            WORDS.iter().map(|word| chunk(json!({ "content": word }), Value::Null)).collect();
        if request["model"] == "cut" {
            events.truncate(2);
            let events =
                events.into_iter().map(|event: std::io::Result<String>| event.map(Bytes::from));
            let end = futures::stream::once(async {
                // So that the pieces before it have left.
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                Err(std::io::Error::other("cut"))
            });
            return streaming(200, "text/event-stream", futures::stream::iter(events).chain(end));
        }
        events.push(chunk(json!({}), json!("stop")));
        if request["stream_options"]["include_usage"] == true {
            let last = json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock-1",
                "choices": [], "usage": usage,
            });
            events.push(Ok(format!("data: {last}\n\n")));
        }
        events.push(Ok("data: [DONE]\n\n".to_owned()));
        return stream_of(events);
    }
    let message = if request["tools"].is_array() {
        let function = json!({ "name": "weather", "arguments": "{\"city\":\"Berlin\"}" });
        json!({
            "role": "assistant", "content": null,
            "tool_calls": [{ "id": "call_1", "type": "function", "function": function }],
        })
    } else if request["messages"][0]["content"].as_str().is_some_and(|s| s.starts_with("Summarize"))
    {
        let length = request["messages"][1]["content"].as_str().unwrap_or_default().len();
        json!({ "role": "assistant", "content": format!("A summary of {length} bytes.") })
    } else {
        json!({ "role": "assistant", "content": WORDS.concat() })
    };
    let mut response = json_answer(
        200,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock-1",
            "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }], "usage": usage,
        }),
    );
    response.headers_mut().insert("x-request-id", "req_openai".parse().unwrap());
    response
}

fn message(request: &Value) -> Response<Body> {
    if request["stream"] == true {
        let event = |kind: &str, mut value: Value| {
            value["type"] = json!(kind);
            Ok(format!("event: {kind}\ndata: {value}\n\n"))
        };
        let start = json!({ "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "mock-claude", "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": 7, "output_tokens": 1 },
        } });
        let block = json!({ "index": 0, "content_block": { "type": "text", "text": "" } });
        let mut events = vec![event("message_start", start), event("content_block_start", block)];
        events.extend(WORDS.iter().map(|word| {
            let delta = json!({ "index": 0, "delta": { "type": "text_delta", "text": word } });
            event("content_block_delta", delta)
        }));
        events.push(event("content_block_stop", json!({ "index": 0 })));
        let end = json!({ "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": 5 } });
        events.push(event("message_delta", end));
        events.push(event("message_stop", json!({})));
        return stream_of(events);
    }
    let (content, reason) = if request["tools"].is_array() {
        let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "weather", "input": { "city": "Berlin" } });
        (call, "tool_use")
    } else {
        (json!({ "type": "text", "text": WORDS.concat() }), "end_turn")
    };
    let mut response = json_answer(
        200,
        &json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "mock-claude",
            "content": [content], "stop_reason": reason, "stop_sequence": null,
            "usage": { "input_tokens": 7, "output_tokens": 5 },
        }),
    );
    response.headers_mut().insert("request-id", "req_anthropic".parse().unwrap());
    response
}

/// Says what came: the file's name and size, and the model.
fn transcription(body: &[u8]) -> Response<Body> {
    let text = String::from_utf8_lossy(body);
    let after = |mark: &str| {
        let rest = text.split_once(mark).map(|(_, rest)| rest).unwrap_or_default();
        rest.split(['"', '\r']).next().unwrap_or_default().to_owned()
    };
    let name = after("filename=\"");
    let model = after("name=\"model\"\r\n\r\n");
    let sevens = body.iter().filter(|byte| **byte == 7).count();
    json_answer(200, &json!({ "text": format!("{name} {sevens} {model}") }))
}

fn prediction(path: &str, method: &str, host: &str) -> Response<Body> {
    let ended = method == "GET";
    let value = json!({
        "id": "pred1", "version": "abc", "input": { "prompt": "x" }, "logs": "", "error": null,
        "model": "owner/name", "created_at": "2026-01-01T00:00:00Z", "metrics": {},
        "status": if ended { "succeeded" } else { "starting" },
        "output": if ended { json!([format!("http://{host}/picture.webp")]) } else { Value::Null },
        "urls": {
            "get": format!("http://{host}/re/v1/predictions/pred1"),
            "cancel": format!("http://{host}/re/v1/predictions/pred1/cancel"),
            "stream": format!("http://{host}/events"),
        },
    });
    if path.ends_with("/predictions") || path.ends_with("/pred1") {
        json_answer(if ended { 200 } else { 201 }, &value)
    } else {
        refusal(path, 404)
    }
}
