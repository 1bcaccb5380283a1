//! What all rooms of a plugin may use together, and rooms that fail again and again.

use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use std::time::{Duration, Instant};

fn house(rooms: &str, rest: &str) -> House {
    let rooms = format!("rooms = {{ routes = [\"/probe/{{room}}\"]{rooms} }}\n{rest}");
    House::start(&plugin("probe", &guest("room"), &rooms))
}

async fn get(house: &House, path: &str) -> reqwest::Response {
    reqwest::get(format!("{}{path}", house.url)).await.unwrap()
}

/// Waits until the admin API says so of a room.
async fn until(house: &House, room: &str, so: impl Fn(&serde_json::Value) -> bool) {
    let began = Instant::now();
    loop {
        let seen = house.api(&format!("/v1/rooms/probe/{room}"));
        if so(&seen) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn rooms_of_a_plugin_share_keys_and_bytes_also_after_a_restart() {
    // Each connection takes a key of the probe's own.
    let house = house(", plugin_keys = 6, plugin_storage = \"10KiB\"", "");
    let mut a = WebSocket::open(&house, "/probe/a").await;
    assert_eq!(a.ask("fill 3 1000").await, "filled");
    let mut b = WebSocket::open(&house, "/probe/b").await;
    assert_eq!(b.ask("put one 1").await, "done");
    b.say("put two 2").await;
    assert_eq!(b.code().await, 1011);
    house.wait_for_log("rooms.plugin_keys");

    // What was there before is counted anew, and what is deleted is not counted any more.
    let house = house.crash_and_restart();
    let refused = WebSocket::try_open(&house, "/probe/c", &[]).await.err().unwrap();
    assert_eq!(refused.status, 503, "the room has no key for its connection");
    let (code, text) = house.run(&["rooms", "delete", "probe", "a"]);
    assert_eq!(code, 0, "{text}");
    let mut c = WebSocket::open(&house, "/probe/c").await;
    assert_eq!(c.ask("fill 2 1").await, "filled");
    c.say("fill 2 9000").await;
    assert_eq!(c.code().await, 1011);
    house.wait_for_log("rooms.plugin_storage");
}

#[tokio::test]
async fn rooms_of_a_plugin_share_places_for_connections() {
    let house = house(", plugin_sockets = 2", "");
    let a = WebSocket::open(&house, "/probe/a").await;
    let _b = WebSocket::open(&house, "/probe/b").await;
    let refused = WebSocket::try_open(&house, "/probe/c", &[]).await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.has("retry-after"));
    house.wait_for_log("rooms.plugin_sockets");
    a.close().await;
    until(&house, "a", |room| room["sockets"] == 0).await;
    WebSocket::open(&house, "/probe/c").await.close().await;
}

#[tokio::test]
async fn events_beyond_those_of_a_second_wait_and_none_is_lost() {
    let house = house(", plugin_events = 20", "");
    let (mut a, mut b) =
        (WebSocket::open(&house, "/probe/a").await, WebSocket::open(&house, "/probe/b").await);
    let began = Instant::now();
    for n in 0..30 {
        a.say(&format!("echo {n}")).await;
        b.say(&format!("echo {n}")).await;
    }
    for n in 0..30 {
        assert_eq!(a.text().await, n.to_string());
        assert_eq!(b.text().await, n.to_string());
    }
    // 60 events and two connections, of which 20 may come at once.
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    let seen = house.api("/v1/rooms/probe/a");
    assert!(seen["events_per_second"].as_f64().unwrap() > 1.0, "{seen}");
    let (code, text) = house.run(&["rooms", "probe"]);
    assert!(code == 0 && text.contains("EVENTS/S"), "{text}");
}

#[tokio::test]
async fn a_room_that_fails_again_and_again_is_left_alone_for_a_while_and_no_other_is() {
    let house = house("", "breaker = { failures = 3, backoff = \"2s\" }");
    for _ in 0..3 {
        assert_eq!(get(&house, "/probe/bad?trap").await.status(), 500);
    }
    let began = Instant::now();
    let rests = get(&house, "/probe/bad?events").await;
    assert_eq!(rests.status(), 503);
    assert!(rests.headers().contains_key("retry-after"));
    house.wait_for_log("breaker.failures");
    let refused = WebSocket::try_open(&house, "/probe/bad", &[]).await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(get(&house, "/probe/good?events").await.status(), 200);
    while get(&house, "/probe/bad?events").await.status() != 200 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    WebSocket::open(&house, "/probe/bad").await.close().await;
}

#[tokio::test]
async fn messages_to_a_room_that_rests_are_told_to_come_back_later() {
    let house = house("", "breaker = { failures = 2, backoff = \"30s\" }");
    let mut patient = WebSocket::open(&house, "/probe/bad").await;
    for _ in 0..2 {
        assert_eq!(get(&house, "/probe/bad?trap").await.status(), 500);
    }
    patient.say("echo x").await;
    assert_eq!(patient.code().await, 1013);
}

#[tokio::test]
async fn an_alarm_that_always_fails_is_parked_until_it_is_set_again() {
    let house = house(", alarm_retry = \"5ms\"", "");
    let mut socket = WebSocket::open(&house, "/probe/f").await;
    assert_eq!(socket.ask("put alarm-fails 1").await, "done");
    assert_eq!(socket.ask("alarm 1").await, "set");
    until(&house, "f", |room| room["alarm"]["parked"] == true).await;
    house.wait_for_log("is parked until the room sets it again");
    // The first try and six more.
    assert_eq!(house.api("/v1/rooms/probe/f")["alarm"]["retries"], 7);
    let (_, text) = house.run(&["rooms", "probe"]);
    assert!(text.contains("parked"), "{text}");
    let house = house.crash_and_restart();
    assert_eq!(house.api("/v1/rooms/probe/f")["alarm"]["parked"], true);
    let mut socket = WebSocket::open(&house, "/probe/f").await;
    assert_eq!(socket.ask("alarm 1").await, "set");
    until(&house, "f", |room| room["alarm"]["parked"] == true && room["alarm"]["retries"] == 7)
        .await;
    assert_eq!(socket.ask("alarm 3600000").await, "set");
    let seen = house.api("/v1/rooms/probe/f");
    assert_eq!((&seen["alarm"]["parked"], &seen["alarm"]["retries"]), (&false.into(), &0.into()));
}

#[tokio::test]
async fn events_beyond_the_places_of_a_mailbox_are_refused_or_wait_in_the_client_s_socket() {
    let house = house(", mailbox = 3", "limits = { cpu = \"3s\" }\nbreaker = { failures = 0 }");
    let mut patient = WebSocket::open(&house, "/probe/a").await;
    let url = format!("{}/probe/a?", house.url);
    let ask = |query: &str| tokio::spawn(reqwest::get(format!("{url}{query}")));
    // The one that is at work has a place as well, and who waits keeps his.
    let mut waiting = vec![ask("spin")];
    let began = Instant::now();
    let refused = loop {
        let mut one = ask("keys");
        match tokio::time::timeout(Duration::from_millis(300), &mut one).await {
            Err(_) => waiting.push(one),
            Ok(answer) => match answer.unwrap().unwrap() {
                answer if answer.status() == 503 => break answer,
                // It came before the one that is long at work.
                answer => assert_eq!(answer.status(), 200),
            },
        }
        assert!(began.elapsed() < PATIENCE);
    };
    assert!(waiting.len() >= 3, "{} have a place", waiting.len());
    assert!(refused.headers().contains_key("retry-after"));
    let attempt = WebSocket::try_open(&house, "/probe/a", &[]).await.err().unwrap();
    assert_eq!(attempt.status, 503);
    // Another room has a mailbox of its own.
    assert_eq!(get(&house, "/probe/b?keys").await.status(), 200);
    // A client that is inside is not refused: what it says waits, all of it and in order.
    for n in 0..50 {
        patient.say(&format!("echo {n}")).await;
    }
    for n in 0..50 {
        assert_eq!(patient.text().await, n.to_string());
    }
    assert_eq!(waiting.remove(0).await.unwrap().unwrap().status(), 504);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(get(&house, "/probe/a?keys").await.status(), 200);
}

#[tokio::test]
async fn as_many_frames_as_are_allowed_may_come_at_once_and_no_more() {
    use futures::SinkExt;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let house = house(", frames = 200", "");
    let empty = || Message::Frame(Frame::message(Vec::new(), OpCode::Data(Data::Continue), false));
    let begin =
        || Message::Frame(Frame::message(b"echo x".to_vec(), OpCode::Data(Data::Text), false));
    let end = || Message::Frame(Frame::message(Vec::new(), OpCode::Data(Data::Continue), true));
    let mut socket = WebSocket::open(&house, "/probe/a").await;
    socket.0.feed(begin()).await.unwrap();
    for _ in 0..198 {
        socket.0.feed(empty()).await.unwrap();
    }
    socket.0.send(end()).await.unwrap();
    assert_eq!(socket.text().await, "x");
    let mut socket = WebSocket::open(&house, "/probe/a").await;
    socket.0.feed(begin()).await.unwrap();
    for _ in 0..1000 {
        socket.0.feed(empty()).await.unwrap();
    }
    _ = socket.0.flush().await;
    assert_eq!(socket.code().await, 1008);
}
