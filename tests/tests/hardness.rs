//! The door for clients, under clients that mean no good: right status, bounded memory, no way through.

use guesthouse_tests::{House, PATIENCE, guest, plugin};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

fn house(server: &str) -> House {
    House::start(
        &(format!("[server]\n{server}\n")
            + &plugin(
                "guest",
                &guest("wit_bindgen"),
                "routes = [\"/*\"]\nlimits = { body = \"1MiB\" }",
            )),
    )
}

fn connect(house: &House) -> TcpStream {
    let stream = TcpStream::connect(house.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything until the house closes.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is as good as a close.
    _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_served(house: &House) {
    let answer = house.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn statuses(answer: &str) -> Vec<&str> {
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 "))
        .map(|line| &line[..3])
        .collect()
}

/// What a request leaves of doubt about where it ends is refused, and the connection with it: whatever comes
/// after it on the wire must never be taken for a request.
#[test]
fn requests_that_could_be_read_in_two_ways_are_400_and_close_the_connection() {
    let house = house("");
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let post = "POST /echo HTTP/1.1\r\nhost: a\r\n";
    for (what, head, body) in [
        ("two lengths", "content-length: 0\r\ncontent-length: 40\r\n", ""),
        ("a list of lengths", "content-length: 0, 40\r\n", ""),
        ("a length with a plus", "content-length: +0\r\n", ""),
        ("a length below zero", "content-length: -1\r\n", ""),
        ("a length in hexadecimal", "content-length: 0x0\r\n", ""),
        ("an empty length", "content-length: \r\n", ""),
        ("a length beyond all bounds", "content-length: 99999999999999999999\r\n", ""),
        ("TE of another name", "transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        ("TE not chunked at the end", "transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("TE in quotes", "transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        ("TE with a space before the colon", "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        ("TE on a folded line", "transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        ("a folded line", "x-a: b\r\n c\r\n", ""),
        ("a line without a name", ": b\r\n", ""),
        ("a NUL in a value", "x-a: b\0c\r\n", ""),
        ("a bare CR in a value", "x-a: b\rtransfer-encoding: chunked\r\n", ""),
    ] {
        let mut stream = connect(&house);
        _ = stream.write_all(format!("{post}{head}\r\n{body}{smuggled}").as_bytes());
        let answer = rest(stream);
        let statuses = statuses(&answer);
        assert!(
            statuses.len() == 1 && matches!(statuses[0], "400" | "501"),
            "{what}: {statuses:?}\n{answer}"
        );
    }
    // With both, the standard lets a server believe the transfer-encoding if it closes the connection after
    // its answer (RFC 9112, 6.3): what was smuggled is never answered.
    for both in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    ] {
        let answer = house.raw(format!("{post}{both}\r\n0\r\n\r\n{smuggled}").as_bytes());
        assert!(matches!(statuses(&answer)[..], ["200" | "400"]), "{both}: {answer}");
        assert!(answer.contains("connection: close"), "{both}: {answer}");
    }
    is_served(&house);
}

#[test]
fn chunks_of_no_valid_size_are_400_and_close_the_connection() {
    let house = house("");
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for size in ["-1", "+1", "0x1", "g", "", " ", "1 1", "fffffffffffffffff", "1\n"] {
        let mut stream = connect(&house);
        _ = stream.write_all(
            format!("{head}{size}\r\nx\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")
                .as_bytes(),
        );
        let answer = rest(stream);
        // The head of the answer may be on its way before the body is seen to be broken: then it is cut.
        let statuses = statuses(&answer);
        assert!(
            statuses == ["400"] || (statuses == ["200"] && !answer.ends_with("0\r\n\r\n")),
            "{size:?}: {answer}"
        );
    }
    // What follows a chunk must be its end.
    let mut stream = connect(&house);
    _ = stream
        .write_all(format!("{head}1\r\nxy0\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    let answer = rest(stream);
    assert_eq!(statuses(&answer).len(), 1, "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "what was cut looks whole: {answer}");
    is_served(&house);
}

#[test]
fn a_body_in_chunks_is_read_as_the_standard_says() {
    let house = house("");
    let answer = house.raw(
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
          5;name=value\r\nhello\r\n00001\r\n!\r\n0\r\nx-trailer: y\r\n\r\n",
    );
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("hello!") || answer.contains("hello")
    );
}

#[test]
fn lines_that_are_too_long_are_refused_at_the_limit() {
    let house = house("max_head = \"16KiB\"");
    // The head has other bytes, too: the limit is on all of them.
    for (length, statuses) in [(15 << 10, &["200"][..]), (17 << 10, &["431"])] {
        let long = "x".repeat(length);
        for head in [
            format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\nconnection: close\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: a\r\nx{long}: y\r\nconnection: close\r\n\r\n"),
        ] {
            let answer = house.raw(head.as_bytes());
            assert!(statuses.contains(&&answer[9..12]), "{length}: {answer}");
        }
    }
    let uri = "x".repeat(70 << 10);
    let answer = house.raw(format!("GET /{uri} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert!(["414", "431"].contains(&&answer[9..12]), "{answer}");
}

#[test]
fn the_number_of_header_fields_is_limited_to_the_field() {
    let house = house("max_headers = 20");
    for (fields, status) in [(20, "200"), (21, "431")] {
        // Two are the test's own.
        let many: String = (0..fields - 2).map(|number| format!("x-{number}: y\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}connection: close\r\n\r\n");
        let answer = house.raw(request.as_bytes());
        assert_eq!(&answer[9..12], status, "{fields}: {answer}");
    }
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let house = house("idle_timeout = \"200ms\"");
    let mut stream = connect(&house);
    stream
        .write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nonly this")
        .unwrap();
    let answer = rest(stream);
    // `/read` is nowhere in this guest: the answer is given at once. `/echo` waits for the body.
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let house = House::start(
        &("[server]\nidle_timeout = \"200ms\"\n".to_owned()
            + &plugin("http", &guest("hostile_http"), "routes = [\"/*\"]")),
    );
    let mut stream = connect(&house);
    stream
        .write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nonly this")
        .unwrap();
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// A body of 8 MiB to a plugin that takes 1 MiB, all of it sent before anything is read; what the client then reads.
fn too_large(house: &House) -> (std::io::Result<()>, String) {
    let mut stream = connect(house);
    let size = 8 << 20;
    let head = format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'x'; 64 << 10];
    let sent = (0..size / piece.len()).try_for_each(|_| {
        // As over a line that is slower than this machine's.
        std::thread::sleep(Duration::from_millis(1));
        stream.write_all(&piece)
    });
    (sent, rest(stream))
}

#[test]
fn whoever_sends_too_much_reads_why_it_was_refused_and_no_reset() {
    let house = house("");
    for _ in 0..5 {
        let (sent, answer) = too_large(&house);
        assert!(sent.is_ok(), "{sent:?}");
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    // The same where hyper answers by itself.
    let mut stream = connect(&house);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap();
    let field = format!("x: {}\r\n", "y".repeat(1000));
    for _ in 0..4000 {
        stream.write_all(field.as_bytes()).unwrap();
    }
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    is_served(&house);
}

#[test]
fn whoever_goes_on_sending_is_left_in_the_end() {
    for linger in ["linger = \"0s\"", "linger = \"200ms\"", "linger_bytes = \"1MiB\""] {
        let house = house(linger);
        let mut stream = connect(&house);
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let head = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let began = Instant::now();
        while stream.write_all(&[b'x'; 64 << 10]).is_ok() {
            assert!(began.elapsed() < PATIENCE, "{linger}: it is still heard");
        }
        is_served(&house);
    }
}

#[test]
fn slow_heads_are_cut_off_while_others_are_served() {
    let house = house("header_timeout = \"500ms\"");
    let mut slow: Vec<TcpStream> = (0..200).map(|_| connect(&house)).collect();
    let began = Instant::now();
    let mut open = slow.len();
    // A byte each, again and again, as slowloris does.
    while open > 0 {
        assert!(began.elapsed() < PATIENCE);
        open = 0;
        for stream in &mut slow {
            open += usize::from(stream.write_all(b"x").is_ok());
        }
        is_served(&house);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_kept_connection_that_is_idle_is_closed() {
    let house = house("header_timeout = \"300ms\"");
    let mut stream = connect(&house);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(rest(stream).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_client_that_closes_its_half_counts_as_gone_and_leaves_nothing_behind() {
    // One that has closed its half can't be told from one that has gone: the guest must not work for nobody.
    let house = house("");
    for path in ["/", "/stream"] {
        let mut stream = connect(&house);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = rest(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let began = Instant::now();
    while house.api("/v1/plugins/guest")["version"]["running"] != 0 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    is_served(&house);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_those_within_are_served() {
    let house = house("max_connections = 50");
    let mut held: Vec<TcpStream> = (0..50).map(|_| connect(&house)).collect();
    for stream in &mut held {
        // An answer shows that it was accepted.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
    }
    let mut one_more = connect(&house);
    _ = one_more.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(rest(one_more), "");
    house.wait_for_log("server.max_connections");
    let mut first = held.remove(0);
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    assert!(rest(first).contains("HTTP/1.1 200"));
}

/// Memory of an idle connection that has been served, at most. Measured: 19, of which 8 are for reading.
const KIB_EACH: u64 = 24;

#[test]
fn ten_thousand_idle_connections_cost_little_and_others_are_served() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const MANY: usize = 10_000;
    let most = getrlimit(Resource::Nofile).maximum;
    if most.is_some_and(|most| most < 2 * MANY as u64) {
        println!(
            "SKIPPED: the hard limit of open files is {most:?}: raise it with `ulimit -Hn 40000`"
        );
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let house = house("header_timeout = \"5m\"\nmax_connections = 20000");
    is_served(&house);
    let before = house.rss_kib();
    let mut idle = Vec::new();
    for _ in 0..MANY {
        let mut stream = connect(&house);
        // One that has been served is dearer than one that was never heard of.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        idle.push(stream);
    }
    for stream in &mut idle {
        assert_ne!(stream.read(&mut [0; 512]).unwrap(), 0);
    }
    is_served(&house);
    let each = house.rss_kib().saturating_sub(before) / MANY as u64;
    assert!(each <= KIB_EACH, "{each} KiB for each idle connection");
    drop(idle);
    is_served(&house);
}

/// The database needs descriptors to write: clients must never have the last.
#[test]
fn a_house_without_descriptors_for_all_serves_and_writes_and_recovers() {
    let config = plugin("probe", &guest("probe"), "routes = [\"/*\"]\nkv = [\"default\"]");
    let house = House::start_with_files(&config, 200);
    let put = |key: usize| {
        house.raw(
            format!("GET /put/default/{key}?x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        )
    };
    assert!(put(0).starts_with("HTTP/1.1 200"));
    house.wait_for_log("ulimit -n");
    let held: Vec<TcpStream> = (0..300).map(|_| connect(&house)).collect();
    house.wait_for_log("server.max_connections");
    // One that got in works still, and what it writes is kept.
    let mut first = held.first().unwrap().try_clone().unwrap();
    first
        .write_all(b"GET /put/default/1?x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert!(rest(first).starts_with("HTTP/1.1 200"));
    drop(held);
    let began = Instant::now();
    while !put(2).starts_with("HTTP/1.1 200") {
        assert!(began.elapsed() < PATIENCE, "{}", house.log());
    }
}
