//! Rooms, through the real house, with a client that knows nothing of it.

use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, house_folder, plugin};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// A house with the example rooms and the probe.
fn config(probe: &str) -> String {
    let example = |name: &str| {
        plugin(
            name,
            &house_folder().join(format!("plugins/room-{name}.wasm")),
            &format!("rooms = {{ routes = [\"/{name}/{{room}}\", \"/{name}/{{room}}/*\"] }}"),
        )
    };
    let all: String = ["echo", "counter", "chat", "alarm"].map(example).concat();
    all + &plugin("probe", &guest("room"), probe)
}

fn house() -> House {
    House::start(&config("rooms = { routes = [\"/probe/{room}\"] }"))
}

async fn get(house: &House, path: &str) -> (u16, String) {
    let response = reqwest::get(format!("{}{path}", house.url)).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Waits until a request to a room is answered like this.
async fn wait_for(house: &House, path: &str, wanted: &str) {
    let began = Instant::now();
    loop {
        let (_, text) = get(house, path).await;
        if text.trim() == wanted.trim() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{path}: {text:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_client_sends_comes_back_in_order() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/echo/a").await;
    for n in 0..50 {
        assert_eq!(socket.ask(&format!("text {n}")).await, format!("text {n}"));
    }
    for n in 0..20 {
        socket.say(&n.to_string()).await;
    }
    for n in 0..20 {
        assert_eq!(socket.text().await, n.to_string());
    }
    let binary = Message::binary(vec![7; 100_000]);
    futures::SinkExt::send(&mut socket.0, binary.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), binary);
    socket.close().await;
}

#[tokio::test]
async fn a_chat_has_history_and_presence() {
    let house = house();
    let mut ann = WebSocket::open(&house, "/chat/den?name=ann").await;
    assert_eq!(ann.text().await, "=");
    assert_eq!(ann.ask("hello").await, "1 ann: hello");
    let mut bob = WebSocket::open(&house, "/chat/den?name=bob").await;
    assert_eq!(bob.text().await, "1 ann: hello");
    assert_eq!(bob.text().await, "=ann");
    assert_eq!(ann.text().await, "+bob");
    bob.say("hi").await;
    assert_eq!(ann.text().await, "2 bob: hi");
    assert_eq!(bob.text().await, "2 bob: hi");
    bob.close().await;
    assert_eq!(ann.text().await, "-bob");
    let mut back = WebSocket::open(&house, "/chat/den?name=bob&since=1").await;
    assert_eq!(back.text().await, "2 bob: hi");
    // Another room of the same name is another room.
    let mut other = WebSocket::open(&house, "/chat/attic?name=cat").await;
    assert_eq!(other.text().await, "=");
    let refused = WebSocket::try_open(&house, "/chat/den", &[]).await.err().unwrap();
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_number_that_was_seen_survives_a_crash() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/counter/c").await;
    for n in 1..=10 {
        assert_eq!(socket.ask("add").await, n.to_string());
    }
    let house = house.crash_and_restart();
    assert_eq!(get(&house, "/counter/c").await, (200, "10\n".to_owned()));
    assert_eq!(get(&house, "/counter/other").await, (200, "0\n".to_owned()));
}

#[tokio::test]
async fn what_must_hold_before_the_handshake_is_checked_before_it() {
    let house = house();
    let refused = async |path: &str, fields: &[(&str, &str)]| {
        WebSocket::try_open(&house, path, fields).await.err().map_or(101, |r| r.status)
    };
    let own = format!("http://{}", house.address());
    assert_eq!(refused("/echo/a", &[("origin", &own)]).await, 101);
    assert_eq!(refused("/echo/a", &[("origin", "http://evil.example.com")]).await, 403);
    assert_eq!(refused("/echo/a", &[("sec-websocket-version", "8")]).await, 426);
    assert_eq!(refused("/echo/a", &[("sec-websocket-key", "short")]).await, 400);
    assert_eq!(refused("/echo/%00", &[]).await, 404);
    assert_eq!(refused(&format!("/echo/{}", "x".repeat(129)), &[]).await, 404);
    assert_eq!(refused("/nowhere/a", &[]).await, 404);
    // A plain request to a room that answers none.
    assert_eq!(get(&house, "/echo/a").await.0, 404);
}

#[tokio::test]
async fn a_room_may_refuse_choose_and_greet() {
    let house = house();
    let refused = WebSocket::try_open(&house, "/probe/r?refuse", &[]).await.err().unwrap();
    assert_eq!(refused.status, 403);
    assert!(refused.has("x-why: because"));
    let trapped = WebSocket::try_open(&house, "/probe/r?trap", &[]).await.err().unwrap();
    assert_eq!(trapped.status, 500);
    assert!(!String::from_utf8_lossy(&trapped.body).contains("secret"));
    let mut socket = WebSocket::open(&house, "/probe/r?hello").await;
    assert_eq!(socket.text().await, "hello");
    // What a refused attempt wrote was taken back with it.
    assert_eq!(socket.ask("get refused").await, "none");
    let fields = [("sec-websocket-protocol", "bearer.s3cret, v1, v2")];
    let socket = WebSocket::try_open(&house, "/probe/r?token=s3cret", &fields).await.unwrap();
    drop(socket);
    let fields = [("authorization", "Bearer s3cret")];
    let mut socket = WebSocket::try_open(&house, "/probe/r?seen", &fields).await.unwrap();
    assert_eq!(socket.text().await, "/probe/r?seen host,x-request-id");
    assert!(!house.log().contains("s3cret"), "{}", house.log());
}

#[tokio::test]
async fn a_room_knows_who_was_verified_and_a_socket_ends_with_its_token() {
    let probe = |auth: &str| {
        format!("[auth]\nplugin = \"verifier\"\n{}", plugin("verifier", &guest("verifier"), ""))
            + &plugin(
                "probe",
                &guest("room"),
                &format!("auth = \"{auth}\"\nrooms = {{ routes = [\"/probe/{{room}}\"] }}"),
            )
    };
    let house = House::start(&probe("required"));
    let refused = WebSocket::try_open(&house, "/probe/a?who", &[]).await.err().unwrap();
    assert_eq!(refused.status, 401);
    let shown = |token: &'static str| [("authorization", token)];
    let forged = WebSocket::try_open(&house, "/probe/a?who", &shown("Bearer bad x")).await;
    assert_eq!(forged.err().unwrap().status, 401);
    let mut ann =
        WebSocket::try_open(&house, "/probe/a?who", &shown("Bearer good ann")).await.unwrap();
    assert_eq!(ann.text().await, "ann");
    let mut brief =
        WebSocket::try_open(&house, "/probe/a?who", &shown("Bearer brief 2000")).await.unwrap();
    assert_eq!(brief.text().await, "brief");
    assert_eq!(brief.code().await, 4401);

    let house = House::start(&probe("optional"));
    let mut nobody = WebSocket::open(&house, "/probe/a?who").await;
    assert_eq!(nobody.text().await, "nobody");
}

#[tokio::test]
async fn a_ticket_lets_its_owner_into_its_room_once() {
    const TICKET: &str = "application/vnd.guesthouse.ticket+json";
    let verifier = plugin("verifier", &guest("verifier"), "");
    let lines = "auth = \"required\"\nrooms = { routes = [\"/probe/{room}\"], ticket = \"1s\" }";
    let probe = plugin("probe", &guest("room"), lines);
    let house = House::start(&format!("[auth]\nplugin = \"verifier\"\n{verifier}{probe}"));
    let ask = async |room: &str, token: Option<&str>, origin: &str| {
        let request = reqwest::Client::new().post(format!("{}/probe/{room}", house.url));
        let request = request.header("accept", TICKET).header("origin", origin);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap()
    };
    let own = format!("http://{}", house.address());
    let ticket = async |room: &str, token: &str| {
        let answer = ask(room, Some(token), &own).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(answer["expires_in"], 1);
        answer["ticket"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("a", None, &own).await.status(), 401);
    assert_eq!(ask("a", Some("bad x"), &own).await.status(), 401);
    assert_eq!(ask("a", Some("good ann"), "http://evil.example.com").await.status(), 403);

    let anns = ticket("a", "good ann").await;
    let refused = async |path: &str| {
        let answer = WebSocket::try_open(&house, path, &[]).await.err().unwrap();
        assert!(String::from_utf8_lossy(&answer.body).contains("ticket-invalid"), "{path}");
        answer.status
    };
    assert_eq!(refused(&format!("/probe/b?ticket={anns}")).await, 401);
    assert_eq!(refused("/probe/a?ticket=made-up").await, 401);
    let mut ann = WebSocket::open(&house, &format!("/probe/a?who&ticket={anns}")).await;
    assert_eq!(ann.text().await, "ann");
    assert_eq!(refused(&format!("/probe/a?ticket={anns}")).await, 401);

    let late = ticket("a", "good ann").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(refused(&format!("/probe/a?ticket={late}")).await, 401);

    // The token behind it ends the socket as if it had been shown.
    let brief = ticket("a", "brief 2000").await;
    let mut brief = WebSocket::open(&house, &format!("/probe/a?ticket={brief}")).await;
    assert_eq!(brief.code().await, 4401);
    assert!(!house.log().contains(&anns), "{}", house.log());
}

#[tokio::test]
async fn an_event_that_fails_leaves_nothing_behind_and_closes_its_client_alone() {
    let house = house();
    let mut other = WebSocket::open(&house, "/probe/t").await;
    for command in ["put-and-trap", "put-and-err", "trap", "bomb"] {
        let mut socket = WebSocket::open(&house, "/probe/t").await;
        socket.say(command).await;
        assert_eq!(socket.code().await, 1011, "{command}");
        assert_eq!(other.ask("get lost").await, "none", "{command}");
    }
    let mut socket = WebSocket::open(&house, "/probe/t").await;
    assert_eq!(socket.ask("commit-and-trap").await, "kept");
    assert_eq!(socket.code().await, 1011);
    assert_eq!(other.ask("get kept").await, "1");
    assert_eq!(other.ask("get lost").await, "none");
    assert_eq!(get(&house, "/probe/t?trap").await.0, 500);
}

#[tokio::test]
async fn tags_attachments_and_exceptions_are_kept_by_the_host() {
    let house = house();
    let mut red = WebSocket::open(&house, "/probe/g?tag=red").await;
    let mut blue = WebSocket::open(&house, "/probe/g?tag=blue").await;
    assert_eq!(blue.ask("tagged red psst").await, "1 of 2");
    assert_eq!(red.text().await, "psst");
    red.say("say all but me").await;
    assert_eq!(blue.text().await, "all but me");
    red.say("attach mine").await;
    assert_eq!(red.ask("attached").await, "mine");
    // The instance goes with the trap; what the host keeps does not.
    let mut trap = WebSocket::open(&house, "/probe/g").await;
    trap.say("trap").await;
    assert_eq!(trap.code().await, 1011);
    assert_eq!(red.ask("attached").await, "mine");
    assert_eq!(blue.ask("attached").await, "tag=blue");
}

#[tokio::test]
async fn a_room_closes_with_its_own_code_and_is_told_of_every_end_once() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/probe/e?first").await;
    socket.say("close 4000 enough").await;
    assert_eq!(socket.code().await, 4000);
    WebSocket::open(&house, "/probe/e?second").await.close().await;
    // A client that is gone without a word.
    drop(WebSocket::open(&house, "/probe/e?third").await);
    wait_for(&house, "/probe/e?closes", "4000 first 1 gone\n1005 second 1 gone\n1006 third 1 gone")
        .await;
    assert_eq!(get(&house, "/probe/e?open").await.1, "0");
}

#[tokio::test]
async fn after_a_crash_every_open_connection_is_closed_exactly_once() {
    let house = house();
    let mut sockets = Vec::new();
    for n in 0..5 {
        sockets.push(WebSocket::open(&house, &format!("/probe/k?c{n}")).await);
    }
    sockets[0].say("attach changed").await;
    assert_eq!(sockets[0].ask("attached").await, "changed");
    let house = house.crash_and_restart();
    let wanted =
        "1006 changed 1 gone\n1006 c1 1 gone\n1006 c2 1 gone\n1006 c3 1 gone\n1006 c4 1 gone";
    wait_for(&house, "/probe/k?closes", wanted).await;
    let house = house.crash_and_restart();
    wait_for(&house, "/probe/k?closes", wanted).await;
    assert_eq!(get(&house, "/probe/k?open").await.1, "0");
}

#[tokio::test]
async fn a_room_sleeps_and_its_sockets_do_not() {
    let house = House::start(&config("rooms = { routes = [\"/probe/{room}\"], idle = \"50ms\" }"));
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(WebSocket::open(&house, "/probe/counted").await);
    }
    assert_eq!(sockets[0].ask("echo x").await, "x");
    let starts = get(&house, "/probe/counted?starts").await.1;
    let began = Instant::now();
    while house.api("/v1/rooms/probe/counted")["awake"] != false {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What the host answers or relays wakes nobody.
    assert_eq!(sockets[1].ask("ping").await, "pong");
    let chatter = Message::binary(vec![1, 2, 3]);
    futures::SinkExt::send(&mut sockets[2].0, chatter.clone()).await.unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.next().await.unwrap().unwrap(), chatter);
    }
    let seen = house.api("/v1/rooms/probe/counted");
    assert_eq!((&seen["awake"], &seen["sockets"]), (&false.into(), &20.into()));
    // And a message does.
    assert!(sockets[2].ask("relayed").await.contains("[1, 2, 3]"));
    let after: u64 = get(&house, "/probe/counted?starts").await.1.parse().unwrap();
    assert_eq!(after, starts.parse::<u64>().unwrap() + 1);
}

#[tokio::test]
async fn an_alarm_rings_also_when_the_house_was_closed_meanwhile() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/alarm/a").await;
    socket.say("in 50").await;
    assert_eq!(socket.text().await, "ring 1");
    socket.say("in 1500").await;
    socket.say("in 1500").await;
    assert!(socket.ask("help").await.contains("MILLISECONDS"));
    let house = house.crash_and_restart();
    wait_for(&house, "/alarm/a", "3").await;
}

#[tokio::test]
async fn an_alarm_that_fails_is_tried_again() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/probe/f").await;
    assert_eq!(socket.ask("put alarm-traps 1").await, "done");
    assert_eq!(socket.ask("alarm 10").await, "set");
    // What the first try wrote was taken back.
    assert_eq!(socket.text().await, "ring 1");
    assert_eq!(socket.ask("get rung").await.as_bytes(), [0, 0, 0, 0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn when_the_house_closes_clients_are_told_to_come_back() {
    let mut house = house();
    let mut socket = WebSocket::open(&house, "/probe/q?x").await;
    assert_eq!(socket.ask("echo x").await, "x");
    house.terminate();
    assert_eq!(socket.code().await, 1012);
    assert_eq!(house.wait(), 0);
    let house = house.crash_and_restart();
    wait_for(&house, "/probe/q?closes", "1012 x 1 gone").await;
}

#[tokio::test]
async fn a_room_can_be_looked_at_closed_and_deleted_by_the_operator() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/probe/o").await;
    assert_eq!(socket.ask("fill 2500 10").await, "filled");
    let list = house.api("/v1/rooms?plugin=probe");
    assert_eq!(list["rooms"][0]["name"], "o", "{list}");
    assert_eq!(list["rooms"][0]["sockets"], 1);
    let (code, text) = house.run(&["rooms", "probe"]);
    assert!(code == 0 && text.contains('o'), "{text}");
    let (code, text) = house.run(&["rooms", "close", "probe", "o"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(socket.code().await, 1001);
    let (code, text) = house.run(&["rooms", "export", "probe", "o"]);
    assert!(code == 0 && text.lines().count() > 2500, "{}", text.lines().count());
    let (code, text) = house.run(&["rooms", "delete", "probe", "o"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(get(&house, "/probe/o?keys").await.1, "0");
}

#[tokio::test]
async fn limits_hold_and_say_which_they_are() {
    let probe = "rooms = { routes = [\"/probe/{room}\"], message = 1000, rate = 50, sockets = 3, \
                 keys = 100, storage = \"10KiB\" }";
    let house = House::start(&config(probe));
    let mut socket = WebSocket::open(&house, "/probe/l").await;
    assert_eq!(socket.ask(&format!("echo {}", "x".repeat(995))).await.len(), 995);
    socket.say(&"x".repeat(1001)).await;
    assert_eq!(socket.code().await, 1009);

    let mut socket = WebSocket::open(&house, "/probe/l").await;
    for _ in 0..200 {
        if futures::SinkExt::send(&mut socket.0, Message::text("echo x")).await.is_err() {
            break;
        }
    }
    assert_eq!(socket.code().await, 1008);

    let (_a, _b) =
        (WebSocket::open(&house, "/probe/m").await, WebSocket::open(&house, "/probe/m").await);
    let _c = WebSocket::open(&house, "/probe/m").await;
    let full = WebSocket::try_open(&house, "/probe/m", &[]).await.err().unwrap();
    assert_eq!(full.status, 503);
    assert!(full.has("retry-after"));

    for fill in ["fill 101 1", "fill 2 9000"] {
        let mut socket = WebSocket::open(&house, "/probe/n").await;
        socket.say(fill).await;
        assert_eq!(socket.code().await, 1011, "{fill}");
        house.wait_for_log(if fill.ends_with('1') { "rooms.keys" } else { "rooms.storage" });
    }
}

async fn past_binaries(socket: &mut WebSocket, said: &str) -> String {
    socket.say(said).await;
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            return text.as_str().to_owned();
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_loses_what_may_be_lost_and_then_its_place() {
    let probe = "rooms = { routes = [\"/probe/{room}\"], queue = \"256KiB\" }\nlimits = { memory = \"64MiB\" }";
    let house = House::start(&config(probe));
    let mut slow = WebSocket::open(&house, "/probe/s").await;
    let mut other = WebSocket::open(&house, "/probe/s").await;
    // 12.8 MB that may be left out: the slow one keeps its place.
    other.say("drops").await;
    assert_eq!(past_binaries(&mut slow, "echo here").await, "here");
    // 9 MB that may not.
    other.say("storm 1000").await;
    let reader =
        tokio::spawn(async move { while other.next().await.is_some_and(|m| m.is_ok()) {} });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(slow.code().await, 1013);
    reader.abort();
    wait_for(&house, "/probe/s?body", "GET 0").await;
}

#[tokio::test]
async fn a_room_that_spins_holds_up_nobody_else() {
    // Whoever waits for the others reads no pings meanwhile.
    let probe = "rooms = { routes = [\"/probe/{room}\"], ping = \"10m\" }\nlimits = { cpu = \"300ms\", wall = \"10m\" }";
    let house = House::start(&config(probe));
    let mut spinners = Vec::new();
    for n in 0..8 {
        let mut socket = WebSocket::open(&house, &format!("/probe/spin{n}")).await;
        socket.say("spin").await;
        spinners.push(socket);
    }
    let mut socket = WebSocket::open(&house, "/echo/next-door").await;
    for n in 0..100 {
        assert_eq!(socket.ask(&n.to_string()).await, n.to_string());
    }
    for spinner in &mut spinners {
        assert_eq!(spinner.code().await, 1011);
    }
    house.wait_for_log("limits.cpu");
}

#[test]
fn what_is_wrong_with_rooms_is_said_before_the_door_opens() {
    let refused = |probe: &str| House::refuses(&config(probe));
    let text = refused("rooms = { routes = [\"/probe\"] }");
    assert!(text.contains("must say where a room's name stands"), "{text}");
    let text = refused("rooms = { routes = [\"/probe/{room}\"], orgins = [] }");
    assert!(text.contains("origins"), "{text}");
    let text = refused("routes = [\"/probe/*\"]");
    assert!(text.contains("rooms = {"), "{text}");
    let hello = plugin("hello", &guest("wit_bindgen"), "rooms = { routes = [\"/h/{room}\"] }");
    let house = House::start_at_once(&hello);
    house.wait_for_log("does not export guesthouse:rooms/room");
}
