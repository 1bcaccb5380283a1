//! No client notices a swap, and nothing of the old version is left.

use bytes::Bytes;
use guesthouse_tests::deploy::{build, folder, full, put};
use guesthouse_tests::{House, PATIENCE};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

type Sender = SendRequest<UnsyncBoxBody<Bytes, Infallible>>;

/// A connection of our own: whatever goes wrong with it is seen, and nothing is tried again.
async fn connect(address: &str) -> Sender {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One request; the marker that head and all lines agree on, and the lines.
async fn ask(
    sender: &mut Sender,
    path: &str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> (String, Vec<String>) {
    sender.ready().await.expect("the connection is there");
    let method = if path == "/upload" { "POST" } else { "GET" };
    let request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    let answer = sender.send_request(request.body(body).unwrap()).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let marker = answer.headers()["x-version"].to_str().unwrap().to_owned();
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    let lines: Vec<String> =
        String::from_utf8(body.to_vec()).unwrap().lines().map(str::to_owned).collect();
    (marker, lines)
}

fn empty() -> UnsyncBoxBody<Bytes, Infallible> {
    Empty::new().boxed_unsync()
}

/// Bytes in so many pieces, so many milliseconds apart.
fn slowly(pieces: usize, size: usize, pause: u64) -> UnsyncBoxBody<Bytes, Infallible> {
    let piece = Bytes::from(vec![b'x'; size]);
    let pieces = futures::stream::unfold(0, move |sent| {
        let piece = piece.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            (sent < pieces).then(|| (Ok(Frame::data(piece)), sent + 1))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_response_fails_and_each_is_whole_and_of_one_version() {
    const SWAPS: u64 = 200;
    let (folder, component) = folder(
        "even",
        "[server]\naccess_log = false",
        "limits = { concurrency = 200, queue = 1000 }\ninstances = { reuse = 1000 }",
    );
    let house = Arc::new(House::start_again(folder, &[], &[]));
    let address = house.address().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for number in 0..64 {
        let (address, stop, answers) = (address.clone(), stop.clone(), answers.clone());
        clients.push(tokio::spawn(async move {
            let mut sender = connect(&address).await;
            let mut seen = [0_u64; 2];
            while !stop.load(Relaxed) {
                let path = if number % 8 == 0 { "/stream/3/5" } else { "/" };
                let pieces = if number % 8 == 0 { 3 } else { 2 };
                let (marker, lines) = ask(&mut sender, path, empty()).await;
                assert_eq!(lines, vec![marker.clone(); pieces]);
                seen[usize::from(marker == full("even"))] += 1;
                answers.fetch_add(1, Relaxed);
            }
            seen
        }));
    }
    // These begin with the first version, and end when many others have come and gone.
    let mut slow = connect(&address).await;
    let stream = tokio::spawn(async move { ask(&mut slow, "/stream/100/30", empty()).await });
    let mut slow = connect(&address).await;
    let upload =
        tokio::spawn(async move { ask(&mut slow, "/upload", slowly(20, 1 << 20, 150)).await });
    while house.api("/v1/plugins/guest")["version"]["running"].as_u64() < Some(2) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let swapping = {
        let house = house.clone();
        tokio::task::spawn_blocking(move || {
            let mut slowest = 0;
            for number in 1..=SWAPS {
                let (status, answer) = if number % 5 == 0 {
                    house.post("/v1/plugins/guest/rollback", &json!({}))
                } else {
                    put(&component, &build(if number % 2 == 0 { "even" } else { "odd" }));
                    house.post("/v1/deployments", &json!({"force": true}))
                };
                assert_eq!(status, 200, "{answer}");
                assert_eq!(answer["deployed"], true, "{answer}");
                slowest = slowest.max(answer["switch_micros"].as_u64().unwrap());
            }
            slowest
        })
    };
    let slowest = swapping.await.unwrap();
    let (marker, lines) = stream.await.expect("the slow stream");
    assert_eq!(marker, full("even"));
    assert_eq!(lines, vec![marker; 100]);
    let (marker, lines) = upload.await.expect("the upload");
    assert_eq!(lines, [marker.clone(), (20 << 20).to_string()]);
    assert_eq!(marker, full("even"));
    stop.store(true, Relaxed);
    let mut seen = [0; 2];
    for client in clients {
        let of_one = client.await.expect("a client whose every answer was whole");
        seen = [seen[0] + of_one[0], seen[1] + of_one[1]];
    }
    let compilations = house.api("/v1/health")["engine"]["compilations"].clone();
    println!(
        "{SWAPS} swaps, {seen:?} answers, slowest switch {slowest} µs, {compilations} compiled"
    );
    assert!(seen[0] > 0 && seen[1] > 0, "both versions served: {seen:?}");
    assert_eq!(compilations, 2, "each build is compiled once");
}

/// The mean of the numbers.
fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_descriptors_are_flat_over_many_swaps() {
    let swaps: usize =
        std::env::var("GUESTHOUSE_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let (folder, component) = folder(
        "even",
        "[server]\naccess_log = false",
        "instances = { reuse = 1000, idle = \"60s\" }\ncache = true",
    );
    let house = House::start_again(folder, &[], &[]);
    let mut sender = connect(house.address()).await;
    let warm_up = swaps / 2;
    let (mut memory, mut descriptors) = (Vec::new(), Vec::new());
    for number in 0..warm_up + swaps {
        put(&component, &build(if number % 2 == 0 { "odd" } else { "even" }));
        tokio::task::block_in_place(|| house.deploy());
        for request in 0..20 {
            let (marker, lines) = ask(&mut sender, &format!("/{request}"), empty()).await;
            assert_eq!(lines, [marker.clone(), marker]);
        }
        tokio::task::block_in_place(|| house.wait_until_drained());
        if number >= warm_up {
            memory.push(house.rss_kib() as f64);
            descriptors.push(house.descriptors() as f64);
        }
    }
    let tenth = swaps / 10;
    for (what, numbers) in [("KiB of memory", &memory), ("descriptors", &descriptors)] {
        let (first, last) = (mean(&numbers[..tenth]), mean(&numbers[swaps - tenth..]));
        println!("{swaps} swaps: {first:.0} {what} at first, {last:.0} at last");
        assert!(last <= first * 1.05, "{what} grew from {first:.0} to {last:.0}: {numbers:?}");
    }
}

fn code_of(house: &House) -> String {
    let digest = house.api("/v1/plugins/guest")["digest"].as_str().unwrap().to_owned();
    house.mapped_code().into_iter().find(|file| file.starts_with(&digest)).expect("mapped code")
}

#[test]
fn code_instances_cache_and_descriptors_of_a_replaced_version_are_gone_when_it_has_drained() {
    let (folder, component) =
        folder("one", "", "instances = { reuse = 1000, idle = \"60s\" }\ncache = true");
    let house = House::start_again(folder, &[], &[]);
    let load = || {
        for number in 0..20 {
            _ = house.get(&format!("/{number}"));
        }
    };
    // A swap and back first, so that what the house opens once is open.
    let swap = |marker: &str, component: &Path| {
        put(component, &build(marker));
        house.deploy();
        load();
        house.wait_until_drained();
    };
    load();
    swap("two", &component);
    swap("one", &component);
    let old = code_of(&house);
    let (descriptors, mapped) = (house.descriptors(), house.mapped_code());
    let entries = house.api("/v1/health")["cache"]["entries"].clone();
    assert_eq!(mapped.len(), 1, "{mapped:?}");
    swap("two", &component);
    let mapped = house.mapped_code();
    assert_eq!(mapped, [code_of(&house)], "the old code is not mapped any more");
    assert_ne!(mapped, [old]);
    // Connections of ours that have ended are closed a moment later.
    let began = std::time::Instant::now();
    while house.descriptors() > descriptors {
        assert!(began.elapsed() < PATIENCE, "{} instead of {descriptors}", house.descriptors());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(
        house.api("/v1/health")["cache"]["entries"],
        entries,
        "the old answers are not kept"
    );
    assert_eq!(house.get("/1"), "two", "nothing of the old version is answered");
}

#[test]
fn a_stream_goes_on_with_its_version_and_is_cut_when_the_drain_is_over() {
    let (folder, component) = folder("one", "[server]\nswap_drain = \"3s\"", "");
    let house = House::start_again(folder, &[], &[]);
    let endless = std::thread::spawn({
        let address = house.address().to_owned();
        move || {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET /stream/100000/20 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        }
    });
    while house.api("/v1/plugins/guest")["version"]["running"] != 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    put(&component, &build("two"));
    house.deploy();
    assert_eq!(house.get("/"), "two", "new requests meet the new version at once");
    let (_, told) = house.run(&["plugins"]);
    assert!(told.contains("guest: version 1 was replaced"), "{told}");
    assert!(told.contains("requests at work: 1."), "{told}");
    let answer = endless.join().unwrap();
    assert!(answer.contains(&full("one")) && !answer.contains(&full("two")), "{answer}");
    assert!(!answer.ends_with("\r\n0\r\n\r\n"), "a cut answer must not look whole");
    house.wait_for_log("server.swap_drain");
    house.wait_until_drained();
    assert_eq!(house.mapped_code().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_wasi_http_0_3_that_wait_for_requests_go_with_their_version() {
    let component = guesthouse_tests::guest("wasip3");
    let table = "routes = [\"/*\"]\ninstances = { reuse = 1000, concurrent = 4, idle = \"1h\" }";
    let house = House::start(&guesthouse_tests::plugin("guest", &component, table));
    for number in 2..5 {
        for _ in 0..4 {
            assert_eq!(reqwest::get(&house.url).await.unwrap().status(), 200);
        }
        let (status, answer) =
            tokio::task::block_in_place(|| house.post("/v1/deployments", &json!({"force": true})));
        assert_eq!(status, 200, "{answer}");
        tokio::task::block_in_place(|| house.wait_until_drained());
        assert_eq!(house.api("/v1/plugins/guest")["number"], number);
    }
}
