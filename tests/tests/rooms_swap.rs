//! Code of rooms is swapped under open sockets: nobody is closed, and no message is lost or doubled.

use guesthouse_tests::deploy::put;
use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// How long a client rests before it says the next thing.
const REST: Duration = Duration::from_millis(700);

/// The configuration of build number N.
fn config(component: &Path, build: u64, schema: u64) -> String {
    let rest = format!(
        "rooms = {{ routes = [\"/{{room}}\"], queue = \"64MiB\", schema = {schema} }}\n\
         config = {{ build = \"{build}\" }}"
    );
    plugin("chat", component, &rest)
}

/// The same component with another digest: behind it stands a section that nobody reads.
fn another(wasm: &[u8]) -> Vec<u8> {
    [wasm, &[0, 5, 4][..], b"more"].concat()
}

struct Saw {
    socket: WebSocket,
    said: u64,
    first: u64,
    last: u64,
}

/// Talks until told to stop, and then listens until everything has come.
async fn client(
    mut saw: Saw,
    number: usize,
    stop: Arc<AtomicBool>,
    final_line: Arc<AtomicU64>,
) -> Saw {
    let mut waits = 0_u64;
    let mut next = tokio::time::Instant::now() + REST * u32::try_from(number % 16).unwrap() / 16;
    loop {
        let stopped = stop.load(Relaxed);
        let end = final_line.load(Relaxed);
        if stopped && waits == 0 && end > 0 && saw.last >= end {
            return saw;
        }
        let talk = !stopped && waits == 0;
        tokio::select! {
            message = saw.socket.next() => {
                let Some(Ok(Message::Text(text))) = message else {
                    panic!("client {number} was closed: {message:?}")
                };
                let (line, said) = text.as_str().split_once(' ').unwrap();
                if line == "ok" {
                    assert_eq!(said, format!("c{number}-{}", saw.said), "an answer to something else");
                    waits -= 1;
                    next = tokio::time::Instant::now() + REST;
                    continue;
                }
                let line: u64 = line.parse().unwrap();
                if saw.last == 0 {
                    saw.first = line;
                } else {
                    assert_eq!(line, saw.last + 1, "client {number}: a line is lost or doubled");
                }
                saw.last = line;
            }
            () = tokio::time::sleep_until(next), if talk => {
                saw.said += 1;
                waits += 1;
                let said = format!("append c{number}-{}", saw.said);
                saw.socket.say(&said).await;
            }
            // Looks at the flags again.
            () = tokio::time::sleep(Duration::from_millis(100)), if stopped => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_chatting_clients_close_no_socket_and_lose_and_double_no_message() {
    let number =
        |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (swaps, clients) = (number("GUESTHOUSE_SWAPS", 10), number("GUESTHOUSE_CLIENTS", 60));
    let folder = tempfile::tempdir().unwrap();
    let wasm = std::fs::read(guest("room")).unwrap();
    let builds = [folder.path().join("a.wasm"), folder.path().join("b.wasm")];
    put(&builds[0], &wasm);
    put(&builds[1], &another(&wasm));
    let house = House::start(&config(&builds[0], 0, 0));

    let stop = Arc::new(AtomicBool::new(false));
    let final_line = Arc::new(AtomicU64::new(0));
    let mut talking = Vec::new();
    for number in 0..usize::try_from(clients).unwrap() {
        let socket = WebSocket::open(&house, "/den").await;
        let saw = Saw { socket, said: 0, first: 0, last: 0 };
        talking.push(tokio::spawn(client(saw, number, stop.clone(), final_line.clone())));
    }
    let mut control = WebSocket::open(&house, "/control").await;
    let mut worst = Duration::ZERO;
    for swap in 1..=swaps {
        let component = &builds[usize::try_from(swap % 2).unwrap()];
        house.configure(&config(component, swap, 0));
        let (code, text) =
            tokio::task::block_in_place(|| house.run(&["deploy", "--yes", "--allow-new-grants"]));
        assert_eq!(code, 0, "{text}");
        let began = Instant::now();
        // The same socket, and the new code.
        assert_eq!(control.ask("build").await, swap.to_string());
        worst = worst.max(began.elapsed());
    }
    stop.store(true, Relaxed);
    let mut said = 0;
    // Everything that was said is acknowledged before the last line is known.
    let began = Instant::now();
    let end = loop {
        let text = reqwest::get(format!("{}/den?log", house.url)).await.unwrap();
        let count = text.text().await.unwrap().lines().count() as u64;
        if count == said && began.elapsed() > Duration::from_secs(1) {
            break count;
        }
        said = count;
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    final_line.store(end, Relaxed);
    let mut total = 0;
    for client in talking {
        let saw = tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
        assert_eq!(saw.last, end);
        assert!(saw.first > 0);
        total += saw.said;
        saw.socket.close().await;
    }
    assert_eq!(total, end, "what was said, and what was heard");
    println!(
        "{swaps} swaps, {clients} clients, {end} messages, {} deliveries: 0 closed, 0 lost, 0 doubled; \
         first answer of new code after at most {worst:?}",
        end * clients
    );
}

#[tokio::test]
async fn a_room_that_newer_code_has_written_is_not_opened_by_older_code() {
    let component = guest("room");
    let house = House::start(&config(&component, 1, 1));
    let mut socket = WebSocket::open(&house, "/r").await;
    assert_eq!(socket.ask("put k v1").await, "done");
    let deploy = async |build, schema| {
        house.configure(&config(&component, build, schema));
        let (code, text) = house.run(&["deploy", "--yes", "--allow-new-grants"]);
        assert_eq!(code, 0, "{text}");
    };
    deploy(2, 2).await;
    assert_eq!(socket.ask("get k").await, "v1");
    assert_eq!(socket.ask("put k v2").await, "done");
    let (code, text) = house.run(&["rollback", "chat"]);
    assert_eq!(code, 0, "{text}");
    socket.say("get k").await;
    assert_eq!(socket.code().await, 1011);
    assert_eq!(WebSocket::try_open(&house, "/r", &[]).await.err().unwrap().status, 503);
    house.wait_for_log("rooms.schema");
    // Another room, which newer code has not written, is opened.
    let mut other = WebSocket::open(&house, "/other").await;
    assert_eq!(other.ask("build").await, "1");
    deploy(3, 2).await;
    let mut socket = WebSocket::open(&house, "/r").await;
    assert_eq!(socket.ask("get k").await, "v2");
}
