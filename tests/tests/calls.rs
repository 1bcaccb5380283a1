//! Calls from one plugin to another: granted ones arrive without the network, and nothing else does.

use futures::StreamExt;
use guesthouse_tests::asking::ask;
use guesthouse_tests::deploy::{build, full, put};
use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use std::time::Instant;

/// A plugin `out` that fetches what it is told to, with these lines; and others.
fn config(out: &str, others: &[(&str, &str, &str)]) -> String {
    let all: String =
        others.iter().map(|(name, kind, lines)| plugin(name, &guest(kind), lines)).collect();
    plugin("out", &guest("fetch"), &format!("routes = [\"/*\"]\n{out}")) + &all
}

/// What `out` got when it asked for this.
async fn through(house: &House, url: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let sent: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let (sent, mut all) = (sent.join(","), fields.to_vec());
    all.extend([("x-url", url), ("x-send", &sent)]);
    let answer = ask(house, "/", &all).await;
    (answer.status, answer.text)
}

fn running(house: &House, name: &str) -> Option<u64> {
    house.api(&format!("/v1/plugins/{name}"))["version"]["running"].as_u64()
}

async fn until_running(house: &House, name: &str, count: u64) {
    let began = Instant::now();
    while running(house, name) != Some(count) {
        assert!(began.elapsed() < PATIENCE, "{:?} run", running(house, name));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_granted_call_arrives_as_it_was_sent_and_comes_back() {
    let config =
        config("calls = [\"who\", \"three\"]", &[("who", "caller", ""), ("three", "wasip3", "")]);
    let house = House::start_with(&config, &[("GUESTHOUSE_LOG", "guesthouse=debug")]);
    let who = through(&house, "http://who.internal/whoami", &[]).await;
    assert_eq!(who, (200, "nobody".into()));
    // Path, query, method, fields and body; the name in any case.
    let field = through(&house, "http://WHO.internal:80/a%20b/header?x-mine", &[("x-mine", "1")]);
    assert_eq!(field.await, (200, "1".into()));
    // No more than fits on the way: this guest reads the answer when it has sent everything.
    let big = vec![b'x'; 10_000];
    let echo = reqwest::Client::new()
        .post(&house.url)
        .header("x-url", "http://three.internal/echo")
        .body(big.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(echo.status(), 200);
    assert_eq!(echo.bytes().await.unwrap(), big);
    house.wait_for_log("a plugin called another");
    let (_, granted) = check(&house, "http://who.internal/x").await;
    assert_eq!(granted, "granted");
}

async fn check(house: &House, url: &str) -> (u16, String) {
    let answer = ask(house, "/check", &[("x-url", url)]).await;
    (answer.status, answer.text)
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_the_log_names_the_grant() {
    let others = [("who", "caller", "routes = [\"/who/*\"]"), ("other", "caller", "")];
    let house = House::start(&config("calls = [\"other\"]", &others));
    for url in [
        "http://who.internal/whoami",
        "http://who.internal:8080/whoami",
        "https://who.internal/whoami",
        "https://other.internal/whoami",
        "http://other.internal:81/whoami",
        "http://x.other.internal/whoami",
        "http://other.internal.x/whoami",
        "http://u@other.internal/whoami",
        "http://nobody.internal/",
        "http://internal/",
    ] {
        let (status, text) = through(&house, url, &[]).await;
        assert!(status == 599 && text.contains("HttpRequestDenied"), "{url}: {status} {text}");
        assert_eq!(check(&house, url).await.0, 403, "{url}");
    }
    house.wait_for_log("add \\\"who\\\" to `calls` of [plugins.out]");
    assert_eq!(through(&house, "http://other.internal/whoami", &[]).await.0, 200);
}

#[test]
fn a_call_to_a_plugin_that_is_not_there_is_refused_at_the_start() {
    let error = House::refuses(&config("calls = [\"hwo\"]", &[("who", "caller", "")]));
    assert!(error.contains("there is no [plugins.hwo]"), "{error}");
}

#[tokio::test]
async fn a_new_call_needs_the_operator_s_consent() {
    let house = House::start(&config("", &[("who", "caller", "")]));
    house.configure(&config("calls = [\"who\"]", &[("who", "caller", "")]));
    let (code, text) = house.run(&["deploy", "--yes"]);
    assert!(code != 0 && text.contains("calls who"), "{text}");
    assert_eq!(through(&house, "http://who.internal/whoami", &[]).await.0, 599);
    house.deploy();
    assert_eq!(through(&house, "http://who.internal/whoami", &[]).await.0, 200);
}

#[tokio::test]
async fn a_ring_ends_at_its_depth_and_one_without_places_at_once() {
    let ring = |concurrency: u32| {
        let lines =
            format!("limits = {{ concurrency = {concurrency}, outbound_connect = \"1h\" }}");
        "[engine]\ncall_depth = 5\n".to_owned()
            + &config(
                &format!("calls = [\"out\", \"back\"]\n{lines}"),
                &[("back", "fetch", &format!("calls = [\"out\", \"back\"]\n{lines}"))],
            )
    };
    let house = House::start(&ring(64));
    let again = [("x-url", "http://out.internal/"), ("x-send", "x-url,x-send")];
    let answer = ask(&house, "/", &again).await;
    assert_eq!((answer.status, answer.text.contains("5 deep")), (508, true), "{}", answer.text);
    house.wait_for_log("out → out → out → out → out → out");
    until_running(&house, "out", 0).await;
    // Whoever waits for a place that it holds itself does not wait: the hour above is not felt.
    let house = House::start(&ring(2));
    let answer = ask(&house, "/", &again).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    house.wait_for_log("no place of the plugin came free");
    until_running(&house, "out", 0).await;
}

#[tokio::test]
async fn a_plugin_whose_places_are_taken_is_waited_for_within_a_limit() {
    let others = [("busy", "marker", "limits = { concurrency = 1 }"), ("who", "caller", "")];
    let house = House::start(&config(
        "calls = [\"busy\", \"who\"]\nlimits = { outbound_connect = \"50ms\" }",
        &others,
    ));
    let held = reqwest::Client::new()
        .get(&house.url)
        .header("x-url", "http://busy.internal/stream/100000/5")
        .send()
        .await
        .unwrap();
    let mut held = held.bytes_stream();
    assert!(held.next().await.unwrap().is_ok());
    let refused = through(&house, "http://busy.internal/", &[]).await;
    assert_eq!(refused.0, 503, "{}", refused.1);
    assert_eq!(through(&house, "http://who.internal/whoami", &[]).await.0, 200);
    // Who goes away ends the call as well.
    drop(held);
    until_running(&house, "busy", 0).await;
    assert_eq!(through(&house, "http://busy.internal/", &[]).await.0, 200);
}

#[tokio::test]
async fn the_limits_of_the_plugin_that_is_called_are_its_own() {
    let odd = "limits = { wall = \"200ms\" }\n\
               breaker = { failures = 2, backoff = \"1h\", max_backoff = \"1h\" }";
    let others = [
        ("small", "fetch", "limits = { body = \"1KiB\" }\ncalls = [\"who\"]"),
        ("who", "caller", ""),
        ("odd", "wasip3", odd),
    ];
    let house = House::start(&config("calls = [\"small\", \"odd\"]", &others));
    // `small` hands its body on to `who`.
    let post = |size: usize, chunked: bool| {
        let request = reqwest::Client::new().post(&house.url);
        let request = request.header("x-url", "http://small.internal/ http://who.internal/whoami");
        let body = vec![b'x'; size];
        let pieces = futures::stream::iter([Ok::<_, std::io::Error>(body.clone())]);
        let request = if chunked {
            request.body(reqwest::Body::wrap_stream(pieces))
        } else {
            request.body(body)
        };
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(post(1024, false).await, 200);
    assert_eq!(post(1024, true).await, 200);
    assert_eq!(post(1025, false).await, 413);
    assert_eq!(post(1025, true).await, 413);
    assert_eq!(through(&house, "http://odd.internal/never", &[]).await.0, 504);
    // A trap is its own, and the breaker counts it; the caller learns a status and no more.
    for _ in 0..2 {
        let (status, text) = through(&house, "http://odd.internal/trap", &[]).await;
        assert_eq!(status, 500);
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(through(&house, "http://odd.internal/", &[]).await.0, 503);
    assert_eq!(house.api("/v1/plugins/out")["version"]["failures"], 0);
}

const VERIFIER: &str = "instances = { reuse = 1000 }\nlimits = { cpu = \"200ms\" }";

fn with_callers(out: &str, others: &[(&str, &str, &str)]) -> String {
    "[server]\nthreads = 1\n[auth]\nplugin = \"verifier\"\n".to_owned()
        + &plugin("verifier", &guest("verifier"), VERIFIER)
        + &config(out, others)
}

#[tokio::test]
async fn a_call_is_made_on_behalf_of_the_caller_and_of_nobody_else() {
    let reuse = "instances = { reuse = 1000 }";
    let strict = format!("{reuse}\nauth = \"required\"");
    let others = [
        ("who", "caller", reuse),
        ("strict", "caller", strict.as_str()),
        ("middle", "fetch", "instances = { reuse = 1000 }\ncalls = [\"who\"]"),
    ];
    let lines = format!("{reuse}\nauth = \"optional\"\ncalls = [\"who\", \"strict\", \"middle\"]");
    let house = House::start(&with_callers(&lines, &others));
    let anna = ("authorization", "Bearer good anna");
    let as_who = |url: &'static str, shown: Option<(&'static str, &'static str)>| {
        let fields: Vec<(&str, &str)> =
            shown.into_iter().chain([("x-url", url), ("x-send", "")]).collect();
        let house = &house;
        async move {
            let answer = ask(house, "/", &fields).await;
            (answer.status, answer.text)
        }
    };
    for url in ["http://who.internal/whoami", "http://strict.internal/whoami"] {
        assert_eq!(as_who(url, Some(anna)).await, (200, "anna".into()), "{url}");
    }
    // In the same instances, and without the one before.
    assert_eq!(as_who("http://who.internal/whoami", None).await, (200, "nobody".into()));
    let (status, text) = as_who("http://strict.internal/whoami", None).await;
    assert_eq!((status, text.contains("caller-missing")), (401, true), "{text}");
    // Through another plugin, which asks for no callers itself and passes on nothing by itself.
    let far = "http://middle.internal/ http://who.internal/whoami";
    assert_eq!(as_who(far, Some(anna)).await, (200, "anna".into()));
    assert_eq!(as_who(far, None).await, (200, "nobody".into()));
    // What a plugin writes is not believed.
    for name in ["x-guesthouse-subject", "x-forwarded-user", "remote-user"] {
        let url = format!("http://who.internal/header?{name}");
        assert_eq!(through(&house, &url, &[(name, "root")]).await, (200, String::new()), "{name}");
    }
    let fields = [("authorization", "Bearer good anna")];
    let forwarded = through(&house, "http://who.internal/header?authorization", &fields).await;
    assert_eq!(forwarded, (200, "Bearer good anna".into()), "a field is data");
}

#[tokio::test]
async fn many_callers_in_one_instance_of_wasi_http_0_3_call_for_themselves() {
    let lines = "routes = [\"/ask\"]\nauth = \"optional\"\ncalls = [\"who\"]\n\
                 instances = { reuse = 1000, concurrent = 32 }";
    let house =
        House::start(&with_callers("", &[("three", "caller3", lines), ("who", "caller", "")]));
    let client = reqwest::Client::new();
    let requests = (0..40).map(|number| {
        let request = client.get(format!("{}/ask", house.url));
        let (request, who) = if number % 4 == 0 {
            (request, "nobody".to_owned())
        } else {
            let who = format!("caller-{number}");
            (request.bearer_auth(format!("good {who}")), who)
        };
        async move { assert_eq!(request.send().await.unwrap().text().await.unwrap(), who) }
    });
    futures::future::join_all(requests).await;
    let made = house.api("/v1/plugins/three")["version"]["instances_made"].as_u64().unwrap();
    assert!(made < 40, "each had an instance of its own: {made}");
}

#[tokio::test]
async fn a_call_ends_with_the_version_that_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("marked.wasm");
    put(&component, &build("first"));
    let text = config("calls = [\"marked\"]", &[]) + &plugin("marked", &component, "");
    put(&folder.path().join("guesthouse.toml"), text.as_bytes());
    let house = House::start_again(folder, &[], &[]);
    let answer = reqwest::Client::new()
        .get(&house.url)
        .header("x-url", "http://marked.internal/stream/60/20")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-version"], full("first"));
    let mut body = answer.bytes_stream();
    // It has begun, and streams: the rest is not made yet.
    let mut text = body.next().await.unwrap().unwrap().to_vec();
    put(&component, &build("second"));
    house.deploy();
    let now = reqwest::Client::new().get(&house.url).header("x-url", "http://marked.internal/");
    assert_eq!(now.send().await.unwrap().headers()["x-version"], full("second"));
    while let Some(piece) = body.next().await {
        text.extend(piece.unwrap());
    }
    assert_eq!(String::from_utf8(text).unwrap(), format!("{}\n", full("first")).repeat(60));
    house.wait_until_drained();
}

#[tokio::test]
async fn bodies_stream_through_both_plugins_and_stay_out_of_their_memory() {
    let small = "limits = { memory = \"8MiB\", body = \"64MiB\", outbound_request = \"64MiB\" }";
    let house =
        House::start(&config(&format!("calls = [\"up\"]\n{small}"), &[("up", "marker", small)]));
    let answer = reqwest::Client::new()
        .post(&house.url)
        .header("x-url", "http://up.internal/upload")
        .body(vec![7; 40 << 20])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains(&(40 << 20).to_string()));
}

#[tokio::test]
async fn a_room_may_call_too() {
    let rooms = "rooms = { routes = [\"/room/{room}\"] }";
    let granted = format!("{rooms}\ncalls = [\"who\"]");
    for (lines, expected) in [(granted.as_str(), "200 nobody"), (rooms, "HttpRequestDenied")] {
        let house = House::start(&config("", &[("probe", "room", lines), ("who", "caller", "")]));
        let mut socket = WebSocket::open(&house, "/room/a").await;
        let said = socket.ask("fetch http://who.internal/whoami").await;
        assert!(said.contains(expected), "{said}");
        socket.close().await;
    }
}
