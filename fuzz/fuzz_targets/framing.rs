//! A client's stream over TCP or TLS, as the house cuts it into packets.
#![no_main]

#[path = "../../host/src/turn/framing.rs"]
mod framing;

use framing::{Frame, frame};

/// The packets at the front, and what stays behind them.
fn cut(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8], bool) {
    let mut packets = Vec::new();
    loop {
        match frame(bytes) {
            Frame::Packet { length, padded } => {
                assert!(length <= padded && padded <= bytes.len() && padded > 0);
                packets.push(&bytes[..length]);
                bytes = &bytes[padded..];
            }
            Frame::Incomplete => return (packets, bytes, false),
            Frame::Foreign => return (packets, bytes, true),
        }
    }
}

// The first two bytes say where the stream was cut on its way.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((at, stream)) = bytes.split_first_chunk::<2>() else { return };
    let (packets, rest, foreign) = cut(stream);
    // What is waited for is one packet at most: memory for one connection has an end.
    assert!(foreign || rest.len() < 20 + 65_536);
    let at = usize::from(u16::from_be_bytes(*at)).min(stream.len());
    let (mut before, waiting, early) = cut(&stream[..at]);
    if early {
        assert!(foreign);
        return;
    }
    let joined = [waiting, &stream[at..]].concat();
    let (after, _, late) = cut(&joined);
    before.extend(after);
    assert_eq!((before, late), (packets, foreign));
});
