//! The relay through the real binary: coturn's client, a client that breaks the rules, and floods.

use guesthouse_tests::relay::{Client, challenge, credential, expiring};
use guesthouse_tests::{House, clients, guest, plugin};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SECRET: &str = "a secret of the tests, and of nobody else";

/// A house with a relay; `more` are lines of `[turn]`.
fn house(listen: &str, more: &str) -> House {
    let config = format!("[server]\naccess_log = false\n[turn]\nlisten = [{listen}]\n{more}\n");
    House::start_with(&config, &[("TURN_SECRET", SECRET)])
}

fn plain(more: &str) -> House {
    house("\"udp://127.0.0.1:0\"", more)
}

/// Where the relay listens for this transport.
fn listener(house: &House, transport: &str) -> SocketAddr {
    let relay = house.api("/v1/turn");
    let prefix = format!("{transport}://");
    let all = relay["listeners"].as_array().unwrap();
    let found = all.iter().find_map(|one| one.as_str().unwrap().strip_prefix(&prefix));
    found.unwrap_or_else(|| panic!("no {transport} in {relay}")).parse().unwrap()
}

fn counter(house: &House, name: &str) -> u64 {
    house.api("/v1/turn")["counters"][name].as_u64().unwrap()
}

/// Sends back whatever arrives, and counts it.
struct Echo {
    address: SocketAddr,
    packets: Arc<AtomicU64>,
}

fn echo(on: &str) -> Echo {
    let socket = UdpSocket::bind(on).unwrap();
    let address = socket.local_addr().unwrap();
    let packets = Arc::new(AtomicU64::new(0));
    let count = packets.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            _ = socket.send_to(&buffer[..length], from);
        }
    });
    Echo { address, packets }
}

/// Runs coturn's client. None: it is missing, and that was said.
fn uclient(relay: SocketAddr, arguments: &[&str]) -> Option<(bool, String)> {
    let program = clients::tool("GUESTHOUSE_TURNUTILS")?;
    let mut command = Command::new(program);
    command.args(arguments).args(["-c", "-p", &relay.port().to_string(), &relay.ip().to_string()]);
    let output = clients::finish(&mut command);
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// The files of a certificate for TLS.
fn certificate(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("turn.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("turn.key"), made.signing_key.serialize_pem()).unwrap();
    format!(
        "certificate = {:?}\nkey = {:?}",
        folder.join("turn.crt").to_str().unwrap(),
        folder.join("turn.key").to_str().unwrap()
    )
}

#[test]
fn coturns_client_loses_nothing_over_udp_tcp_and_tls_by_channels_and_indications() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("allow_private_peers = true\n{}", certificate(folder.path()));
    let house = house(
        "\"udp://127.0.0.1:0\", \"tcp://127.0.0.1:0\", \"tls://127.0.0.1:0\", \"udp://[::1]:0\"",
        &more,
    );
    let (v4, v6) = (echo("127.0.0.1:0"), echo("[::1]:0"));
    for (transport, flags) in [
        ("udp", &[][..]),
        ("udp", &["-s"]),
        ("tcp", &["-t"]),
        ("tcp", &["-t", "-s"]),
        ("tls", &["-t", "-S"]),
    ] {
        let port = v4.address.port().to_string();
        let mut arguments = vec!["-u", "alice", "-W", SECRET, "-n", "40", "-m", "2"];
        arguments.extend(["-l", "171", "-e", "127.0.0.1", "-r", &port]);
        arguments.extend(flags);
        let Some((success, text)) = uclient(listener(&house, transport), &arguments) else {
            return;
        };
        assert!(success && text.contains("Total lost packets 0 "), "{transport} {flags:?}\n{text}");
    }
    assert_eq!(v4.packets.load(Ordering::Relaxed), 5 * 80);
    // IPv6 on both sides.
    let port = v6.address.port().to_string();
    let all = house.api("/v1/turn");
    let listeners = all["listeners"].as_array().unwrap().iter();
    let mut six = listeners.filter_map(|one| one.as_str().unwrap().strip_prefix("udp://[::1]:"));
    let six = SocketAddr::new("::1".parse().unwrap(), six.next().unwrap().parse().unwrap());
    let arguments =
        ["-u", "alice", "-W", SECRET, "-n", "20", "-m", "1", "-x", "-e", "::1", "-r", &port];
    let (success, text) = uclient(six, &arguments).unwrap();
    assert!(success && text.contains("Total lost packets 0 "), "{text}");
    let traffic = house.api("/v1/turn");
    for transport in ["udp", "tcp", "tls"] {
        assert!(traffic["traffic"][transport]["packets_from_peers"].as_u64().unwrap() >= 80);
    }
}

#[test]
fn coturns_client_is_refused_with_401_when_it_should_be() {
    let house = plain("allow_private_peers = true");
    let relay = listener(&house, "udp");
    let (username, _) = credential(SECRET, "alice");
    let (old, old_password) = expiring(SECRET, "alice", -1);
    for (username, password) in [(&username, &"wrong".to_owned()), (&old, &old_password)] {
        let arguments = ["-u", username, "-w", password, "-n", "1", "-m", "1", "-e", "127.0.0.1"];
        let Some((success, text)) = uclient(relay, &arguments) else { return };
        assert!(!success && text.contains("Cannot complete Allocation"), "{text}");
    }
    assert_eq!(house.api("/v1/turn")["allocations"], 0);
    // It does not print the code; that of a client which does.
    let wrong = (username, "wrong".to_owned());
    assert_eq!(Client::new(relay, wrong).allocate(true), Err(401));
    assert_eq!(Client::new(relay, (old, old_password)).allocate(true), Err(401));
    assert!(counter(&house, "expired_credentials") > 0 && counter(&house, "bad_credentials") > 0);
}

#[test]
fn both_secrets_are_good_while_one_replaces_the_other() {
    let config =
        "[turn]\nlisten = [\"udp://127.0.0.1:0\"]\nsecrets = [\"NEW_SECRET\", \"OLD_SECRET\"]\n";
    let both = [("NEW_SECRET", "the new one"), ("OLD_SECRET", "the old one")];
    let house = House::start_with(config, &both);
    let relay = listener(&house, "udp");
    for secret in ["the new one", "the old one"] {
        Client::new(relay, credential(secret, secret)).allocate(true).unwrap();
    }
    assert_eq!(Client::new(relay, credential("another", "x")).allocate(true), Err(401));
    // The text of neither is anywhere that an operator looks.
    for text in [house.log(), house.api("/v1/turn").to_string()] {
        assert!(!text.contains("the new one") && !text.contains("the old one"), "{text}");
    }
}

#[test]
fn a_credential_that_ends_while_it_is_used_is_refused_at_the_next_refresh() {
    let house = plain("");
    let client = Client::new(listener(&house, "udp"), expiring(SECRET, "alice", 2));
    client.allocate(true).unwrap();
    let began = std::time::Instant::now();
    while client.refresh() == 0 {
        assert!(began.elapsed() < guesthouse_tests::PATIENCE, "it never ends");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.refresh(), 401);
}

/// Ranges and spellings of the deny table, by family.
const DENIED: [&[&str]; 2] = [
    &[
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.0.0.2",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ],
    &[
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::ffff:10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2620:4f:8000::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
];

#[test]
fn no_packet_arrives_at_a_denied_peer_however_it_is_written() {
    let house = house("\"udp://127.0.0.1:0\", \"udp://[::1]:0\"", "deny = [\"8.8.8.0/24\"]");
    let all = house.api("/v1/turn");
    let find = |prefix: &str| -> SocketAddr {
        let listeners = all["listeners"].as_array().unwrap().iter();
        let mut found = listeners.filter_map(|one| one.as_str().unwrap().strip_prefix("udp://"));
        found.find(|one| one.starts_with(prefix)).unwrap().parse().unwrap()
    };
    // What would be reached: loopback of both families, on one port. The house's doors are there as well.
    let (v4, v6) = (echo("127.0.0.1:0"), echo("[::1]:0"));
    let admin: u16 = house.admin.rsplit_once(':').unwrap().1.parse().unwrap();
    for (relay, addresses, ipv4) in
        [(find("127."), DENIED[0], true), (find("[::1]"), DENIED[1], false)]
    {
        let client = Client::new(relay, credential(SECRET, "alice"));
        let own = client.allocate(ipv4).unwrap();
        let mut number = 0x4000;
        for text in addresses.iter().chain(if ipv4 { &["8.8.8.8"][..] } else { &[] }) {
            let ip: IpAddr = text.parse().unwrap();
            for port in [v4.address.port(), v6.address.port(), admin] {
                let peer = SocketAddr::new(ip, port);
                // The relay itself is at a loopback address here, and other clients of the house may be reached
                // at it: not its other ports.
                let expected = if ip == own.ip() { 0 } else { 403 };
                assert_eq!(client.permit(peer), expected, "{peer}");
                client.send(peer, b"in");
                number += 1;
                let bound = client.bind(number, peer);
                assert!(bound == expected || bound == 508, "{peer}: {bound}");
                client.send_by(number, b"in");
            }
        }
        // The other family's spelling in this one's allocation.
        let other = if ipv4 { v6.address } else { v4.address };
        assert_eq!(client.permit(other), 443);
        client.send(other, b"in");
        // A last request, so that everything before it was handled.
        assert_eq!(client.refresh(), 0);
    }
    assert_eq!(v4.packets.load(Ordering::Relaxed) + v6.packets.load(Ordering::Relaxed), 0);
    assert!(counter(&house, "denied_peers") > 100);
}

#[test]
fn private_peers_are_never_allowed_in_production() {
    let config = "[turn]\nlisten = [\"udp://127.0.0.1:0\"]\nallow_private_peers = true\n";
    let said = House::refuses_with(config, &[("GUESTHOUSE_ENV", "prod")]);
    assert!(said.contains("allow_private_peers") && said.contains("--env"), "{said}");
}

#[test]
fn two_clients_of_the_house_reach_each_other_by_their_relays() {
    let house = plain("");
    let relay = listener(&house, "udp");
    let (alice, bob) = (
        Client::new(relay, credential(SECRET, "alice")),
        Client::new(relay, credential(SECRET, "bob")),
    );
    let (first, second) = (alice.allocate(true).unwrap(), bob.allocate(true).unwrap());
    assert_eq!((alice.bind(0x4000, second), bob.bind(0x4000, first)), (0, 0));
    alice.send_by(0x4000, b"hello");
    assert_eq!(bob.receive(), b"\x40\x00\x00\x05hello");
}

#[test]
fn quotas_hold_and_the_operator_sees_and_ends_allocations() {
    let house = plain("user_allocations = 2\nallocations = 3\nallow_private_peers = true");
    let relay = listener(&house, "udp");
    let clients: Vec<Client> =
        (0..3).map(|_| Client::new(relay, credential(SECRET, "alice"))).collect();
    let answers: Vec<u16> =
        clients.iter().map(|client| client.allocate(true).err().unwrap_or(0)).collect();
    assert_eq!(answers, [0, 0, 486]);
    let bob = Client::new(relay, credential(SECRET, "bob"));
    bob.allocate(true).unwrap();
    assert_eq!(Client::new(relay, credential(SECRET, "carol")).allocate(true), Err(508));

    let listed = house.api("/v1/turn/allocations");
    let listed = listed["allocations"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    let id = listed.iter().find(|one| one["user"] == "bob").unwrap()["id"].to_string();
    let (code, text) = house.run(&["turn"]);
    assert!(code == 0 && text.contains("bob") && text.contains("alice"), "{text}");
    assert_eq!(house.run(&["turn", "kill", &id]).0, 0);
    assert_eq!(bob.refresh(), 437);
    assert_ne!(house.run(&["turn", "kill", &id]).0, 0);
    let (_, text) = house.run(&["turn", "kill-user", "alice"]);
    assert!(text.contains("2 allocations"), "{text}");
    let (_, text) = house.run(&["turn", "show"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["allocations"], 0);
    assert_eq!(shown["counters"]["refused_user_quota"], 1);
}

#[test]
fn a_flood_of_strangers_leaves_the_memory_as_it_was_and_requests_answered() {
    const PACKETS: u64 = 200_000;
    let config = "[server]\naccess_log = false\n[turn]\nlisten = [\"udp://127.0.0.1:0\"]\n"
        .to_owned()
        + &plugin(
            "hello",
            &guest("wit_bindgen"),
            "routes = [\"/*\"]\ninstances = { reuse = 1000 }",
        );
    let house = House::start_with(&config, &[("TURN_SECRET", SECRET)]);
    let relay = listener(&house, "udp");
    let packet = challenge().raw;
    let flood = |packets: u64| {
        let before = counter(&house, "challenged");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        while counter(&house, "challenged") - before < packets {
            // What a queue of the system holds, and then a look at what has been handled.
            for _ in 0..2000 {
                _ = socket.send_to(&packet, relay);
            }
        }
    };
    // All through the flood somebody asks for something else. (`cargo xtask bench --only turn` has the latencies.)
    let over = AtomicBool::new(false);
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::new();
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = client.get(&house.url).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                asked += 1;
            }
            asked
        })
    };
    let (before, after) = std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        flood(10_000);
        let before = house.rss_kib();
        flood(PACKETS);
        let after = house.rss_kib();
        over.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
        (before, after)
    });
    assert!(after < before + 2048, "{before} KiB before, {after} KiB after");
    assert_eq!(house.api("/v1/turn")["allocations"], 0);
    // Hardly any of them was answered, and whoever has a credential is served all the same.
    assert!(counter(&house, "unanswered") > PACKETS / 2);
}

#[test]
fn a_stream_of_something_else_is_closed_and_one_that_is_slow_is_read() {
    let house = house("\"tcp://127.0.0.1:0\"", "network_connections = 3");
    let relay = listener(&house, "tcp");
    let mut foreign = TcpStream::connect(relay).unwrap();
    foreign.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00").unwrap();
    let mut rest = Vec::new();
    // Closed, with or without a reset.
    _ = foreign.read_to_end(&mut rest);
    assert!(rest.is_empty());

    let mut slow = TcpStream::connect(relay).unwrap();
    slow.set_nodelay(true).unwrap();
    for byte in challenge().raw {
        slow.write_all(&[byte]).unwrap();
    }
    let mut head = [0; 20];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(head[..2], [0x01, 0x13], "an error answer to Allocate");

    // Three at a time from one network: the fourth is closed at once.
    let held: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(relay).unwrap()).collect();
    let mut fourth = TcpStream::connect(relay).unwrap();
    fourth.set_read_timeout(Some(guesthouse_tests::PATIENCE)).unwrap();
    assert_eq!(fourth.read(&mut head).unwrap_or(0), 0);
    drop(held);
}

#[test]
fn a_port_that_is_taken_is_named_before_the_house_opens() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = House::refuses(&format!("[turn]\nlisten = [\"tcp://{address}\"]\n"));
    assert!(said.contains(&address.to_string()) && said.contains("listen"), "{said}");
}
