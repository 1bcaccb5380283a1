//! The door for clients, spoken to as odd clients do.

use guesthouse_tests::{House, guest, plugin};
use std::io::{Read, Write};
use std::net::TcpStream;

fn house() -> House {
    house_with("")
}

fn house_with(server: &str) -> House {
    let config = format!("[server]\n{server}\n")
        + &plugin("guest", &guest("wit_bindgen"), "routes = [\"/*\"]");
    House::start(&config)
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let answer = house().raw(
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /nope HTTP/1.1\r\nhost: a\r\n\r\n\
          GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    let statuses: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/")).collect();
    assert_eq!(statuses, ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", "HTTP/1.1 200 OK"]);
}

#[tokio::test]
async fn http_2_is_spoken_by_prior_knowledge() {
    let house = house();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(&house.url).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello from wit-bindgen");
}

#[test]
fn a_request_without_a_host_or_with_two_is_400() {
    let house = house();
    for head in ["", "host: a\r\nhost: b\r\n", "host: a b\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{head}connection: close\r\n\r\n");
        let answer = house.raw(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
    }
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let long = "x".repeat(100 << 10);
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let house = house();
    for head in [format!("x: {long}\r\n"), many] {
        let answer = house.raw(format!("GET / HTTP/1.1\r\nhost: a\r\n{head}\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[test]
fn a_client_that_is_slow_with_its_head_is_cut_off() {
    let house = house_with("header_timeout = \"200ms\"");
    for start in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
        let mut stream = TcpStream::connect(house.address()).unwrap();
        stream.set_read_timeout(Some(guesthouse_tests::PATIENCE)).unwrap();
        stream.write_all(start).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn the_request_id_is_kept_or_made() {
    let house = house();
    let client = reqwest::Client::new();
    let given = client.get(&house.url).header("x-request-id", "abc-1").send().await.unwrap();
    assert_eq!(given.headers()["x-request-id"], "abc-1");
    let made = client.get(&house.url).header("x-request-id", "a b").send().await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 16);
    house.wait_for_log("\"id\":\"abc-1\"");
}

#[tokio::test]
async fn a_running_answer_finishes_while_the_house_closes() {
    let mut house = house();
    let answer = reqwest::get(format!("{}/stream", house.url)).await.unwrap();
    house.terminate();
    house.wait_for_log("closing");
    let refused = reqwest::get(&house.url).await;
    assert!(refused.is_err(), "a new connection was accepted");
    assert!(answer.text().await.unwrap().ends_with("tick 4\n"));
    assert_eq!(house.wait(), 0);
}

#[test]
fn a_second_house_on_the_same_address_is_refused_with_advice() {
    let house = house();
    let config = format!("[server]\nlisten = \"{}\"\n", house.address());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("g.toml"), config).unwrap();
    let output = std::process::Command::new(guesthouse_tests::house_folder().join("guesthouse"))
        .args(["serve", "--admin", "127.0.0.1:0", "--config"])
        .arg(folder.path().join("g.toml"))
        .arg("--data")
        .arg(folder.path().join("data"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("another program is there"), "{text}");
}

#[test]
fn what_can_t_be_loaded_is_refused_before_the_door_opens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.wasm");
    for (bytes, why) in [
        (&b"hello"[..], "not a WebAssembly file"),
        (b"\0asm\x01\0\0\0", "core module"),
        (b"(component)", "text format"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let text = House::refuses(&plugin("x", &file, "routes = [\"/*\"]"));
        assert!(text.contains(why) && text.contains("x.wasm"), "{text}");
    }
}

#[test]
fn an_import_that_was_not_granted_is_named_with_the_line_that_grants_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = plugin("probe", &guest("probe"), "routes = [\"/*\"]");
    std::fs::write(folder.path().join("guesthouse.toml"), config).unwrap();
    // It is compiled in the background, so the house opens and the plugin's state has the reason.
    let text = House::refuses(&plugin("probe", &guest("probe"), "routes = [\"/*\"]"));
    assert!(
        text.contains("guesthouse:kv/store@0.1.0") && text.contains("kv = [\"default\"]"),
        "{text}"
    );
}
