//! What an update of Yjs holds, before anything is made of it.
//!
//! Owns one reading of the bytes (lib0 version 1), in the way that yrs reads them, which keeps nothing. The dangers that
//! shaped it: two bytes are a whole struct, which takes twenty times that in memory; a few bytes can claim to be
//! millions; values can be nested until a stack has no end; and clocks can be driven beyond what they count with. A room
//! that has once kept such an update could never be loaded again.

use crate::wire::Reader;

/// How deep values may be nested. yrs reads them by recursion.
const DEPTH: u32 = 100;

/// How many structs and deleted ranges there are. None: it is malformed, or nothing that a client of Yjs would write.
#[must_use]
pub fn count(update: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(update);
    let mut count = 0;
    for _ in 0..reader.u32()? {
        let structs = reader.u32()?;
        reader.number()?;
        let mut clock = reader.u32()?;
        for _ in 0..structs {
            clock = clock.checked_add(one(&mut reader)?)?;
            count += 1;
        }
    }
    for _ in 0..reader.u32()? {
        reader.number()?;
        for _ in 0..reader.u32()? {
            reader.u32()?.checked_add(reader.u32()?)?;
            count += 1;
        }
    }
    Some(count)
}

/// How many clients a state vector names. None: it is malformed.
#[must_use]
pub fn clients(state_vector: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(state_vector);
    let count = reader.u32()?;
    for _ in 0..count {
        reader.number()?;
        reader.u32()?;
    }
    Some(count)
}

/// Reads over one struct. By how much the clock goes on, at most.
fn one(reader: &mut Reader<'_>) -> Option<u32> {
    let info = reader.byte()?;
    // Collected, or left out.
    if info == 0 || info == 10 {
        return reader.u32();
    }
    let (origin, right_origin, parent_sub) = (info & 0x80 != 0, info & 0x40 != 0, info & 0x20 != 0);
    for _ in 0..u8::from(origin) + u8::from(right_origin) {
        id(reader)?;
    }
    if !origin && !right_origin {
        if reader.u32()? == 1 {
            reader.buffer()?;
        } else {
            id(reader)?;
        }
        if parent_sub {
            reader.buffer()?;
        }
    }
    content(reader, info & 0x0F)
}

fn id(reader: &mut Reader<'_>) -> Option<()> {
    reader.number()?;
    reader.u32().map(|_| ())
}

fn content(reader: &mut Reader<'_>, kind: u8) -> Option<u32> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).ok();
    match kind {
        // What was deleted.
        1 => reader.u32(),
        // 2 is JSON as Yjs wrote it before version 13; yrs reads it in another way.
        3 | 5 => reader.buffer().map(|_| 1),
        // At least a byte for each unit.
        4 => length(reader.buffer()?),
        6 => {
            reader.buffer()?;
            reader.buffer().map(|_| 1)
        }
        7 => {
            // An element of XML has a name.
            match reader.byte()? {
                3 => reader.buffer().map(|_| 1),
                0..=6 | 9 | 15 => Some(1),
                _ => None,
            }
        }
        8 => {
            let values = reader.u32()?;
            for _ in 0..values {
                value(reader, 0)?;
            }
            Some(values)
        }
        9 => {
            reader.buffer()?;
            value(reader, 0)?;
            Some(1)
        }
        _ => None,
    }
}

/// Reads over one value.
fn value(reader: &mut Reader<'_>, depth: u32) -> Option<()> {
    if depth > DEPTH {
        return None;
    }
    match reader.byte()? {
        120 | 121 | 126 | 127 => {}
        // An integer: as long as the highest bit is set, there is more.
        125 => while reader.byte()? & 0x80 != 0 {},
        124 => reader.skip(4)?,
        122 | 123 => reader.skip(8)?,
        116 | 119 => {
            reader.buffer()?;
        }
        118 => {
            for _ in 0..reader.u32()? {
                reader.buffer()?;
                value(reader, depth + 1)?;
            }
        }
        117 => {
            for _ in 0..reader.u32()? {
                value(reader, depth + 1)?;
            }
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::put_number;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use yrs::updates::decoder::Decode;
    use yrs::{
        Any, Array, Doc, Map, ReadTxn, StateVector, Text, Transact, Update, XmlElementPrelim,
    };
    use yrs::{XmlFragment, types::Attrs};

    fn all(doc: &Doc) -> Vec<u8> {
        doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    #[test]
    fn everything_that_a_document_can_hold_is_read_over() {
        let doc = Doc::new();
        let (text, array) = (doc.get_or_insert_text("t"), doc.get_or_insert_array("a"));
        let (map, xml) = (doc.get_or_insert_map("m"), doc.get_or_insert_xml_fragment("x"));
        let mut transaction = doc.transact_mut();
        text.insert(&mut transaction, 0, "héllo 😀");
        text.format(&mut transaction, 0, 2, Attrs::from([("bold".into(), true.into())]));
        text.remove_range(&mut transaction, 1, 2);
        let nested = Any::from(HashMap::from([
            (
                "a".to_owned(),
                Any::from(vec![Any::Null, Any::Undefined, 1.5.into(), i64::MAX.into()]),
            ),
            ("b".to_owned(), Any::from(vec![1_u8, 2])),
            ("c".to_owned(), Any::from("text")),
        ]));
        array.push_back(&mut transaction, nested);
        array.push_back(&mut transaction, -7);
        map.insert(&mut transaction, "k", yrs::MapPrelim::from([("inner", true)]));
        map.insert(&mut transaction, "k", "again");
        xml.push_back(&mut transaction, XmlElementPrelim::empty("p"));
        drop(transaction);
        let update = all(&doc);
        let counted = count(&update).unwrap();
        assert!((10..40).contains(&counted), "{counted}");
        for end in 0..update.len() {
            assert_eq!(count(update.get(..end).unwrap()), None, "cut at {end}");
        }
    }

    /// One client's structs: so many times these bytes.
    fn of(structs: u64, each: &[u8]) -> Vec<u8> {
        let mut update = vec![1];
        put_number(&mut update, structs);
        update.extend([1, 0]);
        for _ in 0..structs {
            update.extend(each);
        }
        update.push(0);
        update
    }

    #[test]
    fn small_structs_are_counted_and_not_made() {
        assert_eq!(count(&of(100_000, &[0, 1])), Some(100_000));
        // A claim of millions with nothing behind it.
        assert_eq!(count(&[1, 255, 255, 255, 127, 1, 0, 0, 1]), None);
        assert_eq!(count(&[255, 255, 255, 127]), None);
        assert_eq!(clients(&[255, 255, 255, 127, 1, 1]), None);
        assert_eq!(clients(&[1, 1, 1]), Some(1));
        // Clocks beyond 32 bits.
        assert_eq!(count(&of(1, &[0, 255, 255, 255, 255, 15])), Some(1));
        assert_eq!(count(&of(2, &[0, 255, 255, 255, 255, 15])), None);
    }

    #[test]
    fn values_that_are_nested_too_deep_are_refused_before_they_are_read() {
        let nested = |depth: usize| {
            // An item in the array `a`, with one value.
            let mut item = vec![8, 1, 1, b'a', 1];
            item.extend([117, 1].repeat(depth));
            item.push(126);
            of(1, &item)
        };
        assert_eq!(count(&nested(DEPTH as usize)), Some(1));
        assert!(Update::decode_v1(&nested(DEPTH as usize)).is_ok());
        assert_eq!(count(&nested(DEPTH as usize + 1)), None);
        assert_eq!(count(&nested(200_000)), None);
    }

    proptest! {
        #[test]
        fn what_yrs_reads_is_counted(
            edits in prop::collection::vec((0..20_u32, "[ab]{1,5}", any::<bool>()), 1..30)
        ) {
            let doc = Doc::new();
            let text = doc.get_or_insert_text("t");
            for (at, what, delete) in edits {
                let mut transaction = doc.transact_mut();
                let length = text.len(&transaction);
                if delete && length > 0 {
                    text.remove_range(&mut transaction, at % length, 1);
                } else {
                    text.insert(&mut transaction, 0, &what);
                }
            }
            prop_assert!(count(&all(&doc)).is_some());
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            _ = count(&bytes);
            _ = clients(&bytes);
        }

        #[test]
        fn what_is_counted_yrs_reads_or_refuses(bytes in prop::collection::vec(0..12_u8, 0..40)) {
            if count(&bytes).is_some() {
                _ = Update::decode_v1(&bytes);
            }
        }
    }
}
