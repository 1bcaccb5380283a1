//! Packets in a stream: where one ends and the next begins (RFC 8656, section 12.5).

/// Longest of header and padding beside what a length says.
const HEADER: usize = 20;
const CHANNEL_HEADER: usize = 4;

/// What lies at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A packet of so many bytes, of which the first are the packet itself and the rest is padding.
    Packet {
        /// Bytes to hand on.
        length: usize,
        /// Bytes to take off.
        padded: usize,
    },
    /// More must come first.
    Incomplete,
    /// Neither STUN nor ChannelData: nothing behind it can be understood any more.
    Foreign,
}

/// Looks at the front of a buffer.
pub(super) fn frame(buffer: &[u8]) -> Frame {
    let Some(&first) = buffer.first() else { return Frame::Incomplete };
    let header = match first >> 6 {
        0 => HEADER,
        1 => CHANNEL_HEADER,
        _ => return Frame::Foreign,
    };
    let Some(&[_, _, high, low]) = buffer.first_chunk::<4>() else { return Frame::Incomplete };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if header == HEADER {
        // A message is a multiple of four long, and says that it is STUN: before its whole length is waited for.
        if length % 4 != 0 {
            return Frame::Foreign;
        }
        if let Some(cookie) = buffer.get(4..8)
            && cookie != [0x21, 0x12, 0xa4, 0x42]
        {
            return Frame::Foreign;
        }
    }
    let length = header + length;
    let padded = length.next_multiple_of(4);
    if buffer.len() < padded { Frame::Incomplete } else { Frame::Packet { length, padded } }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(body: usize) -> Vec<u8> {
        let length = u16::try_from(body).unwrap().to_be_bytes();
        let mut message = vec![0, 1, length[0], length[1], 0x21, 0x12, 0xa4, 0x42];
        message.resize(HEADER + body, 7);
        message
    }

    #[test]
    fn messages_and_channel_data_are_told_apart() {
        assert_eq!(frame(&message(8)), Frame::Packet { length: 28, padded: 28 });
        assert_eq!(frame(&[0x40, 0, 0, 3, 1, 2, 3, 0]), Frame::Packet { length: 7, padded: 8 });
        assert_eq!(frame(&[0x40, 0, 0, 3, 1, 2, 3]), Frame::Incomplete);
        assert_eq!(frame(&[0x40, 0, 0, 0]), Frame::Packet { length: 4, padded: 4 });
        for foreign in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x80",
            b"\x16\x03\x01\x02\x00\x01\x00\x01",
            b"\x00\x01\x00\x02",
        ] {
            let found = frame(foreign);
            // `G` looks like ChannelData with a length: it waits for that much and is then refused by its number.
            assert!(found == Frame::Foreign || foreign.first() == Some(&b'G'), "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_falls_into_the_same_packets_however_it_arrives(
            packets in proptest::collection::vec(
                prop_oneof![
                    (0_usize..100).prop_map(|words| message(words * 4)),
                    (0x4000_u16..0x7fff, proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(number, data)| {
                        let mut packet = number.to_be_bytes().to_vec();
                        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
                        packet.extend(data);
                        packet
                    }),
                ],
                0..20,
            ),
            piece in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            for packet in &packets {
                stream.extend(packet);
                stream.resize(stream.len().next_multiple_of(4), 0);
            }
            let (mut buffer, mut found) = (Vec::new(), Vec::new());
            for piece in stream.chunks(piece) {
                buffer.extend(piece);
                while let Frame::Packet { length, padded } = frame(&buffer) {
                    found.push(buffer[..length].to_vec());
                    buffer.drain(..padded);
                }
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(found, packets);
        }

        #[test]
        fn no_bytes_make_it_panic_or_wait_for_more_than_a_packet(bytes: Vec<u8>) {
            match frame(&bytes) {
                Frame::Packet { length, padded } => {
                    prop_assert!(length <= padded && padded <= bytes.len());
                }
                Frame::Incomplete => prop_assert!(bytes.len() < HEADER + 65_536),
                Frame::Foreign => {}
            }
        }
    }
}
