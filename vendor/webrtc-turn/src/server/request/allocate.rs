//! Making, refreshing and ending allocations.

use std::time::Duration;

use super::*;
use crate::allocation::allocation_manager::{Refusal, Wish};
use crate::proto::evenport::EvenPort;
use crate::proto::lifetime::*;
use crate::proto::relayaddr::RelayedAddress;
use crate::proto::reqtrans::RequestedTransport;
use crate::proto::rsrvtoken::ReservationToken;
use crate::proto::*;
use crate::relay::PortWish;

impl Request<'_> {
    /// https://tools.ietf.org/html/rfc5766#section-6.2
    pub(crate) fn handle_allocate_request(&self, m: &Message) -> Result<()> {
        // 1. The server MUST require that the request be authenticated.  This
        //    authentication MUST be done using the long-term credential
        //    mechanism of [https://tools.ietf.org/html/rfc5389#section-10.2.2]
        //    unless the client and server agree to use another mechanism through
        //    some procedure outside the scope of this document.
        let authenticated = self.authenticate_request(m)?;

        // 2. The server checks if the 5-tuple is currently in use by an
        //    existing allocation.  If yes, the server rejects the request with
        //    a 437 (Allocation Mismatch) error.
        if let Some(allocation) = self.server.manager.get_allocation(&self.five_tuple) {
            // The same request once more: its answer was lost.
            if allocation.transaction_id == m.transaction_id
                && allocation.user.name == authenticated.user
            {
                return self.answer_allocate(m, &authenticated, &allocation, None);
            }
            return self.refuse(m, &authenticated, CODE_ALLOC_MISMATCH);
        }

        // 3. The server checks if the request contains a REQUESTED-TRANSPORT
        //    attribute.  If the REQUESTED-TRANSPORT attribute is not included
        //    or is malformed, the server rejects the request with a 400 (Bad
        //    Request) error.  Otherwise, if the attribute is included but
        //    specifies a protocol other that UDP, the server rejects the
        //    request with a 442 (Unsupported Transport Protocol) error.
        let mut requested_transport = RequestedTransport::default();
        if requested_transport.get_from(m).is_err() {
            return self.refuse(m, &authenticated, CODE_BAD_REQUEST);
        }
        if requested_transport.protocol != PROTO_UDP {
            return self.refuse(m, &authenticated, CODE_UNSUPPORTED_TRANS_PROTO);
        }

        // 4. The request may contain a DONT-FRAGMENT attribute.  If it does,
        //    but the server does not support sending UDP datagrams with the DF
        //    bit set to 1 (see Section 12), then the server treats the DONT-
        //    FRAGMENT attribute in the Allocate request as an unknown
        //    comprehension-required attribute.
        //
        //    It was refused together with all other unknown ones.

        // 5.  The server checks if the request contains a RESERVATION-TOKEN
        //     attribute.  If yes, and the request also contains an EVEN-PORT
        //     attribute, then the server rejects the request with a 400 (Bad
        //     Request) error.  Otherwise, it checks to see if the token is
        //     valid (i.e., the token is in range and has not expired and the
        //     corresponding relayed transport address is still available).  If
        //     the token is not valid for some reason, the server rejects the
        //     request with a 508 (Insufficient Capacity) error.
        let mut token = None;
        if m.contains(ATTR_RESERVATION_TOKEN) {
            let mut attribute = ReservationToken::default();
            token = match attribute.get_from(m).ok().and_then(|()| attribute.0.try_into().ok()) {
                Some(token) if !m.contains(ATTR_EVEN_PORT) => Some(token),
                _ => return self.refuse(m, &authenticated, CODE_BAD_REQUEST),
            };
        }

        // RFC 6156, Section 4.2:
        //
        // If it contains both a RESERVATION-TOKEN and a
        // REQUESTED-ADDRESS-FAMILY, the server replies with a 400
        // (Bad Request) Allocate error response.
        //
        // 4.2.1.  Unsupported Address Family
        // This document defines the following new error response code:
        // 440 (Address Family not Supported):  The server does not support the
        // address family requested by the client.
        let mut ipv4 = true;
        if m.contains(ATTR_REQUESTED_ADDRESS_FAMILY) {
            if token.is_some() {
                return self.refuse(m, &authenticated, CODE_BAD_REQUEST);
            }
            let mut family = RequestedAddressFamily::default();
            if family.get_from(m).is_err() {
                return self.refuse(m, &authenticated, CODE_ADDR_FAMILY_NOT_SUPPORTED);
            }
            ipv4 = is_family(&family, true);
        }
        if token.is_none() && !self.server.manager.has_family(ipv4) {
            return self.refuse(m, &authenticated, CODE_ADDR_FAMILY_NOT_SUPPORTED);
        }

        // 6. The server checks if the request contains an EVEN-PORT attribute.
        //    If yes, then the server checks that it can satisfy the request
        //    (i.e., can allocate a relayed transport address as described
        //    below).  If the server cannot satisfy the request, then the
        //    server rejects the request with a 508 (Insufficient Capacity)
        //    error.
        let mut port = PortWish::Any;
        if m.contains(ATTR_EVEN_PORT) {
            let mut even_port = EvenPort::default();
            if even_port.get_from(m).is_err() {
                return self.refuse(m, &authenticated, CODE_BAD_REQUEST);
            }
            port = if even_port.reserve_port { PortWish::EvenAndNext } else { PortWish::Even };
        }

        // 7. At any point, the server MAY choose to reject the request with a
        //    486 (Allocation Quota Reached) error if it feels the client is
        //    trying to exceed some locally defined allocation quota.  The
        //    server is free to define this allocation quota any way it wishes,
        //    but SHOULD define it based on the username used to authenticate
        //    the request, and not on the client's transport address.

        // 8. Also at any point, the server MAY choose to reject the request
        //    with a 300 (Try Alternate) error if it wishes to redirect the
        //    client to a different server.  The use of this error code and
        //    attribute follow the specification in [RFC5389].
        let lifetime = self.lifetime(m).max(DEFAULT_LIFETIME.min(self.longest_lifetime()));
        let wish = Wish { ipv4, port, token, lifetime, transaction_id: m.transaction_id };
        let made = self.server.manager.create_allocation(
            self.five_tuple,
            self.transport.clone(),
            &authenticated.user,
            &wish,
        );
        match made {
            Ok((allocation, reserved)) => {
                count(&self.counters().allocations);
                self.answer_allocate(m, &authenticated, &allocation, reserved)
            }
            Err(Refusal::UserQuota) => self.refuse(m, &authenticated, CODE_ALLOC_QUOTA_REACHED),
            Err(Refusal::Capacity) => {
                count(&self.counters().refused_capacity);
                self.refuse(m, &authenticated, CODE_INSUFFICIENT_CAPACITY)
            }
        }
    }

    // Once the allocation is created, the server replies with a success
    // response.  The success response contains:
    //   * An XOR-RELAYED-ADDRESS attribute containing the relayed transport
    //     address.
    //   * A LIFETIME attribute containing the current value of the time-to-
    //     expiry timer.
    //   * A RESERVATION-TOKEN attribute (if a second relayed transport
    //     address was reserved).
    //   * An XOR-MAPPED-ADDRESS attribute containing the client's IP address
    //     and port (from the 5-tuple).
    fn answer_allocate(
        &self,
        m: &Message,
        authenticated: &Authenticated,
        allocation: &Allocation,
        reserved: Option<[u8; 8]>,
    ) -> Result<()> {
        let relay = allocation.relay_addr;
        // Rounded: a fresh allocation has a moment less than it was given.
        let remaining = allocation.info().remaining + Duration::from_millis(999);
        let mut attributes: Vec<Box<dyn Setter>> = vec![
            Box::new(RelayedAddress { ip: relay.ip(), port: relay.port() }),
            Box::new(Lifetime(remaining)),
            Box::new(XorMappedAddress { ip: self.src_addr.ip(), port: self.src_addr.port() }),
        ];
        if let Some(token) = reserved {
            attributes.push(Box::new(ReservationToken(token.to_vec())));
        }
        self.succeed(m, authenticated, attributes)
    }

    pub(crate) fn handle_refresh_request(&self, m: &Message) -> Result<()> {
        let authenticated = self.authenticate_request(m)?;
        let allocation = self.allocation(m, &authenticated)?;

        // If a server receives a Refresh Request with a REQUESTED-ADDRESS-FAMILY
        // attribute, and the attribute's value doesn't match the address
        // family of the allocation, the server MUST reply with a 443 (Peer
        // Address Family Mismatch) Refresh error response. [RFC 6156, Section 5.2]
        if m.contains(ATTR_REQUESTED_ADDRESS_FAMILY) {
            let mut family = RequestedAddressFamily::default();
            let same =
                family.get_from(m).is_ok() && is_family(&family, allocation.relay_addr.is_ipv4());
            if !same {
                return self.refuse(m, &authenticated, CODE_PEER_ADDR_FAMILY_MISMATCH);
            }
        }

        let lifetime = self.lifetime(m);
        if lifetime.is_zero() {
            self.server.manager.delete_allocation(&allocation);
        } else {
            allocation.refresh(lifetime);
        }
        self.succeed(m, &authenticated, vec![Box::new(Lifetime(lifetime))])
    }

    fn longest_lifetime(&self) -> Duration {
        self.server.manager.shared.limits.lifetime
    }

    fn lifetime(&self, m: &Message) -> Duration {
        let mut lifetime = Lifetime::default();
        let wanted = if lifetime.get_from(m).is_ok() { lifetime.0 } else { DEFAULT_LIFETIME };
        wanted.min(self.longest_lifetime())
    }
}
