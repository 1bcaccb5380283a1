//! The live plugin: one program, edited through every door by clients that know nothing of each other.

use guesthouse_tests::House;
use guesthouse_tests::clients::{node_command, python_command, text_of};
use guesthouse_tests::deploy::put;
use guesthouse_tests::live::{component, config, house_with_auth};
use guesthouse_tests::websocket::WebSocket;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

fn house() -> House {
    guesthouse_tests::live::house("")
}

/// A client of plain requests.
struct Rest<'a> {
    house: &'a House,
    client: Client,
    token: Option<String>,
}

impl<'a> Rest<'a> {
    fn of(house: &'a House) -> Self {
        Self { house, client: Client::builder().no_proxy().build().unwrap(), token: None }
    }

    fn as_(house: &'a House, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::of(house) }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Response {
        let mut request = self.client.request(method, format!("{}{path}", self.house.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    async fn text(&self, path: &str) -> String {
        let response = self.send(Method::GET, path, None).await;
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    async fn put_code(&self, room: &str, code: &str, run: bool) -> reqwest::Response {
        let body = json!({ "code": code, "run": run });
        self.send(Method::PUT, &format!("/api-v1/{room}/code"), Some(body)).await
    }
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_room_that_nobody_has_changed_is_the_template_and_is_not_kept() {
    let house = house();
    let rest = Rest::of(&house);
    let session = rest.json("/live/new/session.json").await;
    assert!(session["code"].as_str().unwrap().contains("Write your code here!"));
    assert_eq!((&session["exists"], &session["codeSpace"]), (&json!(false), &json!("new")));
    // Its page runs all the same.
    assert!(rest.text("/live/new/index.js").await.contains("Write your code here!"));
    assert!(rest.text("/live/new/embed").await.contains("/live/new/index.js"));
    let rooms = house.api("/v1/rooms");
    let kept = rooms["rooms"].as_array().unwrap().iter().find(|room| room["name"] == "new");
    assert!(kept.is_none_or(|room| room["bytes"] == 0), "{rooms}");
    for name in ["-a", "a%20b", ".x", &"x".repeat(65)] {
        let response = rest.send(Method::GET, &format!("/live/{name}/code"), None).await;
        assert_eq!(response.status(), 400, "{name}");
    }
    assert_eq!(rest.send(Method::GET, "/live/new/env", None).await.status(), 404);
    assert_eq!(rest.send(Method::POST, "/live/new/code", None).await.status(), 405);
}

#[tokio::test]
async fn code_is_served_as_it_was_put_and_as_javascript() {
    let house = house();
    let rest = Rest::of(&house);
    let code = "export const n: number = 41 + 1;\n";
    let put: Value = rest.put_code("a", code, true).await.json().await.unwrap();
    assert_eq!((&put["success"], &put["updated"]), (&json!(true), &json!(["code", "transpiled"])));
    let response = rest.send(Method::GET, "/live/a/code", None).await;
    assert_eq!(header(&response, "content-type"), "application/javascript; charset=UTF-8");
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    assert_eq!(header(&response, "cross-origin-embedder-policy"), "require-corp");
    assert_eq!(header(&response, "cache-control"), "no-cache");
    assert_eq!(header(&response, "content_hash").len(), 8);
    assert_eq!(response.text().await.unwrap(), code);
    for path in ["index.js", "index.mjs", "js"] {
        let script = rest.text(&format!("/live/a/{path}")).await;
        assert!(script.contains("export const n = 41 + 1"), "{script}");
    }
    let session = rest.json("/live/a/session.json").await;
    assert_eq!((&session["hash"], &session["exists"]), (&put["hash"], &json!(true)));
    assert_eq!(rest.json("/api-v1/a/session").await["session"]["code"], code);
    assert_eq!(rest.json("/live/a/room").await, json!({ "codeSpace": "a" }));
    // What is kept is kept.
    let house = house.crash_and_restart();
    let rest = Rest::of(&house);
    assert_eq!(rest.json("/api-v1/a/code").await["hash"], put["hash"]);
}

#[tokio::test]
async fn while_code_is_wrong_the_last_that_was_right_is_served_and_the_error_is_told() {
    let house = house();
    let rest = Rest::of(&house);
    let mut socket = WebSocket::open(&house, "/live/a/websocket").await;
    assert_eq!(rest.put_code("a", "export const right = 1;\n", true).await.status(), 200);
    let refused = rest.put_code("a", "export const = 2;\n", true).await;
    assert_eq!(refused.status(), 400);
    let refused: Value = refused.json().await.unwrap();
    assert!(
        refused["error"].as_str().unwrap().starts_with("Transpilation failed: 1:14"),
        "{refused}"
    );
    let response = rest.send(Method::GET, "/live/a/index.js", None).await;
    assert!(header(&response, "warning").contains("errors"));
    assert!(response.text().await.unwrap().contains("right = 1"));
    assert!(rest.text("/live/a/embed").await.contains("id=\"errors\""));
    assert_eq!(rest.json("/live/a/errors").await["errors"][0]["line"], 1);
    let told = async |socket: &mut WebSocket, wanted: bool| loop {
        let message: Value = serde_json::from_str(&socket.text().await).unwrap();
        if message["type"] == "errors" && message["errors"].as_array().unwrap().is_empty() == wanted
        {
            break;
        }
    };
    told(&mut socket, false).await;
    // And as soon as it is right again, without anyone asking.
    assert_eq!(rest.put_code("a", "export const right = 3;\n", false).await.status(), 200);
    told(&mut socket, true).await;
    assert!(rest.text("/live/a/index.js").await.contains("right = 3"));
    assert!(!rest.text("/live/a/embed").await.contains("id=\"errors\""));
}

#[tokio::test]
async fn what_users_wrote_runs_in_a_box() {
    let house = house();
    let rest = Rest::of(&house);
    rest.put_code("a", "document.title = 'x';\n", true).await;
    for path in ["/live/a/embed", "/live/a/iframe", "/live/a/", "/live/a/htm"] {
        let response = rest.send(Method::GET, path, None).await;
        let policy = header(&response, "content-security-policy").to_owned();
        assert!(
            policy.starts_with("sandbox ") && !policy.contains("allow-same-origin"),
            "{path}: {policy}"
        );
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    }
    let url = format!("{}/live/a/public/evil.html", house.url);
    let put = rest.client.put(&url).body("<script>1</script>").send().await.unwrap();
    assert_eq!(put.status(), 201);
    let response = rest.send(Method::GET, "/live/a/public/evil.html", None).await;
    assert!(header(&response, "content-security-policy").starts_with("sandbox "));
}

#[tokio::test]
async fn public_files_are_kept_revalidated_and_deleted() {
    let house = house();
    let rest = Rest::of(&house);
    let url = format!("{}/live/a/public/img/dot.png", house.url);
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|n| (n % 251) as u8).collect();
    let put = rest.client.put(&url).body(bytes.clone()).send().await.unwrap();
    assert_eq!(put.status(), 201);
    let got = rest.client.get(&url).send().await.unwrap();
    assert_eq!(header(&got, "content-type"), "image/png");
    let tag = header(&got, "etag").to_owned();
    assert_eq!(got.bytes().await.unwrap(), bytes);
    let again = rest.client.get(&url).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let shorter = rest.client.put(&url).body("short").send().await.unwrap();
    assert_eq!(shorter.status(), 200);
    assert_eq!(rest.text("/live/a/public/img/dot.png").await, "short");
    assert_eq!(rest.json("/live/a/public").await["files"][0]["path"], "img/dot.png");
    let large = rest.client.put(&url).body(vec![0; (4 << 20) + 1]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert_eq!(rest.client.delete(&url).send().await.unwrap().status(), 200);
    assert_eq!(rest.client.delete(&url).send().await.unwrap().status(), 404);
    assert_eq!(rest.client.get(&url).send().await.unwrap().status(), 404);
    let up = format!("{}/live/a/public/a%2F..%2Fb", house.url);
    assert_eq!(rest.client.put(&up).body("x").send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn versions_never_change_and_can_be_gone_back_to() {
    let house = house();
    let rest = Rest::of(&house);
    rest.put_code("a", "export const n = 1;\n", true).await;
    let made =
        rest.send(Method::POST, "/live/a/versions", Some(json!({ "message": "first" }))).await;
    assert_eq!(made.status(), 201);
    rest.put_code("a", "export const n = 2;\n", true).await;
    rest.send(Method::POST, "/live/a/versions", Some(json!({}))).await;
    let list = rest.json("/live/a/versions").await;
    assert_eq!(
        (&list["versionCount"], &list["versions"][0]["message"]),
        (&json!(2), &json!("first"))
    );
    let response = rest.send(Method::GET, "/live/a/version/1/index.js", None).await;
    assert_eq!(header(&response, "cache-control"), "public, max-age=31536000, immutable");
    assert!(response.text().await.unwrap().contains("n = 1"));
    assert_eq!(rest.text("/live/a/version/2/code").await, "export const n = 2;\n");
    assert!(rest.text("/live/a/version/1/embed").await.contains("/live/a/version/1/index.js"));
    for (path, status, error) in [
        ("/live/a/version/x", 400, "Invalid version number"),
        ("/live/a/version/9", 404, "Version not found"),
        ("/live/a/version/1/x", 404, "Invalid version route"),
    ] {
        let response = rest.send(Method::GET, path, None).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.json::<Value>().await.unwrap()["error"], error);
    }
    let back = rest.send(Method::POST, "/live/a/version/1/restore", Some(json!({}))).await;
    assert_eq!(back.status(), 200);
    assert_eq!(rest.text("/live/a/code").await, "export const n = 1;\n");
    assert!(rest.text("/live/a/index.js").await.contains("n = 1"));
    // What was there before going back is in the history.
    let history = rest.json("/live/a/history").await;
    let last = history["history"].as_array().unwrap().last().unwrap()["number"].as_u64().unwrap();
    assert_eq!(
        rest.json(&format!("/live/a/history/{last}")).await["code"],
        "export const n = 2;\n"
    );
    let back =
        rest.send(Method::POST, &format!("/live/a/history/{last}/restore"), Some(json!({}))).await;
    assert_eq!(back.status(), 200);
    assert_eq!(rest.text("/live/a/code").await, "export const n = 2;\n");
    assert_eq!(rest.json("/live/a/hashCode/99").await, json!({}));
    // A page of another origin can't have its visitor's browser do that: it would have to ask first.
    let url = format!("{}/live/a/version/1/restore", house.url);
    let plain = rest.client.post(url).header("content-type", "text/plain").body("{}").send().await;
    assert_eq!(plain.unwrap().status(), 415);
}

#[tokio::test]
async fn a_fork_begins_as_its_base_was_and_goes_its_own_way() {
    let house = house();
    let rest = Rest::of(&house);
    rest.put_code("clock", "export const clock = 1;\n", true).await;
    assert_eq!(rest.text("/live/clock-mine/code").await, "export const clock = 1;\n");
    rest.put_code("clock-mine", "export const mine = 1;\n", true).await;
    rest.put_code("clock", "export const clock = 2;\n", true).await;
    assert_eq!(rest.text("/live/clock-mine/code").await, "export const mine = 1;\n");
    assert_eq!(rest.text("/live/clock/code").await, "export const clock = 2;\n");
    for name in ["x-clock", "code-clock", "nobody-mine"] {
        assert!(rest.text(&format!("/live/{name}/code")).await.contains("Write your code here!"));
    }
    let name = rest.send(Method::POST, "/api/room", None).await.text().await.unwrap();
    assert!(rest.text(&format!("/live/{name}/code")).await.contains("Write your code here!"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_original_protocol_edit_together_and_lose_nothing() {
    let house = house();
    let Some(mut command) = node_command("live-json.mjs") else { return };
    let output = guesthouse_tests::clients::finish(command.env("HOUSE", &house.url));
    println!("{}", text_of(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_yjs_edit_together_and_see_each_other() {
    let house = house();
    let Some(mut command) = node_command("live-yjs.mjs") else { return };
    let output = guesthouse_tests::clients::finish(command.env("HOUSE", &house.url));
    println!("{}", text_of(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_edit_by_mcp_with_the_official_clients() {
    let house = house();
    if let Some(mut command) = node_command("live-mcp.mjs") {
        let output = guesthouse_tests::clients::finish(command.env("HOUSE", &house.url));
        println!("{}", text_of(&output));
    }
    if let Some(mut command) = python_command("live_mcp.py") {
        let output = guesthouse_tests::clients::finish(command.env("HOUSE", &house.url));
        println!("{}", text_of(&output));
    }
    let rest = Rest::of(&house);
    let nobody = rest.send(Method::POST, "/mcp", Some(json!({ "jsonrpc": "2.0" }))).await;
    assert_eq!(nobody.status(), 400);
}

/// A script that does what it is told.
struct Script {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Script {
    fn start(name: &str, variables: &[(&str, &str)]) -> Option<Self> {
        let mut command = node_command(name)?;
        command.envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, to, from: BufReader::new(from) })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the script failed: what it said is above");
        line.trim().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.to, "{command}").unwrap();
        self.line()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The same component with another digest: behind it stands a section that nobody reads.
fn another(wasm: &[u8]) -> Vec<u8> {
    [wasm, &[0, 5, 4][..], b"more"].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_equal_after_swaps_cuts_and_crashes_and_no_swap_closes_a_socket() {
    let swaps: u64 = std::env::var("GUESTHOUSE_SWAPS").map_or(20, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let wasm = std::fs::read(component("live")).unwrap();
    let builds = [folder.path().join("a.wasm"), folder.path().join("b.wasm")];
    put(&builds[0], &wasm);
    put(&builds[1], &another(&wasm));
    let mut house = House::start(&config(&builds[0], ""));
    let Some(mut script) = Script::start("live-chaos.mjs", &[("HOUSE", &house.url)]) else {
        return;
    };
    assert_eq!(script.line(), "ready");
    script.ask("swaps");
    for swap in 1..=swaps {
        house.configure(&config(&builds[usize::try_from(swap % 2).unwrap()], ""));
        let (code, text) = house.run(&["deploy", "--yes", "--allow-new-grants"]);
        assert_eq!(code, 0, "{text}");
        // The new code has run before the next swap.
        Rest::of(&house).text("/live/chaos/code").await;
    }
    assert_eq!(script.ask("closed"), "closed 0", "swaps close no socket");
    script.ask("cuts");
    tokio::time::sleep(Duration::from_secs(3)).await;
    for _ in 0..2 {
        house = house.crash_and_restart();
        script.ask(&format!("url {}", house.url));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    println!("{swaps} swaps, 2 crashes: {}", script.ask("calm"));
    // What one client has been told by the house, the house has kept: all clients leave, and it dies once more.
    script.ask("leave");
    let house = house.crash_and_restart();
    script.ask(&format!("url {}", house.url));
    println!("{}", script.ask("fresh"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_client_stays_connected_and_its_room_sleeps() {
    let house = House::start(
        &config(&component("live"), "").replace("rooms = {", "rooms = { idle = \"2s\","),
    );
    // Beyond the 30 seconds after which a client that hears nothing gives up.
    let seconds = std::env::var("GUESTHOUSE_IDLE").unwrap_or_else(|_| "40".to_owned());
    let url = house.url.clone();
    let idle = std::thread::spawn(move || {
        let mut command = node_command("live-idle.mjs")?;
        command.env("HOUSE", url).env("SECONDS", seconds);
        Some(text_of(&guesthouse_tests::clients::finish(&mut command)))
    });
    let room = |house: &House| {
        let rooms = house.api("/v1/rooms");
        rooms["rooms"].as_array().into_iter().flatten().find(|room| room["name"] == "lone").cloned()
    };
    // It connects, says who it is, and from then on its room has nothing to do: the presence that it renews every
    // 15 seconds wakes nobody. What wakes it once more is the history, 30 seconds after it was made.
    let (mut events, mut slept) = (0, false);
    while !idle.is_finished() {
        let seen = tokio::task::block_in_place(|| room(&house));
        if let Some(room) = seen.filter(|room| room["sockets"] == 1) {
            slept |= room["awake"] == false;
            events = room["events"].as_u64().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let text = tokio::task::block_in_place(|| idle.join().unwrap());
    let Some(text) = text else { return };
    assert_eq!(text.trim(), "connected 1");
    assert!(slept, "the room never slept");
    // The connection, its first two messages, its first presence, JavaScript, history.
    assert!(events <= 8, "{events} events");
    println!("{events} events");
}

#[tokio::test]
async fn who_creates_a_room_owns_it_and_says_who_may_write() {
    let house = house_with_auth("");
    let (ann, bob, nobody) =
        (Rest::as_(&house, "good ann"), Rest::as_(&house, "good bob"), Rest::of(&house));
    assert_eq!(ann.put_code("hers", "let a = 1;\n", false).await.status(), 200);
    for other in [&bob, &nobody] {
        let refused = other.put_code("hers", "let b = 2;\n", false).await;
        assert_eq!(refused.status(), 403);
        let file = other.client.put(format!("{}/live/hers/public/x", house.url)).body("x");
        assert_eq!(file.send().await.unwrap().status(), 403);
        let version = other.send(Method::POST, "/live/hers/versions", Some(json!({}))).await;
        assert_eq!(version.status(), 403);
        let access =
            other.send(Method::PUT, "/live/hers/access", Some(json!({ "access": "link" }))).await;
        assert_eq!(access.status(), 403);
        // Reading is for everyone.
        assert_eq!(other.text("/live/hers/code").await, "let a = 1;\n");
        assert_eq!(other.json("/live/hers/access").await["mayWrite"], false);
        assert_eq!(other.json("/live/hers/access").await["owner"], Value::Null);
    }
    // An agent may do what its caller may.
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "update_code", "arguments": { "code": "let c = 3;" } } });
    let by_bob: Value = bob
        .send(Method::POST, "/mcp?codeSpace=hers", Some(call.clone()))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(by_bob["result"]["isError"], true, "{by_bob}");
    // Each change is looked at, also on a connection that was open before.
    let mut socket = WebSocket::open(&house, "/live/hers/websocket?token=good%20bob").await;
    let handshake: Value = serde_json::from_str(&socket.text().await).unwrap();
    assert_eq!(handshake["mayWrite"], false);
    let hash = handshake["hash"].as_str().unwrap().to_owned();
    let patch = json!({ "oldHash": hash, "hashCode": "x", "delta": {} }).to_string();
    assert!(socket.ask(&patch).await.contains("not change it"));
    let listed =
        ann.send(Method::PUT, "/live/hers/access", Some(json!({ "writers": ["bob"] }))).await;
    assert_eq!(listed.status(), 200);
    assert!(socket.text().await.contains("\"mayWrite\":true"));
    assert!(socket.ask(&patch).await.contains("something else than"));
    let by_bob: Value =
        bob.send(Method::POST, "/mcp?codeSpace=hers", Some(call)).await.json().await.unwrap();
    assert_eq!(by_bob["result"]["isError"], false, "{by_bob}");
    assert_eq!(bob.put_code("hers", "let b = 2;\n", false).await.status(), 200);
    assert_eq!(nobody.put_code("hers", "let n = 0;\n", false).await.status(), 403);
    ann.send(Method::PUT, "/live/hers/access", Some(json!({ "access": "link" }))).await;
    assert_eq!(nobody.put_code("hers", "let n = 0;\n", false).await.status(), 200);
    // A room that nobody known has made is everyone's.
    assert_eq!(nobody.put_code("free", "let n = 0;\n", false).await.status(), 200);
    assert_eq!(bob.put_code("free", "let b = 0;\n", false).await.status(), 200);
}

#[tokio::test]
async fn an_operator_may_keep_the_unknown_from_writing() {
    let house = house_with_auth("config = { anonymous = \"read\" }");
    let (ann, nobody) = (Rest::as_(&house, "good ann"), Rest::of(&house));
    assert_eq!(nobody.put_code("a", "let n = 0;\n", false).await.status(), 403);
    assert_eq!(ann.put_code("a", "let n = 0;\n", false).await.status(), 200);
    assert_eq!(nobody.text("/live/a/code").await, "let n = 0;\n");
}
