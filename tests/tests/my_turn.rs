//! `/api/my-turn` through the real binary, and credentials of it at the real relay.

use guesthouse_tests::relay::Client;
use guesthouse_tests::upstream::{Upstream, answer};
use guesthouse_tests::{House, clients, guest, house_folder, plugin};
use serde_json::{Value, json};
use std::path::Path;

const DEV: &str = "[server]\naccess_log = false\n[auth]\nplugin = \"auth\"\n";

fn turn_plugin(rest: &str) -> String {
    let rest = format!("routes = [\"/api/my-turn\"]\n{rest}");
    plugin("turn", &house_folder().join("plugins/turn.wasm"), &rest)
}

fn auth_plugin() -> String {
    let rest = "routes = [\"/api/logged_in\"]\nkv = [\"default\"]";
    plugin("auth", &house_folder().join("plugins/auth.wasm"), rest)
}

fn token(house: &House, subject: &str) -> String {
    let (code, text) = house.run(&["auth", "token", "--sub", subject]);
    assert_eq!(code, 0, "{text}");
    text.trim().to_owned()
}

async fn get(house: &House, query: &str, token: &str) -> (u16, Value, reqwest::header::HeaderMap) {
    let request = reqwest::Client::new().get(format!("{}/api/my-turn{query}", house.url));
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, answer.json().await.unwrap_or(Value::Null), headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_without_any_setting_gives_credentials_that_its_relay_takes() {
    let config = DEV.to_owned()
        + &auth_plugin()
        + &turn_plugin("auth = \"required\"\nrate = \"5/min\"\nsecrets = [\"TURN_SECRET\"]");
    let house = House::start(&config);
    assert_eq!(get(&house, "", "").await.0, 401);
    let alice = token(&house, "alice");
    let (status, body, headers) = get(&house, "", &alice).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(!headers.contains_key("access-control-allow-origin"));
    let servers = body["iceServers"].as_array().unwrap();
    assert!(servers[0]["urls"][0].as_str().unwrap().starts_with("stun:127.0.0.1:"), "{body}");
    let (username, credential) = (&servers[1]["username"], &servers[1]["credential"]);
    let (username, credential) = (username.as_str().unwrap(), credential.as_str().unwrap());
    assert!(!username.contains("alice"));
    let relay = servers[1]["urls"][0].as_str().unwrap();
    let relay = relay.strip_prefix("turn:").unwrap().strip_suffix("?transport=udp").unwrap();
    let relay = relay.parse().unwrap();
    let client = Client::new(relay, (username.to_owned(), credential.to_owned()));
    client.allocate(true).unwrap();
    let forged = Client::new(relay, (username.replace(':', ":x"), credential.to_owned()));
    assert_eq!(forged.allocate(true), Err(401));

    // The same user each time, and another one for another caller.
    let user = |body: &Value| {
        let username = body["iceServers"][1]["username"].as_str().unwrap().to_owned();
        username.split_once(':').unwrap().1.to_owned()
    };
    let again = get(&house, "", &alice).await.1;
    assert_eq!(user(&again), user(&body));
    let other = get(&house, "", &token(&house, "bob")).await.1;
    assert_ne!(user(&other), user(&body));

    let object = get(&house, "?shape=object", &alice).await.1;
    assert_eq!(object["iceServers"]["urls"].as_array().unwrap().len(), 3, "{object}");
    assert!(object["iceServers"]["credential"].is_string());

    // Three so far, and two that are left.
    let statuses = [get(&house, "", &alice).await.0, get(&house, "", &alice).await.0];
    assert_eq!(statuses, [200, 200]);
    assert_eq!(get(&house, "", &alice).await.0, 429);
    assert!(!house.log().contains(credential));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_origins_are_answered_as_configured() {
    let config = "[server]\naccess_log = false\n".to_owned()
        + &turn_plugin(
            "secrets = [\"TURN_SECRET\"]\nconfig = { origins = \"https://app.example.com\" }",
        );
    let house = House::start(&config);
    let url = format!("{}/api/my-turn", house.url);
    let client = reqwest::Client::new();
    let ask = |method: reqwest::Method, origin: &'static str| {
        client.request(method, &url).header("origin", origin).send()
    };
    let good = ask(reqwest::Method::OPTIONS, "https://app.example.com").await.unwrap();
    assert_eq!(good.status(), 204);
    assert_eq!(good.headers()["access-control-allow-origin"], "https://app.example.com");
    let bad = ask(reqwest::Method::GET, "https://evil.example.com").await.unwrap();
    assert_eq!(bad.status(), 200);
    assert!(!bad.headers().contains_key("access-control-allow-origin"));
    let post = ask(reqwest::Method::POST, "https://app.example.com").await.unwrap();
    assert_eq!(
        (post.status().as_u16(), &post.headers()["allow"]),
        (405, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_set_up_is_503_and_the_log_says_what() {
    let config = "[turn]\nenabled = false\n".to_owned()
        + &turn_plugin("secrets = [\"TURN_SECRET\"]")
        + &plugin("caller", &guest("caller"), "routes = [\"/*\"]");
    let house = House::start(&config);
    let (status, body, _) = get(&house, "", "").await;
    assert_eq!(status, 503, "{body}");
    assert!(body["error"].as_str().unwrap().contains("log"));
    house.wait_for_log("this house has no relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudflare_is_asked_with_a_token_that_the_plugin_never_sees_and_failures_are_502() {
    let upstream = Upstream::start(|seen, _| async move {
        match seen.path() {
            "/v1/turn/keys/key1/credentials/generate-ice-servers" => answer(
                201,
                "application/json",
                json!({"iceServers": [
                    {"urls": ["stun:stun.cloudflare.com:3478"]},
                    {"urls": ["turn:turn.cloudflare.com:3478?transport=udp", "turn:turn.cloudflare.com:53?transport=udp"],
                     "username": "u", "credential": "c"},
                ]})
                .to_string(),
            ),
            "/v1/turn/keys/empty/credentials/generate-ice-servers" => {
                answer(200, "application/json", "")
            }
            _ => answer(403, "application/json", "{}"),
        }
    })
    .await;
    let house = |key: &str| {
        let base = upstream.url();
        let rest = format!(
            "secrets = [\"CLOUDFLARE_TURN_KEY_ID\"]\n\
             fetch = [{{ url = \"{base}\", inject = {{ authorization = \"Bearer ${{CLOUDFLARE_TURN_TOKEN}}\" }} }}]\n\
             config = {{ provider = \"cloudflare\", base_url = \"{base}\", ttl = \"24h\" }}"
        );
        let variables = [("CLOUDFLARE_TURN_KEY_ID", key), ("CLOUDFLARE_TURN_TOKEN", "cf-token")];
        House::start_with(&turn_plugin(&rest), &variables)
    };
    let (status, body, _) = get(&house("key1"), "", "").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body["iceServers"][1]["urls"],
        json!(["turn:turn.cloudflare.com:3478?transport=udp"])
    );
    assert_eq!(upstream.last().method, "POST");
    assert_eq!(upstream.last().header("authorization"), Some("Bearer cf-token"));
    for key in ["empty", "refused"] {
        let (status, body, _) = get(&house(key), "", "").await;
        assert_eq!((status, body), (502, json!({"error": "Failed to generate TURN credentials"})));
    }
}

#[test]
fn a_browser_talks_through_the_house_by_udp_tcp_and_tls() {
    if clients::chromium().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("turn.crt"), folder.path().join("turn.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    // Known before, since only the operator can say where TLS is reached.
    let (plain, port) = (guesthouse_tests::port(), guesthouse_tests::port());
    let assets = "routes = [\"/*\"]\nkv = [\"assets\"]\ninstances = { reuse = 1000 }";
    let config = format!(
        "[turn]\nlisten = [\"udp://127.0.0.1:{plain}\", \"tcp://127.0.0.1:{plain}\", \"tls://127.0.0.1:{port}\"]\n\
         certificate = {certificate:?}\nkey = {key:?}\nbandwidth = 0\nuser_bandwidth = 0\ntotal_bandwidth = 0\n\
         urls = [\"turn:127.0.0.1:{plain}?transport=udp\", \"turn:127.0.0.1:{plain}?transport=tcp\", \
         \"turns:127.0.0.1:{port}?transport=tcp\"]\n"
    );
    let config = DEV.to_owned()
        + &config
        + &auth_plugin()
        + &plugin("assets", &house_folder().join("plugins/assets.wasm"), assets)
        + &turn_plugin("auth = \"required\"\nsecrets = [\"TURN_SECRET\"]");
    let house = House::start(&config);
    house.publish(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/assets/site"));
    let url = format!("{}/turn-test", house.url);
    let token = token(&house, "alice");
    let Some(output) = clients::node("turn.mjs", &[&url, &token, "udp", "tcp", "tls"]) else {
        return;
    };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    assert_eq!(found["wrong"], json!([]), "{found}");
    for transport in ["udp", "tcp", "tls"] {
        let result = &found["results"][transport];
        assert_eq!(
            (&result["local"], &result["remote"]),
            (&json!("relay"), &json!("relay")),
            "{found}"
        );
        assert_eq!(result["by"], transport, "{found}");
        assert!(result["rate"].as_f64().unwrap() > 0.0);
        let candidates = result["candidates"].as_array().unwrap();
        let relayed = |one: &Value| one.as_str().unwrap().contains(" typ relay ");
        assert!(!candidates.is_empty() && candidates.iter().all(relayed), "{found}");
    }
    let traffic = house.api("/v1/turn");
    for transport in ["udp", "tcp", "tls"] {
        assert!(
            traffic["traffic"][transport]["packets_to_peers"].as_u64().unwrap() > 20,
            "{traffic}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aiortc_talks_through_the_house_by_udp_and_tcp() {
    let config =
        "[server]\naccess_log = false\n".to_owned() + &turn_plugin("secrets = [\"TURN_SECRET\"]");
    let house = House::start(&config);
    let (_, body, _) = get(&house, "", "").await;
    let Some(output) = clients::python("turn.py", &[&body.to_string(), "udp", "tcp"]) else {
        return;
    };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    for transport in ["udp", "tcp"] {
        assert_eq!(found[transport]["answer"], "back: hello", "{found}");
        let candidates = found[transport]["candidates"].as_array().unwrap();
        let relayed = |one: &Value| one.as_str().unwrap().contains(" typ relay");
        assert!(!candidates.is_empty() && candidates.iter().all(relayed), "{found}");
    }
}
