//! HTTP/2 by prior knowledge, spoken frame by frame: what RFC 9113 says of errors, section by section.
//!
//! Each case opens a connection of its own, sends what stands there after the preface, and looks at how the
//! house ends the stream or the connection. As the standard allows, a connection that is just closed is an
//! answer to a connection error, too.

use guesthouse_tests::{House, PATIENCE, guest, plugin};
use std::io::{Read, Write};
use std::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A literal field, not indexed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// `GET path` for host `a`.
fn block(path: &str) -> Vec<u8> {
    [
        field(":method", "GET"),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "a"),
    ]
    .concat()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(path))
}

/// Headers that are not as they should be.
fn malformed(fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

const M: (&str, &str) = (":method", "GET");
const S: (&str, &str) = (":scheme", "http");
const P: (&str, &str) = (":path", "/");
const A: (&str, &str) = (":authority", "a");

struct Client {
    stream: TcpStream,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn code(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl Client {
    fn new(house: &House) -> Self {
        let mut stream = TcpStream::connect(house.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(PREFACE).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { stream }
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// None when the connection has ended.
    fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// How the house answers: by an error, or not.
    fn outcome(&mut self) -> Outcome {
        loop {
            match self.receive() {
                None => return Outcome::Closed,
                Some(frame) if frame.kind == GOAWAY => return Outcome::Error(frame.code(4)),
                Some(frame) if frame.kind == RST_STREAM => return Outcome::Error(frame.code(0)),
                // The first byte of a response's fields: `:status: 200` is the static entry 8.
                Some(frame) if frame.kind == HEADERS => {
                    return match frame.payload.first() {
                        Some(0x88) => Outcome::Ok,
                        _ => Outcome::Refused,
                    };
                }
                Some(_) => {}
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// 200.
    Ok,
    /// Another status.
    Refused,
    /// RST_STREAM or GOAWAY, with this code.
    Error(u32),
    /// The connection ended.
    Closed,
}

fn house() -> House {
    // A connection that is over is closed at once, so that a test sees when that is.
    let server = "[server]\nlinger = \"0s\"\n".to_owned();
    House::start(&(server + &plugin("guest", &guest("wit_bindgen"), "routes = [\"/*\"]")))
}

fn is_served(house: &House) {
    let mut client = Client::new(house);
    client.send(&get(1, "/"));
    assert_eq!(client.outcome(), Outcome::Ok);
}

/// Section, what is sent, and the codes with which it may be answered.
#[test]
fn errors_are_answered_with_the_codes_of_the_standard() {
    let house = house();
    let open = frame(HEADERS, END_HEADERS, 1, &block("/echo"));
    let closed = [get(1, "/"), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    let setting = |id: u16, value: u32| {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &payload)
    };
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    // Where two codes stand, the second is what the `h2` crate gives in place of the standard's: the error is
    // found, and the connection ends.
    let cases: Vec<(&str, Vec<u8>, &[u32])> = vec![
        (
            "4.2 a frame beyond the size",
            [open.clone(), frame(DATA, 0, 1, &[0; 16385])].concat(),
            &[FRAME_SIZE, PROTOCOL],
        ),
        (
            "4.3 a block that can't be decoded",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0x7f]),
            &[COMPRESSION, PROTOCOL],
        ),
        ("5.1 DATA on an idle stream", frame(DATA, 0, 1, b"x"), &[PROTOCOL, STREAM_CLOSED]),
        ("5.1 RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), &[PROTOCOL]),
        ("5.1 WINDOW_UPDATE on an idle stream", window(1, 1), &[PROTOCOL]),
        (
            "5.1 CONTINUATION on an idle stream",
            frame(CONTINUATION, END_HEADERS, 1, &block("/")),
            &[PROTOCOL],
        ),
        (
            "5.1 DATA after END_STREAM",
            [get(1, "/stream"), frame(DATA, END_STREAM, 1, b"x")].concat(),
            &[STREAM_CLOSED, PROTOCOL],
        ),
        (
            "5.1 HEADERS after RST_STREAM",
            [closed, get(1, "/")].concat(),
            &[STREAM_CLOSED, PROTOCOL],
        ),
        ("5.1.1 an even stream", get(2, "/"), &[PROTOCOL]),
        ("6.1 DATA on the connection", frame(DATA, 0, 0, b"x"), &[PROTOCOL]),
        (
            "6.1 more padding than payload",
            [open.clone(), frame(DATA, PADDED, 1, &[9, 1])].concat(),
            &[PROTOCOL],
        ),
        ("6.2 HEADERS on the connection", get(0, "/"), &[PROTOCOL]),
        (
            "6.2 more padding than fields",
            frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 0x82]),
            &[PROTOCOL],
        ),
        ("6.3 PRIORITY on the connection", frame(PRIORITY, 0, 0, &[0; 5]), &[PROTOCOL]),
        ("6.3 PRIORITY of another length", frame(PRIORITY, 0, 1, &[0; 4]), &[FRAME_SIZE, PROTOCOL]),
        ("6.4 RST_STREAM on the connection", frame(RST_STREAM, 0, 0, &[0; 4]), &[PROTOCOL]),
        (
            "6.4 RST_STREAM of another length",
            [open.clone(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            &[FRAME_SIZE, PROTOCOL],
        ),
        (
            "6.5 an acknowledgement with a payload",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        ("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), &[PROTOCOL]),
        ("6.5 SETTINGS of an odd length", frame(SETTINGS, 0, 0, &[0; 5]), &[FRAME_SIZE, PROTOCOL]),
        ("6.5.2 ENABLE_PUSH of 2", setting(2, 2), &[PROTOCOL]),
        ("6.5.2 a window beyond the largest", setting(4, 1 << 31), &[FLOW_CONTROL, PROTOCOL]),
        ("6.5.2 frames below the smallest", setting(5, 16383), &[PROTOCOL]),
        ("6.5.2 frames beyond the largest", setting(5, 1 << 24), &[PROTOCOL]),
        ("6.7 PING on a stream", frame(PING, 0, 1, &[0; 8]), &[PROTOCOL]),
        ("6.7 PING of another length", frame(PING, 0, 0, &[0; 6]), &[FRAME_SIZE, PROTOCOL]),
        ("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), &[PROTOCOL]),
        ("6.9 no increment on the connection", window(0, 0), &[PROTOCOL]),
        ("6.9 no increment on a stream", [open.clone(), window(1, 0)].concat(), &[PROTOCOL]),
        (
            "6.9 WINDOW_UPDATE of another length",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        (
            "6.9.1 a window beyond the largest",
            [window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat(),
            &[FLOW_CONTROL],
        ),
        (
            "6.10 CONTINUATION after the end of the fields",
            [open.clone(), frame(CONTINUATION, END_HEADERS, 1, &block("/"))].concat(),
            &[PROTOCOL],
        ),
        (
            "6.10 another frame before the end of the fields",
            [frame(HEADERS, 0, 1, &block("/")), frame(PING, 0, 0, &[0; 8])].concat(),
            &[PROTOCOL],
        ),
        ("8.2.1 a name in capitals", malformed(&[M, S, P, A, ("X-A", "b")]), &[PROTOCOL]),
        (
            "8.2.1 a line break in a value",
            malformed(&[M, S, P, A, ("x-a", "b\r\nc: d")]),
            &[PROTOCOL],
        ),
        ("8.2.2 connection", malformed(&[M, S, P, A, ("connection", "close")]), &[PROTOCOL]),
        (
            "8.2.2 transfer-encoding",
            malformed(&[M, S, P, A, ("transfer-encoding", "chunked")]),
            &[PROTOCOL],
        ),
        ("8.2.2 te", malformed(&[M, S, P, A, ("te", "gzip")]), &[PROTOCOL]),
        ("8.3 a pseudo field after a field", malformed(&[M, S, ("x-a", "b"), P, A]), &[PROTOCOL]),
        ("8.3 an unknown pseudo field", malformed(&[M, S, P, A, (":odd", "b")]), &[PROTOCOL]),
        (
            "8.3 a pseudo field of responses",
            malformed(&[M, S, P, A, (":status", "200")]),
            &[PROTOCOL],
        ),
        ("8.3.1 no method", malformed(&[S, P, A]), &[PROTOCOL]),
        ("8.3.1 no scheme", malformed(&[M, P, A]), &[PROTOCOL]),
        ("8.3.1 no path", malformed(&[M, S, A]), &[PROTOCOL]),
        ("8.3.1 an empty path", malformed(&[M, S, (":path", ""), A]), &[PROTOCOL]),
        ("8.3.1 two paths", malformed(&[M, S, P, P, A]), &[PROTOCOL]),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, codes) in cases {
        let mut client = Client::new(&house);
        client.send(&bytes);
        let outcome = client.outcome();
        let right = match outcome {
            Outcome::Error(code) => codes.contains(&code),
            // 400 is as good for a malformed request.
            Outcome::Refused => what.starts_with('8'),
            Outcome::Closed => !what.starts_with('8'),
            Outcome::Ok => false,
        };
        if !right {
            wrong.push(format!("{what}: {outcome:?}, not one of {codes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    is_served(&house);
}

#[test]
fn what_is_not_known_is_ignored_and_what_is_asked_is_answered() {
    let house = house();
    let mut client = Client::new(&house);
    // 4.1 and 5.5: an unknown kind of frame; 6.5.2: an unknown setting.
    client.send(&frame(0xbb, 0xff, 0, b"whatever"));
    client.send(&frame(SETTINGS, 0, 0, &[0xff, 0xff, 0, 0, 0, 1]));
    client.send(&frame(PING, 0, 0, b"12345678"));
    let (mut acks, mut ponged) = (0, false);
    while acks < 2 || !ponged {
        let frame = client.receive().unwrap();
        match frame.kind {
            SETTINGS if frame.flags & ACK != 0 => acks += 1,
            PING => {
                assert_eq!((frame.flags, frame.payload.as_slice()), (ACK, &b"12345678"[..]));
                ponged = true;
            }
            kind => assert_ne!(kind, GOAWAY),
        }
    }
    // 6.10: fields in three pieces. Padding is no part of them.
    let fields = block("/");
    let (first, rest) = fields.split_at(5);
    let (second, third) = rest.split_at(5);
    let padded = [&[3][..], first, &[0; 3]].concat();
    client.send(&frame(HEADERS, END_STREAM | PADDED, 1, &padded));
    client.send(&frame(CONTINUATION, 0, 1, second));
    client.send(&frame(CONTINUATION, END_HEADERS, 1, third));
    assert_eq!(client.outcome(), Outcome::Ok);
}

/// 5.1.2
#[test]
fn streams_beyond_the_limit_are_refused_and_those_within_are_not() {
    let house = house();
    let mut client = Client::new(&house);
    // Until the limit is acknowledged it does not hold.
    client.send(&frame(SETTINGS, ACK, 0, &[]));
    client.send(&frame(PING, 0, 0, &[0; 8]));
    while client.receive().unwrap().kind != PING {}
    for number in 0..201 {
        client.send(&get(1 + 2 * number, "/never"));
    }
    let refused = loop {
        let frame = client.receive().unwrap();
        if frame.kind == RST_STREAM {
            break (frame.stream, frame.code(0));
        }
        assert_ne!(frame.kind, GOAWAY, "{frame:?}");
    };
    assert_eq!(refused, (401, REFUSED_STREAM));
}

/// Attacks that are no errors of one frame.
#[test]
fn floods_end_the_connection_and_take_no_memory() {
    let house = house();
    let before = house.rss_kib();
    // Fields without end.
    let mut client = Client::new(&house);
    client.send(&frame(HEADERS, 0, 1, &block("/")));
    let piece = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(100)).repeat(100));
    let mut sent = 0_u64;
    while client.send(&piece) {
        sent += 1;
        assert!(sent < 100_000, "a gigabyte of fields was taken");
    }
    // Requests that are taken back at once.
    let mut client = Client::new(&house);
    let mut number = 1;
    while client.send(&[get(number, "/"), frame(RST_STREAM, 0, number, &[0, 0, 0, 8])].concat()) {
        number += 2;
        assert!(number < 2_000_000, "a million requests were taken back");
    }
    let mut code = None;
    while let Some(frame) = client.receive() {
        if frame.kind == GOAWAY {
            code = Some(frame.code(4));
        }
    }
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    is_served(&house);
    assert!(house.rss_kib() < before + (100 << 10), "{} after {before} KiB", house.rss_kib());
}
