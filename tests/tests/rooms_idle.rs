//! Ten thousand people who say nothing.

use guesthouse_tests::clients::skip;
use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, house_folder, plugin};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::{Duration, Instant};

const SOCKETS: usize = 10_000;
/// Rooms that they are in.
const ROOMS: usize = 100;
/// Who opens at the same moment.
const AT_ONCE: usize = 200;
/// Resident memory of the house for each, beyond what the kernel has for it.
const KIB_EACH: u64 = 12;

#[tokio::test]
async fn ten_thousand_sockets_cost_little_and_keep_no_room_awake() {
    let most = getrlimit(Resource::Nofile).maximum;
    if most.is_some_and(|most| most < 2 * SOCKETS as u64) {
        skip(&format!(
            "the hard limit of open files is {most:?}: raise it with `ulimit -Hn 40000`"
        ));
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let echo = plugin(
        "echo",
        &house_folder().join("plugins/room-echo.wasm"),
        "rooms = { routes = [\"/echo/{room}\"], idle = \"1s\", ping = \"10m\" }",
    );
    let house = House::start(&format!("[server]\nmax_connections = 20000\n{echo}"));
    let url = |n: usize| format!("/echo/{}", n % ROOMS);
    // What the first of each room brings is not each one's.
    let mut sockets = Vec::new();
    for n in 0..ROOMS {
        sockets.push(WebSocket::open(&house, &url(n)).await);
    }
    asleep(&house).await;
    let before = house.rss_kib();
    while sockets.len() < SOCKETS {
        let many = AT_ONCE.min(SOCKETS - sockets.len());
        let opening = (0..many).map(|n| {
            let url = url(n);
            let house = &house;
            async move { WebSocket::open(house, &url).await }
        });
        sockets.extend(futures::future::join_all(opening).await);
    }
    asleep(&house).await;
    let each = house.rss_kib().saturating_sub(before) / (SOCKETS - ROOMS) as u64;
    println!("{each} KiB for each idle socket");
    assert!(each <= KIB_EACH, "{each} KiB for each idle socket");

    let list = house.api("/v1/rooms?plugin=echo");
    let open: u64 =
        list["rooms"].as_array().unwrap().iter().map(|r| r["sockets"].as_u64().unwrap()).sum();
    assert_eq!(open, SOCKETS as u64);
    // All of them are there, and a message wakes its room.
    let mut waits = Vec::new();
    for socket in sockets.iter_mut().step_by(97) {
        let began = Instant::now();
        assert_eq!(socket.ask("still here?").await, "still here?");
        waits.push(began.elapsed());
    }
    waits.sort();
    println!("woken and answered in {:?} (median)", waits[waits.len() / 2]);
}

/// Waits until no room has an instance.
async fn asleep(house: &House) {
    let began = Instant::now();
    loop {
        let list = house.api("/v1/rooms?plugin=echo");
        let rooms = list["rooms"].as_array().unwrap();
        if rooms.iter().all(|room| room["awake"] == false) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{list}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
