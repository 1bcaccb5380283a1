//! The vectors of RFC 5769, which coturn's `turnutils_rfc5769check` goes through as well.

use std::net::IpAddr;

use super::Error;
use super::attributes::*;
use super::fingerprint::FINGERPRINT;
use super::integrity::MessageIntegrity;
use super::message::*;
use super::textattrs::TextAttribute;
use super::xoraddr::XorMappedAddress;

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74\
    002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020\
    000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";

const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220\
    002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";

const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220\
    002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed41\
    80280004c8fb0b4c";

const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000\
    0015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341\
    0014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn decoded(raw: Vec<u8>) -> Message {
    let mut m = Message { raw, ..Default::default() };
    m.decode().unwrap();
    m
}

fn text(m: &Message, attribute: AttrType) -> String {
    TextAttribute::get_from_as(m, attribute).unwrap().text
}

#[test]
fn sample_request() {
    let mut m = decoded(bytes(REQUEST));
    assert_eq!(m.typ, BINDING_REQUEST);
    assert_eq!(text(&m, ATTR_SOFTWARE), "STUN test client");
    assert_eq!(text(&m, ATTR_USERNAME), "evtj:h6vY");
    let integrity = MessageIntegrity::new_short_term_integrity(PASSWORD.to_owned());
    integrity.check(&mut m).unwrap();
    FINGERPRINT.check(&m).unwrap();
    let other = MessageIntegrity::new_short_term_integrity("another".to_owned());
    assert_eq!(other.check(&mut m), Err(Error::ErrIntegrityMismatch));
}

#[test]
fn sample_responses() {
    for (hex, ip) in
        [(RESPONSE_V4, "192.0.2.1"), (RESPONSE_V6, "2001:db8:1234:5678:11:2233:4455:6677")]
    {
        let mut m = decoded(bytes(hex));
        assert_eq!(m.typ, BINDING_SUCCESS);
        let mut address = XorMappedAddress::default();
        address.get_from(&m).unwrap();
        assert_eq!((address.ip, address.port), (ip.parse::<IpAddr>().unwrap(), 32853));
        let integrity = MessageIntegrity::new_short_term_integrity(PASSWORD.to_owned());
        integrity.check(&mut m).unwrap();
        FINGERPRINT.check(&m).unwrap();
    }
}

#[test]
fn sample_request_with_long_term_authentication() {
    let mut m = decoded(bytes(LONG_TERM));
    assert_eq!(text(&m, ATTR_USERNAME), "マトリックス");
    assert_eq!(text(&m, ATTR_REALM), "example.org");
    assert_eq!(text(&m, ATTR_NONCE), "f//499k954d6OL34oL9FSTvy64sA");
    let integrity = MessageIntegrity::new_long_term_integrity(
        "マトリックス".to_owned(),
        "example.org".to_owned(),
        "TheMatrIX".to_owned(),
    );
    integrity.check(&mut m).unwrap();
    let key = crate::auth::generate_auth_key("マトリックス", "example.org", "TheMatrIX");
    assert_eq!(integrity.0, key);
}

#[test]
fn what_follows_the_integrity_is_ignored_but_for_a_fingerprint() {
    let mut raw = bytes(LONG_TERM);
    // A LIFETIME of zero that somebody put behind: it would end an allocation.
    raw.extend_from_slice(&[0x00, 0x0d, 0x00, 0x04, 0, 0, 0, 0]);
    raw[3] += 8;
    let mut m = decoded(raw);
    assert!(!m.contains(ATTR_LIFETIME));
    let key = crate::auth::generate_auth_key("マトリックス", "example.org", "TheMatrIX");
    MessageIntegrity(key.to_vec()).check(&mut m).unwrap();
}

#[test]
fn an_integrity_of_another_size_is_none() {
    let mut raw = bytes(LONG_TERM);
    let at = raw.len() - 24;
    raw.truncate(at);
    raw.extend_from_slice(&[0x00, 0x08, 0x00, 0x00]);
    raw[3] -= 20;
    let mut m = decoded(raw);
    assert_eq!(MessageIntegrity(vec![0]).check(&mut m), Err(Error::ErrAttributeSizeInvalid));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(raw: Vec<u8>) {
        let mut m = Message { raw, ..Default::default() };
        _ = m.decode();
    }

    #[test]
    fn no_damage_makes_a_reader_panic(at in 0_usize..140, byte: u8, length in 0_usize..140) {
        for hex in [REQUEST, RESPONSE_V4, RESPONSE_V6, LONG_TERM] {
            let mut raw = bytes(hex);
            if let Some(there) = raw.get_mut(at) {
                *there = byte;
            }
            raw.truncate(length);
            let mut m = Message { raw, ..Default::default() };
            if m.decode().is_ok() {
                _ = MessageIntegrity(vec![1, 2, 3]).check(&mut m);
                _ = FINGERPRINT.check(&m);
                _ = XorMappedAddress::default().get_from(&m);
                _ = crate::proto::peeraddr::PeerAddress::all(&m);
            }
        }
    }
}
