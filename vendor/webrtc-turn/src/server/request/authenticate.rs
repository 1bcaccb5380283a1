//! Long-term credentials (RFC 8489, section 9.2).

use super::*;
use crate::auth::AuthError;
use crate::stun::integrity::*;
use crate::stun::textattrs::*;

/// Longest username, realm and nonce that are looked at.
const LONGEST: usize = 512;

/// Who sent a request.
pub(crate) struct Authenticated {
    pub(crate) user: String,
    /// With the key that the client used: answers are signed with the same.
    pub(crate) integrity: MessageIntegrity,
}

impl Request<'_> {
    /// Who sent a request. Whoever can't prove it is answered, and the handling ends.
    pub(crate) fn authenticate_request(&self, m: &Message) -> Result<Authenticated> {
        let counters = self.counters();
        if !m.contains(ATTR_MESSAGE_INTEGRITY) {
            count(&counters.challenged);
            return self.respond_with_nonce(m, CODE_UNAUTHORIZED);
        }
        let text = |attribute| {
            let text = TextAttribute::get_from_as(m, attribute).ok()?.text;
            (text.len() <= LONGEST).then_some(text)
        };
        let (Some(username), Some(realm), Some(nonce)) =
            (text(ATTR_USERNAME), text(ATTR_REALM), text(ATTR_NONCE))
        else {
            count(&counters.refused_bad_request);
            let code = ErrorCodeAttribute { code: CODE_BAD_REQUEST, reason: vec![] };
            self.answer_stranger(m, CLASS_ERROR_RESPONSE, vec![Box::new(code)])?;
            return Err(Error::Refused(CODE_BAD_REQUEST.0));
        };
        if !self.server.nonces.is_good(&nonce, self.src_addr) {
            count(&counters.stale_nonces);
            return self.respond_with_nonce(m, CODE_STALE_NONCE);
        }
        let credentials = if realm == self.server.realm {
            self.server.auth_handler.auth_handle(&username, &realm, self.src_addr)
        } else {
            Err(AuthError::Unknown)
        };
        let credentials = match credentials {
            Ok(credentials) => credentials,
            Err(error) => {
                count(match error {
                    AuthError::Unknown => &counters.bad_credentials,
                    AuthError::Expired => &counters.expired_credentials,
                });
                return self.respond_with_nonce(m, CODE_UNAUTHORIZED);
            }
        };
        let mut copy = m.clone();
        for key in credentials.keys {
            let integrity = MessageIntegrity(key.to_vec());
            if integrity.check(&mut copy).is_ok() {
                let authenticated = Authenticated { user: credentials.user, integrity };
                return self.understood(m, authenticated);
            }
        }
        count(&counters.bad_credentials);
        self.respond_with_nonce(m, CODE_UNAUTHORIZED)
    }

    /// Refuses what must be understood and is not (RFC 8489, section 6.3.1).
    fn understood(&self, m: &Message, authenticated: Authenticated) -> Result<Authenticated> {
        let unknown = unknown_attributes(m, &[]);
        if unknown.is_empty() {
            return Ok(authenticated);
        }
        let unknown = Box::new(UnknownAttributes(unknown));
        self.refuse_with(m, &authenticated, CODE_UNKNOWN_ATTRIBUTE, vec![unknown])
    }

    fn respond_with_nonce<T>(&self, m: &Message, code: ErrorCode) -> Result<T> {
        let nonce = self.server.nonces.make(self.src_addr);
        self.answer_stranger(
            m,
            CLASS_ERROR_RESPONSE,
            vec![
                Box::new(ErrorCodeAttribute { code, reason: vec![] }),
                Box::new(Nonce::new(ATTR_NONCE, nonce)),
                Box::new(Realm::new(ATTR_REALM, self.server.realm.clone())),
            ],
        )?;
        Err(Error::Refused(code.0))
    }
}
