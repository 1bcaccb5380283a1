//! The door for clients, spoken to as odd clients do.

use guesthouse_tests::{House, guest, plugin};
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::path::Path;

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

#[test]
fn a_second_signal_ends_the_house_at_once() {
    let mut house = House::start(
        &("[server]\ndrain = \"1h\"\n".to_owned()
            + &plugin("hostile", &guest("hostile"), "routes = [\"/*\"]")),
    );
    let mut stream = TcpStream::connect(house.address()).unwrap();
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let at_work = || house.api("/v1/plugins/hostile")["version"]["running"].as_u64();
    while at_work() != Some(1) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    house.terminate();
    house.wait_for_log("closing");
    house.terminate();
    assert_eq!(house.wait(), 1, "a response was cut, and the code says so");
    house.wait_for_log("were cut");
}

#[tokio::test]
async fn running_out_of_descriptors_is_a_pause_and_not_the_end() {
    let house = house();
    let limit = |descriptors| {
        let limit = rustix::process::Rlimit { current: Some(descriptors), maximum: Some(4096) };
        rustix::process::prlimit(Some(house.pid()), rustix::process::Resource::Nofile, limit)
            .unwrap();
    };
    limit(house.descriptors() + 2);
    let crowd: Vec<_> = (0..8).map(|_| TcpStream::connect(house.address()).unwrap()).collect();
    house.wait_for_log("no connection could be accepted");
    drop(crowd);
    let answer = reqwest::get(&house.url).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello from wit-bindgen");
}

#[test]
fn the_house_folder_runs_wherever_it_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let house = folder.path().join("a house elsewhere");
    copy(&guesthouse_tests::house_folder(), &house);
    let mut child = std::process::Command::new(house.join("guesthouse"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .current_dir(&house)
        .env_clear()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut address = || {
        let line = lines.next().unwrap().unwrap();
        line.split_once("http://").unwrap().1.to_owned()
    };
    let (listen, admin) = (address(), address());
    let publish = std::process::Command::new(house.join("guesthouse"))
        .args(["assets", "publish", "config", "--admin", &format!("http://{admin}")])
        .current_dir(&house)
        .env_clear()
        .output()
        .unwrap();
    let began = std::time::Instant::now();
    let body = loop {
        let mut stream = TcpStream::connect(&listen).unwrap();
        stream
            .write_all(b"GET /guesthouse.toml HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        // Its component may still be compiling.
        if !answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        assert!(began.elapsed() < guesthouse_tests::PATIENCE, "{answer}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(publish.status.success(), "{}", String::from_utf8_lossy(&publish.stderr));
    let config = std::fs::read_to_string(house.join("config/guesthouse.toml")).unwrap();
    assert!(body.starts_with("HTTP/1.1 200") && body.ends_with(&config), "{body}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
