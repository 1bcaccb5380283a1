//! What an operator sees: the metrics, and the dashboard in a real browser.

use guesthouse_tests::relay::{Client, credential};
use guesthouse_tests::{House, clients, guest, plugin};
use reqwest::{Method, Response};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const SECRET: &str = "a secret of the tests, and of nobody else";

/// A house with a plugin, one that fails, rooms and a relay.
fn house() -> House {
    let config = "[server]\naccess_log = false\n[turn]\nlisten = [\"udp://127.0.0.1:0\"]\n\
                  allow_private_peers = true\n"
        .to_owned()
        + &plugin("hello", &guest("wit_bindgen"), "routes = [\"/\"]")
        + &plugin("hostile", &guest("hostile"), "routes = [\"/trap\", \"/spin\"]")
        + &plugin("room", &guest("room_bench"), "rooms = { routes = [\"/room/{room}\"] }");
    House::start_with(&config, &[("TURN_SECRET", SECRET)])
}

fn allocation(house: &House, user: &str) -> Client {
    let relay = house.api("/v1/turn")["listeners"][0].as_str().unwrap().to_owned();
    let relay = relay.strip_prefix("udp://").unwrap().parse().unwrap();
    let client = Client::new(relay, credential(SECRET, user));
    client.allocate(true).unwrap();
    client
}

/// The samples by their name and labels, after a strict look at the format.
fn read(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut family = String::new();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && help.ends_with('.'), "{line}");
            assert!(seen.insert(name.to_owned()), "{name} stands twice");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            kinds.insert(name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line}"));
            let allowed = if kinds[&family] == "histogram" {
                ["_bucket", "_sum", "_count"].contains(&suffix)
            } else {
                suffix.is_empty()
            };
            assert!(allowed && is_name(name), "{line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
            let before = samples.insert(series.to_owned(), value.parse::<f64>().unwrap());
            assert!(before.is_none(), "{series} stands twice");
        }
    }
    samples
}

async fn metrics(house: &House) -> BTreeMap<String, f64> {
    let answer = call(house, Method::GET, "/metrics", &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    read(&answer.text().await.unwrap())
}

/// With the token.
async fn call(house: &House, method: Method, path: &str, fields: &[(&str, &str)]) -> Response {
    let mut request = reqwest::Client::new()
        .request(method, format!("{}{path}", house.admin))
        .bearer_auth(house.token());
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened_by_plugin() {
    let house = house();
    let bare = reqwest::get(format!("{}/metrics", house.admin)).await.unwrap();
    assert_eq!(bare.status(), 401);
    let before = metrics(&house).await;
    for (path, status) in [("/", 200), ("/", 200), ("/trap", 500), ("/nothing", 404)] {
        let answer = reqwest::get(format!("{}{path}", house.url)).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let client = tokio::task::block_in_place(|| allocation(&house, "alice"));
    let after = metrics(&house).await;
    let grown = |series: &str| {
        let series = format!("guesthouse_{series}");
        let found = after.get(&series).unwrap_or_else(|| panic!("no {series} in {after:#?}"));
        found - before.get(&series).unwrap()
    };
    assert_eq!(grown("requests_total{plugin=\"hello\",status=\"2xx\"}"), 2.0);
    assert_eq!(grown("requests_total{plugin=\"hostile\",status=\"5xx\"}"), 1.0);
    assert_eq!(grown("requests_total{plugin=\"\",status=\"4xx\"}"), 1.0);
    assert_eq!(grown("request_seconds_count{plugin=\"hello\"}"), 2.0);
    assert_eq!(grown("request_seconds_bucket{plugin=\"hello\",le=\"+Inf\"}"), 2.0);
    assert!(grown("request_seconds_sum{plugin=\"hello\"}") > 0.0);
    let trap = "plugin_failures_total{plugin=\"hostile\",version=\"1\",reason=\"trap\"}";
    assert_eq!(grown(trap), 1.0);
    assert_eq!(grown("plugin_instances_total{plugin=\"hello\",version=\"1\"}"), 2.0);
    assert_eq!(grown("turn_allocations"), 1.0);
    assert_eq!(grown("turn_allocations_total"), 1.0);
    assert_eq!(grown("turn_challenged_total"), 1.0);
    assert_eq!(after["guesthouse_plugin_serving{plugin=\"hello\",version=\"1\"}"], 1.0);
    assert_eq!(after["guesthouse_rooms{plugin=\"room\",state=\"awake\"}"], 0.0);
    assert!(after["process_resident_memory_bytes"] > 1e6 && after["process_open_fds"] > 3.0);
    // Buckets are sums: none is less than the one before it.
    let mut bounds = BTreeMap::new();
    for (series, value) in &after {
        if let Some(rest) =
            series.strip_prefix("guesthouse_request_seconds_bucket{plugin=\"hello\",le=\"")
        {
            let bound = rest.trim_end_matches("\"}").replace("+Inf", "inf");
            bounds.insert((bound.parse::<f64>().unwrap() * 1e6) as u64, *value);
        }
    }
    assert!(bounds.len() == 17 && bounds.values().is_sorted(), "{bounds:?}");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_plugin_go_on_when_its_version_is_replaced() {
    let house = house();
    let answers = async || {
        let all = metrics(&house).await;
        all["guesthouse_requests_total{plugin=\"hello\",status=\"2xx\"}"]
    };
    reqwest::get(&house.url).await.unwrap();
    let file = house.data().parent().unwrap().join("guesthouse.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[\"/\"]", "[\"/\", \"/other\"]")).unwrap();
    let (code, text) = house.run(&["deploy", "--allow-new-grants", "--yes"]);
    assert_eq!(code, 0, "{text}");
    reqwest::get(&house.url).await.unwrap();
    assert_eq!(answers().await, 2.0);
    let all = metrics(&house).await;
    assert!(all.contains_key("guesthouse_plugin_serving{plugin=\"hello\",version=\"2\"}"));
    assert_eq!(all["guesthouse_deployments_total"], 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_given_to_everybody_and_says_nothing() {
    let house = house();
    let client = tokio::task::block_in_place(|| allocation(&house, "alice"));
    let page = reqwest::get(&house.admin).await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!page.headers().contains_key("access-control-allow-origin"));
    assert_eq!(page.headers()["x-frame-options"], "DENY");
    let text = page.text().await.unwrap();
    for told in ["alice", "hostile", &house.token()] {
        assert!(!text.contains(told), "{told}");
    }
    // A name that an attacker's server gives to this address.
    let rebound = reqwest::Client::new().get(&house.admin).header("host", "evil.example");
    assert_eq!(rebound.send().await.unwrap().status(), 403);
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_the_dashboard_and_no_other_page() {
    let house = house();
    let own = house.admin.as_str();
    let other_port = own.rsplit_once(':').unwrap().0.to_owned() + ":1";
    let path = "/v1/turn/allocations/1";
    for (fields, status) in [
        // There is no such allocation: it was looked for.
        (&[("origin", own)][..], 404),
        (&[("origin", own), ("sec-fetch-site", "same-origin")], 404),
        (&[("sec-fetch-site", "none")], 404),
        (&[("origin", "null")], 403),
        (&[("origin", "http://evil.example")], 403),
        (&[("origin", &other_port)], 403),
        (&[("origin", &own.replace("http:", "https:"))], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("host", "evil.example"), ("origin", "http://evil.example")], 403),
    ] {
        let answer = call(&house, Method::DELETE, path, fields).await;
        assert_eq!(answer.status(), status, "{fields:?}");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
}

#[test]
fn an_operator_sees_an_allocation_in_a_browser_and_ends_it() {
    if clients::chromium().is_none() {
        return;
    }
    let house = house();
    // A user's name is what the caller's credential says: here one that would like to be markup.
    let name = "<img src=x onerror=alert(1)>";
    let (alice, bob) = (allocation(&house, name), allocation(&house, "bob"));
    // `GUESTHOUSE_SCREENSHOT` keeps the picture.
    let folder = tempfile::tempdir().unwrap();
    let screenshot = std::env::var("GUESTHOUSE_SCREENSHOT")
        .unwrap_or_else(|_| folder.path().join("page.png").to_str().unwrap().to_owned());
    let Some(output) = clients::node("dashboard.mjs", &[&house.admin, &house.token(), &screenshot])
    else {
        return;
    };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    assert_eq!(found["early"], 0, "nothing is asked without a token: {found}");
    assert!(found["refused"].as_str().unwrap().contains("token"), "{found}");
    assert_eq!(found["plugins"], serde_json::json!(["hello", "hostile", "room"]), "{found}");
    assert_eq!(found["users"], serde_json::json!([name, "bob"]), "{found}");
    assert_eq!(found["left"], serde_json::json!(["bob"]), "{found}");
    assert_eq!(found["wide"], serde_json::json!([]), "it fits a phone: {found}");
    assert_eq!(found["kept"], true, "the token stays for this tab: {found}");
    assert_eq!(found["after_leaving"], "", "and goes when it is told to: {found}");
    assert_eq!(found["wrong"], serde_json::json!([]), "{found}");
    assert_eq!((alice.refresh(), bob.refresh()), (437, 0));
}
