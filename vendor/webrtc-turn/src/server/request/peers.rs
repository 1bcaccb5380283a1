//! Permissions, channels and data.

use super::*;
use crate::proto::channum::ChannelNumber;
use crate::proto::data::Data;
use crate::proto::peeraddr::PeerAddress;

impl Request<'_> {
    pub(crate) fn handle_create_permission_request(&self, m: &Message) -> Result<()> {
        let authenticated = self.authenticate_request(m)?;
        let allocation = self.allocation(m, &authenticated)?;

        let peers = match PeerAddress::all(m) {
            Ok(peers) if !peers.is_empty() => peers,
            _ => return self.refuse(m, &authenticated, CODE_BAD_REQUEST),
        };
        // If an XOR-PEER-ADDRESS attribute contains an address of an address
        // family different than that of the relayed transport address for the
        // allocation, the server MUST generate an error response with the 443
        // (Peer Address Family Mismatch) response code. [RFC 6156, Section 6.2]
        if peers.iter().any(|peer| peer.is_ipv4() != allocation.relay_addr.is_ipv4()) {
            return self.refuse(m, &authenticated, CODE_PEER_ADDR_FAMILY_MISMATCH);
        }
        if let Err(error) = allocation.add_permissions(&peers) {
            return self.refuse_peer(m, &authenticated, &error);
        }
        self.succeed(m, &authenticated, vec![])
    }

    pub(crate) fn handle_channel_bind_request(&self, m: &Message) -> Result<()> {
        let authenticated = self.authenticate_request(m)?;
        let allocation = self.allocation(m, &authenticated)?;

        let mut channel = ChannelNumber::default();
        let mut peer = PeerAddress::default();
        let complete = channel.get_from(m).is_ok() && channel.valid() && peer.get_from(m).is_ok();
        if !complete || peer.port == 0 {
            return self.refuse(m, &authenticated, CODE_BAD_REQUEST);
        }
        // If the XOR-PEER-ADDRESS attribute contains an address of an address
        // family different than that of the relayed transport address for the
        // allocation, the server MUST generate an error response with the 443
        // (Peer Address Family Mismatch) response code. [RFC 6156, Section 7.2]
        if peer.ip.is_ipv4() != allocation.relay_addr.is_ipv4() {
            return self.refuse(m, &authenticated, CODE_PEER_ADDR_FAMILY_MISMATCH);
        }
        let peer = SocketAddr::new(peer.ip, peer.port);
        if let Err(error) = allocation.add_channel_bind(channel, peer) {
            return self.refuse_peer(m, &authenticated, &error);
        }
        self.succeed(m, &authenticated, vec![])
    }

    fn refuse_peer(&self, m: &Message, authenticated: &Authenticated, error: &Error) -> Result<()> {
        let code = match error {
            Error::ErrDenied => CODE_FORBIDDEN,
            Error::ErrQuota => {
                count(&self.counters().refused_peer_quota);
                CODE_INSUFFICIENT_CAPACITY
            }
            _ => CODE_BAD_REQUEST,
        };
        self.refuse(m, authenticated, code)
    }

    pub(crate) fn handle_send_indication(&self, m: &Message) -> Result<()> {
        let allocation = self.server.manager.get_allocation(&self.five_tuple);
        let allocation = allocation.ok_or(Error::ErrNoAllocationFound)?;
        if !unknown_attributes(m, &[]).is_empty() {
            count(&self.counters().malformed_packets);
            return Err(Error::Refused(CODE_UNKNOWN_ATTRIBUTE.0));
        }
        let (mut data, mut peer) = (Data::default(), PeerAddress::default());
        if let Err(error) = data.get_from(m).and_then(|()| peer.get_from(m)) {
            count(&self.counters().malformed_packets);
            return Err(error.into());
        }
        allocation.send_to(SocketAddr::new(peer.ip, peer.port), &data.0)
    }

    pub(crate) fn handle_channel_data(&self, number: ChannelNumber, data: &[u8]) -> Result<()> {
        let allocation = self.server.manager.get_allocation(&self.five_tuple);
        allocation.ok_or(Error::ErrNoAllocationFound)?.send_by_channel(number, data)
    }
}
