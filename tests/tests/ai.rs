//! The AI plugins: official clients, hygiene, pictures, summaries, and the log.

use futures::StreamExt;
use guesthouse_tests::ai::{ANTHROPIC_KEY, OPENAI_KEY, REPLICATE_KEY};
use guesthouse_tests::upstream::{Upstream, until};
use guesthouse_tests::{House, ai, guest, house_folder, plugin};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The plugins as the reference configuration has them, with base URLs from the environment.
fn config() -> String {
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

fn house(upstream: &Upstream) -> House {
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

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn logs(house: &House, query: &str) -> Vec<Value> {
    let answer = client().get(format!("{}/ai-logs{query}", house.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// The entry is written after the answer has ended.
async fn wait_for_logs(house: &House, query: &str, count: usize) -> Vec<Value> {
    let began = std::time::Instant::now();
    loop {
        let entries = logs(house, query).await;
        if entries.len() >= count {
            return entries;
        }
        assert!(began.elapsed() < guesthouse_tests::PATIENCE, "{entries:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Runs a client of another language; none when it can't be had here.
async fn run(
    variable: &str,
    program: impl Fn(&Path) -> (PathBuf, PathBuf),
    house: &House,
) -> Option<String> {
    let Some(tool) = std::env::var_os(variable) else {
        let why = std::env::var(format!("{variable}_MISSING"))
            .unwrap_or_else(|_| "run with `cargo xtask test`".to_owned());
        println!("SKIPPED: {variable} is missing: {why}");
        return None;
    };
    let (program, script) = program(Path::new(&tool));
    let output = tokio::process::Command::new(program)
        .arg(script)
        .env("HOUSE", &house.url)
        .env("no_proxy", "*")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}\n{}", house.log());
    println!("{text}");
    Some(text)
}

#[tokio::test]
async fn the_official_node_clients_work_with_only_their_base_url_changed() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    let node = |folder: &Path| (PathBuf::from("node"), folder.join("scripts/ai.mjs"));
    // The script is a link into the sources; its packages are beside the link.
    let node = |folder: &Path| {
        let (program, script) = node(folder);
        let copy = folder.join("ai-run.mjs");
        std::fs::copy(script, &copy).unwrap();
        (program, copy)
    };
    let Some(text) = run("GUESTHOUSE_NODE", node, &house).await else { return };
    assert!(text.contains("checks passed"), "{text}");
    nothing_of_the_clients_crossed(&upstream);
}

#[tokio::test]
async fn the_official_python_clients_work_with_only_their_base_url_changed() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/ai.py");
    let python = |interpreter: &Path| (interpreter.to_owned(), script.clone());
    let Some(text) = run("GUESTHOUSE_PYTHON", python, &house).await else { return };
    assert!(text.contains("checks passed"), "{text}");
    nothing_of_the_clients_crossed(&upstream);
}

fn nothing_of_the_clients_crossed(upstream: &Upstream) {
    for seen in upstream.seen() {
        let all = format!("{seen:?}");
        assert!(!all.contains("sk-client") && !all.contains("r8_client"), "{all}");
    }
}

#[tokio::test]
async fn bare_paths_mean_chat_and_messages_and_client_credentials_stay_here() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    for (path, target) in [
        ("/openai?x=1", "/oa/v1/chat/completions?x=1"),
        ("/anthropic", "/an/v1/messages"),
        ("/openai/v1/models?after=%20", "/oa/v1/models?after=%20"),
    ] {
        let answer = client()
            .post(format!("{}{path}", house.url))
            .header("authorization", "Bearer client")
            .header("x-api-key", "client")
            .header("cookie", "__session=client")
            .header("connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .json(&json!({ "model": "mock", "messages": [] }))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        let seen = upstream.last();
        assert_eq!(seen.target, target);
        for name in ["cookie", "x-hop", "x-forwarded-for"] {
            assert_eq!(seen.header(name), None, "{name}");
        }
        assert!(!format!("{seen:?}").contains("client"), "{seen:?}");
    }
    let anthropic: Vec<_> =
        upstream.seen().into_iter().filter(|seen| seen.path() == "/an/v1/messages").collect();
    assert_eq!(anthropic[0].header("anthropic-version"), Some("2023-06-01"));
}

#[tokio::test]
async fn an_upstreams_refusal_keeps_status_body_and_limits_but_not_its_cookies() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    let ask = |model: &str| {
        let request = client().post(format!("{}/openai", house.url));
        request.json(&json!({ "model": model, "messages": [] })).send()
    };
    let answer = ask("error-429").await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], "0");
    assert!(!answer.headers().contains_key("set-cookie"));
    assert!(answer.text().await.unwrap().contains("the mock says no"));
    let answer = ask("mock").await.unwrap();
    assert_eq!(answer.headers()["x-upstream-request-id"], "req_openai");
    assert_ne!(answer.headers()["x-request-id"], "req_openai");
    let methods = client().get(format!("{}/openai", house.url)).send().await.unwrap();
    assert_eq!(methods.status(), 405);
    let options = client().request(reqwest::Method::OPTIONS, format!("{}/openai", house.url));
    assert_eq!(options.send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_missing_key_is_503_and_names_the_secret() {
    let upstream = ai::start().await;
    let house =
        House::start_with(&config(), &[("OPENAI_BASE_URL", &format!("{}/oa/v1", upstream.url()))]);
    for (path, secret) in [
        ("/openai", "OPENAI_API_KEY"),
        ("/anthropic", "ANTHROPIC_API_KEY"),
        ("/replicate", "REPLICATE_API_TOKEN"),
        ("/summarize", "OPENAI_API_KEY"),
    ] {
        let request = client().post(format!("{}{path}", house.url));
        let answer = request.json(&json!({ "input": {}, "text": "long" })).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.headers()["x-should-retry"], "false");
        let text = answer.text().await.unwrap();
        assert!(text.contains(secret), "{path}: {text}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_502() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/v1");
    let house = House::start_with(&config(), &[("OPENAI_BASE_URL", &url), ("OPENAI_API_KEY", "k")]);
    let answer = client().post(format!("{}/openai", house.url)).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(!answer.text().await.unwrap().contains(&gone.port().to_string()), "nothing internal");
}

#[tokio::test]
async fn a_recording_becomes_text_whatever_its_field_is_called() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    for (field, name, expected) in
        [("record.wav", None, "record.wav"), ("file", Some("speech.mp3"), "speech.mp3")]
    {
        let mut part = reqwest::multipart::Part::bytes(vec![7; 2_000_000]);
        if let Some(name) = name {
            part = part.file_name(name);
        }
        let form = reqwest::multipart::Form::new().text("language", "en").text("model", "mine");
        let request = client().post(format!("{}/whisper", house.url));
        let answer = request.multipart(form.part(field, part)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let value: Value = answer.json().await.unwrap();
        assert_eq!(value["response"]["text"], format!("{expected} 2000000 whisper-1"));
    }
    let form = reqwest::multipart::Form::new().text("language", "en");
    let answer =
        client().post(format!("{}/whisper", house.url)).multipart(form).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer = client().post(format!("{}/whisper", house.url)).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn a_long_text_is_summarised_in_pieces() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    let summarize = |text: String| {
        client().post(format!("{}/summarize", house.url)).json(&json!({ "text": text })).send()
    };
    let answer: Value = summarize("A short text.".into()).await.unwrap().json().await.unwrap();
    assert_eq!(answer["response"]["summary"], "A summary of 13 bytes.");
    assert_eq!(upstream.seen().len(), 1);
    let answer = summarize("Many words. ".repeat(5000)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.seen().len(), 1 + 3 + 1, "three pieces, and their summaries");
    assert_eq!(summarize(String::new()).await.unwrap().status(), 400);
    assert_eq!(summarize("x".repeat(500_001)).await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_prediction_is_awaited_or_streamed() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    let ask = |body: Value| client().post(format!("{}/replicate", house.url)).json(&body).send();
    let answer: Value =
        ask(json!({ "input": { "prompt": "x" } })).await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], "succeeded");
    let first = &upstream.seen()[0];
    assert_eq!(first.target, "/re/v1/models/black-forest-labs/flux-schnell/predictions");
    assert_eq!(first.header("prefer"), Some("wait"));
    let answer = ask(json!({ "input": {}, "stream": true })).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert!(answer.text().await.unwrap().contains("data:  mock"));
    assert_eq!(upstream.last().header("authorization"), None, "the token is the API's alone");
    assert_eq!(ask(json!({ "input": 1 })).await.unwrap().status(), 400);
    assert_eq!(ask(json!({ "input": {}, "model": "../x" })).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_picture_is_made_once_and_kept_for_ever() {
    use base64::Engine;
    let upstream = ai::start().await;
    let house = house(&upstream);
    let code = |query: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(query);
    let url = format!("{}/replicate/{}.webp", house.url, code("prompt=a cat&steps=4"));
    let answer = client().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "image/webp");
    assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
    let etag = answer.headers()["etag"].clone();
    assert_eq!(answer.bytes().await.unwrap().len(), 50_000);
    let asked = upstream.seen().len();
    let again = client().get(&url).send().await.unwrap();
    assert_eq!(again.bytes().await.unwrap().len(), 50_000);
    let known = client().get(&url).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(known.status(), 304);
    assert_eq!(upstream.seen().len(), asked, "nothing was asked again");
    for wrong in
        [code("steps=4") + ".webp", code("prompt=x") + ".gif", "default.webp".into(), "x".into()]
    {
        let answer = client().get(format!("{}/replicate/{wrong}", house.url)).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{wrong}");
    }
    assert_eq!(upstream.seen().len(), asked);
}

#[tokio::test]
async fn the_log_has_model_tokens_cost_and_times_of_every_request() {
    let upstream = ai::start().await;
    let house = house(&upstream);
    let ask =
        |path: &str, body: Value| client().post(format!("{}{path}", house.url)).json(&body).send();
    let messages = json!([{ "role": "user", "content": "What is a guest house?" }]);
    ask("/openai", json!({ "model": "mock", "messages": messages }))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    wait_for_logs(&house, "", 1).await;
    let body = json!({ "model": "mock", "messages": messages, "stream": true });
    ask("/openai/v1/chat/completions", body.clone()).await.unwrap().text().await.unwrap();
    wait_for_logs(&house, "", 2).await;
    ask("/anthropic", body).await.unwrap().text().await.unwrap();
    wait_for_logs(&house, "", 3).await;
    ask("/openai", json!({ "model": "error-500", "messages": [] }))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let entries = wait_for_logs(&house, "", 4).await;

    let [failed, streamed_anthropic, streamed, whole] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(failed["status"], 500);
    assert_eq!(whole["model"], "mock-1");
    assert_eq!((&whole["input_tokens"], &whole["output_tokens"]), (&json!(7), &json!(5)));
    assert_eq!(whole["cost"], json!(17e-6));
    assert_eq!(whole["summary"], "What is a guest house?");
    assert_eq!(whole["upstream_request_id"], "req_openai");
    assert_eq!(whole["estimated"], false);
    assert!(whole.get("prompt").is_none(), "full prompts only if configured");
    assert_eq!(streamed["output_tokens"], 4, "one for each piece");
    assert_eq!(streamed["estimated"], true);
    assert!(streamed["first_token_ms"].is_u64() && streamed["latency_ms"].is_u64());
    assert_eq!(streamed_anthropic["provider"], "anthropic");
    assert_eq!(streamed_anthropic["output_tokens"], 5);

    assert_eq!(logs(&house, "?provider=anthropic").await.len(), 1);
    let page = logs(&house, "?limit=2").await;
    assert_eq!(page, entries[..2]);
    let id = page[1]["id"].as_str().unwrap();
    assert_eq!(logs(&house, &format!("?limit=2&before={id}")).await, entries[2..]);
    let wrong = client().get(format!("{}/ai-logs?limit=0", house.url)).send().await.unwrap();
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn the_log_names_the_caller_and_the_tokens_come_off_the_callers_budget() {
    let upstream = ai::start().await;
    let bound = config().replacen(
        "kv = [\"ai-logs\"]",
        "kv = [\"ai-logs\"]\nauth = \"required\"\nbudget_tokens = \"20/day\"",
        1,
    );
    let verifier = plugin("verifier", &guest("verifier"), "");
    let house = House::start_with(
        &format!("[auth]\nplugin = \"verifier\"\n{verifier}{bound}"),
        &[
            ("OPENAI_BASE_URL", &format!("{}/oa/v1", upstream.url())),
            ("OPENAI_API_KEY", OPENAI_KEY),
        ],
    );
    let ask = |caller: &str| {
        let request = client().post(format!("{}/openai", house.url)).bearer_auth(caller);
        request.json(&json!({ "model": "mock", "messages": [] })).send()
    };
    assert_eq!(ask("bad").await.unwrap().status(), 401);
    // Each answer costs twelve tokens: the second overdraws, the third is refused.
    for entries in 1..=2 {
        assert_eq!(ask("good anna").await.unwrap().status(), 200);
        let entries = wait_for_logs(&house, "", entries).await;
        assert_eq!(entries[0]["caller"], "anna");
    }
    let refused = ask("good anna").await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(ask("good berta").await.unwrap().status(), 200);
    for seen in upstream.seen() {
        assert!(!format!("{seen:?}").contains("anna"), "the caller's proof stays here");
    }
}

#[tokio::test]
async fn a_stream_is_counted_without_holding_a_byte_back_and_a_cut_one_is_logged() {
    let (upstream, senders) = Upstream::start_events().await;
    let url = upstream.url();
    let house = House::start_with(&config(), &[("OPENAI_BASE_URL", &url), ("OPENAI_API_KEY", "k")]);
    let request = client().post(format!("{}/openai", house.url)).body("{\"model\":\"m\"}");
    let mut answer = request.send().await.unwrap().bytes_stream();
    let sender = senders.lock().unwrap().pop().unwrap();
    // Pieces that end in the middle of a line: each is there before the next is sent.
    for piece in ["data: {\"choices\":[{\"del", "ta\":{\"content\":\"x\"}}]}\n", "\n"] {
        sender.send(piece.into()).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), piece);
    }
    drop(answer);
    sender.closed().await;
    let entries = wait_for_logs(&house, "", 1).await;
    assert_eq!(entries[0]["complete"], false);
    assert_eq!(entries[0]["output_tokens"], 1);
}

/// How many streams at a time: few where many tests share the machine.
fn streams() -> usize {
    std::env::var("GUESTHOUSE_STREAMS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

#[tokio::test]
async fn many_streams_at_a_time_cost_little_memory_each() {
    let (upstream, senders) = Upstream::start_events().await;
    let house = House::start_with(
        &config(),
        &[("OPENAI_BASE_URL", &upstream.url()), ("OPENAI_API_KEY", "k")],
    );
    let client = client();
    let before = house.rss_kib();
    let mut answers = Vec::new();
    for _ in 0..streams() {
        let request = client.post(format!("{}/openai", house.url)).body("{}");
        answers.push(request.send().await.unwrap().bytes_stream());
    }
    until("every stream is open", || senders.lock().unwrap().len() == streams()).await;
    let all = senders.lock().unwrap().clone();
    for sender in &all {
        sender
            .send("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n".into())
            .await
            .unwrap();
    }
    for answer in &mut answers {
        assert!(answer.next().await.unwrap().unwrap().starts_with(b"data:"));
    }
    let each = house.rss_kib().saturating_sub(before) / streams() as u64;
    println!("{} streams: {each} KiB each", streams());
    assert!(each < 2048, "{each} KiB for each stream");
}
