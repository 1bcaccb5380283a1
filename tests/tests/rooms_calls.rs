//! Rooms that reach out: other rooms, other servers, and what must be durable before.

use guesthouse_tests::upstream::{Upstream, answer, until};
use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, guest, plugin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A house with rooms, and an endpoint beside them, that may call each other.
fn config(rest: &str) -> String {
    let lines = "routes = [\"/call/*\", \"/post/*\"]\nrooms = { routes = [\"/room/{room}\"] }\n";
    plugin("peers", &guest("peers"), &format!("{lines}{rest}"))
}

fn house() -> House {
    House::start(&config("peers = [\"peers\"]"))
}

/// A house whose rooms may also send requests there.
fn house_with(upstream: &Upstream) -> House {
    House::start(&config(&format!("peers = [\"peers\"]\nfetch = [\"{}\"]", upstream.url())))
}

/// A server whose answers wait until they may go.
async fn server(open: &Arc<Semaphore>) -> Upstream {
    let open = open.clone();
    Upstream::start(move |_, _| {
        let open = open.clone();
        async move {
            open.acquire().await.unwrap().forget();
            answer(200, "text/plain", "well")
        }
    })
    .await
}

async fn get(house: &House, path: &str) -> String {
    reqwest::get(format!("{}{path}", house.url)).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn an_endpoint_and_a_room_call_a_room_that_knows_who_calls() {
    let house = house();
    assert_eq!(get(&house, "/room/a?who").await, "nobody nobody a client");
    assert_eq!(get(&house, "/call/peers/a?who").await, "200 nobody nobody peers/-");
    let mut socket = WebSocket::open(&house, "/room/b").await;
    assert_eq!(socket.ask("call peers a who").await, "200 nobody nobody peers/b");
    // What the other room wrote is there when its answer is.
    assert_eq!(socket.ask("call peers a put=x").await, "200 put");
    let house = house.crash_and_restart();
    assert_eq!(get(&house, "/call/peers/a?get=x").await, "200 there");
    assert_eq!(get(&house, "/call/peers/b?get=x").await, "200 none");
}

#[tokio::test]
async fn the_caller_of_a_request_is_that_of_the_call_and_no_guest_can_say_another() {
    let auth = plugin("verifier", &guest("verifier"), "");
    let peers = config("auth = \"optional\"\npeers = [\"peers\"]");
    let house = House::start(&format!("[auth]\nplugin = \"verifier\"\n{auth}{peers}"));
    let ask = async |path: &str| {
        let request = reqwest::Client::new().get(format!("{}{path}", house.url));
        request.bearer_auth("good ann").send().await.unwrap().text().await.unwrap()
    };
    assert_eq!(ask("/room/a?who").await, "ann ann a client");
    assert_eq!(ask("/call/peers/a?who").await, "200 ann ann peers/-");
    assert_eq!(ask("/room/a?ring=b,c").await, "200 200 ann ann peers/b");
    // Nobody is left over from the request before.
    assert_eq!(get(&house, "/room/a?who").await, "nobody nobody a client");
    let fields = [("authorization", "Bearer good bob")];
    let mut bob = WebSocket::try_open(&house, "/room/a", &fields).await.unwrap();
    let mut nobody = WebSocket::open(&house, "/room/a").await;
    assert_eq!(bob.ask("who").await, "bob");
    assert_eq!(nobody.ask("who").await, "nobody");
    assert_eq!(bob.ask("call peers c who").await, "200 bob bob peers/a");
}

#[tokio::test]
async fn what_is_not_granted_or_not_there_is_not_called() {
    let all = plugin("other", &guest("room"), "rooms = { routes = [\"/other/{room}\"] }");
    let house = House::start(&(config("peers = [\"peers\"]") + &all));
    let denied = get(&house, "/call/other/a?events").await;
    assert!(denied.contains("Denied") && denied.contains("peers of [plugins.peers]"), "{denied}");
    house.wait_for_log("add \\\"other\\\" to `peers` of [plugins.peers]");
    let nameless = get(&house, "/call/peers/?who").await;
    assert!(nameless.contains("Invalid"), "{nameless}");

    let text = House::refuses(&config("peers = [\"nowhere\"]"));
    assert!(text.contains("names `nowhere`"), "{text}");
    let text = House::refuses(&config(""));
    assert!(text.contains("guesthouse:rooms/peers") && text.contains("peers = ["), "{text}");
}

#[tokio::test]
async fn a_room_that_fails_says_so_to_the_one_that_called_and_keeps_nothing() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/room/a").await;
    let failed = socket.ask("call peers b trap").await;
    assert!(failed.contains("Failed"), "{failed}");
    assert_eq!(socket.ask("call peers b who").await, "200 nobody nobody peers/a");
}

#[tokio::test]
async fn rooms_that_wait_for_each_other_in_a_ring_are_told_at_once() {
    let house = house();
    let began = Instant::now();
    for ring in ["a", "b,a", "b,c,b", "b,c,d,a"] {
        let said = get(&house, &format!("/room/a?ring={ring}")).await;
        assert!(said.contains("WouldDeadlock"), "{ring}: {said}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "a ring waited for its deadline");
    assert_eq!(get(&house, "/room/a?ring=b,c,d").await, "200 200 200 nobody nobody peers/c");
    // And a row without end ends.
    let said = get(&house, "/room/a?ring=b,c,d,e,f,g,h,i,j").await;
    assert!(said.contains("at most 8 rooms"), "{said}");
}

#[tokio::test]
async fn rooms_that_call_each_other_at_the_same_moment_wait_no_longer_than_they_may() {
    let house = House::start(&config("peers = [\"peers\"]\nlimits = { peer_call = \"1s\" }"));
    let (a, b) = tokio::join!(get(&house, "/room/a?cross=b"), get(&house, "/room/b?cross=a"));
    assert!(a.contains("Timeout") || b.contains("Timeout"), "{a} {b}");
    // Neither is stuck.
    assert_eq!(get(&house, "/room/a?who").await, "nobody nobody a client");
    assert_eq!(get(&house, "/room/b?who").await, "nobody nobody a client");
    let late = get(&house, "/call/peers/c?slow").await;
    assert!(late.contains("Timeout"), "{late}");
}

#[tokio::test]
async fn the_body_of_a_call_is_bounded() {
    let house = house();
    let most = 16 << 20;
    assert_eq!(get(&house, &format!("/room/a?large={most}")).await, most.to_string());
    let said = get(&house, &format!("/room/a?large={}", most + 1)).await;
    assert!(said.contains("Limit"), "{said}");
}

#[tokio::test]
async fn what_a_room_wrote_before_a_call_stays_and_what_it_wrote_after_does_not() {
    let open = Arc::new(Semaphore::new(100));
    let upstream = server(&open).await;
    let house = house_with(&upstream);
    for (room, command) in [
        ("a", "call-and-trap peers z who".to_owned()),
        ("b", format!("fetch-and-trap {}/x", upstream.url())),
    ] {
        let mut socket = WebSocket::open(&house, &format!("/room/{room}")).await;
        socket.say(&command).await;
        assert_eq!(socket.code().await, 1011);
        assert_eq!(get(&house, &format!("/room/{room}?get=before")).await, "there", "{command}");
        assert_eq!(get(&house, &format!("/room/{room}?get=after")).await, "none", "{command}");
    }
}

#[tokio::test]
async fn a_server_elsewhere_never_hears_of_what_a_crash_takes_back() {
    let closed = Arc::new(Semaphore::new(0));
    let upstream = server(&closed).await;
    let mut house = house_with(&upstream);
    for round in 1..=3 {
        let room = format!("/room/r{round}");
        let mut socket = WebSocket::open(&house, &room).await;
        socket.say(&format!("fetch-twice {}/{round}", upstream.url())).await;
        // What was sent before the request left with it.
        assert_eq!(socket.text().await, "one");
        until("the request", || upstream.seen().len() == round).await;
        house = house.crash_and_restart();
        assert_eq!(get(&house, &format!("{room}?get=one")).await, "there", "round {round}");
        assert_eq!(get(&house, &format!("{room}?get=two")).await, "none", "round {round}");
    }
}

#[tokio::test]
async fn a_request_leaves_in_the_middle_of_each_of_two_steps() {
    let open = Arc::new(Semaphore::new(2));
    let upstream = server(&open).await;
    let house = house_with(&upstream);
    let mut socket = WebSocket::open(&house, "/room/a").await;
    socket.say(&format!("fetch-twice {}/x", upstream.url())).await;
    assert_eq!(socket.text().await, "one");
    assert_eq!(socket.text().await, "200 200");
    assert_eq!(get(&house, "/room/a?get=two").await, "there");
}

#[tokio::test]
async fn an_alarm_whose_event_a_crash_cut_after_a_commit_rings_again() {
    let open = Arc::new(Semaphore::new(0));
    let upstream = server(&open).await;
    let house = house_with(&upstream);
    let mut socket = WebSocket::open(&house, "/room/a").await;
    assert_eq!(socket.ask(&format!("alarm {}/rung 10", upstream.url())).await, "set");
    until("the first ring", || upstream.seen().len() == 1).await;
    // What it wrote before the request is durable, and yet it has not ended.
    let house = house.crash_and_restart();
    until("the second ring", || upstream.seen().len() == 2).await;
    open.add_permits(10);
    let began = Instant::now();
    while !house.api("/v1/rooms/peers/a")["alarm"].is_null() {
        assert!(began.elapsed() < guesthouse_tests::PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(upstream.seen().len(), 2);
}

/// Waits until a room says this.
async fn wait_for(house: &House, path: &str, wanted: &str) {
    let began = Instant::now();
    loop {
        let said = get(house, path).await;
        if said == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{path}: {said:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn posts_leave_with_their_event_arrive_in_order_and_say_who_sends_them() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/room/a").await;
    assert_eq!(socket.ask("post peers b 100").await, "posted");
    let all: String = (0..100).map(|n| format!("{n} ")).collect();
    wait_for(&house, "/room/b?show=list", &all).await;
    assert_eq!(get(&house, "/room/b?show=by").await, "peers/a");
    // To itself: it comes when this event has ended.
    assert_eq!(socket.ask("post peers a 2").await, "posted");
    wait_for(&house, "/room/a?show=list", "0 1 ").await;
    // From an endpoint it leaves at once.
    assert_eq!(get(&house, "/post/peers/c?append=x").await, "posted");
    wait_for(&house, "/room/c?show=list", "x ").await;
    assert_eq!(get(&house, "/room/c?show=by").await, "peers/-");
}

#[tokio::test]
async fn what_an_event_posted_that_failed_or_may_not_is_never_sent() {
    let house = house();
    let mut socket = WebSocket::open(&house, "/room/a").await;
    socket.say("post-and-trap peers b put=x").await;
    assert_eq!(socket.code().await, 1011);
    let mut socket = WebSocket::open(&house, "/room/a").await;
    let denied = socket.ask("post other b 1").await;
    assert!(denied.contains("Denied("), "{denied}");
    assert!(socket.ask(&format!("post peers {} 1", "x".repeat(129))).await.contains("Invalid("));
    // One event sends no more than it may.
    socket.say("post peers b 10001").await;
    assert_eq!(socket.code().await, 1011);
    wait_for(&house, "/room/b?get=x", "none").await;
}

#[tokio::test]
async fn posts_for_which_a_room_has_no_place_are_lost_and_the_log_says_so() {
    let lines = "routes = [\"/call/*\"]\nrooms = { routes = [\"/room/{room}\"], mailbox = 4 }\n\
                 peers = [\"peers\"]";
    let house = House::start(&plugin("peers", &guest("peers"), lines));
    let mut socket = WebSocket::open(&house, "/room/a").await;
    assert_eq!(socket.ask("post peers b 2000").await, "posted");
    house.wait_for_log("a post of another room was lost");
    house.wait_for_log("rooms.mailbox");
    // What came arrived in its order, and the room is well.
    wait_for(&house, "/room/b?put=x", "put").await;
    let list = get(&house, "/room/b?show=list").await;
    let numbers: Vec<u32> = list.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!((1..2000).contains(&numbers.len()) && numbers.is_sorted(), "{list}");
}
