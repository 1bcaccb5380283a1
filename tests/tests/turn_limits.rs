//! Each limit of `[turn]` at its edge, through the real binary: what is within it goes on, what is beyond it is
//! refused with its code, or dropped and counted.

use guesthouse_tests::House;
use guesthouse_tests::relay::{Client, challenge, credential};
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const SECRET: &str = "a secret of the tests, and of nobody else";
const KIB: u64 = 1024;

fn house(more: &str) -> House {
    let config = format!(
        "[server]\naccess_log = false\n[turn]\nlisten = [\"udp://127.0.0.1:0\", \"tcp://127.0.0.1:0\"]\n\
         allow_private_peers = true\n{more}\n"
    );
    House::start_with(&config, &[("TURN_SECRET", SECRET)])
}

/// UDP and TCP have the same one.
fn relay(house: &House) -> SocketAddr {
    let all = house.api("/v1/turn");
    let first = all["listeners"][0].as_str().unwrap();
    first.strip_prefix("udp://").unwrap().parse().unwrap()
}

fn client(house: &House, user: &str) -> Client {
    Client::new(relay(house), credential(SECRET, user))
}

fn counter(house: &House, name: &str) -> u64 {
    house.api("/v1/turn")["counters"][name].as_u64().unwrap()
}

fn sent(house: &House) -> u64 {
    house.api("/v1/turn")["traffic"]["udp"]["bytes_to_peers"].as_u64().unwrap()
}

/// A peer that takes everything and says nothing.
fn sink() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn an_allocation_has_so_many_permissions_and_those_it_has_can_be_refreshed() {
    let house = house("permissions = 2");
    let client = client(&house, "alice");
    client.allocate(true).unwrap();
    let peer = |last: u8| SocketAddr::from(([127, 0, 0, last], 9));
    let codes = [1, 2, 3, 1, 2].map(|last| client.permit(peer(last)));
    assert_eq!(codes, [0, 0, 508, 0, 0]);
    // A channel brings a permission with it.
    assert_eq!(client.bind(0x4000, peer(3)), 508);
    assert_eq!(client.bind(0x4000, peer(2)), 0);
    assert_eq!(counter(&house, "refused_peer_quota"), 2);
}

#[test]
fn an_allocation_has_so_many_channels_and_those_it_has_can_be_refreshed() {
    let house = house("channels = 2");
    let client = client(&house, "alice");
    client.allocate(true).unwrap();
    let peer = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let codes = [1, 2, 3, 1].map(|n: u16| client.bind(0x4000 + n, peer(n)));
    assert_eq!(codes, [0, 0, 508, 0]);
    // Another peer for a number that is taken is no sense, not a quota.
    assert_eq!(client.bind(0x4001, peer(4)), 400);
    assert_eq!(counter(&house, "refused_peer_quota"), 1);
}

#[test]
fn a_range_of_ports_that_is_used_up_is_508() {
    let house = house("ports = \"64110-64111\"");
    let clients = ["a", "b", "c"].map(|user| client(&house, user));
    let answers = clients.each_ref().map(|client| client.allocate(true));
    // Another program may have one of the two.
    assert_eq!(answers[2], Err(508));
    for relay in answers.iter().flatten() {
        assert!((64_110..=64_111).contains(&relay.port()), "{relay}");
    }
    assert!(counter(&house, "refused_capacity") >= 1);
}

#[test]
fn no_allocation_lives_longer_than_lifetime_without_a_refresh() {
    let house = house("lifetime = \"60s\"");
    let client = client(&house, "alice");
    client.allocate(true).unwrap();
    let remaining = || {
        let all = house.api("/v1/turn/allocations");
        all["allocations"][0]["remaining"].as_u64().unwrap()
    };
    assert!(remaining() <= 60);
    // It asks for ten minutes.
    assert_eq!(client.refresh(), 0);
    assert!(remaining() <= 60);
}

/// Clients send as much as they can; as much arrives as the bucket has, and what time gives back meanwhile.
fn throttled(limit: &str, users: &[&str], buckets: u64) {
    const RATE: u64 = 64 * KIB;
    const PACKETS: u64 = 150;
    let others: String = ["bandwidth", "user_bandwidth", "total_bandwidth"]
        .iter()
        .filter(|key| **key != limit)
        .map(|key| format!("{key} = 0\n"))
        .collect();
    let house = house(&format!("{limit} = \"64KiB\"\n{others}"));
    let (_peer, address) = sink();
    let clients: Vec<Client> = users.iter().map(|user| client(&house, user)).collect();
    let began = Instant::now();
    for client in &clients {
        client.allocate(true).unwrap();
        assert_eq!(client.bind(0x4000, address), 0);
        // The answer comes when all before it was handled: more at once might be too much for the system.
        for _ in 0..PACKETS / 25 {
            for _ in 0..25 {
                client.send_by(0x4000, &[7; 1024]);
            }
            assert_eq!(client.refresh(), 0);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let (sent, dropped) = (sent(&house), counter(&house, "throttled_packets"));
    assert_eq!(sent / KIB + dropped, PACKETS * users.len() as u64, "none is lost otherwise");
    let most = (buckets * RATE) as f64 * (1.0 + seconds);
    assert!(sent >= buckets * RATE && sent as f64 <= most, "{sent} bytes in {seconds} s");
}

#[test]
fn an_allocation_has_its_bandwidth() {
    throttled("bandwidth", &["alice", "alice"], 2);
}

#[test]
fn all_allocations_of_a_user_share_the_users_bandwidth() {
    throttled("user_bandwidth", &["alice", "alice", "bob"], 2);
}

#[test]
fn all_users_share_the_bandwidth_of_the_relay() {
    throttled("total_bandwidth", &["alice", "bob", "carol"], 1);
}

#[test]
fn what_a_slow_client_over_tcp_does_not_take_is_dropped_beyond_queue_and_it_goes_on() {
    let house = house("queue = \"64KiB\"\nbandwidth = 0\nuser_bandwidth = 0\ntotal_bandwidth = 0");
    let client = Client::over_tcp(relay(&house), credential(SECRET, "alice"));
    let own = client.allocate(true).unwrap();
    let (peer, address) = sink();
    assert_eq!(client.bind(0x4000, address), 0);
    let before = house.rss_kib();
    let began = Instant::now();
    // What the system keeps for a connection is full after some megabytes.
    while counter(&house, "dropped_packets") == 0 {
        assert!(began.elapsed() < guesthouse_tests::PATIENCE, "everything finds a place");
        for _ in 0..200 {
            _ = peer.send_to(&[7; 8000], own);
        }
    }
    let grown = house.rss_kib().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB for one slow client");
    assert_eq!(client.refresh(), 0, "what it asks is answered all the same");
}

#[test]
fn so_many_connections_are_taken_in_all() {
    let house = house("connections = 2\nnetwork_connections = 100");
    let relay = relay(&house);
    let held = [0; 2].map(|_| Client::over_tcp(relay, credential(SECRET, "alice")));
    let mut third = TcpStream::connect(relay).unwrap();
    third.set_read_timeout(Some(guesthouse_tests::PATIENCE)).unwrap();
    // Closed at once, with or without a reset.
    assert_eq!(third.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(house.api("/v1/turn")["connections"], 2);
    drop(held);
}

#[test]
fn strangers_of_one_network_are_answered_so_often() {
    let house = house("unauthenticated = \"5/s\"");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let relay = relay(&house);
    let began = Instant::now();
    for _ in 0..100 {
        socket.send_to(&challenge().raw, relay).unwrap();
    }
    while counter(&house, "challenged") < 100 {
        assert!(began.elapsed() < guesthouse_tests::PATIENCE, "not all of them arrived");
    }
    let most = 5.0 * (1.0 + began.elapsed().as_secs_f64());
    let (unanswered, mut answers) = (counter(&house, "unanswered"), 0);
    while socket.recv(&mut [0; 2048]).is_ok() {
        answers += 1;
    }
    assert_eq!(answers + unanswered, 100);
    assert!(answers >= 5 && answers as f64 <= most, "{answers} answers, at most {most}");
}

#[test]
fn a_foreign_credential_and_another_realm_are_refused_by_their_codes() {
    let house = house("");
    let stranger = client(&house, "alice").in_realm("elsewhere");
    assert_eq!(stranger.allocate(true), Err(401));
    let client = client(&house, "alice");
    client.allocate(true).unwrap();
    let foreign = client.with(credential(SECRET, "bob"));
    let (_peer, address) = sink();
    assert_eq!(foreign.permit(address), 441);
    assert_eq!(foreign.bind(0x4000, address), 441);
    assert_eq!(foreign.refresh(), 441);
    // A new credential of the same user is the same user.
    let again = foreign.with(credential(SECRET, "alice"));
    assert_eq!(again.permit(address), 0);
    assert_eq!(counter(&house, "refused_foreign"), 3);
}
