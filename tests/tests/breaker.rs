//! A plugin that fails again and again is left alone, and tried again.

use guesthouse_tests::{House, PATIENCE, guest, plugin};
use reqwest::StatusCode;
use std::time::{Duration, Instant};

fn house(guest_name: &str, rest: &str) -> House {
    let hostile = format!("routes = [\"/*\"]\n{rest}");
    House::start(
        &(plugin("hostile", &guest(guest_name), &hostile)
            + &plugin("neighbour", &guest("wit_bindgen"), "routes = [\"http://neighbour/*\"]")),
    )
}

async fn status(house: &House, path: &str) -> StatusCode {
    reqwest::get(format!("{}{path}", house.url)).await.unwrap().status()
}

fn breaker(house: &House) -> serde_json::Value {
    house.api("/v1/plugins/hostile")["version"]["breaker"].clone()
}

#[tokio::test]
async fn traps_in_a_row_are_answered_503_with_retry_after_and_said_to_the_operator() {
    let house =
        house("hostile", "breaker = { failures = 3, backoff = \"1h\", max_backoff = \"1h\" }");
    for _ in 0..2 {
        assert_eq!(status(&house, "/trap").await, 500);
    }
    assert_eq!(status(&house, "/count").await, 200, "a good answer begins the row anew");
    for _ in 0..3 {
        assert_eq!(breaker(&house)["state"], "closed");
        assert_eq!(status(&house, "/trap").await, 500);
    }
    let refused = reqwest::get(format!("{}/count", house.url)).await.unwrap();
    assert_eq!(refused.status(), 503);
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3601).contains(&after), "{after}");
    assert!(!refused.text().await.unwrap().contains("secret"));
    house.wait_for_log("failed 3 times in a row");
    house.wait_for_log("breaker.failures");
    let state = breaker(&house);
    assert_eq!(state["state"], "open");
    assert_eq!(state["refused"], 1);
    let neighbour = reqwest::Client::new().get(&house.url).header("host", "neighbour");
    assert_eq!(neighbour.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_first_good_answer_closes_it() {
    let house =
        house("hostile", "breaker = { failures = 2, backoff = \"20ms\", max_backoff = \"20ms\" }");
    for _ in 0..2 {
        assert_eq!(status(&house, "/trap").await, 500);
    }
    assert_eq!(breaker(&house)["state"], "open");
    let began = Instant::now();
    // A probe that fails opens it again: one trap is enough now.
    while status(&house, "/trap").await == 503 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while status(&house, "/count").await == 503 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.wait_for_log("the plugin answers again");
    assert_eq!(breaker(&house)["state"], "closed");
    assert_eq!(status(&house, "/count").await, 200);
}

#[tokio::test]
async fn deadlines_of_the_clock_and_answers_of_the_plugin_s_own_do_not_count() {
    let limits = "limits = { wall = \"100ms\" }\nbreaker = { failures = 1, backoff = \"1h\" }";
    let slow = house("hostile", limits);
    assert_eq!(status(&slow, "/never").await, 504);
    assert_eq!(status(&slow, "/count").await, 200);
    let rude = house("hostile_http", limits);
    assert_eq!(status(&rude, "/error").await, 502);
    assert_eq!(status(&rude, "/").await, 200);
    assert_eq!(status(&rude, "/silent").await, 500, "no answer at all is a failure");
    assert_eq!(status(&rude, "/").await, 503);
}

#[tokio::test]
async fn a_plugin_of_wasi_http_0_3_is_left_alone_as_well() {
    let house = house("wasip3", "breaker = { failures = 2, backoff = \"1h\" }");
    for _ in 0..2 {
        assert_eq!(status(&house, "/trap").await, 500);
    }
    assert_eq!(status(&house, "/").await, 503);
    assert_eq!(breaker(&house)["state"], "open");
}

#[tokio::test]
async fn a_breaker_can_be_switched_off() {
    let house = house("hostile", "breaker = { failures = 0 }");
    for _ in 0..30 {
        assert_eq!(status(&house, "/trap").await, 500);
    }
    assert_eq!(status(&house, "/count").await, 200);
}
