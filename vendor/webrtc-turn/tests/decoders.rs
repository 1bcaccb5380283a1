//! Random packets through what the fuzz targets go through (`fuzz/` of the repository), in each run of the tests.

#[path = "../../../fuzz/src/decoder.rs"]
mod decoder;
#[path = "../../../fuzz/src/server.rs"]
mod server;

use proptest::prelude::*;

/// Attributes as they stand in a message: number, length, value, padding. Numbers that mean something are likely.
fn attributes() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0_u16..0x30, 0x8020_u16..0x802c, any::<u16>()];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![0; 20]),
        Just(vec![0, 1, 0x21, 0x12, 1, 2, 3, 4])
    ];
    prop::collection::vec((number, value, -2_i32..3), 0..12).prop_map(|all| {
        let mut bytes = Vec::new();
        for (number, value, lie) in all {
            let length = if lie == 2 { value.len() as i32 + 4 } else { value.len() as i32 };
            bytes.extend(number.to_be_bytes());
            bytes.extend((length as u16).to_be_bytes());
            bytes.extend(&value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    (any::<u16>(), attributes(), any::<[u8; 12]>(), 0_usize..4).prop_map(
        |(kind, attributes, id, lie)| {
            let mut bytes = (kind & 0x3fff).to_be_bytes().to_vec();
            bytes.extend(((attributes.len() + 4 * (lie / 3)) as u16).to_be_bytes());
            bytes.extend(0x2112_a442_u32.to_be_bytes());
            bytes.extend(id);
            bytes.extend(attributes);
            bytes
        },
    )
}

fn channel_data() -> impl Strategy<Value = Vec<u8>> {
    (0x4000_u16..0x8000, any::<u16>(), prop::collection::vec(any::<u8>(), 0..200), any::<bool>())
        .prop_map(|(number, lie, data, honest)| {
            let length = if honest { data.len() as u16 } else { lie };
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.extend(length.to_be_bytes());
            bytes.extend(data);
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_comes_is_read_or_refused(
        bytes in prop_oneof![3 => message(), 1 => channel_data(), 1 => any::<Vec<u8>>()],
    ) {
        decoder::read(&bytes);
    }

    #[test]
    fn a_message_that_was_damaged_on_its_way_is_read_or_refused(
        mut bytes in message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decoder::read(&bytes);
        decoder::read(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_server_answers_what_strangers_and_clients_send_with_what_can_be_read(
        packet in prop_oneof![message(), channel_data()],
        method in any::<u8>(),
        attributes in prop::collection::vec(
            (0_u16..0x30, prop::collection::vec(any::<u8>(), 0..24)),
            0..6,
        ),
    ) {
        server::packet(&[&[0], packet.as_slice()].concat());
        let mut signed = vec![1, method];
        for (number, value) in attributes {
            signed.extend(number.to_be_bytes());
            signed.push(value.len() as u8);
            signed.extend(value);
        }
        server::packet(&signed);
    }
}
