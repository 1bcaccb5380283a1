//! One packet of a client.

mod allocate;
mod authenticate;
mod peers;
#[cfg(test)]
mod request_test;

use std::net::SocketAddr;
use std::sync::Arc;

use authenticate::Authenticated;

use super::{Server, Transport};
use crate::allocation::Allocation;
use crate::allocation::five_tuple::*;
use crate::error::*;
use crate::limits::{Counters, count};
use crate::proto::chandata::ChannelData;
use crate::proto::reqfamily::*;
use crate::stun::attributes::*;
use crate::stun::error_code::*;
use crate::stun::message::*;
use crate::stun::uattrs::*;
use crate::stun::xoraddr::*;

/// Request contains all the state needed to process a single incoming datagram
pub(crate) struct Request<'a> {
    pub(crate) server: &'a Server,
    pub(crate) transport: &'a Arc<dyn Transport>,
    pub(crate) src_addr: SocketAddr,
    pub(crate) five_tuple: FiveTuple,
}

/// Attributes that must be understood, and are (or may be ignored in a request).
const KNOWN: [AttrType; 16] = [
    ATTR_MAPPED_ADDRESS,
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_ERROR_CODE,
    ATTR_UNKNOWN_ATTRIBUTES,
    ATTR_REALM,
    ATTR_NONCE,
    ATTR_XORMAPPED_ADDRESS,
    ATTR_CHANNEL_NUMBER,
    ATTR_LIFETIME,
    ATTR_XOR_PEER_ADDRESS,
    ATTR_DATA,
    ATTR_EVEN_PORT,
    ATTR_REQUESTED_TRANSPORT,
    ATTR_RESERVATION_TOKEN,
    ATTR_REQUESTED_ADDRESS_FAMILY,
];

/// Of ICE: it comes with Binding requests.
const KNOWN_IN_BINDING: [AttrType; 2] = [ATTR_PRIORITY, ATTR_USE_CANDIDATE];

impl Request<'_> {
    /// Processes the given [`Request`]
    pub(crate) fn handle_request(&self, packet: &[u8]) -> Result<()> {
        if ChannelData::is_channel_data(packet) {
            let (number, data) = ChannelData::parse(packet)?;
            return self.handle_channel_data(number, data);
        }
        if !is_message(packet) {
            count(&self.counters().malformed_packets);
            return Err(Error::ErrUnexpectedEof);
        }
        let mut m = Message { raw: packet.to_vec(), ..Default::default() };
        if let Err(error) = m.decode() {
            count(&self.counters().malformed_packets);
            return Err(error.into());
        }
        self.process_message_handler(&m)
    }

    fn process_message_handler(&self, m: &Message) -> Result<()> {
        match (m.typ.class, m.typ.method) {
            (CLASS_INDICATION, METHOD_SEND) => self.handle_send_indication(m),
            (CLASS_REQUEST, METHOD_ALLOCATE) => self.handle_allocate_request(m),
            (CLASS_REQUEST, METHOD_REFRESH) => self.handle_refresh_request(m),
            (CLASS_REQUEST, METHOD_CREATE_PERMISSION) => self.handle_create_permission_request(m),
            (CLASS_REQUEST, METHOD_CHANNEL_BIND) => self.handle_channel_bind_request(m),
            (CLASS_REQUEST, METHOD_BINDING) => self.handle_binding_request(m),
            // A Binding indication keeps a NAT's mapping alive, and is not answered.
            (CLASS_INDICATION, METHOD_BINDING) => Ok(()),
            _ => {
                count(&self.counters().malformed_packets);
                Err(Error::ErrUnexpectedClass)
            }
        }
    }

    fn handle_binding_request(&self, m: &Message) -> Result<()> {
        let unknown = unknown_attributes(m, &KNOWN_IN_BINDING);
        let (ip, port) = (self.src_addr.ip(), self.src_addr.port());
        let attributes: Vec<Box<dyn Setter>> = if unknown.is_empty() {
            vec![Box::new(XorMappedAddress { ip, port })]
        } else {
            vec![
                Box::new(ErrorCodeAttribute { code: CODE_UNKNOWN_ATTRIBUTE, reason: vec![] }),
                Box::new(UnknownAttributes(unknown.clone())),
            ]
        };
        let class = if unknown.is_empty() { CLASS_SUCCESS_RESPONSE } else { CLASS_ERROR_RESPONSE };
        self.answer_stranger(m, class, attributes)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.server.manager.shared.counters
    }

    /// The allocation that a request is about.
    fn allocation(&self, m: &Message, authenticated: &Authenticated) -> Result<Arc<Allocation>> {
        let Some(allocation) = self.server.manager.get_allocation(&self.five_tuple) else {
            return self.refuse(m, authenticated, CODE_ALLOC_MISMATCH);
        };
        // The user and not the username, which changes with each credential.
        if allocation.user.name != authenticated.user {
            return self.refuse(m, authenticated, CODE_WRONG_CREDENTIALS);
        }
        Ok(allocation)
    }

    /// Answers a request that was authenticated.
    fn succeed(
        &self,
        m: &Message,
        authenticated: &Authenticated,
        mut attributes: Vec<Box<dyn Setter>>,
    ) -> Result<()> {
        attributes.push(Box::new(authenticated.integrity.clone()));
        self.send(&build_msg(m, CLASS_SUCCESS_RESPONSE, &attributes)?)
    }

    /// Answers a request that was authenticated with an error, and ends its handling.
    fn refuse<T>(&self, m: &Message, authenticated: &Authenticated, code: ErrorCode) -> Result<T> {
        self.refuse_with(m, authenticated, code, vec![])
    }

    fn refuse_with<T>(
        &self,
        m: &Message,
        authenticated: &Authenticated,
        code: ErrorCode,
        more: Vec<Box<dyn Setter>>,
    ) -> Result<T> {
        let counters = self.counters();
        match code {
            CODE_WRONG_CREDENTIALS => count(&counters.refused_foreign),
            CODE_ALLOC_QUOTA_REACHED => count(&counters.refused_user_quota),
            CODE_UNKNOWN_ATTRIBUTE
            | CODE_ADDR_FAMILY_NOT_SUPPORTED
            | CODE_UNSUPPORTED_TRANS_PROTO => count(&counters.refused_unsupported),
            // Counted where it is known of what there was too much, or who was denied.
            CODE_INSUFFICIENT_CAPACITY | CODE_FORBIDDEN => {}
            _ => count(&counters.refused_bad_request),
        }
        let mut attributes: Vec<Box<dyn Setter>> = vec![Box::new(code)];
        attributes.extend(more);
        attributes.push(Box::new(authenticated.integrity.clone()));
        self.send(&build_msg(m, CLASS_ERROR_RESPONSE, &attributes)?)?;
        Err(Error::Refused(code.0))
    }

    /// Answers somebody who has not proved anything: as short as it can be, and not too often.
    fn answer_stranger(
        &self,
        m: &Message,
        class: MessageClass,
        attributes: Vec<Box<dyn Setter>>,
    ) -> Result<()> {
        if !self.server.manager.shared.policy.may_answer(self.src_addr.ip()) {
            count(&self.counters().unanswered);
            return Err(Error::ErrQuota);
        }
        self.send(&build_msg(m, class, &attributes)?)
    }

    fn send(&self, msg: &Message) -> Result<()> {
        Ok(self.transport.send_to(&msg.raw, self.src_addr)?)
    }
}

/// Attributes that must be understood and are not.
fn unknown_attributes(m: &Message, also_known: &[AttrType]) -> Vec<AttrType> {
    let mut unknown = Vec::new();
    for attribute in &m.attributes.0 {
        let typ = attribute.typ;
        let known = KNOWN.contains(&typ) || also_known.contains(&typ);
        if typ.required() && !known && !unknown.contains(&typ) && unknown.len() < 8 {
            unknown.push(typ);
        }
    }
    unknown
}

/// An answer to a message.
fn build_msg(m: &Message, class: MessageClass, attributes: &[Box<dyn Setter>]) -> Result<Message> {
    let mut msg = Message::new();
    msg.reset();
    msg.write_header();
    m.transaction_id.add_to(&mut msg)?;
    MessageType::new(m.typ.method, class).add_to(&mut msg)?;
    for attribute in attributes {
        attribute.add_to(&mut msg)?;
    }
    Ok(msg)
}

/// Whether addresses are of one family.
fn is_family(requested: &RequestedAddressFamily, ipv4: bool) -> bool {
    *requested == if ipv4 { REQUESTED_FAMILY_IPV4 } else { REQUESTED_FAMILY_IPV6 }
}
