//! RFC 6455, frame by frame: the cases of Autobahn's suite, by its numbers, against the echo room.
//!
//! The suite itself needs a Python that nobody installs any more, so it is run by hand (docs/rooms.md). Each case
//! here opens a connection, sends these bytes, and compares every frame that comes back, to the end.

use guesthouse_tests::websocket::WebSocket;
use guesthouse_tests::{House, PATIENCE, house_folder, plugin};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
/// How many bytes each bit of a fragmented or chopped message may be.
const CHOPS: [usize; 3] = [1, 997, 1 << 20];

/// A frame as a client sends it, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// What a server sends: first byte and payload.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.ok()?;
    assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
    let length = match head[1] {
        126 => u64::from(stream.read_u16().await.ok()?),
        127 => stream.read_u64().await.ok()?,
        length => u64::from(length),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[0], payload))
}

/// How a case ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The connection is as good as before.
    Open,
    /// The house says goodbye with this code, and the connection ends.
    Code(u16),
    /// The house answers a close frame without a code by one.
    NoCode,
}

struct Suite {
    house: House,
    cases: usize,
}

impl Suite {
    /// Sends in pieces of `chop` bytes; compares what comes back.
    async fn case(&mut self, name: &str, sent: &[Vec<u8>], wanted: &[(u8, &[u8])], end: End) {
        self.whole(name, sent, wanted, &[], end, usize::MAX).await;
    }

    /// The same, and sends the rest when the answers to the first have come.
    async fn then(
        &mut self,
        name: &str,
        sent: &[Vec<u8>],
        wanted: &[(u8, &[u8])],
        rest: &[Vec<u8>],
        end: End,
    ) {
        self.whole(name, sent, wanted, rest, end, usize::MAX).await;
    }

    async fn chopped(
        &mut self,
        name: &str,
        sent: &[Vec<u8>],
        wanted: &[(u8, &[u8])],
        end: End,
        chop: usize,
    ) {
        self.whole(name, sent, wanted, &[], end, chop).await;
    }

    async fn whole(
        &mut self,
        name: &str,
        sent: &[Vec<u8>],
        wanted: &[(u8, &[u8])],
        rest: &[Vec<u8>],
        end: End,
        chop: usize,
    ) {
        self.cases += 1;
        let socket = WebSocket::open(&self.house, &format!("/echo/{}", self.cases)).await;
        let mut stream = socket.0.into_inner();
        let talk = async {
            let sent = sent.concat();
            let (mut reading, mut writing) = stream.split();
            let writer = async {
                for piece in sent.chunks(chop.min(sent.len().max(1))) {
                    // A house that has said goodbye reads no more.
                    if writing.write_all(piece).await.is_err() {
                        break;
                    }
                }
            };
            let reader = async {
                for (first, payload) in wanted {
                    let (got, bytes) = read(&mut reading).await.expect(name);
                    assert_eq!(got, *first, "{name}: {:?}", String::from_utf8_lossy(&bytes));
                    assert!(
                        bytes == *payload,
                        "{name}: {} bytes, not {}",
                        bytes.len(),
                        payload.len()
                    );
                }
            };
            tokio::join!(writer, reader);
            stream.write_all(&rest.concat()).await.unwrap();
            match end {
                End::Open => {
                    stream.write_all(&frame(FIN | TEXT, b"and now?")).await.unwrap();
                    let answer = read(&mut stream).await.expect(name);
                    assert_eq!(answer, (FIN | TEXT, b"and now?".to_vec()), "{name}");
                    stream.write_all(&close(1000, b"")).await.unwrap();
                    let goodbye = read(&mut stream).await.expect(name);
                    assert_eq!(goodbye, (FIN | CLOSE, 1000_u16.to_be_bytes().to_vec()), "{name}");
                }
                End::Code(code) => {
                    let (first, payload) = read(&mut stream).await.expect(name);
                    assert_eq!(first, FIN | CLOSE, "{name}");
                    assert_eq!(payload.get(..2), Some(&code.to_be_bytes()[..]), "{name}");
                }
                End::NoCode => {
                    let goodbye = read(&mut stream).await.expect(name);
                    assert_eq!(goodbye, (FIN | CLOSE, Vec::new()), "{name}");
                }
            }
            assert_eq!(read(&mut stream).await, None, "{name}: something came behind the end");
        };
        let ended = tokio::time::timeout(PATIENCE, talk).await;
        assert!(ended.is_ok(), "{name}: no end");
    }
}

fn suite() -> Suite {
    let lines = "rooms = { routes = [\"/echo/{room}\"], message = \"16MiB\", queue = \"32MiB\", \
                 rate = 1000000 }";
    let echo = house_folder().join("plugins/room-echo.wasm");
    Suite { house: House::start(&plugin("echo", &echo, lines)), cases: 0 }
}

#[tokio::test]
async fn cases_1_and_9_messages_of_every_length() {
    let mut suite = suite();
    for opcode in [TEXT, BINARY] {
        for length in [0, 125, 126, 127, 128, 65535, 65536, 1 << 20] {
            let payload = vec![if opcode == TEXT { b'*' } else { 0xfe }; length];
            let sent = [frame(FIN | opcode, &payload)];
            for chop in CHOPS {
                // A megabyte byte by byte shows nothing new.
                if length / chop < 70_000 {
                    let wanted = [(FIN | opcode, payload.as_slice())];
                    suite.chopped("1", &sent, &wanted, End::Open, chop).await;
                }
            }
        }
        // 9.3 and 9.4: four megabytes in fragments.
        let payload = vec![b'*'; 4 << 20];
        for size in [64 << 10, 1 << 20] {
            let mut sent: Vec<Vec<u8>> =
                payload.chunks(size).map(|part| frame(CONTINUATION, part)).collect();
            sent[0][0] = opcode;
            sent.push(frame(FIN | CONTINUATION, b""));
            suite.case("9", &sent, &[(FIN | opcode, &payload)], End::Open).await;
        }
    }
}

#[tokio::test]
async fn cases_2_pings_and_pongs() {
    let mut suite = suite();
    let longest = [0xfe; 125];
    for payload in [&b""[..], b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", &longest] {
        let sent = [frame(FIN | PING, payload)];
        suite.case("2.1-2.4", &sent, &[(FIN | PONG, payload)], End::Open).await;
        suite.chopped("2.6", &sent, &[(FIN | PONG, payload)], End::Open, 1).await;
    }
    let too_long = [frame(FIN | PING, &[0xfe; 126])];
    suite.case("2.5", &too_long, &[], End::Code(1002)).await;
    for payload in [&b""[..], b"unsolicited"] {
        suite.case("2.7-2.8", &[frame(FIN | PONG, payload)], &[], End::Open).await;
    }
    let sent = [frame(FIN | PONG, b"unsolicited"), frame(FIN | PING, b"asked")];
    suite.case("2.9", &sent, &[(FIN | PONG, b"asked")], End::Open).await;
    // Pings that come faster than they are answered may be answered by one pong for the last of them (§5.5.3).
    let ping = [frame(FIN | PING, b"only one")];
    suite.case("2.10", &ping, &[(FIN | PONG, b"only one")], End::Open).await;
}

#[tokio::test]
async fn cases_3_and_4_reserved_bits_and_opcodes() {
    let mut suite = suite();
    let before = [frame(FIN | TEXT, b"before")];
    let echo: [(u8, &[u8]); 1] = [(FIN | TEXT, b"before")];
    for bits in 1..=7_u8 {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            let sent = [frame(FIN | bits << 4 | opcode, b"")];
            suite.case(&format!("3 {bits} {opcode}"), &sent, &[], End::Code(1002)).await;
        }
        let rest = [frame(FIN | bits << 4 | TEXT, b"after")];
        suite.then("3.2", &before, &echo, &rest, End::Code(1002)).await;
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"reserved opcode payload"] {
            let sent = [frame(FIN | opcode, payload)];
            suite.case(&format!("4 {opcode}"), &sent, &[], End::Code(1002)).await;
        }
        suite.then("4.3", &before, &echo, &[frame(FIN | opcode, b"")], End::Code(1002)).await;
    }
}

#[tokio::test]
async fn cases_5_fragments() {
    let mut suite = suite();
    let whole: (u8, &[u8]) = (FIN | TEXT, b"fragment1fragment2");
    let pong: (u8, &[u8]) = (FIN | PONG, b"ping");
    let first = || frame(TEXT, b"fragment1");
    let last = || frame(FIN | CONTINUATION, b"fragment2");
    let ping = || frame(FIN | PING, b"ping");
    for opcode in [PING, PONG, CLOSE] {
        let sent = [frame(opcode, b"fra"), frame(FIN | CONTINUATION, b"gment")];
        suite.case("5.1-5.2", &sent, &[], End::Code(1002)).await;
    }
    for chop in CHOPS {
        suite.chopped("5.3-5.5", &[first(), last()], &[whole], End::Open, chop).await;
        let sent = [first(), ping(), last()];
        suite.chopped("5.6-5.8", &sent, &[pong, whole], End::Open, chop).await;
    }
    for opening in [FIN | CONTINUATION, CONTINUATION] {
        let sent = [frame(opening, b"nothing to continue"), frame(FIN | TEXT, b"text")];
        suite.case("5.9-5.14", &sent, &[], End::Code(1002)).await;
    }
    let rest = [frame(CONTINUATION, b"more"), frame(FIN | TEXT, b"text")];
    suite.then("5.15", &[first(), last()], &[whole], &rest, End::Code(1002)).await;
    let sent = [first(), frame(FIN | TEXT, b"another one")];
    suite.case("5.18", &sent, &[], End::Code(1002)).await;
    let part = || frame(CONTINUATION, b"-");
    let sent = [first(), part(), ping(), part(), part(), ping(), last()];
    let wanted = [pong, pong, (FIN | TEXT, &b"fragment1---fragment2"[..])];
    suite.case("5.19-5.20", &sent, &wanted, End::Open).await;
}

#[tokio::test]
async fn cases_6_text_is_utf_8() {
    let mut suite = suite();
    let kosme = "κόσμε";
    for text in
        ["", kosme, "Hello-µ@ßöäüàá-UTF-8!!", "\u{10ffff}\u{fffe}\u{ffff}", "\0\u{7f}\u{80}"]
    {
        let wanted = [(FIN | TEXT, text.as_bytes())];
        suite.case("6.2", &[frame(FIN | TEXT, text.as_bytes())], &wanted, End::Open).await;
        // 6.2.3: a fragment for each byte, characters cut in the middle.
        let mut sent: Vec<Vec<u8>> =
            text.bytes().map(|byte| frame(CONTINUATION, &[byte])).collect();
        sent.push(frame(FIN | CONTINUATION, b""));
        sent[0][0] = sent[0][0] & FIN | TEXT;
        suite.case("6.2.3", &sent, &wanted, End::Open).await;
    }
    for bytes in [
        &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64"[..],
        // Surrogates, what is beyond the last character, and longer than it must be.
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        // Cut, and bytes that never are.
        b"\xce",
        b"\xe1\xbd",
        b"\x80",
        b"\xfe",
        b"\xff",
    ] {
        let name = format!("6.3-6.23 {bytes:?}");
        suite.case(&name, &[frame(FIN | TEXT, bytes)], &[], End::Code(1007)).await;
        let sent = [frame(TEXT, b"well"), frame(FIN | CONTINUATION, bytes)];
        suite.case(&name, &sent, &[], End::Code(1007)).await;
        let binary = [(FIN | BINARY, bytes)];
        suite.case(&name, &[frame(FIN | BINARY, bytes)], &binary, End::Open).await;
    }
}

#[tokio::test]
async fn cases_7_goodbyes() {
    let mut suite = suite();
    let echo: (u8, &[u8]) = (FIN | TEXT, b"Hello World!");
    let hello = || frame(FIN | TEXT, b"Hello World!");
    suite.then("7.1.1", &[hello()], &[echo], &[close(1000, b"")], End::Code(1000)).await;
    let twice = [close(1000, b""), close(1000, b"")];
    suite.case("7.1.2", &twice, &[], End::Code(1000)).await;
    let behind = [close(1000, b""), frame(FIN | PING, b"late")];
    suite.case("7.1.3", &behind, &[], End::Code(1000)).await;
    suite.case("7.1.4", &[close(1000, b""), hello()], &[], End::Code(1000)).await;
    let within = [frame(TEXT, b"fragment"), close(1000, b""), frame(FIN | CONTINUATION, b"late")];
    suite.case("7.1.5", &within, &[], End::Code(1000)).await;
    suite.case("7.3.1", &[frame(FIN | CLOSE, b"")], &[], End::NoCode).await;
    suite.case("7.3.2", &[frame(FIN | CLOSE, b"a")], &[], End::Code(1002)).await;
    let longest = [b'*'; 123];
    suite.case("7.3.4-7.3.5", &[close(1000, &longest)], &[], End::Code(1000)).await;
    suite.case("7.3.6", &[close(1000, &[b'*'; 124])], &[], End::Code(1002)).await;
    let broken = close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80");
    suite.case("7.5.1", &[broken], &[], End::Code(1007)).await;
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let name = format!("7.7 {code}");
        suite.case(&name, &[close(code, b"")], &[], End::Code(code)).await;
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999] {
        let name = format!("7.9 {code}");
        suite.case(&name, &[close(code, b"")], &[], End::Code(1002)).await;
    }
}

#[tokio::test]
async fn case_10_a_message_whose_fragments_are_cut_anywhere() {
    let mut suite = suite();
    let payload = vec![b'*'; 65536];
    for size in [1300, 4096] {
        let mut sent: Vec<Vec<u8>> =
            payload.chunks(size).map(|part| frame(CONTINUATION, part)).collect();
        sent[0][0] = TEXT;
        let last = sent.len() - 1;
        sent[last][0] |= FIN;
        let wanted = [(FIN | TEXT, payload.as_slice())];
        suite.chopped("10", &sent, &wanted, End::Open, 997).await;
    }
}
