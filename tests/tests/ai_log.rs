//! The log of the AI plugins: what is in it, what a full one has besides, how long it lasts, and what its failure
//! does to a request (nothing).

use futures::StreamExt;
use guesthouse_tests::ai::{OPENAI_KEY, client, config, house, logs, picture, wait_for_logs};
use guesthouse_tests::upstream::Upstream;
use guesthouse_tests::{House, ai, guest, plugin};
use serde_json::{Value, json};

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

/// A house whose OpenAI plugin has these settings too.
fn with_settings(upstream: &Upstream, settings: &str) -> House {
    start(upstream, &config().replacen("config = {", &format!("config = {{ {settings},"), 1))
}

fn start(upstream: &Upstream, config: &str) -> House {
    let url = format!("{}/oa/v1", upstream.url());
    House::start_with(config, &[("OPENAI_BASE_URL", &url), ("OPENAI_API_KEY", OPENAI_KEY)])
}

async fn chat(house: &House, prompt: &str) -> reqwest::Response {
    let messages = json!([{ "role": "user", "content": prompt }]);
    let request = client().post(format!("{}/openai", house.url));
    request.json(&json!({ "model": "mock", "messages": messages })).send().await.unwrap()
}

#[tokio::test]
async fn whole_prompts_are_kept_where_the_configuration_says_so_and_nothing_where_it_says_off() {
    let upstream = ai::start().await;
    let full = with_settings(&upstream, "log = \"full\"");
    let prompt = "word ".repeat(100);
    assert_eq!(chat(&full, &prompt).await.status(), 200);
    let entries = wait_for_logs(&full, "", 1).await;
    let kept: Value = serde_json::from_str(entries[0]["prompt"].as_str().unwrap()).unwrap();
    assert_eq!(kept["messages"][0]["content"], prompt);
    let summary = entries[0]["summary"].as_str().unwrap();
    assert_eq!(summary.chars().count(), 121, "{summary}");
    // What is beyond the bound is not kept in pieces: JSON that is cut is none.
    assert_eq!(chat(&full, &"long ".repeat(20_000)).await.status(), 200);
    let entries = wait_for_logs(&full, "", 2).await;
    assert_eq!(entries[0].get("prompt"), None);
    assert!(entries[0]["summary"].as_str().unwrap().starts_with("long long"));
    assert!(!full.log().contains("long long"), "no prompt gets into the house's log");

    let off = with_settings(&upstream, "log = \"off\"");
    assert_eq!(chat(&off, &prompt).await.status(), 200);
    // An entry of another plugin, which would come after one of this.
    let answer = client().get(picture(&off, "prompt=x")).send().await.unwrap();
    assert_eq!(answer.status(), 503, "without a key");
    let entries = wait_for_logs(&off, "", 1).await;
    assert_eq!((entries.len(), &entries[0]["provider"]), (1, &json!("replicate")));
}

#[tokio::test]
async fn entries_go_by_themselves_when_their_days_are_over() {
    let upstream = ai::start().await;
    for (settings, days) in [("log = \"summary\"", 30), ("log_days = \"2\"", 2)] {
        let house = with_settings(&upstream, settings);
        assert_eq!(chat(&house, "x").await.status(), 200);
        let entries = wait_for_logs(&house, "", 1).await;
        let (id, time) = (entries[0]["id"].as_str().unwrap(), entries[0]["time"].as_u64().unwrap());
        let key = format!("log/{id}");
        let kept = &house.api("/v1/kv/ai-logs?prefix=log/")["keys"][0];
        assert_eq!(kept["key"], key);
        let life = kept["expires_at"].as_u64().unwrap() - time;
        let day = 86_400_000;
        assert!((days * day..days * day + day / 24).contains(&life), "{life} ms");
        // The same entry at the end of its days.
        let (code, text) = house.run(&["kv", "get", "ai-logs", &key]);
        assert_eq!(code, 0, "{text}");
        let (code, text) = house.run(&["kv", "put", "ai-logs", &key, &text, "--ttl", "1"]);
        assert_eq!(code, 0, "{text}");
        let began = std::time::Instant::now();
        while !logs(&house, "").await.is_empty() {
            assert!(began.elapsed() < guesthouse_tests::PATIENCE, "it does not go");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}
#[tokio::test]
async fn a_log_that_fails_fails_no_request_and_is_said() {
    let upstream = ai::start().await;
    // A namespace that was not granted; a storage that does not take an entry of this size.
    let denied = with_settings(&upstream, "log_namespace = \"elsewhere\"");
    let whole = config().replacen("config = {", "config = { log = \"full\",", 1);
    let full = start(&upstream, &format!("[storage]\nmax_value = \"8KiB\"\n{whole}"));
    let messages = json!([{ "role": "user", "content": "long ".repeat(4000) }]);
    for (house, why) in [(&denied, "AccessDenied"), (&full, "TooLarge")] {
        for stream in [false, true] {
            let body = json!({ "model": "mock", "messages": messages, "stream": stream });
            let request = client().post(format!("{}/openai", house.url)).json(&body);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let text = answer.text().await.unwrap();
            assert!(text.contains("mock"), "{text}");
        }
        house.wait_for_log("an entry of the AI log was lost");
        house.wait_for_log(why);
        assert!(logs(house, "").await.is_empty());
    }
}
