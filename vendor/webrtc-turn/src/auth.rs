//! Who may allocate.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use ring::hmac;

/// The key of a long-term credential.
pub type Key = [u8; 16];

/// What is known of a username.
pub struct Credentials {
    /// The keys that are accepted: more than one while a shared secret is being rotated.
    pub keys: Vec<Key>,
    /// Whom quotas are counted for. A new credential of the same person has another username, but the same
    /// user.
    pub user: String,
}

/// Why there are no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The username is none of ours.
    Unknown,
    /// It was, and its time is over.
    Expired,
}

/// Looks credentials up. It is called for each request and must not wait for anything.
pub trait AuthHandler: Send + Sync {
    /// The credentials of a username.
    ///
    /// # Errors
    /// It has none, or none any more: the client is answered 401.
    fn auth_handle(
        &self,
        username: &str,
        realm: &str,
        src_addr: SocketAddr,
    ) -> Result<Credentials, AuthError>;
}

/// The key of a long-term credential (RFC 8489, section 9.2.2).
pub fn generate_auth_key(username: &str, realm: &str, password: &str) -> Key {
    let mut h = Md5::new();
    h.update(format!("{username}:{realm}:{password}").as_bytes());
    h.finalize().into()
}

/// The password that goes with a username in the REST scheme (draft-uberti-behave-turn-rest-00).
pub fn long_term_credentials(username: &str, shared_secret: &str) -> String {
    let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, shared_secret.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&mac, username.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_one_that_coturn_makes() {
        let password = long_term_credentials("1893456000:alice", "s3cret");
        assert_eq!(password, "6zlfmlvWfWDvDds1Zc+zxTmSW8w=");
    }
}
