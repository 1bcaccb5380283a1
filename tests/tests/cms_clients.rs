//! The CMS plugin with the clients that people have: curl, a browser, a WebDAV test suite.

use guesthouse_tests::clients;
use guesthouse_tests::cms::{call, house, text};
use guesthouse_tests::upstream::Upstream;
use http_body_util::BodyExt;
use reqwest::{Client, Method};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};

#[test]
fn curl_uploads_from_a_file_and_from_a_pipe() {
    let house = house("");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("big.bin");
    let bytes: Vec<u8> = (0..25 << 20).map(|n: u32| (n % 251) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    let curl = |arguments: &[&str], input: Option<&[u8]>| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-H", "Authorization: Bearer good ann", "-w", "\n%{http_code}"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if let Some(input) = input {
            stdin.write_all(input).unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let at = output.stdout.iter().rposition(|byte| *byte == b'\n').unwrap();
        let code = String::from_utf8(output.stdout[at + 1..].to_vec()).unwrap();
        (code, output.stdout[..at].to_vec())
    };
    let url = format!("{}/my-cms/", house.url);
    // A URL that ends with a slash gets the name of the file, as curl does it.
    assert_eq!(curl(&["-T", file.to_str().unwrap(), &url], None).0, "201");
    let (code, got) = curl(&[&format!("{url}big.bin")], None);
    assert_eq!(code, "200");
    assert!(got == bytes, "{} bytes", got.len());
    let piped = format!("{url}piped");
    assert_eq!(curl(&["-T", "-", &piped], Some(b"hello")).0, "201");
    assert_eq!(curl(&[&piped], None), ("200".into(), b"hello".to_vec()));
    assert_eq!(curl(&["-X", "DELETE", &piped], None).0, "204");
    assert_eq!(curl(&["-X", "DELETE", &piped], None).0, "404");
    std::fs::write(&file, vec![0; (25 << 20) + 1]).unwrap();
    assert_eq!(curl(&["-T", file.to_str().unwrap(), &url], None).0, "413");
    assert!(curl(&[&format!("{url}big.bin")], None).1 == bytes, "the old one is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_keeps_documents_in_a_browser_and_another_s_page_is_nobody() {
    if clients::chromium().is_none() {
        return;
    }
    let house = house("live_writers = \"eve\"");
    // What a page tries that wants to act as its visitor.
    let evil = "<!DOCTYPE html><script>(async () => {\
        const tried = {};\
        const attempt = async (name, act) => {\
          try { tried[name] = await act(); } catch (error) { tried[name] = error.name; }\
        };\
        await attempt('cookie', () => document.cookie);\
        await attempt('storage', () => sessionStorage.length);\
        await attempt('read', async () => (await fetch('/my-cms/?list=', { credentials: 'include' })).status);\
        await attempt('write', async () => (await fetch('/my-cms/x', { method: 'PUT', body: 'x', credentials: 'include' })).status);\
        await attempt('origin', () => self.origin);\
        document.title = JSON.stringify(tried);\
      })();</script>";
    let sent = call(&house, "eve", "PUT", "/live-cms/evil.html").body(evil).send().await.unwrap();
    assert_eq!(sent.status(), 201);
    let (page, evil) = (format!("{}/my-cms/", house.url), format!("{}/live-cms/evil", house.url));
    let run = move || clients::node("cms.mjs", &[&page, "good ann", &evil]);
    let Some(output) = tokio::task::spawn_blocking(run).await.unwrap() else { return };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    // The one thing that went wrong is the question who is there.
    for line in found["asked"].as_array().unwrap() {
        assert!(line.as_str().unwrap().contains("401"), "{found}");
    }
    assert_eq!(found["own"], serde_json::json!([]), "{found}");
    assert_eq!(found["names"], serde_json::json!(["notes/a <b>.txt", "notes/large.bin"]));
    assert!(found["progress"][1].as_u64() >= Some(1), "{found}");
    let said = &found["said"];
    assert_eq!(
        (&said["cookie"], &said["storage"]),
        (&"SecurityError".into(), &"SecurityError".into())
    );
    assert_eq!(said["origin"], "null", "{said}");
    for what in ["read", "write"] {
        assert_eq!(said[what], "TypeError", "{what}: {said}");
    }
    assert_eq!(text(&house, "ann", "/my-cms/x").await.0, 404);
    assert_eq!(text(&house, "", "/my-cms/~ann/notes/c").await, (200, "<h1>c</h1>".into()));
}

/// Debian's WebDAV test suite, through a server that says who calls: it can't show a token itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litmus_puts_gets_and_deletes() {
    let Some(litmus) = clients::tool("GUESTHOUSE_LITMUS") else { return };
    let house = house("");
    let url = house.url.clone();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let between = Upstream::start(move |seen, body| {
        let (client, url) = (client.clone(), format!("{url}{}", seen.target));
        async move {
            let body = body.collect().await.unwrap().to_bytes();
            let method = Method::from_bytes(seen.method.as_bytes()).unwrap();
            let mut request = client.request(method, url).bearer_auth("good ann").body(body);
            for (name, value) in &seen.headers {
                if !matches!(
                    name.as_str(),
                    "host" | "connection" | "te" | "expect" | "content-length"
                ) {
                    request = request.header(name, value);
                }
            }
            let got = request.send().await.unwrap();
            let (status, fields) = (got.status().as_u16(), got.headers().clone());
            let mut answer = guesthouse_tests::upstream::answer(
                status,
                "text/plain",
                got.bytes().await.unwrap(),
            );
            for (name, value) in &fields {
                if !matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection") {
                    answer.headers_mut().insert(name, value.clone());
                }
            }
            answer
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    for suite in ["basic", "http"] {
        let mut command = Command::new(&litmus);
        command.arg(format!("{}/my-cms/", between.url())).env("TESTS", suite);
        command.current_dir(folder.path());
        let output =
            tokio::task::spawn_blocking(move || clients::finish(&mut command)).await.unwrap();
        let said = clients::text_of(&output);
        assert!(said.contains(", 0 failed"), "{said}");
    }
}
