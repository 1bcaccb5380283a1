//! TURN REST credentials: a username that says when it ends, and a password that only who knows the secret can
//! make.

use crate::config::secrets::SecretText;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use webrtc_turn::auth::{
    AuthError, AuthHandler, Credentials, Key, generate_auth_key, long_term_credentials,
};

/// Longest user in a username.
const LONGEST: usize = 128;

/// Accepts what was made with one of these secrets.
pub(super) struct RestCredentials {
    secrets: Vec<SecretText>,
}

impl RestCredentials {
    pub(super) fn new(secrets: Vec<SecretText>) -> Self {
        Self { secrets }
    }

    fn look_up(&self, username: &str, realm: &str, now: u64) -> Result<Credentials, AuthError> {
        let (expiry, user) = username.split_once(':').ok_or(AuthError::Unknown)?;
        if user.is_empty() || user.len() > LONGEST || user.chars().any(char::is_control) {
            return Err(AuthError::Unknown);
        }
        // As it was made: no sign, no space, nothing that would be another text for the same number.
        if expiry.is_empty() || !expiry.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AuthError::Unknown);
        }
        let expiry: u64 = expiry.parse().map_err(|_| AuthError::Unknown)?;
        if expiry <= now {
            return Err(AuthError::Expired);
        }
        let key = |secret: &SecretText| -> Key {
            generate_auth_key(username, realm, &long_term_credentials(username, secret.reveal()))
        };
        Ok(Credentials { keys: self.secrets.iter().map(key).collect(), user: user.to_owned() })
    }
}

impl AuthHandler for RestCredentials {
    fn auth_handle(
        &self,
        username: &str,
        realm: &str,
        _: SocketAddr,
    ) -> Result<Credentials, AuthError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.look_up(username, realm, now.as_secs())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(secrets: &[&str]) -> RestCredentials {
        RestCredentials::new(secrets.iter().map(|text| (*text).to_owned().into()).collect())
    }

    #[test]
    fn both_secrets_are_good_while_they_are_rotated() {
        let found =
            with(&["new", "s3cret"]).look_up("1893456000:alice", "r", 1_893_455_999).unwrap();
        assert_eq!(found.user, "alice");
        let key = generate_auth_key("1893456000:alice", "r", "6zlfmlvWfWDvDds1Zc+zxTmSW8w=");
        assert_eq!(found.keys.len(), 2);
        assert_eq!(found.keys.last().unwrap(), &key);
    }

    #[test]
    fn it_ends_when_it_says() {
        let look_up = |now| with(&["s"]).look_up("1000:alice", "r", now).map(|_| ());
        assert_eq!(look_up(999), Ok(()));
        assert_eq!(look_up(1000), Err(AuthError::Expired));
    }

    #[test]
    fn what_nobody_made_is_unknown() {
        let long = format!("9999999999:{}", "a".repeat(129));
        for name in [
            "",
            "alice",
            "9999999999",
            "9999999999:",
            ":alice",
            "+9999999999:alice",
            " 9999999999:alice",
            "-1:alice",
            "99999999999999999999999:alice",
            "1e9:alice",
            "9999999999:a\nb",
            &long,
        ] {
            let found = with(&["s"]).look_up(name, "r", 0).map(|_| ());
            assert_eq!(found, Err(AuthError::Unknown), "{name:?}");
        }
    }
}
