//! Rooms and clients that mean harm, beside a neighbour who must not notice.
//!
//! The neighbour is a room of another plugin, to which a client talks without a pause. What is looked at: every
//! answer of the neighbour comes, the memory of the house is bounded, and whoever did harm is told the right
//! code. How long the neighbour waits is measured by `cargo xtask bench`, not here.

use futures::SinkExt;
use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, house_folder, plugin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// What a bad quarter of an hour may cost the house in memory.
const MOST_KIB: u64 = 160 << 10;

fn house(rooms: &str, rest: &str) -> House {
    let echo = plugin(
        "echo",
        &house_folder().join("plugins/room-echo.wasm"),
        "rooms = { routes = [\"/echo/{room}\"], rate = 1000000 }",
    );
    let rooms = format!("rooms = {{ routes = [\"/probe/{{room}}\"]{rooms} }}\n{rest}");
    House::start(&(echo + &plugin("probe", &guest("room"), &rooms)))
}

/// Talks to its room as long as it lives.
struct Neighbour {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Neighbour {
    async fn begin(house: &House) -> Self {
        let mut socket = WebSocket::open(house, "/echo/neighbour").await;
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let task = tokio::spawn({
            let (stop, answers) = (stop.clone(), answers.clone());
            async move {
                while !stop.load(Relaxed) {
                    let said = answers.load(Relaxed).to_string();
                    assert_eq!(socket.ask(&said).await, said);
                    answers.fetch_add(1, Relaxed);
                }
            }
        });
        Self { stop, answers, task }
    }

    /// It is still served: some more answers come.
    async fn is_served(&self) {
        let wanted = self.answers.load(Relaxed) + 10;
        let began = Instant::now();
        while self.answers.load(Relaxed) < wanted {
            assert!(began.elapsed() < PATIENCE && !self.task.is_finished(), "the neighbour waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.is_served().await;
        self.stop.store(true, Relaxed);
        self.task.await.unwrap();
    }
}

fn piece(opcode: Data, data: &[u8], last: bool) -> Message {
    Message::Frame(Frame::message(data.to_vec(), OpCode::Data(opcode), last))
}

#[tokio::test]
async fn clients_that_flood_are_told_the_right_code_and_cost_nobody_else() {
    let house = house("", "");
    let neighbour = Neighbour::begin(&house).await;
    let before = house.rss_kib();

    let mut messages = WebSocket::open(&house, "/probe/a").await;
    for _ in 0..100_000 {
        if messages.0.send(Message::text("echo x")).await.is_err() {
            break;
        }
    }
    assert_eq!(messages.code().await, 1008, "a flood of messages");
    neighbour.is_served().await;

    let mut pings = WebSocket::open(&house, "/probe/a").await;
    for _ in 0..100_000 {
        if pings.0.send(Message::Ping("x".into())).await.is_err() {
            break;
        }
    }
    assert_eq!(pings.code().await, 1008, "a flood of pings");
    neighbour.is_served().await;

    let mut large = WebSocket::open(&house, "/probe/a").await;
    _ = large.0.send(Message::binary(vec![7; 32 << 20])).await;
    assert_eq!(large.code().await, 1009, "a message of 32 MiB");
    neighbour.is_served().await;

    // A message in thousands of pieces of a byte is slow, and allowed.
    let mut pieces = WebSocket::open(&house, "/probe/a").await;
    pieces.0.feed(piece(Data::Text, b"echo ", false)).await.unwrap();
    for _ in 0..5_000 {
        pieces.0.feed(piece(Data::Continue, b"x", false)).await.unwrap();
    }
    pieces.0.send(piece(Data::Continue, b"", true)).await.unwrap();
    assert_eq!(pieces.text().await.len(), 5_000);
    neighbour.is_served().await;

    // One that never ends is not, whether it grows or not.
    let mut empty = WebSocket::open(&house, "/probe/a").await;
    empty.0.feed(piece(Data::Text, b"echo ", false)).await.unwrap();
    for _ in 0..100_000 {
        if empty.0.feed(piece(Data::Continue, b"", false)).await.is_err() {
            break;
        }
    }
    _ = empty.0.flush().await;
    assert_eq!(empty.code().await, 1008, "a flood of empty pieces");
    neighbour.is_served().await;

    pieces.0.feed(piece(Data::Text, b"echo ", false)).await.unwrap();
    let part = vec![b'x'; 64 << 10];
    for _ in 0..20 {
        if pieces.0.send(piece(Data::Continue, &part, false)).await.is_err() {
            break;
        }
    }
    assert_eq!(pieces.code().await, 1009, "a message that never ends");

    let grown = house.rss_kib().saturating_sub(before);
    assert!(grown < MOST_KIB, "{grown} KiB more than before");
    neighbour.end().await;
    house_is_well(&house).await;
}

#[tokio::test]
async fn rooms_that_do_harm_harm_themselves() {
    // Whoever waits for the others reads no pings meanwhile.
    let house = house(
        ", rate = 100000, ping = \"10m\"",
        "limits = { cpu = \"300ms\", wall = \"10m\", memory = \"64MiB\" }",
    );
    let neighbour = Neighbour::begin(&house).await;
    let before = house.rss_kib();
    for command in ["spin", "bomb", "trap", "put-and-trap"] {
        let mut all = Vec::new();
        for n in 0..8 {
            let mut socket = WebSocket::open(&house, &format!("/probe/{command}{n}")).await;
            socket.say(command).await;
            all.push(socket);
        }
        for socket in &mut all {
            assert_eq!(socket.code().await, 1011, "{command}");
        }
        neighbour.is_served().await;
    }
    // One event sends no more than it may, and the rest of it fails.
    let mut storm = WebSocket::open(&house, "/probe/storm").await;
    storm.say("storm 100000").await;
    assert_eq!(storm.code().await, 1011);
    // Scans give a page at a time, however much is asked for.
    let mut scans = WebSocket::open(&house, "/probe/scans").await;
    for _ in 0..3 {
        assert_eq!(scans.ask("fill 9000 1000").await, "filled");
    }
    for _ in 0..100 {
        scans.say("scan 4294967295").await;
    }
    for _ in 0..100 {
        assert_eq!(scans.text().await, "1000");
    }
    let grown = house.rss_kib().saturating_sub(before);
    assert!(grown < MOST_KIB, "{grown} KiB more than before");
    neighbour.end().await;
    house_is_well(&house).await;
}

#[tokio::test]
async fn thousands_of_alarms_for_the_same_moment_all_ring_and_the_neighbour_is_served() {
    let alarms: usize =
        std::env::var("GUESTHOUSE_ALARMS").map_or(2000, |text| text.parse().unwrap());
    let echo = plugin(
        "echo",
        &house_folder().join("plugins/room-echo.wasm"),
        "rooms = { routes = [\"/echo/{room}\"], rate = 1000000 }",
    );
    let lines = "routes = [\"/call/*\"]\npeers = [\"peers\"]\n\
                 rooms = { routes = [\"/room/{room}\"], idle = \"100ms\" }";
    let house = House::start(&(echo + &plugin("peers", &guest("peers"), lines)));
    let client = reqwest::Client::new();
    let ask = async |n: usize, query: &str| {
        let url = format!("{}/room/{n}?{query}", house.url);
        client.get(url).send().await.unwrap().text().await.unwrap()
    };
    let neighbour = Neighbour::begin(&house).await;
    for first in (0..alarms).step_by(100) {
        let many = (first..alarms.min(first + 100)).map(|n| ask(n, "arm=3000"));
        assert!(futures::future::join_all(many).await.iter().all(|said| said == "armed"));
    }
    let began = Instant::now();
    for n in 0..alarms {
        while ask(n, "get=rung").await != "there" {
            assert!(began.elapsed() < PATIENCE * 2, "alarm {n} did not ring");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    neighbour.end().await;
}

#[tokio::test]
async fn a_room_that_traps_at_every_event_is_left_alone_and_its_neighbour_is_served() {
    let house = house("", "");
    let neighbour = Neighbour::begin(&house).await;
    let before = house.rss_kib();
    let mut patient = WebSocket::open(&house, "/probe/bad").await;
    let url = format!("{}/probe/bad?trap", house.url);
    let mut rested = 0;
    for _ in 0..100 {
        // An attempt to come in, a request, and the message of one who is inside.
        let refused = WebSocket::try_open(&house, "/probe/bad?trap", &[]).await.err().unwrap();
        let answer = reqwest::get(&url).await.unwrap();
        for status in [refused.status, answer.status().as_u16()] {
            assert!(status == 500 || status == 503, "{status}");
            rested += u32::from(status == 503);
        }
    }
    assert!(rested > 100, "it was asked {} times", 200 - rested);
    patient.say("trap").await;
    let code = patient.code().await;
    assert!(code == 1011 || code == 1013, "{code}");
    let grown = house.rss_kib().saturating_sub(before);
    assert!(grown < MOST_KIB, "{grown} KiB more than before");
    neighbour.end().await;
    house_is_well(&house).await;
}

#[tokio::test]
async fn many_who_do_not_read_lose_their_place_and_cost_nobody_else() {
    let house = house(", queue = \"128KiB\", rate = 1000000", "");
    let neighbour = Neighbour::begin(&house).await;
    let before = house.rss_kib();
    let mut slow = Vec::new();
    for _ in 0..10 {
        slow.push(WebSocket::open(&house, "/probe/s").await);
    }
    // As much as the kernel takes for each of them, and then more than their queues take.
    let mut loud = WebSocket::open(&house, "/probe/s").await;
    let said = format!("say {}", "x".repeat(16 << 10));
    let began = Instant::now();
    while house.api("/v1/rooms/probe/s")["sockets"] != 1 {
        assert!(began.elapsed() < PATIENCE);
        for _ in 0..100 {
            loud.say(&said).await;
        }
        assert_eq!(loud.ask("echo there").await, "there", "who reads keeps its place");
        neighbour.is_served().await;
    }
    let grown = house.rss_kib().saturating_sub(before);
    assert!(grown < MOST_KIB, "{grown} KiB more than before");
    for socket in &mut slow {
        let code = socket.code().await;
        assert!(code == 1013 || code == 1006, "{code}");
    }
    neighbour.end().await;
    house_is_well(&house).await;
}

/// A room that was harmed is there again, and so is the way to it.
async fn house_is_well(house: &House) {
    let mut socket = WebSocket::open(house, "/probe/well").await;
    assert_eq!(socket.ask("echo well").await, "well");
}

/// What a client sends that is no WebSocket at all.
#[tokio::test]
async fn bytes_that_are_no_frames_end_their_own_connection() {
    let house = house("", "");
    let neighbour = Neighbour::begin(&house).await;
    for bytes in [
        // Not masked; a reserved bit; an opcode that is none; a control frame in pieces; nothing to continue.
        &b"\x81\x01x"[..],
        b"\xc1\x81\0\0\0\0x",
        b"\x83\x81\0\0\0\0x",
        b"\x09\x81\0\0\0\0x",
        b"\x80\x81\0\0\0\0x",
    ] {
        let mut socket = WebSocket::open(&house, "/probe/x").await;
        let stream = socket.0.get_mut();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.expect("no end").unwrap();
        // A close frame with 1002, and nothing behind it.
        assert_eq!(
            answer.get(..4),
            Some(&[0x88, answer[1], 0x03, 0xea][..]),
            "{bytes:?}: {answer:?}"
        );
    }
    let mut socket = WebSocket::open(&house, "/probe/x").await;
    socket.0.get_mut().write_all(b"\x81\x82\0\0\0\0\xc3\x28").await.unwrap();
    assert_eq!(socket.code().await, 1007);
    neighbour.end().await;
}
