//! A guest can hurt only itself, the client learns nothing, and the operator learns everything.

use guesthouse_tests::{House, guest, plugin};
use reqwest::StatusCode;

fn house(limits: &str, rest: &str) -> House {
    let hostile = format!("routes = [\"/*\"]\nlimits = {{ {limits} }}\n{rest}");
    House::start(
        &(plugin("hostile", &guest("hostile"), &hostile)
            + &plugin("neighbour", &guest("wit_bindgen"), "routes = [\"http://neighbour/*\"]")),
    )
}

async fn get(house: &House, path: &str) -> (StatusCode, String) {
    let answer = reqwest::get(format!("{}{path}", house.url)).await.unwrap();
    assert!(answer.headers().contains_key("x-request-id"));
    (answer.status(), answer.text().await.unwrap())
}

async fn neighbour(house: &House) -> String {
    let request = reqwest::Client::new().get(&house.url).header("host", "neighbour");
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_trap_is_500_without_internals_and_the_log_has_the_cause() {
    let house = house("", "");
    let request = reqwest::Client::new().get(format!("{}/trap", house.url));
    let answer = request.header("x-request-id", "find-me").send().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.headers()["x-request-id"], "find-me");
    let text = answer.text().await.unwrap();
    assert!(!text.contains("secret") && !text.contains("wasm"), "{text}");
    house.wait_for_log("find-me");
    house.wait_for_log("a secret that must not leave the house");
    house.wait_for_log("the plugin trapped");
    assert_eq!(get(&house, "/count").await.0, 200, "the next request has a new instance");
}

#[tokio::test]
async fn an_endless_loop_is_504_and_the_log_names_the_knob() {
    let house = house("cpu = \"100ms\"", "");
    assert_eq!(get(&house, "/spin").await.0, 504);
    house.wait_for_log("limits.cpu");
}

#[tokio::test]
async fn neighbours_answer_while_eight_requests_spin() {
    let house = house("cpu = \"2s\"", "");
    let spinning: Vec<_> =
        (0..8).map(|_| tokio::spawn(reqwest::get(format!("{}/spin", house.url)))).collect();
    // Each waits for the one before: all are answered long before the spinning ends.
    for _ in 0..50 {
        assert_eq!(neighbour(&house).await, "hello from wit-bindgen");
    }
    assert!(spinning.iter().any(|spin| !spin.is_finished()));
    for spin in spinning {
        assert_eq!(spin.await.unwrap().unwrap().status(), 504);
    }
}

#[tokio::test]
async fn waiting_for_ever_is_504_and_the_log_names_the_knob() {
    let house = house("wall = \"200ms\"", "");
    assert_eq!(get(&house, "/never").await.0, 504);
    house.wait_for_log("limits.wall");
}

#[tokio::test]
async fn a_memory_bomb_is_500_and_the_log_names_the_knob() {
    let house = house("memory = \"16MiB\"", "");
    assert_eq!(get(&house, "/bomb").await.0, 500);
    house.wait_for_log("limits.memory");
    assert_eq!(neighbour(&house).await, "hello from wit-bindgen");
}

#[tokio::test]
async fn a_full_queue_is_503_with_retry_after() {
    let house = house("concurrency = 1, queue = 1, wall = \"2s\"", "");
    // One is at work, one waits, and the third is one too many, in whatever order they come.
    let url = format!("{}/never", house.url);
    let (one, two, three) =
        tokio::join!(reqwest::get(&url), reqwest::get(&url), reqwest::get(&url));
    let answers = [one, two, three].map(Result::unwrap);
    let (refused, late): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status() == 503);
    assert_eq!((refused.len(), late.len()), (1, 2));
    assert!(refused.iter().all(|answer| answer.headers().contains_key("retry-after")));
    assert!(late.iter().all(|answer| answer.status() == 504));
    house.wait_for_log("limits.queue");
}

#[tokio::test]
async fn a_crowd_that_is_turned_away_does_not_fill_the_log() {
    const CROWD: usize = 200;
    let house = house("concurrency = 1, queue = 1, log = 3, wall = \"1s\"", "");
    let url = format!("{}/never", house.url);
    let answers = futures::future::join_all((0..CROWD).map(|_| reqwest::get(&url))).await;
    let refused = answers.into_iter().filter(|a| a.as_ref().unwrap().status() == 503).count();
    assert_eq!(refused, CROWD - 2);
    house.wait_for_log("the rest of them is only counted (limits.log)");
    assert!(house.log().matches("limits.queue").count() < CROWD / 2, "{}", house.log());
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_declared_or_not() {
    let house = House::start(&plugin(
        "echo",
        &guest("wit_bindgen"),
        "routes = [\"/*\"]\nlimits = { body = \"100B\" }",
    ));
    let client = reqwest::Client::new();
    let url = format!("{}/echo", house.url);
    for (size, status) in [(100, 200), (101, 413)] {
        let declared = client.post(&url).body(vec![b'x'; size]).send().await.unwrap();
        assert_eq!(declared.status(), status, "{size} bytes");
    }
    assert!(client.post(&url).body("").send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn a_guest_finds_no_files_variables_sockets_or_arguments() {
    let house = house("", "");
    let (_, text) = get(&house, "/sandbox").await;
    assert_eq!(text, "files false, variables 0, sockets false, arguments 0");
}

#[tokio::test]
async fn instances_are_fresh_unless_reuse_is_configured() {
    let fresh = house("", "");
    for _ in 0..3 {
        assert_eq!(get(&fresh, "/count").await.1, "1");
    }
    // One connection stays on one serving thread, which keeps instances of its own.
    let reused = house("", "instances = { reuse = 3 }");
    let client = reqwest::Client::new();
    let mut counts = Vec::new();
    for _ in 0..4 {
        let url = format!("{}/count", reused.url);
        counts.push(client.get(url).send().await.unwrap().text().await.unwrap());
    }
    assert_eq!(counts, ["1", "2", "3", "1"]);
}

#[tokio::test]
async fn what_a_guest_prints_is_logged_with_its_name_and_escaped() {
    let house = house("", "");
    assert_eq!(get(&house, "/print?hi").await.0, 204);
    house.wait_for_log("out: hi");
    house.wait_for_log("err: second line");
    assert!(!house.log().contains('\u{1b}'));
}
