//! Components that others' toolchains made run here as they are.

use futures::StreamExt;
use guesthouse_tests::{House, clients, guest, plugin};
use rand::RngCore;

const ALL: [&str; 5] = ["wit_bindgen", "wstd", "waki", "wasip3", "spin"];

fn house(name: &str) -> House {
    House::start(&plugin("guest", &guest(name), "routes = [\"/*\"]"))
}

#[tokio::test]
async fn each_toolchain_s_component_answers() {
    for name in ALL {
        let house = house(name);
        let text = reqwest::get(format!("{}/", house.url)).await.unwrap().text().await.unwrap();
        assert_eq!(text, format!("hello from {}", name.replace('_', "-")));
        let missing = reqwest::get(format!("{}/nope", house.url)).await.unwrap();
        assert_eq!(missing.status(), 404, "{name}");
    }
}

/// Nothing is asked of the house before this: the memory that its first request costs is not the echo's.
async fn echoes_twenty_megabytes(house: &House, name: &str, most_kib: u64) {
    let mut body = vec![0; 20 << 20];
    rand::rng().fill_bytes(&mut body);
    reqwest::get(format!("{}/", house.url)).await.unwrap();
    let before = house.rss_kib();
    let echo = reqwest::Client::new().post(format!("{}/echo", house.url)).body(body.clone());
    let answer = echo.send().await.unwrap().bytes().await.unwrap();
    assert!(answer == body, "{name}: {} bytes came back", answer.len());
    let grown = house.rss_kib().saturating_sub(before);
    assert!(grown < most_kib, "{name}: memory grew by {grown} KiB");
}

async fn streams_unbuffered(house: &House, name: &str) {
    let answer = reqwest::get(format!("{}/stream", house.url)).await.unwrap();
    let mut pieces = 0;
    let mut text = String::new();
    let mut body = answer.bytes_stream();
    while let Some(piece) = body.next().await {
        pieces += 1;
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
    }
    assert_eq!(text, "tick 0\ntick 1\ntick 2\ntick 3\ntick 4\n", "{name}");
    assert!(pieces >= 4, "{name}: the answer came in {pieces} pieces");
}

#[tokio::test]
async fn twenty_megabytes_come_back_as_they_went_in_bounded_memory() {
    for name in ["wit_bindgen", "wstd", "wasip3", "spin"] {
        echoes_twenty_megabytes(&house(name), name, 16 << 10).await;
    }
    // waki reads a body whole before it answers: what is bounded then is the guest, by its cap.
    echoes_twenty_megabytes(&house("waki"), "waki", 128 << 10).await;
}

#[tokio::test]
async fn what_a_guest_writes_is_sent_at_once() {
    // waki has no way to write a body bit by bit.
    for name in ["wit_bindgen", "wstd", "wasip3", "spin"] {
        streams_unbuffered(&house(name), name).await;
    }
}

/// A component of 13 to 20 MB takes many seconds to compile, so each is compiled once, and all is asked of that
/// house: what a neighbour sees meanwhile, and what the guest does with the default limits. One after the other:
/// two of them would share the cores, each having only half of `engine.compile_timeout`.
async fn a_language_with_a_runtime(name: &str) {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let neighbour = plugin("neighbour", &guest("wit_bindgen"), "routes = [\"/neighbour/*\"]");
    let house =
        House::start_at_once(&(plugin("guest", &guest(name), "routes = [\"/*\"]") + &neighbour));
    house.wait_for_log("plugin `neighbour` is ready");
    house.wait_for_log("compiling plugin `guest` (2 of 2");
    let early = reqwest::get(format!("{}/", house.url)).await.unwrap();
    assert_eq!(early.status(), 503, "{name} was compiled before it could be asked");
    assert!(early.headers().contains_key("retry-after"));
    let missing = reqwest::get(format!("{}/neighbour/x", house.url)).await.unwrap();
    assert_eq!(missing.status(), 404, "the neighbour's own answer");
    assert_eq!(house.api("/v1/plugins/guest")["state"], "compiling");

    house.wait_until_all_serve();
    let text = reqwest::get(format!("{}/", house.url)).await.unwrap().text().await.unwrap();
    assert_eq!(text, format!("hello from {name}"));
    let missing = reqwest::get(format!("{}/nope", house.url)).await.unwrap();
    assert_eq!(missing.status(), 404);
    // Its collector may let garbage lie up to the plugin's cap, and no further.
    echoes_twenty_megabytes(&house, name, 128 << 10).await;
    streams_unbuffered(&house, name).await;

    let log = house.crash_and_restart().log();
    assert!(!log.contains("compiling plugin"), "{name} was compiled again: {log}");
}

#[tokio::test]
async fn a_javascript_component_is_compiled_beside_the_others_and_runs_with_the_defaults() {
    if clients::tool("GUESTHOUSE_NODE").is_some() {
        a_language_with_a_runtime("javascript").await;
    }
}

#[tokio::test]
async fn a_python_component_is_compiled_beside_the_others_and_runs_with_the_defaults() {
    if clients::tool("GUESTHOUSE_PYTHON").is_some() {
        a_language_with_a_runtime("python").await;
    }
}
