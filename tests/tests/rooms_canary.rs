//! A canary of rooms is by room: which version a room runs depends on its name, and its sockets stay open.

use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const ROOMS: usize = 24;

fn config(build: u64, schema: u64, rest: &str) -> String {
    let lines = format!(
        "rooms = {{ routes = [\"/{{room}}\"], schema = {schema} }}\nconfig = {{ build = \"{build}\" }}\n{rest}"
    );
    plugin("chat", &guest("room"), &lines)
}

fn canary(house: &House, config: &str, percent: u8) {
    house.configure(config);
    let (status, answer) = house.post("/v1/deployments", &json!({"canary": percent}));
    assert_eq!(status, 200, "{answer}");
}

async fn all(house: &House) -> Vec<WebSocket> {
    let mut sockets = Vec::new();
    for room in 0..ROOMS {
        sockets.push(WebSocket::open(house, &format!("/r{room}")).await);
    }
    sockets
}

async fn builds(sockets: &mut [WebSocket]) -> Vec<String> {
    let mut builds = Vec::new();
    for socket in sockets {
        builds.push(socket.ask("build").await);
    }
    builds
}

#[tokio::test]
async fn each_room_runs_one_version_and_no_socket_is_closed() {
    let house = House::start(&config(1, 0, ""));
    let mut sockets = all(&house).await;
    assert_eq!(builds(&mut sockets).await, vec!["1"; ROOMS]);
    canary(&house, &config(2, 0, ""), 50);
    let found = builds(&mut sockets).await;
    for build in ["1", "2"] {
        let count = found.iter().filter(|found| *found == build).count();
        assert!(count > 3, "{found:?}");
    }
    for (room, build) in found.iter().enumerate() {
        let seen = house.api(&format!("/v1/rooms/chat/r{room}"));
        assert_eq!(seen["version"].to_string(), *build, "{seen}");
    }
    // Everybody in a room is in the same version of it, and so they stay.
    let mut others = all(&house).await;
    assert_eq!(builds(&mut others).await, found);
    assert_eq!(builds(&mut sockets).await, found);
    let house = house.crash_and_restart();
    let mut sockets = all(&house).await;
    assert_eq!(builds(&mut sockets).await, found, "also after a crash");
    let (status, answer) = house.post("/v1/plugins/chat/promote", &json!({"percent": 80}));
    assert_eq!(status, 200, "{answer}");
    let more = builds(&mut sockets).await;
    assert!(found.iter().zip(&more).all(|(found, more)| found == "1" || more == "2"), "{more:?}");
    let (status, answer) = house.post("/v1/plugins/chat/promote", &json!({}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(builds(&mut sockets).await, vec!["2"; ROOMS]);
}

#[tokio::test]
async fn rooms_that_a_canary_has_written_under_a_newer_schema_are_not_opened_by_the_old_version() {
    let house = House::start(&config(1, 1, ""));
    let mut sockets = all(&house).await;
    for socket in &mut sockets {
        assert_eq!(socket.ask("put k old").await, "done");
    }
    canary(&house, &config(2, 2, ""), 50);
    let found = builds(&mut sockets).await;
    let tried: Vec<usize> = (0..ROOMS).filter(|room| found[*room] == "2").collect();
    let (written, only_read) = tried.split_at(tried.len() / 2);
    assert!(!written.is_empty());
    for room in written {
        assert_eq!(sockets[*room].ask("put k new").await, "done");
    }
    let (code, text) = house.run(&["rollback", "chat"]);
    assert_eq!(code, 0, "{text}");
    for (room, socket) in sockets.iter_mut().enumerate() {
        if written.contains(&room) {
            socket.say("get k").await;
            assert_eq!(socket.code().await, 1011, "room {room}");
        } else {
            assert_eq!(socket.ask("get k").await, "old", "room {room}");
            assert_eq!(socket.ask("build").await, "1");
        }
    }
    assert!(only_read.len() + written.len() == tried.len());
    house.wait_for_log("rooms.schema");
    // Nothing of theirs is lost: newer code opens them again.
    canary(&house, &config(3, 2, ""), 99);
    let (status, answer) = house.post("/v1/plugins/chat/promote", &json!({}));
    assert_eq!(status, 200, "{answer}");
    for room in written {
        let mut socket = WebSocket::open(&house, &format!("/r{room}")).await;
        assert_eq!(socket.ask("get k").await, "new");
    }
}

#[tokio::test]
async fn a_canary_whose_events_fail_is_taken_back_and_the_sockets_of_others_stay() {
    let rest = "canary = { errors = \"10%\", least = 10 }\nbreaker = { failures = 0 }";
    let house = House::start(&config(1, 0, rest));
    let mut quiet = all(&house).await;
    canary(&house, &config(2, 0, rest), 99);
    let began = Instant::now();
    let mut room = 0;
    while house.api("/v1/deployments")["canaries"] != json!({}) {
        assert!(began.elapsed() < PATIENCE);
        let mut socket = WebSocket::open(&house, &format!("/r{}", room % ROOMS)).await;
        socket.say("trap").await;
        assert_eq!(socket.code().await, 1011);
        room += 1;
    }
    house.wait_for_log("the canary is taken back");
    assert_eq!(builds(&mut quiet).await, vec!["1"; ROOMS]);
    assert!(house.api("/v1/plugins/chat")["rolled_back"]["reason"].is_string());
}

/// Appends to the log of a room until told to stop: how many of its lines were acknowledged.
async fn append(mut socket: WebSocket, name: String, stop: Arc<AtomicBool>) -> u64 {
    let mut said = 0;
    let mut last = 0_u64;
    while !stop.load(Relaxed) {
        let line = format!("{name}-{said}");
        socket.say(&format!("append {line}")).await;
        loop {
            let text = match socket.next().await {
                Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
                other => panic!("{name} was closed: {other:?}"),
            };
            let (number, rest) = text.split_once(' ').unwrap();
            if number == "ok" {
                assert_eq!(rest, line);
                break;
            }
            let number = number.parse::<u64>().unwrap();
            assert!(last == 0 || number == last + 1, "{name}: a line is lost or doubled");
            last = number;
        }
        said += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canaries_come_and_go_under_talking_clients_and_no_message_is_lost_or_doubled() {
    let house = House::start(&config(1, 0, ""));
    let stop = Arc::new(AtomicBool::new(false));
    let mut talking = Vec::new();
    for client in 0..12 {
        let room = format!("/den{}", client % 4);
        let socket = WebSocket::open(&house, &room).await;
        talking
            .push((client % 4, tokio::spawn(append(socket, format!("c{client}"), stop.clone()))));
    }
    for round in 0..4 {
        tokio::task::block_in_place(|| {
            canary(&house, &config(2 + round, 0, ""), 50);
            let promoted = house.post("/v1/plugins/chat/promote", &json!({"percent": 99}));
            assert_eq!(promoted.0, 200, "{}", promoted.1);
            let (end, body) =
                if round % 2 == 0 { ("rollback", json!({})) } else { ("promote", json!({})) };
            let ended = house.post(&format!("/v1/plugins/chat/{end}"), &body);
            assert_eq!(ended.0, 200, "{}", ended.1);
        });
    }
    stop.store(true, Relaxed);
    let mut said = [0_u64; 4];
    for (room, client) in talking {
        said[room] += tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    for (room, said) in said.iter().enumerate() {
        let log = reqwest::get(format!("{}/den{room}?log", house.url)).await.unwrap();
        assert_eq!(log.text().await.unwrap().lines().count() as u64, *said, "den{room}");
    }
}
