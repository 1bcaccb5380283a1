//! Everything that can be read out of bytes of a stranger.
//!
//! For the fuzz target `stun` and for the tests of `vendor/webrtc-turn`: whatever the bytes are, nothing of this
//! panics, and what was understood means the same once it has been written and read again.

use webrtc_turn::proto::chandata::ChannelData;
use webrtc_turn::proto::channum::ChannelNumber;
use webrtc_turn::proto::data::Data;
use webrtc_turn::proto::evenport::EvenPort;
use webrtc_turn::proto::lifetime::Lifetime;
use webrtc_turn::proto::peeraddr::PeerAddress;
use webrtc_turn::proto::relayaddr::RelayedAddress;
use webrtc_turn::proto::reqfamily::RequestedAddressFamily;
use webrtc_turn::proto::reqtrans::RequestedTransport;
use webrtc_turn::proto::rsrvtoken::ReservationToken;
use webrtc_turn::stun::addr::MappedAddress;
use webrtc_turn::stun::attributes::{ATTR_NONCE, ATTR_REALM, ATTR_SOFTWARE, ATTR_USERNAME};
use webrtc_turn::stun::error_code::ErrorCodeAttribute;
use webrtc_turn::stun::fingerprint::FINGERPRINT;
use webrtc_turn::stun::integrity::MessageIntegrity;
use webrtc_turn::stun::message::{Getter, Message, is_message};
use webrtc_turn::stun::textattrs::TextAttribute;
use webrtc_turn::stun::uattrs::UnknownAttributes;
use webrtc_turn::stun::xoraddr::XorMappedAddress;

/// Reads them as ChannelData and as a message.
pub fn read(bytes: &[u8]) {
    if ChannelData::is_channel_data(bytes) {
        let (number, data) = ChannelData::parse(bytes).expect("what looks like ChannelData is it");
        let mut whole = ChannelData { raw: bytes.to_vec(), ..ChannelData::default() };
        whole.decode().expect("both decoders agree");
        assert_eq!((whole.number, whole.data.as_slice()), (number, data));
        whole.encode();
        assert_eq!(ChannelData::parse(&whole.raw).expect("what was written"), (number, data));
    }
    let mut m = Message { raw: bytes.to_vec(), ..Message::default() };
    if m.decode().is_err() {
        return;
    }
    assert!(is_message(bytes));
    attributes(&m);
    if m.after_integrity == 0 {
        let mut written = m.clone();
        written.encode();
        let mut again = Message { raw: written.raw, ..Message::default() };
        again.decode().expect("what was written can be read");
        assert_eq!(again, m);
    }
}

fn attributes(m: &Message) {
    let mut peer = PeerAddress::default();
    let first = peer.get_from(m).is_ok();
    if let Ok(all) = PeerAddress::all(m) {
        assert_eq!(first, !all.is_empty());
    }
    let mut number = ChannelNumber::default();
    _ = number.get_from(m).map(|()| number.valid());
    _ = Data::default().get_from(m);
    _ = EvenPort::default().get_from(m);
    _ = Lifetime::default().get_from(m);
    _ = RelayedAddress::default().get_from(m);
    _ = RequestedAddressFamily::default().get_from(m);
    _ = RequestedTransport::default().get_from(m);
    _ = ReservationToken::default().get_from(m);
    _ = MappedAddress::default().get_from(m);
    _ = XorMappedAddress::default().get_from(m);
    _ = UnknownAttributes(Vec::new()).get_from(m);
    let mut code = ErrorCodeAttribute::default();
    _ = code.get_from(m).map(|()| code.to_string());
    for attribute in [ATTR_USERNAME, ATTR_REALM, ATTR_NONCE, ATTR_SOFTWARE] {
        _ = TextAttribute::get_from_as(m, attribute);
    }
    _ = FINGERPRINT.check(m);
    // A check moves the length in the copy's head and must bring it back.
    let mut copy = m.clone();
    _ = MessageIntegrity(b"key".to_vec()).check(&mut copy);
    assert_eq!(copy.raw, m.raw);
    _ = m.to_string();
}
