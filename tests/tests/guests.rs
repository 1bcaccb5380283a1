//! Components that others' toolchains made run here as they are.

use futures::StreamExt;
use guesthouse_tests::{House, guest, plugin};
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

#[tokio::test]
async fn twenty_megabytes_come_back_as_they_went_in_bounded_memory() {
    let mut body = vec![0; 20 << 20];
    rand::rng().fill_bytes(&mut body);
    for name in ["wit_bindgen", "wstd", "wasip3"] {
        let house = house(name);
        reqwest::get(format!("{}/", house.url)).await.unwrap();
        let before = house.rss_kib();
        let echo = reqwest::Client::new().post(format!("{}/echo", house.url)).body(body.clone());
        let answer = echo.send().await.unwrap().bytes().await.unwrap();
        assert!(answer == body, "{name}: {} bytes came back", answer.len());
        let grown = house.rss_kib().saturating_sub(before);
        assert!(grown < 16 << 10, "{name}: memory grew by {grown} KiB");
    }
}

#[tokio::test]
async fn what_a_guest_writes_is_sent_at_once() {
    for name in ["wit_bindgen", "wstd", "wasip3"] {
        let house = house(name);
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
}
