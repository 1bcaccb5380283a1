//! Plain requests to rooms: each route in its intended form.

use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, live, plugin};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn send(house: &House, method: Method, path: &str, body: Option<Value>) -> Response {
    let mut request = client().request(method, format!("{}{path}", house.url));
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await.unwrap()
}

async fn get(house: &House, path: &str) -> Response {
    send(house, Method::GET, path, None).await
}

async fn json_of(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn put(house: &House, room: &str, code: &str) {
    let body = json!({ "code": code, "run": true });
    let path = format!("/api-v1/{room}/code");
    assert_eq!(send(house, Method::PUT, &path, Some(body)).await.status(), 200);
}

#[tokio::test]
async fn every_text_has_its_type_its_hash_and_may_be_read_from_any_page() {
    let house = live::house("");
    put(&house, "a", "export const n: number = 1;\n").await;
    let script = "application/javascript; charset=UTF-8";
    let page = "text/html; charset=UTF-8";
    for (path, kind) in [
        ("code", script),
        ("index.tsx", "text/tsx; charset=UTF-8"),
        ("index.js", script),
        ("index.mjs", script),
        ("js", script),
        ("session.json", "application/json; charset=UTF-8"),
        ("index.css", "text/css; charset=UTF-8"),
        ("htm", page),
        ("embed", page),
        ("iframe", page),
        ("", page),
    ] {
        let response = get(&house, &format!("/live/a/{path}")).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "content-type"), kind, "{path}");
        assert_eq!(header(&response, "access-control-allow-origin"), "*", "{path}");
        assert_eq!(header(&response, "access-control-expose-headers"), "content_hash, etag");
        assert_eq!(header(&response, "cross-origin-embedder-policy"), "require-corp", "{path}");
        assert_eq!(header(&response, "cross-origin-resource-policy"), "cross-origin", "{path}");
        assert_eq!(header(&response, "cache-control"), "no-cache", "{path}");
        let hash = header(&response, "content_hash").to_owned();
        let body = response.text().await.unwrap();
        assert_eq!(hash, short_hash::short_hash(&body), "{path}");
    }
    // HEAD is GET without its body, and a browser that asks first is told what it may send.
    let head = send(&house, Method::HEAD, "/live/a/code", None).await;
    assert_eq!((head.status().as_u16(), header(&head, "content-type")), (200, script));
    for path in ["/live/a/code", "/live/a/public/x", "/api-v1/a/code", "/mcp", "/api/room"] {
        let options = send(&house, Method::OPTIONS, path, None).await;
        assert_eq!(options.status(), 204, "{path}");
        assert_eq!(header(&options, "access-control-allow-origin"), "*");
        assert!(header(&options, "access-control-allow-methods").contains("POST"), "{path}");
        assert!(options.headers().get("access-control-allow-credentials").is_none(), "{path}");
    }
    // The same by the other name of a room, where a script gets a script.
    assert_eq!(
        get(&house, "/api/room/a/code").await.text().await.unwrap(),
        "export const n: number = 1;\n"
    );
    let room = format!("{}/api/room/a", house.url);
    assert_eq!(header(&client().get(&room).send().await.unwrap(), "content-type"), page);
    let imported = client().get(&room).header("sec-fetch-dest", "script").send().await.unwrap();
    assert_eq!(header(&imported, "content-type"), script);
    assert!(imported.text().await.unwrap().contains("export const n = 1"));
    let script = get(&house, "/live/a/index.js").await;
    assert!(header(&script, "x-typescript-types").ends_with("/live/a/index.tsx"));
}

#[tokio::test]
async fn calls_of_the_original_answer_in_their_form() {
    let house = live::house("");
    for (body, error) in [
        (json!({}), "Missing or invalid 'code' field"),
        (json!({ "code": 7 }), "Missing or invalid 'code' field"),
        (json!([]), "Invalid JSON body"),
    ] {
        let answer = send(&house, Method::PUT, "/api-v1/a/code", Some(body)).await;
        assert_eq!(json_of(answer).await, (400, json!({ "error": error })));
    }
    let set =
        send(&house, Method::PUT, "/api-v1/a/code", Some(json!({ "code": "let a = 1;\n" }))).await;
    let (status, set) = json_of(set).await;
    assert_eq!(status, 200);
    assert_eq!(
        set,
        json!({ "success": true, "codeSpace": "a", "hash": set["hash"], "updated": ["code"],
            "message": "Code updated successfully" })
    );
    let (_, code) = json_of(get(&house, "/api-v1/a/code").await).await;
    assert_eq!(
        code,
        json!({ "success": true, "codeSpace": "a", "code": "let a = 1;\n", "hash": code["hash"] })
    );
    let (status, run) = json_of(send(&house, Method::POST, "/api-v1/a/run", None).await).await;
    assert_eq!((status, &run["updated"]), (200, &json!(["transpiled"])));
    let (_, session) = json_of(get(&house, "/api-v1/a/session").await).await;
    assert_eq!(session["hash"], run["hash"]);
    let fields: Vec<&String> = session["session"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["code", "transpiled", "html", "css", "codeSpace"]);
    assert_eq!(session["session"]["transpiled"], "let a = 1;\n");
    let empty = send(&house, Method::PUT, "/api-v1/b/code", Some(json!({ "code": "" }))).await;
    assert_eq!(empty.status(), 200);
    let none = send(&house, Method::POST, "/api-v1/b/run", None).await;
    assert_eq!(json_of(none).await, (400, json!({ "error": "No code to transpile" })));
    for (method, path, status) in [
        (Method::DELETE, "/api-v1/a/code", 405),
        (Method::GET, "/api-v1/a/run", 405),
        (Method::PUT, "/api-v1/a/session", 405),
        (Method::GET, "/api-v1/a/screenshot", 404),
        (Method::GET, "/api-v1/a/env", 404),
        (Method::GET, "/live/a/env", 404),
        (Method::POST, "/live/a/session", 405),
        (Method::GET, "/api/room", 405),
    ] {
        assert_eq!(send(&house, method, path, None).await.status(), status, "{path}");
    }
    // No query makes one room another.
    put(&house, "other", "export const other = 1;\n").await;
    let session = json_of(get(&house, "/live/a/session.json?room=other").await).await.1;
    assert_eq!((&session["codeSpace"], &session["code"]), (&json!("a"), &json!("let a = 1;\n")));
    assert_eq!(get(&house, "/live/a/code").await.text().await.unwrap(), "let a = 1;\n");
}

#[tokio::test]
async fn what_led_from_one_state_of_the_history_to_the_next_is_a_patch() {
    let house = live::house("");
    put(&house, "a", "export const n = 1;\n").await;
    // Going back keeps what was there.
    for number in [1, 2] {
        let made = send(&house, Method::POST, "/live/a/versions", Some(json!({}))).await;
        assert_eq!(made.status(), 201);
        put(&house, "a", &format!("export const n = {};\n", number + 1)).await;
        let path = format!("/live/a/version/{number}/restore");
        assert_eq!(send(&house, Method::POST, &path, Some(json!({}))).await.status(), 200);
    }
    let (_, list) = json_of(get(&house, "/live/a/history").await).await;
    let entries = list["history"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{list}");
    assert_eq!(
        json_of(get(&house, "/live/a/hashCode/1").await).await.1,
        json!({}),
        "the first has no other before it"
    );
    let (_, patch) = json_of(get(&house, "/live/a/hashCode/2").await).await;
    assert_eq!((&patch["oldHash"], &patch["hashCode"]), (&entries[0]["hash"], &entries[1]["hash"]));
    assert_eq!(patch["delta"]["code"], json!(["export const n = 2;\n", "export const n = 3;\n"]));
    for path in ["hashCode/9", "hashCode/x"] {
        assert_eq!(json_of(get(&house, &format!("/live/a/{path}")).await).await, (200, json!({})));
    }
    let (_, state) = json_of(get(&house, "/live/a/history/2").await).await;
    assert_eq!(state["code"], "export const n = 3;\n");
    assert_eq!(get(&house, "/live/a/history/9").await.status(), 404);
    // A version in all its forms.
    for (path, kind, wanted) in [
        ("", "application/json", "\"number\":1"),
        ("/code", "application/javascript", "export const n = 1;"),
        ("/index.tsx", "application/javascript", "export const n = 1;"),
        ("/index.js", "application/javascript", "export const n = 1;"),
        ("/index.mjs", "application/javascript", "export const n = 1;"),
        ("/js", "application/javascript", "export const n = 1;"),
        ("/index.css", "text/css", ""),
        ("/embed", "text/html", "/live/a/version/1/index.js"),
        ("/iframe", "text/html", "/live/a/version/1/index.js"),
        ("/html", "text/html", "/live/a/version/1/index.js"),
    ] {
        let response = get(&house, &format!("/live/a/version/1{path}")).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(header(&response, "content-type").starts_with(kind), "{path}");
        assert_eq!(header(&response, "cache-control"), "public, max-age=31536000, immutable");
        assert!(response.text().await.unwrap().contains(wanted), "{path}");
    }
}

#[tokio::test]
async fn imports_are_rewritten_where_the_operator_wants_them_as_the_original_had_them() {
    let code = "import { useState } from \"react\";\nimport { chunk } from \"lodash\";\nconsole.log(chunk, useState);\n";
    let house = live::house("");
    put(&house, "a", code).await;
    let plain = get(&house, "/live/a/index.js").await.text().await.unwrap();
    assert!(plain.contains("from \"lodash\""), "{plain}");
    drop(house);
    let config = live::config(&live::component("live"), "config = { rewrite_imports = \"on\" }")
        + "config = { import_map = '{\"imports\": {\"react\": \"/reactMod.mjs\"}}' }\n";
    let house = House::start(&config);
    put(&house, "a", code).await;
    let script = get(&house, "/live/a/index.js").await.text().await.unwrap();
    assert!(script.starts_with("/** importMapReplace */"), "{script}");
    assert!(script.contains("from \"/lodash?bundle=true&external="), "{script}");
    assert!(
        script.contains("from \"react\""),
        "what the import map of the page names stays: {script}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_can_make_javascript_only_later_is_asked_again_soon() {
    let of = |component: &str| {
        let later = plugin("later", &live::component(component), "kv = [\"default\", \"assets\"]");
        let settings = "config = { transpile = \"later\" }";
        live::config(&live::component("live"), settings)
            .replace("calls = [\"transpile\"]", "calls = [\"later\"]")
            + &later
    };
    // A site answers no such question.
    let house = House::start(&of("assets"));
    let mut socket = WebSocket::open(&house, "/live/a/websocket").await;
    let body = json!({ "code": "export const n: number = 1;\n" });
    assert_eq!(send(&house, Method::PUT, "/api-v1/a/code", Some(body)).await.status(), 200);
    assert_eq!(get(&house, "/live/a/index.js").await.status(), 503);
    house.configure(&of("transpile"));
    let (code, text) = house.run(&["deploy", "--yes", "--allow-new-grants"]);
    assert_eq!(code, 0, "{text}");
    // Nobody asks for it, and nobody edits.
    loop {
        let heard: Value = serde_json::from_str(&socket.text().await).unwrap();
        if heard["delta"]["transpiled"].is_array() {
            break;
        }
    }
}
