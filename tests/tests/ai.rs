//! The AI plugins: official clients, hygiene, pictures, and summaries. `ai_log.rs` has their log.

use futures::StreamExt;
use guesthouse_tests::ai::{client, config, house, picture};
use guesthouse_tests::upstream::{Upstream, until};
use guesthouse_tests::{House, ai};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

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
    let gone = guesthouse_tests::port();
    let url = format!("http://127.0.0.1:{gone}/v1");
    let house = House::start_with(&config(), &[("OPENAI_BASE_URL", &url), ("OPENAI_API_KEY", "k")]);
    let answer = client().post(format!("{}/openai", house.url)).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(!answer.text().await.unwrap().contains(&gone.to_string()), "nothing internal");
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

/// Requests for one picture; with them, so many are at work in the house.
async fn crowd(
    house: &House,
    url: &str,
    count: u64,
    running: u64,
) -> Vec<tokio::task::JoinHandle<(u16, usize)>> {
    let answers = (0..count).map(|_| {
        let request = client().get(url);
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().len())
        })
    });
    let answers = answers.collect();
    until("all are at work", || {
        house.api("/v1/plugins/replicate")["version"]["running"] == running
    })
    .await;
    answers
}

#[tokio::test]
async fn of_many_who_ask_for_a_new_picture_one_asks_the_upstream() {
    let (open, gate) = tokio::sync::watch::channel(None);
    let upstream = ai::start_gated(gate).await;
    let house = house(&upstream);
    let asked = || upstream.seen().iter().filter(|seen| seen.method == "POST").count();

    let url = picture(&house, "prompt=one");
    let answers = crowd(&house, &url, 20, 20).await;
    open.send_replace(Some(200));
    for answer in answers {
        assert_eq!(answer.await.unwrap(), (200, 50_000));
    }
    assert_eq!(asked(), 1);

    // A refusal is the answer of all who wait, and of nobody who comes later: whoever comes asks anew, and those who
    // waited are told all the same.
    open.send_replace(None);
    let url = picture(&house, "prompt=two");
    let answers = futures::future::join_all(crowd(&house, &url, 20, 20).await);
    open.send_replace(Some(402));
    let (over, mut newcomers) = (AtomicBool::new(false), 0);
    let told = async {
        let answers = answers.await;
        over.store(true, SeqCst);
        answers
    };
    let coming = async {
        while !over.load(SeqCst) {
            newcomers += 1;
            assert_eq!(client().get(&url).send().await.unwrap().status(), 402);
        }
    };
    let (answers, ()) = tokio::join!(told, coming);
    for answer in answers {
        let (status, length) = answer.unwrap();
        assert_eq!(status, 402);
        assert!(length > 0, "with the upstream's words");
    }
    // At work is not yet waiting: on a busy machine some come to look only after the refusal, and ask anew.
    let refused = asked();
    let most = 2 + newcomers + 8;
    assert!((2..=most).contains(&refused), "{refused} questions, {newcomers} newcomers");
    open.send_replace(Some(200));
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    assert_eq!(asked(), refused + 1);

    // Who asked has gone: one of the others asks.
    open.send_replace(None);
    let url = picture(&house, "prompt=three");
    let first = crowd(&house, &url, 1, 1).await;
    until("the upstream is asked", || asked() == refused + 2).await;
    let others = crowd(&house, &url, 6, 7).await.into_iter();
    first.into_iter().for_each(|answer| answer.abort());
    until("the upstream is asked again", || asked() == refused + 3).await;
    open.send_replace(Some(200));
    for answer in others {
        assert_eq!(answer.await.unwrap(), (200, 50_000));
    }
    assert_eq!(asked(), refused + 3);
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
