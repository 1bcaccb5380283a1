//! The chat of a room: a model behind another plugin reads and edits it with the tools of agents.

use bytes::Bytes;
use guesthouse_tests::clients::{node_command, text_of};
use guesthouse_tests::upstream::{Upstream, answer, streaming, until};
use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, house_folder, plugin};
use http_body_util::BodyExt;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KEY: &str = "sk-house-anthropic";
const EDIT: &str = "export const answer = 42;\n";

/// What the model was asked.
type Asked = Arc<Mutex<Vec<Value>>>;

/// The plugins as the reference configuration has them, with the chat switched on.
fn config(live: &str) -> String {
    let component = |name: &str| house_folder().join(format!("plugins/{name}.wasm"));
    plugin(
        "live",
        &component("live"),
        &format!(
            "routes = [\"/mcp\", \"/api/room\", \"/api/chat\", \"/live/{{room}}/messages\"]\n\
             peers = [\"live\"]\nrooms = {{ routes = [\"/live/{{room}}/*\"] }}\n{live}\n"
        ),
    ) + &plugin("transpile", &component("transpile"), "kv = [\"default\"]\n")
        + &plugin(
            "anthropic",
            &component("anthropic"),
            "kv = [\"ai-logs\"]\nconfig = { base_url = \"${ANTHROPIC_BASE_URL:-https://api.anthropic.com}\" }\n\
             fetch = [{ url = \"${ANTHROPIC_BASE_URL:-https://api.anthropic.com}\", \
             inject = { x-api-key = \"${ANTHROPIC_API_KEY}\" } }]\n",
        )
        + &plugin(
            "openai",
            &component("openai"),
            "kv = [\"ai-logs\"]\nconfig = { base_url = \"${OPENAI_BASE_URL:-https://api.openai.com/v1}\" }\n\
             fetch = [{ url = \"${OPENAI_BASE_URL:-https://api.openai.com/v1}\", \
             inject = { authorization = \"Bearer ${OPENAI_API_KEY}\" } }]\n",
        )
}

const CALLS: &str = "calls = [\"transpile\", \"anthropic\", \"openai\"]";

fn house(upstream: &Upstream, live: &str) -> House {
    let url = upstream.url();
    House::start_with(
        &config(&format!("{CALLS}\n{live}")),
        &[
            ("ANTHROPIC_BASE_URL", &url),
            ("ANTHROPIC_API_KEY", KEY),
            ("OPENAI_BASE_URL", &format!("{url}/oa")),
            ("OPENAI_API_KEY", KEY),
        ],
    )
}

fn events(values: &[Value]) -> hyper::Response<guesthouse_tests::upstream::Body> {
    let mut text = String::new();
    for value in values {
        let kind = value["type"].as_str().unwrap_or("message");
        write!(text, "event: {kind}\ndata: {value}\n\n").unwrap();
    }
    let pieces: Vec<_> =
        text.as_bytes().chunks(37).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    streaming(200, "text/event-stream", futures::stream::iter(pieces))
}

/// An answer of the model as Anthropic streams it: a text, and then perhaps a tool.
fn message(text: &str, tool: Option<(&str, &Value)>) -> Vec<Value> {
    let delta = |index: u32, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let mut all = vec![
        json!({ "type": "message_start", "message": { "model": "mock", "usage": { "input_tokens": 90, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    ];
    for word in text.split_inclusive(' ') {
        all.push(delta(0, json!({ "type": "text_delta", "text": word })));
    }
    all.push(json!({ "type": "content_block_stop", "index": 0 }));
    if let Some((name, input)) = tool {
        all.push(json!({ "type": "content_block_start", "index": 1,
            "content_block": { "type": "tool_use", "id": format!("toolu_{name}"), "name": name, "input": {} } }));
        let input = input.to_string();
        let (one, other) = input.split_at(input.len() / 2);
        for piece in ["", one, other] {
            all.push(delta(1, json!({ "type": "input_json_delta", "partial_json": piece })));
        }
        all.push(json!({ "type": "content_block_stop", "index": 1 }));
    }
    let reason = if tool.is_some() { "tool_use" } else { "end_turn" };
    all.push(json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": 10 } }));
    all.push(json!({ "type": "message_stop" }));
    all
}

/// The same as OpenAI streams it.
fn chunks(text: &str, tool: Option<(&str, &Value)>) -> Vec<Value> {
    let chunk = |delta: Value, end: Value| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": end }] });
    let mut all = vec![chunk(json!({ "content": text }), Value::Null)];
    if let Some((name, input)) = tool {
        let function = json!({ "name": name, "arguments": input.to_string() });
        all.push(chunk(
            json!({ "tool_calls": [{ "index": 0, "id": "call_1", "function": function }] }),
            Value::Null,
        ));
    }
    let end = if tool.is_some() { "tool_calls" } else { "stop" };
    all.push(chunk(json!({}), json!(end)));
    all
}

/// A model that does by its name: `edits` the room, and then says so; `loops` for ever; `breaks` off in the middle; or
/// refuses.
async fn model() -> (Upstream, Asked) {
    let asked = Asked::default();
    let upstream = Upstream::start({
        let asked = asked.clone();
        move |seen, body| {
            let asked = asked.clone();
            async move {
                let request: Value =
                    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                let last = request["messages"].as_array().unwrap().last().unwrap().clone();
                asked.lock().unwrap().push(request.clone());
                let told = last["role"] == "tool" || last["content"][0]["type"] == "tool_result";
                let edit = json!({ "code": EDIT });
                let elsewhere = json!({ "codeSpace": "elsewhere" });
                let openai = seen.path().starts_with("/oa/");
                let key = if openai {
                    seen.header("authorization") == Some(&format!("Bearer {KEY}"))
                } else {
                    seen.header("x-api-key") == Some(KEY)
                };
                assert!(key, "the house has sent its key");
                match request["model"].as_str().unwrap() {
                    "edits" if openai && told => events(&chunks("Done.", None)),
                    "edits" if openai => events(&chunks("I write it.", Some(("update_code", &edit)))),
                    "edits" if told => events(&message("Done. It is 42.", None)),
                    "edits" => events(&message("I write it.", Some(("update_code", &edit)))),
                    "loops" => events(&message("Again.", Some(("read_code", &elsewhere)))),
                    "breaks" => {
                        let mut all = message("Half a", None);
                        all.truncate(4);
                        all.push(json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } }));
                        events(&all)
                    }
                    status => {
                        let body = json!({ "type": "error", "error": { "type": "x", "message": "the mock says no" } });
                        let mut no = answer(status.parse().unwrap(), "application/json", body.to_string());
                        no.headers_mut().insert("retry-after", "7".parse().unwrap());
                        no
                    }
                }
            }
        }
    })
    .await;
    (upstream, asked)
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn post(house: &House, path: &str, body: &Value) -> Response {
    client().post(format!("{}{path}", house.url)).json(body).send().await.unwrap()
}

fn says(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }] })
}

/// The chunks of a stream, to its end.
fn read(text: &str) -> Vec<Value> {
    let mut all: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert_eq!(all.pop(), Some("data: [DONE]"), "{text}");
    all.iter()
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

fn kinds(chunks: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = chunks.iter().map(|chunk| chunk["type"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

async fn error(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    (status, value["error"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_edits_the_room_and_everyone_sees_it() {
    let (upstream, asked) = model().await;
    for live in [
        "config = { chat_model = \"edits\" }",
        "config = { chat = \"openai\", chat_model = \"edits\" }",
    ] {
        asked.lock().unwrap().clear();
        let house = house(&upstream, live);
        let mut socket = WebSocket::open(&house, "/live/den/websocket").await;
        let response = post(&house, "/live/den/messages", &says("Make it 42")).await;
        assert_eq!(response.status(), 200);
        let header =
            |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("x-vercel-ai-ui-message-stream"), "v1");
        assert_eq!(header("access-control-allow-origin"), "*");
        let chunks = read(&response.text().await.unwrap());
        assert_eq!(
            kinds(&chunks),
            [
                "start",
                "start-step",
                "text-start",
                "text-delta",
                "text-end",
                "tool-input-start",
                "tool-input-delta",
                "tool-input-available",
                "tool-output-available",
                "finish-step",
                "start-step",
                "text-start",
                "text-delta",
                "text-end",
                "finish-step",
                "finish"
            ],
            "{chunks:#?}"
        );
        let output = chunks.iter().find(|chunk| chunk["type"] == "tool-output-available").unwrap();
        assert_eq!(output["output"]["success"], true);
        assert_eq!(chunks.last().unwrap()["finishReason"], "stop");
        // Who is in the room sees what the model did.
        loop {
            let heard: Value = serde_json::from_str(&socket.text().await).unwrap();
            if heard["delta"]["code"].is_array() {
                break;
            }
        }
        let code = client().get(format!("{}/live/den/code", house.url)).send().await.unwrap();
        assert_eq!(code.text().await.unwrap(), EDIT);
        // The model was offered the tools, and told what they said.
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[0]["tools"].as_array().unwrap().len(), 7);
        assert_eq!((&asked[0]["stream"], &asked[0]["model"]), (&json!(true), &json!("edits")));
        assert!(asked[1].to_string().contains("The code was replaced"), "{}", asked[1]);
        // What was said is kept.
        let kept = client().get(format!("{}/live/den/messages", house.url)).send().await.unwrap();
        let kept: Value = kept.json().await.unwrap();
        let messages = kept["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 3, "{kept:#}");
        assert_eq!(messages[0]["content"], "Make it 42");
        assert_eq!(messages[1]["parts"][1]["state"], "output-available");
        assert!(messages[2]["parts"][0]["text"].as_str().unwrap().starts_with("Done."));
    }
}

#[tokio::test]
async fn a_model_that_never_ends_is_stopped_and_stays_in_its_room() {
    let (upstream, asked) = model().await;
    let house = house(&upstream, "config = { chat_model = \"loops\", chat_steps = \"3\" }");
    let response = post(&house, "/live/den/messages", &says("Go on")).await;
    let chunks = read(&response.text().await.unwrap());
    assert_eq!(asked.lock().unwrap().len(), 3);
    assert_eq!(chunks.last().unwrap()["finishReason"], "tool-calls");
    let outputs: Vec<&Value> =
        chunks.iter().filter(|chunk| chunk["type"] == "tool-output-available").collect();
    assert_eq!(outputs.len(), 3);
    // It asked for another room.
    assert!(outputs.iter().all(|chunk| chunk["output"]["codeSpace"] == "den"), "{outputs:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_before_anyone_is_asked() {
    let (upstream, asked) = model().await;
    let house = house(&upstream, "config = { chat_model = \"edits\" }");
    let chat = "/live/den/messages";
    let many = json!({ "messages": vec![json!({ "role": "user", "content": "x" }); 101] });
    for (body, message) in [
        (json!({}), "Messages must be an array"),
        (json!({ "messages": [] }), "Messages array cannot be empty"),
        (many, "Too many messages. Maximum allowed: 100"),
        (json!({ "messages": [1] }), "Message at index 0 must be an object"),
        (
            json!({ "messages": [{ "role": "user", "content": [{}] }] }),
            "Message at index 0, content part 0 must have a type",
        ),
    ] {
        assert_eq!(error(post(&house, chat, &body).await).await, (400, message.to_owned()));
    }
    let url = format!("{}{chat}", house.url);
    let json = "application/json";
    let broken = client().post(&url).header("content-type", json).body("{").send().await.unwrap();
    assert_eq!(error(broken).await, (500, "Failed to process message".to_owned()));
    // Refused by what it says of its length: nobody waits for the rest.
    let mut large =
        tokio::net::TcpStream::connect(house.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST {chat} HTTP/1.1\r\nhost: house\r\ncontent-type: {json}\r\ncontent-length: {}\r\n\r\n",
        (10 << 20) + 1
    );
    large.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.windows(17).any(|bytes| bytes == b"Request too large") {
        assert_ne!(large.read_buf(&mut said).await.unwrap(), 0, "{said:?}");
    }
    assert!(said.starts_with(b"HTTP/1.1 413 "));
    let plain = client().post(&url).header("content-type", "text/plain").body("{}").send().await;
    assert_eq!(error(plain.unwrap()).await.0, 415);
    assert_eq!(client().delete(&url).send().await.unwrap().status(), 405);
    let options = client().request(reqwest::Method::OPTIONS, &url).send().await.unwrap();
    assert_eq!(options.status(), 204);
    let none = client().get(&url).send().await.unwrap();
    assert_eq!(none.json::<Value>().await.unwrap(), json!({ "messages": [] }));
    // By the page from which it is asked.
    let chat = format!("{}/api/chat", house.url);
    for (referer, message) in [
        (None, "Missing referer header"),
        (Some("nonsense"), "Invalid referer URL"),
        (Some("http://a.example/else"), "Invalid referer path format"),
    ] {
        let mut request = client().post(&chat).json(&says("x"));
        if let Some(referer) = referer {
            request = request.header("referer", referer);
        }
        assert_eq!(error(request.send().await.unwrap()).await, (400, message.to_owned()));
    }
    assert_eq!(asked.lock().unwrap().len(), 0);
    let request = client().post(&chat).header("referer", format!("{}/live/byname", house.url));
    let response = request.json(&says("x")).send().await.unwrap();
    assert_eq!(read(&response.text().await.unwrap()).last().unwrap()["finishReason"], "stop");
    let code = client().get(format!("{}/live/byname/code", house.url)).send().await.unwrap();
    assert_eq!(code.text().await.unwrap(), EDIT);
}

#[tokio::test]
async fn without_a_model_it_is_said_what_to_set() {
    let no = async |house: &House| {
        let answer = error(post(house, "/live/den/messages", &says("x")).await).await;
        assert_eq!(answer.0, 503, "{answer:?}");
        answer.1
    };
    // The key is not set.
    let house = House::start(&config(CALLS));
    let said = no(&house).await;
    assert!(said.starts_with("ANTHROPIC_API_KEY not configured. "), "{said}");
    assert!(said.contains("must set the secret ANTHROPIC_API_KEY"), "{said}");
    drop(house);
    // The plugin that has it may not be called.
    let house = House::start(&config("calls = [\"transpile\"]"));
    let said = no(&house).await;
    assert!(said.contains("calls = [\"anthropic\"]"), "{said}");
    drop(house);
    let house = House::start(&config("config = { chat = \"\" }"));
    assert!(no(&house).await.contains("switched off"));
    drop(house);
    // The route is missing: the room says so.
    let house = House::start(&config(CALLS).replace(", \"/live/{room}/messages\"", ""));
    assert!(no(&house).await.contains("the route /live/{room}/messages"));
    // And keeps nothing for anybody who is no plugin.
    let url = format!("{}/live/den/messages", house.url);
    assert_eq!(client().put(url).json(&says("x")).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn what_the_model_refuses_and_what_breaks_off_is_told() {
    let (upstream, _) = model().await;
    for (refusal, status) in [("429", 429), ("500", 502), ("400", 502)] {
        let house = house(&upstream, &format!("config = {{ chat_model = \"{refusal}\" }}"));
        let response = post(&house, "/live/den/messages", &says("x")).await;
        assert_eq!(response.headers().get("retry-after").unwrap(), "7");
        let (found, said) = error(response).await;
        assert_eq!((found, said.as_str()), (status, "The model refuses: the mock says no"));
    }
    let house = house(&upstream, "config = { chat_model = \"breaks\" }");
    let response = post(&house, "/live/den/messages", &says("x")).await;
    let chunks = read(&response.text().await.unwrap());
    assert_eq!(
        kinds(&chunks),
        ["start", "start-step", "text-start", "text-delta", "text-end", "error"]
    );
    assert_eq!(chunks.last().unwrap()["errorText"], "The model failed: Overloaded");
}

#[tokio::test]
async fn who_may_not_write_may_not_chat() {
    let (upstream, asked) = model().await;
    let verifier =
        plugin("verifier", &guesthouse_tests::guest("verifier"), "instances = { reuse = 1000 }");
    let live = format!("{CALLS}\nauth = \"optional\"\nconfig = {{ chat_model = \"edits\" }}");
    let house = House::start_with(
        &format!("[auth]\nplugin = \"verifier\"\n{verifier}{}", config(&live)),
        &[("ANTHROPIC_BASE_URL", &upstream.url()), ("ANTHROPIC_API_KEY", KEY)],
    );
    let url = format!("{}/live/hers/messages", house.url);
    let chat = async |who: Option<&str>| {
        let mut request = client().post(&url).json(&says("x"));
        if let Some(who) = who {
            request = request.bearer_auth(format!("good {who}"));
        }
        request.send().await.unwrap()
    };
    // Who chats first owns the room.
    assert_eq!(
        read(&chat(Some("ann")).await.text().await.unwrap()).last().unwrap()["type"],
        "finish"
    );
    let before = asked.lock().unwrap().len();
    for who in [Some("bob"), None] {
        assert_eq!(error(chat(who).await).await.0, 403);
        let mut request = client().get(&url);
        if let Some(who) = who {
            request = request.bearer_auth(format!("good {who}"));
        }
        assert_eq!(request.send().await.unwrap().status(), 403, "what she said is not for all");
    }
    assert_eq!(asked.lock().unwrap().len(), before, "and nobody has paid for it");
    let kept = client().get(&url).bearer_auth("good ann").send().await.unwrap();
    assert_eq!(kept.json::<Value>().await.unwrap()["messages"][0]["content"], "x");
}

#[tokio::test]
async fn a_caller_whose_tokens_are_used_up_is_told_so() {
    let (upstream, asked) = model().await;
    // An answer costs a hundred.
    let house =
        house(&upstream, "budget_tokens = \"150/day\"\nconfig = { chat_model = \"loops\" }");
    let response = post(&house, "/live/den/messages", &says("x")).await;
    let chunks = read(&response.text().await.unwrap());
    assert_eq!(asked.lock().unwrap().len(), 2);
    assert_eq!(chunks.last().unwrap()["errorText"], "Your tokens of this period are used up");
    assert_eq!(post(&house, "/live/den/messages", &says("x")).await.status(), 429);
}

#[tokio::test]
async fn words_arrive_as_the_model_says_them() {
    let (upstream, senders) = Upstream::start_events().await;
    let house = house(&upstream, "");
    let asking = tokio::spawn({
        let url = format!("{}/live/den/messages", house.url);
        async move { client().post(url).json(&says("x")).send().await.unwrap() }
    });
    until("the model is asked", || !senders.lock().unwrap().is_empty()).await;
    let sender = senders.lock().unwrap().pop().unwrap();
    let delta = |text: &str| {
        let delta = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } });
        Bytes::from(format!("data: {delta}\n\n"))
    };
    sender.send(delta("first")).await.unwrap();
    let mut response = asking.await.unwrap();
    let mut heard = String::new();
    while !heard.contains("first") {
        heard += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }
    // Only now does the model go on.
    sender.send(delta("second")).await.unwrap();
    drop(sender);
    while let Some(piece) = response.chunk().await.unwrap() {
        heard += std::str::from_utf8(&piece).unwrap();
    }
    assert!(heard.contains("second") && heard.ends_with("data: [DONE]\n\n"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ai_sdk_understands_the_stream() {
    let (upstream, _) = model().await;
    let house = house(&upstream, "config = { chat_model = \"edits\" }");
    let Some(mut command) = node_command("live-chat.mjs") else { return };
    let output = guesthouse_tests::clients::finish(command.env("HOUSE", &house.url));
    println!("{}", text_of(&output));
}
