//! TURN REST credentials (draft-uberti-behave-turn-rest-00): `expiry:user`, and an HMAC of it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use guesthouse_sdk::bindings::wasi::random0_2_12::random::get_random_bytes;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// Bytes of a user's name: enough that no two meet.
const USER: usize = 12;

/// What a client shows to a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `expiry:user`
    pub username: String,
    /// The password.
    pub credential: String,
}

/// A credential that is good until `expiry`, in seconds since 1970.
#[must_use]
pub fn credential(secret: &str, expiry: u64, user: &str) -> Credential {
    let username = format!("{expiry}:{user}");
    let credential = STANDARD.encode(mac::<Hmac<Sha1>>(secret, &[&username]));
    Credential { username, credential }
}

/// A name for a caller that is the same each time and tells nobody who it is.
#[must_use]
pub fn opaque_user(secret: &str, issuer: &str, subject: &str) -> String {
    let mac = mac::<Hmac<Sha256>>(secret, &["turn user", issuer, subject]);
    URL_SAFE_NO_PAD.encode(mac.get(..USER).unwrap_or(&mac))
}

/// A name for somebody whom nobody knows.
pub(crate) fn anonymous_user() -> String {
    URL_SAFE_NO_PAD.encode(get_random_bytes(USER as u64))
}

fn mac<M: Mac + hmac::digest::KeyInit>(secret: &str, parts: &[&str]) -> Vec<u8> {
    // Of these, a key of any length is one.
    let Ok(mut mac) = <M as Mac>::new_from_slice(secret.as_bytes()) else { return Vec::new() };
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            mac.update(&[0]);
        }
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_the_one_that_coturn_accepts() {
        let made = credential("s3cret", 1_893_456_000, "alice");
        assert_eq!(made.username, "1893456000:alice");
        assert_eq!(made.credential, "6zlfmlvWfWDvDds1Zc+zxTmSW8w=");
    }

    #[test]
    fn a_user_keeps_a_name_that_says_nothing() {
        let user = opaque_user("s3cret", "https://issuer", "alice@example.com");
        assert_eq!(user, opaque_user("s3cret", "https://issuer", "alice@example.com"));
        assert!(!user.contains("alice") && !user.contains(':'));
        assert_ne!(user, opaque_user("s3cret", "https://other", "alice@example.com"));
        assert_ne!(user, opaque_user("another", "https://issuer", "alice@example.com"));
        // Where one ends and the other begins can't be shifted.
        assert_ne!(opaque_user("s", "ab", "c"), opaque_user("s", "a", "bc"));
    }
}
